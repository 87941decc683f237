"""Searches for events: a workspace's or one contact's, of those names, in that time, with that metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.domain.filters.conditions import has_metadata, was_before_sign_up
from gateway.domain.filters.operators import AttributeTest
from gateway.store.driver import Document
from gateway.store.filters.contact_search import MAX_CANDIDATES, SearchPage
from gateway.store.filters.fact_loader import Collections
from gateway.store.yielding import filter_rows

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class EventSearch:
    """What is wanted; `contact` is the contact itself where the caller has it; `most`: how many events a page looks at.

    `fields`: what is wanted of each event at least; None: all."""

    store: Collections
    times: TimeRange
    now: datetime
    names: Sequence[str] | None = None
    contact_ids: Sequence[str] | None = None
    contact: Mapping[str, Any] | None = None
    metadata: Sequence[AttributeTest] = ()
    before_sign_up: bool = False
    most: int = MAX_CANDIDATES
    fields: Sequence[str] | None = None

    @property
    def looks_at_events(self) -> bool:
        """Whether an index does not tell what is wanted."""
        return bool(self.metadata or (self.before_sign_up and self.contact is None))

    async def page(self, asked: Page) -> SearchPage:
        """A page of them, newest first."""
        return await self._search(asked) if self.looks_at_events else SearchPage(await self._read(asked))

    async def count(self, most: int) -> int | None:
        """How many there are, counted up to that many; None where the events to look at ran out before."""
        if not self.looks_at_events:
            return await self.store.events.count(self._times, most, names=self.names, contact_ids=self.contact_ids)
        found = await self._search(Page(most - 1, False, None, None))
        return None if found.stopped_at is not None else len(found.rows)

    @property
    def _times(self) -> TimeRange:
        signed_up_at = self.contact.get("signed_up_at") if self.contact is not None else None
        if not self.before_sign_up or signed_up_at is None:
            return self.times
        return self.times.intersect(TimeRange(end=signed_up_at))

    async def _read(self, asked: Page) -> list[Document]:
        return await self.store.events.page(
            asked,
            self._times,
            self.now,
            names=self.names,
            contact_ids=self.contact_ids,
            fields=None if self.looks_at_events else self.fields,
        )

    async def _search(self, asked: Page) -> SearchPage:
        rows: list[Document] = []
        looked, size, place = 0, min(2 * asked.limit, _BATCH, self.most), asked
        while looked < self.most:
            batch = await self._read(replace(place, size=size - 1))
            rows += await self._wanted(batch)
            if len(rows) >= asked.limit or len(batch) < size:
                return SearchPage(rows[: asked.limit])
            last = batch[-1]["_id"]
            place = replace(place, before=last) if asked.backward else replace(place, after=last)
            looked, size = looked + len(batch), max(1, min(4 * size, _BATCH, self.most - looked - len(batch)))
        return SearchPage(rows, place.before if asked.backward else place.after)

    async def _wanted(self, batch: Sequence[Document]) -> list[Document]:
        kept = await filter_rows(batch, self._has_metadata, 1 + len(self.metadata))
        if not self.before_sign_up or self.contact is not None:
            return kept
        contacts = await self.store.contacts.of_ids(sorted({row["contact_id"] for row in kept}))
        return [row for row in kept if was_before_sign_up(row, contacts.get(row["contact_id"], {}))]

    def _has_metadata(self, row: Document) -> bool:
        return has_metadata(row, self.metadata, self.now)
