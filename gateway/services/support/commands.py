"""Acts on conversations and tickets: each is one transaction, tried until it is stored, and nobody's is lost.

Who acts reads the subject, lets the domain decide, and writes what it became, its parts, the journal, timers and the
idempotency key together, guarded by the subject's version. Whoever was overtaken reads again and decides again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from gateway.core.clock import Clock
from gateway.core.idempotency import Claim, claim
from gateway.core.ids import Minter, Prefix
from gateway.core.principals import Principal
from gateway.domain.contacts.contacts import ContactDraft, Document, is_visible_change, new_contact, visible_change
from gateway.domain.contacts.identity_resolution import IdentityResolver
from gateway.domain.contacts.subject_refs import subject_ref
from gateway.domain.events.events import check_idempotency_key
from gateway.domain.support.actors import Actor
from gateway.domain.support.threads import Changeset, ThreadKind, change_events_of, unknown_thread
from gateway.errors import ErrorCode, UnavailableError, UserProblem, error_path
from gateway.services.contacts.contacts import Turn
from gateway.services.outboxes import Outbox
from gateway.store.driver import Session
from gateway.store.retries import BUDGET_SECONDS, retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore

Apply = Callable[[Document, datetime], Changeset]
AlsoWrite = Callable[[WorkspaceStore, Session], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The subject as it is now, and the part that tells of the act, where one does."""

    document: Document
    part: Document | None = None


class CommandExecutor:
    """Stores acts. `turn`: contacts are written in turn with tracking."""

    def __init__(self, store: Store, clock: Clock, minter: Minter, turn: Turn, outbox: Outbox) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter
        self._turn = turn
        self._outbox = outbox
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def claim(self, mutation: str, sent: Mapping[str, Any], speaker: Principal | None) -> Claim | None:
        """The claim of a call that may have an idempotency key: a contact's token has keys of its own."""
        namespace = "" if speaker is None or speaker.contact_id is None else speaker.id
        compared = {name: value for name, value in sent.items() if name != "idempotency_key"}
        return claim(mutation, check_idempotency_key(sent.get("idempotency_key")), compared, namespace)

    async def first_result(self, speaker: Principal, subject: ThreadKind, kept: Claim | None) -> CommandResult | None:
        """What the first call with that key gave, as the speaker may see it now; None where this is the first."""
        if kept is None:
            return None
        first = await self._store.open(speaker.workspace_id).idempotency_keys.result_of(kept)
        seen = self._seen_by(speaker.workspace_id, speaker)
        return None if first is None else await _first_result(seen, subject, first)

    async def execute(
        self,
        workspace_id: str,
        subject: ThreadKind,
        id_: str,
        decide: Apply,
        *,
        speaker: Principal | None = None,
        kept: Claim | None = None,
        within: AlsoWrite | None = None,
        path: tuple[str, ...] = ("id",),
    ) -> CommandResult:
        """What became of that subject. `decide`: from the subject as it is and the time, perhaps more than once;
        `within`: what else is to be stored in the transaction. What an earlier call or attempt stored is given as the
        speaker may see it now (None: the gateway itself, which sees everything)."""
        line_id = self._line_id()

        async def attempt(number: int) -> CommandResult:
            store, now = self._store.open(workspace_id), self._clock()
            if kept and (first := await store.idempotency_keys.result_of(kept)) is not None:
                return await _first_result(self._seen_by(workspace_id, speaker), subject, first)
            if number > 1 and (line := (await store.changes.by_ids([line_id])).get(line_id)) is not None:
                seen = self._seen_by(workspace_id, speaker)
                if (found := await _stored_result(seen, subject, id_, line["act_part_id"])) is None:
                    raise unknown_thread(subject, id_, path)
                return found
            stored = (await store.threads(subject)[0].by_ids([id_])).get(id_)
            if stored is None:
                raise unknown_thread(subject, id_, path)
            change = decide(stored, now)
            if change.has_changes or within or kept:
                await self._store_change(store, change, line_id, now, kept, within)
            return CommandResult(change.after, change.part)

        async with self._turn_on(id_):
            return await retry_transaction(attempt)

    async def create(
        self,
        workspace_id: str,
        subject: ThreadKind,
        new_id: str,
        contact: Mapping[str, Any],
        speaker: Principal | None,
        begin: Callable[[Document, datetime], Changeset],
        *,
        kept: Claim | None = None,
        within: AlsoWrite | None = None,
    ) -> CommandResult:
        """A new subject of the contact meant, who is created where nobody knows it, as tracking does. `begin`: from the
        contact and the time."""
        line_id, contact_id = self._line_id(), self._minter.mint(Prefix.CONTACT, self._clock())
        with error_path("contact"):
            ref = subject_ref(contact, speaker)

        async def attempt(number: int) -> CommandResult:
            store, now = self._store.open(workspace_id), self._clock()
            if kept and (first := await store.idempotency_keys.result_of(kept)) is not None:
                return await _first_result(self._seen_by(workspace_id, speaker), subject, first)
            if number > 1 and await store.threads(subject)[0].by_ids([new_id]):
                seen = self._seen_by(workspace_id, speaker)
                return await _first_result(seen, subject, {f"{subject.value}_id": new_id}, path=())
            found, erased = await store.candidates_for([ref], now)
            with error_path("contact"):
                draft = IdentityResolver(
                    found, lambda: new_contact(contact_id, workspace_id, now), now, erased
                ).resolve(ref)
            change = begin(draft.document, now)
            await self._store_change(store, change, line_id, now, kept, within, draft)
            return CommandResult(change.after, change.part)

        return await retry_transaction(attempt, lambda: self._turn(workspace_id))

    async def check_owner(
        self, speaker: Principal, subject: ThreadKind, id_: str, actor: Actor, path: tuple[str, ...] = ("id",)
    ) -> None:
        """Pass where the actor is no contact, or the one whose subject it is; UserProblem."""
        if not actor.is_contact:
            return
        store = self._store.open(speaker.workspace_id)
        stored = (await store.threads(subject)[0].by_ids([id_])).get(id_)
        if stored is None:
            raise unknown_thread(subject, id_, path)
        owner = (await store.contacts.of_ids([stored["contact_id"]])).get(stored["contact_id"])
        if owner is not None and owner["_id"] == actor.id:
            return
        if speaker.contact_id is not None:
            raise unknown_thread(subject, id_, path)
        message = f"This {subject.value} is not of that contact: name the one whose it is, or an admin."
        raise UserProblem(ErrorCode.FORBIDDEN, message, ("actor", "contactId"))

    async def _store_change(
        self,
        store: WorkspaceStore,
        change: Changeset,
        line_id: str,
        now: datetime,
        kept: Claim | None,
        within: AlsoWrite | None,
        contact: ContactDraft | None = None,
    ) -> None:
        await store.database.transaction(
            partial(self.persist, store, change, line_id, now, kept=kept, within=within, contact=contact)
        )

    async def persist(
        self,
        store: WorkspaceStore,
        change: Changeset,
        line_id: str,
        now: datetime,
        session: Session,
        *,
        kept: Claim | None = None,
        within: AlsoWrite | None = None,
        contact: ContactDraft | None = None,
    ) -> None:
        """Write a change in that transaction; `line_id`: of the journal's first line, by which it is recognised."""
        if within is not None:
            await within(store, session)
        if contact is not None:  # written in any case: whoever deletes it meanwhile must see this
            await store.contacts.save([contact], session)
        subjects, parts = store.threads(change.kind)
        if change.has_changes:
            await subjects.save(change, session)
            await parts.insert(change.parts, session)
            await store.timers.set(change.timers, session)
            await store.timers.cancel(change.cancelled, session)
        lines = self._lines(change, line_id, now)
        if contact is not None and is_visible_change(contact):
            lines.insert(0, visible_change(self._line_id(), contact, now))
        await store.changes.write(lines, session)
        if kept is not None:
            result = {f"{change.kind.value}_id": change.after["_id"], "contact_id": change.after["contact_id"]}
            part = {} if change.part is None else {"part_id": change.part["_id"]}
            await store.idempotency_keys.keep(kept, result | part, now, session)
        await self._outbox.thread_changed(store, change, contact, now, session)

    def _lines(self, change: Changeset, line_id: str, now: datetime) -> list[Document]:
        ids = iter([line_id])
        lines = change_events_of(change, lambda: next(ids, None) or self._line_id(), now)
        if lines:
            lines[0]["act_part_id"] = None if change.part is None else change.part["_id"]
        return lines

    @asynccontextmanager
    async def _turn_on(self, id_: str) -> AsyncIterator[None]:
        """A turn of one's own on that subject in this process; UnavailableError where others take too long."""
        lane = self._locks.setdefault(id_, asyncio.Lock())
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                await lane.acquire()
        except TimeoutError:
            raise UnavailableError from None
        try:
            yield
        finally:
            lane.release()

    def _seen_by(self, workspace_id: str, speaker: Principal | None) -> WorkspaceStore:
        """What the speaker sees of that workspace; without one, all of it."""
        return self._store.open(workspace_id) if speaker is None else self._store.open_for(speaker)

    def _line_id(self) -> str:
        return self._minter.mint(Prefix.CHANGE, self._clock())


async def _stored_result(
    store: WorkspaceStore, subject: ThreadKind, id_: str, part_id: str | None
) -> CommandResult | None:
    """The outcome of an act that was stored before; None where its subject is gone, or not to be seen in this store."""
    subjects, parts = store.threads(subject)
    document = (await subjects.by_ids([id_])).get(id_)
    if document is None:
        return None
    return CommandResult(document, None if part_id is None else (await parts.by_ids([part_id])).get(part_id))


async def _first_result(
    store: WorkspaceStore, subject: ThreadKind, first: Document, path: tuple[str, ...] = ("idempotencyKey",)
) -> CommandResult:
    found = await _stored_result(store, subject, first[f"{subject.value}_id"], first.get("part_id"))
    if found is None:
        message = f"The {subject.value} that the first call with this idempotencyKey gave is gone: use a new key."
        raise UserProblem(ErrorCode.NOT_FOUND, message if path else f"The new {subject.value} is gone again.", path)
    return found
