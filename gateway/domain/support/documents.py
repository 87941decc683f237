"""The documents of conversations, tickets and their parts, ticket types and teammates, as they are stored."""

from datetime import datetime
from typing import NotRequired, TypedDict, TypeVar

from gateway.core.json_values import JsonObject


class StoredActor(TypedDict):
    """Who did something. Without `id`: the automation."""

    kind: str
    id: NotRequired[str]


class Source(TypedDict):
    channel: str
    delivered_as: str
    body: str
    subject: NotRequired[str]
    url: NotRequired[str]
    author: StoredActor


class Rating(TypedDict):
    """The contact's rating: a score from 1 to 5, and the admin that it is about."""

    score: int
    rated_at: datetime
    remark: NotRequired[str]
    admin_id: NotRequired[str]


class SlaDocument(TypedDict):
    """`due_at`: when a running target ends."""

    name: str
    status: str
    first_reply_minutes: NotRequired[int]
    next_reply_minutes: NotRequired[int]
    due_at: NotRequired[datetime]


class Statistics(TypedDict):
    """Counts and times of a thread. Tickets have the counts of parts alone."""

    part_count: int
    public_part_count: int
    reopen_count: NotRequired[int]
    assignment_count: NotRequired[int]
    closed_at: NotRequired[datetime]
    first_reply_at: NotRequired[datetime]
    first_reply_seconds: NotRequired[int]
    last_admin_reply_at: NotRequired[datetime]
    last_contact_reply_at: NotRequired[datetime]


class ThreadFields(TypedDict):
    """What conversations and tickets have in common. `words`: what teammates find it by; `public_words`: the contact."""

    _id: str
    workspace_id: str
    contact_id: str
    state: str
    tags: list[str]
    created_at: datetime
    updated_at: datetime
    last_part_at: datetime
    statistics: Statistics
    words: list[str]
    public_words: list[str]
    said_words: NotRequired[list[str]]
    title: NotRequired[str]
    assignee_id: NotRequired[str]
    team_id: NotRequired[str]
    snoozed_until: NotRequired[datetime]
    lists: NotRequired[list[str]]
    updated_key: NotRequired[str]
    version: NotRequired[int]


class ConversationDocument(ThreadFields):
    """`waiting_since`: since when the contact waits for a reply. `contact_reads`: the last times it read."""

    priority: str
    read: bool
    read_by_contact: bool
    custom_attributes: JsonObject
    source: Source
    contact_reads: NotRequired[list[datetime]]
    waiting_since: NotRequired[datetime]
    first_contact_at: NotRequired[datetime]
    last_admin_id: NotRequired[str]
    rating: NotRequired[Rating]
    sla: NotRequired[SlaDocument]
    ticket_id: NotRequired[str]
    waiting_key: NotRequired[str]
    due_key: NotRequired[str]


class TicketDocument(ThreadFields):
    """`submitted_title`, `submitted_description`: as the ticket began."""

    type_id: str
    category: str
    is_shared: bool
    attributes: JsonObject
    author: StoredActor
    number: NotRequired[int]
    number_key: NotRequired[str]
    description: NotRequired[str]
    submitted_title: NotRequired[str]
    submitted_description: NotRequired[str]
    resolved_at: NotRequired[datetime]
    conversation_id: NotRequired[str]


T = TypeVar("T", ConversationDocument, TicketDocument)


class PartFields(TypedDict, total=False):
    assigned_to: str | None
    snoozed_until: datetime
    from_state: str
    to_state: str


class PartDocument(PartFields):
    """A part of a thread (`subject_id`)."""

    _id: str
    workspace_id: str
    subject_id: str
    contact_id: str
    kind: str
    author: StoredActor
    created_at: datetime
    body: NotRequired[str]


class TicketAttribute(TypedDict):
    name: str
    kind: str
    required: bool
    visible_to_contacts: bool
    options: NotRequired[list[str]]


class NamedDocument(TypedDict):
    _id: str
    workspace_id: str
    name: str
    archived: bool
    created_at: datetime


class TicketTypeDocument(NamedDocument):
    name_lower: str
    category: str
    attributes: list[TicketAttribute]
    description: NotRequired[str]


class AdminDocument(NamedDocument):
    email: str
    email_lower: str
    avatar_url: NotRequired[str]


class TeamDocument(NamedDocument):
    name_lower: str
    admin_ids: list[str]


class TicketNumberDocument(TypedDict):
    """The last number of a workspace's tickets. The id is the workspace's."""

    _id: str
    workspace_id: str
    number: int
