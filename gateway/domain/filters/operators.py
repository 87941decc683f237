"""Comparisons: what filters ask of one text, number, time or attribute, and whether a value is so."""

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.core.time_ranges import EARLIEST, LATEST, TimeRange, time_range
from gateway.core.typed_values import Entry, typed_metadata
from gateway.errors import UserProblem

Operators = Mapping[str, Any]
_MILLISECOND = timedelta(milliseconds=1)
_RELATIVE = {
    "more_than_days_ago": timedelta(days=1),
    "less_than_days_ago": timedelta(days=1),
    "more_than_minutes_ago": timedelta(minutes=1),
    "less_than_minutes_ago": timedelta(minutes=1),
}
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_TEXT: dict[str, Callable[[str, Any], bool]] = {
    "eq": operator.eq,
    "in": lambda text, asked: text in asked,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "contains": lambda text, asked: asked in text,
}


def case_folded(asked: Operators) -> dict[str, Any]:
    """A StringFilter with its texts in lower case, once for all that are compared with it."""

    def lower(value: Any) -> Any:
        if isinstance(value, str):
            return value.lower()
        return frozenset(one.lower() for one in value) if isinstance(value, list) else value

    return {name: lower(value) for name, value in asked.items()}


def texts_match(asked: Operators, texts: Collection[str]) -> bool:
    """Whether one of the texts is as a lowered StringFilter asks, whatever its case; `ne`: none of them is that text."""
    small = [text.lower() for text in texts]
    if asked.get("known", bool(small)) != bool(small) or asked.get("ne") in small:
        return False
    wanted = [(holds, asked[name]) for name, holds in _TEXT.items() if name in asked]
    return not wanted or any(all(holds(text, value) for holds, value in wanted) for text in small)


def equal_texts(asked: Operators) -> list[str] | None:
    """The texts of which a value must have one; None where a lowered StringFilter does not name them."""
    return [asked["eq"]] if "eq" in asked else sorted(asked["in"]) if "in" in asked else None


def number_matches(asked: Operators, number: float | None) -> bool:
    """Whether a number is as an IntFilter or FloatFilter asks; none is unlike every number, and satisfies `ne` alone."""
    if "ne" in asked and number is not None and number == asked["ne"]:
        return False
    return all(number is not None and holds(number, asked[name]) for name, holds in _ORDER.items() if name in asked)


def time_matches(asked: Operators, at: datetime | None, now: datetime) -> bool:
    """Whether a time is as a TimeFilter asks; one that is not known satisfies `known: false` alone."""
    if at is None:
        return set(asked) <= {"known"} and asked.get("known") is not True
    others = (_is_within(name, value, at, now) for name, value in asked.items() if name != "known")
    return asked.get("known") is not False and all(others)


def time_bounds(asked: Operators, now: datetime) -> TimeRange:
    """The range that holds every time of an event, or of a contact's creation, that a TimeFilter lets through."""
    return time_range(asked, now)


def bounds_ahead(asked: Operators, now: datetime) -> TimeRange:
    """The range that holds every time of an event that a TimeFilter lets through now or at any later moment."""
    found = time_range({name: value for name, value in asked.items() if name not in _RELATIVE}, now)
    for name, value in asked.items():
        if name.startswith("less_than"):
            found = found.intersect(time_range({name: value}, now))
        elif name == "exactly_days_ago":
            found = found.intersect(TimeRange(start=time_range({name: value}, now).start))
    return found


def transition_times(asked: Operators, at: datetime | None) -> Iterator[datetime]:
    """The moments, past and future, at which a TimeFilter begins or ends to let a time through, or just after them."""
    if at is None:
        return
    for name, value in asked.items():
        unit = _RELATIVE.get(name)
        with suppress(OverflowError):
            if unit is not None:
                yield at + value * unit + _MILLISECOND
            elif name == "exactly_days_ago":
                day = at.replace(hour=0, minute=0, second=0, microsecond=0)
                yield day + timedelta(days=value)
                yield day + timedelta(days=value + 1)


def is_time_dependent(asked: Operators) -> bool:
    """Whether what a TimeFilter lets through changes with time."""
    return any(name in _RELATIVE or name == "exactly_days_ago" for name in asked)


@dataclass(frozen=True, slots=True)
class AttributeTest:
    """An AttributeFilter: the value of one key is of that type and so; without a type, the key is there."""

    key: str
    operators: Operators

    @property
    def is_time_dependent(self) -> bool:
        """Whether time alone may change whether it is so."""
        return is_time_dependent(self.operators.get("time", {}))

    def transition_times(self, values: Mapping[str, Any], entries: Sequence[Entry] | None) -> Iterator[datetime]:
        """The moments at which time alone may change whether it is so."""
        if self.is_time_dependent:
            entry = _entry(self.key, values.get(self.key), entries)
            yield from transition_times(self.operators["time"], entry.get("date"))

    def matches(self, values: Mapping[str, Any], entries: Sequence[Entry] | None, now: datetime) -> bool:
        """Whether it is so. `values`: as sent; `entries`: their types, if they were stored."""
        value = values.get(self.key)
        if not self.operators:
            return self.key in values
        entry = _entry(self.key, value, entries)
        return all(_ATTRIBUTE[name](asked, value, entry, now) for name, asked in self.operators.items())


def _is_within(name: str, value: Any, at: datetime, now: datetime) -> bool:
    if name == "after":
        return bool(at >= min(value, LATEST) + _MILLISECOND)
    range_ = time_range({name: value}, now)  # begins with 1970 where it is open, and ends with 9999
    return (range_.start == EARLIEST or at >= range_.start) and (range_.end == LATEST or at < range_.end)


def _entry(key: str, value: Any, entries: Sequence[Entry] | None) -> Entry:
    if entries is not None:
        return next((entry for entry in entries if entry["key"] == key), {"type": ""})
    try:
        return typed_metadata({key: value})[0]
    except (
        UserProblem
    ):  # custom attributes may be what metadata may not: money without a currency, a date in the year 10000
        return {"type": ""}


def _money_matches(asked: Operators, _value: Any, entry: Entry, _now: datetime) -> bool:
    if entry["type"] != "MoneyMetadata":
        return False
    if "currency" in asked and entry["currency"] != asked["currency"].upper():
        return False
    return number_matches(asked.get("amount_minor", {}), entry["amount_minor"])


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


_ATTRIBUTE: dict[str, Callable[[Any, Any, Entry, datetime], bool]] = {
    "string": lambda asked, value, _entry, _now: texts_match(asked, [value] if isinstance(value, str) else []),
    "number": lambda asked, value, _entry, _now: number_matches(asked, _number(value)),
    "boolean": lambda asked, value, _entry, _now: value is asked,
    "time": lambda asked, _value, entry, now: time_matches(asked, entry.get("date"), now),
    "money": _money_matches,
    "link": lambda asked, _value, entry, _now: texts_match(
        asked, [entry["url"]] if entry["type"] == "LinkMetadata" else []
    ),
}
