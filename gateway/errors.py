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
    """The gateway failed unexpectedly. Report the request id to its operator."""

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
    """The request has no valid API key or token: send one as 'Authorization: Bearer <key>' ('gateway keys create' creates a key)."""

    code = "UNAUTHENTICATED"
    status = 401


class ForbiddenError(GatewayError):
    """This API key may not do this: use a key with the scope that the operation needs."""

    code = "FORBIDDEN"
    status = 403


class BadRequestError(GatewayError):
    """The request is invalid: correct what the message names."""

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
    """This cursor is older than the stored history: load the list again, and subscribe after a new streamCursor."""

    code = "CURSOR_EXPIRED"
    status = 410


class SlowReaderError(GatewayError):
    """This subscriber reads too slowly: connect again, and subscribe after the last cursor that you received."""

    code = "LIMIT_EXCEEDED"
    status = 429
    retryable = True


class RateLimitedError(GatewayError):
    """The rate limit of this time window is used up: wait, then try again."""

    code = "RATE_LIMITED"
    status = 429
    retryable = True

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # whole seconds, at least 1


class MethodNotAllowedError(BadRequestError):
    """This HTTP method is not supported here: use GET or POST."""

    status = 405


class UnsupportedMediaTypeError(BadRequestError):
    """This content type is not supported here: send JSON as 'Content-Type: application/json'."""

    status = 415


class LimitExceededError(GatewayError):
    """The request exceeds a limit: request less at once."""

    code = "LIMIT_EXCEEDED"
    status = 413


class NotConfiguredError(GatewayError):
    """This gateway is not configured for this: its operator must set what the message names."""


class UnavailableError(GatewayError):
    """The database is not available, and nothing was acknowledged: try again in a few seconds."""

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
