"""The values of a build counted anew, of some contacts at a time: a range's counts are in memory, never all of them."""

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
    store: WorkspaceStore, build: ValueGeneration, session: Session, now: datetime, size: int = CONTACTS_AT_ONCE
) -> AsyncIterator[list[ValueCount]]:
    """The counts of all events of a build's name, those that are no longer kept included, as a snapshot has them.

    Events of a contact that took others over may lie in several ranges: its counts come last."""
    survivors = await store.events.survivors(session)
    several = set(survivors.values())
    joined: list[ValueCount] = []
    async for contacts in _ranges(store, build.name, now, size):
        found = await store.events.values(build.name, build.key, contacts, session)
        found += await store.tombstones.values(build.name, build.key, contacts, session)
        for row in found:
            row["_id"]["contact_id"] = survivors.get(row["_id"]["contact_id"], row["_id"]["contact_id"])
        counts = counted_values(store.workspace_id, build.name, found)
        joined = merged([*joined, *(one for one in counts if one.contact_id in several)])
        yield bounded(one for one in counts if one.contact_id not in several)
    yield bounded(joined)


async def _ranges(store: WorkspaceStore, name: str, now: datetime, size: int) -> AsyncIterator[IdRange]:
    """Ranges of contacts' ids that hold every id together, each with about so many contacts who have that name."""
    high: str | None = None
    while True:
        rows = await store.summaries.of_name(name, Page(size - 1, False, high, None), TimeRange(), now)
        low = rows[-1]["contact_id"] if len(rows) == size else None
        yield low, high
        if low is None:
            return
        high = low
