"""Evaluates contacts of one workspace and collects who enters and who leaves a segment."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway.domain.change_kinds import ChangeKind, MembershipChanged
from gateway.domain.changes import membership_changed
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.filters.conditions import ContactFacts
from gateway.domain.filters.documents import MemberDocument
from gateway.domain.filters.expiry import valid_until
from gateway.domain.filters.segments import SegmentGraph, member_of
from gateway.services.messages.triggers import TriggerService
from gateway.store.driver import Session
from gateway.store.filters.fact_loader import FactLoader
from gateway.store.filters.scans import Candidate
from gateway.store.workspace_store import WorkspaceStore
from gateway.store.yielding import Yielder

_ENTERED, _LEFT = ChangeKind.CONTACT_ENTERED_SEGMENT, ChangeKind.CONTACT_LEFT_SEGMENT
_GRAIN_SECONDS = 10  # reviews due within it run together
Key = tuple[str, str]  # segment id, contact id


@dataclass(slots=True)
class MembershipUpdate:
    """The pending writes of one workspace. `reported(segment_id, contact_id)`: publish that change?"""

    store: WorkspaceStore
    segments: SegmentGraph
    now: datetime
    new_change_id: Callable[[], str]
    triggers: TriggerService
    reported: Callable[[str, str], bool]
    added: list[MemberDocument] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changes: list[MembershipChanged] = field(default_factory=list)
    due: dict[str, datetime | None] = field(default_factory=dict)

    async def evaluate(
        self, requested: Mapping[str, frozenset[str]], *, imported: frozenset[str] = frozenset(), review: bool = False
    ) -> None:
        """`requested`: segment ids by contact id. `imported`: contacts that only an import changed. `review`: the
        scheduled review of these contacts is due."""
        contacts = await self.store.contacts.of_ids(list(requested))
        segment_ids: dict[str, frozenset[str]] = defaultdict(frozenset)
        for id_, row in contacts.items():
            segment_ids[row["_id"]] |= requested[id_]
        inherited = await self._inherited([id_ for id_ in requested if id_ not in segment_ids], contacts)
        facts_by_contact = await self._facts([*{row["_id"]: row for row in contacts.values()}.values()], segment_ids)
        members = await self._current_members(segment_ids)
        yielder = Yielder()
        for contact_id, facts in facts_by_contact.items():
            if yielder.is_due(len(segment_ids[contact_id])):
                await asyncio.sleep(0)
            for segment_id in sorted(segment_ids[contact_id]):
                self._compare((segment_id, contact_id), facts, members, inherited, imported=contact_id in imported)
        self.added += [member_of(self.store.workspace_id, *key, self.now) for key in sorted(inherited - members.keys())]
        await self._set_due(segment_ids, facts_by_contact, review=review)

    async def persist(self, session: Session) -> None:
        await self.store.members.add(self.added, session)
        await self.store.members.remove(self.removed, session)
        await self.store.changes.write(self.changes, session)
        await self.triggers.entered(self.store, self.changes, session)
        await self.store.reviews.write(self.due, session)

    def _compare(
        self,
        key: Key,
        facts: ContactFacts,
        members: Mapping[Key, MemberDocument],
        inherited: set[Key],
        *,
        imported: bool,
    ) -> None:
        belongs, belonged = facts.segments[key[0]], key in members or key in inherited
        inherited.discard(key)
        if belongs and key not in members:
            self.added.append(member_of(self.store.workspace_id, *key, self.now))
        if not belongs and key in members:
            self.removed.append(members[key]["_id"])
        if belongs != belonged:
            self._emit(_ENTERED if belongs else _LEFT, key, imported=imported)

    def _emit(self, kind: ChangeKind, key: Key, *, imported: bool = False) -> None:
        if self.reported(*key):
            member = member_of(self.store.workspace_id, *key, self.now)
            self.changes.append(membership_changed(self.new_change_id(), kind, member, self.now, imported=imported))

    async def _inherited(self, merged_or_deleted: Sequence[str], contacts: Mapping[str, ContactDocument]) -> set[Key]:
        """Memberships inherited by the survivors of merges. Merge and erasure do this too; here we repair concurrent
        writes."""
        inherited: set[Key] = set()
        for id_ in merged_or_deleted:
            self.due[id_] = None
            for row in await self.store.members.of_contact(id_):
                self.removed.append(row["_id"])
                if row["segment_id"] in self.segments.rows and id_ in contacts:
                    inherited.add((row["segment_id"], contacts[id_]["_id"]))
                elif row["segment_id"] in self.segments.rows:
                    self._emit(_LEFT, (row["segment_id"], id_))
        return inherited

    async def _facts(
        self, rows: Sequence[ContactDocument], segment_ids: Mapping[str, frozenset[str]]
    ) -> dict[str, ContactFacts]:
        """Load and evaluate contacts with the same segments together."""
        groups: dict[frozenset[str], list[Candidate]] = defaultdict(list)
        for row in rows:
            groups[segment_ids[row["_id"]]].append((row["_id"], row))
        facts_by_contact: dict[str, ContactFacts] = {}
        yielder = Yielder()
        for ids, candidates in groups.items():
            evaluation, remaining = self.segments.evaluation(ids), candidates if ids else []
            while remaining:
                loader = FactLoader(self.store, evaluation, self.now, ahead=True)
                loaded = {id_: facts async for (id_, _), facts in loader.load(remaining) if facts is not None}
                for facts in loaded.values():
                    evaluation.evaluate(facts)  # so that what the loader read last counts
                    if yielder.is_due(loader.size):
                        await asyncio.sleep(0)
                facts_by_contact |= loaded
                remaining = remaining[len(loaded) :]
        return facts_by_contact

    async def _current_members(self, segment_ids: Mapping[str, frozenset[str]]) -> dict[Key, MemberDocument]:
        groups: dict[frozenset[str], list[str]] = defaultdict(list)
        for contact_id, ids in segment_ids.items():
            groups[ids].append(contact_id)
        members: dict[Key, MemberDocument] = {}
        for ids, contact_ids in groups.items():
            members |= await self.store.members.among(sorted(ids), contact_ids)
        return members

    async def _set_due(
        self, segment_ids: Mapping[str, frozenset[str]], facts_by_contact: Mapping[str, ContactFacts], *, review: bool
    ) -> None:
        """Schedule the next reviews. An earlier one stays, unless this is the review."""
        review_times, yielder = dict[str, datetime | None](), Yielder()
        sizes = {id_: self.segments.condition(id_).size for id_ in self.segments.ids}
        for id_, contact_facts in facts_by_contact.items():
            review_times[id_] = self._review_time(segment_ids[id_], contact_facts)
            if yielder.is_due(sum(sizes[segment_id] for segment_id in segment_ids[id_])):
                await asyncio.sleep(0)
        due = {id_: review_time for id_, review_time in review_times.items() if review_time is not None}
        stored = {} if review else await self.store.reviews.by_ids(list(due))
        if review:
            self.due |= dict.fromkeys(segment_ids)
        self.due |= {
            id_: review_time
            for id_, review_time in due.items()
            if id_ not in stored or review_time < stored[id_]["due_at"]
        }

    def _review_time(self, ids: frozenset[str], facts: ContactFacts) -> datetime | None:
        expiries = [valid_until(self.segments.condition(id_), facts) for id_ in ids]
        first = min((expiry for expiry in expiries if expiry is not None), default=None)
        return None if first is None else first + timedelta(seconds=-first.timestamp() % _GRAIN_SECONDS)
