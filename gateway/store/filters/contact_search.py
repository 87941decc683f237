"""Searches: contacts of whom a condition holds, found by walking candidates and looking at what each one did."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.core.pagination import Page
from gateway.core.sorting import ContactOrder
from gateway.core.time_ranges import TimeRange
from gateway.domain.filters.access_paths import access_path, created_within, frequency_bound
from gateway.domain.filters.conditions import AllOf, Condition
from gateway.store.driver import Document
from gateway.store.filters.fact_loader import Collections, FactLoader
from gateway.store.filters.scans import Candidate, IdScan, MemoryScan, Scan, SortedScan

MAX_CANDIDATES = 10_000
_BATCH = 1000
_FEW = 1000  # who did something so often, where they are few, are read as a whole


@dataclass(frozen=True, slots=True)
class SearchPage:
    """What a search found; `reached` is where it ended if it ran out of candidates it may look at, else None."""

    rows: list[Document]
    stopped_at: str | None = None


class ContactSearch:
    """One condition on the contacts of one workspace, at one moment; `most`: how many candidates a page looks at.

    `fields`: what is wanted of each one at least; None: all."""

    def __init__(
        self,
        store: Collections,
        condition: Condition,
        order: ContactOrder,
        now: datetime,
        most: int = MAX_CANDIDATES,
        fields: Sequence[str] | None = None,
    ) -> None:
        self._store = store
        self._fields = fields
        self._condition = condition
        self._order = order
        self._now = now
        self._times = created_within(condition, now)
        self._narrowing = access_path(condition)
        self._facts = FactLoader(store, condition, now)
        self._most = most

    async def page(self, asked: Page) -> SearchPage:
        """The contacts of a page, in its direction."""
        if self._all_contacts and self._order == ContactOrder():
            return SearchPage(await self._store.contacts.page(asked, self._now, self._fields))
        return await self._search(await self._scan(asked), asked.limit)

    async def count(self, most: int) -> int | None:
        """How many there are, counted up to that many; None where the candidates ran out before."""
        if self._all_contacts:
            return await self._store.contacts.count(most)
        whole = Page(1, False, None, None)
        found = await self._search(await self._check_listed(whole) or self._created(whole), most)
        return None if found.stopped_at is not None else len(found.rows)

    @property
    def _all_contacts(self) -> bool:
        return isinstance(self._condition, AllOf) and not self._condition.parts

    async def _search(self, walk: Scan, wanted: int) -> SearchPage:
        rows: list[Document] = []
        looked, size, reached = 0, min(2 * wanted, _BATCH), None
        while looked < self._most and not walk.done:
            batch = await walk.next(min(size, self._most - looked))
            judged = 0
            async for (position, row), facts in self._facts.load(batch):
                judged, reached = judged + 1, position
                if row is not None and facts is not None and self._condition.evaluate(facts):
                    rows.append(row)
                if len(rows) == wanted:
                    return SearchPage(rows)
            if judged < len(batch):
                return SearchPage(rows, reached)
            looked, size = looked + len(batch), min(4 * size, _BATCH)
        return SearchPage(rows, None if walk.done else reached)

    async def _check_listed(self, asked: Page) -> MemoryScan | None:
        """Through those who did it as often as is asked for, where an index tells that they are few."""
        if (often := frequency_bound(self._condition)) is None:
            return None
        ids = await self._store.summaries.contacts_of_frequent(*often, limit=_FEW + 1)
        if len(ids) > min(_FEW, self._most):
            return None
        rows = await self._store.contacts.by_ids(ids)
        return self._listed([(id_, row) for id_, row in rows.items()], asked)

    async def _scan(self, asked: Page) -> Scan:
        if (few := await self._check_listed(asked)) is not None:
            return few
        if self._order.by_id:
            return self._created(asked)
        if self._narrowing is not None or self._times != TimeRange():
            whole = self._created(Page(1, False, None, None))
            listed = await whole.next(self._most + 1)
            if whole.done:
                return self._listed(listed, asked)
        after, before = self._order.read(asked.after), self._order.read(asked.before)
        place, stop = (before, after) if asked.backward else (after, before)
        return SortedScan(self._store.contacts, self._order, asked.backward, place, stop)

    def _created(self, asked: Page) -> IdScan:
        descending = self._order.descending or not self._order.by_id
        return IdScan(
            self._store.contacts,
            self._store.summaries,
            self._store.members,
            self._narrowing,
            self._times,
            self._now,
            oldest_first=descending == asked.backward,
            lower=asked.before if descending else asked.after,
            upper=asked.after if descending else asked.before,
        )

    def _listed(self, listed: Sequence[Candidate], asked: Page) -> MemoryScan:
        order = self._order
        after, before = order.read(asked.after), order.read(asked.before)
        kept = [
            row
            for _, row in listed
            if row is not None
            and (after is None or order.precedes(after, order.position_of(row)))
            and (before is None or order.precedes(order.position_of(row), before))
        ]
        return MemoryScan(order.sorted(kept, backward=asked.backward), order)
