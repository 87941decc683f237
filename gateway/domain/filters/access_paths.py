"""Access paths: the index entries that can contain a condition's contacts, so that not every contact is scanned."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.documents import ContactDocument
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
    """How few contacts an index entry is likely to have, the fewest first."""

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
    """A union of index entries: contacts with one of the terms, a summary of one of the events, or in one of the segments."""

    selectivity: Selectivity
    terms: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    segments: frozenset[str] = frozenset()

    @property
    def streams(self) -> int:
        """How many index ranges are read."""
        return len(self.terms) + len(self.events) + len(self.segments)


def index_terms(contact: ContactDocument) -> list[str]:
    """The contact's index terms, sorted and without duplicates: one per text field value and tag."""
    terms = {index_term("role", contact["role"])}
    for name, read in TEXT_FIELDS.items():
        value = read(contact)
        texts = value if isinstance(value, list) else [] if value is None else [value]
        terms |= {index_term(name, text) for text in texts}
    return sorted(terms)


def index_term(name: str, text: str) -> str:
    """The index term `field:value` in lower case, cut to the longest that is indexed."""
    return f"{name}:{text.lower()}"[:_LONGEST_TERM]


def access_path(condition: Condition) -> AccessPath | None:
    """The most selective access path of a condition; None if no index helps, or it would read too many ranges."""
    path = _access_path(condition)
    return path if path is None or path.streams <= MAX_STREAMS else None


def frequency_bound(condition: Condition) -> tuple[str, int] | None:
    """An event name and the count (2 or more) that every matching contact reaches; None if the condition implies none."""
    if isinstance(condition, EventCondition):
        return (condition.name, condition.least) if condition.least > 1 else None
    parts = condition.parts if isinstance(condition, AllOf) else ()
    bounds = [bound for part in parts if (bound := frequency_bound(part)) is not None]
    return max(bounds, key=lambda bound: bound[1], default=None)


def created_within(condition: Condition, now: datetime) -> TimeRange:
    """The range that contains the creation times of all matching contacts."""
    if isinstance(condition, TimeCondition) and condition.name == "created_at":
        return time_bounds(condition.operators, now)
    times = TimeRange()
    for part in condition.parts if isinstance(condition, AllOf) else ():
        times = times.intersect(created_within(part, now))
    return times


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
            selectivity = _SELECTIVITIES.get(condition.name, Selectivity.PERSON)
            return AccessPath(selectivity, terms=frozenset(index_term(condition.name, text) for text in texts))
    return None


def _most_selective(parts: Sequence[Condition]) -> AccessPath | None:
    paths = [path for part in parts if (path := access_path(part)) is not None]
    return min(paths, key=lambda path: (path.selectivity, path.streams), default=None)


def _union(parts: Sequence[Condition]) -> AccessPath | None:
    paths = [path for part in parts if (path := _access_path(part)) is not None]
    if len(paths) < len(parts):
        return None  # a part without an index can match any contact
    return AccessPath(
        max((path.selectivity for path in paths), default=Selectivity.PERSON),
        frozenset().union(*(path.terms for path in paths)),
        frozenset().union(*(path.events for path in paths)),
        frozenset().union(*(path.segments for path in paths)),
    )
