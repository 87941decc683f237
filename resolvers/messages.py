"""Inputs and resolvers of message rules and campaigns."""

from collections.abc import Sequence

import strawberry

from gateway.core.json_values import Json
from gateway.domain.filters.documents import SegmentDocument, StoredFilter
from gateway.domain.filters.segments import public_filter
from gateway.domain.messages.documents import MessageRuleDocument
from gateway.domain.messages.rules import PreviewMessage, RuleTrigger, SaveMessageRule, SendMessage
from resolvers.context import Context, Payload
from resolvers.filters import ContactFilter
from resolvers.inputs import AttributeFilter, command, provided_fields

strawberry.enum(RuleTrigger, description="The kind of a trigger.")


@strawberry.input(
    one_of=True,
    description="A trigger: an event for the first time, every time or the nth time (once, when the count reaches or passes n), a number of days or minutes since the last such event, or entering a segment.",
)
class RuleTriggerInput:
    first_time: bool | None = strawberry.UNSET
    every_time: bool | None = strawberry.UNSET
    nth_time: int | None = strawberry.UNSET
    days_since_last: int | None = strawberry.UNSET
    minutes_since_last: int | None = strawberry.UNSET
    entered_segment: strawberry.ID | None = strawberry.UNSET


@strawberry.input(
    description="A new rule, or with an id the rule to change. For event, audience, metadata, subject and maxPerContact: an omitted field stays as it is; null clears it."
)
class SaveMessageRuleInput:
    id: strawberry.ID | None = strawberry.UNSET
    name: str
    enabled: bool | None = True
    event: str | None = strawberry.field(
        default=strawberry.UNSET, description="The event name. Required for all triggers except enteredSegment."
    )
    trigger: RuleTriggerInput
    audience: ContactFilter | None = strawberry.field(
        default=strawberry.UNSET,
        description="Send only to contacts that match when the message is due. Omitted: to all contacts.",
    )
    metadata: list[AttributeFilter] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Only events whose metadata match all of these trigger the rule and are counted.",
    )
    subject: str | None = strawberry.UNSET
    body: str = strawberry.field(
        description='Plain text with Liquid: {{ contact.firstName | default: "there" }}, {{ event.metadata.plan }}.'
    )
    max_per_contact: int | None = strawberry.field(
        default=strawberry.UNSET, description="The most messages per contact. Omitted: no limit."
    )


@strawberry.input
class DeleteMessageRuleInput:
    id: strawberry.ID


@strawberry.input
class PreviewMessageRuleInput:
    contact_id: strawberry.ID
    event: str | None = strawberry.field(
        default=strawberry.UNSET, description="The preview uses the last event of this name."
    )
    audience: ContactFilter | None = strawberry.UNSET
    metadata: list[AttributeFilter] | None = strawberry.UNSET
    subject: str | None = strawberry.UNSET
    body: str


@strawberry.input
class SendMessageInput:
    segment_id: strawberry.ID
    subject: str | None = strawberry.UNSET
    body: str = strawberry.field(description="Plain text with Liquid, which can use the contact.")
    idempotency_key: str | None = strawberry.UNSET


async def rules(context: Context) -> list[MessageRuleDocument]:
    return await context.store.message_rules.all()


async def save_rule(context: Context, input_: SaveMessageRuleInput) -> Payload:
    rule = SaveMessageRule(**{**provided_fields(input_, nulls=True), **_without_nulls(input_)})
    saved = await context.services.messages.save(context.principal.workspace_id, rule)
    return {"message_rule": saved if await context.may_read() else None}


async def delete_rule(context: Context, input_: DeleteMessageRuleInput) -> Payload:
    return {"deleted_id": await context.services.messages.delete(context.principal.workspace_id, input_.id)}


async def preview(context: Context, input_: PreviewMessageRuleInput) -> Payload:
    shown = await context.services.messages.preview(context.principal.workspace_id, command(PreviewMessage, input_))
    return shown if await context.may_read() else {**shown, "subject": None, "body": None}


async def send_message(context: Context, input_: SendMessageInput) -> Payload:
    message = command(SendMessage, input_)
    return {"recipients": await context.services.messages.send(context.principal.workspace_id, message)}


async def sent_counts(parents: Sequence[MessageRuleDocument], _: None, context: Context) -> list[int]:
    counts = await context.store.sent_counts.of_rules([parent["_id"] for parent in parents])
    return [counts[parent["_id"]] for parent in parents]


async def segments(ids: Sequence[str], _: None, context: Context) -> list[SegmentDocument | None]:
    segments_by_id = await context.store.segments.by_ids(sorted(set(ids)))
    return [segments_by_id.get(id_) for id_ in ids]


def as_sent(value: StoredFilter | list[StoredFilter] | None) -> Json:
    return [public_filter(item) for item in value] if isinstance(value, list) else public_filter(value)


def _without_nulls(input_: SaveMessageRuleInput) -> dict[str, object]:
    """In nested inputs null means omitted."""
    inner = {name: getattr(input_, name) for name in ("trigger", "audience", "metadata")}
    return {name: provided_fields(value) for name, value in inner.items() if value is not strawberry.UNSET}
