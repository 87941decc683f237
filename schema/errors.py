"""How what goes wrong is told: user errors in payloads, all else as top-level errors with code, retryable and requestId."""

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


@strawberry.type(description="What the caller can fix. Nothing was written for it.")
class UserError:
    """What the caller can fix."""

    code: ErrorCode
    message: str
    path: list[str] = strawberry.field(description="From the mutation's input to the field that is wrong.")


async def payload(
    resolve: Callable[[Context, Input], Awaitable[Payload]],
    info: strawberry.Info,
    input_: Input,
    *,
    check: bool = True,
    **otherwise: object,
) -> Any:
    """The mutation's payload as its caller may see it; what the caller can fix becomes its userErrors, beside the values
    of `otherwise`. `check`: whether all values are checked before anything else looks at them; false where the resolver
    checks each item."""
    try:
        if check:
            check_input(input_)
        return {**await visible(await resolve(info.context, input_), info.context), "user_errors": []}
    except UserProblem as problem:
        return {**otherwise, "user_errors": [user_error(problem.below("input"))]}


def user_error(problem: UserProblem) -> Payload:
    """A problem as a UserError."""
    return {
        "code": problem.code.value,
        "message": _sayable(problem.message),
        "path": [_sayable(part) for part in problem.path],
    }


def formatted(error: GraphQLError, request_id: str) -> GraphQLFormattedError:
    """A top-level error as callers see it; what was not foreseen is masked."""
    body: GraphQLFormattedError = {"message": _sayable(error.message)}
    cause = _cause(error)
    if error.locations:
        body["locations"] = [{"line": location.line, "column": location.column} for location in error.locations]
    if error.path:
        body["path"] = error.path
    kind = _kind(cause)
    if cause is not None and not isinstance(cause, GatewayError):
        body["message"] = f"Something went wrong in the gateway. Quote the request id {request_id} when you report it."
    body["extensions"] = {"code": kind.code, "retryable": kind.retryable, "requestId": request_id}
    return body


def code_and_status(error: GraphQLError) -> tuple[str, int]:
    """The code of a top-level error, and the HTTP status of what alone would have gone wrong that way."""
    kind = _kind(_cause(error))
    return kind.code, kind.status


def log_unexpected(errors: list[GraphQLError], request_id: str) -> None:
    """Log once what nobody foresaw; what callers do wrong is not worth a line."""
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
    """What raised it; None where the request itself is wrong (its syntax, its fields, the types of its values)."""
    cause: Exception | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    if error.path is None:
        return None if isinstance(cause, ValueError) else cause  # such as an integer of 5000 digits
    if cause is None and not error.message.startswith("Argument "):
        return (
            error  # a resolver's value is not of the field's type: graphql-core tells it as it tells a wrong argument
        )
    return cause


def _sayable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
