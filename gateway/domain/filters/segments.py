"""Segments: named conditions whose members are kept, which of them a change can concern, and what is told of them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.core.clock import to_milliseconds
from gateway.core.ids import Prefix, derived_id
from gateway.core.text_rules import check_unicode
from gateway.domain.contacts.contacts import Document
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
    public_name,
)
from gateway.domain.filters.expiry import is_time_dependent
from gateway.errors import BadRequestError, ErrorCode, UserProblem

MAX_SEGMENTS = 100
MAX_NAME_LENGTH = 200
ENTERED, LEFT = "ENTERED_SEGMENT", "LEFT_SEGMENT"
_FIELDS = {"tag": "tags", "country": "location", "city": "location"}  # what a text is a part of


def member_id_of(segment_id: str, contact_id: str) -> str:
    """The id of a contact's membership of a segment."""
    return derived_id(Prefix.SEGMENT_MEMBER, segment_id, contact_id)


def member_of(workspace_id: str, segment_id: str, contact_id: str, now: datetime) -> Document:
    """A contact's membership of a segment."""
    return {
        "_id": member_id_of(segment_id, contact_id),
        "workspace_id": workspace_id,
        "segment_id": segment_id,
        "contact_id": contact_id,
        "since": now,
    }


def membership_changed(
    change_id: str, kind: str, member: Mapping[str, Any], now: datetime, *, imported: bool = False
) -> Document:
    """The line of the journal that tells who entered or left a segment; `imported`: by imported events alone."""
    return {
        "_id": change_id,
        "workspace_id": member["workspace_id"],
        "subject": "contact",
        "kind": kind,
        "contact_id": member["contact_id"],
        "segment_id": member["segment_id"],
        "imported": imported,
        "before": None,
        "after": None,
        "at": now,
    }


def event_key(name: str) -> str:
    """How a change says that an event of that name was added."""
    return f"event:{name}"


def stored_filter(sent: Mapping[str, Any], field: str) -> Document:
    """A filter that came in that field, as it is kept; UserProblem where it can be none."""
    kept: Document = stored_value(sent, field)
    try:
        parse_filter(kept, field)
    except BadRequestError as error:
        raise UserProblem(ErrorCode.INVALID, error.message, (field,)) from None
    return kept


def stored_value(value: Any, field: str) -> Any:
    """What was sent in a filter, as it is kept; UserProblem where a text or a time of it cannot be."""
    match value:
        case dict():
            return {name: stored_value(inner, field) for name, inner in value.items()}
        case list():
            return [stored_value(inner, field) for inner in value]
        case str():
            return check_unicode(value, (field,), named=f"A text of {field}")
        case datetime():
            try:
                return to_milliseconds(value.astimezone(UTC))
            except OverflowError:
                message = f"A time of {field} lies outside the years 1 to 9999."
                raise UserProblem(ErrorCode.INVALID, message, (field,)) from None
    return value


def public_filter(stored: Any) -> Any:
    """A filter as callers write it, of one that is kept."""
    if isinstance(stored, Mapping):
        return {public_name(name): public_filter(value) for name, value in stored.items()}
    if isinstance(stored, list):
        return [public_filter(value) for value in stored]
    if isinstance(stored, datetime):
        return stored.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return stored


@dataclass(frozen=True, slots=True, eq=False)
class SegmentEvaluation(Condition):
    """Several segments at once, inner ones first; it holds as soon as it is known of each whether its condition does."""

    conditions: Mapping[str, Condition]

    def evaluate(self, facts: ContactFacts) -> bool | None:
        """True once all is known, which `facts.segments` then tells."""
        for segment_id, condition in self.conditions.items():
            if segment_id not in facts.segments and (found := condition.evaluate(facts)) is not None:
                facts.segments[segment_id] = found
        return True if facts.segments.keys() >= self.conditions.keys() else None

    def leaves(self) -> Iterator[Condition]:
        """Those of every segment."""
        for condition in self.conditions.values():
            yield from condition.leaves()

    def segments(self) -> frozenset[str]:
        """Those that are mentioned, and are not judged themselves."""
        return Condition.segments(self) - self.conditions.keys()


class SegmentGraph:
    """The segments of one workspace: how they rest on each other, and what each one looks at."""

    def __init__(self, rows: Iterable[Document]) -> None:
        self.rows = {row["_id"]: row for row in rows}
        self._conditions = {id_: parse_filter(row["filter"]) for id_, row in self.rows.items()}
        self._inner = {id_: sorted(one.segments() & self.rows.keys()) for id_, one in self._conditions.items()}
        self._order: list[str] = []
        self._add(sorted(self.rows))
        self._by_key: dict[str, set[str]] = {}
        for id_, condition in self._conditions.items():
            for key in _keys(condition):
                self._by_key.setdefault(key, set()).add(id_)

    @property
    def ids(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self._order)

    def depending_on(self, keys: Iterable[str]) -> frozenset[str]:
        """Those that a change of these things can change."""
        return self._with_dependents({id_ for key in keys for id_ in self._by_key.get(key, ())})

    def affected_by(self, touch: "ContactTouch") -> frozenset[str]:
        """Those that what the stream tells of a contact can change."""
        return self.ids if touch.everything else self.depending_on(touch.keys)

    def time_dependent(self) -> frozenset[str]:
        """Those that time alone can change."""
        return self._with_dependents(
            {id_ for id_, condition in self._conditions.items() if is_time_dependent(condition)}
        )

    def dependents(self, id_: str) -> list[str]:
        """Those that rest on that one, inner ones first."""
        found = self._with_dependents({id_}) - {id_}
        return [other for other in self._order if other in found]

    def referencing(self, id_: str) -> list[Document]:
        """Those whose filter names that one."""
        return [self.rows[other] for other in self._order if id_ in self._inner[other]]

    def condition(self, id_: str) -> Condition:
        """What holds of the members of that one."""
        return self._conditions[id_]

    def evaluation(self, ids: Collection[str]) -> SegmentEvaluation:
        """Whether a contact is in each of these."""
        return SegmentEvaluation({id_: self._conditions[id_] for id_ in self._order if id_ in ids})

    def in_order(self) -> list[Document]:
        """All of them, inner ones first."""
        return [self.rows[id_] for id_ in self._order]

    def check(self, id_: str) -> None:
        """Pass where that one names segments that are there, and none that leads back to it; else UserProblem."""
        for named in sorted(self._conditions[id_].segments()):
            if named not in self.rows:
                raise UserProblem(
                    ErrorCode.INVALID, f"filter names the segment '{named}', and there is no such segment.", ("filter",)
                )
            if (way := self._path_between(named, id_)) is not None:
                raise UserProblem(
                    ErrorCode.INVALID,
                    f"A segment must not lead back to itself: {' -> '.join(self._named(one) for one in [id_, *way])}.",
                    ("filter",),
                )

    def _path_between(self, start: str, end: str) -> list[str] | None:
        """How one leads to the other by what they name."""
        ways, seen = [[start]], {start}
        for way in ways:
            if way[-1] == end:
                return way
            ways += [[*way, inner] for inner in self._inner[way[-1]] if inner not in seen]
            seen |= {*self._inner[way[-1]]}
        return None

    def _named(self, id_: str) -> str:
        return f"'{self.rows[id_]['name']}'"

    def _add(self, ids: Sequence[str], under_way: frozenset[str] = frozenset()) -> None:
        for id_ in ids:
            if id_ not in self._order and id_ not in under_way:
                self._add(self._inner[id_], under_way | {id_})
                self._order.append(id_)

    def _with_dependents(self, ids: set[str]) -> frozenset[str]:
        for id_ in self._order:  # inner ones come first, so one round is enough
            if not ids.isdisjoint(self._inner[id_]):
                ids.add(id_)
        return frozenset(ids)


def _keys(condition: Condition) -> set[str]:
    """What a condition looks at: fields of the contact, and names of events."""
    return {key for leaf in condition.leaves() for key in _keys_of(leaf)}


def _keys_of(leaf: Condition) -> list[str]:
    match leaf:
        case EventCondition():
            return [event_key(name) for name in leaf.names] + ["signed_up_at"] * leaf.before_sign_up
        case RoleCondition():
            return ["role"]
        case TextCondition() | TimeCondition():
            return [_FIELDS.get(leaf.name, leaf.name)]
        case AttributeCondition():
            return ["custom_attributes"]
        case SegmentCondition():
            return []
    raise AssertionError(leaf)  # pragma: no cover


def segment_line(change_id: str, kind: str, segments: Sequence[Document], now: datetime) -> Document:
    """The line of the journal that tells of a segment that was saved (with those that rest on it, whose members are to be
    found anew too) or deleted."""
    return {
        "_id": change_id,
        "workspace_id": segments[0]["workspace_id"],
        "subject": "segment",
        "kind": kind,
        "segment_id": segments[0]["_id"],
        "segments": [{"id": row["_id"], "revision": row["revision"]} for row in segments],
        "at": now,
    }


@dataclass(slots=True)
class ContactTouch:
    """What a stretch of the stream tells of one contact: what changed (`everything`: all may have), and whether imported
    events alone did it."""

    keys: set[str] = field(default_factory=set)
    everything: bool = False
    imported: bool = False
    is_tracked: bool = False

    @property
    def by_import(self) -> bool:
        """Whether nothing but an import changed it."""
        return self.imported and not self.is_tracked


def touch_event(touched: dict[str, ContactTouch], event: Mapping[str, Any]) -> None:
    """Add what an event that was inserted tells."""
    touch = touched.setdefault(event["contact_id"], ContactTouch())
    touch.keys |= {event_key(event["name"]), "last_seen_at"}
    if event.get("imported", False):
        touch.imported = True
    else:
        touch.is_tracked = True


def touch_of_change(touched: dict[str, ContactTouch], line: Mapping[str, Any]) -> None:
    """Add what a line of the journal tells."""
    match line["subject"], line["kind"]:
        case "contact", "CREATED" | "MERGED" | "DELETED":
            ids = [line["contact_id"], *([line["merged_id"]] if "merged_id" in line else [])]
            for id_ in ids:
                touched.setdefault(id_, ContactTouch()).everything = True
        case "contact", "UPDATED":
            touch = touched.setdefault(line["contact_id"], ContactTouch())
            touch.keys |= {*line["fields"], "last_seen_at"}
            touch.is_tracked = True
        case "seen", _:
            touch = touched.setdefault(line["contact_id"], ContactTouch())
            touch.keys.add("last_seen_at")
            touch.is_tracked = True
        case "summaries", "IMPORTED":
            touch = touched.setdefault(line["contact_id"], ContactTouch())
            touch.keys |= {event_key(one["name"]) for one in line["lines"]}
            touch.imported = True
