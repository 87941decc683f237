"""Enums of conversations and tickets, as the schema shows them; whatever annotates a field with one takes it from here."""

import strawberry

from gateway.domain.support.conversations import Channel, ConversationState, DeliveredAs, Priority
from gateway.domain.support.sla import SlaStatus
from gateway.domain.support.threads import PartKind
from gateway.domain.support.ticket_filters import TicketSortKey
from gateway.domain.support.ticket_states import TicketState
from gateway.domain.support.ticket_types import TicketAttributeKind, TicketCategory
from resolvers.reveals import sort_enum

__all__ = [
    "Channel",
    "ConversationState",
    "DeliveredAs",
    "PartKind",
    "Priority",
    "SlaStatus",
    "TicketAttributeKind",
    "TicketCategory",
    "TicketSortKey",
    "TicketState",
]

strawberry.enum(ConversationState, description="Where a conversation stands.")
strawberry.enum(Channel, description="By what it was begun.")
strawberry.enum(DeliveredAs, description="By whom, and how, it was begun.")
strawberry.enum(Priority, description="How urgent it is.")
strawberry.enum(SlaStatus, description="ACTIVE: a reply is promised. Missed once is missed for ever.")
strawberry.enum(PartKind, description="What a part of a history tells.")
strawberry.enum(TicketState, description="How far a ticket is.")
sort_enum(
    TicketSortKey,
    {
        TicketSortKey.UPDATED_AT: "Ticket.updatedAt",
        TicketSortKey.CREATED_AT: "Ticket.createdAt",
        TicketSortKey.NUMBER: "Ticket.number",
    },
    description="What tickets are sorted by.",
)
strawberry.enum(
    TicketCategory,
    description="CUSTOMER tickets may be shared with their contact, the others are for those who answer.",
)
strawberry.enum(TicketAttributeKind, description="What an attribute's values are; of a LIST one of its options.")
