"""What is done to tickets: inputs, and what each mutation gives back."""

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

_KEY = "Holds for 7 days: with it a call may be repeated."
_ATTRIBUTES = "By the names of the type's attributes."


@strawberry.input(
    description="With a contact's token it is a ticket of that contact: of a CUSTOMER type, with attributes that are visible to "
    "contacts, without actor, assignees, tags, isShared and createdAt."
)
class CreateTicketInput:
    """How a ticket begins."""

    contact: ContactRef
    type_id: strawberry.ID
    title: str = strawberry.field(description="At most 255 characters.")
    description: str | None = strawberry.field(default=strawberry.UNSET, description="At most 100,000 characters.")
    attributes: JSONObject | None = strawberry.field(default=strawberry.UNSET, description=_ATTRIBUTES)
    tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description="At most 100.")
    assignee_id: strawberry.ID | None = strawberry.UNSET
    team_id: strawberry.ID | None = strawberry.UNSET
    is_shared: bool | None = strawberry.field(
        default=True, description="Whether the contact sees it; CUSTOMER tickets alone are ever shared."
    )
    conversation_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="The contact's conversation that it is about, which has no ticket yet."
    )
    actor: ActorRef | None = strawberry.field(
        default=strawberry.UNSET, description="Omitted by a service's key: the automation."
    )
    created_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="Of what happened before: up to 30 years back."
    )
    idempotency_key: str | None = strawberry.field(default=strawberry.UNSET, description=_KEY)


@strawberry.input(description="The ticket is of the conversation's contact.")
class ConvertToTicketInput:
    """What a conversation becomes."""

    conversation_id: strawberry.ID
    type_id: strawberry.ID
    title: str = strawberry.field(description="At most 255 characters.")
    description: str | None = strawberry.UNSET
    attributes: JSONObject | None = strawberry.field(default=strawberry.UNSET, description=_ATTRIBUTES)
    actor: ActorRef | None = strawberry.UNSET
    idempotency_key: str | None = strawberry.field(default=strawberry.UNSET, description=_KEY)


@strawberry.input
class ReplyToTicketInput:
    """What is said."""

    ticket_id: strawberry.ID
    actor: ActorRef | None = strawberry.field(
        default=strawberry.UNSET, description="Omitted by a service's key: the automation."
    )
    body: str = strawberry.field(description="At most 100,000 characters.")
    note: bool | None = strawberry.field(default=False, description="true: contacts never see it.")
    created_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="Of what happened before: not before the newest part."
    )
    idempotency_key: str | None = strawberry.field(default=strawberry.UNSET, description=_KEY)


@strawberry.input
class SetTicketStateInput:
    """How far it is."""

    id: strawberry.ID
    state: TicketState
    body: str | None = strawberry.field(
        default=strawberry.UNSET, description="A word on it, which the contact of a shared ticket sees."
    )
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input(description="Omitted: left alone; null: nobody's.")
class AssignTicketInput:
    """To whom."""

    id: strawberry.ID
    assignee_id: strawberry.ID | None = strawberry.UNSET
    team_id: strawberry.ID | None = strawberry.UNSET
    actor: ActorRef | None = strawberry.UNSET


@strawberry.input(
    description="Omitted: left alone; null: cleared; in attributes a name with null is removed, and others stay."
)
class UpdateTicketInput:
    """What a ticket says, and where it stands."""

    id: strawberry.ID
    title: str | None = strawberry.UNSET
    description: str | None = strawberry.UNSET
    attributes: JSONObject | None = strawberry.field(
        default=strawberry.UNSET, description="Those that are sent are checked by the type as it is now."
    )
    add_tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description="A ticket has at most 100.")
    remove_tags: list[str] | None = strawberry.UNSET
    is_shared: bool | None = strawberry.UNSET
    snoozed_until: datetime | None = strawberry.field(
        default=strawberry.UNSET,
        description="It wakes by itself then, or when the contact replies; null wakes it. At most ten years ahead.",
    )
    actor: ActorRef | None = strawberry.UNSET


async def create(context: Context, input_: CreateTicketInput) -> Payload:
    """The payload of `createTicket`."""
    await check_token(context)
    made = await context.services.tickets.create(context.principal, command(CreateTicket, input_))
    return {"ticket": made if context.shows_documents else None}


async def convert(context: Context, input_: ConvertToTicketInput) -> Payload:
    """The payload of `convertToTicket`."""
    made = await context.services.tickets.convert(context.principal, command(ConvertToTicket, input_))
    if not await context.may_read():
        return {"ticket": None, "conversation": None}
    return {"ticket": made, "conversation": await context.store.conversations.get(made["conversation_id"])}


async def reply(context: Context, input_: ReplyToTicketInput) -> Payload:
    """The payload of `replyToTicket`."""
    return await execute(context, context.services.tickets.reply, command(ReplyToTicket, input_), "ticket")


async def set_state(context: Context, input_: SetTicketStateInput) -> Payload:
    """The payload of `setTicketState`."""
    return await execute(context, context.services.tickets.set_state, command(SetTicketState, input_), "ticket")


async def assign(context: Context, input_: AssignTicketInput) -> Payload:
    """The payload of `assignTicket`."""
    assignment = command(AssignThread, input_, nulls=True)
    return await execute(context, context.services.tickets.assign, assignment, "ticket")


async def update(context: Context, input_: UpdateTicketInput) -> Payload:
    """The payload of `updateTicket`."""
    return await execute(context, context.services.tickets.update, command(UpdateTicket, input_, nulls=True), "ticket")
