"""Sweeps events older than the retention: one transaction per batch replaces them by tombstones."""

import time
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from gateway.core.background import run_forever
from gateway.core.clock import Clock
from gateway.domain.events.retention import Retention, tombstone_of
from gateway.store.driver import Session, TransientError
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore
from gateway.store.workspaces import Workspaces

NAME = "retention"
# How far back the streams of the embedded servers reach: they report a removed event without its content.
AT_LEAST = timedelta(days=1)
_LEASE = timedelta(seconds=15)
_ROUND = timedelta(minutes=10)
_AGAIN_SECONDS = 2.0
_BATCH = 500


class RetentionService:
    """Sweeps old events in the process that has the lease. The lease only saves work: tombstones are written once in
    any case."""

    def __init__(self, store: Store, retention: Retention, clock: Clock) -> None:
        self._store = store
        self._retention = retention
        self._clock = clock
        self._owner = uuid.uuid4().hex
        self._log = structlog.get_logger("gateway.retention")

    async def run(self) -> None:
        """Sweep every ten minutes, until cancelled; return if events are kept forever."""
        if self._retention.days is not None:
            await run_forever(
                self._step,
                _AGAIN_SECONDS,
                self._log,
                unavailable="sweep of old events interrupted; retrying",
                failed="sweep of old events failed; retrying",
            )

    async def _step(self) -> float:
        return _ROUND.total_seconds() if await self.sweep() else _AGAIN_SECONDS

    async def sweep(self) -> bool:
        """Return whether this process had the lease and swept every workspace."""
        if await self._store.roll_ups.take(NAME, self._owner, _LEASE, _ROUND) is None:
            return False
        for workspace in await self._store.workspaces.all():
            if not await self._sweep_workspace(self._store.open(workspace["_id"])):
                return False
        return await self._store.roll_ups.renew(NAME, self._owner, _ROUND)

    async def _sweep_workspace(self, store: WorkspaceStore) -> bool:
        """Return False if the lease was lost."""
        after: str | None = None
        began, swept, now = time.monotonic(), 0, self._clock()
        while True:
            if not await self._store.roll_ups.renew(NAME, self._owner, _LEASE):
                return False
            rows = await store.events.oldest(self._retention.since(now), after, _BATCH, now)
            event_ids = [row["_id"] for row in rows if row["received_at"] < now - AT_LEAST]
            swept += await self._replace_by_tombstones(store, event_ids) if event_ids else 0
            if len(rows) < _BATCH:
                break
            after = rows[-1]["_id"]
        if swept:
            seconds = round(time.monotonic() - began, 3)
            self._log.info("old events swept", workspace_id=store.workspace_id, events=swept, seconds=seconds)
        return True

    async def _replace_by_tombstones(self, store: WorkspaceStore, event_ids: Sequence[str]) -> int:

        async def attempt(_: int) -> int:
            replaced = 0

            async def write(session: Session) -> None:
                nonlocal replaced
                replaced = await self._write(store, event_ids, self._clock(), session)

            await store.database.transaction(write)
            return replaced

        return await retry_transaction(attempt)

    async def _write(self, store: WorkspaceStore, event_ids: Sequence[str], now: datetime, session: Session) -> int:
        events = list((await store.events.by_ids(event_ids, session)).values())
        if not events:
            return 0
        definitions = await store.definitions.by_names(sorted({row["name"] for row in events}), session)
        counted_keys = {name: definition.get("summarize_by") for name, definition in definitions.items()}
        tombstones = [tombstone_of(row, counted_keys.get(row["name"])) for row in events]
        await store.tombstones.insert(tombstones, session)
        if await store.events.remove([row["_id"] for row in events], session) != len(events):
            raise TransientError("events were deleted during the sweep")
        swept_workspace = self._store.workspaces.setting(store.workspace_id, {"swept_at": now})
        await store.database.bulk(Workspaces.COLLECTION, [swept_workspace], session)
        return len(events)
