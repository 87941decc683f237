"""Conditions on contacts: the tree that a ContactFilter means, and whether it holds of a contact, as far as is known."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.contacts import Document
from gateway.domain.filters.operators import (
    AttributeTest,
    Operators,
    bounds_ahead,
    case_folded,
    is_time_dependent,
    number_matches,
    texts_match,
    time_bounds,
    time_matches,
    transition_times,
)
from gateway.errors import BadRequestError

MAX_CONDITIONS = 50
MAX_DEPTH = 5
MAX_OBJECTS = 1000  # of a filter, empty ones and wrappers among them
MAX_TEXTS = 100
TEXT_FIELDS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "email": lambda row: row.get("email"),
    "external_id": lambda row: row.get("external_id"),
    "name": lambda row: row.get("name"),
    "phone": lambda row: row.get("phone"),
    "tag": lambda row: row.get("tags"),
    "country": lambda row: (row.get("location") or {}).get("country"),
    "city": lambda row: (row.get("location") or {}).get("city"),
}
TIME_FIELDS = frozenset({"created_at", "signed_up_at", "last_seen_at"})


@dataclass(frozen=True, slots=True)
class EventStats:
    """How often something was done, and when first and last; `until`: when another one may count, or one no longer."""

    count: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    until: datetime | None = None

    def plus(self, other: "EventStats") -> "EventStats":
        """The tally of the events of both."""
        times = [at for at in (self.first_at, self.last_at, other.first_at, other.last_at) if at is not None]
        ends = [at for at in (self.until, other.until) if at is not None]
        bounds = (min(times, default=None), max(times, default=None), min(ends, default=None))
        return EventStats(self.count + other.count, *bounds)


@dataclass(slots=True)
class ContactFacts:
    """What is known of a contact: its document, its summaries by name (None: not read yet), the tallies of conditions
    that count events themselves, and whether it is in a segment, by the segment's id, as far as those were read."""

    contact: Document
    now: datetime
    summaries: Mapping[str, Document] | None = None
    event_stats: dict["EventCondition", EventStats] = field(default_factory=dict)
    segments: dict[str, bool] = field(default_factory=dict)


class Condition:
    """What holds of a contact or does not; None: what is known does not tell."""

    def evaluate(self, facts: ContactFacts) -> bool | None:
        """Whether it holds."""
        raise NotImplementedError

    def leaves(self) -> Iterator["Condition"]:
        """Every condition within that has no parts."""
        yield self

    @property
    def size(self) -> int:
        """How many comparisons it takes to decide it, at most."""
        return sum(leaf.size for leaf in self.leaves() if leaf is not self) + 1

    def events(self) -> Iterator["EventCondition"]:
        """Every condition on events within."""
        return (leaf for leaf in self.leaves() if isinstance(leaf, EventCondition))

    def segments(self) -> frozenset[str]:
        """The segments whose members it must know."""
        return frozenset(leaf.segment_id for leaf in self.leaves() if isinstance(leaf, SegmentCondition))


@dataclass(frozen=True, slots=True, eq=False)
class AllOf(Condition):
    """Every part holds."""

    parts: Sequence[Condition]

    def evaluate(self, facts: ContactFacts) -> bool | None:
        """Whether every part holds."""
        return _all(part.evaluate(facts) for part in self.parts)

    def leaves(self) -> Iterator[Condition]:
        """Those of its parts."""
        for part in self.parts:
            yield from part.leaves()


@dataclass(frozen=True, slots=True, eq=False)
class AnyOf(Condition):
    """A part holds."""

    parts: Sequence[Condition]

    def evaluate(self, facts: ContactFacts) -> bool | None:
        """Whether a part holds."""
        return _not(_all(_not(part.evaluate(facts)) for part in self.parts))

    def leaves(self) -> Iterator[Condition]:
        """Those of its parts."""
        for part in self.parts:
            yield from part.leaves()


# What `{}` means, and what `not: {}` and `or: []` mean.
EVERYBODY = AllOf(())
NOBODY = AnyOf(())


@dataclass(frozen=True, slots=True, eq=False)
class Negation(Condition):
    """Its part does not hold."""

    part: Condition

    def evaluate(self, facts: ContactFacts) -> bool | None:
        """Whether its part does not."""
        return _not(self.part.evaluate(facts))

    def leaves(self) -> Iterator[Condition]:
        """Those of its part."""
        yield from self.part.leaves()


@dataclass(frozen=True, slots=True, eq=False)
class RoleCondition(Condition):
    """The contact has one of these roles."""

    roles: Sequence[str]

    def evaluate(self, facts: ContactFacts) -> bool:
        """Whether it has."""
        return facts.contact["role"] in self.roles


@dataclass(frozen=True, slots=True, eq=False)
class TextCondition(Condition):
    """A text of the contact is as a StringFilter asks; of its tags one."""

    name: str
    operators: Operators

    def evaluate(self, facts: ContactFacts) -> bool:
        """Whether it is."""
        found = TEXT_FIELDS[self.name](facts.contact)
        texts = found if isinstance(found, list) else [] if found is None else [found]
        return texts_match(self.operators, texts)


@dataclass(frozen=True, slots=True, eq=False)
class TimeCondition(Condition):
    """A time of the contact is as a TimeFilter asks."""

    name: str
    operators: Operators

    def evaluate(self, facts: ContactFacts) -> bool:
        """Whether it is."""
        return time_matches(self.operators, facts.contact.get(self.name), facts.now)

    @property
    def is_time_dependent(self) -> bool:
        """Whether time alone may change whether it is."""
        return is_time_dependent(self.operators)


@dataclass(frozen=True, slots=True, eq=False)
class AttributeCondition(Condition):
    """A custom attribute is as an AttributeFilter asks."""

    test: AttributeTest

    def evaluate(self, facts: ContactFacts) -> bool:
        """Whether it is."""
        return self.test.matches(facts.contact["custom_attributes"], None, facts.now)


@dataclass(frozen=True, slots=True, eq=False)
class EventCondition(Condition):
    """What a contact did, how often and when: by its summary, or by the events themselves where some are told apart."""

    name: str
    count: Operators | None = None
    first: Operators | None = None
    last: Operators | None = None
    never: bool = False
    not_followed_by: str | None = None
    within: Operators | None = None
    before_sign_up: bool = False
    metadata: Sequence[AttributeTest] = ()
    path: str = ""  # where the filter has it, for messages

    @property
    def size(self) -> int:
        """How many comparisons it takes to decide it, and of each event that it counts."""
        return 1 + len(self.metadata)

    @property
    def counts_events(self) -> bool:
        """Whether the summary does not tell it."""
        return bool(self.within or self.before_sign_up or self.metadata)

    @property
    def names(self) -> list[str]:
        """The names of the summaries that it looks at."""
        return [self.name] if self.not_followed_by is None else [self.name, self.not_followed_by]

    @property
    def needs_an_event(self) -> bool:
        """Whether it holds of nobody who never did it."""
        return not self._matches(EventStats(), datetime.min)

    @property
    def least(self) -> int:
        """The count that a contact's summary has at least, of whom it holds."""
        asked = {} if self.never else self.count or {}
        bounds = (asked.get("eq", 0), asked.get("gte", 0), asked.get("gt", -1) + 1)
        return int(max(self.needs_an_event, *bounds))

    def evaluate(self, facts: ContactFacts) -> bool | None:
        """Whether it holds."""
        tally = self.event_stats(facts)
        if tally is None:
            return None
        if not self._matches(tally, facts.now):
            return False
        if self.not_followed_by is None or tally.last_at is None:
            return True
        other = (facts.summaries or {}).get(self.not_followed_by)
        return other is None or other["last_at"] < tally.last_at

    def bounds(self, now: datetime, *, ahead: bool = False) -> TimeRange:
        """The range outside which it counts no event now; `ahead`: nor later."""
        return (bounds_ahead if ahead else time_bounds)(self.within or {}, now)

    def stats_of(
        self, events: Sequence[Document], contact: Mapping[str, Any], now: datetime, *, ahead: bool = False
    ) -> EventStats:
        """The tally of those of a contact's events of this name that it counts; `ahead`: and until when it is so."""
        times = [row["occurred_at"] for row in events if self._counts(row, contact, now)]
        coming = (at for row in events for at in self._transition_times(row) if at > now) if ahead else iter(())
        until = min(coming, default=None)
        return EventStats(len(times), min(times), max(times), until) if times else EventStats(until=until)

    def transition_times(self, tally: EventStats) -> Iterator[datetime]:
        """The moments at which time alone may change whether it holds."""
        yield from transition_times(self.first or {}, tally.first_at)
        yield from transition_times(self.last or {}, tally.last_at)
        if tally.until is not None:
            yield tally.until

    @property
    def is_time_dependent(self) -> bool:
        """Whether time alone may change whether it holds."""
        asked = (self.first, self.last, self.within)
        return any(is_time_dependent(one or {}) for one in asked) or any(
            test.is_time_dependent for test in self.metadata
        )

    def _transition_times(self, row: Document) -> Iterator[datetime]:
        yield from transition_times(self.within or {}, row["occurred_at"])
        for test in self.metadata:
            yield from test.transition_times(row["metadata_json"], row["metadata"])

    def event_stats(self, facts: ContactFacts) -> EventStats | None:
        """What it counts of a contact, as far as that is known."""
        if facts.summaries is None:
            return None
        summary = facts.summaries.get(self.name)
        if self.counts_events:
            return (
                facts.event_stats.get(self) if summary is not None and summary.get("tracked_count", 0) else EventStats()
            )
        return (
            EventStats() if summary is None else EventStats(summary["count"], summary["first_at"], summary["last_at"])
        )

    def _matches(self, tally: EventStats, now: datetime) -> bool:
        if self.never:
            return tally.count == 0
        if self.not_followed_by is not None and tally.count == 0:
            return False
        if not (self.count or self.first or self.last):
            return tally.count > 0
        return (
            number_matches(self.count or {}, tally.count)
            and time_matches(self.first or {}, tally.first_at, now)
            and time_matches(self.last or {}, tally.last_at, now)
        )

    def _counts(self, row: Document, contact: Mapping[str, Any], now: datetime) -> bool:
        return (
            (not self.within or time_matches(self.within, row["occurred_at"], now))
            and (not self.before_sign_up or was_before_sign_up(row, contact))
            and has_metadata(row, self.metadata, now)
        )


@dataclass(frozen=True, slots=True, eq=False)
class SegmentCondition(Condition):
    """The contact is in that segment."""

    segment_id: str

    def evaluate(self, facts: ContactFacts) -> bool | None:
        """Whether it is, as far as is known."""
        return facts.segments.get(self.segment_id)


def was_before_sign_up(event: Mapping[str, Any], contact: Mapping[str, Any]) -> bool:
    """Whether the contact had not signed up yet; one who never did has not."""
    signed_up_at = contact.get("signed_up_at")
    return signed_up_at is None or event["occurred_at"] < signed_up_at


def has_metadata(event: Mapping[str, Any], tests: Sequence[AttributeTest], now: datetime) -> bool:
    """Whether every test holds of the event's metadata."""
    return all(test.matches(event["metadata_json"], event["metadata"], now) for test in tests)


def parse_filter(sent: Mapping[str, Any], path: str = "filter") -> Condition:
    """The condition that a ContactFilter means (in snake_case, without nulls); BadRequestError names what it cannot mean."""
    return _FilterParser(path).condition(sent, path, depth=1)


def check_metadata_filter(sent: Sequence[Mapping[str, Any]] | None, path: str) -> list[AttributeTest]:
    """The tests that a list of AttributeFilters means; BadRequestError."""
    return _FilterParser(path.partition(".")[0]).attributes(sent or (), path)


@dataclass(slots=True)
class _FilterParser:
    """Reads one filter, and counts its conditions."""

    root: str
    conditions: int = 0

    def condition(self, sent: Mapping[str, Any], path: str, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            raise BadRequestError(f"{path} lies deeper than the {MAX_DEPTH} levels that are allowed: flatten it.")
        parts = [self._member(name, value, f"{path}.{public_name(name)}", depth) for name, value in sent.items()]
        return parts[0] if len(parts) == 1 else _all_of(parts)

    def attributes(self, sent: Sequence[Mapping[str, Any]], path: str) -> list[AttributeTest]:
        return [self._attribute(one, f"{path}.{place}") for place, one in enumerate(sent)]

    def _member(self, name: str, value: Any, path: str, depth: int) -> Condition:
        match name:
            case "and" | "or":
                parts = [
                    self.condition(one, f"{path}.{place}", depth + 1) if one else EVERYBODY
                    for place, one in enumerate(value)
                ]
                return _all_of(parts) if name == "and" else _any_of(parts)
            case "not":
                return _negation(self.condition(value, path, depth + 1))
            case "event":
                return self._event(value, path)
            case "custom_attribute":
                return AttributeCondition(self._attribute(value, path))
            case "segment":
                self._count(path)
                return SegmentCondition(value)
            case _:
                return self._field(name, value, path)

    def _field(self, name: str, value: Any, path: str) -> Condition:
        self._count(path)
        if name == "role":
            return RoleCondition(value)
        if name in TIME_FIELDS:
            return TimeCondition(name, value)
        return TextCondition(name, _texts(value, path))

    def _event(self, sent: Mapping[str, Any], path: str) -> EventCondition:
        self._count(path)
        metadata = self.attributes(sent.get("metadata", ()), f"{path}.metadata")
        found = EventCondition(**{**sent, "metadata": metadata, "path": path})
        excluded = [name for name in ("count", "first", "last", "not_followed_by") if name in sent]
        if found.never and excluded:
            raise BadRequestError(
                f"{path}.never excludes {public_name(excluded[0])}: of what never was there is no count, no time and no follower."
            )
        return found

    def _attribute(self, sent: Mapping[str, Any], path: str) -> AttributeTest:
        self._count(path)
        texts = {name: _texts(sent[name], f"{path}.{name}") for name in ("string", "link") if name in sent}
        return AttributeTest(sent["key"], {name: value for name, value in {**sent, **texts}.items() if name != "key"})

    def _count(self, path: str) -> None:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise BadRequestError(
                f"{self.root} has more than the {MAX_CONDITIONS} conditions that are allowed: {path} is the first too many."
            )


def _texts(asked: Operators, path: str) -> Operators:
    if len(asked.get("in", ())) > MAX_TEXTS:
        raise BadRequestError(f"{path}.in has {len(asked['in'])} texts, and {MAX_TEXTS} are allowed.")
    return case_folded(asked)


def public_name(name: str) -> str:
    """The name in the API of a field that we call by that name in snake_case."""
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def _all_of(parts: Sequence[Condition]) -> Condition:
    """Every part holds. What `{}` means is left out, and what `not: {}` means stands there once: its neighbours may name a
    segment that is not there, which is to be told."""
    others = [part for part in parts if part is not EVERYBODY and part is not NOBODY]
    kept = [NOBODY, *others] if any(part is NOBODY for part in parts) else others
    return EVERYBODY if not kept else NOBODY if kept == [NOBODY] else AllOf(kept)


def _any_of(parts: Sequence[Condition]) -> Condition:
    """A part holds; empty ones are left out as `_all_of` leaves them out."""
    others = [part for part in parts if part is not EVERYBODY and part is not NOBODY]
    kept = [EVERYBODY, *others] if any(part is EVERYBODY for part in parts) else others
    return NOBODY if not kept else EVERYBODY if kept == [EVERYBODY] else AnyOf(kept)


def _negation(part: Condition) -> Condition:
    return NOBODY if part is EVERYBODY else EVERYBODY if part is NOBODY else Negation(part)


def _all(parts: Iterator[bool | None]) -> bool | None:
    found: bool | None = True
    for part in parts:
        if part is False:
            return False
        found = part if part is None else found
    return found


def _not(part: bool | None) -> bool | None:
    return None if part is None else not part
