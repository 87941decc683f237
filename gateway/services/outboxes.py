"""The outbox: deliveries to Klaviyo, stored in the transaction of the change that they report.

Payloads are fixed here. Each contact has a lane whose deliveries are numbered consecutively. Adding to a lane and
processing it both change its version, so that of two concurrent writers one retries and numbers follow the commit
order.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from gateway.core.ids import Minter, Prefix
from gateway.destinations.klaviyo import mapping
from gateway.destinations.klaviyo.identifiers import identifiers_of
from gateway.destinations.klaviyo.metric_events import MetricEvent, metric_events_of
from gateway.destinations.klaviyo.validation import problem_of_event, problem_of_profile
from gateway.domain.contacts.contacts import ContactDraft, Document
from gateway.domain.contacts.merging import ids_of
from gateway.domain.deliveries import (
    SUPERSEDED,
    DeliveryKind,
    DeliveryState,
    NewDelivery,
    Queue,
    delivery_line,
    delivery_of,
    discarded,
    is_leased,
    lane_id_of,
    new_lane,
    requeued,
    was_delivered,
)
from gateway.domain.events.documents import EventDocument
from gateway.domain.support.documents import T
from gateway.domain.support.threads import Changeset
from gateway.domain.syncs import KlaviyoConnection
from gateway.services.subjects import subjects_of
from gateway.services.syncs import KlaviyoConnections
from gateway.store.driver import Session
from gateway.store.workspace_store import WorkspaceStore

_HISTORY = timedelta(days=1)


class Outbox:
    """Queues deliveries. Queues nothing for workspaces whose connection is off."""

    def __init__(self, syncs: KlaviyoConnections, minter: Minter) -> None:
        self._syncs = syncs
        self._minter = minter

    async def contacts_changed(
        self,
        store: WorkspaceStore,
        now: datetime,
        session: Session,
        *,
        drafts: Iterable[ContactDraft] = (),
        events: Sequence[EventDocument] = (),
        contacts: Mapping[str, Document] | None = None,
    ) -> None:
        """Queue the drafts' changed profiles and the forwarded events. `contacts`: those of the events, by id."""
        sync = await self._syncs.current(store.workspace_id)
        if not sync.is_active:
            return
        deliveries = [profile for draft in drafts for profile in changed_profile(draft)]
        deliveries += [
            tracked_event(event, (contacts or {})[event["contact_id"]], now) for event in _forwarded(events, sync)
        ]
        await self.enqueue(store, deliveries, now, session)

    async def thread_changed(
        self, store: WorkspaceStore, change: Changeset[T], contact: ContactDraft | None, now: datetime, session: Session
    ) -> None:
        """Queue the metric events of a changed thread. `contact`: its contact, if this transaction writes it."""
        events = list(metric_events_of(change))
        if not ((contact or events) and (await self._syncs.current(store.workspace_id)).is_active):
            return
        deliveries = [] if contact is None else changed_profile(contact)
        if events:
            subject = await self._subject(store, change.after, contact)
            deliveries += [support_event(event, subject, now) for event in events] if subject is not None else []
        await self.enqueue(store, deliveries, now, session)

    @staticmethod
    async def _subject(
        store: WorkspaceStore, document: Mapping[str, Any], contact: ContactDraft | None
    ) -> mapping.MetricSubject | None:
        """The thread with all that its properties name; None if its contact is gone."""
        id_ = document["contact_id"]
        contacts = await store.contacts.of_ids([id_]) if contact is None else {id_: contact.document}
        return (await subjects_of(store, [cast(Document, document)], contacts)).get(document["_id"])

    async def contact_erased(self, store: WorkspaceStore, contact: Document, now: datetime, session: Session) -> None:
        """Queue the erasure of a contact that Klaviyo may know, and drop its backfill deliveries."""
        ids = [lane_id_of(store.workspace_id, id_, queue) for id_ in ids_of(contact) for queue in Queue]
        lanes = await store.lanes.by_ids(ids, session)
        backfill_lanes = [lane for lane in lanes.values() if lane["queue"] == Queue.BACKFILL]
        await store.lanes.remove(backfill_lanes, session)  # live lanes go once Klaviyo has accepted the deletion
        await store.backfills.read_again(session)
        sync = await self._syncs.current(store.workspace_id)
        if sync.is_active and lanes and identifiers_of(contact).problem is None:
            own = lane_id_of(store.workspace_id, contact["_id"])
            lease_ends = [lane["due_at"] for id_, lane in lanes.items() if id_ != own and is_leased(lane, now)]
            payload = mapping.deletion_payload(contact)
            deletion = NewDelivery(DeliveryKind.DELETION, contact, payload, not_before=max(lease_ends, default=None))
            await self.enqueue(store, [deletion], now, session)

    async def enqueue(
        self,
        store: WorkspaceStore,
        deliveries: Sequence[NewDelivery],
        now: datetime,
        session: Session,
        queue: Queue = Queue.LIVE,
        backfill_id: str | None = None,
    ) -> list[Document]:
        """Queue deliveries, in order per contact and a missing profile before the first event; returns the new rows."""
        by_contact: dict[str, list[NewDelivery]] = defaultdict(list)
        for item in deliveries:
            by_contact[item.contact["_id"]].append(item)
        if not by_contact:
            return []
        lane_ids = {id_: lane_id_of(store.workspace_id, id_, queue) for id_ in by_contact}
        backfill_lane_ids = [
            lane_id_of(store.workspace_id, id_, Queue.BACKFILL) for id_ in by_contact if queue is Queue.LIVE
        ]
        lanes = await store.lanes.by_ids([*lane_ids.values(), *backfill_lane_ids], session)
        rows: list[Document] = []
        changes: list[tuple[Document, Document]] = []
        backfill_lanes = [lanes[id_] for id_ in backfill_lane_ids if id_ in lanes]
        sending_until = await self._sending_until(store, backfill_lanes, now, session)
        for contact_id, items in by_contact.items():
            lane = lanes.get(lane_ids[contact_id]) or new_lane(store.workspace_id, contact_id, queue, now)
            delayed = _held_back(lane, items, sending_until.get(contact_id))
            added, change = await self._append(store, lane, delayed, now, session, backfill_id)
            rows += added
            changes += [(lane, change)] if change else []
        await store.lanes.save(changes, session)  # first, so that concurrent writers to a lane conflict here
        await store.deliveries.insert(rows, session)
        profiles = [item for item in deliveries if item.kind is DeliveryKind.PROFILE and item.problem is None]
        with_newer_profile = {item.contact["_id"] for item in profiles} | {
            row["contact_id"] for row in rows if _is_profile(row)
        }
        await self._supersede(
            store, [lane for lane in backfill_lanes if lane["contact_id"] in with_newer_profile], now, session
        )
        lines = [delivery_line(self._minter.mint(Prefix.CHANGE, now), row, None, now) for row in rows]
        await store.changes.write(lines, session)
        return rows

    @staticmethod
    async def _sending_until(
        store: WorkspaceStore, backfill_lanes: list[Document], now: datetime, session: Session
    ) -> dict[str, datetime]:
        """Until when a worker may still be sending an older profile from a backfill lane, by contact id."""
        leased = {
            lane["profile_delivery_id"]: lane for lane in backfill_lanes if _has_profile(lane) and is_leased(lane, now)
        }
        rows = await store.deliveries.by_ids(list(leased), session)
        under_way = [leased[id_] for id_, row in rows.items() if row["state"] == DeliveryState.SENDING]
        return {lane["contact_id"]: lane["due_at"] for lane in under_way}

    async def _supersede(
        self, store: WorkspaceStore, backfill_lanes: list[Document], now: datetime, session: Session
    ) -> None:
        ids = [lane.get("profile_delivery_id") for lane in backfill_lanes]
        rows = await store.deliveries.by_ids([id_ for id_ in ids if id_ is not None], session)
        waiting = [row for row in rows.values() if row["state"] in (DeliveryState.PENDING, DeliveryState.RETRYING)]
        await supersede(store, self._minter, waiting, now, session)

    async def _append(
        self,
        store: WorkspaceStore,
        lane: Document,
        items: list[NewDelivery],
        now: datetime,
        session: Session,
        backfill_id: str | None,
    ) -> tuple[list[Document], Document]:
        seq, profile_id = lane["seq"], lane.get("profile_delivery_id")
        rows: list[Document] = []
        first_event = next((item for item in items if item.kind is DeliveryKind.EVENT and item.problem is None), None)
        if profile_id is None and first_event is not None and lane["queue"] == Queue.LIVE:
            profile = next((item for item in items if item.kind is DeliveryKind.PROFILE), None)
            items = [profile or full_profile(first_event.contact), *(item for item in items if item is not profile)]
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
        change: Document = {"seq": seq, "due_at": lane.get("due_at") or now}
        if start_times := [item.not_before for item in items if item.not_before is not None]:
            change |= {"due_at": max(change["due_at"], *start_times), "not_before": max(start_times)}
        return rows, {**change, **({"profile_delivery_id": profile_id} if profile_id else {})}

    @staticmethod
    async def _coalesce(
        store: WorkspaceStore, lane: Document, item: NewDelivery, now: datetime, session: Session
    ) -> bool:
        """Replace the profile that waits in the lane by this newer one; returns whether there was one."""
        waiting_id = lane.get("profile_delivery_id")
        if waiting_id is None or item.problem is not None or is_leased(lane, now):
            return False
        waiting = (await store.deliveries.by_ids([waiting_id], session)).get(waiting_id)
        if waiting is None or waiting.get("open") is None:
            return False
        unset = {*_unset_properties(waiting["payload"]), *_unset_properties(item.payload)}
        payload = mapping.profile_payload(item.payload["data"]["attributes"], sorted(unset))
        state = waiting["state"] if waiting["state"] != DeliveryState.SENDING else DeliveryState.RETRYING.value
        await store.deliveries.change({waiting_id: {"payload": payload, "state": state, "reason": item.note}}, session)
        return True


async def with_live_profile(store: WorkspaceStore, contact_ids: Sequence[str], session: Session = None) -> set[str]:
    """The ids of contacts that have, or will get, a live profile in the connected account."""
    ids = {lane_id_of(store.workspace_id, id_, Queue.LIVE): id_ for id_ in contact_ids}
    connected_at = await store.syncs.connected_at()
    lanes = [lane for lane in (await store.lanes.by_ids(list(ids), session)).values() if _has_profile(lane)]
    newest = await store.deliveries.by_ids([lane["profile_delivery_id"] for lane in lanes], session)
    return {
        ids[lane["_id"]]
        for lane in lanes
        if was_delivered(lane, connected_at) or newest.get(lane["profile_delivery_id"], {}).get("open") is not None
    }


async def supersede(
    store: WorkspaceStore, minter: Minter, rows: Sequence[Document], now: datetime, session: Session
) -> None:
    """Discard these backfilled profiles: newer ones are queued."""
    if not rows:
        return
    values = discarded(SUPERSEDED, now)
    await store.deliveries.change({row["_id"]: values for row in rows}, session)
    lines = [
        delivery_line(minter.mint(Prefix.CHANGE, now), {**row, **values}, requeued(row)["state"], now) for row in rows
    ]
    await store.changes.write(lines, session)
    counts = Counter(row["backfill_id"] for row in rows)
    await store.backfills.settle({id_: {"settled": count, "done": count} for id_, count in counts.items()}, session)


def changed_profile(draft: ContactDraft) -> list[NewDelivery]:
    """A changed contact's profile; empty if no attribute changed, or if Klaviyo cannot identify the contact."""
    before, after = draft.stored or {}, draft.document
    if not identifiers_of(after).any:
        return []
    attributes = mapping.profile_attributes(after)
    if before and attributes == mapping.profile_attributes(before):
        return []
    unset = mapping.unset_properties(before, after) if before else []
    return [_profile(after, mapping.profile_payload(attributes, unset))]


def profile_again(payload: Mapping[str, Any], contact: Mapping[str, Any]) -> Document:
    """The payload of a failed profile with the contact's current values; it still unsets the same properties."""
    return mapping.profile_payload(mapping.profile_attributes(contact), _unset_properties(payload))


def full_profile(contact: Mapping[str, Any]) -> NewDelivery:
    """The delivery of a contact's whole profile."""
    return _profile(contact, mapping.profile_payload(mapping.profile_attributes(contact), ()))


def support_event(
    event: MetricEvent, subject: mapping.MetricSubject, now: datetime, *, history: bool = False
) -> NewDelivery:
    """One of the nine metric events of conversations and tickets. With `history` it triggers no flow."""
    properties = mapping.properties_of(event.metric, subject)
    return _event(
        event.metric,
        mapping.MetricSource.SUPPORT,
        subject.contact,
        properties,
        event.at,
        event.unique_id,
        now,
        subject_id=subject.document["_id"],
        history=history,
    )


def tracked_event(event: EventDocument, contact: Document, now: datetime) -> NewDelivery:
    """A tracked event as a metric of its own name."""
    name = event["name"]
    delivery = _event(
        name,
        mapping.MetricSource.TRACKED,
        contact,
        event["metadata_json"],
        event["occurred_at"],
        event["_id"],
        now,
        subject_id=event["_id"],
        money=mapping.money_of(event["metadata"]),
    )
    return replace(delivery, problem=delivery.problem or mapping.problem_of_metric_name(name))


def _event(
    metric: str,
    source: mapping.MetricSource,
    contact: Mapping[str, Any],
    properties: Mapping[str, Any],
    at: datetime,
    unique_id: str,
    now: datetime,
    *,
    subject_id: str,
    money: tuple[float, str] | None = None,
    history: bool = False,
) -> NewDelivery:
    """An event delivery. History, and anything older than a day, is marked as backfill and triggers no flow."""
    backfill = history or at < now - _HISTORY
    payload = mapping.event_payload(metric, contact, properties, at, unique_id, money=money, backfill=backfill)
    return NewDelivery(
        DeliveryKind.EVENT,
        contact,
        payload,
        metric=str(metric),
        source=source.value,
        subject_id=subject_id,
        unique_id=unique_id,
        problem=problem_of_event(payload, contact, at, now),
        note=identifiers_of(contact).note,
    )


def _is_profile(row: Mapping[str, Any]) -> bool:
    return row["kind"] == DeliveryKind.PROFILE and "open" in row


def _has_profile(lane: Mapping[str, Any]) -> bool:
    return lane.get("profile_delivery_id") is not None


def _held_back(lane: Mapping[str, Any], items: list[NewDelivery], until: datetime | None) -> list[NewDelivery]:
    """Delay the items until then if they include a profile, or will get one put before them."""
    if until is None or (_has_profile(lane) and all(item.kind is not DeliveryKind.PROFILE for item in items)):
        return items
    return [replace(item, not_before=until) for item in items]


def _unset_properties(payload: Mapping[str, Any]) -> list[str]:
    names: list[str] = payload["data"].get("meta", {}).get("patch_properties", {}).get("unset", [])
    return names


def _profile(contact: Mapping[str, Any], payload: Document) -> NewDelivery:
    problem = problem_of_profile(payload, contact)
    return NewDelivery(DeliveryKind.PROFILE, contact, payload, problem=problem, note=identifiers_of(contact).note)


def _forwarded(events: Iterable[EventDocument], sync: KlaviyoConnection) -> list[EventDocument]:
    return [event for event in events if sync.forwards(event["name"]) and not event.get("imported")]
