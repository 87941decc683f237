"""Contacts: people known, leads, and anonymous visitors."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Optional

import strawberry
from strawberry import Info, Parent

from gateway.core.pagination import DEFAULT_SIZE
from gateway.domain.contacts.contacts import ContactRole, Document, display_name
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
from schema.access import KLAVIYO, READ, READ_OWN, TRACK
from schema.authors import Author
from schema.batching import by_level, reads
from schema.connections import Connection, CountedConnection
from schema.conversations import Conversation
from schema.errors import UserError, payload
from schema.events import Event, EventSummary
from schema.klaviyo import KlaviyoSubject
from schema.nodes import Node, Stored

if TYPE_CHECKING:
    from schema.segments import Segment
    from schema.tickets import Ticket

LazyTicket = Annotated["Ticket", strawberry.lazy("schema.tickets")]
SHOWN_ANONYMOUS_IDS = 100
LazySegment = Annotated["Segment", strawberry.lazy("schema.segments")]


@strawberry.type(description="Where a contact is.")
class Location:
    """Where a contact is."""

    city: str | None
    region: str | None
    country: str | None


@strawberry.type(description="A person: a USER who is known, a LEAD whose e-mail is, or an anonymous VISITOR.")
class Contact(Node, Author):
    """A person."""

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

    @strawberry.field(description="The newest 100, the newest first.")
    @reads("anonymous_ids")
    def anonymous_ids(parent: Parent[Document]) -> list[str]:  # noqa: N805
        """What an anonymous visitor's browser called this contact."""
        return parent["anonymous_ids"][: -SHOWN_ANONYMOUS_IDS - 1 : -1]

    @strawberry.field(description="The best of names, e-mail, externalId and role.")
    @reads("name", "first_name", "last_name", "email", "external_id", "role")
    def display_name(parent: Parent[Document]) -> str:  # noqa: N805
        """What people call this contact."""
        return display_name(parent)

    @by_level(
        contacts.events,
        reads=("_id", "contact_ids", "signed_up_at"),
        description="The timeline, newest first: the last 90 days (by setting), unless filter.occurredAt asks for other times.",
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
        """The contact's events."""
        return (page_arguments(first, after, last, before), filter)

    @by_level(
        conversations.of_contacts,
        reads=("_id", "contact_ids"),
        description="The newest first unless another order is asked for. Filtered or sorted, the newest 500 of each contact are "
        "looked at, of one contact 10,000.",
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
        """The contact's conversations."""
        return (page_arguments(first, after, last, before), filter, sort)

    @by_level(
        contacts.event_summaries,
        reads=("_id",),
        description="By name: all of them, or of those names (at most 100). Kept for ever.",
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
        """The contact's summaries."""
        return (
            page_arguments(first, after, last, before),
            None if names is strawberry.UNSET or names is None else tuple(names),
        )

    @by_level(
        tickets.of_contacts,
        reads=("_id", "contact_ids"),
        description="Those of which the filter holds, the newest first unless another order is asked for; for a contact's token "
        "those that are shared with it.",
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
        """The contact's tickets."""
        return (page_arguments(first, after, last, before), filter, sort)

    @by_level(contacts.event_summary, reads=("_id", "workspace_id"), description="Null if the contact never did it.")
    def event_summary(self, name: str) -> EventSummary | None:
        """The contact's summary of one name."""
        return name

    @by_level(
        segments.of_contacts,
        reads=("_id",),
        directives=[READ, list_of(MAX_SEGMENTS)],
        description="The segments that it is in, the oldest first.",
    )
    def segments(self) -> Optional[list[LazySegment]]:  # noqa: UP045 - strawberry resolves Optional of a lazy type
        """The contact's segments."""

    @strawberry.field(directives=[KLAVIYO], description="What Klaviyo has heard of it.")
    @reads("_id", "contact_ids")
    def klaviyo(parent: Parent[Document]) -> KlaviyoSubject | None:  # noqa: N805
        """What Klaviyo has heard of it."""
        return parent


@strawberry.type(description="How often a contact did something.")
class ContactEventCount(Stored):
    """How often a contact did something."""

    summary: EventSummary
    count: SafeInt
    last_at: datetime

    @by_level(contact_of, description="Who did it; null while the contact is being erased.")
    def contact(self) -> Contact | None:
        """Who did it."""


@strawberry.type
class UpsertContactPayload:
    """The contact as it is now."""

    contact: Contact | None = strawberry.field(description="Null for a key that may not READ.")
    created: bool
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ContactQuery:
    """The root fields that read contacts."""

    @by_level(
        contacts.contact,
        directives=[READ_OWN],
        description="The contact with that key; of an e-mail the USER, or else the one LEAD who has it.",
    )
    def contact(self, by: ContactKey) -> Contact | None:
        """One contact."""
        return by

    @by_level(
        contacts.contacts,
        directives=[READ, PAGED],
        description="The contacts of whom the filter holds, the newest first unless another order is asked for.",
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
        """A page of contacts."""
        return (page_arguments(first, after, last, before), filter, sort)

    @strawberry.field(
        directives=[READ, ListSize(assumed_size=DEFAULT_SIZE, slicing_arguments=["first"]), Cost(weight=100)],
        description="Those who did something most often, the highest count first: at most 100, of itself 20.",
    )
    async def top_contacts(
        self, info: Info, event: str, first: int | None = strawberry.UNSET
    ) -> list[ContactEventCount] | None:
        """Heavy users of a feature."""
        return await contacts.top_contacts(info.context, event, None if first is strawberry.UNSET else first)


@strawberry.type
class ContactMutation:
    """The root fields that change contacts."""

    @strawberry.mutation(
        directives=[TRACK], description="Create a contact, or state facts about the one that has this key."
    )
    async def upsert_contact(self, info: Info, input: UpsertContactInput) -> UpsertContactPayload | None:
        """Create or update."""
        return await payload(contacts.upsert_contact, info, input, contact=None, created=False)
