"""Klaviyo as a destination of the outbox."""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import structlog

from gateway.core.clock import Clock
from gateway.core.ids import Minter
from gateway.destinations.klaviyo import mapping
from gateway.destinations.klaviyo.client import open_http_client
from gateway.destinations.klaviyo.connection import FAILURES_ALLOWED, LONGEST_BACK_OFF, KlaviyoConnection
from gateway.destinations.klaviyo.connections import KlaviyoConnections
from gateway.destinations.klaviyo.delivery_counts import backfill_tallies, metric_counts
from gateway.destinations.klaviyo.enrichment import subjects_of
from gateway.destinations.klaviyo.identifiers import identifiers_of
from gateway.destinations.klaviyo.live_profiles import with_live_profile
from gateway.destinations.klaviyo.metric_events import metric_events_of
from gateway.destinations.klaviyo.new_deliveries import (
    changed_profile,
    full_profile,
    merged_profile,
    support_event,
    tracked_event,
)
from gateway.destinations.klaviyo.repository import KlaviyoDeliveries, KlaviyoLanes, KlaviyoStore
from gateway.destinations.klaviyo.sender import KlaviyoSenders, is_outage
from gateway.domain.changes import backfill_changed, new_change_id
from gateway.domain.contacts.contacts import ContactDraft, Document
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.support.threads import Changeset
from gateway.outbox.deliveries import DeliveryKind, NewDelivery, retry_delay
from gateway.outbox.destinations import Changes, Destination, Erasure, Outcome, Result, Senders
from gateway.outbox.documents import DeliveryDocument
from gateway.store.driver import Session
from gateway.store.workspace_store import WorkspaceStore


class KlaviyoDestination(Destination[KlaviyoConnection]):
    """Sends profiles, support metrics and forwarded events to Klaviyo."""

    name = "klaviyo"
    deliveries = KlaviyoDeliveries
    lanes = KlaviyoLanes

    def __init__(
        self, connections: KlaviyoConnections, clock: Clock, minter: Minter, chance: random.Random | None = None
    ) -> None:
        self._connections = connections
        self._clock = clock
        self._minter = minter
        self._chance = chance or random.Random()  # noqa: S311 - jitter
        self._senders = KlaviyoSenders(connections, clock)
        self._log = structlog.get_logger("gateway.klaviyo")

    async def is_active(self, workspace_id: str) -> bool:
        """Whether the connection is on."""
        return (await self._connections.current(workspace_id)).is_active

    async def active(self) -> Sequence[KlaviyoConnection]:
        return await self._connections.active()

    async def read(self, workspace_id: str) -> KlaviyoConnection:
        """The connection of a workspace as it is stored now."""
        return await self._connections.read(workspace_id)

    async def deliveries_for(self, store: WorkspaceStore, changes: Changes, now: datetime) -> Sequence[NewDelivery]:
        """Changed profiles, forwarded events, the metric events of a thread, and the deletion of a profile."""
        connection = await self._connections.current(store.workspace_id)
        deliveries = [profile for draft in changes.contacts for profile in changed_profile(draft)]
        deliveries += [
            tracked_event(event, changes.contacts_by_id[event["contact_id"]], now)
            for event in changes.events
            if connection.forwards(event["name"]) and not event.get("imported")
        ]
        if changes.thread is not None:
            deliveries += await _support_events(store, changes.thread, changes.contacts, now)
        return deliveries + _deletion(changes.erasure)

    def profile_of(self, contact: ContactDocument) -> NewDelivery:
        return full_profile(contact)

    def merge(self, waiting: Document, newer: Document) -> Document:
        """The newer profile, which also unsets what the earlier one was to unset."""
        return merged_profile(waiting, newer)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Senders[KlaviyoConnection]]:
        """Open the HTTP connections of a process, shared by all workspaces."""
        async with open_http_client() as http:
            yield self._senders.over(http)

    async def update_health(self, connection: KlaviyoConnection, results: Sequence[Result]) -> None:
        """Pause the connection if Klaviyo refuses every request; back off if it does not respond."""
        workspace_id = connection.workspace_id
        refusal = next((result for result in results if result.outcome is Outcome.PAUSE), None)
        if refusal is not None:
            reason = f"{refusal.attempt['error']} Fix that, then resume: nothing is lost meanwhile."
            self._log.warning("connection paused", workspace=workspace_id, reason=reason)
            await self._connections.pause(workspace_id, reason)
        elif results and all(is_outage(result) for result in results):
            failures = connection.failures + 1
            pause = retry_delay(min(failures, 10), self._chance) if failures >= FAILURES_ALLOWED else timedelta(0)
            await self._connections.back_off(workspace_id, failures, self._clock() + min(pause, LONGEST_BACK_OFF))
        elif connection.failures and results:
            await self._connections.back_off(workspace_id, 0, None)

    async def stale(
        self, store: WorkspaceStore, rows: Sequence[DeliveryDocument], session: Session
    ) -> Sequence[DeliveryDocument]:
        """The profiles of contacts that have, or will get, a live one."""
        contact_ids = await with_live_profile(KlaviyoStore(store), [row["contact_id"] for row in rows], session)
        return [row for row in rows if row["contact_id"] in contact_ids]

    async def record_changes(
        self,
        store: WorkspaceStore,
        rows: Sequence[DeliveryDocument],
        states_before: Mapping[str, str],
        now: datetime,
        session: Session,
    ) -> None:
        klaviyo, tallies = KlaviyoStore(store), backfill_tallies(rows, states_before)
        await klaviyo.metrics.add(metric_counts(rows), session)
        await klaviyo.backfills.settle(tallies, session)
        changes = [backfill_changed(new_change_id(self._minter, now), store.workspace_id, id_, now) for id_ in tallies]
        await store.changes.write(changes, session)

    async def contact_erased(self, store: WorkspaceStore, session: Session) -> None:
        """Have history read again that a backfill has read before the erasure."""
        await KlaviyoStore(store).backfills.read_again(session)


async def _support_events(
    store: WorkspaceStore, change: Changeset[Any], drafts: Sequence[ContactDraft], now: datetime
) -> list[NewDelivery]:
    """The metric events of a changed thread; none if its contact is gone."""
    events = list(metric_events_of(change))
    if not events:
        return []
    contact_id = change.after["contact_id"]
    written = {draft.document["_id"]: draft.document for draft in drafts}
    contacts = {contact_id: written[contact_id]} if contact_id in written else await store.contacts.of_ids([contact_id])
    subject = (await subjects_of(store, [change.after], contacts)).get(change.after["_id"])
    return [] if subject is None else [support_event(event, subject, now) for event in events]


def _deletion(erasure: Erasure | None) -> list[NewDelivery]:
    """The request to delete the profile of a contact that Klaviyo may know."""
    if erasure is None or not erasure.is_known or identifiers_of(erasure.contact).problem is not None:
        return []
    return [NewDelivery(DeliveryKind.DELETION, erasure.contact, mapping.deletion_payload(erasure.contact))]
