"""Delivery search: newest first, by one index."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.core.ids import Prefix, lowest_id
from gateway.core.pagination import Page
from gateway.outbox.documents import DeliveryDocument
from gateway.outbox.filters import DeliveryFilter
from gateway.outbox.repository import Deliveries
from gateway.store.filters.contact_search import MAX_CANDIDATES, SearchPage

_BATCH = 500


@dataclass(frozen=True, slots=True)
class DeliverySearch:
    """`most`: how many deliveries a page may read if no index decides. `fields` limits what is read."""

    deliveries: Deliveries
    filter: DeliveryFilter
    now: datetime
    most: int = MAX_CANDIDATES
    fields: Sequence[str] | None = None

    async def page(self, page: Page) -> SearchPage[DeliveryDocument]:
        rows: list[DeliveryDocument] = []
        read_count, next_page = 0, page
        size = page.limit if self.filter.is_exact else min(4 * page.limit, _BATCH)
        while read_count < self.most and not self.filter.times.empty:
            batch = await self._read(replace(next_page, size=size - 1))
            rows += batch if self.filter.is_exact else [row for row in batch if self.filter.matches(row)]
            if len(rows) >= page.limit or len(batch) < size:
                return SearchPage(rows[: page.limit])
            last = str(batch[-1]["_id"])
            next_page = replace(next_page, before=last) if page.backward else replace(next_page, after=last)
            read_count, size = read_count + len(batch), _BATCH
        return SearchPage(rows, next_page.before if page.backward else next_page.after)

    async def count(self, most: int) -> int | None:
        """The number of matches, counted up to `most`; None if the search stopped before it read every candidate."""
        if not self.filter.is_exact:
            page = await self.page(Page(most - 1, False, None, None))
            return None if page.stopped_at is not None else len(page.rows)
        total, times = 0, self.filter.times
        bounds = {"$gte": lowest_id(Prefix.DELIVERY, times.start), "$lt": lowest_id(Prefix.DELIVERY, times.end)}
        for condition in self.filter.places:
            if total < most and not times.empty:
                total += await self.deliveries.count({**condition, "_id": bounds}, most - total)
        return total

    async def _read(self, page: Page) -> list[DeliveryDocument]:
        fields = self.fields if self.filter.is_exact else None
        return await self.deliveries.page(self.filter.places, page, self.filter.times, self.now, fields)
