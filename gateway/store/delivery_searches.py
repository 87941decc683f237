"""Searches for deliveries of a workspace: the newest first, each by one index."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.core.ids import Prefix, lowest_id
from gateway.core.pagination import Page
from gateway.domain.delivery_filters import DeliveryFilter
from gateway.store.deliveries import Deliveries
from gateway.store.driver import Document
from gateway.store.filters.contact_search import MAX_CANDIDATES, SearchPage

_BATCH = 500


@dataclass(frozen=True, slots=True)
class DeliverySearch:
    """What is wanted; `most`: how many deliveries a page looks at where no index tells.

    `fields`: what is wanted of each delivery at least; None: all."""

    deliveries: Deliveries
    filter: DeliveryFilter
    now: datetime
    most: int = MAX_CANDIDATES
    fields: Sequence[str] | None = None

    async def page(self, asked: Page) -> SearchPage:
        """A page of them."""
        rows: list[Document] = []
        looked, place = 0, asked
        size = asked.limit if self.filter.is_exact else min(4 * asked.limit, _BATCH)
        while looked < self.most and not self.filter.times.empty:
            batch = await self._read(replace(place, size=size - 1))
            rows += batch if self.filter.is_exact else [row for row in batch if self.filter.matches(row)]
            if len(rows) >= asked.limit or len(batch) < size:
                return SearchPage(rows[: asked.limit])
            last = str(batch[-1]["_id"])
            place = replace(place, before=last) if asked.backward else replace(place, after=last)
            looked, size = looked + len(batch), _BATCH
        return SearchPage(rows, place.before if asked.backward else place.after)

    async def count(self, most: int) -> int | None:
        """How many there are, counted up to that many; None where those to look at ran out before."""
        if not self.filter.is_exact:
            found = await self.page(Page(most - 1, False, None, None))
            return None if found.stopped_at is not None else len(found.rows)
        total, times = 0, self.filter.times
        bounds = {"$gte": lowest_id(Prefix.DELIVERY, times.start), "$lt": lowest_id(Prefix.DELIVERY, times.end)}
        for place in self.filter.places:
            if total < most and not times.empty:
                total += await self.deliveries.count({**place, "_id": bounds}, most - total)
        return total

    async def _read(self, asked: Page) -> list[Document]:
        fields = self.fields if self.filter.is_exact else None
        return await self.deliveries.page(self.filter.places, asked, self.filter.times, self.now, fields)
