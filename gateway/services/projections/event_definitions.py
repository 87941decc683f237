"""The roll-up of definitions: one process reads the stream, adds what it tells to the totals, and saves its position with
them in one transaction, so that each event is counted once, whoever reads.

What cannot be counted on (no position yet, history lost, another key to summarize by) is counted anew: from a snapshot,
and from what the stream told between the position and a mark that was written after the snapshot began, less what the
snapshot contains of it. Nobody has to stop writing meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.domain.contacts.contacts import Document
from gateway.domain.events.definitions import ValueGeneration, generation_of, with_types
from gateway.errors import UnavailableError
from gateway.services.projections.consumer import RENEW_SECONDS, ProjectionConsumer
from gateway.services.projections.definition_totals import (
    EventBatch,
    contained_in,
    job,
    jobs_of,
    rebuild_line,
    totals_of,
    value_operations,
)
from gateway.services.projections.value_rebuild import rebuild_values
from gateway.store.change_log import ChangeLog
from gateway.store.driver import Insert, InsertStream, Operation, Session
from gateway.store.events.definitions import EventDefinitions, EventValues
from gateway.store.events.events import Events, EventSummaries
from gateway.store.workspace_store import Store, WorkspaceStore
from gateway.store.workspaces import Workspaces

Operations = list[tuple[str, list[Operation]]]
_ATTEMPTS = 10


class EventDefinitionProjection(ProjectionConsumer):
    """Keeps the totals of all definitions; `run` in every process: one of them has the lease and works."""

    NAME = "definitions"
    WATCHED = (Events.COLLECTION, EventSummaries.COLLECTION, ChangeLog.COLLECTION)

    def __init__(self, store: Store, clock: Clock, minter: Minter) -> None:
        super().__init__(store, clock, minter)
        self._failures: Counter[tuple[str, str | None]] = Counter()

    async def rebuild(self, workspace_ids: Sequence[str]) -> AsyncIterator[str]:
        """Have the definitions of these workspaces counted anew, by whoever has the lease; each workspace once it is done.
        UnavailableError where it was given up."""
        waiting = {workspace_id: await self._request(workspace_id) for workspace_id in workspace_ids}
        while waiting:
            for workspace_id, request in [*waiting.items()]:
                row = await self._store.workspaces.find(workspace_id)
                if row is None or row.get("definitions_rebuilt", "") >= request:
                    del waiting[workspace_id]
                    yield workspace_id
                elif row.get("definitions_given_up", "") >= request:
                    raise UnavailableError(
                        f"The definitions of {workspace_id} could not be counted anew in {_ATTEMPTS} attempts: "
                        "the log of the gateway that rolls up says why. Try again once that is mended."
                    )
            await asyncio.sleep(RENEW_SECONDS / 10)

    async def _request(self, workspace_id: str) -> str:
        line = rebuild_line(self._minter.mint(Prefix.CHANGE, self._clock()), workspace_id, None, self._clock())
        await self._store.database.insert(ChangeLog.COLLECTION, [line])
        return str(line["_id"])

    async def _rebuild_all(self, since: Sequence[Insert]) -> list[Document]:
        """Every workspace is counted anew."""
        return [job(row["_id"]) for row in await self._store.workspaces.all()] + jobs_of(EventBatch([*since]))

    async def _step(self, inserts: InsertStream) -> None:
        if self._pending:
            await self._rebuild_or_give_up(inserts, self._pending[0])
        elif read := await self._next(inserts):
            await self._apply(EventBatch(read), [], self._pending)

    async def _rebuild_or_give_up(self, inserts: InsertStream, wanted: Document) -> None:
        """Count anew; what failed again and again is given up, so that it does not stop all other counting."""
        key = (wanted["workspace_id"], wanted["name"])
        if self._failures[key] >= _ATTEMPTS:
            self._log.error("definitions could not be counted anew", workspace_id=key[0], name=key[1])
            told = self._store.workspaces.setting(key[0], {"definitions_given_up": wanted["request"]})
            operations = [(Workspaces.COLLECTION, [told] if wanted["request"] else [])]
            await self._apply(EventBatch(await self._read_until_heartbeat(inserts)), operations, self._pending[1:])
        else:
            self._failures[key] += 1
            await self._rebuild(inserts, wanted)
        del self._failures[key]

    async def _rebuild(self, inserts: InsertStream, wanted: Document) -> None:
        """Count one workspace anew, or the values of one name of it."""
        store = self._store.open(wanted["workspace_id"])
        async with self._store.database.snapshot() as session:
            definitions = await store.definitions.all(session)  # the snapshot begins with this
            batch = EventBatch(await self._read_until_heartbeat(inserts))
            batch.only_values = wanted["name"]
            batch.contained = await contained_in(store, batch, session)
            totals = {} if wanted["name"] else await store.summaries.totals(session=session)
            counted = await self._rebuild_values(store, definitions, wanted, session)
        operations: Operations = []
        if wanted["name"] is None:
            keys = await store.events.metadata_types()
            row = await self._store.workspaces.find(wanted["workspace_id"])  # behind the events, which may go meanwhile
            swept = row is not None and "swept_at" in row
            operations.append(
                (EventDefinitions.COLLECTION, _reset_totals(store, definitions, totals, keys, swept=swept))
            )
        builds = [
            store.definitions.setting(name, {"build": build.id if build else None}) for name, build in counted.items()
        ]
        operations.append((EventDefinitions.COLLECTION, builds))
        if wanted["request"]:
            done = self._store.workspaces.setting(wanted["workspace_id"], {"definitions_rebuilt": wanted["request"]})
            operations.append((Workspaces.COLLECTION, [done]))
        await self._apply(batch, operations, self._pending[1:], counted)
        for name, build in counted.items():
            await store.values.delete_other_builds(name, build.id if build else None)

    async def _rebuild_values(
        self, store: WorkspaceStore, definitions: Iterable[Document], wanted: Document, session: Session
    ) -> dict[str, ValueGeneration | None]:
        """A new build of each name that is to be counted, with what the snapshot has."""
        builds: dict[str, ValueGeneration | None] = {}
        for row in definitions:
            if wanted["name"] not in (None, row["name"]):
                continue
            builds[row["name"]] = None
            if (key := row.get("summarize_by")) is not None:
                build = ValueGeneration(self._minter.mint(Prefix.BUILD, self._clock()), row["name"], key)
                async for counts in rebuild_values(store, build, session, self._clock()):
                    await store.values.insert(build, counts)
                builds[row["name"]] = build
        return builds

    async def _apply(
        self,
        batch: EventBatch,
        operations: Operations,
        pending: list[Document],
        builds: dict[str, ValueGeneration | None] | None = None,
    ) -> None:
        """Add what the batch tells, after those operations."""
        for workspace_id in batch.workspaces:
            anew = builds if builds is not None and self._pending[0]["workspace_id"] == workspace_id else {}
            operations = operations + await _added(self._store.open(workspace_id), batch, anew)

        async def write(session: Session) -> None:
            for collection, several in operations:
                await self._store.database.bulk(collection, several, session)

        await self._save(batch.position, pending + jobs_of(batch), write)


async def _added(store: WorkspaceStore, batch: EventBatch, builds: dict[str, ValueGeneration | None]) -> Operations:
    """What a batch adds to one workspace; `builds` hold in the place of those that the definitions name."""
    totals = totals_of(store.workspace_id, batch)
    names = {row["name"] for row in batch.all_of(Events.COLLECTION, store.workspace_id)}
    definitions = await store.definitions.by_names([*(names | totals.keys())])
    known = {name: line for name, line in totals.items() if name in definitions}
    adding = [
        store.definitions.adding(name, line, with_types(definitions[name].get("metadata_keys", ()), line.types))
        for name, line in known.items()
    ]
    if again := [name for name, line in known.items() if line.rescan]:
        read = await store.summaries.totals(again)
        adding += [
            store.definitions.setting(name, {field: row[field] for field in ("first_at", "last_at")})
            for name, row in read.items()
        ]
    holding = {name: generation_of(row) for name, row in definitions.items()} | builds
    values = await value_operations(store, batch, [build for build in holding.values() if build])
    return [(EventDefinitions.COLLECTION, adding), (EventValues.COLLECTION, values)]


def _reset_totals(
    store: WorkspaceStore,
    definitions: Iterable[Document],
    totals: dict[str, Document],
    types: dict[str, dict[str, list[str]]],
    *,
    swept: bool,
) -> list[Operation]:
    """`swept`: some events are no longer kept, so the types that were known of their keys stay."""
    nothing = {"count": 0, "contact_count": 0, "first_at": None, "last_at": None}
    return [
        store.definitions.setting(
            row["name"],
            {
                **totals.get(row["name"], nothing),
                "metadata_keys": _reset_keys(row.get("metadata_keys", []) if swept else [], types.get(row["name"], {})),
            },
        )
        for row in definitions
    ]


def _reset_keys(stored: list[Document], types: dict[str, list[str]]) -> list[Document]:
    found = with_types(stored, types)
    return stored if found is None else found
