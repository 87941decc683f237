"""Inputs as plain values in snake_case, connection arguments, and filters of single values."""

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
_PLAIN = frozenset({str, int, float, bool, dict, datetime})  # passed through unchanged


def provided_fields(value: Any, *, nulls: bool = False) -> Any:
    """The fields that were sent, without omitted ones, and without nulls unless `nulls`."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list):
        items = [provided_fields(item, nulls=nulls) for item in value]
        # Duplicates cost time: each row is compared with each name.
        return list(dict.fromkeys(items)) if value and isinstance(value[0], enum.Enum) else items
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value, nulls)
    return value


def command(type_: type[C], input_: object, *, nulls: bool = False) -> C:
    """The command with the fields of an input; omitted ones have their defaults, and with `nulls` null is None."""
    return type_(**provided_fields(input_, nulls=nulls))


def check_input(value: object, path: tuple[str, ...] = ()) -> None:
    """Raises UserProblem for the first value that cannot be stored, with its path in the API."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            check_input(item, (*path, str(index)))
    elif is_dataclass(value) and not isinstance(value, type):
        for name, attribute in _api_names(value.__class__):
            check_input(getattr(value, attribute), (*path, name))
    elif path:
        check_value(value, path)


def page_arguments(first: int | None, after: str | None, last: int | None, before: str | None) -> PageArguments:
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
    """(key of the plain value, attribute of the input) of each field."""
    return [(field.name.rstrip("_"), field.name) for field in fields(input_)]


@cache
def _api_names(input_: type) -> list[tuple[str, str]]:
    """(name in the API, attribute of the input) of each field."""
    return [(getattr(field, "graphql_name", None) or to_camel_case(field.name), field.name) for field in fields(input_)]


@strawberry.input(
    description="Conditions on a time, combined with AND. Relative ones count from now. exactlyDaysAgo matches that whole calendar day in UTC."
)
class TimeFilter:
    after: datetime | None = strawberry.UNSET
    before: datetime | None = strawberry.UNSET
    more_than_days_ago: int | None = strawberry.UNSET
    less_than_days_ago: int | None = strawberry.UNSET
    exactly_days_ago: int | None = strawberry.UNSET
    more_than_minutes_ago: int | None = strawberry.UNSET
    less_than_minutes_ago: int | None = strawberry.UNSET
    known: bool | None = strawberry.field(default=strawberry.UNSET, description="false: the value is missing.")


@strawberry.input(description="Conditions on a text, combined with AND, ignoring case. A missing value matches `ne`.")
class StringFilter:
    eq: str | None = strawberry.UNSET
    ne: str | None = strawberry.UNSET
    in_: list[str] | None = strawberry.field(name="in", default=strawberry.UNSET, description="At most 100.")
    starts_with: str | None = strawberry.UNSET
    ends_with: str | None = strawberry.UNSET
    contains: str | None = strawberry.UNSET
    known: bool | None = strawberry.field(default=strawberry.UNSET, description="false: the value is missing.")


@strawberry.input(description="Conditions on an integer, combined with AND.")
class IntFilter:
    eq: int | None = strawberry.UNSET
    ne: int | None = strawberry.UNSET
    gt: int | None = strawberry.UNSET
    gte: int | None = strawberry.UNSET
    lt: int | None = strawberry.UNSET
    lte: int | None = strawberry.UNSET


@strawberry.input(description="Conditions on a number, combined with AND. A missing value matches `ne`.")
class FloatFilter:
    eq: float | None = strawberry.UNSET
    ne: float | None = strawberry.UNSET
    gt: float | None = strawberry.UNSET
    gte: float | None = strawberry.UNSET
    lt: float | None = strawberry.UNSET
    lte: float | None = strawberry.UNSET


@strawberry.input(description="Conditions on an amount of money, combined with AND.")
class MoneyFilter:
    currency: str | None = strawberry.field(default=strawberry.UNSET, description="An ISO 4217 code.")
    amount_minor: FloatFilter | None = strawberry.field(default=strawberry.UNSET, description="In minor units (cents).")


@strawberry.input(
    description="Conditions on the value of one key, combined with AND. Without a condition: the key exists. A value of another type does not match.",
    directives=[STREAM],
)
class AttributeFilter:
    key: str
    string: StringFilter | None = strawberry.field(
        default=strawberry.UNSET,
        description="Compares values that were sent as text, including links, dates and Stripe ids.",
    )
    number: FloatFilter | None = strawberry.UNSET
    boolean: bool | None = strawberry.UNSET
    time: TimeFilter | None = strawberry.UNSET
    money: MoneyFilter | None = strawberry.UNSET
    link: StringFilter | None = strawberry.field(default=strawberry.UNSET, description="Compares the URL of a link.")
