"""Writes changes of backfills, with the entry in the change log that reports them."""

from collections.abc import Mapping
from functools import partial

from gateway.core.clock import Clock
from gateway.core.ids import Minter
from gateway.destinations.klaviyo.documents import BackfillChanges, BackfillDocument
from gateway.destinations.klaviyo.repository import KlaviyoStore
from gateway.domain.changes import backfill_changed, new_change_id
from gateway.store.driver import Session


class BackfillWriter:
    def __init__(self, clock: Clock, minter: Minter) -> None:
        self._clock = clock
        self._minter = minter

    async def change(
        self,
        store: KlaviyoStore,
        backfill: BackfillDocument,
        values: BackfillChanges,
        increments: Mapping[str, int] | None = None,
    ) -> None:
        """Set `values` and add `increments` in a transaction of its own."""
        await store.database.transaction(partial(self.write, store, backfill, values, increments or {}))

    async def write(
        self,
        store: KlaviyoStore,
        backfill: BackfillDocument,
        values: BackfillChanges,
        increments: Mapping[str, int],
        session: Session,
    ) -> None:
        """Set `values` and add `increments`; TransientError if the backfill changed since it was read."""
        await store.backfills.change(backfill, values, session, increments)
        await self.log(store, backfill, session)

    async def log(self, store: KlaviyoStore, backfill: BackfillDocument, session: Session) -> None:
        now = self._clock()
        change = backfill_changed(new_change_id(self._minter, now), store.workspace_id, backfill["_id"], now)
        await store.changes.write([change], session)
