"""Runs backfills: each step reads rows of history, then queues their deliveries and saves its cursor in a
transaction.

At most WINDOW deliveries wait at a time. If two processes take the same step, one is rolled back.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import cast

import structlog

from gateway.caches import Cache, CacheBudget
from gateway.core.background import run_forever
from gateway.core.clock import Clock
from gateway.core.ids import Minter
from gateway.destinations.klaviyo.backfill import WINDOW, BackfillState, Stage, advanced, bounds_of, finished
from gateway.destinations.klaviyo.backfill_metrics import historical_metric_events
from gateway.destinations.klaviyo.backfill_reader import count_rows, next_rows, rows_before, subjects_by_id
from gateway.destinations.klaviyo.backfill_repository import running
from gateway.destinations.klaviyo.backfill_writer import BackfillWriter
from gateway.destinations.klaviyo.connections import KlaviyoConnections
from gateway.destinations.klaviyo.documents import BackfillDocument
from gateway.destinations.klaviyo.identifiers import identifiers_of
from gateway.destinations.klaviyo.live_profiles import with_live_profile
from gateway.destinations.klaviyo.metric_events import MetricEvent
from gateway.destinations.klaviyo.new_deliveries import full_profile, support_event
from gateway.destinations.klaviyo.repository import KlaviyoStore
from gateway.domain.contacts.documents import ContactDocument
from gateway.errors import UnavailableError
from gateway.outbox.deliveries import DeliveryState, NewDelivery, Queue
from gateway.outbox.enqueuer import Enqueuer
from gateway.store.driver import Session, TransientError
from gateway.store.workspace_store import Store

_POLL_SECONDS = 0.5
_MOST_WARNED, _WARNED_SECONDS, _WARNED_BYTES = 1000, 60.0, 100
_FOR_EVER = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class _Step:
    """The rows read in one step, their deliveries, and the id to continue after (None: the stage is finished)."""

    rows: int
    deliveries: Sequence[NewDelivery]
    idle: int
    last_id: str | None


class BackfillRunner:
    """Carries out backfills; `run` runs in every process that delivers."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        minter: Minter,
        connections: KlaviyoConnections,
        enqueuer: Enqueuer,
        caches: CacheBudget | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._connections = connections
        self._enqueuer = enqueuer
        self._writer = BackfillWriter(clock, minter)
        self._log = structlog.get_logger("gateway.backfills")
        self._warned: Cache[str, bool] = Cache(
            caches or CacheBudget(), lambda *_: _WARNED_BYTES, _MOST_WARNED, _WARNED_SECONDS, time.monotonic
        )

    async def run(self) -> None:
        """Step through every active backfill until cancelled."""
        await run_forever(
            self._step_all,
            _POLL_SECONDS,
            self._log,
            unavailable="backfills wait for the database",
            failed="backfills could not be read",
        )

    async def step(self, workspace_id: str, id_: str) -> bool:
        """Take one step; returns whether there was one to take."""
        store = self._open(workspace_id)
        backfill = await store.backfills.get(id_)
        return backfill is not None and await self._step(store, backfill)

    def _open(self, workspace_id: str) -> KlaviyoStore:
        return KlaviyoStore(self._store.open(workspace_id))

    async def _step_all(self) -> float | None:
        """Take a step of each backfill; no pause after it if one moved on."""
        moved_on = [await self._step_safely(backfill) for backfill in await running(self._store.database)]
        return 0 if any(moved_on) else None

    async def _step_safely(self, backfill: BackfillDocument) -> bool:
        try:
            return await self._step(self._open(backfill["workspace_id"]), backfill)
        except TransientError as error:
            stored = await self._open(backfill["workspace_id"]).backfills.by_ids([backfill["_id"]])
            if stored.get(backfill["_id"]) == backfill:  # unchanged, so no concurrent step explains the failure
                reason = str(error.__cause__ or error)
                self._log.warning("step of a backfill failed; retrying", backfill=backfill["_id"], reason=reason)
        except UnavailableError as error:
            self._log.warning("backfill waits for the database", reason=str(error))
        except Exception:
            self._log.exception("backfill failed; retrying", backfill=backfill["_id"])
        return False

    async def _step(self, store: KlaviyoStore, backfill: BackfillDocument) -> bool:
        if backfill["state"] != BackfillState.RUNNING:
            return False
        if not (await self._connections.read(store.workspace_id)).is_active:
            await self._handle_disconnected(store, backfill)
            return False
        if not backfill.get("counted"):
            await self._writer.change(
                store, backfill, {"counted": True}, {"total": await count_rows(store.workspace, backfill)}
            )
            return True
        waiting = await self._count_waiting(store, backfill)
        if backfill["stages"] and waiting < WINDOW:
            step = await self._read(store, backfill, WINDOW - waiting)
            await store.database.transaction(partial(self._write, store, backfill, step))
            return True
        if not backfill["stages"] and not waiting:
            latest = (await store.backfills.by_ids([backfill["_id"]]))[backfill["_id"]]  # with the final counts
            await self._writer.change(store, backfill, finished(latest, BackfillState.DONE, self._clock()))
            return True
        return False

    async def _handle_disconnected(self, store: KlaviyoStore, backfill: BackfillDocument) -> None:
        """Fail the backfill if the workspace is disconnected; wait if Klaviyo is off for this process alone."""
        if await store.connections.is_off():
            await self._writer.change(store, backfill, finished(backfill, BackfillState.FAILED, self._clock()))
        elif backfill["_id"] not in self._warned:
            self._warned.put(backfill["_id"], True)
            reason = "Klaviyo is off in this process: set GATEWAY_KLAVIYO_MODE as in the others, or connect with connectKlaviyo."
            self._log.warning("backfill waits for the connection", backfill=backfill["_id"], reason=reason)

    async def _count_waiting(self, store: KlaviyoStore, backfill: BackfillDocument) -> int:
        """How many of its deliveries are still queued; 0 if no lane has any, as after an erasure."""
        due = await store.lanes.due(Queue.BACKFILL, self._clock() + _FOR_EVER, 1)
        return max(1, backfill["queued"] - backfill["settled"]) if due else 0

    async def _read(self, store: KlaviyoStore, backfill: BackfillDocument, room: int) -> _Step:
        """The next rows with their deliveries, up to the row that fills `room`."""
        stage = Stage(backfill["stages"][0])
        low, high = bounds_of(backfill, stage)
        rows = await next_rows(store.workspace, stage, backfill["place"] or low, high)
        if stage is Stage.CONTACTS:
            contacts = cast(list[ContactDocument], rows[:room])
            return await self._profiles(store, contacts, rows_before(rows, min(room, len(rows))))
        events_by_row: dict[str, list[MetricEvent]] = {}
        for row in rows:
            events_by_row[row["_id"]] = [
                event for event in historical_metric_events(stage, row) if _is_requested(backfill, event)
            ]
            room -= len(events_by_row[row["_id"]])
            if room <= 0:
                break
        last_id, rows = rows_before(rows, len(events_by_row)), rows[: len(events_by_row)]
        subjects = await subjects_by_id(store.workspace, stage, [row for row in rows if events_by_row[row["_id"]]])
        deliveries: list[NewDelivery] = []
        idle, now = 0, self._clock()
        for row in rows:
            subject = subjects.get(str(row.get("subject_id", row["_id"])))
            row_deliveries = (
                []
                if subject is None
                else [support_event(event, subject, now, history=True) for event in events_by_row[row["_id"]]]
            )
            deliveries += row_deliveries
            idle += not row_deliveries
        return _Step(len(rows), deliveries, idle, last_id)

    async def _profiles(self, store: KlaviyoStore, rows: Sequence[ContactDocument], last_id: str | None) -> _Step:
        with_live_profiles = await with_live_profile(store, [row["_id"] for row in rows])
        contacts = [row for row in rows if row["_id"] not in with_live_profiles]
        deliveries = [full_profile(row) for row in contacts if identifiers_of(row).any]
        return _Step(len(rows), deliveries, len(rows) - len(deliveries), last_id)

    async def _write(self, store: KlaviyoStore, backfill: BackfillDocument, step: _Step, session: Session) -> None:
        rows = await self._enqueuer.enqueue(
            store.workspace, step.deliveries, self._clock(), session, Queue.BACKFILL, backfill_id=backfill["_id"]
        )
        rejected = sum(row["state"] == DeliveryState.REJECTED for row in rows)
        coalesced = len(step.deliveries) - len(rows)  # profiles that replaced a waiting one
        increments = {
            "queued": len(rows),
            "settled": rejected,
            "failed": rejected,
            "done": step.idle + coalesced,
            "total": len(step.deliveries) - (step.rows - step.idle),
        }
        await self._writer.write(store, backfill, advanced(backfill, step.last_id), increments, session)


def _is_requested(backfill: BackfillDocument, event: MetricEvent) -> bool:
    is_requested_metric = backfill["metrics"] is None or event.metric in backfill["metrics"]
    return bool(is_requested_metric and backfill["since"] <= event.at < backfill["until"])
