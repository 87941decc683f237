"""Ticket types and their attributes."""

import strawberry
from strawberry import Info

from resolvers import ticket_types
from resolvers.costs import ONE_ERROR, list_of
from resolvers.enums import TicketAttributeKind, TicketCategory
from resolvers.ticket_types import SaveTicketTypeInput
from schema.access import ADMIN, READ_OWN
from schema.batching import batched
from schema.errors import UserError, payload
from schema.nodes import Node, Stored


@strawberry.type(description="An attribute of a ticket type, in addition to title and description.")
class TicketAttribute(Stored):
    name: str
    kind: TicketAttributeKind
    required: bool
    options: list[str] | None = strawberry.field(description="For a LIST: the allowed values.")
    visible_to_contacts: bool


@strawberry.type(description="A type of tickets with its attributes.")
class TicketType(Node):
    name: str
    category: TicketCategory
    description: str | None
    archived: bool = strawberry.field(description="True if no new tickets of this type can be created.")

    @batched(
        ticket_types.attributes,
        description="A contact token sees only those that are visible to contacts.",
        directives=[list_of(50)],
    )
    def attributes(self) -> list[TicketAttribute]: ...


@strawberry.type
class SaveTicketTypePayload:
    ticket_type: TicketType | None = strawberry.field(description="Null for an API key without the scope READ.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class TicketTypeQuery:
    @strawberry.field(
        directives=[READ_OWN, list_of(100)],
        description="All ticket types, ordered by name. At most 100. A contact token sees the types that the contact can create tickets of.",
    )
    async def ticket_types(self, info: Info) -> list[TicketType] | None:
        return await ticket_types.ticket_types(info.context)


@strawberry.type
class TicketTypeMutation:
    @strawberry.mutation(
        directives=[ADMIN], description="Create or update a ticket type. The category cannot be changed."
    )
    async def save_ticket_type(self, info: Info, input: SaveTicketTypeInput) -> SaveTicketTypePayload | None:
        return await payload(ticket_types.save_ticket_type, info, input, ticket_type=None)
