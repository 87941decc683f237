"""Tickets and their parts, and the root fields that read them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Optional

import strawberry
from strawberry import Info, Parent

from gateway.core.sorting import Direction
from gateway.domain.support.documents import TicketDocument
from resolvers import teammates, tickets
from resolvers.costs import PAGED
from resolvers.enums import TicketCategory, TicketState
from resolvers.events import contact_of
from resolvers.inputs import page_arguments
from resolvers.scalars import JSONObject
from resolvers.tickets import TicketFilter, TicketKey, TicketSort
from schema.access import READ, READ_OWN
from schema.batching import batched, reads
from schema.connections import Connection, CountedConnection
from schema.nodes import Node
from schema.parts import Part
from schema.teammates import Admin, Team
from schema.ticket_types import TicketType

if TYPE_CHECKING:
    from schema.contacts import Contact
    from schema.conversations import Conversation

LazyContact = Annotated["Contact", strawberry.lazy("schema.contacts")]
LazyConversation = Annotated["Conversation", strawberry.lazy("schema.conversations")]


@strawberry.type(description="One entry of a ticket's history. A contact token sees comments and changes of state.")
class TicketPart(Part):
    from_state: TicketState | None = strawberry.field(description="The previous state, if this part changed the state.")
    to_state: TicketState | None


@strawberry.type(description="A task for a contact, with a number, a type and a state.")
class Ticket(Node):
    number: int = strawberry.field(
        description="The number that people use. Numbers start at 1 in each workspace, have no gaps, and are never reused."
    )
    title: str
    description: str | None
    category: TicketCategory = strawberry.field(description="The category of its type.")
    state: TicketState
    tags: list[str] | None = strawberry.field(directives=[READ])
    is_shared: bool | None = strawberry.field(directives=[READ], description="Whether the contact can see it.")
    snoozed_until: datetime | None = strawberry.field(directives=[READ])
    submitted_title: str = strawberry.field(description="The original text, unchanged by later edits.")
    submitted_description: str | None = strawberry.field(description="The original text, unchanged by later edits.")
    created_at: datetime
    updated_at: datetime
    resolved_at: datetime | None = strawberry.field(
        description="The time when it was resolved. Null if it is not RESOLVED."
    )

    @batched(tickets.types_of, reads=("type_id",))
    def type(self) -> TicketType: ...

    @batched(contact_of, reads=("contact_id",), description="The contact. Null while it is being erased.")
    def contact(self) -> Optional[LazyContact]:  # noqa: UP045 - strawberry resolves Optional of a lazy type
        ...

    @batched(tickets.conversations_of, by="conversation_id", description="The conversation that it belongs to.")
    def conversation(self) -> Optional[LazyConversation]:  # noqa: UP045 - see contact
        ...

    @batched(teammates.admins_by_id, by="assignee_id")
    def assignee(self) -> Admin | None: ...

    @batched(teammates.teams_by_id, by="team_id", directives=[READ])
    def team(self) -> Team | None: ...

    @batched(
        tickets.attributes_of,
        reads=("attributes", "type_id"),
        description="The values by attribute name. A contact token sees only those that are visible to contacts.",
    )
    def attributes(self) -> JSONObject | None: ...

    @strawberry.field(description="The number of parts. Notes are included for callers who may read notes.")
    @reads("statistics")
    def part_count(parent: Parent[TicketDocument], info: Info) -> int:  # noqa: N805
        return tickets.part_count(info.context, parent)

    @batched(
        tickets.parts,
        reads=("_id",),
        description="The whole history, oldest first by default.",
        directives=[PAGED],
    )
    def parts(
        self,
        order: Direction | None = Direction.ASC,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> Connection[TicketPart] | None:
        return (page_arguments(first, after, last, before), order or Direction.ASC)


@strawberry.type
class TicketQuery:
    @strawberry.field(directives=[READ_OWN], description="The ticket with this id or number.")
    async def ticket(self, info: Info, by: TicketKey) -> Ticket | None:
        return await tickets.ticket(info.context, by)

    @strawberry.field(
        directives=[READ_OWN, PAGED],
        description="The tickets that match the filter, newest first by default. A contact token sees the tickets that are shared with the contact.",
    )
    async def tickets(
        self,
        info: Info,
        filter: TicketFilter | None = strawberry.UNSET,
        sort: TicketSort | None = strawberry.UNSET,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[Ticket] | None:
        return await tickets.tickets(info.context, filter, sort, page_arguments(first, after, last, before))
