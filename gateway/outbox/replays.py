"""Replays dead deliveries: each goes to the end of its contact's lane, a profile with the contact's current values."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from gateway.core.clock import Clock
from gateway.core.ids import Minter
from gateway.core.pagination import Page
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.documents import ContactDocument
from gateway.errors import ErrorCode, UserProblem
from gateway.outbox.change_reports import ChangeReports
from gateway.outbox.deliveries import DeliveryKind, DeliveryState, changed, replayed
from gateway.outbox.destinations import AnyDestination, OutboxStore
from gateway.outbox.documents import DeliveryChanges, DeliveryDocument, LaneChanges, LaneDocument
from gateway.outbox.filters import DeliveryFilter
from gateway.outbox.search import DeliverySearch
from gateway.store.driver import Session
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store

MOST_REPLAYED = 10_000
MOST_IDS = 1000
_AT_ONCE = 200


class ReplayService:
    def __init__(self, store: Store, destination: AnyDestination, clock: Clock, minter: Minter) -> None:
        self._store = store
        self._destination = destination
        self._clock = clock
        self._reports = ChangeReports(destination, minter)

    async def replay_ids(self, workspace_id: str, ids: Sequence[str]) -> int:
        """Replay these deliveries, all or none; returns how many."""
        if len(ids) > MOST_IDS:
            message = f"ids has {len(ids)} ids; the limit is {MOST_IDS}: use a filter."
            raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message, ("ids",))
        store = self._open(workspace_id)
        rows = await store.deliveries.by_ids(list(dict.fromkeys(ids)))
        for index, id_ in enumerate(ids):
            _check_dead(id_, rows.get(id_), index)
        return await self._replay_in_batches(store, list(rows))

    async def replay(self, workspace_id: str, filter_: DeliveryFilter) -> int:
        """Replay the dead deliveries that match, oldest first, at most MOST_REPLAYED; returns how many."""
        store, now, total = self._open(workspace_id), self._clock(), 0
        if filter_.states is not None and DeliveryState.DEAD not in filter_.states:
            return 0
        search = DeliverySearch(store.deliveries, replace(filter_, states=frozenset({DeliveryState.DEAD.value})), now)
        cursor: str | None = None
        while total < MOST_REPLAYED:
            page = await search.page(Page(_AT_ONCE - 1, True, None, cursor))
            total += await self._replay_in_batches(store, [row["_id"] for row in page.rows])
            cursor = page.stopped_at or (page.rows[-1]["_id"] if len(page.rows) == _AT_ONCE else None)
            if cursor is None:
                break
        return total

    def _open(self, workspace_id: str) -> OutboxStore:
        return OutboxStore(self._store.open(workspace_id), self._destination)

    async def _replay_in_batches(self, store: OutboxStore, ids: Sequence[str]) -> int:
        ordered, total = sorted(ids), 0
        for start in range(0, len(ordered), _AT_ONCE):
            total += await self._replay_batch(store, ordered[start : start + _AT_ONCE])
        return total

    async def _replay_batch(self, store: OutboxStore, ids: Sequence[str]) -> int:
        """Replay these in one transaction; returns how many of them were dead."""
        replay_id = uuid.uuid4().hex

        async def attempt(number: int) -> int:
            if number > 1:  # an earlier attempt may have committed although its response was lost
                stored = (await store.deliveries.by_ids(ids)).values()
                if done := [row for row in stored if row.get("replay_id") == replay_id]:
                    return len(done)
            count = 0

            async def write(session: Session) -> None:
                nonlocal count
                count = await self._write(store, ids, replay_id, session)

            await store.database.transaction(write)
            return count

        return await retry_transaction(attempt)

    async def _write(self, store: OutboxStore, ids: Sequence[str], replay_id: str, session: Session) -> int:
        now, stored = self._clock(), await store.deliveries.by_ids(ids, session)
        rows = [row for _, row in sorted(stored.items()) if row["state"] == DeliveryState.DEAD]
        lanes = await store.lanes.by_ids(list({row["lane_id"] for row in rows}), session)
        rows = [row for row in rows if row["lane_id"] in lanes]
        contacts = await store.workspace.contacts.by_ids(
            list({row["contact_id"] for row in rows if row["kind"] == DeliveryKind.PROFILE}), session
        )
        last_seqs: dict[str, int] = defaultdict(int)
        changes: dict[str, DeliveryChanges] = {}
        for row in rows:
            lane = lanes[row["lane_id"]]
            last_seqs[lane["_id"]] = max(last_seqs[lane["_id"]], lane["seq"]) + 1
            contact = contacts.get(row["contact_id"]) if row["kind"] == DeliveryKind.PROFILE else None
            requeued = replayed(lane["_id"], last_seqs[lane["_id"]], now)
            payload = row["payload"] if contact is None else self._replayed_profile(row["payload"], contact)
            changes[row["_id"]] = {**requeued, "payload": payload, "replay_id": replay_id}
        await store.deliveries.change(changes, session)
        lane_changes: list[tuple[LaneDocument, LaneChanges]] = [
            (lanes[id_], {"seq": seq, "due_at": lanes[id_].get("due_at") or now}) for id_, seq in last_seqs.items()
        ]
        await store.lanes.save(lane_changes, session)
        after = [changed(row, changes[row["_id"]]) for row in rows]
        states_before = dict.fromkeys(changes, DeliveryState.DEAD.value)
        await self._reports.changed(store, after, states_before, now, session)
        return len(rows)

    def _replayed_profile(self, payload: Document, contact: ContactDocument) -> Document:
        """The payload of a failed profile with the contact's current values."""
        profile = self._destination.profile_of(contact)
        return payload if profile is None else self._destination.merge(payload, profile.payload)


def _check_dead(id_: str, row: DeliveryDocument | None, index: int) -> None:
    path = ("ids", str(index))
    if row is None:
        raise UserProblem(ErrorCode.NOT_FOUND, f"There is no delivery with the id '{id_}': correct the id.", path)
    if row["state"] != DeliveryState.DEAD:
        message = f"The delivery '{id_}' is {row['state']}, but only a DEAD delivery can be replayed."
        if row["state"] == DeliveryState.REJECTED:
            message += " See its reason: correct the contact, then call syncContact."
        raise UserProblem(ErrorCode.ILLEGAL_TRANSITION, message, path)
