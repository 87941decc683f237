"""Messages that events set off: an automated conversation in the app."""

from datetime import datetime

import strawberry
from strawberry import Info, Parent

from gateway.domain.messages.documents import MessageRuleDocument
from gateway.domain.messages.rules import RuleTrigger
from resolvers import messages
from resolvers.costs import MANY, ONE_ERROR, list_of
from resolvers.messages import (
    DeleteMessageRuleInput,
    PreviewMessageRuleInput,
    SaveMessageRuleInput,
    SendMessageInput,
)
from resolvers.scalars import JSON, JSONObject, SafeInt
from schema.access import ADMIN, READ
from schema.batching import by_level
from schema.errors import UserError, payload
from schema.nodes import Node
from schema.segments import Segment


@strawberry.type(
    description="What sets a message off, who gets it, and what it says. Imported events, and those told more than 5 minutes "
    "after they occurred, set nothing off."
)
class MessageRule(Node):
    """A rule that sends messages."""

    name: str
    enabled: bool
    event: str | None
    trigger: RuleTrigger
    n: int | None = strawberry.field(description="Of NTH_TIME which, of the SINCE_LAST ones how many days or minutes.")
    subject: str | None
    body: str
    max_per_contact: int | None
    created_at: datetime

    @by_level(messages.segments, by="segment_id", description="The segment whose entering sets it off.")
    def segment(self) -> Segment | None:
        """Which segment is entered."""

    @strawberry.field(description="As it was sent, a ContactFilter.")
    def audience(parent: Parent[MessageRuleDocument]) -> JSONObject | None:  # noqa: N805
        """Who gets it."""
        return messages.as_sent(parent["audience"])

    @strawberry.field(description="As it was sent, a list of AttributeFilters.")
    def metadata(parent: Parent[MessageRuleDocument]) -> JSON | None:  # noqa: N805
        """Which events count."""
        return messages.as_sent(parent["metadata"])

    @by_level(messages.sent_counts, description="How many messages it sent.")
    def sent_count(self) -> SafeInt:
        """How many were sent."""


@strawberry.type
class SaveMessageRulePayload:
    """The rule as it is now."""

    message_rule: MessageRule | None = strawberry.field(description="Null for a key that may not READ.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class DeleteMessageRulePayload:
    """Which rule is gone."""

    deleted_id: strawberry.ID | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class PreviewMessageRulePayload:
    """What a contact would get."""

    subject: str | None
    body: str | None = strawberry.field(description="Null for a key that may not READ.")
    would_send: bool = strawberry.field(
        description="Whether it would be sent: the contact is of the audience, its last such event has the metadata, and something is said."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class SendMessagePayload:
    """To how many contacts it is written."""

    recipients: SafeInt = strawberry.field(
        description="The members at this moment; to those who leave the segment before their turn nothing is written."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class MessageQuery:
    """The root fields that read message rules."""

    @strawberry.field(
        directives=[READ, list_of(100)], description="All of them, the oldest first: a workspace has at most 100."
    )
    async def message_rules(self, info: Info) -> list[MessageRule] | None:
        """Every rule."""
        return await messages.rules(info.context)


@strawberry.type
class MessageMutation:
    """The root fields that save rules and send messages."""

    @strawberry.mutation(
        directives=[ADMIN],
        description="Save a rule. It holds for what happens from now on; an event that another process tracks within a second "
        "may still be judged by what the rule was.",
    )
    async def save_message_rule(self, info: Info, input: SaveMessageRuleInput) -> SaveMessageRulePayload | None:
        """Save a rule."""
        return await payload(messages.save_rule, info, input, message_rule=None)

    @strawberry.mutation(directives=[ADMIN], description="Delete a rule; what it has not sent yet is not sent.")
    async def delete_message_rule(self, info: Info, input: DeleteMessageRuleInput) -> DeleteMessageRulePayload | None:
        """Delete a rule."""
        return await payload(messages.delete_rule, info, input, deleted_id=None)

    @strawberry.mutation(directives=[ADMIN], description="What this contact would get now. Nothing is sent.")
    async def preview_message_rule(
        self, info: Info, input: PreviewMessageRuleInput
    ) -> PreviewMessageRulePayload | None:
        """Try a rule out."""
        return await payload(messages.preview, info, input, subject=None, body=None, would_send=False)

    @strawberry.mutation(
        directives=[ADMIN, MANY],
        description="Write once to everyone in a segment. It goes on in the background until all are written to, whatever is "
        "killed meanwhile; with an idempotencyKey the call may be repeated.",
    )
    async def send_message(self, info: Info, input: SendMessageInput) -> SendMessagePayload | None:
        """Write to a segment."""
        return await payload(messages.send_message, info, input, recipients=0)
