"""Types of tickets, and what their tickets say beside title and description."""

import strawberry
from strawberry import Info

from resolvers import ticket_types
from resolvers.costs import ONE_ERROR, list_of
from resolvers.enums import TicketAttributeKind, TicketCategory
from resolvers.ticket_types import SaveTicketTypeInput
from schema.access import ADMIN, READ_OWN
from schema.batching import by_level
from schema.errors import UserError, payload
from schema.nodes import Node, Stored


@strawberry.type(description="What tickets of a type say beside title and description.")
class TicketAttribute(Stored):
    """An attribute."""

    name: str
    kind: TicketAttributeKind
    required: bool
    options: list[str] | None = strawberry.field(description="Of a LIST: what may be chosen.")
    visible_to_contacts: bool


@strawberry.type(description="What tickets are about.")
class TicketType(Node):
    """A type of tickets."""

    name: str
    category: TicketCategory
    description: str | None
    archived: bool = strawberry.field(description="Whether there are to be no new tickets of it.")

    @by_level(
        ticket_types.attributes,
        description="For a contact's token those that are visible to contacts.",
        directives=[list_of(50)],
    )
    def attributes(self) -> list[TicketAttribute]:
        """What its tickets say."""


@strawberry.type
class SaveTicketTypePayload:
    """The type as it is now."""

    ticket_type: TicketType | None = strawberry.field(description="Null for a key that may not READ.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class TicketTypeQuery:
    """The root field that reads types of tickets."""

    @strawberry.field(
        directives=[READ_OWN, list_of(100)],
        description="Every type by name, at most 100; for a contact's token those that it may open tickets of.",
    )
    async def ticket_types(self, info: Info) -> list[TicketType] | None:
        """The types."""
        return await ticket_types.ticket_types(info.context)


@strawberry.type
class TicketTypeMutation:
    """The root field that saves types of tickets."""

    @strawberry.mutation(
        directives=[ADMIN], description="Add a type of tickets, or change one; its category stays as it is."
    )
    async def save_ticket_type(self, info: Info, input: SaveTicketTypeInput) -> SaveTicketTypePayload | None:
        """Save a type."""
        return await payload(ticket_types.save_ticket_type, info, input, ticket_type=None)
