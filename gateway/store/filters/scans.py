"""Walks: candidates of a search, a batch at a time, in the order of the list that is shown."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.core.pagination import Page
from gateway.core.sorting import Order, SortPosition
from gateway.core.time_ranges import TimeRange
from gateway.domain.filters.access_paths import AccessPath
from gateway.store.contacts.contacts import Contacts
from gateway.store.driver import Document
from gateway.store.events.events import EventSummaries
from gateway.store.filters.segments import SegmentMembers

# Where a candidate lies, and its document; None where a summary's contact is no longer there.
Candidate = tuple[str, Document | None]


class Scan(Protocol):
    """A way through candidates; `done` once there are no more."""

    done: bool

    async def next(self, size: int) -> list[Candidate]:
        """The next ones, up to that many."""


@dataclass(slots=True)
class IdScan:
    """Through the contacts by their ids, or through those alone that an index finds; bounds are exclusive."""

    contacts: Contacts
    summaries: EventSummaries
    members: SegmentMembers
    access_path: AccessPath | None
    times: TimeRange
    now: datetime
    oldest_first: bool
    lower: str | None
    upper: str | None
    done: bool = False

    async def next(self, size: int) -> list[Candidate]:
        """The next ones by id: of each place of the index as many, and of all together the first."""
        asked = Page(size - 1, self.oldest_first, self.upper, self.lower)
        found: dict[str, Document | None] = {}
        for rows in await asyncio.gather(*self._streams(asked)):
            found |= rows
        ids = sorted(found, reverse=not self.oldest_first)[:size]
        self.done = len(ids) < size
        if ids and self.oldest_first:
            self.lower = ids[-1]
        elif ids:
            self.upper = ids[-1]
        missing = [id_ for id_ in ids if found[id_] is None]
        read = await self.contacts.by_ids(missing)
        return [(id_, found[id_] or read.get(id_)) for id_ in ids]

    def _streams(self, asked: Page) -> list["asyncio.Future[dict[str, Document | None]]"]:
        if self.times.empty:
            return []
        terms: Sequence[str | None] = [None] if self.access_path is None else sorted(self.access_path.terms)
        names = () if self.access_path is None else sorted(self.access_path.events)
        segments = () if self.access_path is None else sorted(self.access_path.segments)
        streams = [self._with_term(term, asked) for term in terms] + [self._with_event(name, asked) for name in names]
        streams += [self._members(segment_id, asked) for segment_id in segments]
        return [asyncio.ensure_future(stream) for stream in streams]

    async def _with_term(self, term: str | None, asked: Page) -> dict[str, Document | None]:
        rows = await self.contacts.created(asked, self.times, self.now, term)
        return {row["_id"]: row for row in rows}

    async def _with_event(self, name: str, asked: Page) -> dict[str, Document | None]:
        rows = await self.summaries.of_name(name, asked, self.times, self.now)
        return {row["contact_id"]: None for row in rows}

    async def _members(self, segment_id: str, asked: Page) -> dict[str, Document | None]:
        rows = await self.members.page(segment_id, asked, self.times, self.now)
        return {row["contact_id"]: None for row in rows}


class Ordered(Protocol):
    """Rows that an index has in that order."""

    async def ordered(self, filter_: Document, sort: Mapping[str, int], limit: int) -> list[Document]:
        """The first ones of a part of it."""


@dataclass(slots=True)
class SortedScan:
    """Through all rows by another field: those without it at the end of the list."""

    rows: Ordered
    order: Order
    backward: bool
    position: SortPosition | None
    stop: SortPosition | None
    done: bool = False

    async def next(self, size: int) -> list[Candidate]:
        """The next ones: behind the last one's equals come the others, and those without a value at their end."""
        found: list[Document] = []
        sort = {self.order.field: self._sign, "_id": self._sign}
        for part in self._parts():
            if len(found) < size:
                found += await self.rows.ordered(part, sort, size - len(found))
        kept = [row for row in found if self._is_before_stop(row)]
        self.done = len(kept) < size
        if kept:
            self.position = self.order.position_of(kept[-1])
        return [(self.order.position(row), row) for row in kept]

    @property
    def _sign(self) -> int:
        return -1 if self.order.descending != self.backward else 1

    def _parts(self) -> list[Document]:
        field, beyond = self.order.field, "$gt" if self._sign > 0 else "$lt"
        values: list[Document] = [{field: {"$gt": self.order.lowest}}]
        nulls: list[Document] = [{field: None}]
        if self.position is not None:
            value, id_ = self.position
            equals = {field: value, "_id": {beyond: id_}}
            if value is None:
                return [equals, *values] if self.backward else [equals]
            values = [equals, {field: {beyond: value}}]
            nulls = [] if self.backward else nulls
        return [*nulls, *values] if self.backward else [*values, *nulls]

    def _is_before_stop(self, row: Document) -> bool:
        place = self.order.position_of(row)
        if self.stop is None:
            return True
        return self.order.precedes(self.stop, place) if self.backward else self.order.precedes(place, self.stop)


@dataclass(slots=True)
class MemoryScan:
    """Through rows that were read before."""

    rows: Sequence[Document]
    order: Order
    done: bool = False

    async def next(self, size: int) -> list[Candidate]:
        """The next ones."""
        found, self.rows = self.rows[:size], self.rows[size:]
        self.done = not self.rows
        return [(self.order.position(row), row) for row in found]
