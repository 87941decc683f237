"""What is done to conversations: inputs, and what each mutation gives back."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import strawberry

from gateway.core.principals import Principal
from gateway.domain.support.commands import (
    ApplySla,
    AssignThread,
    CloseConversation,
    CreateConversation,
    MarkConversationRead,
    RateConversation,
    ReopenConversation,
    ReplyToConversation,
    SnoozeConversation,
    UpdateConversation,
)
from gateway.domain.support.documents import T
from gateway.services.support.commands import CommandResult
from resolvers.context import Context, Payload
from resolvers.enums import Channel, DeliveredAs, Priority
from resolvers.events import ContactRef
from resolvers.inputs import command
from resolvers.scalars import JSONObject
from resolvers.teammates import ActorRef

C = TypeVar("C")  # the type of the command
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


async def create(context: Context, input_: CreateConversationInput) -> Payload:
    """The payload of `createConversation`."""
    await check_token(context)
    made = await context.services.conversations.create(context.principal, command(CreateConversation, input_))
    return {"conversation": made if context.shows_documents else None}


async def reply(context: Context, input_: ReplyToConversationInput) -> Payload:
    """The payload of `replyToConversation`."""
    return await execute(context, context.services.conversations.reply, command(ReplyToConversation, input_))


async def assign(context: Context, input_: AssignConversationInput) -> Payload:
    """The payload of `assignConversation`."""
    return await execute(context, context.services.conversations.assign, command(AssignThread, input_, nulls=True))


async def snooze(context: Context, input_: SnoozeConversationInput) -> Payload:
    """The payload of `snoozeConversation`."""
    return await execute(context, context.services.conversations.snooze, command(SnoozeConversation, input_))


async def close(context: Context, input_: CloseConversationInput) -> Payload:
    """The payload of `closeConversation`."""
    return await execute(context, context.services.conversations.close, command(CloseConversation, input_))


async def reopen(context: Context, input_: ReopenConversationInput) -> Payload:
    """The payload of `reopenConversation`."""
    return await execute(context, context.services.conversations.reopen, command(ReopenConversation, input_))


async def mark_read(context: Context, input_: MarkConversationReadInput) -> Payload:
    """The payload of `markConversationRead`."""
    return await execute(context, context.services.conversations.mark_read, command(MarkConversationRead, input_))


async def rate(context: Context, input_: RateConversationInput) -> Payload:
    """The payload of `rateConversation`."""
    return await execute(context, context.services.conversations.rate, command(RateConversation, input_))


async def update(context: Context, input_: UpdateConversationInput) -> Payload:
    """The payload of `updateConversation`."""
    update_ = command(UpdateConversation, input_, nulls=True)
    return await execute(context, context.services.conversations.update, update_)


async def apply_sla(context: Context, input_: ApplySlaInput) -> Payload:
    """The payload of `applySla`."""
    return await execute(context, context.services.conversations.apply_sla, command(ApplySla, input_))


async def execute(
    context: Context,
    act: Callable[[Principal, C], Awaitable[CommandResult[T]]],
    command_: C,
    name: str = "conversation",
) -> Payload:
    """Execute a command. The payload has the thread under `name`, and the part that records the command."""
    await check_token(context)
    result = await act(context.principal, command_)
    shown = context.shows_documents
    return {name: result.document if shown else None, "part": result.part if shown else None}


async def check_token(context: Context) -> None:
    """A token that reads nothing any more acts on nothing either: it may not even know what is there."""
    if context.principal.contact_id is not None:
        await context.check_may_read()
