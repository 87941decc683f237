"""Rebuilds the values of an event name by ranges of contacts, so that memory stays bounded."""

from collections.abc import AsyncIterator
from datetime import datetime

from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.domain.events.definitions import ValueCount, ValueGeneration, bounded, merged
from gateway.services.projections.definition_totals import counted_values
from gateway.store.driver import Session
from gateway.store.events.events import IdRange
from gateway.store.workspace_store import WorkspaceStore

CONTACTS_AT_ONCE = 1000


async def rebuild_values(
    store: WorkspaceStore, generation: ValueGeneration, session: Session, now: datetime, size: int = CONTACTS_AT_ONCE
) -> AsyncIterator[list[ValueCount]]:
    """Count all events of a name in the snapshot, with tombstones. Survivors of merges come last, since their events
    may be in several ranges."""
    survivors = await store.events.survivors(session)
    survivor_ids = set(survivors.values())
    survivor_counts: list[ValueCount] = []
    async for contacts in _ranges(store, generation.name, now, size):
        rows = await store.events.values(generation.name, generation.key, contacts, session)
        rows += await store.tombstones.values(generation.name, generation.key, contacts, session)
        for row in rows:
            row["_id"]["contact_id"] = survivors.get(row["_id"]["contact_id"], row["_id"]["contact_id"])
        counts = counted_values(store.workspace_id, generation.name, rows)
        survivor_counts = merged([*survivor_counts, *(count for count in counts if count.contact_id in survivor_ids)])
        yield bounded(count for count in counts if count.contact_id not in survivor_ids)
    yield bounded(survivor_counts)


async def _ranges(store: WorkspaceStore, name: str, now: datetime, size: int) -> AsyncIterator[IdRange]:
    """Yield (low, high) ranges that cover all contact ids, each with about `size` contacts of that name."""
    high: str | None = None
    while True:
        rows = await store.summaries.of_name(name, Page(size - 1, False, high, None), TimeRange(), now)
        low = rows[-1]["contact_id"] if len(rows) == size else None
        yield low, high
        if low is None:
            return
        high = low
