"""Filter operators: compare one text, number, time or attribute with the operators of a filter."""

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
    "in": lambda text, texts: text in texts,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "contains": lambda text, part: part in text,
}
TEXT_OPERATORS = frozenset({*_TEXT, "ne", "known"})
NUMBER_OPERATORS = frozenset({*_ORDER, "ne"})


def case_folded(operators: Operators) -> dict[str, Any]:
    """A StringFilter with its texts in lower case and lists as sets, ready for many comparisons."""
    if unknown := operators.keys() - TEXT_OPERATORS:
        raise ValueError(f"no comparison of texts is named {sorted(unknown)}")  # ignored, it would match everybody

    def lower(value: Any) -> Any:
        if isinstance(value, str):
            return value.lower()
        return frozenset(text.lower() for text in value) if isinstance(value, list) else value

    return {name: lower(value) for name, value in operators.items()}


def texts_match(operators: Operators, texts: Collection[str]) -> bool:
    """Whether one text satisfies every operator of a case-folded StringFilter; for `ne`, no text may be equal."""
    folded = [text.lower() for text in texts]
    if operators.get("known", bool(folded)) != bool(folded) or operators.get("ne") in folded:
        return False
    tests = [(compare, operators[name]) for name, compare in _TEXT.items() if name in operators]
    return not tests or any(all(compare(text, operand) for compare, operand in tests) for text in folded)


def equal_texts(operators: Operators) -> list[str] | None:
    """The texts that a case-folded StringFilter allows; None if it does not list them (`eq` or `in`)."""
    return [operators["eq"]] if "eq" in operators else sorted(operators["in"]) if "in" in operators else None


def number_matches(operators: Operators, number: float | None) -> bool:
    """Whether a number satisfies an IntFilter or FloatFilter; a missing number satisfies only `ne`."""
    if "ne" in operators and number is not None and number == operators["ne"]:
        return False
    return all(
        number is not None and compare(number, operators[name]) for name, compare in _ORDER.items() if name in operators
    )


def time_matches(operators: Operators, at: datetime | None, now: datetime) -> bool:
    """Whether a time satisfies a TimeFilter; a missing time satisfies only `known: false`."""
    if at is None:
        return set(operators) <= {"known"} and operators.get("known") is not True
    within = (_is_within(name, value, at, now) for name, value in operators.items() if name != "known")
    return operators.get("known") is not False and all(within)


def time_bounds(operators: Operators, now: datetime) -> TimeRange:
    """The range of event or creation times that can satisfy a TimeFilter now."""
    return time_range(operators, now)


def bounds_ahead(operators: Operators, now: datetime) -> TimeRange:
    """The range of event times that can satisfy a TimeFilter now or at any later time."""
    times = time_range({name: value for name, value in operators.items() if name not in _RELATIVE}, now)
    for name, value in operators.items():
        if name.startswith("less_than"):
            times = times.intersect(time_range({name: value}, now))
        elif name == "exactly_days_ago":
            times = times.intersect(TimeRange(start=time_range({name: value}, now).start))
    return times


def transition_times(operators: Operators, at: datetime | None) -> Iterator[datetime]:
    """The times, in the past and future, at or right before which the result of a TimeFilter for `at` changes."""
    if at is None:
        return
    for name, value in operators.items():
        unit = _RELATIVE.get(name)
        with suppress(OverflowError):
            if unit is not None:
                yield at + value * unit + _MILLISECOND
            elif name == "exactly_days_ago":
                day = at.replace(hour=0, minute=0, second=0, microsecond=0)
                yield day + timedelta(days=value)
                yield day + timedelta(days=value + 1)


def is_time_dependent(operators: Operators) -> bool:
    return any(name in _RELATIVE or name == "exactly_days_ago" for name in operators)


@dataclass(frozen=True, slots=True)
class AttributeTest:
    """An AttributeFilter: the value of `key` has the type of each operator and satisfies it; without operators, the key exists."""

    key: str
    operators: Operators

    @property
    def is_time_dependent(self) -> bool:
        return is_time_dependent(self.operators.get("time", {}))

    def transition_times(self, values: Mapping[str, Any], entries: Sequence[Entry] | None) -> Iterator[datetime]:
        if self.is_time_dependent:
            entry = _entry(self.key, values.get(self.key), entries)
            yield from transition_times(self.operators["time"], entry.get("date"))

    def matches(self, values: Mapping[str, Any], entries: Sequence[Entry] | None, now: datetime) -> bool:
        """Whether the value matches. `values` are JSON values by key; `entries` are their stored types, if any."""
        value = values.get(self.key)
        if not self.operators:
            return self.key in values
        entry = _entry(self.key, value, entries)
        return all(_ATTRIBUTE[name](operand, value, entry, now) for name, operand in self.operators.items())


def _is_within(name: str, value: Any, at: datetime, now: datetime) -> bool:
    if name == "after":
        return bool(at >= min(value, LATEST) + _MILLISECOND)
    range_ = time_range({name: value}, now)  # an open range starts in 1970 and ends in 9999
    return (range_.start == EARLIEST or at >= range_.start) and (range_.end == LATEST or at < range_.end)


def _entry(key: str, value: Any, entries: Sequence[Entry] | None) -> Entry:
    unknown: Entry = {"type": "", "key": key}
    if entries is not None:
        return next((entry for entry in entries if entry["key"] == key), unknown)
    try:
        return typed_metadata({key: value})[0]
    except UserProblem:
        # Custom attributes allow what metadata does not: money without a currency, a date in the year 10000.
        return unknown


def _money_matches(operators: Operators, _value: Any, entry: Entry, _now: datetime) -> bool:
    if entry["type"] != "MoneyMetadata":
        return False
    if "currency" in operators and entry["currency"] != operators["currency"].upper():
        return False
    return number_matches(operators.get("amount_minor", {}), entry["amount_minor"])


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


_ATTRIBUTE: dict[str, Callable[[Any, Any, Entry, datetime], bool]] = {
    "string": lambda operators, value, _entry, _now: texts_match(operators, [value] if isinstance(value, str) else []),
    "number": lambda operators, value, _entry, _now: number_matches(operators, _number(value)),
    "boolean": lambda operand, value, _entry, _now: value is operand,
    "time": lambda operators, _value, entry, now: time_matches(operators, entry.get("date"), now),
    "money": _money_matches,
    "link": lambda operators, _value, entry, _now: texts_match(
        operators, [entry["url"]] if entry["type"] == "LinkMetadata" else []
    ),
}
