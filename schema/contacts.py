"""Contacts, and the root fields that read and upsert them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Optional

import strawberry
from strawberry import Info, Parent

from gateway.core.pagination import DEFAULT_SIZE
from gateway.domain.contacts.contacts import ContactRole, Document, display_name
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.filters.segments import MAX_SEGMENTS
from resolvers import contacts, conversations, segments, tickets
from resolvers.contacts import ContactKey, UpsertContactInput
from resolvers.conversations import ConversationFilter, ConversationSort
from resolvers.costs import ONE_ERROR, PAGED, PAGED_BY_NAMES, Cost, ListSize, list_of
from resolvers.events import EventFilter, contact_of
from resolvers.filters import ContactFilter, ContactSort
from resolvers.inputs import page_arguments
from resolvers.scalars import JSONObject, SafeInt
from resolvers.tickets import TicketFilter, TicketSort
from schema.access import READ, READ_OWN, TRACK
from schema.authors import Author
from schema.batching import batched, reads
from schema.connections import Connection, CountedConnection
from schema.conversations import Conversation
from schema.errors import UserError, payload
from schema.events import Event, EventSummary
from schema.nodes import Node, Stored

if TYPE_CHECKING:
    from schema.segments import Segment
    from schema.tickets import Ticket

LazyTicket = Annotated["Ticket", strawberry.lazy("schema.tickets")]
SHOWN_ANONYMOUS_IDS = 100
LazySegment = Annotated["Segment", strawberry.lazy("schema.segments")]


@strawberry.type(description="The location of a contact.")
class Location:
    city: str | None
    region: str | None
    country: str | None


@strawberry.type(description="A person: a USER with an external id, a LEAD with an e-mail, or an anonymous VISITOR.")
class Contact(Node, Author):
    external_id: str | None
    role: ContactRole
    avatar_url: str | None
    email: str | None
    phone: str | None
    name: str | None
    first_name: str | None
    last_name: str | None
    location: Location | None
    custom_attributes: JSONObject | None = strawberry.field(directives=[READ])
    tags: list[str] | None = strawberry.field(directives=[READ])
    created_at: datetime
    updated_at: datetime
    signed_up_at: datetime | None
    last_seen_at: datetime | None
    unsubscribed_from_emails: bool
    has_hard_bounced: bool
    marked_email_as_spam: bool
    opted_out_subscription_types_count: int

    @strawberry.field(description="The newest 100, newest first.")
    @reads("anonymous_ids")
    def anonymous_ids(parent: Parent[Document]) -> list[str]:  # noqa: N805
        return parent["anonymous_ids"][: -SHOWN_ANONYMOUS_IDS - 1 : -1]

    @strawberry.field(
        description="The first of these that the contact has: name, firstName and lastName, email, externalId, role."
    )
    @reads("name", "first_name", "last_name", "email", "external_id", "role")
    def display_name(parent: Parent[ContactDocument]) -> str:  # noqa: N805
        return display_name(parent)

    @batched(
        contacts.events,
        reads=("_id", "contact_ids", "signed_up_at"),
        description="The contact's events, newest first. Without filter.occurredAt: the last 90 days (a setting).",
        directives=[PAGED],
    )
    def events(
        self,
        filter: EventFilter | None = strawberry.UNSET,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[Event] | None:
        return (page_arguments(first, after, last, before), filter)

    @batched(
        conversations.of_contacts,
        reads=("_id", "contact_ids"),
        description="The contact's conversations, newest first by default. A filter or sort reads the newest 500 of each contact, or the newest 10,000 of a single contact.",
        directives=[PAGED],
    )
    def conversations(
        self,
        filter: ConversationFilter | None = strawberry.UNSET,
        sort: ConversationSort | None = strawberry.UNSET,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[Conversation] | None:
        return (page_arguments(first, after, last, before), filter, sort)

    @batched(
        contacts.event_summaries,
        reads=("_id",),
        description="The contact's event summaries, ordered by name: all of them, or those with these names (at most 100). Summaries are kept forever.",
        directives=[PAGED_BY_NAMES],
    )
    def event_summaries(
        self,
        names: list[str] | None = strawberry.UNSET,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> Connection[EventSummary] | None:
        return (
            page_arguments(first, after, last, before),
            None if names is strawberry.UNSET or names is None else tuple(names),
        )

    @batched(
        tickets.of_contacts,
        reads=("_id", "contact_ids"),
        description="The contact's tickets that match the filter, newest first by default. A contact token sees the tickets that are shared with the contact.",
        directives=[PAGED],
    )
    def tickets(
        self,
        filter: TicketFilter | None = strawberry.UNSET,
        sort: TicketSort | None = strawberry.UNSET,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[LazyTicket] | None:
        return (page_arguments(first, after, last, before), filter, sort)

    @batched(
        contacts.event_summary,
        reads=("_id", "workspace_id"),
        description="The summary of one event name. Null if the contact has no such event.",
    )
    def event_summary(self, name: str) -> EventSummary | None:
        return name

    @batched(
        segments.of_contacts,
        reads=("_id",),
        directives=[READ, list_of(MAX_SEGMENTS)],
        description="The segments that the contact is a member of, oldest first.",
    )
    def segments(self) -> Optional[list[LazySegment]]:  # noqa: UP045 - strawberry resolves Optional of a lazy type
        ...


@strawberry.type(description="How often a contact did an event.")
class ContactEventCount(Stored):
    summary: EventSummary
    count: SafeInt
    last_at: datetime

    @batched(contact_of, description="The contact. Null while it is being erased.")
    def contact(self) -> Contact | None: ...


@strawberry.type
class UpsertContactPayload:
    contact: Contact | None = strawberry.field(description="Null for an API key without the scope READ.")
    created: bool
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ContactQuery:
    @batched(
        contacts.contact,
        directives=[READ_OWN],
        description="The contact with this key. An e-mail finds its USER; without a USER, the only LEAD with that e-mail.",
    )
    def contact(self, by: ContactKey) -> Contact | None:
        return by

    @batched(
        contacts.contacts,
        directives=[READ, PAGED],
        description="The contacts that match the filter, newest first by default.",
    )
    def contacts(
        self,
        filter: ContactFilter | None = strawberry.UNSET,
        sort: ContactSort | None = strawberry.UNSET,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[Contact] | None:
        return (page_arguments(first, after, last, before), filter, sort)

    @strawberry.field(
        directives=[READ, ListSize(assumed_size=DEFAULT_SIZE, slicing_arguments=["first"]), Cost(weight=100)],
        description="The contacts with the most events of this name, highest count first. At most 100, by default 20.",
    )
    async def top_contacts(
        self, info: Info, event: str, first: int | None = strawberry.UNSET
    ) -> list[ContactEventCount] | None:
        return await contacts.top_contacts(info.context, event, None if first is strawberry.UNSET else first)


@strawberry.type
class ContactMutation:
    @strawberry.mutation(directives=[TRACK], description="Create a contact, or update the contact that has this key.")
    async def upsert_contact(self, info: Info, input: UpsertContactInput) -> UpsertContactPayload | None:
        return await payload(contacts.upsert_contact, info, input, contact=None, created=False)
