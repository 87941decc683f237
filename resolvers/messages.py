"""How message rules are saved, listed, deleted and tried out, and how a whole segment is written to."""

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

strawberry.enum(RuleTrigger, description="What sets a message off.")


@strawberry.input(
    one_of=True,
    description="What sets a message off: an event for the first, every or nth time (fired once, when the count reaches or jumps "
    "over n), so many days or minutes since the last such event, or that a segment is entered.",
)
class RuleTriggerInput:
    """What sets a message off."""

    first_time: bool | None = strawberry.UNSET
    every_time: bool | None = strawberry.UNSET
    nth_time: int | None = strawberry.UNSET
    days_since_last: int | None = strawberry.UNSET
    minutes_since_last: int | None = strawberry.UNSET
    entered_segment: strawberry.ID | None = strawberry.UNSET


@strawberry.input(
    description="A new rule, or with an id the one that is changed. Of event, audience, metadata, subject and maxPerContact: "
    "omitted, left alone; null, cleared."
)
class SaveMessageRuleInput:
    """What a rule says."""

    id: strawberry.ID | None = strawberry.UNSET
    name: str
    enabled: bool | None = True
    event: str | None = strawberry.field(default=strawberry.UNSET, description="For all triggers but enteredSegment.")
    trigger: RuleTriggerInput
    audience: ContactFilter | None = strawberry.field(
        default=strawberry.UNSET, description="Of whom this holds when the message is due; absent: everybody."
    )
    metadata: list[AttributeFilter] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Only events with this metadata, all of it, set the message off and are counted.",
    )
    subject: str | None = strawberry.UNSET
    body: str = strawberry.field(
        description='Plain text with Liquid in it: {{ contact.firstName | default: "there" }}, {{ event.metadata.plan }}.'
    )
    max_per_contact: int | None = strawberry.field(default=strawberry.UNSET, description="Absent: no cap.")


@strawberry.input
class DeleteMessageRuleInput:
    """Which rule is to go."""

    id: strawberry.ID


@strawberry.input
class PreviewMessageRuleInput:
    """What is to be tried out, and on whom."""

    contact_id: strawberry.ID
    event: str | None = strawberry.field(
        default=strawberry.UNSET, description="The last event of that name is what the message is about."
    )
    audience: ContactFilter | None = strawberry.UNSET
    metadata: list[AttributeFilter] | None = strawberry.UNSET
    subject: str | None = strawberry.UNSET
    body: str


@strawberry.input
class SendMessageInput:
    """What is to be written, to which segment."""

    segment_id: strawberry.ID
    subject: str | None = strawberry.UNSET
    body: str = strawberry.field(description="Plain text with Liquid in it, which reads the contact.")
    idempotency_key: str | None = strawberry.UNSET


async def rules(context: Context) -> list[MessageRuleDocument]:
    """Every rule of the workspace, the oldest first."""
    return await context.store.message_rules.all()


async def save_rule(context: Context, input_: SaveMessageRuleInput) -> Payload:
    """The payload of `saveMessageRule`."""
    rule = SaveMessageRule(**{**provided_fields(input_, nulls=True), **_without_nulls(input_)})
    saved = await context.services.messages.save(context.principal.workspace_id, rule)
    return {"message_rule": saved if await context.may_read() else None}


async def delete_rule(context: Context, input_: DeleteMessageRuleInput) -> Payload:
    """The payload of `deleteMessageRule`."""
    return {"deleted_id": await context.services.messages.delete(context.principal.workspace_id, input_.id)}


async def preview(context: Context, input_: PreviewMessageRuleInput) -> Payload:
    """The payload of `previewMessageRule`."""
    shown = await context.services.messages.preview(context.principal.workspace_id, command(PreviewMessage, input_))
    return shown if await context.may_read() else {**shown, "subject": None, "body": None}


async def send_message(context: Context, input_: SendMessageInput) -> Payload:
    """The payload of `sendMessage`."""
    message = command(SendMessage, input_)
    return {"recipients": await context.services.messages.send(context.principal.workspace_id, message)}


async def sent_counts(parents: Sequence[MessageRuleDocument], _: None, context: Context) -> list[int]:
    """Batch: how many messages each rule sent."""
    counts = await context.store.sent_counts.of_rules([parent["_id"] for parent in parents])
    return [counts[parent["_id"]] for parent in parents]


async def segments(ids: Sequence[str], _: None, context: Context) -> list[SegmentDocument | None]:
    """Batch: the segments with those ids."""
    segments_by_id = await context.store.segments.by_ids(sorted(set(ids)))
    return [segments_by_id.get(id_) for id_ in ids]


def as_sent(value: StoredFilter | list[StoredFilter] | None) -> Json:
    """A rule's audience or metadata as its caller wrote it."""
    return [public_filter(item) for item in value] if isinstance(value, list) else public_filter(value)


def _without_nulls(input_: SaveMessageRuleInput) -> dict[str, object]:
    """The inner inputs, in which null is as good as omitted."""
    inner = {name: getattr(input_, name) for name in ("trigger", "audience", "metadata")}
    return {name: provided_fields(value) for name, value in inner.items() if value is not strawberry.UNSET}
