"""Every error a caller can meet, as one small tree; a class's docstring is its default message."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import ClassVar


class ErrorCode(StrEnum):
    """What a mutation's caller can fix, as `UserError.code`."""

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
        """What the caller reads."""
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
    status = 200  # as Apollo's protocol wants it; its clients go by the message or the code


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
        self.retry_after = retry_after  # in whole seconds, at least one


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


class UserProblem(Exception):  # noqa: N818 - an answer to the caller, not a failure of the gateway
    """What one mutation, or one item of it, asks for and cannot have; nothing was written for it.

    `path` leads from the mutation's `input` to the field, in the names of the API.
    """

    def __init__(self, code: ErrorCode, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.path = path

    def below(self, *prefix: str) -> "UserProblem":
        """The same problem, told from further out."""
        return UserProblem(self.code, self.message, (*prefix, *self.path))


@contextmanager
def error_path(*prefix: str) -> Iterator[None]:
    """A UserProblem of what is done within is told from further out."""
    try:
        yield
    except UserProblem as problem:
        raise problem.below(*prefix) from None


class StartupError(Exception):
    """Why a command cannot start, in a sentence that says what to do."""
