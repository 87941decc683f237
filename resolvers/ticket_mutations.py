"""Inputs and resolvers of the mutations of tickets."""

from datetime import datetime

import strawberry

from gateway.domain.support.commands import (
    AssignThread,
    ConvertToTicket,
    CreateTicket,
    ReplyToTicket,
    SetTicketState,
    UpdateTicket,
)
from resolvers.context import Context, Payload
from resolvers.conversation_mutations import check_token, execute
from resolvers.enums import TicketState
from resolvers.events import ContactRef
from resolvers.inputs import command
from resolvers.scalars import JSONObject
from resolvers.teammates import ActorRef

_KEY = "Valid for 7 days: within them a repeated call has one effect."
_ATTRIBUTES = "The values by attribute name of the type."


@strawberry.input(
    description="A new ticket. With a contact token it belongs to that contact, needs a CUSTOMER type and attributes that are visible to contacts, and may not have actor, assignees, tags, isShared and createdAt."
)
class CreateTicketInput:
    contact: ContactRef
    type_id: strawberry.ID
    title: str = strawberry.field(description="At most 255 characters.")
    description: str | None = strawberry.field(default=strawberry.UNSET, description="At most 100,000 characters.")
    attributes: JSONObject | None = strawberry.field(default=strawberry.UNSET, description=_ATTRIBUTES)
    tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description="At most 100.")
    assignee_id: strawberry.ID | None = strawberry.UNSET
    team_id: strawberry.ID | None = strawberry.UNSET
    is_shared: bool | None = strawberry.field(
        default=True, description="Whether the contact can see it. Only CUSTOMER tickets can be shared."
    )
    conversation_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="A conversation of this contact, without a ticket."
    )
    actor: ActorRef | None = strawberry.field(
        default=strawberry.UNSET, description="The author. Omitted with an API key: the automation."
    )
    created_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="For imported history: the original time, at most 30 years ago."
    )
    idempotency_key: str | None = strawberry.field(default=strawberry.UNSET, description=_KEY)


@strawberry.input(description="A conversation to create a ticket from. The ticket belongs to the same contact.")
class ConvertToTicketInput:
    conversation_id: strawberry.ID
    type_id: strawberry.ID
    title: str = strawberry.field(description="At most 255 characters.")
    description: str | None = strawberry.UNSET
    attributes: JSONObject | None = strawberry.field(default=strawberry.UNSET, description=_ATTRIBUTES)
    actor: ActorRef | None = strawberry.UNSET
    idempotency_key: str | None = strawberry.field(default=strawberry.UNSET, description=_KEY)


@strawberry.input
class ReplyToTicketInput:
    ticket_id: strawberry.ID
    actor: ActorRef | None = strawberry.field(
        default=strawberry.UNSET, description="The author. Omitted with an API key: the automation."
    )
    body: str = strawberry.field(description="At most 100,000 characters.")
    note: bool | None = strawberry.field(default=False, description="true: a note, which contacts never see.")
    created_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="For imported history: the original time, not before the newest part."
    )
    idempotency_key: str | None = strawberry.field(default=strawberry.UNSET, description=_KEY)


@strawberry.input
class SetTicketStateInput:
    id: strawberry.ID
    state: TicketState
    body: str | None = strawberry.field(
        default=strawberry.UNSET, description="A comment, which the contact of a shared ticket sees."
    )
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input(description="An omitted field stays as it is; null removes the assignment.")
class AssignTicketInput:
    id: strawberry.ID
    assignee_id: strawberry.ID | None = strawberry.UNSET
    team_id: strawberry.ID | None = strawberry.UNSET
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input(
    description="An omitted field stays as it is; null clears it. In attributes a name with null is removed, and others stay."
)
class UpdateTicketInput:
    id: strawberry.ID
    title: str | None = strawberry.UNSET
    description: str | None = strawberry.UNSET
    attributes: JSONObject | None = strawberry.field(
        default=strawberry.UNSET, description="The values are checked against the current type."
    )
    add_tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description="At most 100 tags per ticket.")
    remove_tags: list[str] | None = strawberry.UNSET
    is_shared: bool | None = strawberry.UNSET
    snoozed_until: datetime | None = strawberry.field(
        default=strawberry.UNSET,
        description="The snooze ends at this time, or when the contact replies; null ends it now. At most ten years ahead.",
    )
    actor: ActorRef | None = strawberry.UNSET


async def create(context: Context, input_: CreateTicketInput) -> Payload:
    await check_token(context)
    made = await context.services.tickets.create(context.principal, command(CreateTicket, input_))
    return {"ticket": made if context.shows_documents else None}


async def convert(context: Context, input_: ConvertToTicketInput) -> Payload:
    made = await context.services.tickets.convert(context.principal, command(ConvertToTicket, input_))
    if not await context.may_read():
        return {"ticket": None, "conversation": None}
    return {"ticket": made, "conversation": await context.store.conversations.get(made["conversation_id"])}


async def reply(context: Context, input_: ReplyToTicketInput) -> Payload:
    return await execute(context, context.services.tickets.reply, command(ReplyToTicket, input_), "ticket")


async def set_state(context: Context, input_: SetTicketStateInput) -> Payload:
    return await execute(context, context.services.tickets.set_state, command(SetTicketState, input_), "ticket")


async def assign(context: Context, input_: AssignTicketInput) -> Payload:
    assignment = command(AssignThread, input_, nulls=True)
    return await execute(context, context.services.tickets.assign, assignment, "ticket")


async def update(context: Context, input_: UpdateTicketInput) -> Payload:
    return await execute(context, context.services.tickets.update, command(UpdateTicket, input_, nulls=True), "ticket")
