"""Filters of contacts, as callers send them."""

from typing import Optional

import strawberry

from gateway.domain.contacts import ContactRole
from gateway.domain.orders import ContactSortKey, Direction
from resolvers.costs import SEARCH
from resolvers.inputs import AttributeFilter, IntFilter, StringFilter, TimeFilter

strawberry.enum(ContactRole, description="How well a contact is known.")
strawberry.enum(Direction, description="Which end comes first.")
strawberry.enum(ContactSortKey, description="What contacts are sorted by.")


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

    name: str
    count: IntFilter | None = strawberry.UNSET
    first: TimeFilter | None = strawberry.UNSET
    last: TimeFilter | None = strawberry.UNSET
    never: bool | None = strawberry.field(default=strawberry.UNSET, description="true: there is no such event at all.")
    not_followed_by: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="None of that event since the last of this one: a cart without a purchase.",
    )
    within: TimeFilter | None = strawberry.field(
        default=strawberry.UNSET, description="Count only events in this time."
    )
    before_sign_up: bool | None = strawberry.field(
        default=strawberry.UNSET,
        description="true: count only events before the contact signed up, all of them where it never did.",
    )
    metadata: list[AttributeFilter] | None = strawberry.field(
        default=strawberry.UNSET, description="Count only events with this metadata, all of it."
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
    role: list[ContactRole] | None = strawberry.field(default=strawberry.UNSET, description="Any of these.")
    email: StringFilter | None = strawberry.UNSET
    external_id: StringFilter | None = strawberry.UNSET
    name: StringFilter | None = strawberry.UNSET
    phone: StringFilter | None = strawberry.UNSET
    tag: StringFilter | None = strawberry.field(
        default=strawberry.UNSET, description="One of the contact's tags is so; ne: none of them is that."
    )
    country: StringFilter | None = strawberry.UNSET
    city: StringFilter | None = strawberry.UNSET
    created_at: TimeFilter | None = strawberry.UNSET
    signed_up_at: TimeFilter | None = strawberry.UNSET
    last_seen_at: TimeFilter | None = strawberry.UNSET
    custom_attribute: AttributeFilter | None = strawberry.field(
        default=strawberry.UNSET, description="For several of them use `and`."
    )
    event: EventCondition | None = strawberry.UNSET
    segment: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="It is a member of that segment."
    )
