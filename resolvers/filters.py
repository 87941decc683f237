"""Filters of contacts, as callers send them."""

from typing import Optional

import strawberry

from gateway.core.sorting import ContactSortKey, Direction
from gateway.domain.contacts.contacts import ContactRole
from resolvers.costs import SEARCH
from resolvers.inputs import AttributeFilter, IntFilter, StringFilter, TimeFilter
from resolvers.reveals import Reveals, revealing, sort_enum

strawberry.enum(ContactRole, description="How well a contact is known.")
strawberry.enum(Direction, description="Which end comes first.")
sort_enum(
    ContactSortKey,
    {
        ContactSortKey.CREATED_AT: "Contact.createdAt",
        ContactSortKey.UPDATED_AT: "Contact.updatedAt",
        ContactSortKey.LAST_SEEN_AT: "Contact.lastSeenAt",
        ContactSortKey.NAME: "Contact.name",
    },
    description="What contacts are sorted by.",
)


@strawberry.input(description="The order of a list; nulls come last either way.")
class ContactSort:
    """The order of a list of contacts."""

    key: ContactSortKey
    direction: Direction


@strawberry.input(
    description="What a contact did, how often and when; the conditions are ANDed, and with the name alone it did it at least once. "
    "Who never did it has the count 0. Presence is told by the summary, which is kept for ever and includes imported counts; "
    "within, beforeSignUp and metadata count the events themselves, and are refused where they reach further back than events are kept."
)
class EventCondition:
    """What a contact did."""

    name: str = strawberry.field(directives=[Reveals(fields=["Contact.eventSummary"])])
    count: IntFilter | None = revealing("EventSummary.count")
    first: TimeFilter | None = revealing("EventSummary.firstAt")
    last: TimeFilter | None = revealing("EventSummary.lastAt")
    never: bool | None = revealing("Contact.eventSummary", description="true: there is no such event at all.")
    not_followed_by: str | None = revealing(
        "EventSummary.lastAt", description="None of that event since the last of this one: a cart without a purchase."
    )
    within: TimeFilter | None = revealing("Event.occurredAt", description="Count only events in this time.")
    before_sign_up: bool | None = revealing(
        "Event.occurredAt",
        "Contact.signedUpAt",
        description="true: count only events before the contact signed up, all of them where it never did.",
    )
    metadata: list[AttributeFilter] | None = revealing(
        "Event.metadata", description="Count only events with this metadata, all of it."
    )


@strawberry.input(
    description="Conditions on a contact, ANDed; at most 50 of them, 5 deep. Text compares without regard to case. "
    "What no index narrows looks at 10,000 contacts a page: one may come short, with hasNextPage true and a cursor that goes on.",
    directives=[SEARCH],
)
class ContactFilter:
    """Conditions on a contact."""

    and_: list["ContactFilter"] | None = strawberry.field(name="and", default=strawberry.UNSET)
    or_: list["ContactFilter"] | None = strawberry.field(name="or", default=strawberry.UNSET)
    not_: Optional["ContactFilter"] = strawberry.field(name="not", default=strawberry.UNSET)
    role: list[ContactRole] | None = revealing("Contact.role", description="Any of these.")
    email: StringFilter | None = revealing("Contact.email")
    external_id: StringFilter | None = revealing("Contact.externalId")
    name: StringFilter | None = revealing("Contact.name", "Contact.firstName", "Contact.lastName")
    phone: StringFilter | None = revealing("Contact.phone")
    tag: StringFilter | None = revealing(
        "Contact.tags", description="One of the contact's tags is so; ne: none of them is that."
    )
    country: StringFilter | None = revealing("Contact.location")
    city: StringFilter | None = revealing("Contact.location")
    created_at: TimeFilter | None = revealing("Contact.createdAt")
    signed_up_at: TimeFilter | None = revealing("Contact.signedUpAt")
    last_seen_at: TimeFilter | None = revealing("Contact.lastSeenAt")
    custom_attribute: AttributeFilter | None = revealing(
        "Contact.customAttributes", description="For several of them use `and`."
    )
    event: EventCondition | None = strawberry.UNSET
    segment: strawberry.ID | None = revealing("Contact.segments", description="It is a member of that segment.")
