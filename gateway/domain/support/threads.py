"""Threads: what conversations and tickets share. A command changes a document, adds parts and emits domain events."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

from gateway.core.full_text import extract_words, with_words
from gateway.core.ids import Minter, Prefix
from gateway.core.timers import timer_id_of, timer_of
from gateway.domain.change_kinds import ChangeKind
from gateway.domain.contacts.contacts import Document, json_differs
from gateway.domain.support.actors import Actor
from gateway.errors import ErrorCode, UserProblem

MATCHED_FIELDS = ("state", "assignee_id", "team_id")  # the fields that subscription filters match
_TICK = timedelta(milliseconds=1)


class ThreadKind(StrEnum):
    """The kinds of threads; also the prefix of stored names."""

    CONVERSATION = "conversation"
    TICKET = "ticket"


class PartKind(StrEnum):
    """What a part of a thread records."""

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
class Changeset:
    """What a command changes in one thread.

    `before` is None for a new thread. `timers` are set; `cancelled` has the ids of those to delete."""

    kind: ThreadKind
    before: Document | None
    after: Document
    parts: list[Document] = field(default_factory=list)
    events: list[DomainEvent] = field(default_factory=list)
    timers: list[Document] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    part_id: str | None = None  # of the part that records the command itself

    @property
    def part(self) -> Document | None:
        """The part that records the command itself, if there is one."""
        return next((part for part in self.parts if part["_id"] == self.part_id), None)

    @property
    def has_changes(self) -> bool:
        """Whether there is anything to store."""
        return bool(self.parts or self.events)

    def fields(self) -> Document:
        """The changed fields; None for removed ones."""
        before = self.before or {}
        names = [*self.after, *(name for name in before if name not in self.after)]
        return {name: self.after.get(name) for name in names if json_differs(self.after.get(name), before.get(name))}


class ThreadAggregate:
    """Applies commands of one actor to a copy of the stored document; `changeset` returns what changed."""

    KIND: ClassVar[ThreadKind]
    PART_PREFIX: ClassVar[Prefix]

    def __init__(self, stored: Document, actor: Actor, at: datetime, minter: Minter, *, new: bool = False) -> None:
        """`at`: the time of the command; parts get a later time if the thread has newer parts."""
        self.stored = None if new else stored
        self.document = _copied(stored)
        self.actor = actor
        self._minter = minter
        self._requested_at = at
        self._parts: list[Document] = []
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
        **fields: Any,
    ) -> str:
        """Add a part with these further fields and return its id."""
        at = self.at if at is None else max(at, self.document["last_part_at"] + _TICK)
        part = {
            "_id": self._minter.mint(self.PART_PREFIX, at),
            "workspace_id": self.document["workspace_id"],
            "subject_id": self.document["_id"],
            "contact_id": self.document["contact_id"],
            "kind": kind.value,
            "author": (author or self.actor).stored,
            "created_at": at,
            **({} if body is None else {"body": body}),
            **{name: value for name, value in fields.items() if value is not None},
        }
        self._parts.append(part)
        self.document["last_part_at"] = at
        statistics, public = self.document["statistics"], kind in PUBLIC_PARTS
        statistics["part_count"] += 1
        statistics["public_part_count"] += public
        self.index_text(body, public=public)
        if public:
            self.document["said_words"] = with_words(said_words(self.document), [body])
        return str(part["_id"])

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

    @staticmethod
    def shown_texts(document: Mapping[str, Any]) -> Sequence[str | None]:
        """The texts of the document itself, without its parts, that the contact sees."""
        raise NotImplementedError

    def emit(self, kind: ChangeKind, part_id: str | None = None, *, public: bool = False) -> None:
        """Add a domain event."""
        self._events.append(DomainEvent(kind, part_id, public))

    def changeset(self, part_id: str | None = None) -> Changeset:
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

    def deadlines(self, document: Mapping[str, Any]) -> Iterator[tuple[str, datetime | None]]:
        """The timer kinds of a document, and when each is due (None: not at all)."""
        yield from ()

    def _set_timer(self, changeset: Changeset, kind: str, before: datetime | None, due_at: datetime | None) -> None:
        workspace_id, id_ = self.document["workspace_id"], self.document["_id"]
        if due_at is not None and due_at != before:
            changeset.timers.append(timer_of(workspace_id, kind, id_, due_at))
        elif due_at is None and before is not None:
            changeset.cancelled.append(timer_id_of(workspace_id, kind, id_))


def public_words(shown_texts: Sequence[str | None], said: Sequence[str]) -> list[str]:
    """The words by which the contact finds its thread: those of its shown texts and of its public parts (`said`)."""
    return with_words([*extract_words(*shown_texts), *said], ())


def said_words(document: Mapping[str, Any]) -> list[str]:
    """The words of the public parts; in a document that is not migrated also those of earlier titles."""
    words: list[str] = document.get("said_words", document["public_words"])
    return words


def timers_of(kind: ThreadKind, workspace_id: str, id_: str) -> list[str]:
    """The ids of all timers that a thread of that kind can have."""
    return [timer_id_of(workspace_id, f"{kind.value}_{timer}", id_) for timer in ("snooze", "sla")]


def unknown_thread(kind: ThreadKind, id_: str, path: tuple[str, ...]) -> UserProblem:
    """The NOT_FOUND problem for a thread id."""
    return UserProblem(ErrorCode.NOT_FOUND, f"There is no {kind.value} with the id '{id_}'.", path)


def check_moment(at: datetime | None, document: Mapping[str, Any], path: tuple[str, ...] = ("createdAt",)) -> None:
    """Raise UserProblem if `at` is before the newest part: parts are added in order."""
    if at is not None and at < document["last_part_at"]:
        raise UserProblem(
            ErrorCode.INVALID,
            f"{path[-1]} {at.isoformat()} lies before the newest part of the history "
            f"({document['last_part_at'].isoformat()}): send parts in their order, or leave it out.",
            path,
        )


def _copied(document: Document) -> Document:
    # Two levels deep: nested objects and lists are changed in place.
    return {
        name: dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else value
        for name, value in document.items()
    }
