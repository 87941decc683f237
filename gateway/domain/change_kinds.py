"""Every kind of change event, as the change log and the bus name it."""

from enum import StrEnum


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


MERGES = frozenset({ChangeKind.CONTACT_MERGED, ChangeKind.SUMMARIES_MERGED})
MEMBERSHIPS = frozenset({ChangeKind.CONTACT_ENTERED_SEGMENT, ChangeKind.CONTACT_LEFT_SEGMENT})


def kinds_of(subject: str) -> frozenset[ChangeKind]:
    """All kinds of a subject."""
    return frozenset(kind for kind in ChangeKind if kind.subject == subject)
