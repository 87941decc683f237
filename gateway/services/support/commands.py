"""Executes commands on conversations and tickets: one transaction each, retried until it is stored.

The document, parts, change events, timers and idempotency key are written together. The version of the thread guards
the write; after a conflict the command is applied again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Generic
from weakref import WeakValueDictionary

from gateway.core.clock import Clock
from gateway.core.idempotency import Claim, claim, request_of
from gateway.core.ids import Minter, Prefix
from gateway.core.principals import Principal
from gateway.domain.changes import new_change_id, thread_changes
from gateway.domain.contacts.contacts import ContactDraft, Document, new_contact
from gateway.domain.contacts.documents import ContactDocument, ContactRefFields
from gateway.domain.contacts.identity_resolution import IdentityResolver
from gateway.domain.contacts.subject_refs import subject_ref
from gateway.domain.events.events import check_idempotency_key
from gateway.domain.support.actors import Actor
from gateway.domain.support.commands import (
    ConvertToTicket,
    CreateConversation,
    CreateTicket,
    Reply,
)
from gateway.domain.support.documents import PartDocument, T
from gateway.domain.support.threads import Changeset, ThreadKind, unknown_thread
from gateway.errors import ErrorCode, UserProblem, error_path
from gateway.services.contacts.contacts import Turn
from gateway.services.contacts.writer import ContactWriter
from gateway.store.deadlines import acquire
from gateway.store.driver import Session
from gateway.store.retries import BUDGET_SECONDS, retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore

Apply = Callable[[T, datetime], Changeset[T]]
Keyed = CreateConversation | CreateTicket | ConvertToTicket | Reply
AlsoWrite = Callable[[WorkspaceStore, Session], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class CommandResult(Generic[T]):
    """The stored thread, and the part that the command added."""

    document: T
    part: PartDocument | None = None


class CommandExecutor:
    """Stores the changesets of commands. `turn` keeps writes of contacts and tracking apart."""

    def __init__(self, store: Store, clock: Clock, minter: Minter, turn: Turn, writer: ContactWriter) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter
        self._turn = turn
        self._writer = writer
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def claim(self, mutation: str, command: Keyed, principal: Principal | None) -> Claim | None:
        """Claim the idempotency key of a call. Each contact token has its own namespace."""
        namespace = "" if principal is None or principal.contact_id is None else principal.id
        return claim(mutation, check_idempotency_key(command.idempotency_key), request_of(command), namespace)

    async def first_result(
        self, principal: Principal, kind: ThreadKind, key_claim: Claim | None
    ) -> CommandResult[T] | None:
        """Return the result of the first call with that key, as the principal sees it now."""
        if key_claim is None:
            return None
        first_ids = await self._store.open(principal.workspace_id).idempotency_keys.result_of(key_claim)
        visible_store = self._seen_by(principal.workspace_id, principal)
        return None if first_ids is None else await _first_result(visible_store, kind, first_ids)

    async def execute(
        self,
        workspace_id: str,
        kind: ThreadKind,
        id_: str,
        apply: Apply[T],
        *,
        principal: Principal | None = None,
        key_claim: Claim | None = None,
        also_write: AlsoWrite | None = None,
        path: tuple[str, ...] = ("id",),
    ) -> CommandResult[T]:
        """Change a thread. `apply` may run more than once. `also_write` writes more in the transaction. A repeated call
        returns the thread as the principal sees it now; without a principal all is visible."""
        change_id = self._new_change_id()

        async def attempt(number: int) -> CommandResult[T]:
            store, now = self._store.open(workspace_id), self._clock()
            if key_claim and (first_ids := await store.idempotency_keys.result_of(key_claim)) is not None:
                return await _first_result(self._seen_by(workspace_id, principal), kind, first_ids)
            if number > 1 and (change_event := await store.changes.get(change_id)) is not None:
                visible_store = self._seen_by(workspace_id, principal)
                result: CommandResult[T] | None = await _stored_result(
                    visible_store, kind, id_, change_event["act_part_id"]
                )
                if result is None:
                    raise unknown_thread(kind, id_, path)
                return result
            stored: T | None = await store.threads(kind)[0].get(id_)
            if stored is None:
                raise unknown_thread(kind, id_, path)
            changeset = apply(stored, now)
            if changeset.has_changes or also_write or key_claim:
                await self._store_changeset(store, changeset, change_id, now, key_claim, also_write)
            return CommandResult(changeset.after, changeset.part)

        async with self._locked(id_):
            return await retry_transaction(attempt)

    async def create(
        self,
        workspace_id: str,
        kind: ThreadKind,
        new_id: str,
        contact: ContactRefFields,
        principal: Principal | None,
        begin: Callable[[ContactDocument, datetime], Changeset[T]],
        *,
        key_claim: Claim | None = None,
        also_write: AlsoWrite | None = None,
    ) -> CommandResult[T]:
        change_id, contact_id = self._new_change_id(), self._minter.mint(Prefix.CONTACT, self._clock())
        with error_path("contact"):
            ref = subject_ref(contact, principal)

        async def attempt(number: int) -> CommandResult[T]:
            store, now = self._store.open(workspace_id), self._clock()
            if key_claim and (first_ids := await store.idempotency_keys.result_of(key_claim)) is not None:
                return await _first_result(self._seen_by(workspace_id, principal), kind, first_ids)
            if number > 1 and await store.threads(kind)[0].by_ids([new_id]):
                visible_store = self._seen_by(workspace_id, principal)
                return await _first_result(visible_store, kind, {f"{kind.value}_id": new_id}, path=())
            candidates, erased = await store.candidates_for([ref], now)
            with error_path("contact"):
                draft = IdentityResolver(
                    candidates, lambda: new_contact(contact_id, workspace_id, now), now, erased
                ).resolve(ref)
            changeset = begin(draft.document, now)
            await self._store_changeset(store, changeset, change_id, now, key_claim, also_write, draft)
            return CommandResult(changeset.after, changeset.part)

        return await retry_transaction(attempt, lambda: self._turn(workspace_id))

    async def check_owner(
        self, principal: Principal, kind: ThreadKind, id_: str, actor: Actor, path: tuple[str, ...] = ("id",)
    ) -> None:
        """Raise UserProblem if the actor is a contact and the thread is not its own."""
        if not actor.is_contact:
            return
        store = self._store.open(principal.workspace_id)
        stored = await store.threads(kind)[0].get(id_)
        if stored is None:
            raise unknown_thread(kind, id_, path)
        owner = await store.contacts.of_id(stored["contact_id"])
        if owner is not None and owner["_id"] == actor.id:
            return
        if principal.contact_id is not None:
            raise unknown_thread(kind, id_, path)
        message = f"This {kind.value} belongs to another contact: give its contact as actor, or an admin."
        raise UserProblem(ErrorCode.FORBIDDEN, message, ("actor", "contactId"))

    async def _store_changeset(
        self,
        store: WorkspaceStore,
        changeset: Changeset[T],
        change_id: str,
        now: datetime,
        key_claim: Claim | None,
        also_write: AlsoWrite | None,
        contact: ContactDraft | None = None,
    ) -> None:
        await store.database.transaction(
            partial(
                self.persist,
                store,
                changeset,
                change_id,
                now,
                key_claim=key_claim,
                also_write=also_write,
                contact=contact,
            )
        )

    async def persist(
        self,
        store: WorkspaceStore,
        changeset: Changeset[T],
        change_id: str,
        now: datetime,
        session: Session,
        *,
        key_claim: Claim | None = None,
        also_write: AlsoWrite | None = None,
        contact: ContactDraft | None = None,
    ) -> None:
        """Write a changeset. `change_id`: of the first change event; by it a retry recognises its commit."""
        if also_write is not None:
            await also_write(store, session)
        ids = iter([change_id])
        changes = thread_changes(changeset, lambda: next(ids, None) or self._new_change_id(), now)
        write_thread = partial(_write_thread, store, changeset, session)
        await self._writer.save_with_thread(store, contact, changeset, changes, write_thread, now, session)
        if key_claim is not None:
            result = {f"{changeset.kind.value}_id": changeset.after["_id"], "contact_id": changeset.after["contact_id"]}
            part = {} if changeset.part is None else {"part_id": changeset.part["_id"]}
            await store.idempotency_keys.keep(key_claim, result | part, now, session)

    @asynccontextmanager
    async def _locked(self, id_: str) -> AsyncIterator[None]:
        """Lock that thread in this process; UnavailableError if it takes too long."""
        lock = self._locks.setdefault(id_, asyncio.Lock())
        await acquire(lock, BUDGET_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def _seen_by(self, workspace_id: str, principal: Principal | None) -> WorkspaceStore:
        return self._store.open(workspace_id) if principal is None else self._store.open_for(principal)

    def _new_change_id(self) -> str:
        return new_change_id(self._minter, self._clock())


async def _write_thread(store: WorkspaceStore, changeset: Changeset[T], session: Session) -> None:
    if not changeset.has_changes:
        return
    threads, parts = store.threads(changeset.kind)
    await threads.save(changeset, session)
    await parts.insert(changeset.parts, session)
    await store.timers.set(changeset.timers, session)
    await store.timers.cancel(changeset.cancelled, session)


async def _stored_result(
    store: WorkspaceStore, kind: ThreadKind, id_: str, part_id: str | None
) -> CommandResult[T] | None:
    """Return None if the thread is gone or not visible in this store."""
    threads, parts = store.threads(kind)
    document: T | None = await threads.get(id_)
    if document is None:
        return None
    return CommandResult(document, None if part_id is None else await parts.get(part_id))


async def _first_result(
    store: WorkspaceStore, kind: ThreadKind, first_ids: Document, path: tuple[str, ...] = ("idempotencyKey",)
) -> CommandResult[T]:
    result: CommandResult[T] | None = await _stored_result(
        store, kind, first_ids[f"{kind.value}_id"], first_ids.get("part_id")
    )
    if result is None:
        message = f"The {kind.value} of the first call with this idempotencyKey was deleted: use a new key."
        raise UserProblem(
            ErrorCode.NOT_FOUND,
            message if path else f"The new {kind.value} was deleted immediately: its contact was erased.",
            path,
        )
    return result
