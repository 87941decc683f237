"""Conditions on contacts: the parsed tree of a ContactFilter, evaluated to true, false or unknown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.core.text_rules import public_name
from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.contacts import by_name
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.fields import FIELD_BY_FILTER, ContactField, FieldKind
from gateway.domain.events.documents import EventDocument, SummaryDocument
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
MAX_OBJECTS = 1000  # input objects in one filter, including empty ones and wrappers
MAX_TEXTS = 100


def _text_reader(field: ContactField, filter_name: str) -> Callable[[ContactDocument], list[str] | str | None]:
    if field.kind is FieldKind.LOCATION:
        return lambda row: (by_name(row).get(field.name) or {}).get(filter_name)
    return lambda row: by_name(row).get(field.name)


_TEXT_KINDS = (FieldKind.KEY, FieldKind.TEXT, FieldKind.TAGS, FieldKind.LOCATION)
# The names in ContactFilter, and how each text is read from a contact; the index has these texts.
TEXT_FIELDS: dict[str, Callable[[ContactDocument], list[str] | str | None]] = {
    name: _text_reader(field, name) for name, field in FIELD_BY_FILTER.items() if field.kind in _TEXT_KINDS
}
TIME_FIELDS = frozenset(name for name, field in FIELD_BY_FILTER.items() if field.kind is FieldKind.TIME)


@dataclass(frozen=True, slots=True)
class EventStats:
    """Count, first and last time of the events that match one condition; `until`: when time alone may change the count."""

    count: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    until: datetime | None = None

    def plus(self, other: "EventStats") -> "EventStats":
        times = [at for at in (self.first_at, self.last_at, other.first_at, other.last_at) if at is not None]
        ends = [at for at in (self.until, other.until) if at is not None]
        bounds = (min(times, default=None), max(times, default=None), min(ends, default=None))
        return EventStats(self.count + other.count, *bounds)


@dataclass(slots=True)
class ContactFacts:
    """What a condition is evaluated with, as far as it is loaded.

    `summaries` by event name (None: not loaded yet), `event_stats` for conditions that count events one by one,
    `segments` by segment id: whether the contact is a member."""

    contact: ContactDocument
    now: datetime
    summaries: Mapping[str, SummaryDocument] | None = None
    event_stats: dict["EventCondition", EventStats] = field(default_factory=dict)
    segments: dict[str, bool] = field(default_factory=dict)


class Condition:
    """A node of the tree. It evaluates to None if the loaded facts do not decide it."""

    def evaluate(self, facts: ContactFacts) -> bool | None:
        """True or false, or None if the facts do not decide it."""
        raise NotImplementedError

    def leaves(self) -> Iterator["Condition"]:
        """All conditions in this tree that have no parts."""
        yield self

    @property
    def size(self) -> int:
        """How many comparisons one evaluation takes at most."""
        return sum(leaf.size for leaf in self.leaves() if leaf is not self) + 1

    def events(self) -> Iterator["EventCondition"]:
        """All event conditions in this tree."""
        return (leaf for leaf in self.leaves() if isinstance(leaf, EventCondition))

    def segments(self) -> frozenset[str]:
        """The ids of the segments whose members it needs."""
        return frozenset(leaf.segment_id for leaf in self.leaves() if isinstance(leaf, SegmentCondition))


@dataclass(frozen=True, slots=True, eq=False)
class AllOf(Condition):
    parts: Sequence[Condition]

    def evaluate(self, facts: ContactFacts) -> bool | None:
        return _all(part.evaluate(facts) for part in self.parts)

    def leaves(self) -> Iterator[Condition]:
        for part in self.parts:
            yield from part.leaves()


@dataclass(frozen=True, slots=True, eq=False)
class AnyOf(Condition):
    parts: Sequence[Condition]

    def evaluate(self, facts: ContactFacts) -> bool | None:
        return _not(_all(_not(part.evaluate(facts)) for part in self.parts))

    def leaves(self) -> Iterator[Condition]:
        for part in self.parts:
            yield from part.leaves()


# `{}` matches everybody; `not: {}` and `or: []` match nobody.
EVERYBODY = AllOf(())
NOBODY = AnyOf(())


@dataclass(frozen=True, slots=True, eq=False)
class Negation(Condition):
    part: Condition

    def evaluate(self, facts: ContactFacts) -> bool | None:
        """The opposite of its part; unknown stays unknown."""
        return _not(self.part.evaluate(facts))

    def leaves(self) -> Iterator[Condition]:
        yield from self.part.leaves()


@dataclass(frozen=True, slots=True, eq=False)
class RoleCondition(Condition):
    roles: Sequence[str]

    def evaluate(self, facts: ContactFacts) -> bool:
        return facts.contact["role"] in self.roles


@dataclass(frozen=True, slots=True, eq=False)
class TextCondition(Condition):
    """A text field satisfies a StringFilter; for `tag`, one of the tags."""

    name: str
    operators: Operators

    def evaluate(self, facts: ContactFacts) -> bool:
        value = TEXT_FIELDS[self.name](facts.contact)
        texts = value if isinstance(value, list) else [] if value is None else [value]
        return texts_match(self.operators, texts)


@dataclass(frozen=True, slots=True, eq=False)
class TimeCondition(Condition):
    """A time field satisfies a TimeFilter."""

    name: str
    operators: Operators

    def evaluate(self, facts: ContactFacts) -> bool:
        return time_matches(self.operators, by_name(facts.contact).get(self.name), facts.now)

    @property
    def is_time_dependent(self) -> bool:
        return is_time_dependent(self.operators)


@dataclass(frozen=True, slots=True, eq=False)
class AttributeCondition(Condition):
    """A custom attribute satisfies an AttributeFilter."""

    test: AttributeTest

    def evaluate(self, facts: ContactFacts) -> bool:
        return self.test.matches(facts.contact["custom_attributes"], None, facts.now)


@dataclass(frozen=True, slots=True, eq=False)
class EventCondition(Condition):
    """How often and when a contact did an event: from its summary, or by counting events where only some of them count."""

    name: str
    count: Operators | None = None
    first: Operators | None = None
    last: Operators | None = None
    never: bool = False
    not_followed_by: str | None = None
    within: Operators | None = None
    before_sign_up: bool = False
    metadata: Sequence[AttributeTest] = ()
    path: str = ""  # its path in the filter, for error messages

    @property
    def size(self) -> int:
        """How many comparisons one evaluation takes, and how many each counted event takes."""
        return 1 + len(self.metadata)

    @property
    def counts_events(self) -> bool:
        """Whether the summary is not enough, so that events must be read."""
        return bool(self.within or self.before_sign_up or self.metadata)

    @property
    def names(self) -> list[str]:
        """The event names whose summaries it reads."""
        return [self.name] if self.not_followed_by is None else [self.name, self.not_followed_by]

    @property
    def needs_an_event(self) -> bool:
        """Whether it is false for contacts without such an event."""
        return not self._matches(EventStats(), datetime.min)

    @property
    def least(self) -> int:
        """The least summary count of a matching contact."""
        operators = {} if self.never else self.count or {}
        bounds = (operators.get("eq", 0), operators.get("gte", 0), operators.get("gt", -1) + 1)
        return int(max(self.needs_an_event, *bounds))

    def evaluate(self, facts: ContactFacts) -> bool | None:
        """Whether the events match; None if summaries or event statistics are not loaded."""
        stats = self.event_stats(facts)
        if stats is None:
            return None
        if not self._matches(stats, facts.now):
            return False
        if self.not_followed_by is None or stats.last_at is None:
            return True
        other = (facts.summaries or {}).get(self.not_followed_by)
        return other is None or other["last_at"] < stats.last_at

    def bounds(self, now: datetime, *, ahead: bool = False) -> TimeRange:
        """The range of event times that can count now; with `ahead`, now or at any later time."""
        return (bounds_ahead if ahead else time_bounds)(self.within or {}, now)

    def stats_of(
        self, events: Sequence[EventDocument], contact: ContactDocument, now: datetime, *, ahead: bool = False
    ) -> EventStats:
        """The statistics of those of a contact's events that count; with `ahead`, `until` is set too."""
        times = [row["occurred_at"] for row in events if self._counts(row, contact, now)]
        upcoming = (at for row in events for at in self._transition_times(row) if at > now) if ahead else iter(())
        until = min(upcoming, default=None)
        return EventStats(len(times), min(times), max(times), until) if times else EventStats(until=until)

    def transition_times(self, stats: EventStats) -> Iterator[datetime]:
        yield from transition_times(self.first or {}, stats.first_at)
        yield from transition_times(self.last or {}, stats.last_at)
        if stats.until is not None:
            yield stats.until

    @property
    def is_time_dependent(self) -> bool:
        time_filters = (self.first, self.last, self.within)
        return any(is_time_dependent(operators or {}) for operators in time_filters) or any(
            test.is_time_dependent for test in self.metadata
        )

    def _transition_times(self, row: EventDocument) -> Iterator[datetime]:
        yield from transition_times(self.within or {}, row["occurred_at"])
        for test in self.metadata:
            yield from test.transition_times(row["metadata_json"], row["metadata"])

    def event_stats(self, facts: ContactFacts) -> EventStats | None:
        """The statistics to evaluate; None if they are not loaded."""
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

    def _matches(self, stats: EventStats, now: datetime) -> bool:
        if self.never:
            return stats.count == 0
        if self.not_followed_by is not None and stats.count == 0:
            return False
        if not (self.count or self.first or self.last):
            return stats.count > 0
        return (
            number_matches(self.count or {}, stats.count)
            and time_matches(self.first or {}, stats.first_at, now)
            and time_matches(self.last or {}, stats.last_at, now)
        )

    def _counts(self, row: EventDocument, contact: ContactDocument, now: datetime) -> bool:
        return (
            (not self.within or time_matches(self.within, row["occurred_at"], now))
            and (not self.before_sign_up or was_before_sign_up(row, contact))
            and has_metadata(row, self.metadata, now)
        )


@dataclass(frozen=True, slots=True, eq=False)
class SegmentCondition(Condition):
    segment_id: str

    def evaluate(self, facts: ContactFacts) -> bool | None:
        """Whether the contact is a member; None if that is not loaded."""
        return facts.segments.get(self.segment_id)


def was_before_sign_up(event: EventDocument, contact: ContactDocument | None) -> bool:
    """Whether the event is older than the contact's sign-up; always true for contacts that never signed up."""
    signed_up_at = None if contact is None else contact.get("signed_up_at")
    return signed_up_at is None or event["occurred_at"] < signed_up_at


def has_metadata(event: EventDocument, tests: Sequence[AttributeTest], now: datetime) -> bool:
    return all(test.matches(event["metadata_json"], event["metadata"], now) for test in tests)


def parse_filter(filter_: Operators, path: str = "filter") -> Condition:
    """Parse a ContactFilter (snake_case names, no nulls). BadRequestError names the invalid part."""
    return _FilterParser(path).condition(filter_, path, depth=1)


def check_metadata_filter(filters: Sequence[Operators] | None, path: str) -> list[AttributeTest]:
    """Parse a list of AttributeFilters on metadata; BadRequestError."""
    return _FilterParser(path.partition(".")[0]).attributes(filters or (), path)


@dataclass(slots=True)
class _FilterParser:
    root: str
    conditions: int = 0

    def condition(self, filter_: Operators, path: str, depth: int) -> Condition:
        if depth > MAX_DEPTH:
            raise BadRequestError(f"{path} is nested deeper than {MAX_DEPTH} levels: flatten it.")
        parts = [self._member(name, value, f"{path}.{public_name(name)}", depth) for name, value in filter_.items()]
        return parts[0] if len(parts) == 1 else _all_of(parts)

    def attributes(self, filters: Sequence[Operators], path: str) -> list[AttributeTest]:
        return [self._attribute(filter_, f"{path}.{index}") for index, filter_ in enumerate(filters)]

    def _member(self, name: str, value: Any, path: str, depth: int) -> Condition:
        match name:
            case "and" | "or":
                parts = [
                    self.condition(part, f"{path}.{index}", depth + 1) if part else EVERYBODY
                    for index, part in enumerate(value)
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

    def _event(self, filter_: Operators, path: str) -> EventCondition:
        self._count(path)
        metadata = self.attributes(filter_.get("metadata", ()), f"{path}.metadata")
        condition = EventCondition(**{**filter_, "metadata": metadata, "path": path})
        excluded = [name for name in ("count", "first", "last", "not_followed_by") if name in filter_]
        if condition.never and excluded:
            raise BadRequestError(
                f"{path}.never cannot be combined with {public_name(excluded[0])}: remove one of them."
            )
        return condition

    def _attribute(self, filter_: Operators, path: str) -> AttributeTest:
        self._count(path)
        texts = {name: _texts(filter_[name], f"{path}.{name}") for name in ("string", "link") if name in filter_}
        operators = {name: value for name, value in {**filter_, **texts}.items() if name != "key"}
        return AttributeTest(filter_["key"], operators)

    def _count(self, path: str) -> None:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise BadRequestError(
                f"{self.root} has more than {MAX_CONDITIONS} conditions: remove {path} and those after it."
            )


def _texts(operators: Operators, path: str) -> Operators:
    if len(operators.get("in", ())) > MAX_TEXTS:
        raise BadRequestError(f"{path}.in has {len(operators['in'])} texts; the limit is {MAX_TEXTS}.")
    return case_folded(operators)


def _all_of(parts: Sequence[Condition]) -> Condition:
    # EVERYBODY adds nothing. NOBODY decides alone, but the other parts stay: a segment that one of them names may not
    # exist, which must be reported.
    remaining = [part for part in parts if part is not EVERYBODY and part is not NOBODY]
    if any(part is NOBODY for part in parts):
        remaining = [NOBODY, *remaining]
    return EVERYBODY if not remaining else NOBODY if remaining == [NOBODY] else AllOf(remaining)


def _any_of(parts: Sequence[Condition]) -> Condition:
    # As in `_all_of`, with the roles exchanged.
    remaining = [part for part in parts if part is not EVERYBODY and part is not NOBODY]
    if any(part is EVERYBODY for part in parts):
        remaining = [EVERYBODY, *remaining]
    return NOBODY if not remaining else EVERYBODY if remaining == [EVERYBODY] else AnyOf(remaining)


def _negation(part: Condition) -> Condition:
    return NOBODY if part is EVERYBODY else EVERYBODY if part is NOBODY else Negation(part)


def _all(values: Iterator[bool | None]) -> bool | None:
    result: bool | None = True
    for value in values:
        if value is False:
            return False
        result = value if value is None else result
    return result


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value
