"""Acts: what somebody does to a conversation or a ticket becomes one change: its document, new parts, what is told."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

from gateway.core.full_text import extract_words, with_words
from gateway.core.ids import Minter, Prefix
from gateway.core.timers import timer_id_of, timer_of
from gateway.domain.contacts.contacts import Document, json_differs
from gateway.domain.support.actors import Actor
from gateway.errors import ErrorCode, UserProblem

MATCHED_FIELDS = ("state", "assignee_id", "team_id")  # what filters of streams match
_TICK = timedelta(milliseconds=1)


class ThreadKind(StrEnum):
    """What is acted on."""

    CONVERSATION = "conversation"
    TICKET = "ticket"


class PartKind(StrEnum):
    """What a part of a history tells."""

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


# What a contact sees of its own history: what was said to it or by it, and where things stand.
PUBLIC_PARTS = frozenset({PartKind.COMMENT, PartKind.OPEN, PartKind.CLOSE, PartKind.RATING, PartKind.STATE})


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """One line of the journal; `public`: the contact whose subject it is may hear of it."""

    kind: str
    part_id: str | None = None
    is_public: bool = False


@dataclass(slots=True)
class Changeset:
    """What an act makes of its subject: `before` is None where it is new. `timers` are set, those in `cancelled` deleted."""

    kind: ThreadKind
    before: Document | None
    after: Document
    parts: list[Document] = field(default_factory=list)
    events: list[DomainEvent] = field(default_factory=list)
    timers: list[Document] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    part_id: str | None = None  # of the part that tells of the act itself

    @property
    def part(self) -> Document | None:
        """The part that tells of the act itself."""
        return next((part for part in self.parts if part["_id"] == self.part_id), None)

    @property
    def has_changes(self) -> bool:
        """Whether there is anything to be stored."""
        return bool(self.parts or self.events)

    def fields(self) -> Document:
        """The fields that differ, cleared ones as None."""
        before = self.before or {}
        names = [*self.after, *(name for name in before if name not in self.after)]
        return {name: self.after.get(name) for name in names if json_differs(self.after.get(name), before.get(name))}


class ThreadAggregate:
    """Somebody acts on one subject: methods of a kind of subject change `document`, which is a copy of what is stored."""

    KIND: ClassVar[ThreadKind]
    PART_PREFIX: ClassVar[Prefix]

    def __init__(self, stored: Document, actor: Actor, at: datetime, minter: Minter, *, new: bool = False) -> None:
        """`at`: when it is done; where the history reaches further, right after its end."""
        self.stored = None if new else stored
        self.document = _copied(stored)
        self.actor = actor
        self._minter = minter
        self._asked_at = at
        self._parts: list[Document] = []
        self._told: list[DomainEvent] = []

    @property
    def at(self) -> datetime:
        """When the next part happens: parts lie in the order in which they are stored, each at a time of its own."""
        last: datetime | None = self.document.get("last_part_at")
        return self._asked_at if last is None else max(self._asked_at, last + _TICK)

    def add_part(
        self,
        kind: PartKind,
        body: str | None = None,
        *,
        author: Actor | None = None,
        at: datetime | None = None,
        **more: Any,
    ) -> str:
        """Add a part to the history; its id."""
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
            **{name: value for name, value in more.items() if value is not None},
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
        """Let the subject be found by the words of these texts."""
        self.document["words"] = with_words(self.document["words"], texts)
        if public:
            self.document["public_words"] = with_words(self.document["public_words"], texts)

    def learn_edited(self, *texts: str | None) -> None:
        """Index these texts in place of earlier ones, by which the contact no longer finds the subject."""
        self.index_text(*texts, public=False)
        self.document["said_words"] = said_words(self.document)
        self.document["public_words"] = public_words(self.shown_texts(self.document), self.document["said_words"])

    @staticmethod
    def shown_texts(document: Mapping[str, Any]) -> Sequence[str | None]:
        """The texts of the subject itself that its contact sees, beside those of its parts."""
        raise NotImplementedError

    def emit(self, kind: str, part_id: str | None = None, *, public: bool = False) -> None:
        """Let the journal say so."""
        self._told.append(DomainEvent(kind, part_id, public))

    def changeset(self, part_id: str | None = None) -> Changeset:
        """All that the act changes; `part_id`: of the part that tells of it."""
        found = Changeset(self.KIND, self.stored, self.document, self._parts, self._told, part_id=part_id)
        if found.has_changes:
            self.document["updated_at"] = max(self._asked_at, self.document["updated_at"])
            self.refresh_index_keys()
            before = {} if self.stored is None else dict(self.deadlines(self.stored))
            for kind, due_at in self.deadlines(self.document):
                self._set_timer(found, kind, before.get(kind), due_at)
        return found

    def refresh_index_keys(self) -> None:
        """Say in the document which lists it stands in now."""

    def deadlines(self, document: Mapping[str, Any]) -> Iterator[tuple[str, datetime | None]]:
        """The kinds of timers of such a document, and when each is due."""
        yield from ()

    def _set_timer(self, change: Changeset, kind: str, before: datetime | None, due_at: datetime | None) -> None:
        workspace_id, id_ = self.document["workspace_id"], self.document["_id"]
        if due_at is not None and due_at != before:
            change.timers.append(timer_of(workspace_id, kind, id_, due_at))
        elif due_at is None and before is not None:
            change.cancelled.append(timer_id_of(workspace_id, kind, id_))


def change_events_of(change: Changeset, mint: Callable[[], str], now: datetime) -> list[Document]:
    """The lines of the journal that tell a change, in order; ids by `mint`."""
    before, after = (_matched(document) for document in (change.before, change.after))
    return [
        {
            "_id": mint(),
            "workspace_id": change.after["workspace_id"],
            "subject": change.kind.value,
            "kind": told.kind,
            f"{change.kind.value}_id": change.after["_id"],
            "contact_id": change.after["contact_id"],
            "part_id": told.part_id,
            "public": told.is_public,
            "before": before,
            "after": after,
            "at": now,
        }
        for told in change.events
    ]


def public_words(shown_texts: Sequence[str | None], said: Sequence[str]) -> list[str]:
    """The words by which a contact finds its subject: those of its shown texts, and those of its public parts."""
    return with_words([*extract_words(*shown_texts), *said], ())


def said_words(document: Mapping[str, Any]) -> list[str]:
    """The words of the parts that a contact sees; of a document that is not migrated also those of earlier titles."""
    words: list[str] = document.get("said_words", document["public_words"])
    return words


def timers_of(subject: ThreadKind, workspace_id: str, id_: str) -> list[str]:
    """The ids of the timers that such a subject may have."""
    return [timer_id_of(workspace_id, kind, id_) for kind in (f"{subject.value}_snooze", f"{subject.value}_sla")]


def deletion_line(subject: ThreadKind, document: Mapping[str, Any], line_id: str, now: datetime) -> Document:
    """The line of the journal that tells that a subject is erased with its contact: ids, and whose it was."""
    gone = Changeset(subject, dict(document), dict(document), events=[DomainEvent("DELETED", is_public=True)])
    (line,) = change_events_of(gone, lambda: line_id, now)
    return {**line, "after": None}


def unknown_thread(subject: ThreadKind, id_: str, path: tuple[str, ...]) -> UserProblem:
    """That there is none of that id."""
    return UserProblem(ErrorCode.NOT_FOUND, f"There is no {subject.value} with the id '{id_}'.", path)


def check_moment(at: datetime | None, document: Mapping[str, Any], path: tuple[str, ...] = ("createdAt",)) -> None:
    """Pass where a part of that time would be the newest: histories are written in order; UserProblem."""
    if at is not None and at < document["last_part_at"]:
        raise UserProblem(
            ErrorCode.INVALID,
            f"{path[-1]} {at.isoformat()} lies before the newest part of the history "
            f"({document['last_part_at'].isoformat()}): send parts in their order, or leave it out.",
            path,
        )


def _matched(document: Document | None) -> Document | None:
    return None if document is None else {name: document.get(name) for name in MATCHED_FIELDS}


def _copied(document: Document) -> Document:
    """A copy whose nested objects and lists are its own too."""
    return {
        name: dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else value
        for name, value in document.items()
    }
