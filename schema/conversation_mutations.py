"""Mutations of conversations."""

import strawberry
from strawberry import Info

from resolvers import conversation_mutations as mutations
from resolvers.conversation_mutations import (
    ApplySlaInput,
    AssignConversationInput,
    CloseConversationInput,
    CreateConversationInput,
    MarkConversationReadInput,
    RateConversationInput,
    ReopenConversationInput,
    ReplyToConversationInput,
    SnoozeConversationInput,
    UpdateConversationInput,
)
from resolvers.costs import ONE_ERROR
from schema.access import SUPPORT, SUPPORT_OWN
from schema.conversations import Conversation, ConversationPart
from schema.errors import UserError, payload

_HIDDEN = "Null for an API key without the scope READ."
_PART = "The part that this call added."


@strawberry.type
class CreateConversationPayload:
    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ReplyToConversationPayload:
    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class AssignConversationPayload:
    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class SnoozeConversationPayload:
    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class CloseConversationPayload:
    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ReopenConversationPayload:
    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class MarkConversationReadPayload:
    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class RateConversationPayload:
    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class UpdateConversationPayload:
    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(
        description="The part that records the changed tags. Null if no tags changed."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ApplySlaPayload:
    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ConversationMutation:
    @strawberry.mutation(
        directives=[SUPPORT_OWN], description="Start a conversation with a contact. An unknown contact is created."
    )
    async def create_conversation(self, info: Info, input: CreateConversationInput) -> CreateConversationPayload | None:
        return await payload(mutations.create, info, input, conversation=None)

    @strawberry.mutation(
        directives=[SUPPORT_OWN],
        description="Reply to a conversation, or add a note. A contact's reply reopens a closed or snoozed conversation.",
    )
    async def reply_to_conversation(
        self, info: Info, input: ReplyToConversationInput
    ) -> ReplyToConversationPayload | None:
        return await payload(mutations.reply, info, input, conversation=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT], description="Assign it to an admin, a team or both, or remove the assignment."
    )
    async def assign_conversation(self, info: Info, input: AssignConversationInput) -> AssignConversationPayload | None:
        return await payload(mutations.assign, info, input, conversation=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT],
        description="Snooze a conversation until a time. It opens again then, or earlier when the contact replies.",
    )
    async def snooze_conversation(self, info: Info, input: SnoozeConversationInput) -> SnoozeConversationPayload | None:
        return await payload(mutations.snooze, info, input, conversation=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT], description="Close a conversation. Its contact no longer counts as waiting."
    )
    async def close_conversation(self, info: Info, input: CloseConversationInput) -> CloseConversationPayload | None:
        return await payload(mutations.close, info, input, conversation=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT], description="Open a closed or snoozed conversation. ILLEGAL_TRANSITION if it is open."
    )
    async def reopen_conversation(self, info: Info, input: ReopenConversationInput) -> ReopenConversationPayload | None:
        return await payload(mutations.reopen, info, input, conversation=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT_OWN], description="Mark a conversation as read by the contact, or by your teammates."
    )
    async def mark_conversation_read(
        self, info: Info, input: MarkConversationReadInput
    ) -> MarkConversationReadPayload | None:
        return await payload(mutations.mark_read, info, input, conversation=None)

    @strawberry.mutation(
        directives=[SUPPORT_OWN],
        description="Rate a conversation from 1 to 5 for its contact. A new rating replaces an earlier one. An API key rates on behalf of the contact.",
    )
    async def rate_conversation(self, info: Info, input: RateConversationInput) -> RateConversationPayload | None:
        return await payload(mutations.rate, info, input, conversation=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT], description="Change title, priority, tags and custom attributes of a conversation."
    )
    async def update_conversation(self, info: Info, input: UpdateConversationInput) -> UpdateConversationPayload | None:
        return await payload(mutations.update, info, input, conversation=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT], description="Apply an SLA to a conversation. It replaces an earlier SLA."
    )
    async def apply_sla(self, info: Info, input: ApplySlaInput) -> ApplySlaPayload | None:
        return await payload(mutations.apply_sla, info, input, conversation=None, part=None)
