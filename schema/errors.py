"""Errors for callers: user errors in payloads; others at the top level with code, retryable and requestId."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import strawberry
import structlog
from graphql import GraphQLError, GraphQLFormattedError

from gateway.errors import BadRequestError, ErrorCode, GatewayError, UserProblem
from resolvers.context import Context, Payload
from resolvers.inputs import check_input
from resolvers.nodes import visible

strawberry.enum(ErrorCode, description="What the caller of a mutation can fix.")
Input = TypeVar("Input")  # the type of the input
_log = structlog.get_logger("gateway.errors")


@strawberry.type(description="A problem that the caller can fix. Nothing was written.")
class UserError:
    code: ErrorCode
    message: str
    path: list[str] = strawberry.field(description="The path from the mutation's input to the wrong field.")


async def payload(
    resolve: Callable[[Context, Input], Awaitable[Payload]],
    info: strawberry.Info,
    input_: Input,
    *,
    check: bool = True,
    **otherwise: object,
) -> Any:
    """The payload of a mutation, with problems that the caller can fix as userErrors beside the values of `otherwise`.

    `check`: check all values first; false if the resolver checks each item.
    """
    try:
        if check:
            check_input(input_)
        return {**await visible(await resolve(info.context, input_), info.context), "user_errors": []}
    except UserProblem as problem:
        return {**otherwise, "user_errors": [user_error(problem.below("input"))]}


def user_error(problem: UserProblem) -> Payload:
    return {
        "code": problem.code.value,
        "message": _sayable(problem.message),
        "path": [_sayable(part) for part in problem.path],
    }


def formatted(error: GraphQLError, request_id: str) -> GraphQLFormattedError:
    """A top-level error for callers. Unexpected errors are masked."""
    body: GraphQLFormattedError = {"message": _sayable(error.message)}
    cause = _cause(error)
    if error.locations:
        body["locations"] = [{"line": location.line, "column": location.column} for location in error.locations]
    if error.path:
        body["path"] = error.path
    kind = _kind(cause)
    if cause is not None and not isinstance(cause, GatewayError):
        body["message"] = f"The gateway failed unexpectedly. Report the request id {request_id} to its operator."
    body["extensions"] = {"code": kind.code, "retryable": kind.retryable, "requestId": request_id}
    return body


def code_and_status(error: GraphQLError) -> tuple[str, int]:
    """The code of a top-level error, and the HTTP status if nothing else was executed."""
    kind = _kind(_cause(error))
    return kind.code, kind.status


def log_unexpected(errors: list[GraphQLError], request_id: str) -> None:
    """Log unexpected errors. Errors of callers are not logged."""
    for error in errors:
        cause = _cause(error)
        if cause is not None and not isinstance(cause, GatewayError):
            _log.error("unexpected error", request_id=request_id, path=error.path, exc_info=cause)
        elif isinstance(cause, GatewayError) and cause.status >= 500:
            _log.warning("request failed", request_id=request_id, code=cause.code, reason=str(cause.__cause__ or cause))


def _kind(cause: Exception | None) -> type[GatewayError]:
    if isinstance(cause, GatewayError):
        return type(cause)
    return BadRequestError if cause is None else GatewayError


def _cause(error: GraphQLError) -> Exception | None:
    """The exception behind an error. None if the request itself is wrong (syntax, fields, types of values)."""
    cause: Exception | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    if error.path is None:
        return None if isinstance(cause, ValueError) else cause  # graphql-core raises it for an integer of 5000 digits
    if cause is None and not error.message.startswith("Argument "):
        return error  # graphql-core reports a resolver's value of the wrong type like a wrong argument
    return cause


def _sayable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
