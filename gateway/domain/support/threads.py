"""Threads: what conversations and tickets share. A command changes a document, adds parts and emits domain events."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Generic, Literal, TypedDict, Unpack, cast

from gateway.core.full_text import extract_words, with_words
from gateway.core.ids import Minter, Prefix
from gateway.core.text_rules import MAX_TAGS
from gateway.core.timers import TimerDocument, timer_id_of, timer_of
from gateway.domain.change_kinds import ChangeKind
from gateway.domain.contacts.contacts import distinct, json_differs
from gateway.domain.support.actors import Actor
from gateway.domain.support.documents import PartDocument, PartFields, T
from gateway.errors import ErrorCode, UserProblem

MATCHED_FIELDS = ("state", "assignee_id", "team_id")  # the fields that subscription filters match
SNOOZE, SLA = "snooze", "sla"  # the timers that threads have, named after their kind
AssigneeField = Literal["team_id", "assignee_id"]
ASSIGNEE_FIELDS: tuple[AssigneeField, ...] = ("team_id", "assignee_id")
_TICK = timedelta(milliseconds=1)


class Assignees(TypedDict, total=False):
    """Who gets a thread; None takes one away."""

    team_id: str | None
    assignee_id: str | None


class ThreadKind(StrEnum):
    """The kinds of threads; also the prefix of stored names."""

    CONVERSATION = "conversation"
    TICKET = "ticket"


class PartKind(StrEnum):
    COMMENT = "COMMENT"
    NOTE = "NOTE"
    ASSIGNMENT = "ASSIGNMENT"
    OPEN = "OPEN"
    CLOSE = "CLOSE"
    SNOOZE = "SNOOZE"
    UNSNOOZE = "UNSNOOZE"
    RATING = "RATING"
    TAG = "TAG"
    SLA = "SLA"
    STATE = "STATE"
    UPDATE = "UPDATE"


# The parts that a contact sees of its own threads.
PUBLIC_PARTS = frozenset({PartKind.COMMENT, PartKind.OPEN, PartKind.CLOSE, PartKind.RATING, PartKind.STATE})


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """One entry for the change log; `is_public`: the thread's contact may see it."""

    kind: ChangeKind
    part_id: str | None = None
    is_public: bool = False


@dataclass(slots=True)
class Changeset(Generic[T]):
    """What a command changes in one thread.

    `before` is None for a new thread. `timers` are set; `cancelled` has the ids of those to delete."""

    kind: ThreadKind
    before: T | None
    after: T
    parts: list[PartDocument] = field(default_factory=list)
    events: list[DomainEvent] = field(default_factory=list)
    timers: list[TimerDocument] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    part_id: str | None = None  # of the part that records the command itself

    @property
    def part(self) -> PartDocument | None:
        """The part that records the command itself, if there is one."""
        return next((part for part in self.parts if part["_id"] == self.part_id), None)

    @property
    def has_changes(self) -> bool:
        return bool(self.parts or self.events)

    def fields(self) -> dict[str, object]:
        """The changed fields; None for removed ones."""
        before: Mapping[str, object] = self.before or {}
        names = [*self.after, *(name for name in before if name not in self.after)]
        return {name: self.after.get(name) for name in names if json_differs(self.after.get(name), before.get(name))}


class ThreadAggregate(Generic[T]):
    """Applies commands of one actor to a copy of the stored document; `changeset` returns what changed."""

    KIND: ClassVar[ThreadKind]
    PART_PREFIX: ClassVar[Prefix]
    ASSIGNED: ClassVar[ChangeKind]

    def __init__(self, stored: T, actor: Actor, at: datetime, minter: Minter, *, new: bool = False) -> None:
        """`at`: the time of the command; parts get a later time if the thread has newer parts."""
        self.stored: T | None = None if new else stored
        self.document: T = _copied(stored)
        self.actor = actor
        self._minter = minter
        self._requested_at = at
        self._parts: list[PartDocument] = []
        self._events: list[DomainEvent] = []

    @property
    def at(self) -> datetime:
        """The time of the next part: strictly after the last one, so that parts sort in the order in which they are stored."""
        last: datetime | None = self.document.get("last_part_at")
        return self._requested_at if last is None else max(self._requested_at, last + _TICK)

    def add_part(
        self,
        kind: PartKind,
        body: str | None = None,
        *,
        author: Actor | None = None,
        at: datetime | None = None,
        **fields: Unpack[PartFields],
    ) -> str:
        """Add a part with these further fields and return its id."""
        at = self.at if at is None else max(at, self.document["last_part_at"] + _TICK)
        part: PartDocument = {
            "_id": self._minter.mint(self.PART_PREFIX, at),
            "workspace_id": self.document["workspace_id"],
            "subject_id": self.document["_id"],
            "contact_id": self.document["contact_id"],
            "kind": kind.value,
            "author": (author or self.actor).stored,
            "created_at": at,
        }
        if body is not None:
            part["body"] = body
        part = cast(PartDocument, part | {name: value for name, value in fields.items() if value is not None})
        self._parts.append(part)
        self.document["last_part_at"] = at
        statistics, public = self.document["statistics"], kind in PUBLIC_PARTS
        statistics["part_count"] += 1
        statistics["public_part_count"] += public
        self.index_text(body, public=public)
        if public:
            self.document["said_words"] = with_words(said_words(self.document), [body])
        return part["_id"]

    def index_text(self, *texts: str | None, public: bool = True) -> None:
        """Add the words of these texts to the search index; `public`: the contact's search finds them too."""
        self.document["words"] = with_words(self.document["words"], texts)
        if public:
            self.document["public_words"] = with_words(self.document["public_words"], texts)

    def learn_edited(self, *texts: str | None) -> None:
        """Index edited texts; the contact's search no longer finds the words of the earlier ones."""
        self.index_text(*texts, public=False)
        self.document["said_words"] = said_words(self.document)
        self.document["public_words"] = public_words(self.shown_texts(self.document), self.document["said_words"])

    def reply(self, body: str, *, note: bool) -> str:
        """Add a reply, or a note that only teammates see; returns the part id."""
        raise NotImplementedError

    def assign(self, to: Assignees) -> str:
        """Assign a team, an admin or both (None: unassign); returns the last part's id."""
        part_id = ""
        for name in ASSIGNEE_FIELDS:
            if name not in to:
                continue
            if (id_ := to[name]) is None:
                self.document.pop(name, None)
            else:
                self.document[name] = id_
            part_id = self.add_part(PartKind.ASSIGNMENT, assigned_to=id_)
            if id_ is not None and "assignment_count" in self.document["statistics"]:
                self.document["statistics"]["assignment_count"] += 1
        self.emit(self.ASSIGNED, part_id)
        return part_id

    def change_tags(self, added: Sequence[str], removed: Sequence[str]) -> str | None:
        """Add and remove tags; returns the part's id, None if no tag changed."""
        before: list[str] = self.document["tags"]
        tags = [tag for tag in distinct([*before, *added]) if tag not in removed]
        if len(tags) > MAX_TAGS:
            message = f"The {self.KIND.value} would have {len(tags)} tags; the limit is {MAX_TAGS}: remove some first."
            raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message, ("addTags",))
        self.document["tags"] = tags
        signed_tags = [f"+{tag}" for tag in tags if tag not in before] + [
            f"-{tag}" for tag in before if tag not in tags
        ]
        return self.add_part(PartKind.TAG, " ".join(signed_tags)) if signed_tags else None

    @staticmethod
    def shown_texts(document: T) -> Sequence[str | None]:
        """The texts of the document itself, without its parts, that the contact sees."""
        raise NotImplementedError

    def emit(self, kind: ChangeKind, part_id: str | None = None, *, public: bool = False) -> None:
        self._events.append(DomainEvent(kind, part_id, public))

    def changeset(self, part_id: str | None = None) -> Changeset[T]:
        """Everything that changed, with timers and index fields up to date."""
        changeset = Changeset(self.KIND, self.stored, self.document, self._parts, self._events, part_id=part_id)
        if changeset.has_changes:
            self.document["updated_at"] = max(self._requested_at, self.document["updated_at"])
            self.refresh_index_keys()
            before = {} if self.stored is None else dict(self.deadlines(self.stored))
            for kind, due_at in self.deadlines(self.document):
                self._set_timer(changeset, kind, before.get(kind), due_at)
        return changeset

    def refresh_index_keys(self) -> None:
        """Set the fields of the inbox indexes, if this kind of thread has them."""

    def deadlines(self, document: T) -> Iterator[tuple[str, datetime | None]]:
        """The timer kinds of a document, and when each is due (None: not at all)."""
        yield from ()

    def _set_timer(self, changeset: Changeset[T], kind: str, before: datetime | None, due_at: datetime | None) -> None:
        workspace_id, id_ = self.document["workspace_id"], self.document["_id"]
        if due_at is not None and due_at != before:
            changeset.timers.append(timer_of(workspace_id, kind, id_, due_at))
        elif due_at is None and before is not None:
            changeset.cancelled.append(timer_id_of(workspace_id, kind, id_))


def public_words(shown_texts: Sequence[str | None], said: Sequence[str]) -> list[str]:
    """The words by which the contact finds its thread: those of its shown texts and of its public parts (`said`)."""
    return with_words([*extract_words(*shown_texts), *said], ())


def said_words(document: T) -> list[str]:
    """The words of the public parts; in a document that is not migrated also those of earlier titles."""
    return document.get("said_words", document["public_words"])


def timers_of(kind: ThreadKind, workspace_id: str, id_: str) -> list[str]:
    """The ids of all timers that a thread of that kind can have."""
    return [timer_id_of(workspace_id, f"{kind.value}_{name}", id_) for name in (SNOOZE, SLA)]


def unknown_thread(kind: ThreadKind, id_: str, path: tuple[str, ...]) -> UserProblem:
    return UserProblem(ErrorCode.NOT_FOUND, f"There is no {kind.value} with the id '{id_}': correct the id.", path)


def check_moment(at: datetime | None, document: T, path: tuple[str, ...] = ("createdAt",)) -> None:
    """Raise UserProblem if `at` is before the newest part: parts are added in order."""
    if at is not None and at < document["last_part_at"]:
        raise UserProblem(
            ErrorCode.INVALID,
            f"{path[-1]} {at.isoformat()} is before the newest part of the history "
            f"({document['last_part_at'].isoformat()}): send parts in order, or leave it out.",
            path,
        )


def _copied(document: T) -> T:
    # Two levels deep: nested objects and lists are changed in place.
    copy = {
        name: dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else value
        for name, value in document.items()
    }
    return cast(T, copy)
