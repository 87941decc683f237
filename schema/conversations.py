"""Conversations: with a contact, about anything; their parts are the whole history."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Optional

import strawberry
from strawberry import Info, Parent

from gateway.core.sorting import Direction
from gateway.domain.support.documents import ConversationDocument
from resolvers import conversations, teammates, tickets
from resolvers.conversations import ConversationFilter, ConversationSort
from resolvers.costs import PAGED
from resolvers.enums import Channel, ConversationState, DeliveredAs, Priority, SlaStatus
from resolvers.events import contact_of
from resolvers.inputs import page_arguments
from resolvers.scalars import JSONObject
from schema.access import KLAVIYO, READ, READ_OWN
from schema.authors import Author
from schema.batching import by_level, reads
from schema.connections import Connection, CountedConnection
from schema.klaviyo import KlaviyoSubject
from schema.nodes import Node, Stored
from schema.parts import Part
from schema.teammates import Admin, Team

if TYPE_CHECKING:
    from schema.contacts import Contact
    from schema.tickets import Ticket

LazyContact = Annotated["Contact", strawberry.lazy("schema.contacts")]
LazyTicket = Annotated["Ticket", strawberry.lazy("schema.tickets")]


@strawberry.type(description="One step of a history. A contact's token sees what was said, and where things stand.")
class ConversationPart(Part):
    """One step of a history."""


@strawberry.type(description="How it began.")
class ConversationSource:
    """How it began."""

    channel: Channel
    delivered_as: DeliveredAs
    subject: str | None
    body: str
    url: str | None

    @by_level(teammates.author_of, by="author")
    def author(self) -> Author:
        """Who began it."""


@strawberry.type(description="What the contact thinks of how it was answered.")
class ConversationRating:
    """What the contact thinks of it."""

    score: int
    remark: str | None
    rated_at: datetime

    @by_level(teammates.admins_by_id, by="admin_id", description="Who had replied last, or else had it then.")
    def admin(self) -> Admin | None:
        """Who was rated."""


@strawberry.type(description="By when those who answer are to have answered.")
class Sla:
    """By when it is answered."""

    name: str
    status: SlaStatus
    due_at: datetime | None = strawberry.field(
        description="While a reply is due: by when; it stays until the reply where that was missed."
    )


@strawberry.type(description="Kept with every act, so that they are exact.")
class ConversationStatistics(Stored):
    """What was counted."""

    part_count: int = strawberry.field(description="Notes count for those who may read notes.")
    reopen_count: int
    assignment_count: int = strawberry.field(description="How often it was assigned to somebody.")
    first_reply_at: datetime | None = strawberry.field(description="When an admin first replied to the contact.")
    first_reply_seconds: int | None = strawberry.field(description="How long the contact had waited for that.")
    last_contact_reply_at: datetime | None
    last_admin_reply_at: datetime | None
    closed_at: datetime | None = strawberry.field(description="When it was last closed.")


@strawberry.type(description="A conversation with a contact.")
class Conversation(Node):
    """A conversation with a contact."""

    title: str | None
    state: ConversationState
    priority: Priority
    source: ConversationSource
    tags: list[str] | None = strawberry.field(directives=[READ])
    created_at: datetime
    updated_at: datetime
    waiting_since: datetime | None = strawberry.field(
        description="Since when the contact waits for an admin's reply; null where it does not."
    )
    snoozed_until: datetime | None = strawberry.field(directives=[READ])
    rating: ConversationRating | None
    sla: Sla | None = strawberry.field(directives=[READ])
    custom_attributes: JSONObject | None = strawberry.field(directives=[READ])

    @strawberry.field(description="Whether your side has read it: the contact by its token, else those who answer.")
    @reads("read", "read_by_contact")
    def read(parent: Parent[ConversationDocument], info: Info) -> bool:  # noqa: N805
        """Whether it was read."""
        return conversations.read(info.context, parent)

    @by_level(contact_of, reads=("contact_id",), description="Whose it is; null while the contact is being erased.")
    def contact(self) -> Optional[LazyContact]:  # noqa: UP045 - strawberry resolves Optional of a lazy type
        """Whose it is."""

    @by_level(teammates.admins_by_id, by="assignee_id")
    def assignee(self) -> Admin | None:
        """Who answers it."""

    @by_level(teammates.teams_by_id, by="team_id", directives=[READ])
    def team(self) -> Team | None:
        """Which team answers it."""

    @strawberry.field
    @reads("statistics")
    def statistics(parent: Parent[ConversationDocument], info: Info) -> ConversationStatistics | None:  # noqa: N805
        """What was counted."""
        return conversations.statistics(info.context, parent)

    @strawberry.field(directives=[KLAVIYO], description="What Klaviyo has heard of it.")
    @reads("_id", "contact_id")
    def klaviyo(parent: Parent[ConversationDocument]) -> KlaviyoSubject | None:  # noqa: N805
        """What Klaviyo has heard of it."""
        return parent

    @by_level(
        tickets.of_conversations,
        by="ticket_id",
        description="The ticket that it has; null where there is none, or where whoever asks does not see it.",
    )
    def ticket(self) -> Optional[LazyTicket]:  # noqa: UP045 - see contact
        """The ticket that it has."""

    @by_level(
        conversations.parts,
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
    ) -> Connection[ConversationPart] | None:
        """The history."""
        return (page_arguments(first, after, last, before), order or Direction.ASC)


@strawberry.type
class ConversationQuery:
    """The root fields that read conversations."""

    @strawberry.field(directives=[READ_OWN], description="The conversation with that id.")
    async def conversation(self, info: Info, id: strawberry.ID) -> Conversation | None:
        """One conversation."""
        return await conversations.conversation(info.context, id)

    @strawberry.field(
        directives=[READ, PAGED],
        description="The conversations of which the filter holds, the newest first unless another order is asked for.",
    )
    async def conversations(
        self,
        info: Info,
        filter: ConversationFilter | None = strawberry.UNSET,
        sort: ConversationSort | None = strawberry.UNSET,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[Conversation] | None:
        """A page of conversations."""
        return await conversations.conversations(info.context, filter, sort, page_arguments(first, after, last, before))
