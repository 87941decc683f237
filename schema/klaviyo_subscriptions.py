"""Subscriptions to the synchronization with Klaviyo."""

from collections.abc import AsyncGenerator

import strawberry
from strawberry import Info

from resolvers import klaviyo_subscriptions
from resolvers.klaviyo_subscriptions import DeliveryChange, DeliveryStreamFilter
from schema.batching import batched
from schema.klaviyo import KLAVIYO, KlaviyoBackfill, KlaviyoDelivery


@strawberry.type
class KlaviyoNotification:
    cursor: str = strawberry.field(description="Pass it as `after` to a new subscription to continue here.")
    kind: DeliveryChange

    @batched(
        klaviyo_subscriptions.changed_delivery,
        description="The delivery as it is now. Null for a CHECKPOINT, and after its contact was erased.",
    )
    def delivery(self) -> KlaviyoDelivery | None: ...


@strawberry.type
class KlaviyoBackfillNotification:
    cursor: str = strawberry.field(description="Pass it as `after` to a new subscription to continue here.")
    kind: DeliveryChange

    @batched(klaviyo_subscriptions.changed_backfill, description="The backfill as it is now. Null for a CHECKPOINT.")
    def backfill(self) -> KlaviyoBackfill | None: ...


@strawberry.type
class KlaviyoSubscription:
    @strawberry.subscription(
        directives=[KLAVIYO], description="Deliveries that are queued or change their state, in order."
    )
    async def klaviyo_delivery(
        self, info: Info, filter: DeliveryStreamFilter | None = strawberry.UNSET, after: str | None = strawberry.UNSET
    ) -> AsyncGenerator[KlaviyoNotification, None]:
        async for item in klaviyo_subscriptions.klaviyo_delivery(info.context, filter, after):
            yield item

    @strawberry.subscription(directives=[KLAVIYO], description="The progress of a backfill, whenever it changes.")
    async def klaviyo_backfill(
        self, info: Info, id: strawberry.ID, after: str | None = strawberry.UNSET
    ) -> AsyncGenerator[KlaviyoBackfillNotification, None]:
        async for item in klaviyo_subscriptions.klaviyo_backfill(info.context, id, after):
            yield item
