"""Subscriptions to deliveries and backfills."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from enum import StrEnum

import strawberry

from gateway.bus.change_events import BusEvent
from gateway.destinations.klaviyo.destination import KlaviyoDestination
from gateway.destinations.klaviyo.documents import BackfillDocument
from gateway.destinations.klaviyo.repository import KlaviyoStore
from gateway.domain.change_kinds import ChangeKind
from gateway.domain.contacts.contacts import Document
from gateway.outbox.deliveries import DeliveryState
from gateway.outbox.documents import DeliveryDocument
from resolvers.context import Context, Payload
from resolvers.costs import STREAM
from resolvers.inputs import provided_fields
from resolvers.reveals import revealing
from resolvers.subscriptions import follow_merge, followed_contact, named, payloads_of


@strawberry.enum
class DeliveryChange(StrEnum):
    CHANGED = "CHANGED"
    CHECKPOINT = "CHECKPOINT"


@strawberry.input(
    description="Conditions on deliveries, combined with AND, before or after the change.", directives=[STREAM]
)
class DeliveryStreamFilter:
    state: list[DeliveryState] | None = revealing("KlaviyoDelivery.state", description="Matches any of these.")
    metric: str | None = revealing("KlaviyoDelivery.metric")
    contact_id: strawberry.ID | None = revealing("KlaviyoDelivery.contact")
    subject_id: strawberry.ID | None = revealing("KlaviyoDelivery.subject")


async def klaviyo_delivery(
    context: Context, filter_: DeliveryStreamFilter | None, after: str | None
) -> AsyncIterator[Payload]:
    filter_values = provided_fields(filter_) or {}
    followed = await followed_contact(context, filter_values.get("contact_id"))

    def has_values(delivery: Document | None) -> bool:
        return (
            delivery is not None
            and ("state" not in filter_values or delivery["state"] in filter_values["state"])
            and all(delivery[name] == filter_values[name] for name in ("metric", "subject_id") if name in filter_values)
        )

    def matches(bus_event: BusEvent) -> bool:
        row = bus_event.document
        follow_merge(followed, bus_event)
        return (
            bus_event.kind is ChangeKind.DELIVERY_CHANGED
            and row.get("destination", KlaviyoDestination.name) == KlaviyoDestination.name
            and (followed is None or row["contact_id"] in followed)
            and (has_values(row["before"]) or has_values(row["after"]))
        )

    def payload_of(bus_event: BusEvent) -> Document:
        return {"kind": DeliveryChange.CHANGED.value, "delivery_id": bus_event.document["delivery_id"]}

    async with aclosing(payloads_of(context, matches, payload_of, after, {"delivery_id": None}, followed)) as payloads:
        async for payload in payloads:
            yield payload


async def changed_delivery(parents: Sequence[Document], _: None, context: Context) -> list[DeliveryDocument | None]:
    return await named(KlaviyoStore(context.store).deliveries, [parent["delivery_id"] for parent in parents])


async def klaviyo_backfill(context: Context, id_: str, after: str | None) -> AsyncIterator[Payload]:
    def matches(bus_event: BusEvent) -> bool:
        return bus_event.kind is ChangeKind.BACKFILL_CHANGED and bus_event.document["backfill_id"] == id_

    def payload_of(bus_event: BusEvent) -> Document:
        return {"kind": DeliveryChange.CHANGED.value, "backfill_id": bus_event.document["backfill_id"]}

    async with aclosing(payloads_of(context, matches, payload_of, after, {"backfill_id": None})) as payloads:
        async for payload in payloads:
            yield payload


async def changed_backfill(parents: Sequence[Document], _: None, context: Context) -> list[BackfillDocument | None]:
    return await named(KlaviyoStore(context.store).backfills, [parent["backfill_id"] for parent in parents])
