"""The outbox: deliveries to every destination, stored in the transaction of the change that they report."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.core.ids import Minter
from gateway.domain.contacts.contacts import ContactDraft
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.merging import ids_of
from gateway.domain.events.documents import EventDocument
from gateway.domain.support.threads import Changeset
from gateway.outbox.deliveries import NewDelivery, Queue, is_leased, lane_id_of
from gateway.outbox.destinations import AnyDestination, Changes, Erasure, OutboxStore
from gateway.outbox.enqueuer import Enqueuer, delayed
from gateway.store.driver import Session
from gateway.store.workspace_store import WorkspaceStore

_ERASED_AT_ONCE = 1000


class Outbox:
    """Queues deliveries. Queues nothing for a destination that is not active in the workspace."""

    def __init__(self, destinations: Sequence[AnyDestination], minter: Minter) -> None:
        self._enqueuers = {destination.name: Enqueuer(destination, minter) for destination in destinations}
        self._destinations = destinations

    async def contacts_changed(
        self,
        store: WorkspaceStore,
        now: datetime,
        session: Session,
        *,
        drafts: Iterable[ContactDraft] = (),
        events: Sequence[EventDocument] = (),
        contacts: Mapping[str, ContactDocument] | None = None,
    ) -> None:
        """Report changed contacts and tracked events. `contacts`: those of the events, by id."""
        changes = Changes(contacts=tuple(drafts), events=events, contacts_by_id=contacts or {})
        for destination in self._destinations:
            await self._report(store, destination, changes, now, session)

    async def thread_changed(
        self,
        store: WorkspaceStore,
        change: Changeset[Any],
        contact: ContactDraft | None,
        now: datetime,
        session: Session,
    ) -> None:
        """Report a changed thread. `contact`: its contact, if this transaction writes it."""
        changes = Changes(contacts=() if contact is None else (contact,), thread=change)
        for destination in self._destinations:
            await self._report(store, destination, changes, now, session)

    async def contact_erased(
        self, store: WorkspaceStore, contact: ContactDocument, now: datetime, session: Session
    ) -> None:
        """Report the erasure of a contact, and drop the lanes in which nothing of it is sent any more."""
        for destination in self._destinations:
            await destination.contact_erased(store, session)
            await self._erase_lanes(store, destination, contact, now, session)

    async def erase_some(self, store: WorkspaceStore, contact_id: str) -> bool:
        """Delete a batch of an erased contact's deliveries; whether there may be more."""
        for destination in self._destinations:
            if await OutboxStore(store, destination).deliveries.erase_some(contact_id, _ERASED_AT_ONCE):
                return True
        return False

    async def _report(
        self, store: WorkspaceStore, destination: AnyDestination, changes: Changes, now: datetime, session: Session
    ) -> None:
        if await destination.is_active(store.workspace_id):
            deliveries = await destination.deliveries_for(store, changes, now)
            await self._enqueuers[destination.name].enqueue(store, deliveries, now, session)

    async def _erase_lanes(
        self,
        store: WorkspaceStore,
        destination: AnyDestination,
        contact: ContactDocument,
        now: datetime,
        session: Session,
    ) -> None:
        """Queue what the destination receives for the erasure, once no worker sends from another lane of the contact."""
        lanes_of = OutboxStore(store, destination).lanes
        ids = [lane_id_of(store.workspace_id, id_, queue) for id_ in ids_of(contact) for queue in Queue]
        lanes = await lanes_of.by_ids(ids, session)
        reports: Sequence[NewDelivery] = ()
        if await destination.is_active(store.workspace_id):
            changes = Changes(erasure=Erasure(contact, is_known=bool(lanes)))
            reports = await destination.deliveries_for(store, changes, now)
        kept = lane_id_of(store.workspace_id, contact["_id"]) if reports else None
        dropped = {id_: lane for id_, lane in lanes.items() if id_ != kept}
        await lanes_of.remove(list(dropped.values()), session)
        lease_ends = [lane["due_at"] for lane in dropped.values() if is_leased(lane, now)]
        reports = delayed(reports, max(lease_ends, default=None))
        await self._enqueuers[destination.name].enqueue(store, reports, now, session)
