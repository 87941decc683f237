"""Queues deliveries of one destination.

Payloads are fixed here. Each contact has a lane whose deliveries are numbered consecutively. Adding to a lane and
processing it both change its version, so that of two concurrent writers one retries and numbers follow the commit
order.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from gateway.core.ids import Minter, Prefix
from gateway.outbox.change_reports import ChangeReports
from gateway.outbox.deliveries import (
    SUPERSEDED,
    DeliveryKind,
    DeliveryState,
    NewDelivery,
    Queue,
    changed,
    delivery_of,
    discarded,
    is_leased,
    lane_id_of,
    new_lane,
    requeued,
)
from gateway.outbox.destinations import AnyDestination, OutboxStore
from gateway.outbox.documents import DeliveryDocument, LaneChanges, LaneDocument
from gateway.store.driver import Session
from gateway.store.workspace_store import WorkspaceStore


class Enqueuer:
    """Queues deliveries of one destination, and discards those that newer ones replace."""

    def __init__(self, destination: AnyDestination, minter: Minter) -> None:
        self._destination = destination
        self._minter = minter
        self._reports = ChangeReports(destination, minter)

    async def enqueue(
        self,
        workspace: WorkspaceStore,
        deliveries: Sequence[NewDelivery],
        now: datetime,
        session: Session,
        queue: Queue = Queue.LIVE,
        backfill_id: str | None = None,
    ) -> list[DeliveryDocument]:
        """Queue deliveries, in order per contact and a missing profile before the first event; returns the new rows."""
        by_contact: dict[str, list[NewDelivery]] = defaultdict(list)
        for item in deliveries:
            by_contact[item.contact["_id"]].append(item)
        if not by_contact:
            return []
        store = OutboxStore(workspace, self._destination)
        lane_ids = {id_: lane_id_of(store.workspace_id, id_, queue) for id_ in by_contact}
        backfill_lane_ids = [
            lane_id_of(store.workspace_id, id_, Queue.BACKFILL) for id_ in by_contact if queue is Queue.LIVE
        ]
        lanes = await store.lanes.by_ids([*lane_ids.values(), *backfill_lane_ids], session)
        rows: list[DeliveryDocument] = []
        changes: list[tuple[LaneDocument, LaneChanges]] = []
        backfill_lanes = [lanes[id_] for id_ in backfill_lane_ids if id_ in lanes]
        sending_until = await self._sending_until(store, backfill_lanes, now, session)
        for contact_id, items in by_contact.items():
            lane = lanes.get(lane_ids[contact_id]) or new_lane(store.workspace_id, contact_id, queue, now)
            held_back = _held_back(lane, items, sending_until.get(contact_id))
            added, change = await self._append(store, lane, held_back, now, session, backfill_id)
            rows += added
            changes += [(lane, change)] if change else []
        await store.lanes.save(changes, session)  # first, so that concurrent writers to a lane conflict here
        await store.deliveries.insert(rows, session)
        profiles = [item for item in deliveries if item.kind is DeliveryKind.PROFILE and item.problem is None]
        with_newer_profile = {item.contact["_id"] for item in profiles} | {
            row["contact_id"] for row in rows if _is_profile(row)
        }
        await self._supersede_waiting(
            store, [lane for lane in backfill_lanes if lane["contact_id"] in with_newer_profile], now, session
        )
        await self._reports.queued(store, rows, now, session)
        return rows

    async def discard(
        self, workspace: WorkspaceStore, rows: Sequence[DeliveryDocument], reason: str, now: datetime, session: Session
    ) -> None:
        """Never send these deliveries, which wait."""
        if not rows:
            return
        store, values = OutboxStore(workspace, self._destination), discarded(reason, now)
        states_before = {row["_id"]: str(requeued(row)["state"]) for row in rows}
        after = [changed(row, values) for row in rows]
        await store.deliveries.change({row["_id"]: values for row in rows}, session)
        await self._reports.changed(store, after, states_before, now, session)

    @staticmethod
    async def _sending_until(
        store: OutboxStore, backfill_lanes: list[LaneDocument], now: datetime, session: Session
    ) -> dict[str, datetime]:
        """Until when a worker may still be sending an older profile from a backfill lane, by contact id."""
        leased = {
            lane["profile_delivery_id"]: lane for lane in backfill_lanes if _has_profile(lane) and is_leased(lane, now)
        }
        rows = await store.deliveries.by_ids(list(leased), session)
        under_way = [leased[id_] for id_, row in rows.items() if row["state"] == DeliveryState.SENDING]
        return {lane["contact_id"]: lane["due_at"] for lane in under_way}

    async def _supersede_waiting(
        self, store: OutboxStore, backfill_lanes: list[LaneDocument], now: datetime, session: Session
    ) -> None:
        ids = [lane.get("profile_delivery_id") for lane in backfill_lanes]
        rows = await store.deliveries.by_ids([id_ for id_ in ids if id_ is not None], session)
        waiting = [row for row in rows.values() if row["state"] in (DeliveryState.PENDING, DeliveryState.RETRYING)]
        await self.discard(store.workspace, waiting, SUPERSEDED, now, session)

    async def _append(
        self,
        store: OutboxStore,
        lane: LaneDocument,
        items: list[NewDelivery],
        now: datetime,
        session: Session,
        backfill_id: str | None,
    ) -> tuple[list[DeliveryDocument], LaneChanges]:
        """The new rows of a lane, and the fields of the lane to set."""
        seq, profile_id = lane["seq"], lane.get("profile_delivery_id")
        rows: list[DeliveryDocument] = []
        items = self._profile_first(lane, items)
        for item in items:
            coalesced = item.kind is DeliveryKind.PROFILE and await self._coalesce(store, lane, item, now, session)
            if coalesced:
                continue
            row = delivery_of(item, self._minter.mint(Prefix.DELIVERY, now), lane, seq + 1, now, backfill_id)
            rows.append(row)
            if item.problem is None:
                seq += 1
                profile_id = row["_id"] if item.kind is DeliveryKind.PROFILE else profile_id
        if seq == lane["seq"]:
            # Nothing new is open, but a replaced profile must conflict with a concurrent claim of the lane.
            return rows, {"seq": seq} if lane["version"] and len(rows) < len(items) else {}
        due_at = lane.get("due_at") or now
        change: LaneChanges = {"seq": seq, "due_at": due_at}
        if start_times := [item.not_before for item in items if item.not_before is not None]:
            change |= {"due_at": max(due_at, *start_times), "not_before": max(start_times)}
        if profile_id:
            change["profile_delivery_id"] = profile_id
        return rows, change

    def _profile_first(self, lane: LaneDocument, items: list[NewDelivery]) -> list[NewDelivery]:
        """The items with the contact's profile before its first event."""
        first_event = next((item for item in items if item.kind is DeliveryKind.EVENT and item.problem is None), None)
        if _has_profile(lane) or first_event is None or lane["queue"] != Queue.LIVE:
            return items
        profile = next((item for item in items if item.kind is DeliveryKind.PROFILE), None)
        first = profile or self._destination.profile_of(first_event.contact)
        return items if first is None else [first, *(item for item in items if item is not profile)]

    async def _coalesce(
        self, store: OutboxStore, lane: LaneDocument, item: NewDelivery, now: datetime, session: Session
    ) -> bool:
        """Replace the profile that waits in the lane by this newer one; returns whether there was one."""
        waiting_id = lane.get("profile_delivery_id")
        if waiting_id is None or item.problem is not None or is_leased(lane, now):
            return False
        waiting = await store.deliveries.get(waiting_id, session)
        if waiting is None or waiting.get("open") is None:
            return False
        payload = self._destination.merge(waiting["payload"], item.payload)
        state = waiting["state"] if waiting["state"] != DeliveryState.SENDING else DeliveryState.RETRYING.value
        await store.deliveries.change({waiting_id: {"payload": payload, "state": state, "reason": item.note}}, session)
        return True


def delayed(items: Sequence[NewDelivery], until: datetime | None) -> list[NewDelivery]:
    """The items, to be sent then or later."""
    return list(items) if until is None else [replace(item, not_before=until) for item in items]


def _held_back(lane: LaneDocument, items: list[NewDelivery], until: datetime | None) -> list[NewDelivery]:
    """Delay the items until then if they include a profile, or will get one put before them."""
    if _has_profile(lane) and all(item.kind is not DeliveryKind.PROFILE for item in items):
        return items
    return delayed(items, until)


def _is_profile(row: DeliveryDocument) -> bool:
    return row["kind"] == DeliveryKind.PROFILE and "open" in row


def _has_profile(lane: LaneDocument) -> bool:
    return lane.get("profile_delivery_id") is not None
