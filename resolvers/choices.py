"""Enums of conversations, as the schema shows them; whatever annotates a field with one takes it from here."""

import strawberry

from gateway.domain.acts import PartKind
from gateway.domain.conversations import Channel, ConversationState, DeliveredAs, Priority
from gateway.domain.slas import SlaStatus

__all__ = ["Channel", "ConversationState", "DeliveredAs", "PartKind", "Priority", "SlaStatus"]

strawberry.enum(ConversationState, description="Where a conversation stands.")
strawberry.enum(Channel, description="By what it was begun.")
strawberry.enum(DeliveredAs, description="By whom, and how, it was begun.")
strawberry.enum(Priority, description="How urgent it is.")
strawberry.enum(SlaStatus, description="ACTIVE: a reply is promised. Missed once is missed for ever.")
strawberry.enum(PartKind, description="What a part of a history tells.")
