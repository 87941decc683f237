"""Backfills under way: a few rows of history a transaction, with the place from which it goes on, and never more of them
waiting than a window holds. Any number of processes take part: of two at the same place one begins anew."""

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
    backfill_line,
    bounds_of,
    finished,
    new_backfill,
    resumed,
)
from gateway.domain.contacts.contacts import Document
from gateway.domain.deliveries import DeliveryState, NewDelivery, Queue
from gateway.domain.events.events import check_idempotency_key
from gateway.errors import ErrorCode, UnavailableError, UserProblem
from gateway.services.klaviyo import KlaviyoService
from gateway.services.outboxes import Outbox, full_profile, support_event, with_live_profile
from gateway.services.pasts import count_rows, next_rows, rows_before, subjects_by_id
from gateway.services.syncs import KlaviyoConnections
from gateway.settings import KlaviyoMode
from gateway.store.backfills import running
from gateway.store.driver import DuplicateError, Session, TransientError
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore

_AGAIN_SECONDS = 0.5
_MOST_WARNED, _WARNED_SECONDS, _WARNED_BYTES = 1000, 60.0, 100
_FOR_EVER = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class _Step:
    """Rows of history, what is to be delivered of them, and behind which row the next step begins (None: none is left)."""

    rows: int
    wanted: Sequence[NewDelivery]
    idle: int
    last_id: str | None


class BackfillService:
    """What can be done to backfills; `run` in every process that delivers."""

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

    async def start(self, workspace_id: str, sent: Mapping[str, Any]) -> Document:
        """A new backfill; CONFLICT where another one is under way."""
        compared = {name: value for name, value in sent.items() if name != "idempotency_key"}
        kept = claim("startKlaviyoBackfill", check_idempotency_key(sent.get("idempotency_key")), _plain(compared))
        store, now = self._store.open(workspace_id), self._clock()
        id_ = self._minter.mint(Prefix.BACKFILL, now)
        backfill = new_backfill(id_, workspace_id, sent, _check(sent), now)

        async def write(session: Session) -> None:
            await store.backfills.insert(backfill, session)
            if kept is not None:
                await store.idempotency_keys.keep(kept, {"backfill_id": id_}, now, session)
            await self._report(store, backfill, session)

        async def attempt(number: int) -> Document:
            if kept and (first := await store.idempotency_keys.result_of(kept)) is not None:
                return (await store.backfills.by_ids([first["backfill_id"]]))[first["backfill_id"]]
            if number > 1 and (found := (await store.backfills.by_ids([id_])).get(id_)) is not None:
                return found
            await self._klaviyo.check_on(workspace_id)
            if (other := await store.backfills.active()) is not None:
                raise _conflict(other["_id"])
            try:
                await store.database.transaction(write)
            except DuplicateError:
                raise TransientError("another one began meanwhile") from None
            return backfill

        return await retry_transaction(attempt)

    async def pause(self, workspace_id: str, id_: str) -> Document:
        """Let it queue nothing more until it is resumed; what waits already goes out."""
        return await self._turn(workspace_id, id_, BackfillState.PAUSED)

    async def resume(self, workspace_id: str, id_: str) -> Document:
        """Go on where it was."""
        await self._klaviyo.check_on(workspace_id)
        return await self._turn(workspace_id, id_, BackfillState.RUNNING)

    async def cancel(self, workspace_id: str, id_: str) -> Document:
        """Let it queue nothing more, for ever; what waits already goes out."""
        return await self._turn(workspace_id, id_, BackfillState.CANCELLED)

    async def run(self) -> None:
        """Walk through the history of every backfill that is under way, until cancelled."""
        while True:
            moved_on = False
            try:
                for backfill in await running(self._store.database):
                    moved_on = await self._step_safely(backfill) or moved_on
            except UnavailableError as error:
                self._log.warning("backfills wait for the database", reason=str(error))
            except Exception:
                self._log.exception("backfills could not be read")
            await asyncio.sleep(0 if moved_on else _AGAIN_SECONDS)

    async def step(self, workspace_id: str, id_: str) -> bool:
        """Go a step further; whether there was one to go."""
        store = self._store.open(workspace_id)
        found = (await store.backfills.by_ids([id_])).get(id_)
        return found is not None and await self._step(store, found)

    async def _step_safely(self, backfill: Document) -> bool:
        try:
            return await self._step(self._store.open(backfill["workspace_id"]), backfill)
        except TransientError as error:
            found = await self._store.open(backfill["workspace_id"]).backfills.by_ids([backfill["_id"]])
            if found.get(backfill["_id"]) == backfill:  # else another made this step, or deliveries of it were settled
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
            await self._without_sync(store, backfill)
            return False
        if not backfill.get("counted"):
            await self._change(store, backfill, {"counted": True}, {"total": await count_rows(store, backfill)})
            return True
        waits = await self._waits(store, backfill)
        if backfill["stages"] and waits < WINDOW:
            step = await self._read(store, backfill, WINDOW - waits)
            await store.database.transaction(partial(self._write, store, backfill, step))
            return True
        if not backfill["stages"] and not waits:
            latest = (await store.backfills.by_ids([backfill["_id"]]))[backfill["_id"]]  # the last ones are settled
            await self._change(store, backfill, finished(latest, BackfillState.DONE, self._clock()))
            return True
        return False

    async def _without_sync(self, store: WorkspaceStore, backfill: Document) -> None:
        """End it where the workspace was disconnected; wait where this process alone believes that nothing is connected."""
        if (await store.syncs.find() or {}).get("mode") == KlaviyoMode.OFF:
            await self._change(store, backfill, finished(backfill, BackfillState.FAILED, self._clock()))
        elif backfill["_id"] not in self._warned:
            self._warned.put(backfill["_id"], True)
            reason = "Klaviyo is off for this process: set GATEWAY_KLAVIYO_MODE as for the others, or connect it by connectKlaviyo."
            self._log.warning("a backfill waits for the sync", backfill=backfill["_id"], reason=reason)

    async def _waits(self, store: WorkspaceStore, backfill: Document) -> int:
        """How much of it waits; whatever was erased with its contact does not."""
        due = await store.lanes.due(Queue.BACKFILL, self._clock() + _FOR_EVER, 1)
        return max(1, backfill["queued"] - backfill["settled"]) if due else 0

    async def _read(self, store: WorkspaceStore, backfill: Document, room: int) -> _Step:
        """The next rows, and what is to be delivered of them: up to the row with which that many are reached."""
        stage = Stage(backfill["stages"][0])
        low, high = bounds_of(backfill, stage)
        rows = await next_rows(store, stage, backfill["place"] or low, high)
        if stage is Stage.CONTACTS:
            return await self._profiles(store, rows[:room], rows_before(rows, min(room, len(rows))))
        pasts: dict[str, list[MetricEvent]] = {}
        for row in rows:
            pasts[row["_id"]] = [one for one in historical_metric_events(stage, row) if _is_requested(backfill, one)]
            room -= len(pasts[row["_id"]])
            if room <= 0:
                break
        last_id, rows = rows_before(rows, len(pasts)), rows[: len(pasts)]
        subjects = await subjects_by_id(store, stage, [row for row in rows if pasts[row["_id"]]])
        wanted: list[NewDelivery] = []
        idle, now = 0, self._clock()
        for row in rows:
            subject = subjects.get(str(row.get("subject_id", row["_id"])))
            found = (
                [] if subject is None else [support_event(one, subject, now, history=True) for one in pasts[row["_id"]]]
            )
            wanted += found
            idle += not found
        return _Step(len(rows), wanted, idle, last_id)

    async def _profiles(self, store: WorkspaceStore, rows: Sequence[Document], last_id: str | None) -> _Step:
        """The profiles of those contacts of whom Klaviyo was told nothing, nor is about to be, and whom it could know: of
        others it has the newest."""
        told = await with_live_profile(store, [row["_id"] for row in rows])
        untold = [row for row in rows if row["_id"] not in told]
        wanted = [full_profile(row) for row in untold if identifiers_of(row).any]
        return _Step(len(rows), wanted, len(rows) - len(wanted), last_id)

    async def _write(self, store: WorkspaceStore, backfill: Document, step: _Step, session: Session) -> None:
        """Queue what a step found, with the place from which the next one goes on."""
        rows = await self._outbox.enqueue(
            store, step.wanted, self._clock(), session, Queue.BACKFILL, backfill_id=backfill["_id"]
        )
        rejected = sum(row["state"] == DeliveryState.REJECTED for row in rows)
        left = len(step.wanted) - len(rows)  # the place of a profile that waits already
        more = {
            "queued": len(rows),
            "settled": rejected,
            "failed": rejected,
            "done": step.idle + left,
            "total": len(step.wanted) - (step.rows - step.idle),
        }
        await self._move(store, backfill, advanced(backfill, step.last_id), more, session)

    async def _turn(self, workspace_id: str, id_: str, state: BackfillState) -> Document:
        store = self._store.open(workspace_id)

        async def attempt(_: int) -> Document:
            found, now = (await store.backfills.by_ids([id_])).get(id_), self._clock()
            if found is None:
                raise UserProblem(ErrorCode.NOT_FOUND, f"There is no backfill with the id '{id_}'.", ("id",))
            if found["state"] == state:
                return found
            if found["state"] not in ACTIVE:
                message = f"The backfill is {found['state']}, and only one that is RUNNING or PAUSED changes: start a new one."
                raise UserProblem(ErrorCode.ILLEGAL_TRANSITION, message, ("id",))
            values: Document = {"state": state.value}
            if state is BackfillState.RUNNING:
                values = resumed(found, now)
            elif state is BackfillState.CANCELLED:
                values = finished(found, state, now)
            await self._change(store, found, values)
            return {**found, **values}

        return await retry_transaction(attempt)

    async def _change(
        self, store: WorkspaceStore, backfill: Document, values: Document, more: Mapping[str, int] | None = None
    ) -> None:
        await store.database.transaction(partial(self._move, store, backfill, values, more or {}))

    async def _move(
        self,
        store: WorkspaceStore,
        backfill: Document,
        values: Document,
        more: Mapping[str, int],
        session: Session,
    ) -> None:
        await store.backfills.change(backfill, values, session, more)
        await self._report(store, backfill, session)

    async def _report(self, store: WorkspaceStore, backfill: Document, session: Session) -> None:
        now = self._clock()
        line = backfill_line(self._minter.mint(Prefix.CHANGE, now), store.workspace_id, backfill["_id"], now)
        await store.changes.write([line], session)


def _check(sent: Mapping[str, Any]) -> list[Stage]:
    """What is to be walked through; UserProblem."""
    metrics = sent.get("metrics")
    for place, name in enumerate(metrics or ()):
        if name not in set(Metric):
            message = f"'{name}' is none of the nine metrics: {', '.join(Metric)}."
            raise UserProblem(ErrorCode.INVALID, message, ("metrics", str(place)))
    since, until = sent.get("since"), sent.get("until")
    if since is not None and until is not None and since >= until:
        raise UserProblem(ErrorCode.INVALID, "since must lie before until.", ("since",))
    asked = set(Metric) if metrics is None else set(metrics)
    stages = [Stage.CONTACTS] if sent.get("include_profiles") is not False else []
    stages += [stage for stage, told in METRICS.items() if asked.intersection(told)]
    if not stages:
        raise UserProblem(
            ErrorCode.INVALID, "There is nothing to tell: name a metric, or include profiles.", ("metrics",)
        )
    return stages


def _is_requested(backfill: Mapping[str, Any], one: Any) -> bool:
    asked = backfill["metrics"] is None or one.metric in backfill["metrics"]
    return bool(asked and backfill["since"] <= one.at < backfill["until"])


def _conflict(id_: str) -> UserProblem:
    message = f"The backfill '{id_}' is under way, and a workspace has one at a time: cancel it, or wait for its end."
    return UserProblem(ErrorCode.CONFLICT, message)


def _plain(sent: Mapping[str, Any]) -> Document:
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in sent.items()}
