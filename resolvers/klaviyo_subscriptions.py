"""How subscriptions to the sync with Klaviyo are served."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from enum import StrEnum

import strawberry

from gateway.bus.change_events import BusEvent
from gateway.domain.contacts.contacts import Document
from gateway.domain.deliveries import DeliveryState
from gateway.store.change_log import ChangeLog
from resolvers.context import Context, Payload
from resolvers.costs import STREAM
from resolvers.inputs import provided_fields
from resolvers.reveals import revealing
from resolvers.subscriptions import follow_merge, followed_contact, named, payloads_of


@strawberry.enum
class DeliveryChange(StrEnum):
    """What a notification of Klaviyo tells."""

    CHANGED = "CHANGED"
    CHECKPOINT = "CHECKPOINT"


@strawberry.input(
    description="Conditions on deliveries, ANDed; of a new state, or of the one before.", directives=[STREAM]
)
class DeliveryStreamFilter:
    """Conditions on deliveries."""

    state: list[DeliveryState] | None = revealing("KlaviyoDelivery.state", description="Any of these.")
    metric: str | None = revealing("KlaviyoDelivery.metric")
    contact_id: strawberry.ID | None = revealing("KlaviyoDelivery.contact")
    subject_id: strawberry.ID | None = revealing("KlaviyoDelivery.subject")


async def klaviyo_delivery(
    context: Context, filter_: DeliveryStreamFilter | None, after: str | None
) -> AsyncIterator[Payload]:
    """A notification per delivery whose state changes."""
    filter_values = provided_fields(filter_) or {}
    followed = await followed_contact(context, filter_values.get("contact_id"))

    def is_so(delivery: Document | None) -> bool:
        return (
            delivery is not None
            and ("state" not in filter_values or delivery["state"] in filter_values["state"])
            and all(delivery[name] == filter_values[name] for name in ("metric", "subject_id") if name in filter_values)
        )

    def matches(notice: BusEvent) -> bool:
        row = notice.document
        follow_merge(followed, notice)
        return (
            notice.collection == ChangeLog.COLLECTION
            and row["subject"] == "delivery"
            and (followed is None or row["contact_id"] in followed)
            and (is_so(row["before"]) or is_so(row["after"]))
        )

    def payload_of(notice: BusEvent) -> Document:
        return {"kind": DeliveryChange.CHANGED.value, "delivery_id": notice.document["delivery_id"]}

    async with aclosing(payloads_of(context, matches, payload_of, after, {"delivery_id": None}, followed)) as payloads:
        async for payload in payloads:
            yield payload


async def changed_delivery(parents: Sequence[Document], _: None, context: Context) -> list[Document | None]:
    """Batch: the delivery of each notification, as it is now."""
    return await named(context.store.deliveries, [parent["delivery_id"] for parent in parents])


async def klaviyo_backfill(context: Context, id_: str, after: str | None) -> AsyncIterator[Payload]:
    """A notification per change of that backfill."""

    def matches(notice: BusEvent) -> bool:
        row = notice.document
        ours = notice.collection == ChangeLog.COLLECTION and row["subject"] == "backfill"
        return ours and row["backfill_id"] == id_

    def payload_of(notice: BusEvent) -> Document:
        return {"kind": DeliveryChange.CHANGED.value, "backfill_id": notice.document["backfill_id"]}

    async with aclosing(payloads_of(context, matches, payload_of, after, {"backfill_id": None})) as payloads:
        async for payload in payloads:
            yield payload


async def changed_backfill(parents: Sequence[Document], _: None, context: Context) -> list[Document | None]:
    """Batch: the backfill of each notification, as it is now."""
    return await named(context.store.backfills, [parent["backfill_id"] for parent in parents])
