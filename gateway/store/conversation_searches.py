"""Searches for conversations: of a workspace or of one contact, in any order, each by one index."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.domain.conversation_filters import ConversationFilter
from gateway.domain.ids import Prefix, lowest_id
from gateway.domain.orders import Order
from gateway.domain.pages import Page
from gateway.domain.times import TimeRange
from gateway.store.conversations import Conversations
from gateway.store.driver import Document
from gateway.store.searches import MAX_CANDIDATES, Found
from gateway.store.walks import Candidate, ListedWalk, OrderedWalk, Walk

_BATCH = 500
_WHOLE = Page(1, False, None, None, "")


@dataclass(frozen=True, slots=True)
class ConversationSearch:
    """What is wanted, of these contacts alone where any are given; `most`: how many conversations a page looks at."""

    conversations: Conversations
    filter: ConversationFilter
    order: Order
    now: datetime
    contact_ids: Sequence[str] | None = None
    most: int = MAX_CANDIDATES

    async def page(self, asked: Page) -> Found:
        """A page of them, in its direction."""
        return await self._search(await self._walk(asked), asked.limit)

    async def count(self, most: int) -> int | None:
        """How many there are, counted up to that many; None where those to look at ran out before."""
        if not self._exact:
            found = await self._search(self._by_id(_WHOLE), most)
            return None if found.reached is not None else len(found.rows)
        total, times = 0, self.filter.created(self.now)
        bounds = {"$gte": lowest_id(Prefix.CONVERSATION, times.start), "$lt": lowest_id(Prefix.CONVERSATION, times.end)}
        for one in self._filters:
            if total < most and not times.empty:
                total += await self.conversations.count({**one, "_id": bounds}, most - total)
        return total

    @property
    def _filters(self) -> list[dict[str, Any]]:
        """Each is on equality, and no conversation is found by two of them."""
        if self.contact_ids is not None:
            return [{"contact_id": id_} for id_ in self.contact_ids]
        if self.filter.words:
            return [{"words": max(self.filter.words, key=len)}]
        return [{"lists": list_} for list_ in self.filter.lists]

    @property
    def _exact(self) -> bool:
        """Whether what these filters find is all that is wanted."""
        if self.contact_ids is not None:
            return set(self.filter.asked) <= {"contact_id", "created_at"}
        return self.filter.told_by_lists

    async def _walk(self, asked: Page) -> Walk:
        if self.order.by_id:
            return self._by_id(asked)
        if self.contact_ids is not None or self.filter.words:
            whole = self._by_id(_WHOLE)
            listed = await whole.next(self.most + 1)
            if whole.done:
                return listed_walk([row for _, row in listed if row is not None], self.order, asked)
        after, before = self.order.read(asked.after), self.order.read(asked.before)
        place, stop = (before, after) if asked.backward else (after, before)
        listed_by = [{"lists": list_} for list_ in self.filter.lists]
        return OrderedWalk(_Lists(self.conversations, listed_by), self.order, asked.backward, place, stop)

    def _by_id(self, asked: Page) -> "_IdWalk":
        newest_first = asked if self.order.descending or not self.order.by_id else turned(asked)
        return _IdWalk(
            self.conversations,
            self._filters,
            self.filter.created(self.now),
            self.now,
            oldest_first=newest_first.backward,
            lower=newest_first.before,
            upper=newest_first.after,
        )

    async def _search(self, walk: Walk, wanted: int) -> Found:
        rows: list[Document] = []
        looked, reached = 0, None
        size = wanted if self._exact else min(2 * wanted, _BATCH)
        while looked < self.most and not walk.done:
            batch = await walk.next(min(size, self.most - looked))
            for _, row in batch:
                if row is not None and self._holds(row):
                    rows.append(row)
                if len(rows) == wanted:
                    return Found(rows)
            reached = batch[-1][0] if batch else reached
            looked, size = looked + len(batch), min(4 * size, _BATCH)
        return Found(rows, None if walk.done else reached)

    def _holds(self, row: Document) -> bool:
        of_contact = self.contact_ids is None or row["contact_id"] in self.contact_ids
        return of_contact and self.filter.holds(row, self.now)


def turned(asked: Page) -> Page:
    """The page of a list whose oldest rows come first, asked of one whose newest do."""
    return Page(asked.size, not asked.backward, asked.before, asked.after, asked.scope)


def listed_walk(rows: Sequence[Document], order: Order, asked: Page) -> ListedWalk:
    """Through rows that were read as a whole, from where that page begins."""
    after, before = order.read(asked.after), order.read(asked.before)
    kept = [
        row
        for row in rows
        if (after is None or order.precedes(after, order.place(row)))
        and (before is None or order.precedes(order.place(row), before))
    ]
    return ListedWalk(order.sorted(kept, backward=asked.backward), order)


@dataclass(slots=True)
class _IdWalk:
    """Through conversations by their ids; bounds are exclusive."""

    conversations: Conversations
    filters: Sequence[Mapping[str, Any]]
    times: TimeRange
    now: datetime
    oldest_first: bool
    lower: str | None
    upper: str | None
    done: bool = False

    async def next(self, size: int) -> list[Candidate]:
        """The next ones by id."""
        asked = Page(size - 1, self.oldest_first, self.upper, self.lower, "")
        rows = [] if self.times.empty else await self.conversations.page(self.filters, asked, self.times, self.now)
        self.done = len(rows) < size
        if rows and self.oldest_first:
            self.lower = rows[-1]["_id"]
        elif rows:
            self.upper = rows[-1]["_id"]
        return [(row["_id"], row) for row in rows]


@dataclass(frozen=True, slots=True)
class _Lists:
    """Conversations of any of some lists, in an order that the index of each has."""

    conversations: Conversations
    filters: Sequence[Mapping[str, Any]]

    async def ordered(self, filter_: Document, sort: Mapping[str, int], limit: int) -> list[Document]:
        """The first ones of a part of all of them together."""
        reads = (self.conversations.ordered({**one, **filter_}, sort, limit) for one in self.filters)
        rows = itertools.chain(*await asyncio.gather(*reads))
        (field, sign), *_ = sort.items()
        return sorted(rows, key=lambda row: (row.get(field), row["_id"]), reverse=sign < 0)[:limit]
