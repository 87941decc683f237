"""Conversations and their parts, and the root fields that read them."""

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
from schema.access import READ, READ_OWN
from schema.authors import Author
from schema.batching import batched, reads
from schema.connections import Connection, CountedConnection
from schema.nodes import Node, Stored
from schema.parts import Part
from schema.teammates import Admin, Team

if TYPE_CHECKING:
    from schema.contacts import Contact
    from schema.tickets import Ticket

LazyContact = Annotated["Contact", strawberry.lazy("schema.contacts")]
LazyTicket = Annotated["Ticket", strawberry.lazy("schema.tickets")]


@strawberry.type(
    description="One entry of a conversation's history. A contact token sees comments and changes of state."
)
class ConversationPart(Part): ...


@strawberry.type(description="How a conversation began.")
class ConversationSource:
    channel: Channel
    delivered_as: DeliveredAs
    subject: str | None
    body: str
    url: str | None

    @batched(teammates.author_of, by="author")
    def author(self) -> Author: ...


@strawberry.type(description="The contact's rating of a conversation.")
class ConversationRating:
    score: int
    remark: str | None
    rated_at: datetime

    @batched(
        teammates.admins_by_id,
        by="admin_id",
        description="The admin who replied last. Without a reply: the admin who was assigned at the time of the rating.",
    )
    def admin(self) -> Admin | None: ...


@strawberry.type(description="The reply targets of a conversation, and whether they are met.")
class Sla:
    name: str
    status: SlaStatus
    due_at: datetime | None = strawberry.field(
        description="The deadline of the reply that is due. A missed deadline stays until the reply."
    )


@strawberry.type(description="Counts and times of a conversation. Every change updates them, so they are exact.")
class ConversationStatistics(Stored):
    part_count: int = strawberry.field(
        description="The number of parts. Notes are included for callers who may read notes."
    )
    reopen_count: int
    assignment_count: int = strawberry.field(description="How often it was assigned to an admin or a team.")
    first_reply_at: datetime | None = strawberry.field(description="The time of an admin's first reply.")
    first_reply_seconds: int | None = strawberry.field(
        description="How long the contact had waited for the first reply, in seconds."
    )
    last_contact_reply_at: datetime | None
    last_admin_reply_at: datetime | None
    closed_at: datetime | None = strawberry.field(description="The time when it was last closed.")


@strawberry.type(description="A conversation with a contact.")
class Conversation(Node):
    title: str | None
    state: ConversationState
    priority: Priority
    source: ConversationSource
    tags: list[str] | None = strawberry.field(directives=[READ])
    created_at: datetime
    updated_at: datetime
    waiting_since: datetime | None = strawberry.field(
        description="The time since which the contact waits for an admin's reply. Null if it is not waiting."
    )
    snoozed_until: datetime | None = strawberry.field(directives=[READ])
    rating: ConversationRating | None
    sla: Sla | None = strawberry.field(directives=[READ])
    custom_attributes: JSONObject | None = strawberry.field(directives=[READ])

    @strawberry.field(
        description="Whether your side has read it. Your side is the contact for a contact token, and your teammates for others."
    )
    @reads("read", "read_by_contact")
    def read(parent: Parent[ConversationDocument], info: Info) -> bool:  # noqa: N805
        return conversations.read(info.context, parent)

    @batched(contact_of, reads=("contact_id",), description="The contact. Null while it is being erased.")
    def contact(self) -> Optional[LazyContact]:  # noqa: UP045 - strawberry resolves Optional of a lazy type
        ...

    @batched(teammates.admins_by_id, by="assignee_id")
    def assignee(self) -> Admin | None: ...

    @batched(teammates.teams_by_id, by="team_id", directives=[READ])
    def team(self) -> Team | None: ...

    @strawberry.field
    @reads("statistics")
    def statistics(parent: Parent[ConversationDocument], info: Info) -> ConversationStatistics | None:  # noqa: N805
        return conversations.statistics(info.context, parent)

    @batched(
        tickets.of_conversations,
        by="ticket_id",
        description="The ticket of this conversation. Null if there is none, or if the caller may not see it.",
    )
    def ticket(self) -> Optional[LazyTicket]:  # noqa: UP045 - see contact
        ...

    @batched(
        conversations.parts,
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
    ) -> Connection[ConversationPart] | None:
        return (page_arguments(first, after, last, before), order or Direction.ASC)


@strawberry.type
class ConversationQuery:
    @strawberry.field(directives=[READ_OWN], description="The conversation with this id.")
    async def conversation(self, info: Info, id: strawberry.ID) -> Conversation | None:
        return await conversations.conversation(info.context, id)

    @strawberry.field(
        directives=[READ, PAGED],
        description="The conversations that match the filter, newest first by default.",
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
        return await conversations.conversations(info.context, filter, sort, page_arguments(first, after, last, before))
