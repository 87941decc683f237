"""The interface of everything that has an id, over plain documents."""

import strawberry

from gateway.core.ids import Prefix, prefix_of
from resolvers.context import Source

TYPES_BY_PREFIX = {
    Prefix.CONTACT: "Contact",
    Prefix.EVENT: "Event",
    Prefix.SUMMARY: "EventSummary",
    Prefix.DEFINITION: "EventDefinition",
    Prefix.WORKSPACE: "Workspace",
    Prefix.SEGMENT: "Segment",
    Prefix.SYNC: "KlaviyoSync",
    Prefix.METRIC: "KlaviyoMetric",
    Prefix.DELIVERY: "KlaviyoDelivery",
    Prefix.BACKFILL: "KlaviyoBackfill",
    Prefix.KEY: "Viewer",
    Prefix.BEARER: "Viewer",
    Prefix.ADMIN: "Admin",
    Prefix.TEAM: "Team",
    Prefix.RULE: "MessageRule",
    Prefix.CONVERSATION: "Conversation",
    Prefix.CONVERSATION_PART: "ConversationPart",
    Prefix.TICKET: "Ticket",
    Prefix.TICKET_PART: "TicketPart",
    Prefix.TICKET_TYPE: "TicketType",
}


class Stored:
    """A type whose values are documents as the store keeps them."""

    @classmethod
    def is_type_of(cls, _value: object, _info: object) -> bool:
        """Whoever resolves a field gives documents of its type."""
        return True


@strawberry.interface(description="Whatever has an id.")
class Node(Stored):
    """Whatever has an id."""

    @classmethod
    def resolve_type(cls, value: Source, _info: object, _abstract: object) -> str:
        """A document's type is told by the prefix of its id."""
        prefix = prefix_of(str(value["_id"]))
        assert prefix is not None, value["_id"]  # noqa: S101 - every id in the store was minted here
        return TYPES_BY_PREFIX[prefix]

    id: strawberry.ID


def document_key(name: str) -> str:
    """What documents call a field."""
    return "_id" if name == "id" else name


def read_field(document: Source, name: str) -> object:
    """A field as the document has it; what is absent is null."""
    return document.get(document_key(name))
