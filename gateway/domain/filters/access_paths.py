"""Narrowing: which contacts alone can satisfy a condition, told by what an index finds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from gateway.core.time_ranges import TimeRange
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
from gateway.domain.filters.operators import equal_texts, time_bounds

MAX_STREAMS = 20
_LONGEST_TERM = 255


class Selectivity(IntEnum):
    """How many contacts an index is likely to find, the fewest first."""

    PERSON = 1
    CITY = 2
    TAG = 3
    SEGMENT = 4
    EVENT = 5
    COUNTRY = 6
    ROLE = 7


_SELECTIVITIES = {
    "tag": Selectivity.TAG,
    "city": Selectivity.CITY,
    "country": Selectivity.COUNTRY,
    "role": Selectivity.ROLE,
}


@dataclass(frozen=True, slots=True)
class AccessPath:
    """Contacts that have one of these terms, or a summary of one of these names, or are in one of these segments."""

    selectivity: Selectivity
    terms: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    segments: frozenset[str] = frozenset()

    @property
    def streams(self) -> int:
        """How many places of an index are read."""
        return len(self.terms) + len(self.events) + len(self.segments)


def index_terms(contact: Mapping[str, Any]) -> list[str]:
    """The texts by which a contact is found: one a field (a tag) and value, in lower case."""
    found = {index_term("role", contact["role"])}
    for name, read in TEXT_FIELDS.items():
        value = read(contact)
        texts = value if isinstance(value, list) else [] if value is None else [value]
        found |= {index_term(name, text) for text in texts}
    return sorted(found)


def index_term(name: str, text: str) -> str:
    """The term of that field and value."""
    return f"{name}:{text.lower()}"[:_LONGEST_TERM]


def access_path(condition: Condition) -> AccessPath | None:
    """The narrowest one of a condition; None where no index tells who cannot satisfy it."""
    found = _access_path(condition)
    return found if found is None or found.streams <= MAX_STREAMS else None


def frequency_bound(condition: Condition) -> tuple[str, int] | None:
    """The event that everybody of whom a condition holds did at least so often, twice or more; None where there is none."""
    if isinstance(condition, EventCondition):
        return (condition.name, condition.least) if condition.least > 1 else None
    parts = condition.parts if isinstance(condition, AllOf) else ()
    found = [one for part in parts if (one := frequency_bound(part)) is not None]
    return max(found, key=lambda one: one[1], default=None)


def created_within(condition: Condition, now: datetime) -> TimeRange:
    """The range in which every contact was created of whom a condition holds."""
    if isinstance(condition, TimeCondition) and condition.name == "created_at":
        return time_bounds(condition.operators, now)
    found = TimeRange()
    for part in condition.parts if isinstance(condition, AllOf) else ():
        found = found.intersect(created_within(part, now))
    return found


def _access_path(condition: Condition) -> AccessPath | None:
    match condition:
        case AllOf():
            return _most_selective(condition.parts)
        case AnyOf():
            return _union(condition.parts)
    return _leaf_path(condition)


def _leaf_path(condition: Condition) -> AccessPath | None:
    match condition:
        case EventCondition() if condition.needs_an_event:
            return AccessPath(Selectivity.EVENT, events=frozenset({condition.name}))
        case SegmentCondition():
            return AccessPath(Selectivity.SEGMENT, segments=frozenset({condition.segment_id}))
        case RoleCondition():
            return AccessPath(Selectivity.ROLE, terms=frozenset(index_term("role", role) for role in condition.roles))
        case TextCondition() if (texts := equal_texts(condition.operators)) is not None:
            width = _SELECTIVITIES.get(condition.name, Selectivity.PERSON)
            return AccessPath(width, terms=frozenset(index_term(condition.name, text) for text in texts))
    return None


def _most_selective(parts: Sequence[Condition]) -> AccessPath | None:
    found = [one for part in parts if (one := access_path(part)) is not None]
    return min(found, key=lambda one: (one.selectivity, one.streams), default=None)


def _union(parts: Sequence[Condition]) -> AccessPath | None:
    found = [_access_path(part) for part in parts]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return None
    return AccessPath(
        max((one.selectivity for one in known), default=Selectivity.PERSON),
        frozenset().union(*(one.terms for one in known)),
        frozenset().union(*(one.events for one in known)),
        frozenset().union(*(one.segments for one in known)),
    )
