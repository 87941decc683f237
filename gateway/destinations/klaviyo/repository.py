"""What is stored of Klaviyo beside its backfills: deliveries, the connection, and counts per metric."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar

from pymongo import ASCENDING, IndexModel, InsertOne, UpdateOne

from gateway.core.time_ranges import EARLIEST
from gateway.destinations.klaviyo.backfill_repository import Backfills
from gateway.destinations.klaviyo.connection import connection_id_of, metric_id_of
from gateway.destinations.klaviyo.documents import ConnectionChanges, ConnectionDocument, MetricCounts, MetricDocument
from gateway.destinations.klaviyo.rate_window_repository import RateWindows
from gateway.outbox.repository import Deliveries, Lanes, set_or_unset
from gateway.settings import KlaviyoMode
from gateway.store.driver import Document, DuplicateError, Operation, Session
from gateway.store.repositories import Repository
from gateway.store.workspace_store import WorkspaceStore


class KlaviyoDeliveries(Deliveries):
    COLLECTION: ClassVar[str] = "deliveries"


class KlaviyoLanes(Lanes):
    COLLECTION: ClassVar[str] = "delivery_lanes"


class Connections(Repository[ConnectionDocument]):
    """The workspace's Klaviyo connection and its state: one document."""

    COLLECTION: ClassVar[str] = "klaviyo_syncs"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (IndexModel([("workspace_id", ASCENDING)], name="workspace"),)

    async def find(self) -> ConnectionDocument | None:
        """The stored connection."""
        id_ = connection_id_of(self._workspace_id)
        return await self.get(id_)

    async def connected_at(self) -> datetime:
        """When the current account was connected."""
        stored = await self.find()
        return EARLIEST if stored is None else stored.get("connected_at", EARLIEST)

    async def is_off(self) -> bool:
        stored = await self.find()
        return stored is not None and stored.get("mode") == KlaviyoMode.OFF

    async def update(self, values: ConnectionChanges, **guard: str) -> bool:
        """Set these fields, None removes one; False if the guard does not match."""
        id_ = connection_id_of(self._workspace_id)
        filter_ = {"_id": id_, "workspace_id": self._workspace_id, **guard}
        if await self._database.update(self.COLLECTION, filter_, set_or_unset(values)):
            return True
        if guard:
            return False
        document = {name: value for name, value in values.items() if value is not None}
        try:
            await self._database.insert(self.COLLECTION, [{"_id": id_, "workspace_id": self._workspace_id, **document}])
        except DuplicateError:
            return await self._database.update(self.COLLECTION, filter_, set_or_unset(values)) == 1
        return True


class DeliveryMetrics(Repository[MetricDocument]):
    """Delivered and failed deliveries, counted per metric."""

    COLLECTION: ClassVar[str] = "klaviyo_metrics"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (IndexModel([("workspace_id", ASCENDING)], name="workspace"),)

    async def all(self) -> list[MetricDocument]:
        """Every metric with a count."""
        return await self._find({})

    async def add(self, metrics: Iterable[MetricCounts], session: Session) -> None:
        """Add counts: `name`, `source`, `delivered`, `failed`, and `last_delivered_at` or None."""
        counts_by_id = {metric_id_of(self._workspace_id, counts["name"]): counts for counts in metrics}
        existing = await self.by_ids(list(counts_by_id), session)
        operations: list[Operation] = [
            self._insert_counts(id_, counts) if id_ not in existing else self._add_counts(id_, counts)
            for id_, counts in counts_by_id.items()
        ]
        await self._database.bulk(self.COLLECTION, operations, session)

    def _insert_counts(self, id_: str, counts: MetricCounts) -> Operation:
        return InsertOne({"_id": id_, "workspace_id": self._workspace_id, **counts})

    def _add_counts(self, id_: str, counts: MetricCounts) -> Operation:
        change: Document = {"$inc": {"delivered": counts["delivered"], "failed": counts["failed"]}}
        if counts["last_delivered_at"] is not None:
            change["$max"] = {"last_delivered_at": counts["last_delivered_at"]}
        return UpdateOne({"_id": id_, "workspace_id": self._workspace_id}, change)


REPOSITORIES: tuple[type[Repository[Any]], ...] = (
    KlaviyoDeliveries,
    KlaviyoLanes,
    Connections,
    DeliveryMetrics,
    RateWindows,
    Backfills,
)


class KlaviyoStore:
    """The repositories of Klaviyo in one workspace, beside the workspace's own."""

    def __init__(self, store: WorkspaceStore) -> None:
        self.workspace = store
        self.workspace_id = store.workspace_id
        self.database = store.database
        self.changes = store.changes
        self.deliveries = store.repository(KlaviyoDeliveries)
        self.lanes = store.repository(KlaviyoLanes)
        self.connections = store.repository(Connections)
        self.metrics = store.repository(DeliveryMetrics)
        self.rate_windows = store.repository(RateWindows)
        self.backfills = store.repository(Backfills)
