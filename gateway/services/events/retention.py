"""The sweep of events that are older than what is kept: each becomes a tombstone, in one transaction with its neighbours."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from gateway.core.clock import Clock
from gateway.domain.events.retention import Retention, tombstone_of
from gateway.errors import UnavailableError
from gateway.store.driver import Session, TransientError
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore
from gateway.store.workspaces import Workspaces

NAME = "retention"
# As long as the embedded servers' streams reach back: they tell of an event that is gone without its content.
AT_LEAST = timedelta(days=1)
_LEASE = timedelta(seconds=15)
_ROUND = timedelta(minutes=10)
_AGAIN_SECONDS = 2.0
_BATCH = 500


class RetentionService:
    """Sweeps; `run` in every process that works in the background: one of them has the lease. The lease is for speed: two
    who sweep at once write each tombstone once."""

    def __init__(self, store: Store, retention: Retention, clock: Clock) -> None:
        self._store = store
        self._retention = retention
        self._clock = clock
        self._owner = uuid.uuid4().hex
        self._log = structlog.get_logger("gateway.retention")

    async def run(self) -> None:
        """Sweep every ten minutes, until cancelled; nothing where events are kept for ever."""
        while self._retention.days is not None:
            done = False
            try:
                done = await self.sweep()
            except UnavailableError as error:
                self._log.warning("the sweep of old events broke off and begins again", reason=str(error))
            except Exception:
                self._log.exception("the sweep of old events failed and begins again")
            await asyncio.sleep(_ROUND.total_seconds() if done else _AGAIN_SECONDS)

    async def sweep(self) -> bool:
        """Whether this process swept every workspace; another one does, or did within ten minutes, where it did not."""
        if await self._store.roll_ups.take(NAME, self._owner, _LEASE, _ROUND) is None:
            return False
        for workspace in await self._store.workspaces.all():
            if not await self._sweep_workspace(self._store.open(workspace["_id"])):
                return False
        return await self._store.roll_ups.renew(NAME, self._owner, _ROUND)

    async def _sweep_workspace(self, store: WorkspaceStore) -> bool:
        """Whether all of it was swept: the lease may be lost on the way."""
        after: str | None = None
        began, swept, now = time.monotonic(), 0, self._clock()
        while True:
            if not await self._store.roll_ups.renew(NAME, self._owner, _LEASE):
                return False
            rows = await store.events.oldest(self._retention.since(now), after, _BATCH, now)
            ripe = [row["_id"] for row in rows if row["received_at"] < now - AT_LEAST]
            swept += await self._replace_by_tombstones(store, ripe) if ripe else 0
            if len(rows) < _BATCH:
                break
            after = rows[-1]["_id"]
        if swept:
            seconds = round(time.monotonic() - began, 3)
            self._log.info("old events swept", workspace_id=store.workspace_id, events=swept, seconds=seconds)
        return True

    async def _replace_by_tombstones(self, store: WorkspaceStore, ids: Sequence[str]) -> int:
        """Put tombstones in the place of these events; how many there were still."""

        async def attempt(_: int) -> int:
            buried = 0

            async def write(session: Session) -> None:
                nonlocal buried
                buried = await self._write(store, ids, self._clock(), session)

            await store.database.transaction(write)
            return buried

        return await retry_transaction(attempt)

    async def _write(self, store: WorkspaceStore, ids: Sequence[str], now: datetime, session: Session) -> int:
        events = list((await store.events.by_ids(ids, session)).values())
        if not events:
            return 0
        definitions = await store.definitions.by_names(sorted({row["name"] for row in events}), session)
        tombstones = [tombstone_of(row, definitions.get(row["name"], {})) for row in events]
        await store.tombstones.insert(tombstones, session)
        if await store.events.remove([row["_id"] for row in events], session) != len(events):
            raise TransientError("events went while they were swept")
        marked = self._store.workspaces.setting(store.workspace_id, {"swept_at": now})
        await store.database.bulk(Workspaces.COLLECTION, [marked], session)
        return len(events)
