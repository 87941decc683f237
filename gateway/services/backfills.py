"""Runs backfills: each step reads rows of history, then queues their deliveries and saves its cursor in a
transaction.

At most WINDOW deliveries wait at a time. If two processes take the same step, one is rolled back.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from gateway.caches import Cache, CacheBudget
from gateway.core.clock import Clock
from gateway.core.idempotency import claim
from gateway.core.ids import Minter, Prefix
from gateway.destinations.klaviyo.backfill_metrics import METRICS, historical_metric_events
from gateway.destinations.klaviyo.identifiers import identifiers_of
from gateway.destinations.klaviyo.mapping import Metric
from gateway.destinations.klaviyo.metric_events import MetricEvent
from gateway.domain.backfills import (
    ACTIVE,
    WINDOW,
    BackfillState,
    Stage,
    advanced,
    bounds_of,
    finished,
    new_backfill,
    resumed,
)
from gateway.domain.changes import backfill_changed, new_change_id
from gateway.domain.contacts.contacts import Document
from gateway.domain.deliveries import DeliveryState, NewDelivery, Queue
from gateway.domain.events.events import check_idempotency_key
from gateway.errors import ErrorCode, UnavailableError, UserProblem
from gateway.services.backfill_reader import count_rows, next_rows, rows_before, subjects_by_id
from gateway.services.klaviyo import KlaviyoService
from gateway.services.outboxes import Outbox, full_profile, support_event, with_live_profile
from gateway.services.syncs import KlaviyoConnections
from gateway.settings import KlaviyoMode
from gateway.store.backfills import running
from gateway.store.driver import DuplicateError, Session, TransientError
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore

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


class BackfillService:
    """Starts and controls backfills. `run` runs in every process that delivers."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        minter: Minter,
        klaviyo: KlaviyoService,
        syncs: KlaviyoConnections,
        outbox: Outbox,
        caches: CacheBudget | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter
        self._klaviyo = klaviyo
        self._syncs = syncs
        self._outbox = outbox
        self._log = structlog.get_logger("gateway.backfills")
        self._warned: Cache[str, bool] = Cache(
            caches or CacheBudget(), lambda *_: _WARNED_BYTES, _MOST_WARNED, _WARNED_SECONDS, time.monotonic
        )

    async def start(self, workspace_id: str, options: Mapping[str, Any]) -> Document:
        """Start a backfill; UserProblem CONFLICT if another one is active."""
        compared_options = {name: value for name, value in options.items() if name != "idempotency_key"}
        key_claim = claim(
            "startKlaviyoBackfill",
            check_idempotency_key(options.get("idempotency_key")),
            _json_values(compared_options),
        )
        store, now = self._store.open(workspace_id), self._clock()
        id_ = self._minter.mint(Prefix.BACKFILL, now)
        backfill = new_backfill(id_, workspace_id, options, _check_options(options), now)

        async def write(session: Session) -> None:
            await store.backfills.insert(backfill, session)
            if key_claim is not None:
                await store.idempotency_keys.keep(key_claim, {"backfill_id": id_}, now, session)
            await self._log_change(store, backfill, session)

        async def attempt(number: int) -> Document:
            if key_claim and (result := await store.idempotency_keys.result_of(key_claim)) is not None:
                return (await store.backfills.by_ids([result["backfill_id"]]))[result["backfill_id"]]
            if number > 1 and (stored := (await store.backfills.by_ids([id_])).get(id_)) is not None:
                return stored
            await self._klaviyo.check_on(workspace_id)
            if (active := await store.backfills.active()) is not None:
                raise _conflict(active["_id"])
            try:
                await store.database.transaction(write)
            except DuplicateError:
                raise TransientError("another one began meanwhile") from None
            return backfill

        return await retry_transaction(attempt)

    async def pause(self, workspace_id: str, id_: str) -> Document:
        """Queue nothing more until it is resumed. What is queued is still sent."""
        return await self._set_state(workspace_id, id_, BackfillState.PAUSED)

    async def resume(self, workspace_id: str, id_: str) -> Document:
        """Continue from the saved cursor."""
        await self._klaviyo.check_on(workspace_id)
        return await self._set_state(workspace_id, id_, BackfillState.RUNNING)

    async def cancel(self, workspace_id: str, id_: str) -> Document:
        """Queue nothing more. What is queued is still sent."""
        return await self._set_state(workspace_id, id_, BackfillState.CANCELLED)

    async def run(self) -> None:
        """Step through every active backfill until cancelled."""
        while True:
            moved_on = False
            try:
                for backfill in await running(self._store.database):
                    moved_on = await self._step_safely(backfill) or moved_on
            except UnavailableError as error:
                self._log.warning("backfills wait for the database", reason=str(error))
            except Exception:
                self._log.exception("backfills could not be read")
            await asyncio.sleep(0 if moved_on else _POLL_SECONDS)

    async def step(self, workspace_id: str, id_: str) -> bool:
        """Take one step; returns whether there was one to take."""
        store = self._store.open(workspace_id)
        backfill = (await store.backfills.by_ids([id_])).get(id_)
        return backfill is not None and await self._step(store, backfill)

    async def _step_safely(self, backfill: Document) -> bool:
        try:
            return await self._step(self._store.open(backfill["workspace_id"]), backfill)
        except TransientError as error:
            stored = await self._store.open(backfill["workspace_id"]).backfills.by_ids([backfill["_id"]])
            if stored.get(backfill["_id"]) == backfill:  # unchanged, so no concurrent step explains the failure
                reason = str(error.__cause__ or error)
                self._log.warning(
                    "a step of a backfill failed and is tried again", backfill=backfill["_id"], reason=reason
                )
        except UnavailableError as error:
            self._log.warning("a backfill waits for the database", reason=str(error))
        except Exception:
            self._log.exception("a backfill failed and is tried again", backfill=backfill["_id"])
        return False

    async def _step(self, store: WorkspaceStore, backfill: Document) -> bool:
        if backfill["state"] != BackfillState.RUNNING:
            return False
        if not (await self._syncs.read(store.workspace_id)).is_active:
            await self._handle_disconnected(store, backfill)
            return False
        if not backfill.get("counted"):
            await self._change(store, backfill, {"counted": True}, {"total": await count_rows(store, backfill)})
            return True
        waiting = await self._count_waiting(store, backfill)
        if backfill["stages"] and waiting < WINDOW:
            step = await self._read(store, backfill, WINDOW - waiting)
            await store.database.transaction(partial(self._write, store, backfill, step))
            return True
        if not backfill["stages"] and not waiting:
            latest = (await store.backfills.by_ids([backfill["_id"]]))[backfill["_id"]]  # with the final counts
            await self._change(store, backfill, finished(latest, BackfillState.DONE, self._clock()))
            return True
        return False

    async def _handle_disconnected(self, store: WorkspaceStore, backfill: Document) -> None:
        """Fail the backfill if the workspace is disconnected; wait if Klaviyo is off for this process alone."""
        if (await store.syncs.find() or {}).get("mode") == KlaviyoMode.OFF:
            await self._change(store, backfill, finished(backfill, BackfillState.FAILED, self._clock()))
        elif backfill["_id"] not in self._warned:
            self._warned.put(backfill["_id"], True)
            reason = "Klaviyo is off for this process: set GATEWAY_KLAVIYO_MODE as for the others, or connect it by connectKlaviyo."
            self._log.warning("a backfill waits for the sync", backfill=backfill["_id"], reason=reason)

    async def _count_waiting(self, store: WorkspaceStore, backfill: Document) -> int:
        """How many of its deliveries are still queued; 0 if no lane has any, as after an erasure."""
        due = await store.lanes.due(Queue.BACKFILL, self._clock() + _FOR_EVER, 1)
        return max(1, backfill["queued"] - backfill["settled"]) if due else 0

    async def _read(self, store: WorkspaceStore, backfill: Document, room: int) -> _Step:
        """The next rows with their deliveries, up to the row that fills `room`."""
        stage = Stage(backfill["stages"][0])
        low, high = bounds_of(backfill, stage)
        rows = await next_rows(store, stage, backfill["place"] or low, high)
        if stage is Stage.CONTACTS:
            return await self._profiles(store, rows[:room], rows_before(rows, min(room, len(rows))))
        events_by_row: dict[str, list[MetricEvent]] = {}
        for row in rows:
            events_by_row[row["_id"]] = [
                event for event in historical_metric_events(stage, row) if _is_requested(backfill, event)
            ]
            room -= len(events_by_row[row["_id"]])
            if room <= 0:
                break
        last_id, rows = rows_before(rows, len(events_by_row)), rows[: len(events_by_row)]
        subjects = await subjects_by_id(store, stage, [row for row in rows if events_by_row[row["_id"]]])
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

    async def _profiles(self, store: WorkspaceStore, rows: Sequence[Document], last_id: str | None) -> _Step:
        with_live_profiles = await with_live_profile(store, [row["_id"] for row in rows])
        contacts = [row for row in rows if row["_id"] not in with_live_profiles]
        deliveries = [full_profile(row) for row in contacts if identifiers_of(row).any]
        return _Step(len(rows), deliveries, len(rows) - len(deliveries), last_id)

    async def _write(self, store: WorkspaceStore, backfill: Document, step: _Step, session: Session) -> None:
        rows = await self._outbox.enqueue(
            store, step.deliveries, self._clock(), session, Queue.BACKFILL, backfill_id=backfill["_id"]
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
        await self._move(store, backfill, advanced(backfill, step.last_id), increments, session)

    async def _set_state(self, workspace_id: str, id_: str, state: BackfillState) -> Document:
        store = self._store.open(workspace_id)

        async def attempt(_: int) -> Document:
            backfill, now = (await store.backfills.by_ids([id_])).get(id_), self._clock()
            if backfill is None:
                raise UserProblem(ErrorCode.NOT_FOUND, f"There is no backfill with the id '{id_}'.", ("id",))
            if backfill["state"] == state:
                return backfill
            if backfill["state"] not in ACTIVE:
                message = f"The backfill is {backfill['state']}, and only one that is RUNNING or PAUSED changes: start a new one."
                raise UserProblem(ErrorCode.ILLEGAL_TRANSITION, message, ("id",))
            values: Document = {"state": state.value}
            if state is BackfillState.RUNNING:
                values = resumed(backfill, now)
            elif state is BackfillState.CANCELLED:
                values = finished(backfill, state, now)
            await self._change(store, backfill, values)
            return {**backfill, **values}

        return await retry_transaction(attempt)

    async def _change(
        self, store: WorkspaceStore, backfill: Document, values: Document, increments: Mapping[str, int] | None = None
    ) -> None:
        await store.database.transaction(partial(self._move, store, backfill, values, increments or {}))

    async def _move(
        self,
        store: WorkspaceStore,
        backfill: Document,
        values: Document,
        increments: Mapping[str, int],
        session: Session,
    ) -> None:
        await store.backfills.change(backfill, values, session, increments)
        await self._log_change(store, backfill, session)

    async def _log_change(self, store: WorkspaceStore, backfill: Document, session: Session) -> None:
        now = self._clock()
        line = backfill_changed(new_change_id(self._minter, now), store.workspace_id, backfill["_id"], now)
        await store.changes.write([line], session)


def _check_options(options: Mapping[str, Any]) -> list[Stage]:
    metrics = options.get("metrics")
    for index, name in enumerate(metrics or ()):
        if name not in set(Metric):
            message = f"'{name}' is none of the nine metrics: {', '.join(Metric)}."
            raise UserProblem(ErrorCode.INVALID, message, ("metrics", str(index)))
    since, until = options.get("since"), options.get("until")
    if since is not None and until is not None and since >= until:
        raise UserProblem(ErrorCode.INVALID, "since must lie before until.", ("since",))
    requested = set(Metric) if metrics is None else set(metrics)
    stages = [Stage.CONTACTS] if options.get("include_profiles") is not False else []
    stages += [stage for stage, stage_metrics in METRICS.items() if requested.intersection(stage_metrics)]
    if not stages:
        raise UserProblem(
            ErrorCode.INVALID, "There is nothing to tell: name a metric, or include profiles.", ("metrics",)
        )
    return stages


def _is_requested(backfill: Mapping[str, Any], event: Any) -> bool:
    is_requested_metric = backfill["metrics"] is None or event.metric in backfill["metrics"]
    return bool(is_requested_metric and backfill["since"] <= event.at < backfill["until"])


def _conflict(id_: str) -> UserProblem:
    message = f"The backfill '{id_}' is under way, and a workspace has one at a time: cancel it, or wait for its end."
    return UserProblem(ErrorCode.CONFLICT, message)


def _json_values(options: Mapping[str, Any]) -> Document:
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in options.items()}
