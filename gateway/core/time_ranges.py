"""Time ranges of filters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_MILLISECOND = timedelta(milliseconds=1)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `start` (inclusive) to `end` (exclusive)."""

    start: datetime = EARLIEST
    end: datetime = LATEST

    def intersect(self, other: "TimeRange") -> "TimeRange":
        return TimeRange(max(self.start, other.start), min(self.end, other.end))

    @property
    def empty(self) -> bool:
        return self.start >= self.end


def time_range(filter_: Mapping[str, Any] | None, now: datetime) -> TimeRange:
    """The range of a TimeFilter on a time that every row has. Its conditions are ANDed."""
    range_ = TimeRange()
    for name, value in (filter_ or {}).items():
        if value is not None:
            range_ = range_.intersect(_CONDITIONS[name](value, now))
    return range_


def _ago(now: datetime, **units: int) -> datetime:
    try:
        return max(EARLIEST, min(now - timedelta(**units), LATEST))
    except OverflowError:
        return EARLIEST if next(iter(units.values())) > 0 else LATEST


def _after(at: datetime) -> TimeRange:
    return TimeRange() if at == EARLIEST else TimeRange(start=min(at, LATEST) + _MILLISECOND)


def _calendar_day(days: int, now: datetime) -> TimeRange:
    try:
        start = (now - timedelta(days=days)).replace(hour=0, minute=0, second=0, microsecond=0)
        return TimeRange(start, start + timedelta(days=1))
    except OverflowError:
        return TimeRange(end=EARLIEST)


_CONDITIONS: dict[str, Callable[[Any, datetime], TimeRange]] = {
    "after": lambda at, _: TimeRange(start=min(at, LATEST) + _MILLISECOND),
    "before": lambda at, _: TimeRange(end=at),
    "more_than_days_ago": lambda days, now: TimeRange(end=_ago(now, days=days)),
    "less_than_days_ago": lambda days, now: _after(_ago(now, days=days)),
    "exactly_days_ago": _calendar_day,
    "more_than_minutes_ago": lambda minutes, now: TimeRange(end=_ago(now, minutes=minutes)),
    "less_than_minutes_ago": lambda minutes, now: _after(_ago(now, minutes=minutes)),
    "known": lambda is_set, _: TimeRange() if is_set else TimeRange(end=EARLIEST),
}
