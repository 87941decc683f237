"""Searches: contacts of whom a condition holds, found by walking candidates and looking at what each one did."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.domain.conditions import AllOf, Condition, EventCondition, Facts
from gateway.domain.events import summary_id_of
from gateway.domain.narrowing import created_within, narrowing, often_done
from gateway.domain.orders import ContactOrder
from gateway.domain.pages import Page
from gateway.domain.times import TimeRange
from gateway.store.contacts import Contacts
from gateway.store.driver import Document
from gateway.store.events import Events, EventSummaries
from gateway.store.walks import Candidate, CreatedWalk, ListedWalk, OrderedWalk, Walk

MAX_CANDIDATES = 10_000
MAX_EVENTS = 200_000  # of those looked at one by one for one page
_BATCH = 1000
_FEW = 1000  # who did something so often, where they are few, are read as a whole
_EVENTS_AT_ONCE = 20_000
_CONTACTS_AT_ONCE = 100  # one lookup each: the embedded servers take about 10 ms for it
_PER_CONTACT = 100  # what looking at a contact's events costs, counted in events
_SUMMARIES_AT_ONCE = 5000


class Collections(Protocol):
    """What is searched: the repositories of one workspace."""

    workspace_id: str
    contacts: Contacts
    events: Events
    summaries: EventSummaries


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found; `reached` is where it ended if it ran out of candidates it may look at, else None."""

    rows: list[Document]
    reached: str | None = None


class ContactSearch:
    """One condition on the contacts of one workspace, at one moment; `most`: how many candidates a page looks at."""

    def __init__(
        self,
        store: Collections,
        condition: Condition,
        order: ContactOrder,
        now: datetime,
        most: int = MAX_CANDIDATES,
    ) -> None:
        self._store = store
        self._condition = condition
        self._order = order
        self._now = now
        self._times = created_within(condition, now)
        self._narrowing = narrowing(condition)
        self._events = list(condition.events())
        self._names = sorted({name for event in self._events for name in event.names})
        self._events_read = 0
        self._most = most

    async def page(self, asked: Page) -> Found:
        """The contacts of a page, in its direction."""
        if self._everybody and self._order == ContactOrder():
            return Found(await self._store.contacts.page(asked, self._now))
        return await self._search(await self._walk(asked), asked.limit)

    async def count(self, most: int) -> int | None:
        """How many there are, counted up to that many; None where the candidates ran out before."""
        if self._everybody:
            return await self._store.contacts.count(most)
        whole = Page(1, False, None, None, "")
        found = await self._search(await self._of_few(whole) or self._created(whole), most)
        return None if found.reached is not None else len(found.rows)

    @property
    def _everybody(self) -> bool:
        return isinstance(self._condition, AllOf) and not self._condition.parts

    async def _search(self, walk: Walk, wanted: int) -> Found:
        rows: list[Document] = []
        looked, size, reached = 0, min(2 * wanted, _BATCH), None
        while looked < self._most and not walk.done:
            batch = await walk.next(min(size, self._most - looked))
            judged = 0
            async for (position, row), holds in self._judged(batch):
                judged, reached = judged + 1, position
                if holds and row is not None:
                    rows.append(row)
                if len(rows) == wanted:
                    return Found(rows)
            if judged < len(batch):
                return Found(rows, reached)
            looked, size = looked + len(batch), min(4 * size, _BATCH)
        return Found(rows, None if walk.done else reached)

    async def _of_few(self, asked: Page) -> ListedWalk | None:
        """Through those who did it as often as is asked for, where an index tells that they are few."""
        if (often := often_done(self._condition)) is None:
            return None
        ids = await self._store.summaries.contacts_of_frequent(*often, limit=_FEW + 1)
        if len(ids) > min(_FEW, self._most):
            return None
        rows = await self._store.contacts.by_ids(ids)
        return self._listed([(id_, row) for id_, row in rows.items()], asked)

    async def _walk(self, asked: Page) -> Walk:
        if (few := await self._of_few(asked)) is not None:
            return few
        if self._order.by_id:
            return self._created(asked)
        if self._narrowing is not None or self._times != TimeRange():
            whole = self._created(Page(1, False, None, None, ""))
            listed = await whole.next(self._most + 1)
            if whole.done:
                return self._listed(listed, asked)
        after, before = self._order.read(asked.after), self._order.read(asked.before)
        place, stop = (before, after) if asked.backward else (after, before)
        return OrderedWalk(self._store.contacts, self._order, asked.backward, place, stop)

    def _created(self, asked: Page) -> CreatedWalk:
        descending = self._order.descending or not self._order.by_id
        return CreatedWalk(
            self._store.contacts,
            self._store.summaries,
            self._narrowing,
            self._times,
            self._now,
            oldest_first=descending == asked.backward,
            lower=asked.before if descending else asked.after,
            upper=asked.after if descending else asked.before,
        )

    def _listed(self, listed: Sequence[Candidate], asked: Page) -> ListedWalk:
        order = self._order
        after, before = order.read(asked.after), order.read(asked.before)
        kept = [
            row
            for _, row in listed
            if row is not None
            and (after is None or order.precedes(after, order.place(row)))
            and (before is None or order.precedes(order.place(row), before))
        ]
        return ListedWalk(order.sorted(kept, backward=asked.backward), order)

    async def _judged(self, batch: Sequence[Candidate]) -> AsyncIterator[tuple[Candidate, bool]]:
        """Each candidate in order, and whether the condition holds; ends early where too many events would be read."""
        facts = {row["_id"]: Facts(row, self._now) for _, row in batch if row is not None}
        await self._read_summaries([one for one in facts.values() if self._condition.holds(one) is None])
        unread = [one for one in facts.values() if self._condition.holds(one) is None]
        for candidate in batch:
            known = facts[candidate[1]["_id"]] if candidate[1] is not None else None
            if unread and known is unread[0]:
                if self._events_read >= MAX_EVENTS:
                    return
                unread = unread[await self._read_events(unread) :]
            yield candidate, known is not None and bool(self._condition.holds(known))

    async def _read_summaries(self, unknown: Sequence[Facts]) -> None:
        ids = {
            summary_id_of(self._store.workspace_id, one.contact["_id"], name): (one, name)
            for one in unknown
            for name in self._names
        }
        found: dict[str, dict[str, Document]] = {one.contact["_id"]: {} for one in unknown}
        for start in range(0, len(ids), _SUMMARIES_AT_ONCE):
            rows = await self._store.summaries.by_ids(list(ids)[start : start + _SUMMARIES_AT_ONCE])
            for id_, row in rows.items():
                one, name = ids[id_]
                found[one.contact["_id"]][name] = row
        for one in unknown:
            one.summaries = found[one.contact["_id"]]

    async def _read_events(self, unknown: Sequence[Facts]) -> int:
        """Read the events of the first of these, and tally them; of how many."""
        chosen, expected = 0, 0
        for one in unknown:
            expected += sum(self._expected(one, event) for event in self._events)
            if chosen == _CONTACTS_AT_ONCE or (chosen and expected > _EVENTS_AT_ONCE):
                break
            chosen += 1
        for event in self._events:
            if event.counts_events:
                await self._tally(event, unknown[:chosen])
        return chosen

    async def _tally(self, event: EventCondition, of: Sequence[Facts]) -> None:
        did = [one for one in of if self._expected(one, event)]
        times = event.bounds(self._now)
        rows: dict[str, list[Document]] = {}
        if did and not times.empty:
            ids = [one.contact["_id"] for one in did]
            rows = await self._store.events.of_contacts(ids, event.name, times, metadata=bool(event.metadata))
        self._events_read += _PER_CONTACT * len(did) + sum(map(len, rows.values()))
        for one in did:
            one.tallies[event] = event.tally_of(rows.get(one.contact["_id"], []), one.contact, self._now)

    def _expected(self, one: Facts, event: EventCondition) -> int:
        summary = (one.summaries or {}).get(event.name)
        return int(summary.get("tracked_count", 0)) if summary is not None and event.counts_events else 0
