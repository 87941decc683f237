"""What callers send: from strawberry's input objects to plain values in snake_case, and pages of connections."""

import enum
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

import strawberry

from gateway.domain.pages import PageArguments
from resolvers.contexts import Document


def sent(value: Any, *, nulls: bool = False) -> Any:
    """The input as it was sent: what was omitted is left out, and what is null too unless `nulls` matter."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list):
        return [sent(item, nulls=nulls) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value, nulls)
    return value


def page_arguments(first: int | None, after: str | None, last: int | None, before: str | None) -> PageArguments:
    """A connection's four arguments, omitted ones as None."""
    return PageArguments(first=_given(first), after=_given(after), last=_given(last), before=_given(before))


def _given(value: Any) -> Any:
    return None if value is strawberry.UNSET else value


def _fields(value: Any, nulls: bool) -> Document:
    found = {field.name.rstrip("_"): getattr(value, field.name) for field in fields(value)}
    return {
        name: sent(inner, nulls=nulls)
        for name, inner in found.items()
        if inner is not strawberry.UNSET and (nulls or inner is not None)
    }


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
