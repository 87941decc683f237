"""Inboxes: lists of conversations or tickets, each page read from an index, and bounded where an index does not tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

from pymongo import ASCENDING, IndexModel

from gateway.domain.ids import Prefix
from gateway.domain.inboxes import InboxFilter, InboxOrder
from gateway.domain.pages import Page
from gateway.domain.times import TimeRange
from gateway.store.driver import Document
from gateway.store.repositories import Repository
from gateway.store.searches import MAX_CANDIDATES, Found

_BATCH = 1000


def inbox_indexes(*keys: str) -> tuple[IndexModel, ...]:
    """The index of words, and of lists one for each order, by these keys."""
    pairs = [("words", "_id"), *(("lists", key) for key in keys)]
    return tuple(
        IndexModel([("workspace_id", ASCENDING), (what, ASCENDING), (key, ASCENDING)], name=f"{what}_by_{key}")
        for what, key in pairs
    )


class Inbox(Repository):
    """Documents of which each names the `lists` that it stands in and the `words` by which it is found, and lies among
    others by texts that are written like ids."""

    PREFIX: ClassVar[Prefix]

    async def listed(
        self, filters: Sequence[Mapping[str, str]], key: str, asked: Page, times: TimeRange, now: datetime
    ) -> list[Document]:
        """A page of those of one of these filters (each a list or a word; none is of two), the highest text first."""
        return await self._page_by_id(filters, self.PREFIX, asked, times, now, key)

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
class InboxSearch:
    """One list of an inbox, at one moment; `most`: how many rows a page looks at.

    Words are in an index by ids alone: in another order all that have one are read, where they are not too many."""

    inbox: Inbox
    filter: InboxFilter
    order: InboxOrder
    now: datetime
    most: int = MAX_CANDIDATES

    async def page(self, asked: Page) -> Found:
        """The rows of a page, in its direction."""
        place = self.order.newest_first(asked)
        if not self.filter.judges:
            return Found(await self._read(place))
        if self.filter.words and self.order.key != "_id":
            found = await self.inbox.with_word(self._word, self.most + 1)
            if len(found) <= self.most:
                return Found(self._sorted(found, place))
        return await self._walk(asked, place)

    async def count(self, most: int) -> int | None:
        """How many there are, counted up to that many; None where the rows to look at ran out before."""
        if not self.filter.judges and self.filter.times(self.order.key, self.now) == TimeRange():
            return await self.inbox.counted(self.filter.lists, most)
        found = await self.page(Page(most - 1, False, None, None, ""))
        return None if found.reached is not None else len(found.rows)

    async def _walk(self, asked: Page, place: Page) -> Found:
        rows: list[Document] = []
        looked, size = 0, min(2 * asked.limit, _BATCH, self.most)
        while looked < self.most:
            batch = await self._read(replace(place, size=size - 1))
            rows += [row for row in batch if self.filter.holds(row, self.now)]
            if len(rows) >= asked.limit or len(batch) < size:
                return Found(rows[: asked.limit])
            last = self.order.position(batch[-1])
            place = replace(place, before=last) if place.backward else replace(place, after=last)
            looked, size = looked + len(batch), max(1, min(4 * size, _BATCH, self.most - looked - len(batch)))
        return Found(rows, place.before if place.backward else place.after)

    async def _read(self, place: Page) -> list[Document]:
        times = self.order.within.within(self.filter.times(self.order.key, self.now))
        if times.empty:
            return []
        by_word = self.filter.words and self.order.key == "_id"
        filters = [{"words": self._word}] if by_word else [{"lists": one} for one in self.filter.lists]
        return await self.inbox.listed(filters, self.order.key, place, times, self.now)

    @property
    def _word(self) -> str:
        """The word that is likely to be the rarest."""
        return max(self.filter.words, key=lambda word: (len(word), word))

    def _sorted(self, found: Sequence[Document], place: Page) -> list[Document]:
        """The rows of the page among those found."""
        position = self.order.position
        rows = [
            row
            for row in found
            if self.filter.holds(row, self.now)
            and (place.after is None or position(row) < place.after)
            and (place.before is None or position(row) > place.before)
        ]
        return sorted(rows, key=position, reverse=not place.backward)[: place.limit]
