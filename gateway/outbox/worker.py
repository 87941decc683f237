"""Sends the deliveries of one workspace to one destination: leases lanes, sends, and saves the results in one transaction
that commits only while the lease holds.

On shutdown a worker releases its lanes; after a crash the leases expire. A delivery that is sent twice keeps its
unique id, by which the destination can keep the first.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.core.clock import Clock
from gateway.core.ids import Minter
from gateway.outbox.change_reports import ChangeReports
from gateway.outbox.deliveries import (
    LEASE,
    SUPERSEDED,
    DeliveryKind,
    DeliveryState,
    Queue,
    changed,
    claim_limit,
    dead,
    delivered,
    in_order,
    released_lane,
    requeued,
    retried,
)
from gateway.outbox.destinations import (
    AnyDestination,
    Connection,
    OutboxStore,
    Outcome,
    Result,
    Sender,
    Senders,
    SentBatch,
)
from gateway.outbox.documents import DeliveryChanges, DeliveryDocument, LaneChanges, LaneDocument
from gateway.outbox.enqueuer import Enqueuer
from gateway.store.driver import Session, TransientError
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import WorkspaceStore

_SENDING_SECONDS = 12.0  # with the timeout of one request still less than LEASE
_ROWS_AT_ONCE = 500
_MOST_READ = 5000


@dataclass(frozen=True, slots=True)
class _LaneBatch:
    """Leased lanes, their deliveries and the results. `reached`: the last number that was read of each lane, by id."""

    lease: str
    reached: Mapping[str, int]
    rows: Sequence[DeliveryDocument]
    sent: SentBatch


class LaneWorker:
    def __init__(
        self, store: WorkspaceStore, destination: AnyDestination, clock: Clock, minter: Minter, chance: random.Random
    ) -> None:
        self._store = OutboxStore(store, destination)
        self._destination = destination
        self._clock = clock
        self._minter = minter
        self._chance = chance

    async def drain(self, connection: Connection, open_sender: Senders[Connection]) -> int:
        """Send what is due, for as long as the connection sends; returns the number of lanes processed."""
        done = 0
        while connection.is_sending(self._clock()):
            sender = await open_sender(self._store.workspace, connection)
            due = await self._due()
            if sender is None or not due:
                break
            if connection.is_probing:
                due = due[:1]
            groups = _lane_groups(due)
            self._chance.shuffle(groups)  # workers then seldom claim the same lanes
            for lanes in groups:
                done += len(lanes)
                await self._run_batch(connection, sender, lanes)
                connection = await self._destination.read(connection.workspace_id)
                if not connection.is_sending(self._clock()) or lanes[0]["queue"] != Queue.LIVE:
                    break
        return done

    async def claim(self, lease: str, due: Sequence[LaneDocument]) -> tuple[list[LaneDocument], list[DeliveryDocument]]:
        """The lanes now leased and their first open deliveries; both empty if another worker claimed a lane first."""
        store = self._store
        lanes: list[LaneDocument] = []
        rows: list[DeliveryDocument] = []

        async def write(session: Session) -> None:
            nonlocal lanes, rows
            lanes = await store.lanes.claim(due, lease, self._clock() + LEASE, session)
            rows = await store.deliveries.open_in(lanes, session)
            if due[0]["queue"] == Queue.BACKFILL:
                rows = await self._drop_stale_profiles(rows, session)
            await store.deliveries.mark_sending([row["_id"] for row in rows], session)

        try:
            await store.database.transaction(write)
        except TransientError:
            return [], []  # if it did commit, the lanes return when the lease expires
        return lanes, rows

    async def _due(self) -> list[LaneDocument]:
        live = await self._store.lanes.due(Queue.LIVE, self._clock(), _MOST_READ)
        return live or await self._store.lanes.due(Queue.BACKFILL, self._clock(), _ROWS_AT_ONCE)

    async def _run_batch(self, connection: Connection, sender: Sender, due: Sequence[LaneDocument]) -> None:
        """Process a batch of lanes. On cancellation: start no new requests, wait for those in flight, release the
        leases. On a second cancellation the leases expire."""
        ending = asyncio.Event()
        work = asyncio.create_task(self._process(connection, sender, due, ending))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            ending.set()
            await asyncio.gather(work, return_exceptions=True)
            raise

    async def _process(
        self, connection: Connection, sender: Sender, due: Sequence[LaneDocument], ending: asyncio.Event
    ) -> None:
        ends = time.monotonic() + _SENDING_SECONDS
        lease = uuid.uuid4().hex
        lanes, rows = await self.claim(lease, due)
        if not lanes:
            return
        queue = Queue(lanes[0]["queue"])
        sent = await sender.send(rows, queue, lambda: not ending.is_set() and time.monotonic() < ends)
        batch = _LaneBatch(lease, {lane["_id"]: claim_limit(lane) for lane in lanes}, rows, sent)
        await retry_transaction(lambda _: self._store.database.transaction(partial(self._save, connection, batch)))
        await self._destination.update_health(connection, sent.results)

    async def _drop_stale_profiles(self, rows: list[DeliveryDocument], session: Session) -> list[DeliveryDocument]:
        """Drop backfilled profiles of contacts that already have, or are about to get, a newer live one. The live
        path cannot do this for rows already claimed or not yet queued."""
        profiles = [row for row in rows if row["kind"] == DeliveryKind.PROFILE]
        if not profiles:
            return rows
        stale = await self._destination.stale(self._store.workspace, profiles, session)
        enqueuer = Enqueuer(self._destination, self._minter)
        await enqueuer.discard(self._store.workspace, stale, SUPERSEDED, self._clock(), session)
        stale_ids = {row["_id"] for row in stale}
        return [row for row in rows if row["_id"] not in stale_ids]

    async def _save(self, connection: Connection, batch: _LaneBatch, session: Session) -> None:
        """Save the results of the lanes that this lease still holds, and release those lanes."""
        store, now = self._store, self._clock()
        lanes = await store.lanes.by_ids(list(batch.reached), session)
        lanes = {id_: lane for id_, lane in lanes.items() if lane.get("lease") == batch.lease}
        rows = [row for row in batch.rows if row["lane_id"] in lanes]
        existing_ids = await store.deliveries.existing([row["_id"] for row in rows], session)
        results = {result.row["_id"]: result for result in batch.sent.results}
        changes = {
            row["_id"]: self._outcome(row, results.get(row["_id"]), connection)
            for row in rows
            if row["_id"] in existing_ids
        }
        await store.deliveries.change(changes, session)
        settled = [changed(row, changes[row["_id"]]) for row in rows if row["_id"] in changes and row["_id"] in results]
        states_before = {row["_id"]: str(requeued(row)["state"]) for row in rows}
        moved = [row for row in settled if row["state"] != states_before[row["_id"]]]
        await ChangeReports(self._destination, self._minter).changed(store, moved, states_before, now, session)
        await self._release(lanes, batch, changes, session)

    def _outcome(self, row: DeliveryDocument, result: Result | None, connection: Connection) -> DeliveryChanges:
        if result is None:
            return requeued(row)
        if result.outcome is Outcome.DELIVERED:
            return delivered(row, result.attempt, result.note)
        if result.outcome is Outcome.PAUSE:
            return requeued(row, result.attempt)
        if result.outcome is Outcome.RETRY:
            return retried(row, result.attempt, self._chance, connection.resumed_at)
        return dead(row, result.attempt, result.attempt["error"])

    async def _release(
        self,
        lanes: Mapping[str, LaneDocument],
        batch: _LaneBatch,
        changes: Mapping[str, DeliveryChanges],
        session: Session,
    ) -> None:
        """Release the lanes, due when their next open delivery is; remove those whose profile erasure was accepted."""
        now = self._clock()
        next_open: dict[str, DeliveryDocument] = {}
        erased: set[str] = set()
        for row in in_order([row for row in batch.rows if row["_id"] in changes]):
            after = changed(row, changes[row["_id"]])
            if after["open"] is not None:
                next_open.setdefault(row["lane_id"], after)
            elif row["kind"] == DeliveryKind.DELETION and after["state"] == DeliveryState.DELIVERED:
                erased.add(row["lane_id"])
        lane_fields: dict[str, LaneChanges] = {}
        for result in batch.sent.results:
            lane_fields[result.row["lane_id"]] = {**lane_fields.get(result.row["lane_id"], {}), **result.lane_fields}
        updates: list[tuple[LaneDocument, LaneChanges]] = []
        for id_, lane in lanes.items():
            fields = released_lane(lane, batch.reached[id_], next_open.get(id_), batch.sent.not_before.get(id_), now)
            updates.append((lane, {**fields, **lane_fields.get(id_, {})}))
        await self._store.lanes.save([pair for pair in updates if pair[0]["_id"] not in erased], session)
        await self._store.lanes.remove([lane for id_, lane in lanes.items() if id_ in erased], session)


def _lane_groups(lanes: Iterable[LaneDocument]) -> list[list[LaneDocument]]:
    """The lanes in groups of at most _ROWS_AT_ONCE deliveries, as many as one transaction takes."""
    groups: list[list[LaneDocument]] = []
    size = 0
    for lane in lanes:
        count = claim_limit(lane) - lane["head"] + 1
        if not groups or size + count > _ROWS_AT_ONCE:
            groups.append([])
            size = 0
        groups[-1].append(lane)
        size += count
    return groups
