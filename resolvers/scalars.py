"""Custom scalars."""

import datetime as dt
from typing import NewType

import strawberry
from graphql import GraphQLError, ValueNode
from graphql.utilities import value_from_ast_untyped
from strawberry.types.scalar import ScalarDefinition

from gateway.core.json_values import Json, JsonObject
from gateway.core.typed_values import SAFE_INTEGER, parse_rfc3339
from gateway.execution.completion import PLAIN_JSON, PassThrough, unchanged
from gateway.store.driver import DRIVERS_UTC

SafeInt = NewType("SafeInt", int)
JSON = NewType("JSON", object)
JSONObject = NewType("JSONObject", JsonObject)


def _write_time(at: dt.datetime) -> dt.datetime:
    """The time in UTC, with the tzinfo that orjson writes as 'Z'."""
    return at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)


# Times of documents are in UTC, with the driver's tzinfo or without one.
_TIME = PassThrough(
    _write_time,
    "type({0}) is datetime and ({0}.tzinfo is None or {0}.tzinfo is DRIVERS_UTC)",
    {"datetime": dt.datetime, "DRIVERS_UTC": DRIVERS_UTC},
)


def _read_time(value: object) -> dt.datetime:
    moment = parse_rfc3339(value) if isinstance(value, str) else None
    if moment is None:
        raise GraphQLError(
            f'DateTime must be RFC 3339 with an offset, such as "2026-01-31T09:30:00Z", not {_shown(value)}.'
        )
    return moment


def _read_safe_int(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > SAFE_INTEGER:
        raise GraphQLError(f"SafeInt must be an integer from -(2^53 - 1) to 2^53 - 1, not {_shown(value)}.")
    return value


def _read_object(value: object) -> JsonObject:
    if not isinstance(value, dict):
        raise GraphQLError(f"JSONObject must be an object, not {_shown(value)}.")
    return value


def _read_literal(node: ValueNode, variables: dict[str, Json] | None = None) -> Json:
    try:
        value: Json = value_from_ast_untyped(node, variables)
        return value
    except ValueError:  # Python refuses to parse an integer with thousands of digits
        raise GraphQLError("A number in this JSON has too many digits: send it as text.") from None


def _read_object_literal(node: ValueNode, variables: dict[str, Json] | None = None) -> JsonObject:
    return _read_object(_read_literal(node, variables))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


SCALARS: dict[object, ScalarDefinition] = {
    SafeInt: strawberry.scalar(
        name="SafeInt",
        description="An integer from -(2^53 - 1) to 2^53 - 1.",
        serialize=PLAIN_JSON,
        parse_value=_read_safe_int,
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value.",
        serialize=PLAIN_JSON,
        parse_value=unchanged,
        parse_literal=_read_literal,
    ),
    JSONObject: strawberry.scalar(
        name="JSONObject",
        description="A JSON object.",
        serialize=PLAIN_JSON,
        parse_value=_read_object,
        parse_literal=_read_object_literal,
    ),
    dt.datetime: strawberry.scalar(
        name="DateTime",
        description="A time in RFC 3339 and UTC, stored in milliseconds. The fraction has zero or six digits: compare times, not texts.",
        serialize=_TIME,
        parse_value=_read_time,
    ),
}
