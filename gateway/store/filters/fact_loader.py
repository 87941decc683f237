"""Facts: what a condition must know of contacts, read for many of them at once, and no more than it takes to decide."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from gateway.domain.events.events import summary_id_of
from gateway.domain.filters.conditions import Condition, ContactFacts, EventCondition, EventStats
from gateway.store.contacts.contacts import Contacts
from gateway.store.driver import Document
from gateway.store.events.events import Events, EventSummaries
from gateway.store.filters.scans import Candidate
from gateway.store.filters.segments import SegmentMembers
from gateway.store.yielding import STEPS_OF_A_TURN, Yielder

MAX_EVENTS = 200_000  # of those looked at one by one for one page
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
    members: SegmentMembers


class FactLoader:
    """Reads what one condition must know at one moment; `ahead`: also until when its answers will be so."""

    def __init__(self, store: Collections, condition: Condition, now: datetime, *, ahead: bool = False) -> None:
        self._store = store
        self._condition = condition
        self._now = now
        self._ahead = ahead
        self._events = list(condition.events())
        self._names = sorted({name for event in self._events for name in event.names})
        self._segments = sorted(condition.segments())
        self._events_read = 0
        self._yielder = Yielder()
        self.size = condition.size

    async def load(self, batch: Sequence[Candidate]) -> AsyncIterator[tuple[Candidate, ContactFacts | None]]:
        """Each candidate in order with the facts that decide the condition, None where its contact is no longer there;
        ends early where too many events would be read."""
        facts = {row["_id"]: ContactFacts(row, self._now) for _, row in batch if row is not None}
        await self._read_segments(await self._undecided(facts.values()))
        await self._read_summaries(await self._undecided(facts.values()))
        unread = await self._undecided(facts.values())
        for candidate in batch:
            known = facts[candidate[1]["_id"]] if candidate[1] is not None else None
            if unread and known is unread[0]:
                if self._events_read >= MAX_EVENTS:
                    return
                unread = unread[await self._read_events(unread) :]
            yield candidate, known
            if self._yielder.is_due(self.size):  # whoever reads this decides it once more
                await asyncio.sleep(0)

    async def _undecided(self, of: Iterable[ContactFacts]) -> list[ContactFacts]:
        undecided = []
        for one in of:
            if self._condition.evaluate(one) is None:
                undecided.append(one)
            if self._yielder.is_due(self.size):
                await asyncio.sleep(0)
        return undecided

    async def _read_segments(self, unknown: Sequence[ContactFacts]) -> None:
        if not (self._segments and unknown):
            return
        found = await self._store.members.among(self._segments, [one.contact["_id"] for one in unknown])
        for one in unknown:
            one.segments |= {id_: (id_, one.contact["_id"]) in found for id_ in self._segments}

    async def _read_summaries(self, unknown: Sequence[ContactFacts]) -> None:
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

    async def _read_events(self, unknown: Sequence[ContactFacts]) -> int:
        """Read the events of the first of these, and tally them; of how many."""
        chosen, expected = 0, 0
        for one in unknown:
            expected += sum(self._expected(one, event) for event in self._events)
            if chosen == _CONTACTS_AT_ONCE or (chosen and expected > _EVENTS_AT_ONCE):
                break
            chosen += 1
        for event in self._events:
            if event.counts_events:
                await self._event_stats(event, unknown[:chosen])
        return chosen

    async def _event_stats(self, event: EventCondition, of: Sequence[ContactFacts]) -> None:
        did = [one for one in of if self._expected(one, event)]
        times = event.bounds(self._now, ahead=self._ahead)
        rows: dict[str, list[Document]] = {}
        if did and not times.empty:
            ids = [one.contact["_id"] for one in did]
            rows = await self._store.events.of_contacts(ids, event.name, times, metadata=bool(event.metadata))
        self._events_read += _PER_CONTACT * len(did) + sum(map(len, rows.values()))
        for one in did:
            one.event_stats[event] = await self._tally_of(event, one, rows.get(one.contact["_id"], []))

    async def _tally_of(self, event: EventCondition, of: ContactFacts, rows: Sequence[Document]) -> EventStats:
        """The tally of one contact's events, as many at once as fill a turn."""
        tally, at_once = EventStats(), 1 + STEPS_OF_A_TURN // event.size
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            tally = tally.plus(event.stats_of(some, of.contact, self._now, ahead=self._ahead))
            if self._yielder.is_due(len(some) * event.size):
                await asyncio.sleep(0)
        return tally

    def _expected(self, one: ContactFacts, event: EventCondition) -> int:
        summary = (one.summaries or {}).get(event.name)
        return int(summary.get("tracked_count", 0)) if summary is not None and event.counts_events else 0


async def contact_matches(store: Collections, condition: Condition, contact: Document, now: datetime) -> bool:
    """Whether a condition holds of one contact."""
    found = [facts async for _, facts in FactLoader(store, condition, now).load([(contact["_id"], contact)])]
    return any(facts is not None and bool(condition.evaluate(facts)) for facts in found)
