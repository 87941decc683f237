"""What is done to conversations."""

import strawberry
from strawberry import Info

from resolvers import conversation_mutations as acts
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

_HIDDEN = "Null for a key that may not READ."
_PART = "The part that tells of it."


@strawberry.type
class CreateConversationPayload:
    """The conversation as it is now."""

    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ReplyToConversationPayload:
    """The conversation as it is now."""

    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class AssignConversationPayload:
    """The conversation as it is now."""

    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class SnoozeConversationPayload:
    """The conversation as it is now."""

    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class CloseConversationPayload:
    """The conversation as it is now."""

    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ReopenConversationPayload:
    """The conversation as it is now."""

    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class MarkConversationReadPayload:
    """The conversation as it is now."""

    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class RateConversationPayload:
    """The conversation as it is now."""

    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class UpdateConversationPayload:
    """The conversation as it is now."""

    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(
        description="The part that tells of changed tags; null where none changed."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ApplySlaPayload:
    """The conversation as it is now."""

    conversation: Conversation | None = strawberry.field(description=_HIDDEN)
    part: ConversationPart | None = strawberry.field(description=_PART)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ConversationMutation:
    """The root fields that change conversations."""

    @strawberry.mutation(
        directives=[SUPPORT_OWN], description="A conversation with a contact; one that nobody knows is created."
    )
    async def create_conversation(self, info: Info, input: CreateConversationInput) -> CreateConversationPayload | None:
        """A conversation with a contact."""
        return await payload(acts.create, info, input, conversation=None)

    @strawberry.mutation(
        directives=[SUPPORT_OWN],
        description="Say something to the other side, or leave a note. A contact's reply reopens what is closed or snoozed.",
    )
    async def reply_to_conversation(
        self, info: Info, input: ReplyToConversationInput
    ) -> ReplyToConversationPayload | None:
        """Say something to the other side."""
        return await payload(acts.reply, info, input, conversation=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT], description="Hand it to an admin, a team or both, or to nobody any more."
    )
    async def assign_conversation(self, info: Info, input: AssignConversationInput) -> AssignConversationPayload | None:
        """Hand it to an admin."""
        return await payload(acts.assign, info, input, conversation=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT], description="Put it aside until a time; it wakes by itself, or when the contact replies."
    )
    async def snooze_conversation(self, info: Info, input: SnoozeConversationInput) -> SnoozeConversationPayload | None:
        """Put it aside until a time."""
        return await payload(acts.snooze, info, input, conversation=None, part=None)

    @strawberry.mutation(directives=[SUPPORT], description="End it; the contact waits no longer.")
    async def close_conversation(self, info: Info, input: CloseConversationInput) -> CloseConversationPayload | None:
        """End it."""
        return await payload(acts.close, info, input, conversation=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT], description="Open what is closed or snoozed; ILLEGAL_TRANSITION where it is open."
    )
    async def reopen_conversation(self, info: Info, input: ReopenConversationInput) -> ReopenConversationPayload | None:
        """Open what is closed or snoozed."""
        return await payload(acts.reopen, info, input, conversation=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT_OWN], description="Say that it was read: by the contact, or by those who answer."
    )
    async def mark_conversation_read(
        self, info: Info, input: MarkConversationReadInput
    ) -> MarkConversationReadPayload | None:
        """Say that it was read."""
        return await payload(acts.mark_read, info, input, conversation=None)

    @strawberry.mutation(
        directives=[SUPPORT_OWN],
        description="From 1 to 5, by the contact: in the place of an earlier rating. A service's key speaks for the contact.",
    )
    async def rate_conversation(self, info: Info, input: RateConversationInput) -> RateConversationPayload | None:
        """From 1 to 5."""
        return await payload(acts.rate, info, input, conversation=None, part=None)

    @strawberry.mutation(directives=[SUPPORT], description="Title, priority, tags and custom attributes.")
    async def update_conversation(self, info: Info, input: UpdateConversationInput) -> UpdateConversationPayload | None:
        """Title."""
        return await payload(acts.update, info, input, conversation=None, part=None)

    @strawberry.mutation(
        directives=[SUPPORT], description="Promise by when it is answered, in the place of an earlier promise."
    )
    async def apply_sla(self, info: Info, input: ApplySlaInput) -> ApplySlaPayload | None:
        """Promise by when it is answered."""
        return await payload(acts.apply_sla, info, input, conversation=None, part=None)
