"""Fact loader: reads the facts of many contacts at once, and only what is needed to decide a condition."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.events.documents import EventDocument, SummaryDocument
from gateway.domain.events.events import summary_id_of
from gateway.domain.filters.conditions import Condition, ContactFacts, EventCondition, EventStats
from gateway.store.contacts.contacts import Contacts
from gateway.store.events.events import Events, EventSummaries
from gateway.store.filters.scans import Candidate
from gateway.store.filters.segments import SegmentMembers
from gateway.store.yielding import STEPS_OF_A_TURN, Yielder

MAX_EVENTS = 200_000  # counted one by one for one page
_EVENTS_AT_ONCE = 20_000
_CONTACTS_AT_ONCE = 100  # one lookup each: the embedded servers take about 10 ms for it
_PER_CONTACT = 100  # the cost of reading a contact's events, in events
_SUMMARIES_AT_ONCE = 5000


class Collections(Protocol):
    """The repositories of one workspace that a search reads."""

    workspace_id: str
    contacts: Contacts
    events: Events
    summaries: EventSummaries
    members: SegmentMembers


class FactLoader:
    """Loads the facts of one condition at the time `now`; with `ahead`, also what `valid_until` needs."""

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
        """Each candidate with facts that decide the condition, in order; None if its contact no longer exists.

        Ends early once too many events were read."""
        facts = {row["_id"]: ContactFacts(row, self._now) for _, row in batch if row is not None}
        await self._read_segments(await self._undecided(facts.values()))
        await self._read_summaries(await self._undecided(facts.values()))
        unread = await self._undecided(facts.values())
        for candidate in batch:
            candidate_facts = facts[candidate[1]["_id"]] if candidate[1] is not None else None
            if unread and candidate_facts is unread[0]:
                if self._events_read >= MAX_EVENTS:
                    return
                unread = unread[await self._read_events(unread) :]
            yield candidate, candidate_facts
            if self._yielder.is_due(self.size):  # the caller evaluates the condition once more
                await asyncio.sleep(0)

    async def _undecided(self, all_facts: Iterable[ContactFacts]) -> list[ContactFacts]:
        undecided = []
        for facts in all_facts:
            if self._condition.evaluate(facts) is None:
                undecided.append(facts)
            if self._yielder.is_due(self.size):
                await asyncio.sleep(0)
        return undecided

    async def _read_segments(self, undecided: Sequence[ContactFacts]) -> None:
        if not (self._segments and undecided):
            return
        members = await self._store.members.among(self._segments, [facts.contact["_id"] for facts in undecided])
        for facts in undecided:
            facts.segments |= {id_: (id_, facts.contact["_id"]) in members for id_ in self._segments}

    async def _read_summaries(self, undecided: Sequence[ContactFacts]) -> None:
        ids = {
            summary_id_of(self._store.workspace_id, facts.contact["_id"], name): (facts.contact["_id"], name)
            for facts in undecided
            for name in self._names
        }
        summaries: dict[str, dict[str, SummaryDocument]] = {facts.contact["_id"]: {} for facts in undecided}
        for start in range(0, len(ids), _SUMMARIES_AT_ONCE):
            rows = await self._store.summaries.by_ids(list(ids)[start : start + _SUMMARIES_AT_ONCE])
            for id_, row in rows.items():
                contact_id, name = ids[id_]
                summaries[contact_id][name] = row
        for facts in undecided:
            facts.summaries = summaries[facts.contact["_id"]]

    async def _read_events(self, undecided: Sequence[ContactFacts]) -> int:
        # Reads as many of the first contacts as fit into one read, and returns how many.
        batch_size, expected = 0, 0
        for facts in undecided:
            expected += sum(self._expected_events(facts, event) for event in self._events)
            if batch_size == _CONTACTS_AT_ONCE or (batch_size and expected > _EVENTS_AT_ONCE):
                break
            batch_size += 1
        for event in self._events:
            if event.counts_events:
                await self._load_stats(event, undecided[:batch_size])
        return batch_size

    async def _load_stats(self, event: EventCondition, batch: Sequence[ContactFacts]) -> None:
        with_events = [facts for facts in batch if self._expected_events(facts, event)]
        times = event.bounds(self._now, ahead=self._ahead)
        rows: dict[str, list[EventDocument]] = {}
        if with_events and not times.empty:
            ids = [facts.contact["_id"] for facts in with_events]
            rows = await self._store.events.of_contacts(ids, event.name, times, metadata=bool(event.metadata))
        self._events_read += _PER_CONTACT * len(with_events) + sum(map(len, rows.values()))
        for facts in with_events:
            facts.event_stats[event] = await self._stats_of(event, facts, rows.get(facts.contact["_id"], []))

    async def _stats_of(self, event: EventCondition, facts: ContactFacts, rows: Sequence[EventDocument]) -> EventStats:
        # In chunks, so that a contact with many events does not block the event loop.
        stats, at_once = EventStats(), 1 + STEPS_OF_A_TURN // event.size
        for start in range(0, len(rows), at_once):
            chunk = rows[start : start + at_once]
            stats = stats.plus(event.stats_of(chunk, facts.contact, self._now, ahead=self._ahead))
            if self._yielder.is_due(len(chunk) * event.size):
                await asyncio.sleep(0)
        return stats

    def _expected_events(self, facts: ContactFacts, event: EventCondition) -> int:
        summary = (facts.summaries or {}).get(event.name)
        return int(summary.get("tracked_count", 0)) if summary is not None and event.counts_events else 0


async def contact_matches(store: Collections, condition: Condition, contact: ContactDocument, now: datetime) -> bool:
    loaded = [facts async for _, facts in FactLoader(store, condition, now).load([(contact["_id"], contact)])]
    return any(facts is not None and bool(condition.evaluate(facts)) for facts in loaded)
