"""Projection consumers: one process (by lease) reads the change stream, and commits results together with its offset."""

import asyncio
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

import structlog

from gateway.core.background import run_forever
from gateway.core.clock import Clock
from gateway.core.ids import Minter
from gateway.domain.change_kinds import kind_of
from gateway.domain.changes import heartbeat, new_change_id
from gateway.domain.contacts.contacts import Document
from gateway.errors import UnavailableError
from gateway.store.change_log import ChangeLog, append
from gateway.store.driver import HistoryLostError, Insert, InsertStream, Session
from gateway.store.workspace_store import Store

Body = Callable[[Session], Awaitable[None]]
_LEASE = timedelta(seconds=6)
RENEW_SECONDS = 2.0
_AGAIN_SECONDS = 1.0
_IDLE_MILLISECONDS = 250
_BATCH = 1000
_BATCH_SECONDS = 0.25
_HEARTBEAT_SECONDS = 30.0


class ProjectionConsumer(ABC):
    """Reads the inserts of some collections; `run` in every process, one has the lease."""

    NAME: ClassVar[str]
    WATCHED: ClassVar[tuple[str, ...]]

    def __init__(self, store: Store, clock: Clock, minter: Minter) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter
        self._owner = uuid.uuid4().hex
        self._token: str | None = None
        self._pending: list[Document] = []
        self._newest: Insert | None = None  # of all inserts read
        self._position_at: tuple[int, int] | None = None
        self._writing = asyncio.Lock()  # a renewal within a transaction on the same document would make it fail
        self._log = structlog.get_logger("gateway.roll_ups", reader=self.NAME)

    @abstractmethod
    async def _step(self, inserts: InsertStream) -> None:
        """Process and save a bounded amount of work."""

    @abstractmethod
    async def _rebuild_all(self, since: Sequence[Insert]) -> list[Document]:
        """Return the jobs that rebuild all that is stored, and those that `since` requests."""

    async def _is_needed(self) -> bool:
        """Whether the consumer needs a stream."""
        return True

    async def run(self) -> None:
        try:
            await run_forever(
                self._consume,
                _AGAIN_SECONDS,
                self._log,
                unavailable="projection consumer interrupted; starting again",
                failed="projection consumer failed; starting again",
            )
        finally:
            with suppress(Exception):
                await asyncio.shield(self._store.roll_ups.release(self.NAME, self._owner))

    async def _consume(self) -> None:
        if not await self._is_needed():
            return
        state = await self._store.roll_ups.take(self.NAME, self._owner, _LEASE)
        if state is None:
            return
        self._token, self._pending = state["token"], state["pending"]
        position_at = state.get("position_at")
        self._position_at = None if position_at is None else (position_at[0], position_at[1])
        self._newest = None
        renewal = asyncio.create_task(self._renew_lease())
        try:
            async with self._open_stream() as inserts:
                while not renewal.done():
                    await self._step(inserts)
        except HistoryLostError:
            self._log.warning("projection offset is older than the stream; rebuilding everything")
            await self._store.roll_ups.save(self.NAME, self._owner, self._token, new_token=None, pending=[])
        finally:
            renewal.cancel()
            await asyncio.wait([renewal])

    @asynccontextmanager
    async def _open_stream(self) -> AsyncIterator[InsertStream]:
        """Open the stream at the offset. Without one, save jobs that rebuild everything."""
        watch = self._store.database.watch(self.WATCHED, self._token, idle_milliseconds=_IDLE_MILLISECONDS)
        async with watch as inserts:
            if self._token is None:
                await inserts.next()  # some drivers open the stream only here
                since = await self._read_until_heartbeat(inserts)
                await self._save(since[-1].token, await self._rebuild_all(since))
            yield inserts

    async def _renew_lease(self) -> None:
        has_lease = True
        with suppress(UnavailableError):
            while has_lease:
                await asyncio.sleep(RENEW_SECONDS)
                async with self._writing:
                    has_lease = await self._store.roll_ups.renew(self.NAME, self._owner, _LEASE)

    async def _next(self, inserts: InsertStream) -> list[Insert]:
        batch: list[Insert] = []
        until = time.monotonic() + _BATCH_SECONDS
        while len(batch) < _BATCH and time.monotonic() < until:
            insert = await inserts.next()
            if insert is None:
                break
            batch.append(self._readable(insert))
            self._newest = insert
        return batch

    async def _read_until_heartbeat(self, inserts: InsertStream) -> list[Insert]:
        """Write a heartbeat and return all inserts up to it."""
        now = self._clock()
        mark = heartbeat(new_change_id(self._minter, now), now)
        await append(self._store.database, mark)
        batch: list[Insert] = []
        until = time.monotonic() + _HEARTBEAT_SECONDS
        while not batch or batch[-1].document["_id"] != mark["_id"]:
            if time.monotonic() > until:
                raise UnavailableError("the change stream does not return the heartbeat")
            if (insert := await inserts.next()) is not None:
                batch.append(self._readable(insert))
                self._newest = insert
        return batch

    def _readable(self, insert: Insert) -> Insert:
        """The insert; of a change that is unknown or incomplete only the position, so that it stops nothing."""
        if insert.collection != ChangeLog.COLLECTION or kind_of(insert.document) is not None:
            return insert
        id_ = insert.document["_id"]
        subject, kind = insert.document.get("subject"), insert.document.get("kind")
        self._log.warning("change is unknown or incomplete; skipped", change_id=str(id_), subject=subject, kind=kind)
        return replace(insert, document={"_id": id_, "workspace_id": ""})

    async def _save(self, token: str | None, pending: list[Document], body: Body | None = None) -> None:
        """Commit `body` with the offset; TransientError if another process moved it."""

        position_at = self._newest.at if self._newest is not None and self._newest.token == token else self._position_at

        async def write(session: Session) -> None:
            if body is not None:
                await body(session)
            await self._store.roll_ups.save(
                self.NAME,
                self._owner,
                self._token,
                new_token=token,
                pending=pending,
                position_at=position_at,
                session=session,
            )

        async with self._writing:
            await self._store.database.transaction(write)
        self._token, self._pending, self._position_at = token, pending, position_at
