"""The outbox: what Klaviyo is to hear of a change, written in the transaction of that change.

Payloads are frozen here. Each contact has a lane, in which its deliveries have consecutive numbers; who adds to a lane or
works at it changes its version, so that of two at once one tries again, and the order of numbers is that of commits.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

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
from gateway.domain.support.threads import Changeset
from gateway.domain.syncs import KlaviyoConnection
from gateway.services.subjects import subjects_of
from gateway.services.syncs import KlaviyoConnections
from gateway.store.driver import Session
from gateway.store.workspace_store import WorkspaceStore

_HISTORY = timedelta(days=1)


class Outbox:
    """Writes deliveries. Nothing is written for workspaces whose sync is off."""

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
        events: Sequence[Document] = (),
        contacts: Mapping[str, Document] | None = None,
    ) -> None:
        """Queue the profiles of drafts of which something changed that Klaviyo hears, and the events that are forwarded.

        `contacts`: whose events they are, by id."""
        sync = await self._syncs.current(store.workspace_id)
        if not sync.is_active:
            return
        wanted = [profile for draft in drafts for profile in changed_profile(draft)]
        wanted += [
            tracked_event(event, (contacts or {})[event["contact_id"]], now) for event in _sent_values(events, sync)
        ]
        await self.enqueue(store, wanted, now, session)

    async def thread_changed(
        self, store: WorkspaceStore, change: Changeset, contact: ContactDraft | None, now: datetime, session: Session
    ) -> None:
        """Queue what Klaviyo hears of a change of a conversation or ticket. `contact`: the one whose it is, if the
        transaction writes it."""
        happened = list(metric_events_of(change))
        if not ((contact or happened) and (await self._syncs.current(store.workspace_id)).is_active):
            return
        wanted = [] if contact is None else changed_profile(contact)
        if happened:
            subject = await self._subject(store, change.after, contact)
            wanted += [support_event(happening, subject, now) for happening in happened] if subject is not None else []
        await self.enqueue(store, wanted, now, session)

    @staticmethod
    async def _subject(
        store: WorkspaceStore, document: Document, contact: ContactDraft | None
    ) -> mapping.MetricSubject | None:
        """The conversation or ticket with all that its properties name; None where its contact is gone."""
        id_ = document["contact_id"]
        contacts = await store.contacts.of_ids([id_]) if contact is None else {id_: contact.document}
        return (await subjects_of(store, [document], contacts)).get(document["_id"])

    async def contact_erased(self, store: WorkspaceStore, contact: Document, now: datetime, session: Session) -> None:
        """Ask for the erasure of a contact of whom Klaviyo may know something, and queue nothing else of it."""
        ids = [lane_id_of(store.workspace_id, id_, queue) for id_ in ids_of(contact) for queue in Queue]
        lanes = await store.lanes.by_ids(ids, session)
        of_history = [lane for lane in lanes.values() if lane["queue"] == Queue.BACKFILL]
        await store.lanes.remove(of_history, session)  # the others go once Klaviyo has taken the deletion
        await store.backfills.read_again(session)
        sync = await self._syncs.current(store.workspace_id)
        if sync.is_active and lanes and identifiers_of(contact).problem is None:
            own = lane_id_of(store.workspace_id, contact["_id"])
            sending = [lane["due_at"] for id_, lane in lanes.items() if id_ != own and is_leased(lane, now)]
            payload = mapping.deletion_payload(contact)
            wanted = NewDelivery(DeliveryKind.DELETION, contact, payload, not_before=max(sending, default=None))
            await self.enqueue(store, [wanted], now, session)

    async def enqueue(
        self,
        store: WorkspaceStore,
        wanted: Sequence[NewDelivery],
        now: datetime,
        session: Session,
        queue: Queue = Queue.LIVE,
        backfill_id: str | None = None,
    ) -> list[Document]:
        """Queue deliveries, those of each contact in their order, its profile before its first event; the new rows."""
        by_contact: dict[str, list[NewDelivery]] = defaultdict(list)
        for item in wanted:
            by_contact[item.contact["_id"]].append(item)
        if not by_contact:
            return []
        ids = {id_: lane_id_of(store.workspace_id, id_, queue) for id_ in by_contact}
        others = [lane_id_of(store.workspace_id, id_, Queue.BACKFILL) for id_ in by_contact if queue is Queue.LIVE]
        lanes = await store.lanes.by_ids([*ids.values(), *others], session)
        rows: list[Document] = []
        changes: list[tuple[Document, Document]] = []
        passed = [lanes[id_] for id_ in others if id_ in lanes]
        sending = await self._sending(store, passed, now, session)
        for contact_id, items in by_contact.items():
            lane = lanes.get(ids[contact_id]) or new_lane(store.workspace_id, contact_id, queue, now)
            held_back = _held_back(lane, items, sending.get(contact_id))
            added, change = await self._added(store, lane, held_back, now, session, backfill_id)
            rows += added
            changes += [(lane, change)] if change else []
        await store.lanes.save(changes, session)  # first: here those meet who write to the same lanes
        await store.deliveries.insert(rows, session)
        told = [item for item in wanted if item.kind is DeliveryKind.PROFILE and item.problem is None]
        newer = {item.contact["_id"] for item in told} | {row["contact_id"] for row in rows if _is_profile(row)}
        await self._supersede(store, [lane for lane in passed if lane["contact_id"] in newer], now, session)
        lines = [delivery_line(self._minter.mint(Prefix.CHANGE, now), row, None, now) for row in rows]
        await store.changes.write(lines, session)
        return rows

    @staticmethod
    async def _sending(
        store: WorkspaceStore, passed: list[Document], now: datetime, session: Session
    ) -> dict[str, datetime]:
        """Until when a worker may be sending an older profile from these lanes of a backfill, by contact."""
        leased = {lane["profile_delivery_id"]: lane for lane in passed if _has_profile(lane) and is_leased(lane, now)}
        rows = await store.deliveries.by_ids(list(leased), session)
        under_way = [leased[id_] for id_, row in rows.items() if row["state"] == DeliveryState.SENDING]
        return {lane["contact_id"]: lane["due_at"] for lane in under_way}

    async def _supersede(self, store: WorkspaceStore, passed: list[Document], now: datetime, session: Session) -> None:
        """Leave out the profiles that wait in these lanes of a backfill, while newer ones go before them."""
        ids = [lane.get("profile_delivery_id") for lane in passed]
        found = await store.deliveries.by_ids([id_ for id_ in ids if id_ is not None], session)
        waiting = [row for row in found.values() if row["state"] in (DeliveryState.PENDING, DeliveryState.RETRYING)]
        await supersede(store, self._minter, waiting, now, session)

    async def _added(
        self,
        store: WorkspaceStore,
        lane: Document,
        items: list[NewDelivery],
        now: datetime,
        session: Session,
        backfill_id: str | None,
    ) -> tuple[list[Document], Document]:
        """The new rows of a lane, and what of the lane changes."""
        seq, profile_id = lane["seq"], lane.get("profile_delivery_id")
        rows: list[Document] = []
        first_event = next((item for item in items if item.kind is DeliveryKind.EVENT and item.problem is None), None)
        if profile_id is None and first_event is not None and lane["queue"] == Queue.LIVE:
            known = next((item for item in items if item.kind is DeliveryKind.PROFILE), None)
            items = [known or full_profile(first_event.contact), *(item for item in items if item is not known)]
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
            # Nothing new is open; yet who coalesced must meet whoever claims the lane meanwhile.
            return rows, {"seq": seq} if lane["version"] and len(rows) < len(items) else {}
        change: Document = {"seq": seq, "due_at": lane.get("due_at") or now}
        if later := [item.not_before for item in items if item.not_before is not None]:
            change |= {"due_at": max(change["due_at"], *later), "not_before": max(later)}
        return rows, {**change, **({"profile_delivery_id": profile_id} if profile_id else {})}

    @staticmethod
    async def _coalesce(
        store: WorkspaceStore, lane: Document, item: NewDelivery, now: datetime, session: Session
    ) -> bool:
        """Whether the profile took the place of one that waits: only the current state goes out."""
        waiting_id = lane.get("profile_delivery_id")
        if waiting_id is None or item.problem is not None or is_leased(lane, now):
            return False
        waiting = (await store.deliveries.by_ids([waiting_id], session)).get(waiting_id)
        if waiting is None or waiting.get("open") is None:
            return False
        gone = {*_unset(waiting["payload"]), *_unset(item.payload)}
        payload = mapping.profile_payload(item.payload["data"]["attributes"], sorted(gone))
        state = waiting["state"] if waiting["state"] != DeliveryState.SENDING else DeliveryState.RETRYING.value
        await store.deliveries.change({waiting_id: {"payload": payload, "state": state, "reason": item.note}}, session)
        return True


async def with_live_profile(store: WorkspaceStore, contact_ids: Sequence[str], session: Session = None) -> set[str]:
    """Those of the contacts of whom the account that is connected now was told a profile as it changed, or is about to be:
    history has nothing newer of them."""
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
    """Leave out these profiles of history: newer ones go in their place."""
    if not rows:
        return
    out = discarded(SUPERSEDED, now)
    await store.deliveries.change({row["_id"]: out for row in rows}, session)
    lines = [
        delivery_line(minter.mint(Prefix.CHANGE, now), {**row, **out}, requeued(row)["state"], now) for row in rows
    ]
    await store.changes.write(lines, session)
    counts = Counter(row["backfill_id"] for row in rows)
    await store.backfills.settle({id_: {"settled": count, "done": count} for id_, count in counts.items()}, session)


def changed_profile(draft: ContactDraft) -> list[NewDelivery]:
    """The profile of a contact of which something changed that Klaviyo hears; nothing of one whom it could not know."""
    before, after = draft.stored or {}, draft.document
    if not identifiers_of(after).any:
        return []
    attributes = mapping.profile_attributes(after)
    if before and attributes == mapping.profile_attributes(before):
        return []
    unset = mapping.unset_properties(before, after) if before else []
    return [_profile(after, mapping.profile_payload(attributes, unset))]


def profile_again(payload: Mapping[str, Any], contact: Mapping[str, Any]) -> Document:
    """A profile that did not arrive, as its contact is now; what it was to take away it takes away."""
    return mapping.profile_payload(mapping.profile_attributes(contact), _unset(payload))


def full_profile(contact: Mapping[str, Any]) -> NewDelivery:
    """The profile of a contact of whom Klaviyo knows nothing yet."""
    return _profile(contact, mapping.profile_payload(mapping.profile_attributes(contact), ()))


def support_event(
    happening: MetricEvent, subject: mapping.MetricSubject, now: datetime, *, history: bool = False
) -> NewDelivery:
    """Something that happened to a conversation or ticket, as one of the nine metrics; `history`: no flow is to hear it."""
    properties = mapping.properties_of(happening.metric, subject)
    return _event(
        happening.metric,
        mapping.MetricSource.SUPPORT,
        subject.contact,
        properties,
        happening.at,
        happening.unique_id,
        now,
        subject_id=subject.document["_id"],
        history=history,
    )


def tracked_event(event: Document, contact: Document, now: datetime) -> NewDelivery:
    """A tracked event as a metric of its own name."""
    name = event["name"]
    wanted = _event(
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
    return replace(wanted, problem=wanted.problem or mapping.problem_of_metric_name(name))


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
    """An event of a contact. What happened long ago is history: no flow is to be set off by it."""
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
    """These, not to be sent before that moment where a profile is among them, or goes before them."""
    if until is None or (_has_profile(lane) and all(item.kind is not DeliveryKind.PROFILE for item in items)):
        return items
    return [replace(item, not_before=until) for item in items]


def _unset(payload: Mapping[str, Any]) -> list[str]:
    """The properties that a profile's body takes away."""
    found: list[str] = payload["data"].get("meta", {}).get("patch_properties", {}).get("unset", [])
    return found


def _profile(contact: Mapping[str, Any], payload: Document) -> NewDelivery:
    refused = problem_of_profile(payload, contact)
    return NewDelivery(DeliveryKind.PROFILE, contact, payload, problem=refused, note=identifiers_of(contact).note)


def _sent_values(events: Iterable[Document], sync: KlaviyoConnection) -> list[Document]:
    return [event for event in events if sync.forwards(event["name"]) and not event.get("imported")]
