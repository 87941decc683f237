"""The outbox dispatcher. Workers lease lanes, send their deliveries, and save the results in one transaction that
commits only while the lease holds.

On shutdown a worker releases its lanes; after a crash the leases expire. A delivery that is sent twice keeps its
unique id, and Klaviyo keeps the first.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from gateway.core.clock import Clock
from gateway.core.ids import Minter
from gateway.destinations.klaviyo.batch_sender import Batch, Result, Sender
from gateway.destinations.klaviyo.client import Connections, KlaviyoClient, open_http_client
from gateway.destinations.klaviyo.limiter import Limiter
from gateway.destinations.klaviyo.responses import Outcome, Response
from gateway.domain.change_kinds import ChangeEvent
from gateway.domain.changes import backfill_changed, delivery_changed, new_change_id
from gateway.domain.contacts.contacts import Document
from gateway.domain.deliveries import (
    LEASE,
    DeliveryKind,
    DeliveryState,
    Queue,
    attempt,
    backfill_tallies,
    claim_limit,
    dead,
    delivered,
    in_order,
    released_lane,
    requeued,
    retried,
    retry_delay,
)
from gateway.domain.syncs import LONGEST_BACK_OFF, KlaviyoConnection, SyncState
from gateway.errors import UnavailableError
from gateway.services.outboxes import supersede, with_live_profile
from gateway.services.syncs import KlaviyoConnections
from gateway.settings import KlaviyoMode
from gateway.store.driver import Session, TransientError
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore

_SENDING_SECONDS = 12.0  # with the timeout of one request still less than LEASE
_POLL_SECONDS = 0.5
_ROWS_AT_ONCE = 500
_MOST_READ = 5000
_FAILURES_ALLOWED = 3
_LOGGED = "Written to the log and not sent: the mode is LOG."


@dataclass(frozen=True, slots=True)
class _LaneBatch:
    """Leased lanes and their deliveries. `reached`: the last sequence number that was read of each lane, by lane id."""

    lease: str
    reached: Mapping[str, int]
    rows: Sequence[Document]
    batch: Batch


class OutboxDispatcher:
    """Sends queued deliveries; `run` runs in every background worker."""

    def __init__(
        self, store: Store, syncs: KlaviyoConnections, clock: Clock, minter: Minter, chance: random.Random | None = None
    ) -> None:
        self._store = store
        self._syncs = syncs
        self._clock = clock
        self._minter = minter
        self._chance = chance or random.Random()  # noqa: S311 - jitter
        self._limiters: dict[str, Limiter] = {}
        self._log = structlog.get_logger("gateway.klaviyo")

    async def run(self) -> None:
        """Deliver until cancelled, one task per workspace, so that a slow workspace delays no other."""
        async with open_http_client() as http, asyncio.TaskGroup() as group:
            under_way: dict[str, asyncio.Task[None]] = {}
            while True:
                try:
                    for sync in await self._syncs.active():
                        task = under_way.get(sync.workspace_id)
                        if task is None or task.done():
                            under_way[sync.workspace_id] = group.create_task(self._dispatch(sync, http))
                except UnavailableError as error:
                    self._log.warning("deliveries wait for the database", reason=str(error))
                except Exception:
                    self._log.exception("syncs could not be read")
                await asyncio.sleep(_POLL_SECONDS)

    async def deliver_due(self, workspace_id: str) -> int:
        """Send what is due in one workspace now; returns the number of lanes processed."""
        async with open_http_client() as http:
            return await self._drain(await self._syncs.read(workspace_id), http)

    async def _dispatch(self, sync: KlaviyoConnection, http: Connections) -> None:
        try:
            await self._drain(sync, http)
        except UnavailableError as error:
            self._log.warning("deliveries wait for the database", reason=str(error))
        except Exception:
            self._log.exception("deliveries failed and are tried again", workspace=sync.workspace_id)

    async def _drain(self, sync: KlaviyoConnection, http: Connections) -> int:
        store, done = self._store.open(sync.workspace_id), 0
        while sync.state(self._clock()) is SyncState.RUNNING:
            sender = await self._sender(store, sync, http)
            due = await self._due(store)
            if sender is None or not due:
                break
            if sync.failures >= _FAILURES_ALLOWED:
                due = due[:1]  # a probe: is Klaviyo up again?
            groups = _lane_groups(due)
            self._chance.shuffle(groups)  # workers then seldom claim the same lanes
            for lanes in groups:
                done += len(lanes)
                await self._run_batch(store, sync, sender, lanes)
                sync = await self._syncs.read(sync.workspace_id)
                if sync.state(self._clock()) is not SyncState.RUNNING or lanes[0]["queue"] != Queue.LIVE:
                    break
        return done

    async def _due(self, store: WorkspaceStore) -> list[Document]:
        live = await store.lanes.due(Queue.LIVE, self._clock(), _MOST_READ)
        return live or await store.lanes.due(Queue.BACKFILL, self._clock(), _ROWS_AT_ONCE)

    async def _sender(self, store: WorkspaceStore, sync: KlaviyoConnection, http: Connections) -> Sender | None:
        limiter = self._limiters.setdefault(sync.workspace_id, Limiter(store.quotas, self._clock))
        if sync.mode is KlaviyoMode.LOG:
            return Sender(self._log_deliveries, limiter, self._clock)
        if (key := await self._syncs.api_key(sync)) is None:
            reason = "The key that is kept cannot be opened with GATEWAY_SECRET_KEY: connect Klaviyo again."
            await self._syncs.pause(sync.workspace_id, reason)
            return None
        return Sender(KlaviyoClient(http, sync.base_url, key, self._clock).send, limiter, self._clock)

    async def _log_deliveries(self, operation: Any, body: Document) -> Response:
        self._log.info("Klaviyo would hear", operation=operation.name, body=body)
        return Response(Outcome.DONE)

    async def _run_batch(
        self, store: WorkspaceStore, sync: KlaviyoConnection, sender: Sender, due: Sequence[Document]
    ) -> None:
        """Process a batch of lanes. On cancellation: start no new requests, wait for those in flight, release the
        leases. On a second cancellation the leases expire."""
        ending = asyncio.Event()
        work = asyncio.create_task(self._process(store, sync, sender, due, ending))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            ending.set()
            await asyncio.gather(work, return_exceptions=True)
            raise

    async def _process(
        self,
        store: WorkspaceStore,
        sync: KlaviyoConnection,
        sender: Sender,
        due: Sequence[Document],
        ending: asyncio.Event,
    ) -> None:
        ends = time.monotonic() + _SENDING_SECONDS
        lease = uuid.uuid4().hex
        lanes, rows = await self._claim(store, lease, due)
        if not lanes:
            return
        batch = Batch.of(rows, Queue(lanes[0]["queue"]))
        await sender.run(batch, lambda: not ending.is_set() and time.monotonic() < ends)
        work = _LaneBatch(lease, {lane["_id"]: claim_limit(lane) for lane in lanes}, rows, batch)
        await retry_transaction(lambda _: store.database.transaction(partial(self._write, store, sync, work)))
        await self._update_health(sync, batch)

    async def _claim(
        self, store: WorkspaceStore, lease: str, due: Sequence[Document]
    ) -> tuple[list[Document], list[Document]]:
        """The lanes now leased and their first open deliveries; both empty if another worker claimed a lane first."""
        lanes: list[Document] = []
        rows: list[Document] = []

        async def write(session: Session) -> None:
            nonlocal lanes, rows
            lanes = await store.lanes.claim(due, lease, self._clock() + LEASE, session)
            rows = await store.deliveries.open_in(lanes, session)
            if due[0]["queue"] == Queue.BACKFILL:
                rows = await self._drop_stale_profiles(store, rows, session)
            await store.deliveries.mark_sending([row["_id"] for row in rows], session)

        try:
            await store.database.transaction(write)
        except TransientError:
            return [], []  # if it did commit, the lanes return when the lease expires
        return lanes, rows

    async def _drop_stale_profiles(
        self, store: WorkspaceStore, rows: list[Document], session: Session
    ) -> list[Document]:
        """Drop backfilled profiles of contacts that already have, or are about to get, a newer live one. The live
        path cannot do this for rows already claimed or not yet queued."""
        profiles = [row for row in rows if row["kind"] == DeliveryKind.PROFILE]
        if not profiles:
            return rows
        with_live_profiles = await with_live_profile(store, [row["contact_id"] for row in profiles], session)
        stale = [row for row in profiles if row["contact_id"] in with_live_profiles]
        await supersede(store, self._minter, stale, self._clock(), session)
        stale_ids = {row["_id"] for row in stale}
        return [row for row in rows if row["_id"] not in stale_ids]

    async def _write(self, store: WorkspaceStore, sync: KlaviyoConnection, work: _LaneBatch, session: Session) -> None:
        """Save the results of the lanes that this lease still holds, and release those lanes."""
        now, lanes = self._clock(), await store.lanes.by_ids(list(work.reached), session)
        lanes = {id_: lane for id_, lane in lanes.items() if lane.get("lease") == work.lease}
        rows = [row for row in work.rows if row["lane_id"] in lanes]
        existing_ids = await store.deliveries.existing([row["_id"] for row in rows], session)
        results = {result.row["_id"]: result for result in work.batch.results}
        changes = {
            row["_id"]: self._outcome(row, results.get(row["_id"]), sync) for row in rows if row["_id"] in existing_ids
        }
        await store.deliveries.change(changes, session)
        settled = [{**row, **changes[row["_id"]]} for row in rows if row["_id"] in changes and row["_id"] in results]
        states_before = {row["_id"]: requeued(row)["state"] for row in rows}
        lines: list[ChangeEvent] = [
            delivery_changed(new_change_id(self._minter, now), row, states_before[row["_id"]], now)
            for row in settled
            if row["state"] != states_before[row["_id"]]
        ]
        await store.delivery_metrics.add(_metric_counts(settled), session)
        tallies = backfill_tallies(settled, states_before)
        await store.backfills.settle(tallies, session)
        lines += [backfill_changed(new_change_id(self._minter, now), store.workspace_id, id_, now) for id_ in tallies]
        await store.changes.write(lines, session)
        await _release(store, lanes, work, changes, now, session)

    def _outcome(self, row: Document, result: Result | None, sync: KlaviyoConnection) -> Document:
        if result is None:
            return requeued(row)
        response = result.response
        this_attempt = attempt(result.at, response.duration_ms, response.status, response.error, response.retry_after)
        if response.outcome is Outcome.DONE:
            return delivered(row, this_attempt, _LOGGED if sync.mode is KlaviyoMode.LOG else None)
        if response.outcome is Outcome.PAUSE:
            return requeued(row, this_attempt)
        if response.outcome is Outcome.RETRY:
            return retried(row, this_attempt, self._chance, sync.resumed_at)
        return dead(row, this_attempt, response.error)

    async def _update_health(self, sync: KlaviyoConnection, batch: Batch) -> None:
        """Pause the connection if Klaviyo refuses every request; back off if it does not respond."""
        if batch.stopped_by is not None:
            reason = f"{batch.stopped_by.error} Correct that, then resume: nothing is lost meanwhile."
            self._log.warning("the sync is paused", workspace=sync.workspace_id, reason=reason)
            await self._syncs.pause(sync.workspace_id, reason)
        elif batch.all_failed:
            failures = sync.failures + 1
            pause = retry_delay(min(failures, 10), self._chance) if failures >= _FAILURES_ALLOWED else timedelta(0)
            await self._syncs.back_off(sync.workspace_id, failures, self._clock() + min(pause, LONGEST_BACK_OFF))
        elif sync.failures and batch.results:
            await self._syncs.back_off(sync.workspace_id, 0, None)


async def _release(
    store: WorkspaceStore,
    lanes: Mapping[str, Document],
    work: _LaneBatch,
    changes: Mapping[str, Document],
    now: datetime,
    session: Session,
) -> None:
    """Release the lanes, due when their next open delivery is; remove those whose profile erasure was accepted."""
    next_open: dict[str, Document] = {}
    erased: set[str] = set()
    for row in in_order([row for row in work.rows if row["_id"] in changes]):
        after = {**row, **changes[row["_id"]]}
        if after["open"] is not None:
            next_open.setdefault(row["lane_id"], after)
        elif row["kind"] == DeliveryKind.DELETION and after["state"] == DeliveryState.DELIVERED:
            erased.add(row["lane_id"])
    profiles = {
        result.row["lane_id"]: id_ for result in work.batch.results if (id_ := result.response.profile_id) is not None
    }
    updates: list[tuple[Document, Mapping[str, Any]]] = []
    for id_, lane in lanes.items():
        after = released_lane(lane, work.reached[id_], next_open.get(id_), work.batch.not_before.get(id_), now)
        updates.append((lane, {**after, **({"profile_id": profiles[id_]} if id_ in profiles else {})}))
    await store.lanes.save([pair for pair in updates if pair[0]["_id"] not in erased], session)
    await store.lanes.remove([lane for id_, lane in lanes.items() if id_ in erased], session)


def _lane_groups(lanes: Iterable[Document]) -> list[list[Document]]:
    """The lanes in groups of at most _ROWS_AT_ONCE deliveries, as many as one transaction takes."""
    groups: list[list[Document]] = []
    size = 0
    for lane in lanes:
        count = claim_limit(lane) - lane["head"] + 1
        if not groups or size + count > _ROWS_AT_ONCE:
            groups.append([])
            size = 0
        groups[-1].append(lane)
        size += count
    return groups


def _metric_counts(rows: Iterable[Mapping[str, Any]]) -> list[Document]:
    counts: dict[str, Document] = {}
    for row in rows:
        state = row["state"]
        if row["metric"] is None or state not in (DeliveryState.DELIVERED, DeliveryState.DEAD):
            continue
        zero = {
            "name": row["metric"],
            "source": row["source"],
            "delivered": 0,
            "failed": 0,
            "last_delivered_at": None,
        }
        line = counts.setdefault(row["metric"], zero)
        line["delivered" if state == DeliveryState.DELIVERED else "failed"] += 1
        if state == DeliveryState.DELIVERED:
            line["last_delivered_at"] = max(row["delivered_at"], line["last_delivered_at"] or row["delivered_at"])
    return list(counts.values())
