"""Reports changes of deliveries: in the change log, and to their destination, which counts them."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from gateway.core.ids import Minter
from gateway.domain.changes import delivery_changed, new_change_id
from gateway.outbox.destinations import AnyDestination, OutboxStore
from gateway.outbox.documents import DeliveryDocument
from gateway.store.driver import Session


class ChangeReports:
    def __init__(self, destination: AnyDestination, minter: Minter) -> None:
        self._destination = destination
        self._minter = minter

    async def queued(
        self, store: OutboxStore, rows: Sequence[DeliveryDocument], now: datetime, session: Session
    ) -> None:
        """Report new deliveries in the change log."""
        await self._log(store, rows, {}, now, session)

    async def changed(
        self,
        store: OutboxStore,
        rows: Sequence[DeliveryDocument],
        states_before: Mapping[str, str],
        now: datetime,
        session: Session,
    ) -> None:
        """Report deliveries, as they are now, that left these states (by id)."""
        await self._log(store, rows, states_before, now, session)
        await self._destination.record_changes(store.workspace, rows, states_before, now, session)

    async def _log(
        self,
        store: OutboxStore,
        rows: Sequence[DeliveryDocument],
        states_before: Mapping[str, str],
        now: datetime,
        session: Session,
    ) -> None:
        name = self._destination.name
        changes = [
            delivery_changed(new_change_id(self._minter, now), name, row, states_before.get(row["_id"]), now)
            for row in rows
        ]
        await store.changes.write(changes, session)
