"""Every kind of change event, as the change log and the bus name it, with its fields.

The stored names are read by databases in use: a new field is `NotRequired`, and no name changes."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NotRequired, TypedDict

from gateway.domain.contacts.contacts import Document
from gateway.domain.events.documents import SummaryChange


class ChangeKind(StrEnum):
    """What a change event reports: the stored `subject`, a dot, and the stored `kind`."""

    CONTACT_CREATED = "contact.CREATED"
    CONTACT_UPDATED = "contact.UPDATED"
    CONTACT_MERGED = "contact.MERGED"
    CONTACT_DELETED = "contact.DELETED"
    CONTACT_ENTERED_SEGMENT = "contact.ENTERED_SEGMENT"
    CONTACT_LEFT_SEGMENT = "contact.LEFT_SEGMENT"
    CONTACT_SEEN = "seen.SEEN"  # `last_seen_at` alone changed: for segments, never for subscribers

    SUMMARIES_IMPORTED = "summaries.IMPORTED"
    SUMMARIES_MERGED = "summaries.MERGED"
    SUMMARIES_DELETED = "summaries.DELETED"
    DEFINITIONS_REBUILD = "definitions.REBUILD"

    SEGMENT_SAVED = "segment.SAVED"
    SEGMENT_DELETED = "segment.DELETED"

    CONVERSATION_CREATED = "conversation.CREATED"
    CONVERSATION_REPLIED = "conversation.REPLIED"
    CONVERSATION_NOTED = "conversation.NOTED"
    CONVERSATION_ASSIGNED = "conversation.ASSIGNED"
    CONVERSATION_SNOOZED = "conversation.SNOOZED"
    CONVERSATION_UNSNOOZED = "conversation.UNSNOOZED"
    CONVERSATION_CLOSED = "conversation.CLOSED"
    CONVERSATION_REOPENED = "conversation.REOPENED"
    CONVERSATION_READ = "conversation.READ"
    CONVERSATION_RATED = "conversation.RATED"
    CONVERSATION_UPDATED = "conversation.UPDATED"
    CONVERSATION_SLA_CHANGED = "conversation.SLA_CHANGED"
    CONVERSATION_DELETED = "conversation.DELETED"

    TICKET_CREATED = "ticket.CREATED"
    TICKET_SUBMITTED = "ticket.SUBMITTED"
    TICKET_IN_PROGRESS = "ticket.IN_PROGRESS"
    TICKET_WAITING = "ticket.WAITING"
    TICKET_RESOLVED = "ticket.RESOLVED"
    TICKET_REPLIED = "ticket.REPLIED"
    TICKET_NOTED = "ticket.NOTED"
    TICKET_ASSIGNED = "ticket.ASSIGNED"
    TICKET_UPDATED = "ticket.UPDATED"
    TICKET_DELETED = "ticket.DELETED"

    DELIVERY_CHANGED = "delivery.CHANGED"
    BACKFILL_CHANGED = "backfill.CHANGED"

    HEARTBEAT = "bus.MARK"

    EVENT_TRACKED = "event.TRACKED"  # the bus gives it to an inserted event, which is its own change event

    @property
    def subject(self) -> str:
        """The stored `subject`."""
        return self.partition(".")[0]

    @property
    def stored_kind(self) -> str:
        """The stored `kind`."""
        return self.partition(".")[2]


# Changes of this stored kind have ids alone, so they stay when their contact is erased; all others of it go.
ERASURE_KIND = "DELETED"
MERGES = frozenset({ChangeKind.CONTACT_MERGED, ChangeKind.SUMMARIES_MERGED})
MEMBERSHIPS = frozenset({ChangeKind.CONTACT_ENTERED_SEGMENT, ChangeKind.CONTACT_LEFT_SEGMENT})


def kinds_of(subject: str) -> frozenset[ChangeKind]:
    """All kinds of a subject."""
    return frozenset(kind for kind in ChangeKind if kind.subject == subject)


class ChangeEvent(TypedDict):
    _id: str
    workspace_id: str
    subject: str
    kind: str
    at: datetime


class ContactChanged(ChangeEvent):
    """`before`, `after`: the logged fields of the contact; None if it is new, or deleted."""

    contact_id: str
    fields: list[str]
    before: Document | None
    after: Document | None


class ContactsMerged(ContactChanged):
    """`segment_ids`: the segments that the survivor entered by the merge."""

    merged_id: str
    moved_events: int
    segment_ids: list[str]


class ContactSeen(ChangeEvent):
    """A contact was seen, and nothing else of it changed."""

    contact_id: str


class MembershipChanged(ChangeEvent):
    """`imported`: only imported events caused it."""

    contact_id: str
    segment_id: str
    imported: bool
    before: None
    after: None


class SummariesChanged(ChangeEvent):
    """The event summaries of a contact changed otherwise than by its events."""

    contact_id: str
    lines: list[SummaryChange]


class SummariesMerged(SummariesChanged):
    """The merged contact's summaries went to the survivor `contact_id`."""

    merged_id: str


class SummariesDeleted(SummariesChanged):
    """`contact_ids`: every id that events may name the contact by."""

    contact_ids: list[str]


class RebuildRequested(ChangeEvent):
    """`name`: rebuild only the values of this event name; None: all definitions."""

    name: str | None


class SegmentRevision(TypedDict):
    id: str
    revision: int


class SegmentChanged(ChangeEvent):
    """`segments`: the saved or deleted segment, then those that depend on it."""

    segment_id: str
    segments: list[SegmentRevision]


class ThreadChanged(ChangeEvent):
    """`public`: the thread's contact may see it. `before`, `after`: the fields that subscriptions filter by."""

    contact_id: str
    part_id: str | None
    public: bool
    before: Document | None
    after: Document | None
    act_part_id: NotRequired[str | None]  # of a command's first change event: the part that the command added


class ConversationChanged(ThreadChanged):
    conversation_id: str


class TicketChanged(ThreadChanged):
    ticket_id: str


class DeliveryChanged(ChangeEvent):
    """`before`, `after`: the state, and the fields that subscriptions filter by."""

    destination: NotRequired[str]
    delivery_id: str
    contact_id: str
    before: Document | None
    after: Document


class BackfillChanged(ChangeEvent):
    backfill_id: str


SHAPES: Mapping[ChangeKind, type] = {
    ChangeKind.CONTACT_CREATED: ContactChanged,
    ChangeKind.CONTACT_UPDATED: ContactChanged,
    ChangeKind.CONTACT_MERGED: ContactsMerged,
    ChangeKind.CONTACT_DELETED: ContactChanged,
    ChangeKind.CONTACT_ENTERED_SEGMENT: MembershipChanged,
    ChangeKind.CONTACT_LEFT_SEGMENT: MembershipChanged,
    ChangeKind.CONTACT_SEEN: ContactSeen,
    ChangeKind.SUMMARIES_IMPORTED: SummariesChanged,
    ChangeKind.SUMMARIES_MERGED: SummariesMerged,
    ChangeKind.SUMMARIES_DELETED: SummariesDeleted,
    ChangeKind.DEFINITIONS_REBUILD: RebuildRequested,
    ChangeKind.SEGMENT_SAVED: SegmentChanged,
    ChangeKind.SEGMENT_DELETED: SegmentChanged,
    **dict.fromkeys(kinds_of("conversation"), ConversationChanged),
    **dict.fromkeys(kinds_of("ticket"), TicketChanged),
    ChangeKind.DELIVERY_CHANGED: DeliveryChanged,
    ChangeKind.BACKFILL_CHANGED: BackfillChanged,
    ChangeKind.HEARTBEAT: ChangeEvent,
}


def kind_of(change: Mapping[str, Any]) -> ChangeKind | None:
    """The kind of a stored change event; None if it is unknown, or if a field of that kind is missing."""
    try:
        kind = ChangeKind(f"{change.get('subject')}.{change.get('kind')}")
    except ValueError:
        return None
    return kind if kind in SHAPES and _is_complete(change, SHAPES[kind]) else None


def _is_complete(change: Mapping[str, Any], shape: Any) -> bool:
    lines, segments = change.get("lines", ()), change.get("segments", ())
    return bool(
        change.keys() >= shape.__required_keys__
        and all(line.keys() >= SummaryChange.__required_keys__ for line in lines)
        and all(segment.keys() >= SegmentRevision.__required_keys__ for segment in segments)
    )
