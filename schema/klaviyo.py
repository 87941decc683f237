"""What Klaviyo hears: the sync, its figures, and every delivery with its attempts."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Optional

import strawberry
from strawberry import Info, Parent

from gateway.core.ids import Prefix
from gateway.core.principals import Scope
from gateway.destinations.klaviyo.backfill import BackfillState, eta_of, rate_of
from gateway.destinations.klaviyo.connection import SyncState
from gateway.destinations.klaviyo.mapping import MetricSource
from gateway.outbox.deliveries import OPEN, DeliveryKind, DeliveryState
from gateway.settings import KlaviyoMode
from resolvers import klaviyo
from resolvers.costs import PAGED, Cost, Searched, list_of
from resolvers.events import contact_of
from resolvers.inputs import page_arguments
from resolvers.klaviyo import DeliveryFilter
from resolvers.scalars import JSON, SafeInt
from schema.access import READ, Access
from schema.batching import by_level, reads
from schema.connections import Connection, CountedConnection
from schema.nodes import Node, Stored

if TYPE_CHECKING:
    from schema.contacts import Contact

KLAVIYO = Access(scopes=[Scope.KLAVIYO])
LazyContact = Annotated["Contact", strawberry.lazy("schema.contacts")]


@strawberry.type(description="One try at a delivery.")
class DeliveryAttempt(Stored):
    """One try."""

    at: datetime
    duration_ms: int
    status: int | None = strawberry.field(description="Of Klaviyo's answer; null where there was none.")
    error: str | None
    retry_after_seconds: int | None = strawberry.field(description="What Klaviyo asked for; nothing is sent before.")


@strawberry.type(description="Something that Klaviyo is to hear, frozen when it happened.")
class KlaviyoDelivery(Node):
    """Something that Klaviyo is to hear."""

    PREFIX: ClassVar = Prefix.DELIVERY
    kind: DeliveryKind
    metric: str | None = strawberry.field(description="Of an EVENT.")
    state: DeliveryState
    unique_id: str = strawberry.field(description="By which Klaviyo knows an event that it has already.")
    attempts: list[DeliveryAttempt] = strawberry.field(description="The newest 20.", directives=[list_of(20)])
    attempt_count: int
    payload: JSON | None = strawberry.field(description="What is sent; of a DELETION that was delivered null.")
    created_at: datetime
    delivered_at: datetime | None
    reason: str | None = strawberry.field(
        description="Why it has not arrived; of a delivered one what was left out, or that it went to the log."
    )

    @strawberry.field(description="While it waits: when it is tried.")
    @reads("state", "next_attempt_at")
    def next_attempt_at(parent: Parent[Any]) -> datetime | None:  # noqa: N805
        """When it is tried."""
        return parent.get("next_attempt_at") if parent["state"] in OPEN else None

    @by_level(
        klaviyo.subject_of,
        reads=("subject_id", "contact_id"),
        directives=[READ],
        description="The conversation, ticket or event that it tells of; of a PROFILE the contact.",
    )
    def subject(self) -> Node | None:
        """What it tells of."""

    @by_level(contact_of, reads=("contact_id",), directives=[READ], description="Null once the contact is erased.")
    def contact(self) -> Optional[LazyContact]:  # noqa: UP045 - strawberry resolves Optional of a lazy type
        """Whose it is."""


@strawberry.type(description="What Klaviyo has heard of a contact, a conversation or a ticket.")
class KlaviyoSubject(Stored):
    """What Klaviyo has heard of it."""

    @by_level(klaviyo.profile_ids, description="How Klaviyo calls the contact's profile, once it told.")
    def profile_id(self) -> str | None:
        """The profile."""

    @by_level(klaviyo.newest_state, description="Of the newest delivery.")
    def state(self) -> DeliveryState | None:
        """The newest state."""

    @by_level(klaviyo.last_synced_at, description="When the newest delivery that arrived did.")
    def last_synced_at(self) -> datetime | None:
        """When something arrived."""

    @by_level(
        klaviyo.last_error,
        description="Why the newest of those that failed did not arrive; null where none waits for that.",
    )
    def last_error(self) -> str | None:
        """Why something did not arrive."""

    @by_level(klaviyo.of_subjects, description="The newest first.", directives=[PAGED])
    def deliveries(
        self,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[KlaviyoDelivery] | None:
        """Its deliveries."""
        return page_arguments(first, after, last, before)


@strawberry.type(
    description="How many deliveries are in each state, each counted up to 100,000: that very number means at least so many. "
    "Delivered and rejected ones are kept for 30 days."
)
class DeliveryCounts(Stored):
    """How many deliveries there are."""

    pending: SafeInt
    sending: SafeInt
    retrying: SafeInt
    delivered: SafeInt
    rejected: SafeInt
    dead: SafeInt


@strawberry.type(description="One of the nine metrics of support, or of tracked events that are forwarded.")
class KlaviyoMetric(Node):
    """A metric."""

    PREFIX: ClassVar = Prefix.METRIC
    name: str
    source: MetricSource
    delivered: SafeInt = strawberry.field(description="How many events arrived, ever.")
    failed: SafeInt = strawberry.field(description="How many became DEAD, ever; one that is replayed may fail again.")
    last_delivered_at: datetime | None


@strawberry.type(
    description="History told to Klaviyo, with the times and unique ids that it had: what Klaviyo knows already it keeps once, and "
    "no flow is set off."
)
class KlaviyoBackfill(Node):
    """History told to Klaviyo."""

    PREFIX: ClassVar = Prefix.BACKFILL
    state: BackfillState
    total: SafeInt = strawberry.field(
        description="Rows of history to look at, each delivery of a row counted; 0 at first."
    )
    done: SafeInt = strawberry.field(description="What arrived, and what is nothing that Klaviyo hears.")
    failed: SafeInt = strawberry.field(description="What was REJECTED or is DEAD.")
    started_at: datetime
    finished_at: datetime | None

    @strawberry.field(description="Of what is done or failed, since it began or was resumed; 0 while it is PAUSED.")
    def rate_per_second(parent: Parent[Any], info: Info) -> float:  # noqa: N805
        """How fast it is."""
        return rate_of(parent, info.context.services.clock())

    @strawberry.field(description="In how many seconds it will be over, at this rate; null where nothing tells.")
    def eta_seconds(parent: Parent[Any], info: Info) -> int | None:  # noqa: N805
        """When it will be over."""
        return eta_of(parent, info.context.services.clock())


@strawberry.type(description="The sync of the workspace with Klaviyo.")
class KlaviyoSync(Node):
    """The sync."""

    PREFIX: ClassVar = Prefix.SYNC
    mode: KlaviyoMode
    state: SyncState
    paused_reason: str | None = strawberry.field(description="While it is PAUSED: why, and what to do.")

    @by_level(klaviyo.counts, directives=[Cost(weight=4000)])
    def counts(self) -> DeliveryCounts:
        """How many deliveries there are."""

    @by_level(klaviyo.oldest_pending_at, description="Since when the oldest delivery waits that is not of a backfill.")
    def oldest_pending_at(self) -> datetime | None:
        """Since when something waits."""

    @by_level(klaviyo.lag_seconds, description="For how long it waits; 0 where nothing does.")
    def lag_seconds(self) -> float:
        """For how long something waits."""

    @strawberry.field(
        description="By name, at most 1,000; `search`: what their names contain, whatever its case.",
        directives=[list_of(klaviyo.MOST_METRICS)],
    )
    async def metrics(
        self, info: Info, source: MetricSource | None = strawberry.UNSET, search: Searched = strawberry.UNSET
    ) -> list[KlaviyoMetric]:
        """The metrics."""
        return await klaviyo.metrics(info.context, source or None, search or None)

    @strawberry.field(description="The newest first.", directives=[PAGED])
    async def deliveries(
        self,
        info: Info,
        filter: DeliveryFilter | None = strawberry.UNSET,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[KlaviyoDelivery] | None:
        """A page of deliveries."""
        return await klaviyo.deliveries(info.context, filter, page_arguments(first, after, last, before))

    @strawberry.field(description="The newest first.", directives=[PAGED])
    async def backfills(
        self,
        info: Info,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> Connection[KlaviyoBackfill] | None:
        """A page of backfills."""
        return await klaviyo.backfills(info.context, page_arguments(first, after, last, before))


@strawberry.type
class KlaviyoQuery:
    """The root field that reads the sync."""

    @strawberry.field(directives=[KLAVIYO], description="The sync of the workspace with Klaviyo.")
    async def klaviyo(self, info: Info) -> KlaviyoSync | None:
        """The sync."""
        return await klaviyo.klaviyo(info.context)
