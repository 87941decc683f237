"""Narrowing: which contacts alone can satisfy a condition, told by what an index finds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from gateway.domain.filters.operators import equal_texts, time_bounds
from gateway.domain.filters.conditions import (
    TEXT_FIELDS,
    AllOf,
    AnyOf,
    Condition,
    EventCondition,
    RoleCondition,
    SegmentCondition,
    TextCondition,
    TimeCondition,
)
from gateway.core.time_ranges import TimeRange

MAX_STREAMS = 20
_LONGEST_TERM = 255


class Width(IntEnum):
    """How many contacts an index is likely to find, the fewest first."""

    PERSON = 1
    CITY = 2
    TAG = 3
    SEGMENT = 4
    EVENT = 5
    COUNTRY = 6
    ROLE = 7


_WIDTHS = {"tag": Width.TAG, "city": Width.CITY, "country": Width.COUNTRY, "role": Width.ROLE}


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Contacts that have one of these terms, or a summary of one of these names, or are in one of these segments."""

    width: Width
    terms: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    segments: frozenset[str] = frozenset()

    @property
    def streams(self) -> int:
        """How many places of an index are read."""
        return len(self.terms) + len(self.events) + len(self.segments)


def terms_of(contact: Mapping[str, Any]) -> list[str]:
    """The texts by which a contact is found: one a field (a tag) and value, in lower case."""
    found = {term("role", contact["role"])}
    for name, read in TEXT_FIELDS.items():
        value = read(contact)
        texts = value if isinstance(value, list) else [] if value is None else [value]
        found |= {term(name, text) for text in texts}
    return sorted(found)


def term(name: str, text: str) -> str:
    """The term of that field and value."""
    return f"{name}:{text.lower()}"[:_LONGEST_TERM]


def narrowing(condition: Condition) -> Narrowing | None:
    """The narrowest one of a condition; None where no index tells who cannot satisfy it."""
    found = _narrowing(condition)
    return found if found is None or found.streams <= MAX_STREAMS else None


def often_done(condition: Condition) -> tuple[str, int] | None:
    """The event that everybody of whom a condition holds did at least so often, twice or more; None where there is none."""
    if isinstance(condition, EventCondition):
        return (condition.name, condition.least) if condition.least > 1 else None
    parts = condition.parts if isinstance(condition, AllOf) else ()
    found = [one for part in parts if (one := often_done(part)) is not None]
    return max(found, key=lambda one: one[1], default=None)


def created_within(condition: Condition, now: datetime) -> TimeRange:
    """The range in which every contact was created of whom a condition holds."""
    if isinstance(condition, TimeCondition) and condition.name == "created_at":
        return time_bounds(condition.asked, now)
    found = TimeRange()
    for part in condition.parts if isinstance(condition, AllOf) else ():
        found = found.within(created_within(part, now))
    return found


def _narrowing(condition: Condition) -> Narrowing | None:
    match condition:
        case AllOf():
            return _narrowest(condition.parts)
        case AnyOf():
            return _union(condition.parts)
    return _of_leaf(condition)


def _of_leaf(condition: Condition) -> Narrowing | None:
    match condition:
        case EventCondition() if condition.needs_an_event:
            return Narrowing(Width.EVENT, events=frozenset({condition.name}))
        case SegmentCondition():
            return Narrowing(Width.SEGMENT, segments=frozenset({condition.segment_id}))
        case RoleCondition():
            return Narrowing(Width.ROLE, terms=frozenset(term("role", role) for role in condition.roles))
        case TextCondition() if (texts := equal_texts(condition.asked)) is not None:
            width = _WIDTHS.get(condition.name, Width.PERSON)
            return Narrowing(width, terms=frozenset(term(condition.name, text) for text in texts))
    return None


def _narrowest(parts: Sequence[Condition]) -> Narrowing | None:
    found = [one for part in parts if (one := narrowing(part)) is not None]
    return min(found, key=lambda one: (one.width, one.streams), default=None)


def _union(parts: Sequence[Condition]) -> Narrowing | None:
    found = [_narrowing(part) for part in parts]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return None
    return Narrowing(
        max((one.width for one in known), default=Width.PERSON),
        frozenset().union(*(one.terms for one in known)),
        frozenset().union(*(one.events for one in known)),
        frozenset().union(*(one.segments for one in known)),
    )
