"""Inboxes: lists of conversations or tickets, each page read from an index, and bounded where an index does not tell."""

import asyncio
import itertools
import operator
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.core.ids import Prefix, lowest_id
from gateway.core.pagination import Page
from gateway.core.time_ranges import EARLIEST, TimeRange
from gateway.domain.support.inbox_keys import LEVELS, RATIO, InboxFilter, InboxOrder, beyond, sparse
from gateway.store.driver import Document
from gateway.store.filters.contact_search import MAX_CANDIDATES, SearchPage
from gateway.store.repositories import Repository, with_fields
from gateway.store.yielding import filter_rows

INBOX_STEPS = 10  # comparisons of one row with a filter
_BATCH = 1000


def inbox_indexes(*keys: str, by_id: str) -> tuple[IndexModel, ...]:
    """The indexes by ids, of words and of lists, whose names end so; and of lists one for each other order, by these
    keys."""
    names = {("words", "_id"): f"words{by_id}", ("lists", "_id"): f"lists{by_id}"}
    names |= {("lists", key): f"lists_by_{key}" for key in keys}
    return tuple(
        IndexModel([("workspace_id", ASCENDING), (what, ASCENDING), (key, ASCENDING)], name=name)
        for (what, key), name in names.items()
    )


class Inbox(Repository):
    """Documents of which each names the `lists` that it stands in and the `words` by which it is found, and lies among
    others by texts that are written like ids.

    On MongoDB an indexed sort with a limit reads just the page. The embedded servers read all that a filter finds before
    they cut it off, so that the sparse lists first tell how far the page reaches, about."""

    PREFIX: ClassVar[Prefix]

    async def set_index_keys(self, everything: str, places_of: Callable[[Document], Document]) -> None:
        """Give all in that list what lists find it by: what was stored before it was kept lacks it."""

        async def places(rows: Sequence[Document]) -> list[Document]:
            return [places_of(row) for row in rows]

        await self.set_each(everything, places)

    async def set_each(
        self,
        everything: str,
        values_of: Callable[[Sequence[Document]], Awaitable[Sequence[Document]]],
        at_once: int = _BATCH,
    ) -> None:
        """Set the fields that the function gives for all in that list, unless somebody changes a row meanwhile."""
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
        stretches: Sequence[tuple[str, str]],
        limit: int,
        *,
        highest_first: bool,
        fields: Sequence[str] | None = None,
    ) -> list[Document]:
        """The first rows of these lists (none is in two) by their texts of that key, which lie in these stretches; of them
        those texts and those fields, if any are named."""
        rows: list[Document] = []
        for low, high in stretches if highest_first else stretches[::-1]:
            if len(rows) < limit:
                end = _End(self, key, limit - len(rows), highest_first, fields)
                found = await asyncio.gather(*(end.of(one, low, high) for one in lists))
                rows += sorted(itertools.chain(*found), key=operator.itemgetter(key), reverse=highest_first)
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
    ) -> list[Document]:
        """The first rows of one stretch of a list; of them their texts of that key and those fields, if any are named."""
        filter_ = {"lists": list_, key: {"$gte": low, "$lt": high}}
        wanted = None if fields is None else with_fields(fields, key)
        return await self._find(filter_, sort={key: -1 if highest_first else 1}, limit=limit, fields=wanted)

    async def page_with_word(self, word: str, asked: Page, times: TimeRange, now: datetime) -> list[Document]:
        """A page of those with that word, the newest first."""
        return await self._page_by_id([{"words": word}], self.PREFIX, asked, times, now)

    async def with_word(self, word: str, most: int) -> list[Document]:
        """Those with that word, up to so many."""
        return await self._find({"words": word}, limit=most)

    async def counted(self, lists: Sequence[str], most: int) -> int:
        """How many are in one of these lists (none is in two), counted up to that many."""
        total = 0
        for one in lists:
            if total < most:
                filter_ = {"lists": one, "workspace_id": self._workspace_id}
                total += await self._database.count(self.COLLECTION, filter_, most - total)
        return total


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a list: its first rows, up to a limit."""

    inbox: Inbox
    key: str
    limit: int
    highest_first: bool
    fields: Sequence[str] | None

    async def of(self, list_: str, low: str, high: str) -> list[Document]:
        """The first rows from one text to before another: about as many are read as are wanted."""
        rows: list[Document] = []
        while len(rows) < self.limit and low < high:
            wanted = self.limit - len(rows)
            start, end = await self._reach(list_, low, high, wanted)
            rows += await self.inbox.within(
                list_, self.key, start, end, wanted, highest_first=self.highest_first, fields=self.fields
            )
            low, high = (low, start) if self.highest_first else (end, high)
        return rows

    async def _reach(self, list_: str, low: str, high: str, wanted: int) -> tuple[str, str]:
        """How far about so many rows reach: as the sparse lists say, from the sparsest to the one that has most."""
        for level in range(LEVELS, 0, -1):
            marks = wanted // RATIO**level + (2 if level == 1 else 1)
            found = await self.inbox.within(
                sparse(list_, level), self.key, low, high, marks, highest_first=self.highest_first, fields=[]
            )
            if len(found) == marks:
                last = found[-1][self.key]
                low, high = (last, high) if self.highest_first else (low, beyond(last))
        return low, high


@dataclass(frozen=True, slots=True)
class InboxSearch:
    """One list of an inbox, at one moment; `most`: how many rows a page looks at; `fields`: what is wanted of each row at
    least; None: all.

    Words are in an index by ids alone: in another order all that have one are read, where they are not too many."""

    inbox: Inbox
    filter: InboxFilter
    order: InboxOrder
    now: datetime
    most: int = MAX_CANDIDATES
    fields: Sequence[str] | None = None

    async def page(self, asked: Page) -> SearchPage:
        """The rows of a page, in its direction."""
        place = self.order.newest_first(asked)
        if not self.filter.needs_evaluation:
            return SearchPage(await self._read(place))
        if self.filter.words and self.order.key != "_id":
            found = await self.inbox.with_word(self._word, self.most + 1)
            if len(found) <= self.most:
                return SearchPage(self.order.cut(await self._held(found), place))
        return await self._scan(asked, place)

    async def count(self, most: int) -> int | None:
        """How many there are, counted up to that many; None where the rows to look at ran out before."""
        if not self.filter.needs_evaluation and self.filter.times(self.order.key, self.now) == TimeRange():
            return await self.inbox.counted(self.filter.lists, most)
        found = await self.page(Page(most - 1, False, None, None))
        return None if found.stopped_at is not None else len(found.rows)

    async def _scan(self, asked: Page, place: Page) -> SearchPage:
        rows: list[Document] = []
        looked, size = 0, min(2 * asked.limit, _BATCH, self.most)
        while looked < self.most:
            batch = await self._read(replace(place, size=size - 1))
            rows += await self._held(batch)
            if len(rows) >= asked.limit or len(batch) < size:
                return SearchPage(rows[: asked.limit])
            last = self.order.position(batch[-1])
            place = replace(place, before=last) if place.backward else replace(place, after=last)
            looked, size = looked + len(batch), max(1, min(4 * size, _BATCH, self.most - looked - len(batch)))
        return SearchPage(rows, place.before if place.backward else place.after)

    async def _held(self, rows: Sequence[Document]) -> list[Document]:
        return await filter_rows(rows, lambda row: self.filter.matches(row, self.now), INBOX_STEPS)

    async def _read(self, place: Page) -> list[Document]:
        order, times = self.order, self.filter.times(self.order.key, self.now)
        if times.empty:
            return []
        if self.filter.words and order.key == "_id":
            return await self.inbox.page_with_word(self._word, place, times, self.now)
        stretches = order.ranges(self.inbox.PREFIX, place, times)
        fields = None if self.filter.needs_evaluation else self.fields
        return await self.inbox.listed(
            self.filter.lists, order.key, stretches, place.limit, highest_first=not place.backward, fields=fields
        )

    @property
    def _word(self) -> str:
        """The word that is likely to be the rarest."""
        return max(self.filter.words, key=lambda word: (len(word), word))
