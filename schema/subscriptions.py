"""Subscriptions and their notifications."""

from collections.abc import AsyncGenerator, Hashable
from typing import Any

import strawberry
from strawberry import Info

from resolvers import events, segments, subscriptions
from resolvers.context import Context
from resolvers.subscriptions import (
    ContactChange,
    ContactStreamFilter,
    ConversationChange,
    ConversationStreamFilter,
    EventChange,
    EventStreamFilter,
    TicketChange,
    TicketStreamFilter,
)
from schema.access import READ, READ_OWN
from schema.batching import batched
from schema.contacts import Contact
from schema.conversations import Conversation, ConversationPart
from schema.events import Event, EventSummary
from schema.segments import Segment
from schema.tickets import Ticket, TicketPart


def sharing(context: Context, payload: dict[str, Any]) -> tuple[Hashable, ...]:
    """The key of a payload: subscribers with equal rights and equal notifications share one result."""
    values = (value for value in payload.values() if value is None or isinstance(value, str | bool | int))
    return (context.rights, *values)


@strawberry.type
class EventNotification:
    cursor: str = strawberry.field(description="Pass it as `after` to a new subscription to continue here.")
    kind: EventChange
    event: Event | None = strawberry.field(description="Null for a CHECKPOINT.")

    @batched(events.summary_of, description="The current summary that counts the event.")
    def summary(self) -> EventSummary | None: ...


@strawberry.type
class ContactNotification:
    cursor: str = strawberry.field(description="Pass it as `after` to a new subscription to continue here.")
    kind: ContactChange
    matches: bool = strawberry.field(description="Whether the contact matches the filter now.")
    contact_id: strawberry.ID | None
    merged_id: strawberry.ID | None = strawberry.field(
        description="For MERGED: the id of the contact that was merged into this one. That id leads to this contact from then on."
    )

    @batched(subscriptions.changed_contact, description="The contact as it is now. Null for a CHECKPOINT.")
    def contact(self) -> Contact | None: ...

    @batched(
        segments.of_notification,
        directives=[READ],
        description="For ENTERED_SEGMENT and LEFT_SEGMENT: the segment. Null after it was deleted.",
    )
    def segment(self) -> Segment | None: ...


@strawberry.type
class ConversationNotification:
    cursor: str = strawberry.field(description="Pass it as `after` to a new subscription to continue here.")
    kind: ConversationChange
    matches: bool = strawberry.field(description="Whether the conversation matches the filter after the change.")
    conversation_id: strawberry.ID | None

    @batched(
        subscriptions.changed_conversation,
        description="The conversation as it is now. Null for a CHECKPOINT, and after it was DELETED.",
    )
    def conversation(self) -> Conversation | None: ...

    @batched(subscriptions.visible_part, description="The part that records the change. Null if there is none.")
    def part(self) -> ConversationPart | None: ...


@strawberry.type
class TicketNotification:
    cursor: str = strawberry.field(description="Pass it as `after` to a new subscription to continue here.")
    kind: TicketChange
    matches: bool = strawberry.field(description="Whether the ticket matches the filter after the change.")
    ticket_id: strawberry.ID | None

    @batched(
        subscriptions.changed_ticket,
        description="The ticket as it is now. Null for a CHECKPOINT, after it was DELETED, and when it is no longer shared with the contact.",
    )
    def ticket(self) -> Ticket | None: ...

    @batched(subscriptions.visible_ticket_part, description="The part that records the change. Null if there is none.")
    def part(self) -> TicketPart | None: ...


@strawberry.type
class StreamQuery:
    @strawberry.field(
        directives=[READ_OWN],
        description="A cursor for the current position. To miss nothing: get this cursor, then load a list, then subscribe with `after`.",
    )
    async def stream_cursor(self, info: Info) -> str | None:
        return await subscriptions.stream_cursor(info.context)


@strawberry.type
class Subscription:
    @strawberry.subscription(directives=[READ_OWN], description="Every tracked event, in order.")
    async def event_tracked(
        self, info: Info, filter: EventStreamFilter | None = strawberry.UNSET, after: str | None = strawberry.UNSET
    ) -> AsyncGenerator[EventNotification, None]:
        async for item in subscriptions.event_tracked(info.context, filter, after):
            yield item

    @strawberry.subscription(
        directives=[READ_OWN],
        description="Contacts that are created, change, or enter or leave segments, in order. A new lastSeenAt alone is not reported.",
    )
    async def contact_changed(
        self, info: Info, filter: ContactStreamFilter | None = strawberry.UNSET, after: str | None = strawberry.UNSET
    ) -> AsyncGenerator[ContactNotification, None]:
        async for item in subscriptions.contact_changed(info.context, filter, after):
            yield item

    @strawberry.subscription(
        directives=[READ_OWN],
        description="Conversations that are created or change, in order. One mutation can cause several notifications, such as REPLIED and REOPENED. A contact token receives those of its own conversations, without notes, assignments, snoozes, tags and SLAs.",
    )
    async def conversation_changed(
        self,
        info: Info,
        filter: ConversationStreamFilter | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
    ) -> AsyncGenerator[ConversationNotification, None]:
        async for item in subscriptions.conversation_changed(info.context, filter, after):
            yield item

    @strawberry.subscription(
        directives=[READ_OWN],
        description="Tickets that are created or change, in order. One mutation can cause several notifications, such as REPLIED and IN_PROGRESS. WAITING is the state WAITING_ON_CUSTOMER; SUBMITTED is a ticket that returns to that state. A contact token receives those of tickets that are shared with the contact, without notes, assignments, snoozes and tags.",
    )
    async def ticket_changed(
        self, info: Info, filter: TicketStreamFilter | None = strawberry.UNSET, after: str | None = strawberry.UNSET
    ) -> AsyncGenerator[TicketNotification, None]:
        async for item in subscriptions.ticket_changed(info.context, filter, after):
            yield item
