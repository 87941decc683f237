"""Tracks events: events, contacts, summaries and new names are committed together."""

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
from gateway.domain.change_kinds import ChangeEvent, SummariesChanged
from gateway.domain.changes import new_change_id, rebuild_requested, summaries_imported
from gateway.domain.contacts.contacts import ContactDraft, Document, check_ref, new_contact
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
from gateway.services.contacts.writer import ContactWriter
from gateway.services.events.group_commit import GroupCommit
from gateway.services.messages.triggers import TriggerService
from gateway.settings import Settings
from gateway.store.driver import Session, TransientError
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore
from gateway.store.workspaces import Workspaces

_NAMES_REMEMBERED = 100_000
_NAME_BYTES = 200
_GROUP_ATTEMPTS = 3  # of a refused group; then it is split, so that one contact does not stop the others
MAX_DESCRIPTION_LENGTH = 1000
MAX_IMPORTED_COUNT = 10**12  # so that the total of many contacts stays within 64 bits


@dataclass(slots=True)
class ImportedSummaries:
    """The writes of an import of counts: summaries, and change events for their definitions."""

    summaries: list[Document] = field(default_factory=list)
    changes: list[ChangeEvent] = field(default_factory=list)


class EventService:
    """Commands on events, imported summaries and event definitions."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        minter: Minter,
        metrics: Metrics,
        writer: ContactWriter,
        triggers: TriggerService,
        caches: CacheBudget | None = None,
    ) -> None:
        self._store = store
        self._writer = writer
        self._triggers = triggers
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._minter = minter
        self._used_names: Cache[tuple[str, str], bool] = Cache(
            caches or CacheBudget(), lambda key, _: _NAME_BYTES + text_bytes(key[1]), _NAMES_REMEMBERED
        )
        self._groups: GroupCommit[PlannedEvent, Outcome] = GroupCommit(
            self._store_group, lambda item: item.command.contact
        )

    async def track(self, workspace_id: str, commands: Sequence[TrackEvent | UserProblem]) -> list[Outcome]:
        """Return one outcome per command, in order. Each event is stored and counted once."""
        now = self._clock()
        planned = [self._plan(command, now) for command in commands if isinstance(command, TrackEvent)]
        outcomes = iter(await self._groups.submit(workspace_id, planned) if planned else [])
        results = [command if isinstance(command, UserProblem) else next(outcomes) for command in commands]
        tracked = [outcome for outcome in results if isinstance(outcome, TrackResult)]
        duplicates = sum(outcome.duplicate for outcome in tracked)
        self._metrics.tracked(len(tracked) - duplicates, duplicates, len(results) - len(tracked))
        return results

    async def import_summaries(
        self, workspace_id: str, ref: Mapping[str, Any], summaries: Sequence[Mapping[str, Any]]
    ) -> list[Document]:
        """Add these counts to the tracked ones; they replace earlier imports of the same names."""
        now = self._clock()
        with error_path("contact"):
            contact = check_ref(ref)
        lines = self.check_summaries(summaries, now)

        async def attempt(_: int) -> list[Document]:
            store = self._store.open(workspace_id)
            resolver = await self._resolver(store, [contact], now)
            with error_path("contact"):
                draft = resolver.resolve(contact)
            names = await self.name_quota(store, [line["name"] for line in lines])
            added = added_names(lines, names)
            imported = await self.summaries_with(store, [(draft, lines)], now)

            async def write(session: Session) -> None:
                await self._writer.save(store, [draft], now, session, unchanged_since_read=True)
                await self.write_summaries(store, added, imported, now, session)

            await store.database.transaction(write)
            self._remember(workspace_id, added)
            return imported.summaries

        return await retry_transaction(attempt, lambda: self.turn(workspace_id))

    def check_summaries(
        self, summaries: Sequence[Mapping[str, Any]], now: datetime, field: str = "summaries"
    ) -> list[Document]:
        """Check the counts of one contact; `field`: the input field for error paths."""
        with error_path(field):
            lines = [self._check_summary(line, index, now) for index, line in enumerate(summaries)]
            _refuse_repeated_names(lines)
        return lines

    async def summaries_with(
        self,
        store: WorkspaceStore,
        counts_by_contact: Iterable[tuple[ContactDraft, Sequence[Document]]],
        now: datetime,
        *,
        changed_alone: bool = False,
    ) -> ImportedSummaries:
        """Build the summaries with their imported counts. Write them only if the contacts are unchanged.
        `changed_alone`: leave out counts that are stored already."""
        counts_by_contact = list(counts_by_contact)
        ids = [
            summary_id_of(store.workspace_id, draft.id, line["name"])
            for draft, lines in counts_by_contact
            for line in lines
        ]
        stored = await store.summaries.by_ids(ids)
        imported = ImportedSummaries()
        for draft, lines in counts_by_contact:
            after: dict[str, Document] = {}
            for line in lines:
                key = {"workspace_id": store.workspace_id, "contact_id": draft.id, "name": line["name"]}
                id_ = summary_id_of(store.workspace_id, draft.id, line["name"])
                after[id_] = with_line(after.get(id_, stored.get(id_, {})), {"_id": id_, **key}, line, now)
            rows = [row for id_, row in after.items() if not changed_alone or changed(stored.get(id_, {}), row)]
            imported.summaries += rows
            if rows:
                imported.changes.append(self._imported_event(draft, stored, rows, now))
        return imported

    async def write_summaries(
        self,
        store: WorkspaceStore,
        added: Iterable[str],
        imported: ImportedSummaries,
        now: datetime,
        session: Session,
    ) -> None:
        """Store imported counts and the names that are new in the workspace."""
        await store.definitions.insert_names(added, now, session)
        await store.summaries.replace(imported.summaries, session)
        await store.changes.write(imported.changes, session)

    def turn(self, workspace_id: str) -> AbstractAsyncContextManager[None]:
        """Exclude tracking of this process in that workspace, for writers of contacts."""
        return self._groups.turn(workspace_id)

    async def describe(self, workspace_id: str, name: str, described: Mapping[str, Any]) -> Document:
        """Describe or archive an event name, which need not be in use yet. `described`: the given fields in snake_case;
        None clears."""
        check_event_name(name, self._settings)
        values = self._check_described(described)

        async def attempt(_: int) -> Document:
            store, now = self._store.open(workspace_id), self._clock()
            stored = (await store.definitions.by_names([name])).get(name)
            if not values.get("archived"):
                await self._check_active(store, name, stored, unarchived="archived" in values)
            needs_rebuild = "summarize_by" in values and values["summarize_by"] != (stored or {}).get("summarize_by")

            async def write(session: Session) -> None:
                await store.definitions.describe(
                    name, values | ({"build": None} if needs_rebuild else {}), now, session
                )
                if needs_rebuild:
                    request = rebuild_requested(new_change_id(self._minter, now), workspace_id, name, now)
                    await store.changes.write([request], session)
                    # A sweep writes this document too: a tombstone must keep the value of the current key.
                    workspace_write = self._store.workspaces.setting(workspace_id, {"summarized_at": now})
                    await store.database.bulk(Workspaces.COLLECTION, [workspace_write], session)

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

    def _plan(self, command: TrackEvent, now: datetime) -> PlannedEvent:
        at = command.occurred_at or now
        return PlannedEvent(command, self._minter.mint(Prefix.EVENT, at), at, command.received_at or now)

    async def _store_group(
        self, workspace_id: str, planned: Sequence[PlannedEvent], was_attempted: bool
    ) -> list[Outcome]:
        store, now = self._store.open(workspace_id), self._clock()

        async def attempt(number: int) -> list[Outcome]:
            return await self._attempt(store, planned, now, was_attempted or number > 1)

        return await retry_transaction(attempt, refusals=1 if was_attempted else _GROUP_ATTEMPTS)

    async def _attempt(
        self, store: WorkspaceStore, planned: Sequence[PlannedEvent], now: datetime, was_attempted: bool
    ) -> list[Outcome]:
        identities = [item.identity for item in planned if was_attempted or item.command.claim]
        stored, resolver, names = await asyncio.gather(
            self._stored_by_identity(store, identities),
            self._resolver(store, [item.command.contact for item in planned], now),
            self.name_quota(store, [item.command.name for item in planned]),
        )
        group = plan_group(planned, stored, resolver, names)
        if group.events:
            activities = (await self._triggers.rules(store)).live(group.events)
            await store.database.transaction(partial(self._write, store, group, activities, now))
            self._metrics.group_size.observe(len(group.events))
            self._remember(store.workspace_id, group.new_names)
        return group.outcomes

    @staticmethod
    async def _stored_by_identity(store: WorkspaceStore, identities: Sequence[str]) -> dict[str, Document]:
        """Reads tombstones after events, since an event may become a tombstone meanwhile."""
        stored = await store.events.by_identity(identities)
        return stored | await store.tombstones.by_identity(
            [identity for identity in identities if identity not in stored]
        )

    async def _write(
        self,
        store: WorkspaceStore,
        group: GroupPlan,
        activities: Sequence[ContactActivity],
        now: datetime,
        session: Session,
    ) -> None:
        drafts = list(group.drafts.values())
        await self._writer.save(store, drafts, now, session, events=group.events, seen=group.seen)
        await self._write_new_names(store, group.new_names, now, session)
        await store.events.insert(group.events, session)
        await store.summaries.add(group.summaries(), session)
        await self._triggers.write(store, activities, session)

    async def _write_new_names(
        self, store: WorkspaceStore, names: Mapping[str, bool], now: datetime, session: Session
    ) -> None:
        from_page = {name for name, is_from_page in names.items() if is_from_page}
        await store.definitions.insert_names(names, now, session, from_page)
        if from_page:
            # All processes that add such names write one document, so that each counts the names of the others.
            workspace_write = self._store.workspaces.setting(store.workspace_id, {"page_names_at": now})
            await store.database.bulk(Workspaces.COLLECTION, [workspace_write], session)
            if await store.definitions.count_active_of_pages(session) > self._settings.max_page_event_names:
                raise TransientError("other processes added names of pages")

    async def _resolver(self, store: WorkspaceStore, refs: Sequence[Any], now: datetime) -> IdentityResolver:
        candidates, erased = await store.candidates_for(refs, now)
        return IdentityResolver(
            candidates,
            lambda: new_contact(self._minter.mint(Prefix.CONTACT, now), store.workspace_id, now),
            now,
            erased,
        )

    def _imported_event(
        self, contact: ContactDraft, before: Mapping[str, Document], imported: Iterable[Document], now: datetime
    ) -> SummariesChanged:
        lines = [summary_change(before.get(row["_id"], {}), row) for row in imported]
        return summaries_imported(new_change_id(self._minter, now), contact, lines, now)

    async def name_quota(self, store: WorkspaceStore, names: Iterable[str]) -> NameQuota:
        """Return which names are new in the workspace, and how many may be added."""
        unseen = [name for name in dict.fromkeys(names) if not self._used_names.get((store.workspace_id, name))]
        if not unseen:
            return NameQuota()
        defined = await store.definitions.by_names(unseen)
        self._remember(store.workspace_id, defined)
        if len(defined) == len(unseen):
            return NameQuota()
        free = self._settings.max_event_names - await store.definitions.count_active()
        of_pages = await store.definitions.count_active_of_pages()
        free_for_pages = self._settings.max_page_event_names - of_pages
        return NameQuota(frozenset(unseen) - frozenset(defined), free, free_for_pages)

    async def _check_active(
        self, store: WorkspaceStore, name: str, defined: Document | None, *, unarchived: bool
    ) -> None:
        if defined is None or (unarchived and defined["archived"]):
            free = self._settings.max_event_names - await store.definitions.count_active()
            NameQuota(frozenset([name]), free).check(name)

    def _remember(self, workspace_id: str, names: Iterable[str]) -> None:
        for name in names:
            self._used_names.put((workspace_id, name), True)

    def _check_summary(self, line: Mapping[str, Any], index: int, now: datetime) -> Document:
        with error_path(str(index)):
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
    for index, line in enumerate(lines):
        if line["name"] in seen:
            raise UserProblem(
                ErrorCode.INVALID,
                f"'{line['name']}' is there twice: give each name once.",
                (str(index), "name"),
            )
        seen.add(line["name"])


def added_names(lines: Sequence[Document], names: NameQuota, before: Collection[str] = ()) -> list[str]:
    """Return `before` and the new names of these counts; UserProblem if there are too many."""
    added = list(before)
    for index, line in enumerate(lines):
        with error_path("summaries", str(index)):
            names.check(line["name"], added)
        if line["name"] in names.new and line["name"] not in added:
            added.append(line["name"])
    return added
