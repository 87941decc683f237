"""Inputs and resolvers of the mutations of conversations."""

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
_KEY = "Valid for 7 days: within them a repeated call has one effect."


@strawberry.input(
    description="A new conversation. With an API key its author is `actor`; without `actor` it is the contact if deliveredAs is CUSTOMER_INITIATED, else the automation. A contact token may not give actor, channel, deliveredAs, assignees, tags, customAttributes and createdAt."
)
class CreateConversationInput:
    contact: ContactRef
    body: str = strawberry.field(description="At most 100,000 characters.")
    subject: str | None = strawberry.UNSET
    title: str | None = strawberry.UNSET
    url: str | None = strawberry.field(default=strawberry.UNSET, description="The page where the conversation started.")
    channel: Channel | None = Channel.CHAT
    delivered_as: DeliveredAs | None = DeliveredAs.CUSTOMER_INITIATED
    actor: ActorRef | None = strawberry.UNSET
    assignee_id: strawberry.ID | None = strawberry.UNSET
    team_id: strawberry.ID | None = strawberry.UNSET
    custom_attributes: JSONObject | None = strawberry.UNSET
    tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description="At most 100.")
    created_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="For imported history: the original time, at most 30 years ago."
    )
    idempotency_key: str | None = strawberry.field(default=strawberry.UNSET, description=_KEY)


@strawberry.input
class ReplyToConversationInput:
    conversation_id: strawberry.ID
    actor: ActorRef | None = strawberry.field(
        default=strawberry.UNSET,
        description="The author. Omitted with an API key: the automation, whose comment does not count as a reply.",
    )
    body: str
    note: bool | None = strawberry.field(default=False, description="true: a note, which contacts never see.")
    created_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="For imported history: the original time, not before the newest part."
    )
    idempotency_key: str | None = strawberry.field(default=strawberry.UNSET, description=_KEY)


@strawberry.input(description="An omitted field stays as it is; null removes the assignment.")
class AssignConversationInput:
    id: strawberry.ID
    assignee_id: strawberry.ID | None = strawberry.UNSET
    team_id: strawberry.ID | None = strawberry.UNSET
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input
class SnoozeConversationInput:
    id: strawberry.ID
    until: datetime = strawberry.field(
        description="The conversation opens again at this time. At most ten years ahead."
    )
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input
class CloseConversationInput:
    id: strawberry.ID
    body: str | None = strawberry.field(default=strawberry.UNSET, description="A last comment. It counts as a reply.")
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input
class ReopenConversationInput:
    id: strawberry.ID
    body: str | None = strawberry.field(default=strawberry.UNSET, description="A comment. It counts as a reply.")
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input
class MarkConversationReadInput:
    id: strawberry.ID
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input
class RateConversationInput:
    id: strawberry.ID
    score: int = strawberry.field(description="From 1 to 5.")
    remark: str | None = strawberry.UNSET


@strawberry.input(
    description="An omitted field stays as it is; null clears it. In customAttributes a key with null is removed, and others stay."
)
class UpdateConversationInput:
    id: strawberry.ID
    title: str | None = strawberry.UNSET
    priority: Priority | None = strawberry.UNSET
    add_tags: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="At most 100 tags per conversation."
    )
    remove_tags: list[str] | None = strawberry.UNSET
    custom_attributes: JSONObject | None = strawberry.UNSET
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input(
    description="Give at least one target. It counts from now if the contact is waiting, else from the contact's next message. The first target applies until an admin has replied, then the next one."
)
class ApplySlaInput:
    id: strawberry.ID
    name: str
    first_reply_minutes: int | None = strawberry.field(
        default=strawberry.UNSET, description="From 1 minute to one year."
    )
    next_reply_minutes: int | None = strawberry.field(
        default=strawberry.UNSET, description="From 1 minute to one year."
    )
    actor: ActorRef | None = strawberry.UNSET


async def create(context: Context, input_: CreateConversationInput) -> Payload:
    await check_token(context)
    made = await context.services.conversations.create(context.principal, command(CreateConversation, input_))
    return {"conversation": made if context.shows_documents else None}


async def reply(context: Context, input_: ReplyToConversationInput) -> Payload:
    return await execute(context, context.services.conversations.reply, command(ReplyToConversation, input_))


async def assign(context: Context, input_: AssignConversationInput) -> Payload:
    return await execute(context, context.services.conversations.assign, command(AssignThread, input_, nulls=True))


async def snooze(context: Context, input_: SnoozeConversationInput) -> Payload:
    return await execute(context, context.services.conversations.snooze, command(SnoozeConversation, input_))


async def close(context: Context, input_: CloseConversationInput) -> Payload:
    return await execute(context, context.services.conversations.close, command(CloseConversation, input_))


async def reopen(context: Context, input_: ReopenConversationInput) -> Payload:
    return await execute(context, context.services.conversations.reopen, command(ReopenConversation, input_))


async def mark_read(context: Context, input_: MarkConversationReadInput) -> Payload:
    return await execute(context, context.services.conversations.mark_read, command(MarkConversationRead, input_))


async def rate(context: Context, input_: RateConversationInput) -> Payload:
    return await execute(context, context.services.conversations.rate, command(RateConversation, input_))


async def update(context: Context, input_: UpdateConversationInput) -> Payload:
    update_ = command(UpdateConversation, input_, nulls=True)
    return await execute(context, context.services.conversations.update, update_)


async def apply_sla(context: Context, input_: ApplySlaInput) -> Payload:
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
    """A token that may no longer read may not write either: errors would reveal what exists."""
    if context.principal.contact_id is not None:
        await context.check_may_read()
