"""Enums of conversations and tickets with their descriptions. Annotate fields with these."""

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

strawberry.enum(ConversationState, description="The state of a conversation.")
strawberry.enum(Channel, description="The channel through which a conversation started.")
strawberry.enum(DeliveredAs, description="Who started a conversation, and how.")
strawberry.enum(Priority, description="The priority of a conversation.")
strawberry.enum(SlaStatus, description="The status of an SLA. ACTIVE: a reply is due. A missed target stays MISSED.")
strawberry.enum(PartKind, description="The kind of a part.")
strawberry.enum(TicketState, description="The state of a ticket.")
sort_enum(
    TicketSortKey,
    {
        TicketSortKey.UPDATED_AT: "Ticket.updatedAt",
        TicketSortKey.CREATED_AT: "Ticket.createdAt",
        TicketSortKey.NUMBER: "Ticket.number",
    },
    description="The sort key of tickets.",
)
strawberry.enum(
    TicketCategory,
    description="The category of a ticket. Only CUSTOMER tickets can be shared with their contact.",
)
strawberry.enum(
    TicketAttributeKind, description="The type of an attribute's values. The value of a LIST is one of its options."
)
