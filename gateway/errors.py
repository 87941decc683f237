"""The errors that callers see. A class's docstring is its default message."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import ClassVar


class ErrorCode(StrEnum):
    """The codes of `UserError`: problems that the caller can fix."""

    NOT_FOUND = "NOT_FOUND"
    INVALID = "INVALID"
    CONFLICT = "CONFLICT"
    FORBIDDEN = "FORBIDDEN"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    ILLEGAL_TRANSITION = "ILLEGAL_TRANSITION"


class GatewayError(Exception):
    """The gateway met an unexpected problem."""

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())

    @property
    def message(self) -> str:
        """The message for the caller."""
        return str(self)


class UnauthenticatedError(GatewayError):
    """No valid key or token was sent: send one as 'Authorization: Bearer <key>' ('gateway keys create' makes a key)."""

    code = "UNAUTHENTICATED"
    status = 401


class ForbiddenError(GatewayError):
    """This key may not do that."""

    code = "FORBIDDEN"
    status = 403


class BadRequestError(GatewayError):
    """The request cannot be understood."""

    code = "BAD_REQUEST"
    status = 400


class PersistedQueryNotFoundError(GatewayError):
    """PersistedQueryNotFound"""

    code = "PERSISTED_QUERY_NOT_FOUND"
    status = 200  # required by Apollo's protocol; its clients check the message or code


class PersistedQueryNotSupportedError(GatewayError):
    """PersistedQueryNotSupported"""

    code = "PERSISTED_QUERY_NOT_SUPPORTED"
    status = 200


class CursorExpiredError(GatewayError):
    """The history no longer reaches back to this cursor: load the list anew, and subscribe after a new streamCursor."""

    code = "CURSOR_EXPIRED"
    status = 410


class SlowReaderError(GatewayError):
    """This subscriber does not keep up: connect again, and subscribe after the last cursor that arrived."""

    code = "LIMIT_EXCEEDED"
    status = 429
    retryable = True


class RateLimitedError(GatewayError):
    """More was asked in this window of time than may be."""

    code = "RATE_LIMITED"
    status = 429
    retryable = True

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # whole seconds, at least 1


class MethodNotAllowedError(BadRequestError):
    """This HTTP method is not taken here."""

    status = 405


class UnsupportedMediaTypeError(BadRequestError):
    """This content type is not taken here."""

    status = 415


class LimitExceededError(GatewayError):
    """The request asks for more than one request may."""

    code = "LIMIT_EXCEEDED"
    status = 413


class NotConfiguredError(GatewayError):
    """This gateway is not set up for that: its operator must set what the message names."""


class UnavailableError(GatewayError):
    """The database cannot be reached right now; nothing was acknowledged. Try again in a few seconds."""

    code = "UNAVAILABLE"
    status = 503
    retryable = True


class UserProblem(Exception):  # noqa: N818 - a result for the caller, not a failure of the gateway
    """A mutation, or one item of it, is refused; nothing was written for it.

    `path` leads from the mutation's `input` to the field, in API names."""

    def __init__(self, code: ErrorCode, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.path = path

    def below(self, *prefix: str) -> "UserProblem":
        """Return the same problem with `prefix` before its path."""
        return UserProblem(self.code, self.message, (*prefix, *self.path))


@contextmanager
def error_path(*prefix: str) -> Iterator[None]:
    """Prefix the path of each UserProblem raised inside."""
    try:
        yield
    except UserProblem as problem:
        raise problem.below(*prefix) from None


class StartupError(Exception):
    """Why a command cannot start, in a sentence that says what to do."""
