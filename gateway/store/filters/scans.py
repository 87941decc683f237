"""Scans: the candidates of a search, a batch at a time, in the order of the list."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.core.pagination import Page
from gateway.core.sorting import Order, SortPosition
from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.filters.access_paths import AccessPath
from gateway.store.contacts.contacts import Contacts
from gateway.store.driver import Filter
from gateway.store.events.events import EventSummaries
from gateway.store.filters.segments import SegmentMembers

# A position in the list, and the contact; None if an index entry's contact no longer exists.
Candidate = tuple[str, ContactDocument | None]


class Scan(Protocol):
    """Reads candidates in order; `done` once there are no more."""

    done: bool

    async def next(self, size: int) -> list[Candidate]: ...


@dataclass(slots=True)
class IdScan:
    """Contacts by id (that is, by creation), all of them or those of an access path; bounds are exclusive."""

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
        """The next candidates by id: reads up to `size` from each index range and keeps the first of them all."""
        page = Page(size - 1, self.oldest_first, self.upper, self.lower)
        contacts: dict[str, ContactDocument | None] = {}
        for rows in await asyncio.gather(*self._streams(page)):
            contacts |= rows
        ids = sorted(contacts, reverse=not self.oldest_first)[:size]
        self.done = len(ids) < size
        if ids and self.oldest_first:
            self.lower = ids[-1]
        elif ids:
            self.upper = ids[-1]
        missing = [id_ for id_ in ids if contacts[id_] is None]
        by_id = await self.contacts.by_ids(missing)
        return [(id_, contacts[id_] or by_id.get(id_)) for id_ in ids]

    def _streams(self, page: Page) -> list["asyncio.Future[dict[str, ContactDocument | None]]"]:
        if self.times.empty:
            return []
        terms: Sequence[str | None] = [None] if self.access_path is None else sorted(self.access_path.terms)
        names = () if self.access_path is None else sorted(self.access_path.events)
        segments = () if self.access_path is None else sorted(self.access_path.segments)
        streams = [self._with_term(term, page) for term in terms] + [self._with_event(name, page) for name in names]
        streams += [self._members(segment_id, page) for segment_id in segments]
        return [asyncio.ensure_future(stream) for stream in streams]

    async def _with_term(self, term: str | None, page: Page) -> dict[str, ContactDocument | None]:
        rows = await self.contacts.created(page, self.times, self.now, term)
        return {row["_id"]: row for row in rows}

    async def _with_event(self, name: str, page: Page) -> dict[str, ContactDocument | None]:
        rows = await self.summaries.of_name(name, page, self.times, self.now)
        return {row["contact_id"]: None for row in rows}

    async def _members(self, segment_id: str, page: Page) -> dict[str, ContactDocument | None]:
        rows = await self.members.page(segment_id, page, self.times, self.now)
        return {row["contact_id"]: None for row in rows}


class Ordered(Protocol):
    """A repository whose rows an index holds in the order of a scan."""

    async def ordered(self, filter_: Filter, sort: Mapping[str, int], limit: int) -> list[ContactDocument]: ...


@dataclass(slots=True)
class SortedScan:
    """All rows sorted by a field other than the id; rows without a value come last in the list."""

    rows: Ordered
    order: Order
    backward: bool
    position: SortPosition | None
    stop: SortPosition | None
    done: bool = False

    async def next(self, size: int) -> list[Candidate]:
        """The next rows: first the rest with the last value, then greater values, then rows without a value."""
        rows: list[ContactDocument] = []
        sort = {self.order.field: self._sign, "_id": self._sign}
        for part in self._parts():
            if len(rows) < size:
                rows += await self.rows.ordered(part, sort, size - len(rows))
        rows = [row for row in rows if self._is_before_stop(row)]
        self.done = len(rows) < size
        if rows:
            self.position = self.order.position_of(rows[-1])
        return [(self.order.position(row), row) for row in rows]

    @property
    def _sign(self) -> int:
        return -1 if self.order.descending != self.backward else 1

    def _parts(self) -> list[Filter]:
        field, beyond = self.order.field, "$gt" if self._sign > 0 else "$lt"
        values: list[Filter] = [{field: {"$gt": self.order.lowest}}]
        nulls: list[Filter] = [{field: None}]
        if self.position is not None:
            value, id_ = self.position
            equals = {field: value, "_id": {beyond: id_}}
            if value is None:
                return [equals, *values] if self.backward else [equals]
            values = [equals, {field: {beyond: value}}]
            nulls = [] if self.backward else nulls
        return [*nulls, *values] if self.backward else [*values, *nulls]

    def _is_before_stop(self, row: ContactDocument) -> bool:
        position = self.order.position_of(row)
        if self.stop is None:
            return True
        return self.order.precedes(self.stop, position) if self.backward else self.order.precedes(position, self.stop)


@dataclass(slots=True)
class MemoryScan:
    rows: Sequence[ContactDocument]
    order: Order
    done: bool = False

    async def next(self, size: int) -> list[Candidate]:
        batch, self.rows = self.rows[:size], self.rows[size:]
        self.done = not self.rows
        return [(self.order.position(row), row) for row in batch]
