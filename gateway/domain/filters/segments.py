"""Segments: saved filters with members, which segments a change can affect, and their change events."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.core.clock import to_milliseconds
from gateway.core.ids import Prefix, derived_id
from gateway.core.json_values import Json
from gateway.core.text_rules import check_unicode, public_name
from gateway.domain.change_kinds import ChangeKind
from gateway.domain.contacts.fields import FIELD_BY_FILTER
from gateway.domain.filters.conditions import (
    AttributeCondition,
    Condition,
    ContactFacts,
    EventCondition,
    RoleCondition,
    SegmentCondition,
    TextCondition,
    TimeCondition,
    parse_filter,
)
from gateway.domain.filters.documents import FilterValue, MemberDocument, SegmentDocument, StoredFilter
from gateway.domain.filters.expiry import is_time_dependent
from gateway.errors import BadRequestError, ErrorCode, UserProblem

MAX_SEGMENTS = 100
MAX_NAME_LENGTH = 200


def member_id_of(segment_id: str, contact_id: str) -> str:
    """The membership's id, derived from both ids, so that a contact cannot be added twice."""
    return derived_id(Prefix.SEGMENT_MEMBER, segment_id, contact_id)


def member_of(workspace_id: str, segment_id: str, contact_id: str, now: datetime) -> MemberDocument:
    return {
        "_id": member_id_of(segment_id, contact_id),
        "workspace_id": workspace_id,
        "segment_id": segment_id,
        "contact_id": contact_id,
        "since": now,
    }


def event_key(name: str) -> str:
    """The key under which a new event of that name affects segments."""
    return f"event:{name}"


def stored_filter(filter_: StoredFilter, field: str) -> StoredFilter:
    """A filter from the input field `field` as it is stored; UserProblem if it is invalid."""
    stored = stored_object(filter_, field)
    try:
        parse_filter(stored, field)
    except BadRequestError as error:
        raise UserProblem(ErrorCode.INVALID, error.message, (field,)) from None
    return stored


def stored_object(values: StoredFilter, field: str) -> StoredFilter:
    """An object of a filter as it is stored; UserProblem if it holds a text or time that cannot be stored."""
    return {name: _stored_value(inner, field) for name, inner in values.items()}


def _stored_value(value: FilterValue, field: str) -> FilterValue:
    match value:
        case dict():
            return stored_object(value, field)
        case list():
            return [_stored_value(inner, field) for inner in value]
        case str():
            return check_unicode(value, (field,), named=f"A text of {field}")
        case datetime():
            try:
                return to_milliseconds(value.astimezone(UTC))
            except OverflowError:
                message = f"A time of {field} must be in the years 1 to 9999."
                raise UserProblem(ErrorCode.INVALID, message, (field,)) from None
    return value


def public_filter(stored: FilterValue) -> Json:
    """A stored filter in the form of the API: camelCase names, times as text."""
    if isinstance(stored, dict):
        return {public_name(name): public_filter(value) for name, value in stored.items()}
    if isinstance(stored, list):
        return [public_filter(value) for value in stored]
    if isinstance(stored, datetime):
        return stored.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return stored


@dataclass(frozen=True, slots=True, eq=False)
class SegmentEvaluation(Condition):
    """Evaluates several segments at once, referenced ones first. It is true once every segment is decided."""

    conditions: Mapping[str, Condition]

    def evaluate(self, facts: ContactFacts) -> bool | None:
        """True once all segments are decided, else None; writes the results into `facts.segments`."""
        for segment_id, condition in self.conditions.items():
            if segment_id not in facts.segments and (is_member := condition.evaluate(facts)) is not None:
                facts.segments[segment_id] = is_member
        return True if facts.segments.keys() >= self.conditions.keys() else None

    def leaves(self) -> Iterator[Condition]:
        for condition in self.conditions.values():
            yield from condition.leaves()

    def segments(self) -> frozenset[str]:
        """The referenced segments that are not evaluated here."""
        return Condition.segments(self) - self.conditions.keys()


class SegmentGraph:
    """The segments of one workspace: which refer to which, and which keys (contact fields, events) each depends on."""

    def __init__(self, rows: Iterable[SegmentDocument]) -> None:
        self.rows = {row["_id"]: row for row in rows}
        self._conditions = {id_: parse_filter(row["filter"]) for id_, row in self.rows.items()}
        self._references = {
            id_: sorted(condition.segments() & self.rows.keys()) for id_, condition in self._conditions.items()
        }
        self._order: list[str] = []
        self._add(sorted(self.rows))
        self._by_key: dict[str, set[str]] = {}
        for id_, condition in self._conditions.items():
            for key in _keys(condition):
                self._by_key.setdefault(key, set()).add(id_)

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self._order)

    def depending_on(self, keys: Iterable[str]) -> frozenset[str]:
        """The segments whose members can change when these keys change, directly or through other segments."""
        return self._with_dependents({id_ for key in keys for id_ in self._by_key.get(key, ())})

    def affected_by(self, touch: "ContactTouch") -> frozenset[str]:
        return self.ids if touch.everything else self.depending_on(touch.keys)

    def time_dependent(self) -> frozenset[str]:
        return self._with_dependents(
            {id_ for id_, condition in self._conditions.items() if is_time_dependent(condition)}
        )

    def dependents(self, id_: str) -> list[str]:
        """The segments that refer to this one, directly or not; referenced ones first."""
        dependents = self._with_dependents({id_}) - {id_}
        return [other for other in self._order if other in dependents]

    def referencing(self, id_: str) -> list[SegmentDocument]:
        """The segments whose own filter refers to this one."""
        return [self.rows[other] for other in self._order if id_ in self._references[other]]

    def condition(self, id_: str) -> Condition:
        return self._conditions[id_]

    def evaluation(self, ids: Collection[str]) -> SegmentEvaluation:
        """A condition that evaluates these segments together."""
        return SegmentEvaluation({id_: self._conditions[id_] for id_ in self._order if id_ in ids})

    def in_order(self) -> list[SegmentDocument]:
        """All segments, referenced ones before those that refer to them."""
        return [self.rows[id_] for id_ in self._order]

    def check(self, id_: str) -> None:
        """Raise UserProblem if the segment refers to one that does not exist, or back to itself."""
        for named in sorted(self._conditions[id_].segments()):
            if named not in self.rows:
                raise UserProblem(
                    ErrorCode.INVALID,
                    f"The filter names the segment '{named}', which does not exist: correct the id.",
                    ("filter",),
                )
            if (path := self._path_between(named, id_)) is not None:
                raise UserProblem(
                    ErrorCode.INVALID,
                    f"A segment must not refer to itself, directly or through others: {' -> '.join(self._quoted_name(step) for step in [id_, *path])}.",
                    ("filter",),
                )

    def _path_between(self, start: str, end: str) -> list[str] | None:
        # Breadth first: the list grows while it is read.
        paths, seen = [[start]], {start}
        for path in paths:
            if path[-1] == end:
                return path
            paths += [[*path, next_id] for next_id in self._references[path[-1]] if next_id not in seen]
            seen |= {*self._references[path[-1]]}
        return None

    def _quoted_name(self, id_: str) -> str:
        return f"'{self.rows[id_]['name']}'"

    def _add(self, ids: Sequence[str], visiting: frozenset[str] = frozenset()) -> None:
        for id_ in ids:
            if id_ not in self._order and id_ not in visiting:
                self._add(self._references[id_], visiting | {id_})
                self._order.append(id_)

    def _with_dependents(self, ids: set[str]) -> frozenset[str]:
        for id_ in self._order:  # referenced segments come first, so one round is enough
            if not ids.isdisjoint(self._references[id_]):
                ids.add(id_)
        return frozenset(ids)


def _keys(condition: Condition) -> set[str]:
    return {key for leaf in condition.leaves() for key in _keys_of(leaf)}


def _keys_of(leaf: Condition) -> list[str]:
    match leaf:
        case EventCondition():
            return [event_key(name) for name in leaf.names] + ["signed_up_at"] * leaf.before_sign_up
        case RoleCondition():
            return ["role"]
        case TextCondition() | TimeCondition():
            return [FIELD_BY_FILTER[leaf.name].name]
        case AttributeCondition():
            return ["custom_attributes"]
        case SegmentCondition():
            return []
    raise AssertionError(leaf)  # pragma: no cover


@dataclass(slots=True)
class ContactTouch:
    """What changed about one contact in a batch of the change stream.

    `everything`: any field or event may have changed. `imported`, `is_tracked`: by imports, by anything else."""

    keys: set[str] = field(default_factory=set)
    everything: bool = False
    imported: bool = False
    is_tracked: bool = False

    def add(self, keys: set[str], *, imported: bool) -> None:
        """Add a change of these keys, by an import or by anything else."""
        self.keys |= keys
        self.imported |= imported
        self.is_tracked |= not imported

    @property
    def by_import(self) -> bool:
        return self.imported and not self.is_tracked


def add_touch(touched: dict[str, ContactTouch], kind: ChangeKind, change: Mapping[str, Any]) -> None:
    """Add a change event to the touches by contact id; other kinds than these affect no segment."""
    match kind:
        case ChangeKind.EVENT_TRACKED:
            keys, imported = {event_key(change["name"]), "last_seen_at"}, bool(change.get("imported"))
        case ChangeKind.CONTACT_CREATED | ChangeKind.CONTACT_MERGED | ChangeKind.CONTACT_DELETED:
            for id_ in (change["contact_id"], change.get("merged_id")):
                if id_ is not None:
                    touched.setdefault(id_, ContactTouch()).everything = True
            return
        case ChangeKind.CONTACT_UPDATED:
            keys, imported = {*change["fields"], "last_seen_at"}, False
        case ChangeKind.CONTACT_SEEN:
            keys, imported = {"last_seen_at"}, False
        case ChangeKind.SUMMARIES_IMPORTED:
            keys, imported = {event_key(line["name"]) for line in change["lines"]}, True
        case _:
            return
    touched.setdefault(change["contact_id"], ContactTouch()).add(keys, imported=imported)
