"""Conversations: their document and the commands that change it. Pure: time, ids and the actor are arguments.

Deadlines that passed before a command (end of a snooze, SLA target) are applied first, with the time at which they
were due. So the result does not depend on when a timer runs.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, NotRequired, TypedDict

from gateway.core.ids import Minter, Prefix
from gateway.core.json_values import JsonObject
from gateway.domain.change_kinds import ChangeKind
from gateway.domain.contacts.contacts import json_differs, merged_attributes
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.support import sla as sla_rules
from gateway.domain.support.actors import AUTOMATION, Actor, ActorKind, actor_of
from gateway.domain.support.documents import ConversationDocument, Rating, SlaDocument, Source, Statistics
from gateway.domain.support.inbox_keys import sort_key, with_sparse
from gateway.domain.support.threads import SLA, SNOOZE, Assignees, PartKind, ThreadAggregate, ThreadKind
from gateway.errors import ErrorCode, UserProblem

MAX_READS = 100
SNOOZE_TIMER = f"{ThreadKind.CONVERSATION}_{SNOOZE}"
SLA_TIMER = f"{ThreadKind.CONVERSATION}_{SLA}"


class ConversationState(StrEnum):
    OPEN = "OPEN"
    SNOOZED = "SNOOZED"
    CLOSED = "CLOSED"


class Channel(StrEnum):
    CHAT = "CHAT"
    EMAIL = "EMAIL"
    PHONE = "PHONE"
    SMS = "SMS"
    WHATSAPP = "WHATSAPP"
    FACEBOOK = "FACEBOOK"
    INSTAGRAM = "INSTAGRAM"
    TWITTER = "TWITTER"
    PUSH = "PUSH"
    PHONE_SWITCH = "PHONE_SWITCH"
    API = "API"


class DeliveredAs(StrEnum):
    CUSTOMER_INITIATED = "CUSTOMER_INITIATED"
    ADMIN_INITIATED = "ADMIN_INITIATED"
    OPERATOR_INITIATED = "OPERATOR_INITIATED"
    CAMPAIGNS_INITIATED = "CAMPAIGNS_INITIATED"
    AUTOMATED = "AUTOMATED"


class Priority(StrEnum):
    NONE = "NONE"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    URGENT = "URGENT"


class NewSource(TypedDict):
    channel: str
    delivered_as: str
    body: str
    subject: NotRequired[str]
    url: NotRequired[str]


class NewConversation(TypedDict):
    """The values of a new conversation, without its author."""

    source: NewSource
    title: NotRequired[str | None]
    tags: NotRequired[list[str]]
    custom_attributes: NotRequired[JsonObject]


class ConversationChanges(TypedDict):
    """The values to set; None clears. In `custom_attributes` a key with None is removed, and others stay."""

    title: NotRequired[str | None]
    priority: NotRequired[str]
    custom_attributes: NotRequired[JsonObject | None]
    add_tags: NotRequired[list[str]]
    remove_tags: NotRequired[list[str]]


def new_conversation(
    id_: str, contact: ContactDocument, values: NewConversation, author: Actor, at: datetime
) -> ConversationDocument:
    by_contact, by_admin = author.is_contact, author.kind is ActorKind.ADMIN
    statistics: Statistics = {"part_count": 0, "public_part_count": 0, "reopen_count": 0, "assignment_count": 0}
    source: Source = {**values["source"], "author": author.stored}
    conversation: ConversationDocument = {
        "_id": id_,
        "workspace_id": contact["workspace_id"],
        "contact_id": contact["_id"],
        "state": ConversationState.OPEN.value,
        "priority": Priority.NONE.value,
        "read": by_admin,
        "read_by_contact": by_contact,
        "tags": values.get("tags", []),
        "custom_attributes": values.get("custom_attributes", {}),
        "created_at": at,
        "updated_at": at,
        "last_part_at": at,
        "statistics": statistics,
        "words": [],
        "public_words": [],
        "said_words": [],
        "source": source,
    }
    if by_contact:
        conversation["waiting_since"] = conversation["first_contact_at"] = at
    if (title := values.get("title")) is not None:
        conversation["title"] = title
    return conversation


class ConversationAggregate(ThreadAggregate[ConversationDocument]):
    KIND: ClassVar[ThreadKind] = ThreadKind.CONVERSATION
    PART_PREFIX: ClassVar[Prefix] = Prefix.CONVERSATION_PART
    ASSIGNED = ChangeKind.CONVERSATION_ASSIGNED

    def __init__(
        self, stored: ConversationDocument, actor: Actor, at: datetime, minter: Minter, *, new: bool = False
    ) -> None:
        """Apply the deadlines up to `at`, unless the conversation is new."""
        super().__init__(stored, actor, at, minter, new=new)
        if not new:
            self._apply_deadlines(at)

    @classmethod
    def created(
        cls, document: ConversationDocument, minter: Minter, assigned: Assignees | None = None
    ) -> "ConversationAggregate":
        """Create a conversation, and assign it if `assigned` has a `team_id` or `assignee_id`."""
        aggregate = cls(document, actor_of(document["source"]["author"]), document["created_at"], minter, new=True)
        aggregate.index_text(*cls.shown_texts(document))
        aggregate.emit(ChangeKind.CONVERSATION_CREATED, public=True)
        if assigned:
            aggregate.assign(assigned)
        return aggregate

    @staticmethod
    def shown_texts(document: ConversationDocument) -> list[str | None]:
        return [document.get("title"), document["source"].get("subject"), document["source"]["body"]]

    def reply(self, body: str, *, note: bool) -> str:
        """Add a reply, or a note that only teammates see; returns the part id."""
        return self.note(body) if note else self.comment(body)

    def comment(self, body: str) -> str:
        """Add a public reply and return its part id. A contact's reply reopens a closed or snoozed conversation."""
        at = self.at
        part_id = self.add_part(PartKind.COMMENT, body)
        self.emit(ChangeKind.CONVERSATION_REPLIED, part_id, public=True)
        if self.actor.is_contact and self._state is not ConversationState.OPEN:
            self._open(None)
        self._record_reply(at)
        return part_id

    def note(self, body: str) -> str:
        part_id = self.add_part(PartKind.NOTE, body)
        self.emit(ChangeKind.CONVERSATION_NOTED, part_id)
        return part_id

    def snooze(self, until: datetime) -> str:
        part_id = self.add_part(PartKind.SNOOZE, snoozed_until=until)
        self.document["state"] = ConversationState.SNOOZED.value
        self.document["snoozed_until"] = until
        self.emit(ChangeKind.CONVERSATION_SNOOZED, part_id)
        return part_id

    def close(self, body: str | None = None) -> str:
        """Close it, with an optional reply; closing a closed conversation adds a part too. Returns the part id."""
        at = self.at
        part_id = self.add_part(PartKind.CLOSE, body)
        if body is not None:
            self._record_reply(at, expects_reply=False)
        self.document["state"] = ConversationState.CLOSED.value
        self.document["statistics"]["closed_at"] = at
        self.document.pop("snoozed_until", None)
        self.document.pop("waiting_since", None)
        self.emit(ChangeKind.CONVERSATION_CLOSED, part_id, public=True)
        self._set_sla(sla_rules.closed)
        return part_id

    def reopen(self, body: str | None = None) -> str:
        """Reopen it, with an optional reply; ILLEGAL_TRANSITION if it is open. Returns the part id."""
        if self._state is ConversationState.OPEN:
            message = "The conversation is open: only a closed or snoozed one can be reopened."
            raise UserProblem(ErrorCode.ILLEGAL_TRANSITION, message, ("id",))
        at = self.at
        part_id = self._open(body)
        if body is not None:
            self._record_reply(at)
        return part_id

    def read(self) -> None:
        """Mark it as read by the contact or by the teammates; a repeated read changes nothing."""
        if self.document["read_by_contact"] if self.actor.is_contact else self.document["read"]:
            return
        if self.actor.is_contact:
            self.document["read_by_contact"] = True
            self.document["contact_reads"] = [*self.document.get("contact_reads", ()), self.at][-MAX_READS:]
        else:
            self.document["read"] = True
        self.emit(ChangeKind.CONVERSATION_READ, public=self.actor.is_contact)

    def rate(self, score: int, remark: str | None) -> str:
        """Set the contact's rating in place of an earlier one; returns the part id."""
        admin_id = self.document.get("last_admin_id") or self.document.get("assignee_id")
        part_id = self.add_part(PartKind.RATING, remark)
        rating: Rating = {"score": score, "rated_at": self.document["last_part_at"]}
        if remark is not None:
            rating["remark"] = remark
        if admin_id is not None:
            rating["admin_id"] = admin_id
        self.document["rating"] = rating
        self.emit(ChangeKind.CONVERSATION_RATED, part_id, public=True)
        return part_id

    def update(self, values: ConversationChanges) -> str | None:
        """Set title, priority, tags and custom attributes; returns the id of the tag part, None if no tag changed."""
        before = self.document.copy()
        self._edit(values)
        part_id = self.change_tags(values.get("add_tags", ()), values.get("remove_tags", ()))
        retitled = self.document.get("title") != before.get("title")
        if retitled:
            self.learn_edited(self.document.get("title"))
        names = ("title", "priority", "custom_attributes")
        if part_id is not None or any(json_differs(self.document.get(name), before.get(name)) for name in names):
            self.emit(ChangeKind.CONVERSATION_UPDATED, part_id, public=retitled)
        return part_id

    def _edit(self, values: ConversationChanges) -> None:
        if "title" in values:
            if values["title"] is None:
                self.document.pop("title", None)
            else:
                self.document["title"] = values["title"]
        if "priority" in values:
            self.document["priority"] = values["priority"]
        if "custom_attributes" in values:
            attributes = values["custom_attributes"]
            stored = self.document["custom_attributes"]
            self.document["custom_attributes"] = {} if attributes is None else merged_attributes(stored, attributes)

    def apply_sla(self, sla: SlaDocument) -> str:
        """Replace the SLA; its target starts now if the contact is waiting. Returns the part id."""
        at = self.at
        is_waiting = self.document.get("waiting_since") is not None
        self.document["sla"] = sla_rules.waiting(sla, at, answered=self._has_admin_reply) if is_waiting else sla
        return self._emit_sla_change(self.actor)

    def convert(self, ticket_id: str, *, public: bool) -> None:
        """Link the ticket; CONFLICT if it has one already. `public`: the contact sees the ticket."""
        if "ticket_id" in self.document:
            message = (
                f"The conversation already has the ticket {self.document['ticket_id']}: a conversation has at most one."
            )
            raise UserProblem(ErrorCode.CONFLICT, message, ("conversationId",))
        self.document["ticket_id"] = ticket_id
        self.emit(ChangeKind.CONVERSATION_UPDATED, public=public)

    def refresh_index_keys(self) -> None:
        keys = index_keys_of(self.document)
        self.document["lists"], self.document["updated_key"] = keys["lists"], keys["updated_key"]
        self.document["waiting_key"], self.document["due_key"] = keys["waiting_key"], keys["due_key"]

    def deadlines(self, document: ConversationDocument) -> Iterator[tuple[str, datetime | None]]:
        yield SNOOZE_TIMER, document.get("snoozed_until")
        yield SLA_TIMER, sla_rules.target_of(document.get("sla"))

    def _apply_deadlines(self, now: datetime) -> None:
        for due_at, apply in sorted(self._open_deadlines(), key=lambda pair: pair[0]):
            if due_at <= now:
                apply(due_at)

    def _open_deadlines(self) -> list[tuple[datetime, Callable[[datetime], None]]]:
        pairs: list[tuple[datetime | None, Callable[[datetime], None]]] = [
            (self.document.get("snoozed_until"), self._end_snooze),
            (sla_rules.target_of(self.document.get("sla")), self._breach_sla),
        ]
        return [(due_at, apply) for due_at, apply in pairs if due_at is not None]

    def _end_snooze(self, due_at: datetime) -> None:
        part_id = self.add_part(PartKind.UNSNOOZE, author=AUTOMATION, at=due_at)
        self.document["state"] = ConversationState.OPEN.value
        self.document.pop("snoozed_until", None)
        self.emit(ChangeKind.CONVERSATION_UNSNOOZED, part_id)

    def _breach_sla(self, due_at: datetime) -> None:
        self.document["sla"] = sla_rules.missed(self.document["sla"])
        self._emit_sla_change(AUTOMATION, due_at)

    @property
    def _state(self) -> ConversationState:
        return ConversationState(self.document["state"])

    @property
    def _has_admin_reply(self) -> bool:
        return "first_reply_at" in self.document["statistics"]

    def _open(self, body: str | None) -> str:
        part_id = self.add_part(PartKind.OPEN, body)
        self.document["state"] = ConversationState.OPEN.value
        self.document.pop("snoozed_until", None)
        self.document["statistics"]["reopen_count"] += 1
        self.emit(ChangeKind.CONVERSATION_REOPENED, part_id, public=True)
        return part_id

    def _record_reply(self, at: datetime, *, expects_reply: bool = True) -> None:
        # A message of the automation is no reply: a waiting contact goes on waiting.
        if self.actor.is_contact:
            self._record_contact_reply(at, expects_reply)
        elif self.actor.kind is ActorKind.ADMIN:
            self._record_admin_reply(at)
        else:
            self.document["read_by_contact"] = False

    def _record_contact_reply(self, at: datetime, expects_reply: bool) -> None:
        self.document["statistics"]["last_contact_reply_at"] = at
        self.document.setdefault("first_contact_at", at)
        self.document["read"], self.document["read_by_contact"] = False, True
        if expects_reply and self.document.get("waiting_since") is None:
            self.document["waiting_since"] = at
            self._set_sla(lambda sla: sla_rules.waiting(sla, at, answered=self._has_admin_reply))

    def _record_admin_reply(self, at: datetime) -> None:
        statistics, first_contact_at = self.document["statistics"], self.document.get("first_contact_at")
        if first_contact_at is not None and not self._has_admin_reply:
            statistics["first_reply_at"] = at
            statistics["first_reply_seconds"] = int((at - first_contact_at).total_seconds())
        statistics["last_admin_reply_at"] = at
        self.document["read"], self.document["read_by_contact"] = True, False
        self.document["last_admin_id"] = str(self.actor.id)
        self.document.pop("waiting_since", None)
        self._set_sla(sla_rules.replied)

    def _set_sla(self, change: Callable[[SlaDocument], SlaDocument]) -> None:
        before = self.document.get("sla")
        if before is None:
            return
        after = self.document["sla"] = change(before)
        if after["status"] != before["status"]:
            self._emit_sla_change(AUTOMATION)
        elif after.get("due_at") != before.get("due_at"):
            self.emit(ChangeKind.CONVERSATION_SLA_CHANGED)

    def _emit_sla_change(self, author: Actor, at: datetime | None = None) -> str:
        sla = self.document["sla"]
        part_id = self.add_part(PartKind.SLA, f"{sla['name']}: {sla['status']}", author=author, at=at)
        self.emit(ChangeKind.CONVERSATION_SLA_CHANGED, part_id)
        return part_id


EVERYTHING = "*"


class ConversationKeys(TypedDict):
    lists: list[str]
    updated_key: str
    waiting_key: str
    due_key: str


def index_keys_of(conversation: ConversationDocument) -> ConversationKeys:
    """The fields of the inbox indexes: the lists, and a sort key for each order."""
    id_, sla = conversation["_id"], conversation.get("sla")
    return {
        "lists": lists_of(conversation),
        "updated_key": sort_key(id_, conversation["updated_at"]),
        "waiting_key": sort_key(id_, conversation.get("waiting_since")),
        "due_key": sort_key(id_, None if sla is None else sla.get("due_at")),
    }


def lists_of(conversation: ConversationDocument) -> list[str]:
    """The inbox lists that hold a conversation: all, by state, by assignment, by both, and their sparse lists."""
    state = f"state:{conversation['state']}"
    assignments = [assigned_list(conversation.get("assignee_id"))]
    if (team_id := conversation.get("team_id")) is not None:
        assignments.append(team_list(team_id))
    return with_sparse(
        conversation["_id"], [EVERYTHING, state, *assignments, *(f"{state} {list_}" for list_ in assignments)]
    )


def assigned_list(admin_id: str | None) -> str:
    """The list of conversations assigned to an admin, or to none (None)."""
    return f"assignee:{admin_id or ''}"


def team_list(team_id: str) -> str:
    return f"team:{team_id}"
