"""The synchronization with Klaviyo: state, figures, deliveries and backfills."""

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
from schema.batching import batched, reads
from schema.connections import Connection, CountedConnection
from schema.nodes import Node, Stored

if TYPE_CHECKING:
    from schema.contacts import Contact

KLAVIYO = Access(scopes=[Scope.KLAVIYO])
LazyContact = Annotated["Contact", strawberry.lazy("schema.contacts")]


@strawberry.type(description="One attempt to send a delivery.")
class DeliveryAttempt(Stored):
    at: datetime
    duration_ms: int
    status: int | None = strawberry.field(
        description="The HTTP status of Klaviyo's response. Null if there was no response."
    )
    error: str | None
    retry_after_seconds: int | None = strawberry.field(description="The pause that Klaviyo asked for, in seconds.")


@strawberry.type(
    description="A profile, event or deletion to send to Klaviyo. Its content is stored when it is queued."
)
class KlaviyoDelivery(Node):
    PREFIX: ClassVar = Prefix.DELIVERY
    kind: DeliveryKind
    metric: str | None = strawberry.field(description="The metric of an EVENT.")
    state: DeliveryState
    unique_id: str = strawberry.field(description="Klaviyo's unique_id: Klaviyo ignores an event that it already has.")
    attempts: list[DeliveryAttempt] = strawberry.field(description="The newest 20 attempts.", directives=[list_of(20)])
    attempt_count: int
    payload: JSON | None = strawberry.field(description="The content to send. Null for a delivered DELETION.")
    created_at: datetime
    delivered_at: datetime | None
    reason: str | None = strawberry.field(
        description="Why it was not delivered. For a delivered one: the properties that were left out, or that it was written to the log."
    )

    @strawberry.field(description="The time of the next attempt. Null if it is not waiting.")
    @reads("state", "next_attempt_at")
    def next_attempt_at(parent: Parent[Any]) -> datetime | None:  # noqa: N805
        return parent.get("next_attempt_at") if parent["state"] in OPEN else None

    @batched(
        klaviyo.subject_of,
        reads=("subject_id", "contact_id"),
        directives=[READ],
        description="The conversation, ticket or event that it reports. For a PROFILE: the contact.",
    )
    def subject(self) -> Node | None: ...

    @batched(contact_of, reads=("contact_id",), directives=[READ], description="Null after the contact was erased.")
    def contact(self) -> Optional[LazyContact]:  # noqa: UP045 - strawberry resolves Optional of a lazy type
        ...


@strawberry.type(description="The state of the synchronization of a contact, conversation or ticket with Klaviyo.")
class KlaviyoSubject(Stored):
    @batched(klaviyo.profile_ids, description="The id of the contact's profile at Klaviyo. Null until it is known.")
    def profile_id(self) -> str | None: ...

    @batched(klaviyo.newest_state, description="The state of the newest delivery.")
    def state(self) -> DeliveryState | None: ...

    @batched(klaviyo.last_synced_at, description="The time of the newest successful delivery.")
    def last_synced_at(self) -> datetime | None: ...

    @batched(
        klaviyo.last_error,
        description="The error of the newest failed delivery. Null if no delivery is failed.",
    )
    def last_error(self) -> str | None: ...

    @batched(klaviyo.of_subjects, description="Newest first.", directives=[PAGED])
    def deliveries(
        self,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[KlaviyoDelivery] | None:
        return page_arguments(first, after, last, before)


@strawberry.type(
    description="The number of deliveries in each state, counted up to 100,000; 100,000 means at least that many. Delivered and rejected ones are kept for 30 days."
)
class DeliveryCounts(Stored):
    pending: SafeInt
    sending: SafeInt
    retrying: SafeInt
    delivered: SafeInt
    rejected: SafeInt
    dead: SafeInt


@strawberry.type(description="A support metric, or the metric of a tracked event that is forwarded.")
class KlaviyoMetric(Node):
    PREFIX: ClassVar = Prefix.METRIC
    name: str
    source: MetricSource
    delivered: SafeInt = strawberry.field(description="The number of delivered events since the beginning.")
    failed: SafeInt = strawberry.field(
        description="The number of events that became DEAD since the beginning. A replayed event can fail again."
    )
    last_delivered_at: datetime | None


@strawberry.type(
    description="A transfer of history to Klaviyo with the original times and unique ids. Klaviyo ignores events that it already has, and starts no flows."
)
class KlaviyoBackfill(Node):
    PREFIX: ClassVar = Prefix.BACKFILL
    state: BackfillState
    total: SafeInt = strawberry.field(
        description="The number of deliveries that the history needs. 0 until it is counted."
    )
    done: SafeInt = strawberry.field(
        description="The number of deliveries that arrived, and of rows that Klaviyo does not need."
    )
    failed: SafeInt = strawberry.field(description="The number of deliveries that are REJECTED or DEAD.")
    started_at: datetime
    finished_at: datetime | None

    @strawberry.field(description="Rows done or failed per second since the start or last resume. 0 while PAUSED.")
    def rate_per_second(parent: Parent[Any], info: Info) -> float:  # noqa: N805
        return rate_of(parent, info.context.services.clock())

    @strawberry.field(description="The seconds until it is done at this rate. Null if unknown.")
    def eta_seconds(parent: Parent[Any], info: Info) -> int | None:  # noqa: N805
        return eta_of(parent, info.context.services.clock())


@strawberry.type(description="The synchronization of the workspace with Klaviyo.")
class KlaviyoSync(Node):
    PREFIX: ClassVar = Prefix.SYNC
    mode: KlaviyoMode
    state: SyncState
    paused_reason: str | None = strawberry.field(description="Why it is PAUSED, and how to fix it.")

    @batched(klaviyo.counts, directives=[Cost(weight=4000)])
    def counts(self) -> DeliveryCounts: ...

    @batched(
        klaviyo.oldest_pending_at, description="The time since which the oldest delivery waits, backfills excluded."
    )
    def oldest_pending_at(self) -> datetime | None: ...

    @batched(klaviyo.lag_seconds, description="How long the oldest delivery has waited. 0 if nothing waits.")
    def lag_seconds(self) -> float: ...

    @strawberry.field(
        description="Ordered by name, at most 1,000. `search` selects names that contain this text, ignoring case.",
        directives=[list_of(klaviyo.MOST_METRICS)],
    )
    async def metrics(
        self, info: Info, source: MetricSource | None = strawberry.UNSET, search: Searched = strawberry.UNSET
    ) -> list[KlaviyoMetric]:
        return await klaviyo.metrics(info.context, source or None, search or None)

    @strawberry.field(description="Newest first.", directives=[PAGED])
    async def deliveries(
        self,
        info: Info,
        filter: DeliveryFilter | None = strawberry.UNSET,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[KlaviyoDelivery] | None:
        return await klaviyo.deliveries(info.context, filter, page_arguments(first, after, last, before))

    @strawberry.field(description="Newest first.", directives=[PAGED])
    async def backfills(
        self,
        info: Info,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> Connection[KlaviyoBackfill] | None:
        return await klaviyo.backfills(info.context, page_arguments(first, after, last, before))


@strawberry.type
class KlaviyoQuery:
    @strawberry.field(directives=[KLAVIYO], description="The synchronization of the workspace with Klaviyo.")
    async def klaviyo(self, info: Info) -> KlaviyoSync | None:
        return await klaviyo.klaviyo(info.context)
