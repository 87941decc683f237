"""Erases contacts: one transaction hides a contact; batches then remove its traces and survive a restart."""

import asyncio
import time
from contextlib import suppress
from datetime import timedelta
from functools import partial

import structlog

from gateway.core.background import run_forever
from gateway.core.clock import Clock
from gateway.core.ids import Minter
from gateway.domain.change_kinds import ChangeKind
from gateway.domain.changes import contact_deleted, membership_changed, new_change_id, summaries_deleted, thread_deleted
from gateway.domain.contacts.contacts import ContactRef, IdentityKind, check_key, unknown_contact
from gateway.domain.contacts.documents import ContactDocument, DeletionDocument
from gateway.domain.contacts.erasure import identities_to_refuse, new_deletion
from gateway.domain.support.documents import T
from gateway.domain.support.threads import ThreadKind, timers_of
from gateway.outbox.outbox import Outbox
from gateway.services.contacts.contacts import Turn
from gateway.store.contacts.erasure import deletions_due
from gateway.store.driver import Session
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore

_LEASE = timedelta(seconds=6)
_AGAIN_SECONDS = 2.0
_THREADS_AT_ONCE = 100


class ErasureService:
    """Erases contacts. `run` in a background process finishes long erasures."""

    def __init__(
        self, store: Store, clock: Clock, minter: Minter, turn: Turn, outbox: Outbox, at_once_seconds: float = 5.0
    ) -> None:
        """`at_once_seconds`: how long a call itself erases."""
        self._store = store
        self._outbox = outbox
        self._clock = clock
        self._minter = minter
        self._turn = turn
        self._at_once_seconds = at_once_seconds
        self._has_more = asyncio.Event()
        self._log = structlog.get_logger("gateway.erasures")

    async def delete(self, workspace_id: str, contact_id: str) -> str:
        """Return the id of the deleted contact. `run` erases the traces that take too long."""
        ref = ContactRef(id=check_key(IdentityKind.ID, contact_id))
        change_id = new_change_id(self._minter, self._clock())
        store = self._store.open(workspace_id)

        async def attempt(number: int) -> DeletionDocument:
            contact = next(iter(await store.contacts.candidates_for([ref])), None)
            if contact is None:
                return await self._running_deletion(store, contact_id, change_id if number > 1 else None)
            now = self._clock()
            deletion = new_deletion(contact, now, await store.database.now() + _LEASE)
            await store.database.transaction(lambda session: self._begin(store, contact, deletion, change_id, session))
            return deletion

        deletion = await retry_transaction(attempt, lambda: self._turn(workspace_id))
        if not await self._erase(deletion, self._at_once_seconds):
            self._has_more.set()
        return deletion["_id"]

    async def run(self) -> None:
        await run_forever(
            self._step,
            _AGAIN_SECONDS,
            self._log,
            unavailable="erasure interrupted; retrying",
            failed="erasure failed; retrying",
            sleep=self._wait_for_more,
        )

    async def _step(self) -> None:
        self._has_more.clear()
        for deletion in await deletions_due(self._store.database, _LEASE):
            await self._erase(deletion)

    async def _wait_for_more(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # wait_for forgets cancellations (Python 3.11)
                await self._has_more.wait()

    async def _running_deletion(
        self, store: WorkspaceStore, contact_id: str, change_id: str | None
    ) -> DeletionDocument:
        deletion = await store.deletions.get(contact_id)
        if deletion is not None:
            return deletion
        change_event = await store.changes.get(change_id) if change_id else None
        if change_event is None:
            raise unknown_contact(contact_id, "id")
        now = self._clock()
        return {"_id": change_event["contact_id"], "workspace_id": store.workspace_id, "contact_ids": [], "until": now}

    async def _begin(
        self,
        store: WorkspaceStore,
        contact: ContactDocument,
        deletion: DeletionDocument,
        change_id: str,
        session: Session,
    ) -> None:
        now = deletion["at"]
        await store.contacts.remove(contact, session)
        summaries = await store.summaries.of_contact(contact["_id"], session)
        await store.summaries.remove([row["_id"] for row in summaries], session)
        members = await store.members.of_contact(contact["_id"], session)
        await store.members.remove([row["_id"] for row in members], session)
        await store.reviews.write({contact["_id"]: None}, session)
        await store.erasures.keep(identities_to_refuse(contact), now, session)
        await store.deletions.insert(deletion, session)
        left = ChangeKind.CONTACT_LEFT_SEGMENT
        changes = [membership_changed(new_change_id(self._minter, now), left, row, now) for row in members]
        deleted = contact_deleted(change_id, contact, now)
        summaries_change = summaries_deleted(new_change_id(self._minter, now), contact, summaries, now)
        await store.changes.write([*changes, deleted, summaries_change], session)
        await self._outbox.contact_erased(store, contact, now, session)

    async def _erase(self, deletion: DeletionDocument, seconds: float | None = None) -> bool:
        """Return False if time ran out before everything was erased."""
        store = self._store.open(deletion["workspace_id"])
        ends = time.monotonic() + (float("inf") if seconds is None else seconds)
        for contact_id in deletion["contact_ids"]:
            more = True
            while more:
                if time.monotonic() >= ends:
                    await store.deletions.hold(deletion, timedelta(0))
                    return False
                if not await store.deletions.hold(deletion, _LEASE):
                    return True  # another process holds the lease
                more = (
                    await self._erase_threads(store, contact_id)
                    or await self._outbox.erase_some(store, contact_id)  # before its changes, which deliveries add to
                    or await store.deletions.erase_some(contact_id)
                )
        await store.deletions.end(deletion)
        return True

    async def _erase_threads(self, store: WorkspaceStore, contact_id: str) -> bool:
        """Erase threads before their parts, so that nobody adds parts meanwhile. False if there were none."""
        for kind, (threads, _) in store.histories.items():
            if rows := await threads.of_contact(contact_id, _THREADS_AT_ONCE):
                await retry_transaction(partial(self._erase_rows, store, kind, rows))
                return True
        return False

    async def _erase_rows(self, store: WorkspaceStore, kind: ThreadKind, rows: list[T], _: int) -> None:
        now = self._clock()
        changes = [thread_deleted(new_change_id(self._minter, now), kind, row, now) for row in rows]
        timers = [id_ for row in rows for id_ in timers_of(kind, store.workspace_id, row["_id"])]

        async def write(session: Session) -> None:
            await store.threads(kind)[0].remove([row["_id"] for row in rows], session)
            await store.timers.cancel(timers, session)
            await store.changes.write(changes, session)

        await store.database.transaction(write)
