"""The interface of objects with an id, over plain documents."""

import functools

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
    @classmethod
    def is_type_of(cls, _value: object, _info: object) -> bool:
        """Resolvers return documents of the declared type, so there is nothing to check."""
        return True


@strawberry.interface(description="An object with an id.")
class Node(Stored):
    @classmethod
    def resolve_type(cls, value: Source, _info: object, _abstract: object) -> str:
        prefix = prefix_of(str(value["_id"]))
        assert prefix is not None, value["_id"]  # noqa: S101 - every id in the store was minted here
        return TYPES_BY_PREFIX.get(prefix) or _types_of_destinations()[prefix]

    id: strawberry.ID


@functools.cache
def _types_of_destinations() -> dict[Prefix, str]:
    """The types that say themselves which prefix their ids have."""
    return {type_.PREFIX: type_.__name__ for type_ in Node.__subclasses__() if hasattr(type_, "PREFIX")}


def document_key(name: str) -> str:
    """The key of a field in its document."""
    return "_id" if name == "id" else name


def read_field(document: Source, name: str) -> object:
    """The value of a field in its document; absent is null."""
    return document.get(document_key(name))
