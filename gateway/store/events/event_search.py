"""Event search: a workspace's or one contact's events by name, time and metadata."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.events.documents import EventDocument
from gateway.domain.filters.conditions import has_metadata, was_before_sign_up
from gateway.domain.filters.operators import AttributeTest
from gateway.store.filters.contact_search import MAX_CANDIDATES, SearchPage
from gateway.store.filters.fact_loader import Collections
from gateway.store.yielding import filter_rows

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class EventSearch:
    """`contact`: the contact itself, if the caller has it. `most`: how many events one page may read. `fields`: what to
    read of each event; None: everything."""

    store: Collections
    times: TimeRange
    now: datetime
    names: Sequence[str] | None = None
    contact_ids: Sequence[str] | None = None
    contact: ContactDocument | None = None
    metadata: Sequence[AttributeTest] = ()
    before_sign_up: bool = False
    most: int = MAX_CANDIDATES
    fields: Sequence[str] | None = None

    @property
    def looks_at_events(self) -> bool:
        """Whether no index decides, so that each event must be read."""
        return bool(self.metadata or (self.before_sign_up and self.contact is None))

    async def page(self, page: Page) -> SearchPage[EventDocument]:
        return await self._search(page) if self.looks_at_events else SearchPage(await self._read(page))

    async def count(self, most: int) -> int | None:
        """The number of matches, counted up to `most`; None if the search stopped before it read every candidate."""
        if not self.looks_at_events:
            return await self.store.events.count(self._times, most, names=self.names, contact_ids=self.contact_ids)
        page = await self._search(Page(most - 1, False, None, None))
        return None if page.stopped_at is not None else len(page.rows)

    @property
    def _times(self) -> TimeRange:
        signed_up_at = self.contact.get("signed_up_at") if self.contact is not None else None
        if not self.before_sign_up or signed_up_at is None:
            return self.times
        return self.times.intersect(TimeRange(end=signed_up_at))

    async def _read(self, page: Page) -> list[EventDocument]:
        return await self.store.events.page(
            page,
            self._times,
            self.now,
            names=self.names,
            contact_ids=self.contact_ids,
            fields=None if self.looks_at_events else self.fields,
        )

    async def _search(self, page: Page) -> SearchPage[EventDocument]:
        rows: list[EventDocument] = []
        read_count, size, next_page = 0, min(2 * page.limit, _BATCH, self.most), page
        while read_count < self.most:
            batch = await self._read(replace(next_page, size=size - 1))
            rows += await self._matching(batch)
            if len(rows) >= page.limit or len(batch) < size:
                return SearchPage(rows[: page.limit])
            last = batch[-1]["_id"]
            next_page = replace(next_page, before=last) if page.backward else replace(next_page, after=last)
            read_count += len(batch)
            size = max(1, min(4 * size, _BATCH, self.most - read_count))
        return SearchPage(rows, next_page.before if page.backward else next_page.after)

    async def _matching(self, batch: Sequence[EventDocument]) -> list[EventDocument]:
        matching = await filter_rows(batch, self._has_metadata, 1 + len(self.metadata))
        if not self.before_sign_up or self.contact is not None:
            return matching
        contacts = await self.store.contacts.of_ids(sorted({row["contact_id"] for row in matching}))
        return [row for row in matching if was_before_sign_up(row, contacts.get(row["contact_id"]))]

    def _has_metadata(self, row: EventDocument) -> bool:
        return has_metadata(row, self.metadata, self.now)
