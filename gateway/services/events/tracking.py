"""Tracking: events, their contacts, their summaries and new names, committed together and counted once."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from gateway.caches import Cache, CacheBudget, text_bytes
from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.core.text_rules import check_text
from gateway.domain.contacts.contacts import (
    ContactDraft,
    Document,
    check_ref,
    is_visible_change,
    new_contact,
    visible_change,
)
from gateway.domain.contacts.identity_resolution import IdentityResolver
from gateway.domain.events.events import (
    IMPORT_YEARS,
    GroupPlan,
    NameQuota,
    Outcome,
    PlannedEvent,
    TrackEvent,
    TrackResult,
    check_event_name,
    check_occurred_at,
    plan_group,
    summary_id_of,
)
from gateway.domain.events.summaries import changed, summary_change, with_line
from gateway.domain.messages.triggers import ContactActivity
from gateway.errors import ErrorCode, UserProblem, error_path
from gateway.observability import Metrics
from gateway.services.events.group_commit import GroupCommit
from gateway.services.messages.triggers import TriggerService
from gateway.services.outboxes import Outbox
from gateway.services.projections.definition_totals import rebuild_line
from gateway.settings import Settings
from gateway.store.driver import Session, TransientError
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore
from gateway.store.workspaces import Workspaces

_NAMES_REMEMBERED = 100_000
_NAME_BYTES = 200
_GROUP_ATTEMPTS = 3  # at one that the server refuses: then it is split, so that one contact does not stop the others
MAX_DESCRIPTION_LENGTH = 1000
MAX_IMPORTED_COUNT = 10**12  # so that the total of many contacts stays within 64 bits


@dataclass(slots=True)
class ImportedSummaries:
    """What an import of counts writes: summaries, and the lines that tell definitions of them."""

    summaries: list[Document] = field(default_factory=list)
    journal: list[Document] = field(default_factory=list)


class EventService:
    """What can be done to events."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        minter: Minter,
        metrics: Metrics,
        outbox: Outbox,
        firings: TriggerService,
        caches: CacheBudget | None = None,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._firings = firings
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._minter = minter
        self._known_names: Cache[tuple[str, str], bool] = Cache(
            caches or CacheBudget(), lambda key, _: _NAME_BYTES + text_bytes(key[1]), _NAMES_REMEMBERED
        )
        self._groups: GroupCommit[PlannedEvent, Outcome] = GroupCommit(
            self._store_group, lambda item: item.command.contact
        )

    async def track(self, workspace_id: str, commands: Sequence[TrackEvent | UserProblem]) -> list[Outcome]:
        """One outcome per command, in order: what is not a UserProblem is stored, once, with its summary."""
        now = self._clock()
        attempted = [self._planned(command, now) for command in commands if isinstance(command, TrackEvent)]
        outcomes = iter(await self._groups.submit(workspace_id, attempted) if attempted else [])
        told = [command if isinstance(command, UserProblem) else next(outcomes) for command in commands]
        tracked = [outcome for outcome in told if isinstance(outcome, TrackResult)]
        duplicates = sum(outcome.duplicate for outcome in tracked)
        self._metrics.tracked(len(tracked) - duplicates, duplicates, len(told) - len(tracked))
        return told

    async def import_summaries(
        self, workspace_id: str, ref: Mapping[str, Any], summaries: Sequence[Mapping[str, Any]]
    ) -> list[Document]:
        """Put these counts beside what was tracked, in the place of what was imported under these names before."""
        now = self._clock()
        with error_path("contact"):
            contact = check_ref(ref)
        lines = self.check_summaries(summaries, now)

        async def attempt(_: int) -> list[Document]:
            store = self._store.open(workspace_id)
            directory = await self._resolver(store, [contact], now)
            with error_path("contact"):
                draft = directory.resolve(contact)
            names = await self.name_quota(store, [line["name"] for line in lines])
            added = added_names(lines, names)
            imported = await self.summaries_with(store, [(draft, lines)], now)

            async def write(session: Session) -> None:
                await store.contacts.save([draft], session, unchanged_since_read=True)
                await self.write_summaries(store, added, imported, now, session)
                await store.changes.write(self._journal([draft], now), session)
                await self._outbox.contacts_changed(store, now, session, drafts=[draft])

            await store.database.transaction(write)
            self._remember(workspace_id, added)
            return imported.summaries

        return await retry_transaction(attempt, lambda: self.turn(workspace_id))

    def check_summaries(
        self, summaries: Sequence[Mapping[str, Any]], now: datetime, field: str = "summaries"
    ) -> list[Document]:
        """The counts to be imported for one contact, checked; `field`: where they were sent."""
        with error_path(field):
            lines = [self._check_summary(line, place, now) for place, line in enumerate(summaries)]
            _refuse_repeated_names(lines)
        return lines

    async def summaries_with(
        self,
        store: WorkspaceStore,
        wanted: Iterable[tuple[ContactDraft, Sequence[Document]]],
        now: datetime,
        *,
        changed_alone: bool = False,
    ) -> ImportedSummaries:
        """What puts these counts beside what was tracked of those contacts, who must not have changed by the time that
        it is written; `changed_alone`: without those that are there already."""
        wanted = list(wanted)
        ids = [summary_id_of(store.workspace_id, draft.id, line["name"]) for draft, lines in wanted for line in lines]
        stored = await store.summaries.by_ids(ids)
        found = ImportedSummaries()
        for draft, lines in wanted:
            after: dict[str, Document] = {}
            for line in lines:
                key = {"workspace_id": store.workspace_id, "contact_id": draft.id, "name": line["name"]}
                id_ = summary_id_of(store.workspace_id, draft.id, line["name"])
                after[id_] = with_line(after.get(id_, stored.get(id_, {})), {"_id": id_, **key}, line, now)
            rows = [row for id_, row in after.items() if not changed_alone or changed(stored.get(id_, {}), row)]
            found.summaries += rows
            if rows:
                found.journal.append(self._imported_line(draft, stored, rows, now))
        return found

    async def write_summaries(
        self,
        store: WorkspaceStore,
        added: Iterable[str],
        imported: ImportedSummaries,
        now: datetime,
        session: Session,
    ) -> None:
        """Store imported counts, with the names that nobody used before."""
        await store.definitions.insert_names(added, now, session)
        await store.summaries.replace(imported.summaries, session)
        await store.changes.write(imported.journal, session)

    def turn(self, workspace_id: str) -> AbstractAsyncContextManager[None]:
        """A turn in which this process tracks nothing in that workspace: who changes a hot contact needs one."""
        return self._groups.turn(workspace_id)

    async def describe(self, workspace_id: str, name: str, described: Mapping[str, Any]) -> Document:
        """Say what an event's name means, by which metadata key its summaries tell values apart, or archive it; a name
        may be described before it is used. `described`: the fields to set, in snake_case; None clears."""
        check_event_name(name, self._settings)
        values = self._check_described(described)

        async def attempt(_: int) -> Document:
            store, now = self._store.open(workspace_id), self._clock()
            stored = (await store.definitions.by_names([name])).get(name)
            if not values.get("archived"):
                await self._check_active(store, name, stored, unarchived="archived" in values)
            anew = "summarize_by" in values and values["summarize_by"] != (stored or {}).get("summarize_by")

            async def write(session: Session) -> None:
                await store.definitions.describe(name, values | ({"build": None} if anew else {}), now, session)
                if anew:
                    line = rebuild_line(self._minter.mint(Prefix.CHANGE, now), workspace_id, name, now)
                    await store.changes.write([line], session)
                    # A sweep writes this document too: an event that goes leaves the value of the key that holds then.
                    touched = self._store.workspaces.setting(workspace_id, {"summarized_at": now})
                    await store.database.bulk(Workspaces.COLLECTION, [touched], session)

            await store.database.transaction(write)
            return (await store.definitions.by_names([name]))[name]

        return await retry_transaction(attempt)

    def _check_described(self, described: Mapping[str, Any]) -> Document:
        values = dict(described)
        if values.get("description"):
            check_text(values["description"], ("description",), longest=MAX_DESCRIPTION_LENGTH, named="The description")
        if values.get("summarize_by"):
            longest = self._settings.max_metadata_key_length
            check_text(values["summarize_by"], ("summarizeBy",), longest=longest, named="The key in summarizeBy")
        cleared = {"archived": False}
        return {field: value or cleared.get(field) for field, value in values.items()}

    def _planned(self, command: TrackEvent, now: datetime) -> PlannedEvent:
        at = command.occurred_at or now
        return PlannedEvent(command, self._minter.mint(Prefix.EVENT, at), at, command.received_at or now)

    async def _store_group(self, workspace_id: str, attempted: Sequence[PlannedEvent], tried: bool) -> list[Outcome]:
        store, now = self._store.open(workspace_id), self._clock()

        async def attempt(number: int) -> list[Outcome]:
            return await self._attempt(store, attempted, now, tried or number > 1)

        return await retry_transaction(attempt, refusals=1 if tried else _GROUP_ATTEMPTS)

    async def _attempt(
        self, store: WorkspaceStore, attempted: Sequence[PlannedEvent], now: datetime, tried: bool
    ) -> list[Outcome]:
        looked_for = [item.identity for item in attempted if tried or item.command.claim]
        stored, directory, names = await asyncio.gather(
            self._stored(store, looked_for),
            self._resolver(store, [item.command.contact for item in attempted], now),
            self.name_quota(store, [item.command.name for item in attempted]),
        )
        group = plan_group(attempted, stored, directory, names)
        if group.events:
            live = (await self._firings.rules(store)).live(group.events)
            await store.database.transaction(partial(self._write, store, group, live, now))
            self._metrics.group_size.observe(len(group.events))
            self._remember(store.workspace_id, group.new_names)
        return group.outcomes

    @staticmethod
    async def _stored(store: WorkspaceStore, identities: Sequence[str]) -> dict[str, Document]:
        """What is stored under these identities: tombstones behind events, since one may become the other meanwhile."""
        stored = await store.events.by_identity(identities)
        return stored | await store.tombstones.by_identity([one for one in identities if one not in stored])

    async def _write(
        self, store: WorkspaceStore, group: GroupPlan, live: Sequence[ContactActivity], now: datetime, session: Session
    ) -> None:
        drafts = list(group.drafts.values())
        await store.contacts.save(drafts, session, seen=group.seen)
        await self._write_new_names(store, group.new_names, now, session)
        await store.events.insert(group.events, session)
        await store.summaries.add(group.summaries(), session)
        await self._firings.write(store, live, session)
        await store.changes.write(self._journal(drafts, now), session)
        contacts = {draft.id: draft.document for draft in drafts}
        await self._outbox.contacts_changed(store, now, session, drafts=drafts, events=group.events, contacts=contacts)

    async def _write_new_names(
        self, store: WorkspaceStore, names: Mapping[str, bool], now: datetime, session: Session
    ) -> None:
        from_page = {name for name, is_from_page in names.items() if is_from_page}
        await store.definitions.insert_names(names, now, session, from_page)
        if (
            from_page
        ):  # processes that add such names at the same time write one document: none counts without the other
            touched = self._store.workspaces.setting(store.workspace_id, {"page_names_at": now})
            await store.database.bulk(Workspaces.COLLECTION, [touched], session)
            if await store.definitions.count_active_of_pages(session) > self._settings.max_page_event_names:
                raise TransientError("other processes added names of pages")

    async def _resolver(self, store: WorkspaceStore, refs: Sequence[Any], now: datetime) -> IdentityResolver:
        found, erased = await store.candidates_for(refs, now)
        return IdentityResolver(
            found, lambda: new_contact(self._minter.mint(Prefix.CONTACT, now), store.workspace_id, now), now, erased
        )

    def _journal(self, drafts: Iterable[ContactDraft], now: datetime) -> list[Document]:
        return [
            visible_change(self._minter.mint(Prefix.CHANGE, now), draft, now)
            for draft in drafts
            if is_visible_change(draft)
        ]

    def _imported_line(
        self, contact: ContactDraft, before: Mapping[str, Document], imported: Iterable[Document], now: datetime
    ) -> Document:
        """The line of the journal that tells definitions what an import of summaries adds."""
        return {
            "_id": self._minter.mint(Prefix.CHANGE, now),
            "workspace_id": contact.document["workspace_id"],
            "subject": "summaries",
            "kind": "IMPORTED",
            "contact_id": contact.id,
            "lines": [summary_change(before.get(row["_id"], {}), row) for row in imported],
            "at": now,
        }

    async def name_quota(self, store: WorkspaceStore, names: Iterable[str]) -> NameQuota:
        """Which of these names nobody used before, and how many may be added."""
        unknown = [name for name in dict.fromkeys(names) if not self._known_names.get((store.workspace_id, name))]
        if not unknown:
            return NameQuota()
        defined = await store.definitions.by_names(unknown)
        self._remember(store.workspace_id, defined)
        if len(defined) == len(unknown):
            return NameQuota()
        free = self._settings.max_event_names - await store.definitions.count_active()
        of_pages = await store.definitions.count_active_of_pages()
        free_for_pages = self._settings.max_page_event_names - of_pages
        return NameQuota(frozenset(unknown) - frozenset(defined), free, free_for_pages)

    async def _check_active(
        self, store: WorkspaceStore, name: str, defined: Document | None, *, unarchived: bool
    ) -> None:
        """Pass where one more name in use is allowed, if this is one: a new one, or one that leaves the archive."""
        if defined is None or (unarchived and defined["archived"]):
            free = self._settings.max_event_names - await store.definitions.count_active()
            NameQuota(frozenset([name]), free).check(name)

    def _remember(self, workspace_id: str, names: Iterable[str]) -> None:
        for name in names:
            self._known_names.put((workspace_id, name), True)

    def _check_summary(self, line: Mapping[str, Any], place: int, now: datetime) -> Document:
        with error_path(str(place)):
            check_event_name(line["name"], self._settings)
            return _checked_counts(line, now)


def _checked_counts(line: Mapping[str, Any], now: datetime) -> Document:
    if not 1 <= line["count"] <= MAX_IMPORTED_COUNT:
        message = f"count must be from 1 to {MAX_IMPORTED_COUNT}, not {line['count']}."
        raise UserProblem(ErrorCode.INVALID, message, ("count",))
    first = check_occurred_at(line["first_at"], now, IMPORT_YEARS, ("firstAt",))
    last = check_occurred_at(line["last_at"], now, IMPORT_YEARS, ("lastAt",))
    if first is None or last is None or first > last:
        raise UserProblem(ErrorCode.INVALID, "firstAt lies after lastAt: exchange them.", ("firstAt",))
    return {"name": line["name"], "count": line["count"], "first_at": first, "last_at": last}


def _refuse_repeated_names(lines: Sequence[Document]) -> None:
    seen: set[str] = set()
    for place, line in enumerate(lines):
        if line["name"] in seen:
            raise UserProblem(
                ErrorCode.INVALID,
                f"'{line['name']}' is there twice: give each name once.",
                (str(place), "name"),
            )
        seen.add(line["name"])


def added_names(lines: Sequence[Document], names: NameQuota, before: Collection[str] = ()) -> list[str]:
    """The names of these counts that nobody used before, behind those that were `before`; UserProblem where there is no room."""
    added = list(before)
    for place, line in enumerate(lines):
        with error_path("summaries", str(place)):
            names.check(line["name"], added)
        if line["name"] in names.new and line["name"] not in added:
            added.append(line["name"])
    return added
