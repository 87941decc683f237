"""Message rules and campaigns."""

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
from schema.batching import batched
from schema.errors import UserError, payload
from schema.nodes import Node
from schema.segments import Segment


@strawberry.type(
    description="A rule that sends a message: its trigger, its audience and its text. Imported events, and events tracked more than 5 minutes after they occurred, never trigger a rule."
)
class MessageRule(Node):
    name: str
    enabled: bool
    event: str | None
    trigger: RuleTrigger
    n: int | None = strawberry.field(
        description="For NTH_TIME: which time. For SINCE_LAST triggers: the number of days or minutes."
    )
    subject: str | None
    body: str
    max_per_contact: int | None
    created_at: datetime

    @batched(messages.segments, by="segment_id", description="The segment that a contact enters to trigger the rule.")
    def segment(self) -> Segment | None: ...

    @strawberry.field(description="The ContactFilter as it was sent.")
    def audience(parent: Parent[MessageRuleDocument]) -> JSONObject | None:  # noqa: N805
        return messages.as_sent(parent["audience"])

    @strawberry.field(description="The list of AttributeFilters as it was sent.")
    def metadata(parent: Parent[MessageRuleDocument]) -> JSON | None:  # noqa: N805
        return messages.as_sent(parent["metadata"])

    @batched(messages.sent_counts, description="The number of messages that the rule has sent.")
    def sent_count(self) -> SafeInt: ...


@strawberry.type
class SaveMessageRulePayload:
    message_rule: MessageRule | None = strawberry.field(description="Null for an API key without the scope READ.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class DeleteMessageRulePayload:
    deleted_id: strawberry.ID | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class PreviewMessageRulePayload:
    subject: str | None
    body: str | None = strawberry.field(description="Null for an API key without the scope READ.")
    would_send: bool = strawberry.field(
        description="True if it would be sent: the contact is in the audience, its last such event has the metadata, and the text is not empty."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class SendMessagePayload:
    recipients: SafeInt = strawberry.field(
        description="The number of members now. A contact that leaves the segment before its message is sent gets none."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class MessageQuery:
    @strawberry.field(directives=[READ, list_of(100)], description="All of the workspace, oldest first. At most 100.")
    async def message_rules(self, info: Info) -> list[MessageRule] | None:
        return await messages.rules(info.context)


@strawberry.type
class MessageMutation:
    @strawberry.mutation(
        directives=[ADMIN],
        description="Save a rule. It applies to future events. Another process may use the previous version for up to one second.",
    )
    async def save_message_rule(self, info: Info, input: SaveMessageRuleInput) -> SaveMessageRulePayload | None:
        return await payload(messages.save_rule, info, input, message_rule=None)

    @strawberry.mutation(
        directives=[ADMIN], description="Delete a rule. Messages that it has not sent yet are not sent."
    )
    async def delete_message_rule(self, info: Info, input: DeleteMessageRuleInput) -> DeleteMessageRulePayload | None:
        return await payload(messages.delete_rule, info, input, deleted_id=None)

    @strawberry.mutation(
        directives=[ADMIN], description="Preview the message that this contact would get now. Nothing is sent."
    )
    async def preview_message_rule(
        self, info: Info, input: PreviewMessageRuleInput
    ) -> PreviewMessageRulePayload | None:
        return await payload(messages.preview, info, input, subject=None, body=None, would_send=False)

    @strawberry.mutation(
        directives=[ADMIN, MANY],
        description="Send one message to every member of a segment. It continues in the background until all are sent, also after a restart. With an idempotencyKey the call can be repeated safely.",
    )
    async def send_message(self, info: Info, input: SendMessageInput) -> SendMessagePayload | None:
        return await payload(messages.send_message, info, input, recipients=0)
