"""What callers send: from strawberry's input objects to plain values in snake_case, and pages of connections."""

import enum
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import strawberry
from strawberry.utils.str_converters import to_camel_case

from gateway.core.pagination import PageArguments
from gateway.core.sendable_values import check_value
from resolvers.costs import STREAM

C = TypeVar("C")
_PLAIN = frozenset({str, int, float, bool, dict, datetime})  # told as they are


def provided_fields(value: Any, *, nulls: bool = False) -> Any:
    """The input as it was sent: what was omitted is left out, and what is null too unless `nulls` matter."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list):
        items = [provided_fields(item, nulls=nulls) for item in value]
        # Of equal names one is enough: each row is compared with what is left.
        return list(dict.fromkeys(items)) if value and isinstance(value[0], enum.Enum) else items
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value, nulls)
    return value


def command(type_: type[C], input_: object, *, nulls: bool = False) -> C:
    """The command with the fields of an input; omitted ones have their defaults, and with `nulls` null is None."""
    return type_(**provided_fields(input_, nulls=nulls))


def check_input(value: object, path: tuple[str, ...] = ()) -> None:
    """Pass an input all of whose values can be stored; UserProblem names the first that cannot, by its path in the API."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            check_input(item, (*path, str(index)))
    elif is_dataclass(value) and not isinstance(value, type):
        for name, attribute in _api_names(value.__class__):
            check_input(getattr(value, attribute), (*path, name))
    elif path:
        check_value(value, path)


def page_arguments(first: int | None, after: str | None, last: int | None, before: str | None) -> PageArguments:
    """A connection's four arguments, omitted ones as None."""
    return PageArguments(first=_given(first), after=_given(after), last=_given(last), before=_given(before))


def _given(value: Any) -> Any:
    return None if value is strawberry.UNSET else value


def _fields(value: Any, nulls: bool) -> dict[str, Any]:
    fields = {}
    for name, attribute in _names(value.__class__):
        inner = getattr(value, attribute)
        if inner is not strawberry.UNSET and (nulls or inner is not None):
            fields[name] = inner if type(inner) in _PLAIN else provided_fields(inner, nulls=nulls)
    return fields


@cache
def _names(input_: type) -> list[tuple[str, str]]:
    """The fields of an input, as they are told and as they are kept."""
    return [(field.name.rstrip("_"), field.name) for field in fields(input_)]


@cache
def _api_names(input_: type) -> list[tuple[str, str]]:
    """The fields of an input, as the API names them and as they are kept."""
    return [(getattr(field, "graphql_name", None) or to_camel_case(field.name), field.name) for field in fields(input_)]


@strawberry.input(
    description="Conditions on a time, ANDed. Relative ones count from now; exactlyDaysAgo means that calendar day in UTC."
)
class TimeFilter:
    """Conditions on a time."""

    after: datetime | None = strawberry.UNSET
    before: datetime | None = strawberry.UNSET
    more_than_days_ago: int | None = strawberry.UNSET
    less_than_days_ago: int | None = strawberry.UNSET
    exactly_days_ago: int | None = strawberry.UNSET
    more_than_minutes_ago: int | None = strawberry.UNSET
    less_than_minutes_ago: int | None = strawberry.UNSET
    known: bool | None = strawberry.field(default=strawberry.UNSET, description="false: no time is known.")


@strawberry.input(description="Conditions on a text, ANDed, whatever its case. Nothing known is unlike every text.")
class StringFilter:
    """Conditions on a text."""

    eq: str | None = strawberry.UNSET
    ne: str | None = strawberry.UNSET
    in_: list[str] | None = strawberry.field(name="in", default=strawberry.UNSET, description="At most 100.")
    starts_with: str | None = strawberry.UNSET
    ends_with: str | None = strawberry.UNSET
    contains: str | None = strawberry.UNSET
    known: bool | None = strawberry.field(default=strawberry.UNSET, description="false: no text is known.")


@strawberry.input(description="Conditions on a whole number, ANDed.")
class IntFilter:
    """Conditions on a whole number."""

    eq: int | None = strawberry.UNSET
    ne: int | None = strawberry.UNSET
    gt: int | None = strawberry.UNSET
    gte: int | None = strawberry.UNSET
    lt: int | None = strawberry.UNSET
    lte: int | None = strawberry.UNSET


@strawberry.input(description="Conditions on a number, ANDed. Nothing known is unlike every number.")
class FloatFilter:
    """Conditions on a number."""

    eq: float | None = strawberry.UNSET
    ne: float | None = strawberry.UNSET
    gt: float | None = strawberry.UNSET
    gte: float | None = strawberry.UNSET
    lt: float | None = strawberry.UNSET
    lte: float | None = strawberry.UNSET


@strawberry.input(description="Conditions on money, ANDed.")
class MoneyFilter:
    """Conditions on money."""

    currency: str | None = strawberry.field(default=strawberry.UNSET, description="ISO 4217.")
    amount_minor: FloatFilter | None = strawberry.field(default=strawberry.UNSET, description="In minor units (cents).")


@strawberry.input(
    description="Conditions on the value of one key, ANDed; with none of them, the key is there. A value of another type does not match.",
    directives=[STREAM],
)
class AttributeFilter:
    """Conditions on one key."""

    key: str
    string: StringFilter | None = strawberry.field(
        default=strawberry.UNSET, description="What was sent as text: links, dates and Stripe's ids too."
    )
    number: FloatFilter | None = strawberry.UNSET
    boolean: bool | None = strawberry.UNSET
    time: TimeFilter | None = strawberry.UNSET
    money: MoneyFilter | None = strawberry.UNSET
    link: StringFilter | None = strawberry.field(default=strawberry.UNSET, description="The link's address.")
