"""Input types of filters and sorts of contacts."""

from typing import Optional

import strawberry

from gateway.core.sorting import ContactSortKey, Direction
from gateway.domain.contacts.contacts import ContactRole
from resolvers.costs import SEARCH
from resolvers.inputs import AttributeFilter, IntFilter, StringFilter, TimeFilter
from resolvers.reveals import Reveals, revealing, sort_enum

strawberry.enum(ContactRole, description="The role of a contact: what is known about it.")
strawberry.enum(Direction, description="The sort direction.")
sort_enum(
    ContactSortKey,
    {
        ContactSortKey.CREATED_AT: "Contact.createdAt",
        ContactSortKey.UPDATED_AT: "Contact.updatedAt",
        ContactSortKey.LAST_SEEN_AT: "Contact.lastSeenAt",
        ContactSortKey.NAME: "Contact.name",
    },
    description="The sort key of contacts.",
)


@strawberry.input(description="The order of a list. Nulls come last in both directions.")
class ContactSort:
    key: ContactSortKey
    direction: Direction


@strawberry.input(
    description="Conditions on a contact's events of one name, combined with AND. With the name alone: at least one such event. A contact without such an event has the count 0. Conditions on the summary include imported counts and are valid forever; within, beforeSignUp and metadata count stored events, and are refused if they reach back beyond the retention of events."
)
class EventCondition:
    name: str = strawberry.field(directives=[Reveals(fields=["Contact.eventSummary"])])
    count: IntFilter | None = revealing("EventSummary.count")
    first: TimeFilter | None = revealing("EventSummary.firstAt")
    last: TimeFilter | None = revealing("EventSummary.lastAt")
    never: bool | None = revealing("Contact.eventSummary", description="true: the contact has no such event.")
    not_followed_by: str | None = revealing(
        "EventSummary.lastAt",
        description="The contact has no event of that name since its last event of this name: a cart without a purchase.",
    )
    within: TimeFilter | None = revealing("Event.occurredAt", description="Count only events in this time range.")
    before_sign_up: bool | None = revealing(
        "Event.occurredAt",
        "Contact.signedUpAt",
        description="true: count only events before the contact signed up; all events if it never signed up.",
    )
    metadata: list[AttributeFilter] | None = revealing(
        "Event.metadata", description="Count only events whose metadata match all of these."
    )


@strawberry.input(
    description="Conditions on a contact, combined with AND; at most 50, nested at most 5 levels. Text comparisons ignore case. Filters without an index scan at most 10,000 contacts per page; such a page may be shorter than requested while hasNextPage is true.",
    directives=[SEARCH],
)
class ContactFilter:
    and_: list["ContactFilter"] | None = strawberry.field(name="and", default=strawberry.UNSET)
    or_: list["ContactFilter"] | None = strawberry.field(name="or", default=strawberry.UNSET)
    not_: Optional["ContactFilter"] = strawberry.field(name="not", default=strawberry.UNSET)
    role: list[ContactRole] | None = revealing("Contact.role", description="Matches any of these.")
    email: StringFilter | None = revealing("Contact.email")
    external_id: StringFilter | None = revealing("Contact.externalId")
    name: StringFilter | None = revealing("Contact.name", "Contact.firstName", "Contact.lastName")
    phone: StringFilter | None = revealing("Contact.phone")
    tag: StringFilter | None = revealing(
        "Contact.tags", description="At least one tag matches. For ne: no tag equals the value."
    )
    country: StringFilter | None = revealing("Contact.location")
    city: StringFilter | None = revealing("Contact.location")
    created_at: TimeFilter | None = revealing("Contact.createdAt")
    signed_up_at: TimeFilter | None = revealing("Contact.signedUpAt")
    last_seen_at: TimeFilter | None = revealing("Contact.lastSeenAt")
    custom_attribute: AttributeFilter | None = revealing(
        "Contact.customAttributes", description="A condition on one custom attribute. Use `and` for several."
    )
    event: EventCondition | None = strawberry.UNSET
    segment: strawberry.ID | None = revealing(
        "Contact.segments", description="The contact is a member of this segment."
    )
