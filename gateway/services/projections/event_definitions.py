"""Event definition projection: adds to the totals and commits its offset with them, so that each event counts once.

A rebuild (no offset, lost history, another key to summarize by) counts a snapshot, and adds the inserts up to a later
heartbeat without those that the snapshot contains. Writers go on meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.domain.changes import new_change_id, rebuild_requested
from gateway.domain.contacts.contacts import Document
from gateway.domain.events.definitions import ValueGeneration, generation_of, with_types
from gateway.domain.events.documents import NO_TOTALS, DefinitionDocument, MetadataKey, NameTotals
from gateway.errors import UnavailableError
from gateway.services.projections.consumer import RENEW_SECONDS, ProjectionConsumer
from gateway.services.projections.definition_totals import (
    EventBatch,
    contained_in,
    jobs_of,
    rebuild_job,
    totals_of,
    value_operations,
)
from gateway.services.projections.value_rebuild import rebuild_values
from gateway.store.change_log import ChangeLog, append
from gateway.store.driver import Insert, InsertStream, Operation, Session
from gateway.store.events.definitions import EventDefinitions, EventValues
from gateway.store.events.events import Events, EventSummaries
from gateway.store.workspace_store import Store, WorkspaceStore
from gateway.store.workspaces import Workspaces

Operations = list[tuple[str, list[Operation]]]
_ATTEMPTS = 10


class EventDefinitionProjection(ProjectionConsumer):
    """Maintains the totals of all definitions, in the process that has the lease."""

    NAME = "definitions"
    WATCHED = (Events.COLLECTION, EventSummaries.COLLECTION, ChangeLog.COLLECTION)

    def __init__(self, store: Store, clock: Clock, minter: Minter) -> None:
        super().__init__(store, clock, minter)
        self._failures: Counter[tuple[str, str | None]] = Counter()

    async def rebuild(self, workspace_ids: Sequence[str]) -> AsyncIterator[str]:
        """Request rebuilds; yield each workspace id once it is done. UnavailableError if one was given up."""
        request_ids = {workspace_id: await self._request(workspace_id) for workspace_id in workspace_ids}
        while request_ids:
            for workspace_id, request_id in [*request_ids.items()]:
                row = await self._store.workspaces.find(workspace_id)
                if row is None or row.get("definitions_rebuilt", "") >= request_id:
                    del request_ids[workspace_id]
                    yield workspace_id
                elif row.get("definitions_given_up", "") >= request_id:
                    raise UnavailableError(
                        f"The definitions of {workspace_id} could not be rebuilt in {_ATTEMPTS} attempts: "
                        "see the log of the gateway that runs the projection, fix the cause and try again."
                    )
            await asyncio.sleep(RENEW_SECONDS / 10)

    async def _request(self, workspace_id: str) -> str:
        now = self._clock()
        request = rebuild_requested(new_change_id(self._minter, now), workspace_id, None, now)
        await append(self._store.database, request)
        return request["_id"]

    async def _rebuild_all(self, since: Sequence[Insert]) -> list[Document]:
        return [rebuild_job(row["_id"]) for row in await self._store.workspaces.all()] + jobs_of(EventBatch([*since]))

    async def _step(self, inserts: InsertStream) -> None:
        if self._pending:
            await self._rebuild_or_give_up(inserts, self._pending[0])
        elif batch := await self._next(inserts):
            await self._apply(EventBatch(batch), [], self._pending)

    async def _rebuild_or_give_up(self, inserts: InsertStream, job: Document) -> None:
        """Give up after too many failures, so that the job does not block the others."""
        key = (job["workspace_id"], job["name"])
        if self._failures[key] >= _ATTEMPTS:
            self._log.error("rebuild of definitions given up", workspace_id=key[0], name=key[1])
            given_up = self._store.workspaces.setting(key[0], {"definitions_given_up": job["request"]})
            operations = [(Workspaces.COLLECTION, [given_up] if job["request"] else [])]
            await self._apply(EventBatch(await self._read_until_heartbeat(inserts)), operations, self._pending[1:])
        else:
            self._failures[key] += 1
            await self._rebuild(inserts, job)
        del self._failures[key]

    async def _rebuild(self, inserts: InsertStream, job: Document) -> None:
        store = self._store.open(job["workspace_id"])
        async with self._store.database.snapshot() as session:
            definitions = await store.definitions.all(session)  # the first read starts the snapshot
            batch = EventBatch(await self._read_until_heartbeat(inserts))
            batch.only_values = job["name"]
            batch.contained = await contained_in(store, batch, session)
            totals = {} if job["name"] else await store.summaries.totals(session=session)
            generations = await self._rebuild_values(store, definitions, job, session)
        operations: Operations = []
        if job["name"] is None:
            types = await store.events.metadata_types()
            # Read this after the events: a sweep may run meanwhile.
            row = await self._store.workspaces.find(job["workspace_id"])
            swept = row is not None and "swept_at" in row
            operations.append(
                (EventDefinitions.COLLECTION, _reset_totals(store, definitions, totals, types, swept=swept))
            )
        generation_writes = [
            store.definitions.setting(name, {"build": generation.id if generation else None})
            for name, generation in generations.items()
        ]
        operations.append((EventDefinitions.COLLECTION, generation_writes))
        if job["request"]:
            done = self._store.workspaces.setting(job["workspace_id"], {"definitions_rebuilt": job["request"]})
            operations.append((Workspaces.COLLECTION, [done]))
        await self._apply(batch, operations, self._pending[1:], generations)
        for name, generation in generations.items():
            await store.values.delete_other_builds(name, generation.id if generation else None)

    async def _rebuild_values(
        self, store: WorkspaceStore, definitions: Iterable[DefinitionDocument], job: Document, session: Session
    ) -> dict[str, ValueGeneration | None]:
        generations: dict[str, ValueGeneration | None] = {}
        for row in definitions:
            if job["name"] not in (None, row["name"]):
                continue
            generations[row["name"]] = None
            if (key := row.get("summarize_by")) is not None:
                generation = ValueGeneration(self._minter.mint(Prefix.BUILD, self._clock()), row["name"], key)
                async for counts in rebuild_values(store, generation, session, self._clock()):
                    await store.values.insert(generation, counts)
                generations[row["name"]] = generation
        return generations

    async def _apply(
        self,
        batch: EventBatch,
        operations: Operations,
        pending: list[Document],
        generations: dict[str, ValueGeneration | None] | None = None,
    ) -> None:
        for workspace_id in batch.workspaces:
            rebuilt = (
                generations if generations is not None and self._pending[0]["workspace_id"] == workspace_id else {}
            )
            operations = operations + await _definition_writes(self._store.open(workspace_id), batch, rebuilt)

        async def write(session: Session) -> None:
            for collection, writes in operations:
                await self._store.database.bulk(collection, writes, session)

        await self._save(batch.position, pending + jobs_of(batch), write)


async def _definition_writes(
    store: WorkspaceStore, batch: EventBatch, generations: dict[str, ValueGeneration | None]
) -> Operations:
    """`generations` take precedence over those that the definitions name."""
    totals = totals_of(store.workspace_id, batch)
    names = {row["name"] for row in batch.all_of(Events.COLLECTION, store.workspace_id)}
    definitions = await store.definitions.by_names([*(names | totals.keys())])
    defined = {name: name_totals for name, name_totals in totals.items() if name in definitions}
    adding = [
        store.definitions.adding(
            name, name_totals, with_types(definitions[name].get("metadata_keys", ()), name_totals.types)
        )
        for name, name_totals in defined.items()
    ]
    if rescanned := [name for name, name_totals in defined.items() if name_totals.rescan]:
        rows = await store.summaries.totals(rescanned)
        adding += [
            store.definitions.setting(name, {"first_at": row["first_at"], "last_at": row["last_at"]})
            for name, row in rows.items()
        ]
    all_generations = {name: generation_of(row) for name, row in definitions.items()} | generations
    values = await value_operations(store, batch, [generation for generation in all_generations.values() if generation])
    return [(EventDefinitions.COLLECTION, adding), (EventValues.COLLECTION, values)]


def _reset_totals(
    store: WorkspaceStore,
    definitions: Iterable[DefinitionDocument],
    totals: dict[str, NameTotals],
    types: dict[str, dict[str, list[str]]],
    *,
    swept: bool,
) -> list[Operation]:
    """`swept`: retention removed events, so the known types of their keys stay."""
    return [
        store.definitions.setting(
            row["name"],
            {
                **totals.get(row["name"], NO_TOTALS),
                "metadata_keys": _reset_keys(row.get("metadata_keys", []) if swept else [], types.get(row["name"], {})),
            },
        )
        for row in definitions
    ]


def _reset_keys(stored: list[MetadataKey], types: dict[str, list[str]]) -> list[MetadataKey]:
    keys = with_types(stored, types)
    return stored if keys is None else keys
