"""What is done to conversations: inputs, and what each mutation gives back."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import strawberry

from gateway.core.principals import Principal
from gateway.domain.contacts.contacts import Document
from gateway.services.support.commands import CommandResult
from resolvers.context import Context
from resolvers.enums import Channel, DeliveredAs, Priority
from resolvers.events import ContactRef
from resolvers.inputs import provided_fields
from resolvers.scalars import JSONObject
from resolvers.teammates import ActorRef

_KEY = "Holds for 7 days: with it a call may be repeated."


@strawberry.input(
    description="By a contact, an admin, or automated: by a service's key whoever `actor` names, or else the contact itself "
    "where deliveredAs is CUSTOMER_INITIATED, and the automation where it is not. A contact's token leaves out actor, channel, "
    "deliveredAs, assignees, tags, customAttributes and createdAt."
)
class CreateConversationInput:
    """How a conversation begins."""

    contact: ContactRef
    body: str = strawberry.field(description="At most 100,000 characters.")
    subject: str | None = strawberry.UNSET
    title: str | None = strawberry.UNSET
    url: str | None = strawberry.field(default=strawberry.UNSET, description="The page where it was begun.")
    channel: Channel | None = Channel.CHAT
    delivered_as: DeliveredAs | None = DeliveredAs.CUSTOMER_INITIATED
    actor: ActorRef | None = strawberry.UNSET
    assignee_id: strawberry.ID | None = strawberry.UNSET
    team_id: strawberry.ID | None = strawberry.UNSET
    custom_attributes: JSONObject | None = strawberry.UNSET
    tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description="At most 100.")
    created_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="Of what happened before: up to 30 years back."
    )
    idempotency_key: str | None = strawberry.field(default=strawberry.UNSET, description=_KEY)


@strawberry.input
class ReplyToConversationInput:
    """What is said."""

    conversation_id: strawberry.ID
    actor: ActorRef | None = strawberry.field(
        default=strawberry.UNSET, description="Omitted by a service's key: the automation, whose words are no reply."
    )
    body: str
    note: bool | None = strawberry.field(default=False, description="true: contacts never see it.")
    created_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="Of what happened before: not before the newest part."
    )
    idempotency_key: str | None = strawberry.field(default=strawberry.UNSET, description=_KEY)


@strawberry.input(description="Omitted: left alone; null: nobody's.")
class AssignConversationInput:
    """To whom."""

    id: strawberry.ID
    assignee_id: strawberry.ID | None = strawberry.UNSET
    team_id: strawberry.ID | None = strawberry.UNSET
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input
class SnoozeConversationInput:
    """Until when."""

    id: strawberry.ID
    until: datetime = strawberry.field(description="It wakes by itself then. At most ten years ahead.")
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input
class CloseConversationInput:
    """What ends."""

    id: strawberry.ID
    body: str | None = strawberry.field(default=strawberry.UNSET, description="A last word, which counts as a reply.")
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input
class ReopenConversationInput:
    """What begins again."""

    id: strawberry.ID
    body: str | None = strawberry.field(default=strawberry.UNSET, description="Counts as a reply.")
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input
class MarkConversationReadInput:
    """What was read."""

    id: strawberry.ID
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input
class RateConversationInput:
    """What the contact thinks of it."""

    id: strawberry.ID
    score: int = strawberry.field(description="From 1 to 5.")
    remark: str | None = strawberry.UNSET


@strawberry.input(
    description="Omitted: left alone; null: cleared; in customAttributes a key with null is removed, and others stay."
)
class UpdateConversationInput:
    """What is known of it."""

    id: strawberry.ID
    title: str | None = strawberry.UNSET
    priority: Priority | None = strawberry.UNSET
    add_tags: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="A conversation has at most 100."
    )
    remove_tags: list[str] | None = strawberry.UNSET
    custom_attributes: JSONObject | None = strawberry.UNSET
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input(
    description="At least one target. They count from now where the contact waits, else from when it next writes: the "
    "first one until an admin has replied, then the next one."
)
class ApplySlaInput:
    """By when it is answered."""

    id: strawberry.ID
    name: str
    first_reply_minutes: int | None = strawberry.field(default=strawberry.UNSET, description="From 1 to a year.")
    next_reply_minutes: int | None = strawberry.field(default=strawberry.UNSET, description="From 1 to a year.")
    actor: ActorRef | None = strawberry.UNSET


async def create(context: Context, input_: CreateConversationInput) -> Document:
    """The payload of `createConversation`."""
    await check_token(context)
    made = await context.services.conversations.create(context.principal, provided_fields(input_))
    return {"conversation": made if context.shows_documents else None}


async def reply(context: Context, input_: ReplyToConversationInput) -> Document:
    """The payload of `replyToConversation`."""
    return await _acted(context, input_, context.services.conversations.reply)


async def assign(context: Context, input_: AssignConversationInput) -> Document:
    """The payload of `assignConversation`."""
    return await _acted(context, input_, context.services.conversations.assign, nulls=True)


async def snooze(context: Context, input_: SnoozeConversationInput) -> Document:
    """The payload of `snoozeConversation`."""
    return await _acted(context, input_, context.services.conversations.snooze)


async def close(context: Context, input_: CloseConversationInput) -> Document:
    """The payload of `closeConversation`."""
    return await _acted(context, input_, context.services.conversations.close)


async def reopen(context: Context, input_: ReopenConversationInput) -> Document:
    """The payload of `reopenConversation`."""
    return await _acted(context, input_, context.services.conversations.reopen)


async def mark_read(context: Context, input_: MarkConversationReadInput) -> Document:
    """The payload of `markConversationRead`."""
    return await _acted(context, input_, context.services.conversations.mark_read)


async def rate(context: Context, input_: RateConversationInput) -> Document:
    """The payload of `rateConversation`."""
    return await _acted(context, input_, context.services.conversations.rate)


async def update(context: Context, input_: UpdateConversationInput) -> Document:
    """The payload of `updateConversation`."""
    return await _acted(context, input_, context.services.conversations.update, nulls=True)


async def apply_sla(context: Context, input_: ApplySlaInput) -> Document:
    """The payload of `applySla`."""
    return await _acted(context, input_, context.services.conversations.apply_sla)


async def _acted(
    context: Context,
    input_: Any,
    act: Callable[[Principal, Document], Awaitable[CommandResult]],
    *,
    nulls: bool = False,
) -> Document:
    await check_token(context)
    acted = await act(context.principal, provided_fields(input_, nulls=nulls))
    shown = context.shows_documents
    return {"conversation": acted.document if shown else None, "part": acted.part if shown else None}


async def check_token(context: Context) -> None:
    """A token that reads nothing any more acts on nothing either: it may not even know what is there."""
    if context.principal.contact_id is not None:
        await context.check_may_read()
