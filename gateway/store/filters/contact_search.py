"""Contact search: scans candidates in order and evaluates the condition for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic

from gateway.core.pagination import Page
from gateway.core.sorting import ContactOrder
from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.filters.access_paths import access_path, created_within, frequency_bound
from gateway.domain.filters.conditions import AllOf, Condition
from gateway.store.filters.fact_loader import Collections, FactLoader
from gateway.store.filters.scans import Candidate, IdScan, MemoryScan, Scan, SortedScan
from gateway.store.repositories import D

MAX_CANDIDATES = 10_000
_BATCH = 1000
_FEW = 1000  # the contacts of a frequency bound are read at once if there are no more than these


@dataclass(frozen=True, slots=True)
class SearchPage(Generic[D]):
    """The rows of one page; `stopped_at`: the last checked position if a limit ended the search."""

    rows: list[D]
    stopped_at: str | None = None


class ContactSearch:
    """Contacts of one workspace that match a condition at the time `now`.

    `most`: how many candidates a page checks. `fields`: the fields that rows need at least; None for all."""

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
        self._access_path = access_path(condition)
        self._facts = FactLoader(store, condition, now)
        self._most = most

    async def page(self, page: Page) -> SearchPage[ContactDocument]:
        """The contacts of a page, in the page's direction; one more than its size if there are more."""
        if self._all_contacts and self._order == ContactOrder():
            return SearchPage(await self._store.contacts.page(page, self._now, self._fields))
        return await self._search(await self._scan(page), page.limit)

    async def count(self, most: int) -> int | None:
        """The number of matching contacts, at most `most`; None if a limit was reached first."""
        if self._all_contacts:
            return await self._store.contacts.count(most)
        whole = Page(1, False, None, None)
        matches = await self._search(await self._frequent(whole) or self._created(whole), most)
        return None if matches.stopped_at is not None else len(matches.rows)

    @property
    def _all_contacts(self) -> bool:
        return isinstance(self._condition, AllOf) and not self._condition.parts

    async def _search(self, scan: Scan, limit: int) -> SearchPage[ContactDocument]:
        rows: list[ContactDocument] = []
        checked, size, last_position = 0, min(2 * limit, _BATCH), None
        while checked < self._most and not scan.done:
            batch = await scan.next(min(size, self._most - checked))
            evaluated = 0
            async for (position, row), facts in self._facts.load(batch):
                evaluated, last_position = evaluated + 1, position
                if row is not None and facts is not None and self._condition.evaluate(facts):
                    rows.append(row)
                if len(rows) == limit:
                    return SearchPage(rows)
            if evaluated < len(batch):  # the fact loader reached its event limit
                return SearchPage(rows, last_position)
            checked, size = checked + len(batch), min(4 * size, _BATCH)
        return SearchPage(rows, None if scan.done else last_position)

    async def _frequent(self, page: Page) -> MemoryScan | None:
        # The contacts that reach the condition's frequency bound; None if it has none, or they are too many.
        if (bound := frequency_bound(self._condition)) is None:
            return None
        ids = await self._store.summaries.contacts_of_frequent(*bound, limit=_FEW + 1)
        if len(ids) > min(_FEW, self._most):
            return None
        rows = await self._store.contacts.by_ids(ids)
        return self._listed([(id_, row) for id_, row in rows.items()], page)

    async def _scan(self, page: Page) -> Scan:
        if (frequent := await self._frequent(page)) is not None:
            return frequent
        if self._order.by_id:
            return self._created(page)
        if self._access_path is not None or self._times != TimeRange():
            whole = self._created(Page(1, False, None, None))
            # Few enough candidates are sorted in memory instead of scanning the order of all contacts.
            candidates = await whole.next(self._most + 1)
            if whole.done:
                return self._listed(candidates, page)
        after, before = self._order.read(page.after), self._order.read(page.before)
        start, stop = (before, after) if page.backward else (after, before)
        return SortedScan(self._store.contacts, self._order, page.backward, start, stop)

    def _created(self, page: Page) -> IdScan:
        descending = self._order.descending or not self._order.by_id
        return IdScan(
            self._store.contacts,
            self._store.summaries,
            self._store.members,
            self._access_path,
            self._times,
            self._now,
            oldest_first=descending == page.backward,
            lower=page.before if descending else page.after,
            upper=page.after if descending else page.before,
        )

    def _listed(self, candidates: Sequence[Candidate], page: Page) -> MemoryScan:
        order = self._order
        after, before = order.read(page.after), order.read(page.before)
        rows = [
            row
            for _, row in candidates
            if row is not None
            and (after is None or order.precedes(after, order.position_of(row)))
            and (before is None or order.precedes(order.position_of(row), before))
        ]
        return MemoryScan(order.sorted(rows, backward=page.backward), order)
