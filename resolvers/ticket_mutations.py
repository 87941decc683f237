"""What is done to tickets: inputs, and what each mutation gives back."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import strawberry

from gateway.core.principals import Principal
from gateway.domain.contacts.contacts import Document
from gateway.services.support.commands import CommandResult
from resolvers.context import Context
from resolvers.conversation_mutations import check_token
from resolvers.enums import TicketState
from resolvers.events import ContactRef
from resolvers.inputs import provided_fields
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


async def create(context: Context, input_: CreateTicketInput) -> Document:
    """The payload of `createTicket`."""
    await check_token(context)
    made = await context.services.tickets.create(context.principal, provided_fields(input_))
    return {"ticket": made if context.shows_documents else None}


async def convert(context: Context, input_: ConvertToTicketInput) -> Document:
    """The payload of `convertToTicket`."""
    made = await context.services.tickets.convert(context.principal, provided_fields(input_))
    if not await context.may_read():
        return {"ticket": None, "conversation": None}
    id_ = made["conversation_id"]
    return {"ticket": made, "conversation": (await context.store.conversations.by_ids([id_])).get(id_)}


async def reply(context: Context, input_: ReplyToTicketInput) -> Document:
    """The payload of `replyToTicket`."""
    return await _acted(context, input_, context.services.tickets.reply)


async def set_state(context: Context, input_: SetTicketStateInput) -> Document:
    """The payload of `setTicketState`."""
    return await _acted(context, input_, context.services.tickets.set_state)


async def assign(context: Context, input_: AssignTicketInput) -> Document:
    """The payload of `assignTicket`."""
    return await _acted(context, input_, context.services.tickets.assign, nulls=True)


async def update(context: Context, input_: UpdateTicketInput) -> Document:
    """The payload of `updateTicket`."""
    return await _acted(context, input_, context.services.tickets.update, nulls=True)


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
    return {"ticket": acted.document if shown else None, "part": acted.part if shown else None}
