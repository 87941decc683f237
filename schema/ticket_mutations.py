"""Mutations of tickets."""

import strawberry
from strawberry import Info

from resolvers import ticket_mutations as mutations
from resolvers.costs import ONE_ERROR
from resolvers.ticket_mutations import (
    AssignTicketInput,
    ConvertToTicketInput,
    CreateTicketInput,
    ReplyToTicketInput,
    SetTicketStateInput,
    UpdateTicketInput,
)
from schema.access import SUPPORT, SUPPORT_OWN
from schema.conversations import Conversation
from schema.errors import UserError, payload
from schema.tickets import Ticket, TicketPart

_HIDDEN = "Null for an API key without the scope READ."
_PART = "The part that this call added."


@strawberry.type
class CreateTicketPayload:
    ticket: Ticket | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ConvertToTicketPayload:
    ticket: Ticket | None = strawberry.field(description=_HIDDEN)
    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ReplyToTicketPayload:
    ticket: Ticket | None = strawberry.field(description=_HIDDEN)
    part: TicketPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class SetTicketStatePayload:
    ticket: Ticket | None = strawberry.field(description=_HIDDEN)
    part: TicketPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class AssignTicketPayload:
    ticket: Ticket | None = strawberry.field(description=_HIDDEN)
    part: TicketPart | None = strawberry.field(
        description="The last part that this call added: admin and team have one each."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class UpdateTicketPayload:
    ticket: Ticket | None = strawberry.field(description=_HIDDEN)
    part: TicketPart | None = strawberry.field(
        description="The last part that this call added: edits, tags and snoozes have one each. Null if nothing changed."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class TicketMutation:
    @strawberry.mutation(
        directives=[SUPPORT_OWN], description="Create a ticket for a contact. An unknown contact is created."
    )
    async def create_ticket(self, info: Info, input: CreateTicketInput) -> CreateTicketPayload | None:
        return await payload(mutations.create, info, input, ticket=None)

    @strawberry.mutation(
        directives=[SUPPORT],
        description="Create a ticket from a conversation and link both. CONFLICT if the conversation has a ticket.",
    )
    async def convert_to_ticket(self, info: Info, input: ConvertToTicketInput) -> ConvertToTicketPayload | None:
        return await payload(mutations.convert, info, input, ticket=None, conversation=None)

    @strawberry.mutation(
        directives=[SUPPORT_OWN],
        description="Reply to a ticket, or add a note. A contact can reply only to its own shared CUSTOMER tickets. Its reply moves a RESOLVED or WAITING_ON_CUSTOMER ticket to IN_PROGRESS, and ends a snooze.",
    )
    async def reply_to_ticket(self, info: Info, input: ReplyToTicketInput) -> ReplyToTicketPayload | None:
        return await payload(mutations.reply, info, input, ticket=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT],
        description="Change the state of a ticket. Every change is allowed except RESOLVED to WAITING_ON_CUSTOMER (ILLEGAL_TRANSITION).",
    )
    async def set_ticket_state(self, info: Info, input: SetTicketStateInput) -> SetTicketStatePayload | None:
        return await payload(mutations.set_state, info, input, ticket=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT], description="Assign it to an admin, a team or both, or remove the assignment."
    )
    async def assign_ticket(self, info: Info, input: AssignTicketInput) -> AssignTicketPayload | None:
        return await payload(mutations.assign, info, input, ticket=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT],
        description="Change title, description, attributes, tags, sharing and snoozing of a ticket.",
    )
    async def update_ticket(self, info: Info, input: UpdateTicketInput) -> UpdateTicketPayload | None:
        return await payload(mutations.update, info, input, ticket=None, part=None)
