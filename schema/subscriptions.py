"""Subscriptions: what happens, as it happens, and again from any cursor on."""

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
from schema.batching import by_level
from schema.contacts import Contact
from schema.conversations import Conversation, ConversationPart
from schema.events import Event, EventSummary
from schema.segments import Segment
from schema.tickets import Ticket, TicketPart


def sharing(context: Context, payload: dict[str, Any]) -> tuple[Hashable, ...]:
    """What makes two subscribers' payloads the same one: equal rights, and the same notice with the same words."""
    values = (value for value in payload.values() if value is None or isinstance(value, str | bool | int))
    return (context.rights, *values)


@strawberry.type
class EventNotification:
    """An event that was tracked, or a checkpoint."""

    cursor: str = strawberry.field(description="Subscribe with it as `after` to go on from here.")
    kind: EventChange
    event: Event | None = strawberry.field(description="Null in a CHECKPOINT.")

    @by_level(events.summary_of, description="The summary that the event was counted in, as it is now.")
    def summary(self) -> EventSummary | None:
        """The event's summary."""


@strawberry.type
class ContactNotification:
    """A change of a contact, or a checkpoint."""

    cursor: str = strawberry.field(description="Subscribe with it as `after` to go on from here.")
    kind: ContactChange
    matches: bool = strawberry.field(description="Whether the contact matches the filter now.")
    contact_id: strawberry.ID | None
    merged_id: strawberry.ID | None = strawberry.field(
        description="Of a MERGED: the id of the contact that this one took over; it leads to this one from now on."
    )

    @by_level(subscriptions.changed_contact, description="The contact as it is now; null in a CHECKPOINT.")
    def contact(self) -> Contact | None:
        """The contact."""

    @by_level(
        segments.of_notification,
        directives=[READ],
        description="Of an ENTERED_SEGMENT or LEFT_SEGMENT: which one; null once it is deleted.",
    )
    def segment(self) -> Segment | None:
        """The segment that the contact entered or left."""


@strawberry.type
class ConversationNotification:
    """A change of a conversation, or a checkpoint."""

    cursor: str = strawberry.field(description="Subscribe with it as `after` to go on from here.")
    kind: ConversationChange
    matches: bool = strawberry.field(description="Whether the conversation matches the filter after the change.")
    conversation_id: strawberry.ID | None

    @by_level(
        subscriptions.changed_conversation,
        description="The conversation as it is now; null in a CHECKPOINT, and once it is DELETED.",
    )
    def conversation(self) -> Conversation | None:
        """The conversation."""

    @by_level(subscriptions.visible_part, description="The part that tells of the change, where one does.")
    def part(self) -> ConversationPart | None:
        """The part."""


@strawberry.type
class TicketNotification:
    """A change of a ticket, or a checkpoint."""

    cursor: str = strawberry.field(description="Subscribe with it as `after` to go on from here.")
    kind: TicketChange
    matches: bool = strawberry.field(description="Whether the ticket matches the filter after the change.")
    ticket_id: strawberry.ID | None

    @by_level(
        subscriptions.changed_ticket,
        description="The ticket as it is now; null in a CHECKPOINT, once it is DELETED, and where it is shared no more.",
    )
    def ticket(self) -> Ticket | None:
        """The ticket."""

    @by_level(subscriptions.visible_ticket_part, description="The part that tells of the change, where one does.")
    def part(self) -> TicketPart | None:
        """The part."""


@strawberry.type
class StreamQuery:
    """The root field that subscriptions begin with."""

    @strawberry.field(
        directives=[READ_OWN],
        description="Now, as a cursor: take it first, then load a list in another request, then subscribe after it.",
    )
    async def stream_cursor(self, info: Info) -> str | None:
        """Now, as a cursor."""
        return await subscriptions.stream_cursor(info.context)


@strawberry.type
class Subscription:
    """What happens. Every subscription takes `after`, and sends a CHECKPOINT now and then."""

    @strawberry.subscription(directives=[READ_OWN], description="Every event that is tracked, in order.")
    async def event_tracked(
        self, info: Info, filter: EventStreamFilter | None = strawberry.UNSET, after: str | None = strawberry.UNSET
    ) -> AsyncGenerator[EventNotification, None]:
        """Tracked events."""
        async for item in subscriptions.event_tracked(info.context, filter, after):
            yield item

    @strawberry.subscription(
        directives=[READ_OWN],
        description="Contacts that are created or change, enter or leave segments, in order; a new lastSeenAt alone is no change.",
    )
    async def contact_changed(
        self, info: Info, filter: ContactStreamFilter | None = strawberry.UNSET, after: str | None = strawberry.UNSET
    ) -> AsyncGenerator[ContactNotification, None]:
        """Changes of contacts."""
        async for item in subscriptions.contact_changed(info.context, filter, after):
            yield item

    @strawberry.subscription(
        directives=[READ_OWN],
        description="Conversations that begin or change, in order: of one act perhaps several, such as REPLIED and REOPENED. "
        "A contact's token hears of its own, and nothing of notes, assignments, snoozes, tags and SLAs.",
    )
    async def conversation_changed(
        self,
        info: Info,
        filter: ConversationStreamFilter | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
    ) -> AsyncGenerator[ConversationNotification, None]:
        """Changes of conversations."""
        async for item in subscriptions.conversation_changed(info.context, filter, after):
            yield item

    @strawberry.subscription(
        directives=[READ_OWN],
        description="Tickets that are opened or change, in order: of one act perhaps several, such as REPLIED and IN_PROGRESS; "
        "WAITING is WAITING_ON_CUSTOMER, and SUBMITTED a ticket that comes back to that state. A contact's token hears of those "
        "that are shared with it, and nothing of notes, assignments, snoozes and tags.",
    )
    async def ticket_changed(
        self, info: Info, filter: TicketStreamFilter | None = strawberry.UNSET, after: str | None = strawberry.UNSET
    ) -> AsyncGenerator[TicketNotification, None]:
        """Changes of tickets."""
        async for item in subscriptions.ticket_changed(info.context, filter, after):
            yield item
