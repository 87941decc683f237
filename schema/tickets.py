"""Tickets: what is to be done for a contact, with a number, a type and a state."""

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
from schema.access import KLAVIYO, READ, READ_OWN
from schema.batching import by_level, reads
from schema.connections import Connection, CountedConnection
from schema.klaviyo import KlaviyoSubject
from schema.nodes import Node
from schema.parts import Part
from schema.teammates import Admin, Team
from schema.ticket_types import TicketType

if TYPE_CHECKING:
    from schema.contacts import Contact
    from schema.conversations import Conversation

LazyContact = Annotated["Contact", strawberry.lazy("schema.contacts")]
LazyConversation = Annotated["Conversation", strawberry.lazy("schema.conversations")]


@strawberry.type(description="One step of a ticket's history. A contact's token sees what was said, and its states.")
class TicketPart(Part):
    """One step of a history."""

    from_state: TicketState | None = strawberry.field(description="Where the ticket came from, if its state changed.")
    to_state: TicketState | None


@strawberry.type(description="What is to be done for a contact.")
class Ticket(Node):
    """What is to be done for a contact."""

    number: int = strawberry.field(
        description="What people call it by: from 1 on in each workspace, without gaps, and never given twice."
    )
    title: str
    description: str | None
    category: TicketCategory = strawberry.field(description="Its type's.")
    state: TicketState
    tags: list[str] | None = strawberry.field(directives=[READ])
    is_shared: bool | None = strawberry.field(directives=[READ], description="Whether its contact sees it.")
    snoozed_until: datetime | None = strawberry.field(directives=[READ])
    submitted_title: str = strawberry.field(description="As it came in, whatever was edited since.")
    submitted_description: str | None = strawberry.field(description="As it came in, whatever was edited since.")
    created_at: datetime
    updated_at: datetime
    resolved_at: datetime | None = strawberry.field(description="While it is RESOLVED: since when.")

    @by_level(tickets.types_of, reads=("type_id",))
    def type(self) -> TicketType:
        """Its type."""

    @by_level(contact_of, reads=("contact_id",), description="Whose it is; null while the contact is being erased.")
    def contact(self) -> Optional[LazyContact]:  # noqa: UP045 - strawberry resolves Optional of a lazy type
        """Whose it is."""

    @by_level(tickets.conversations_of, by="conversation_id", description="The conversation that it is about.")
    def conversation(self) -> Optional[LazyConversation]:  # noqa: UP045 - see contact
        """The conversation that it is about."""

    @by_level(teammates.admins_by_id, by="assignee_id")
    def assignee(self) -> Admin | None:
        """Who works at it."""

    @by_level(teammates.teams_by_id, by="team_id", directives=[READ])
    def team(self) -> Team | None:
        """Which team works at it."""

    @by_level(
        tickets.attributes_of,
        reads=("attributes", "type_id"),
        description="By name; for a contact's token those that are visible to contacts.",
    )
    def attributes(self) -> JSONObject | None:
        """What it says beside title and description."""

    @strawberry.field(description="How many parts it has; notes count for those who may read notes.")
    @reads("statistics")
    def part_count(parent: Parent[TicketDocument], info: Info) -> int:  # noqa: N805
        """How many parts it has."""
        return tickets.part_count(info.context, parent)

    @strawberry.field(directives=[KLAVIYO], description="What Klaviyo has heard of it.")
    @reads("_id", "contact_id")
    def klaviyo(parent: Parent[TicketDocument]) -> KlaviyoSubject | None:  # noqa: N805
        """What Klaviyo has heard of it."""
        return parent

    @by_level(
        tickets.parts,
        reads=("_id",),
        description="The whole history, the oldest first unless the other order is asked for.",
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
        """The history."""
        return (page_arguments(first, after, last, before), order or Direction.ASC)


@strawberry.type
class TicketQuery:
    """The root fields that read tickets."""

    @strawberry.field(directives=[READ_OWN], description="The ticket with that id or number.")
    async def ticket(self, info: Info, by: TicketKey) -> Ticket | None:
        """One ticket."""
        return await tickets.ticket(info.context, by)

    @strawberry.field(
        directives=[READ_OWN, PAGED],
        description="The tickets of which the filter holds, the newest first unless another order is asked for; for a contact's "
        "token those that are shared with it.",
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
        """A page of tickets."""
        return await tickets.tickets(info.context, filter, sort, page_arguments(first, after, last, before))
