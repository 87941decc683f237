"""Inboxes: lists of conversations or tickets. Pages come from an index, or from a bounded scan if rows must be checked."""

import asyncio
import itertools
import operator
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, Generic, cast

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.core.ids import Prefix, lowest_id
from gateway.core.pagination import Page
from gateway.core.time_ranges import EARLIEST, TimeRange
from gateway.domain.support.documents import T
from gateway.domain.support.inbox_keys import LEVELS, RATIO, InboxFilter, InboxOrder, beyond, sparse
from gateway.store.driver import Filter
from gateway.store.filters.contact_search import MAX_CANDIDATES, SearchPage
from gateway.store.repositories import Repository, with_fields
from gateway.store.yielding import filter_rows

INBOX_STEPS = 10  # the cost of matching one row with a filter, in comparisons
_BATCH = 1000


def inbox_indexes(*keys: str, by_id: str) -> tuple[IndexModel, ...]:
    """Indexes for an inbox collection: (words, _id), (lists, _id), and (lists, key) for each sort key.

    `by_id` is the suffix of the first two names."""
    names = {("words", "_id"): f"words{by_id}", ("lists", "_id"): f"lists{by_id}"}
    names |= {("lists", key): f"lists_by_{key}" for key in keys}
    return tuple(
        IndexModel([("workspace_id", ASCENDING), (field, ASCENDING), (key, ASCENDING)], name=name)
        for (field, key), name in names.items()
    )


class Inbox(Repository[T], Generic[T]):
    """Documents with the `lists` that hold them, the `words` that find them, and a sort key for each order.

    MongoDB reads only the page for an indexed sort with a limit. The embedded servers read all matches and then cut
    them off, so the sparse lists are read first to estimate how far the page reaches."""

    PREFIX: ClassVar[Prefix]

    async def set_index_keys(self, everything: str, index_keys_of: Callable[[T], Filter]) -> None:
        """Set the index fields of all rows in a list, for rows that an older version stored without them."""

        async def places(rows: Sequence[T]) -> list[Filter]:
            return [index_keys_of(row) for row in rows]

        await self.set_each(everything, places)

    async def set_each(
        self,
        everything: str,
        values_of: Callable[[Sequence[T]], Awaitable[Sequence[Filter]]],
        at_once: int = _BATCH,
    ) -> None:
        """Set the fields that `values_of` returns, for all rows in a list; skips rows that change meanwhile."""
        after = lowest_id(self.PREFIX, EARLIEST)
        while rows := await self.id_range(after, f"{self.PREFIX}~", at_once, filters=[{"lists": everything}]):
            guards = [
                {"_id": row["_id"], "workspace_id": self._workspace_id, "version": row["version"]} for row in rows
            ]
            pairs = zip(guards, await values_of(rows), strict=True)
            await self._database.bulk(self.COLLECTION, [UpdateOne(guard, {"$set": values}) for guard, values in pairs])
            after = beyond(rows[-1]["_id"])

    async def listed(
        self,
        lists: Sequence[str],
        key: str,
        ranges: Sequence[tuple[str, str]],
        limit: int,
        *,
        highest_first: bool,
        fields: Sequence[str] | None = None,
    ) -> list[T]:
        """The first rows of these lists (no row is in two of them) whose key is in one of the ranges, sorted by it.

        Rows have the key and `fields`; None for all fields."""
        rows: list[T] = []
        for low, high in ranges if highest_first else ranges[::-1]:
            if len(rows) < limit:
                reader = _EndReader(self, key, limit - len(rows), highest_first, fields)
                rows_of_lists = await asyncio.gather(*(reader.read(list_, low, high) for list_ in lists))
                rows += sorted(itertools.chain(*rows_of_lists), key=operator.itemgetter(key), reverse=highest_first)
        return rows[:limit]

    async def within(
        self,
        list_: str,
        key: str,
        low: str,
        high: str,
        limit: int,
        *,
        highest_first: bool,
        fields: Sequence[str] | None = None,
    ) -> list[T]:
        """The first rows of one list with a key from `low` to before `high`, sorted by it; `fields` as in `listed`."""
        filter_ = {"lists": list_, key: {"$gte": low, "$lt": high}}
        projection = None if fields is None else with_fields(fields, key)
        return await self._find(filter_, sort={key: -1 if highest_first else 1}, limit=limit, fields=projection)

    async def page_with_word(self, word: str, page: Page, times: TimeRange, now: datetime) -> list[T]:
        """A page of the rows with a word, the newest first."""
        return await self._page_by_id([{"words": word}], self.PREFIX, page, times, now)

    async def with_word(self, word: str, most: int) -> list[T]:
        return await self._find({"words": word}, limit=most)

    async def counted(self, lists: Sequence[str], most: int) -> int:
        """The number of rows in these lists (no row is in two of them), at most `most`."""
        total = 0
        for list_ in lists:
            if total < most:
                filter_ = {"lists": list_, "workspace_id": self._workspace_id}
                total += await self._database.count(self.COLLECTION, filter_, most - total)
        return total


@dataclass(frozen=True, slots=True)
class _EndReader(Generic[T]):
    inbox: Inbox[T]
    key: str
    limit: int
    highest_first: bool
    fields: Sequence[str] | None

    async def read(self, list_: str, low: str, high: str) -> list[T]:
        rows: list[T] = []
        while len(rows) < self.limit and low < high:
            missing = self.limit - len(rows)
            start, end = await self._estimate_range(list_, low, high, missing)
            rows += await self.inbox.within(
                list_, self.key, start, end, missing, highest_first=self.highest_first, fields=self.fields
            )
            low, high = (low, start) if self.highest_first else (end, high)
        return rows

    async def _estimate_range(self, list_: str, low: str, high: str, limit: int) -> tuple[str, str]:
        # A range of about `limit` rows: the sparsest list narrows it first.
        for level in range(LEVELS, 0, -1):
            sample_size = limit // RATIO**level + (2 if level == 1 else 1)
            sample = await self.inbox.within(
                sparse(list_, level), self.key, low, high, sample_size, highest_first=self.highest_first, fields=[]
            )
            if len(sample) == sample_size:
                last = str(cast(Filter, sample[-1])[self.key])
                low, high = (last, high) if self.highest_first else (low, beyond(last))
        return low, high


@dataclass(frozen=True, slots=True)
class InboxSearch(Generic[T]):
    """A search in an inbox at the time `now`.

    `most`: how many rows a page checks. `fields`: the fields that rows need at least; None for all.
    Words are indexed by id only: for another order all rows with a word are read, unless they are too many."""

    inbox: Inbox[T]
    filter: InboxFilter[T]
    order: InboxOrder
    now: datetime
    most: int = MAX_CANDIDATES
    fields: Sequence[str] | None = None

    async def page(self, page: Page) -> SearchPage[T]:
        """The rows of a page, in the page's direction; one more than its size if there are more."""
        newest_page = self.order.newest_first(page)
        if not self.filter.needs_evaluation:
            return SearchPage(await self._read(newest_page))
        if self.filter.words and self.order.key != "_id":
            rows = await self.inbox.with_word(self._word, self.most + 1)
            if len(rows) <= self.most:
                return SearchPage(self.order.cut(await self._matching(rows), newest_page))
        return await self._scan(page, newest_page)

    async def count(self, most: int) -> int | None:
        """The number of matching rows, at most `most`; None if the row limit was reached first."""
        if not self.filter.needs_evaluation and self.filter.times(self.order.key, self.now) == TimeRange():
            return await self.inbox.counted(self.filter.lists, most)
        matches = await self.page(Page(most - 1, False, None, None))
        return None if matches.stopped_at is not None else len(matches.rows)

    async def _scan(self, page: Page, newest_page: Page) -> SearchPage[T]:
        rows: list[T] = []
        checked, size = 0, min(2 * page.limit, _BATCH, self.most)
        while checked < self.most:
            batch = await self._read(replace(newest_page, size=size - 1))
            rows += await self._matching(batch)
            if len(rows) >= page.limit or len(batch) < size:
                return SearchPage(rows[: page.limit])
            last = self.order.position(batch[-1])
            newest_page = (
                replace(newest_page, before=last) if newest_page.backward else replace(newest_page, after=last)
            )
            checked += len(batch)
            size = max(1, min(4 * size, _BATCH, self.most - checked))
        return SearchPage(rows, newest_page.before if newest_page.backward else newest_page.after)

    async def _matching(self, rows: Sequence[T]) -> list[T]:
        return await filter_rows(rows, lambda row: self.filter.matches(row, self.now), INBOX_STEPS)

    async def _read(self, newest_page: Page) -> list[T]:
        order, times = self.order, self.filter.times(self.order.key, self.now)
        if times.empty:
            return []
        if self.filter.words and order.key == "_id":
            return await self.inbox.page_with_word(self._word, newest_page, times, self.now)
        ranges = order.ranges(self.inbox.PREFIX, newest_page, times)
        fields = None if self.filter.needs_evaluation else self.fields
        return await self.inbox.listed(
            self.filter.lists,
            order.key,
            ranges,
            newest_page.limit,
            highest_first=not newest_page.backward,
            fields=fields,
        )

    @property
    def _word(self) -> str:
        # The longest word is likely to be the rarest.
        return max(self.filter.words, key=lambda word: (len(word), word))
