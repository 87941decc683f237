"""What is done to tickets."""

import strawberry
from strawberry import Info

from resolvers import ticket_mutations as acts
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

_HIDDEN = "Null for a key that may not READ."
_PART = "The part that tells of it."


@strawberry.type
class CreateTicketPayload:
    """The ticket as it is now."""

    ticket: Ticket | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ConvertToTicketPayload:
    """The ticket, and the conversation that has it."""

    ticket: Ticket | None = strawberry.field(description=_HIDDEN)
    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ReplyToTicketPayload:
    """The ticket as it is now."""

    ticket: Ticket | None = strawberry.field(description=_HIDDEN)
    part: TicketPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class SetTicketStatePayload:
    """The ticket as it is now."""

    ticket: Ticket | None = strawberry.field(description=_HIDDEN)
    part: TicketPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class AssignTicketPayload:
    """The ticket as it is now."""

    ticket: Ticket | None = strawberry.field(description=_HIDDEN)
    part: TicketPart | None = strawberry.field(
        description="The last part that tells of it: of admin and team one each."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class UpdateTicketPayload:
    """The ticket as it is now."""

    ticket: Ticket | None = strawberry.field(description=_HIDDEN)
    part: TicketPart | None = strawberry.field(
        description="The last part that tells of it: of edits, tags and sleep one each. Null where all was so already."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class TicketMutation:
    """The root fields that change tickets."""

    @strawberry.mutation(
        directives=[SUPPORT_OWN], description="A ticket of a contact; one that nobody knows is created."
    )
    async def create_ticket(self, info: Info, input: CreateTicketInput) -> CreateTicketPayload | None:
        """A ticket of a contact."""
        return await payload(acts.create, info, input, ticket=None)

    @strawberry.mutation(
        directives=[SUPPORT],
        description="A ticket of a conversation, each linked to the other; CONFLICT where it has one.",
    )
    async def convert_to_ticket(self, info: Info, input: ConvertToTicketInput) -> ConvertToTicketPayload | None:
        """A ticket of a conversation."""
        return await payload(acts.convert, info, input, ticket=None, conversation=None)

    @strawberry.mutation(
        directives=[SUPPORT_OWN],
        description="Say something to the other side, or leave a note. A contact replies to its own shared CUSTOMER tickets alone; "
        "then one that is RESOLVED or WAITING_ON_CUSTOMER is IN_PROGRESS again, and one that is snoozed wakes.",
    )
    async def reply_to_ticket(self, info: Info, input: ReplyToTicketInput) -> ReplyToTicketPayload | None:
        """Say something to the other side."""
        return await payload(acts.reply, info, input, ticket=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT],
        description="From every state to every other, but not from RESOLVED to WAITING_ON_CUSTOMER: ILLEGAL_TRANSITION.",
    )
    async def set_ticket_state(self, info: Info, input: SetTicketStateInput) -> SetTicketStatePayload | None:
        """Say how far it is."""
        return await payload(acts.set_state, info, input, ticket=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT], description="Hand it to an admin, a team or both, or to nobody any more."
    )
    async def assign_ticket(self, info: Info, input: AssignTicketInput) -> AssignTicketPayload | None:
        """Hand it to somebody."""
        return await payload(acts.assign, info, input, ticket=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT],
        description="Title, description, attributes, tags, whether it is shared, and whether it sleeps.",
    )
    async def update_ticket(self, info: Info, input: UpdateTicketInput) -> UpdateTicketPayload | None:
        """Edit it."""
        return await payload(acts.update, info, input, ticket=None, part=None)
