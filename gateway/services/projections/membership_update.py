"""Moves: contacts of one workspace judged at one moment, and what of it is new: who enters a segment and who leaves."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway.domain.contacts.contacts import Document
from gateway.domain.filters.conditions import ContactFacts
from gateway.domain.filters.expiry import valid_until
from gateway.domain.filters.segments import ENTERED, LEFT, SegmentGraph, member_of, membership_changed
from gateway.services.messages.triggers import TriggerService
from gateway.store.driver import Session
from gateway.store.filters.fact_loader import FactLoader
from gateway.store.filters.scans import Candidate
from gateway.store.workspace_store import WorkspaceStore
from gateway.store.yielding import Yielder

_GRAIN_SECONDS = 10  # what is due within it is looked at together
Key = tuple[str, str]  # of a segment and a contact


@dataclass(slots=True)
class MembershipUpdate:
    """What is to be written of a workspace; `told`: whether anybody hears of a move of that segment and contact."""

    store: WorkspaceStore
    segments: SegmentGraph
    now: datetime
    new_line_id: Callable[[], str]
    firings: TriggerService
    reported: Callable[[str, str], bool]
    added: list[Document] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    lines: list[Document] = field(default_factory=list)
    due: dict[str, datetime | None] = field(default_factory=dict)

    async def evaluate(
        self, wanted: Mapping[str, frozenset[str]], *, imported: frozenset[str] = frozenset(), review: bool = False
    ) -> None:
        """Judge contacts, each for the segments wanted. `imported`: those of whom nothing but an import is told;
        `review`: they are judged because their time has come."""
        contacts = await self.store.contacts.of_ids(list(wanted))
        asked: dict[str, frozenset[str]] = defaultdict(frozenset)
        for id_, row in contacts.items():
            asked[row["_id"]] |= wanted[id_]
        carried = await self._inherited([id_ for id_ in wanted if id_ not in asked], contacts)
        facts = await self._facts([*{row["_id"]: row for row in contacts.values()}.values()], asked)
        kept = await self._current_members(asked)
        yielder = Yielder()
        for contact_id, known in facts.items():
            if yielder.is_due(len(asked[contact_id])):
                await asyncio.sleep(0)
            for segment_id in sorted(asked[contact_id]):
                self._compare((segment_id, contact_id), known, kept, carried, imported=contact_id in imported)
        self.added += [member_of(self.store.workspace_id, *key, self.now) for key in sorted(carried - kept.keys())]
        await self._set_due(asked, facts, review=review)

    async def persist(self, session: Session) -> None:
        """Write what was found."""
        await self.store.members.add(self.added, session)
        await self.store.members.remove(self.removed, session)
        await self.store.changes.write(self.lines, session)
        await self.firings.entered(self.store, self.lines, session)
        await self.store.reviews.write(self.due, session)

    def _compare(
        self, key: Key, known: ContactFacts, kept: Mapping[Key, Document], carried: set[Key], *, imported: bool
    ) -> None:
        belongs, belonged = known.segments[key[0]], key in kept or key in carried
        carried.discard(key)
        if belongs and key not in kept:
            self.added.append(member_of(self.store.workspace_id, *key, self.now))
        if not belongs and key in kept:
            self.removed.append(kept[key]["_id"])
        if belongs != belonged:
            self._emit(ENTERED if belongs else LEFT, key, imported=imported)

    def _emit(self, kind: str, key: Key, *, imported: bool = False) -> None:
        if self.reported(*key):
            member = member_of(self.store.workspace_id, *key, self.now)
            self.lines.append(membership_changed(self.new_line_id(), kind, member, self.now, imported=imported))

    async def _inherited(self, gone: Sequence[str], contacts: Mapping[str, Document]) -> set[Key]:
        """What whoever took these contacts over has of them; who was deleted leaves. Their own transactions see to it,
        but for what was written while they were under way."""
        carried: set[Key] = set()
        for id_ in gone:
            self.due[id_] = None
            for row in await self.store.members.of_contact(id_):
                self.removed.append(row["_id"])
                if row["segment_id"] in self.segments.rows and id_ in contacts:
                    carried.add((row["segment_id"], contacts[id_]["_id"]))
                elif row["segment_id"] in self.segments.rows:
                    self._emit(LEFT, (row["segment_id"], id_))
        return carried

    async def _facts(
        self, contacts: Sequence[Document], asked: Mapping[str, frozenset[str]]
    ) -> dict[str, ContactFacts]:
        """What is known of each contact once all is decided that is asked of it: those with the same questions together."""
        groups: dict[frozenset[str], list[Candidate]] = defaultdict(list)
        for row in contacts:
            groups[asked[row["_id"]]].append((row["_id"], row))
        found: dict[str, ContactFacts] = {}
        yielder = Yielder()
        for ids, candidates in groups.items():
            judgement, left = self.segments.evaluation(ids), candidates if ids else []
            while left:
                reader = FactLoader(self.store, judgement, self.now, ahead=True)
                known = {id_: facts async for (id_, _), facts in reader.load(left) if facts is not None}
                for facts in known.values():
                    judgement.evaluate(facts)  # what was read last is reckoned with
                    if yielder.is_due(reader.size):
                        await asyncio.sleep(0)
                found |= known
                left = left[len(known) :]
        return found

    async def _current_members(self, asked: Mapping[str, frozenset[str]]) -> dict[Key, Document]:
        """The memberships that are kept, of what is asked."""
        groups: dict[frozenset[str], list[str]] = defaultdict(list)
        for contact_id, ids in asked.items():
            groups[ids].append(contact_id)
        kept: dict[Key, Document] = {}
        for ids, contact_ids in groups.items():
            kept |= await self.store.members.among(sorted(ids), contact_ids)
        return kept

    async def _set_due(
        self, asked: Mapping[str, frozenset[str]], facts: Mapping[str, ContactFacts], *, review: bool
    ) -> None:
        """Look at them again when time may move them. What is due earlier stays, unless its time has come."""
        ends, yielder = dict[str, datetime | None](), Yielder()
        sizes = {id_: self.segments.condition(id_).size for id_ in self.segments.ids}
        for id_, known in facts.items():
            ends[id_] = self._end(asked[id_], known)
            if yielder.is_due(sum(sizes[segment_id] for segment_id in asked[id_])):
                await asyncio.sleep(0)
        timely = {id_: end for id_, end in ends.items() if end is not None}
        stored = {} if review else await self.store.reviews.by_ids(list(timely))
        if review:
            self.due |= dict.fromkeys(asked)
        self.due |= {id_: end for id_, end in timely.items() if id_ not in stored or end < stored[id_]["due_at"]}

    def _end(self, ids: frozenset[str], known: ContactFacts) -> datetime | None:
        ends = [valid_until(self.segments.condition(id_), known) for id_ in ids]
        first = min((end for end in ends if end is not None), default=None)
        return None if first is None else first + timedelta(seconds=-first.timestamp() % _GRAIN_SECONDS)
