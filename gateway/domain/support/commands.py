"""Commands on conversations, tickets, ticket types and teammates, as callers send them."""

from dataclasses import dataclass
from datetime import datetime
from typing import NotRequired, TypedDict

from gateway.core.json_values import JsonObject
from gateway.core.unset import UNSET, Unset
from gateway.domain.contacts.documents import ContactRefFields


class ActorRef(TypedDict, total=False):
    contact_id: str
    admin_id: str


@dataclass(frozen=True, slots=True)
class CreateConversation:
    """A new conversation, and its contact if it does not exist."""

    contact: ContactRefFields
    body: str
    subject: str | None = None
    title: str | None = None
    url: str | None = None
    channel: str | None = None
    delivered_as: str | None = None
    actor: ActorRef | None = None
    assignee_id: str | None = None
    team_id: str | None = None
    custom_attributes: JsonObject | None = None
    tags: list[str] | None = None
    created_at: datetime | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewTicket:
    type_id: str
    title: str
    description: str | None = None
    attributes: JsonObject | None = None
    actor: ActorRef | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTicket(_NewTicket):
    """A new ticket, and its contact if it does not exist."""

    contact: ContactRefFields
    tags: list[str] | None = None
    assignee_id: str | None = None
    team_id: str | None = None
    is_shared: bool | None = None
    conversation_id: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertToTicket(_NewTicket):
    conversation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply to a thread, or a note that only teammates see."""

    body: str
    note: bool | None = None
    actor: ActorRef | None = None
    created_at: datetime | None = None
    idempotency_key: str | None = None

    @property
    def thread_id(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyToConversation(Reply):
    conversation_id: str

    @property
    def thread_id(self) -> str:
        return self.conversation_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyToTicket(Reply):
    ticket_id: str

    @property
    def thread_id(self) -> str:
        return self.ticket_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadCommand:
    id: str
    actor: ActorRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignThread(ThreadCommand):
    """None takes an assignee away."""

    assignee_id: str | Unset | None = UNSET
    team_id: str | Unset | None = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class SnoozeConversation(ThreadCommand):
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseConversation(ThreadCommand):
    body: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReopenConversation(ThreadCommand):
    body: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkConversationRead(ThreadCommand): ...


@dataclass(frozen=True, slots=True)
class RateConversation:
    id: str
    score: int
    remark: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateConversation(ThreadCommand):
    """None clears; in `custom_attributes` a key with None is removed, and others stay."""

    title: str | Unset | None = UNSET
    priority: str | Unset | None = UNSET
    add_tags: list[str] | None = None
    remove_tags: list[str] | None = None
    custom_attributes: JsonObject | Unset | None = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplySla(ThreadCommand):
    """By when a conversation is to be answered; at least one target."""

    name: str
    first_reply_minutes: int | None = None
    next_reply_minutes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTicketState(ThreadCommand):
    """Move a ticket to another state, with an optional comment."""

    state: str
    body: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateTicket(ThreadCommand):
    """None clears; in `attributes` a name with None is removed, and others stay."""

    title: str | Unset | None = UNSET
    description: str | Unset | None = UNSET
    attributes: JsonObject | Unset | None = UNSET
    add_tags: list[str] | None = None
    remove_tags: list[str] | None = None
    is_shared: bool | None = None
    snoozed_until: datetime | Unset | None = UNSET


class TicketAttributeFields(TypedDict):
    """An attribute of a ticket type, as a caller describes it."""

    name: str
    kind: str
    required: NotRequired[bool | None]
    options: NotRequired[list[str] | None]
    visible_to_contacts: NotRequired[bool | None]


@dataclass(frozen=True, slots=True)
class SaveTicketType:
    """A new type, or the one with that id; None clears."""

    name: str
    category: str
    id: str | None = None
    description: str | Unset | None = UNSET
    attributes: list[TicketAttributeFields] | Unset | None = UNSET
    archived: bool | Unset | None = UNSET


@dataclass(frozen=True, slots=True)
class SaveAdmin:
    """A new admin, or the one with that id; None clears."""

    name: str
    email: str
    id: str | None = None
    avatar_url: str | Unset | None = UNSET
    archived: bool | Unset | None = UNSET


@dataclass(frozen=True, slots=True)
class SaveTeam:
    name: str
    admin_ids: list[str]
    id: str | None = None
    archived: bool | Unset | None = UNSET
