"""Subscriptions to the sync with Klaviyo."""

from collections.abc import AsyncGenerator

import strawberry
from strawberry import Info

from resolvers import klaviyo_subscriptions
from resolvers.klaviyo_subscriptions import DeliveryChange, DeliveryStreamFilter
from schema.batching import by_level
from schema.klaviyo import KLAVIYO, KlaviyoBackfill, KlaviyoDelivery


@strawberry.type
class KlaviyoNotification:
    """A delivery that was queued or whose state changed, or a checkpoint."""

    cursor: str = strawberry.field(description="Subscribe with it as `after` to go on from here.")
    kind: DeliveryChange

    @by_level(
        klaviyo_subscriptions.changed_delivery,
        description="The delivery as it is now; null in a CHECKPOINT, and once its contact is erased.",
    )
    def delivery(self) -> KlaviyoDelivery | None:
        """The delivery."""


@strawberry.type
class KlaviyoBackfillNotification:
    """A backfill that is further or in another state, or a checkpoint."""

    cursor: str = strawberry.field(description="Subscribe with it as `after` to go on from here.")
    kind: DeliveryChange

    @by_level(klaviyo_subscriptions.changed_backfill, description="The backfill as it is now; null in a CHECKPOINT.")
    def backfill(self) -> KlaviyoBackfill | None:
        """The backfill."""


@strawberry.type
class KlaviyoSubscription:
    """Changes of deliveries and of backfills."""

    @strawberry.subscription(
        directives=[KLAVIYO], description="Deliveries that are queued or whose state changes, in order."
    )
    async def klaviyo_delivery(
        self, info: Info, filter: DeliveryStreamFilter | None = strawberry.UNSET, after: str | None = strawberry.UNSET
    ) -> AsyncGenerator[KlaviyoNotification, None]:
        """Deliveries."""
        async for item in klaviyo_subscriptions.klaviyo_delivery(info.context, filter, after):
            yield item

    @strawberry.subscription(directives=[KLAVIYO], description="How far a backfill is, whenever it is further.")
    async def klaviyo_backfill(
        self, info: Info, id: strawberry.ID, after: str | None = strawberry.UNSET
    ) -> AsyncGenerator[KlaviyoBackfillNotification, None]:
        """How far a backfill is."""
        async for item in klaviyo_subscriptions.klaviyo_backfill(info.context, id, after):
            yield item
