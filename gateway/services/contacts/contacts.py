"""Creates and updates contacts."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from typing import cast

from gateway.core.clock import Clock
from gateway.core.idempotency import Claim, claim
from gateway.core.ids import Minter, Prefix
from gateway.core.unset import given_fields
from gateway.domain.contacts.commands import UpsertContact
from gateway.domain.contacts.contacts import (
    MAX_ANONYMOUS_IDS,
    ContactDraft,
    ContactRef,
    ContactRole,
    Document,
    check_ref,
    new_contact,
    raised_role,
)
from gateway.domain.contacts.documents import ContactDocument, ContactRefFields
from gateway.domain.contacts.field_values import check_values, set_values
from gateway.domain.contacts.identity_resolution import IdentityResolver
from gateway.domain.events.events import check_idempotency_key
from gateway.errors import ErrorCode, UserProblem, error_path
from gateway.services.contacts.writer import ContactWriter
from gateway.settings import Settings
from gateway.store.driver import Session
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore

MUTATION = "upsertContact"
Turn = Callable[[str], AbstractAsyncContextManager[None]]


class ContactService:
    def __init__(
        self, store: Store, settings: Settings, clock: Clock, minter: Minter, turn: Turn, writer: ContactWriter
    ) -> None:
        self._store = store
        self._writer = writer
        self._turn = turn
        self._settings = settings
        self._clock = clock
        self._minter = minter

    async def upsert(self, workspace_id: str, command: UpsertContact) -> tuple[ContactDocument, bool]:
        """Return the contact and whether it was created."""
        now = self._clock()
        ref = check_ref(cast(ContactRefFields, command.keys))
        fields = given_fields(command)
        values = self.check_values(fields)
        key = check_idempotency_key(command.idempotency_key)
        key_claim = claim(MUTATION, key, {name: value for name, value in fields.items() if name != "idempotency_key"})
        new_id = self._minter.mint(Prefix.CONTACT, now)

        async def attempt(_: int) -> tuple[ContactDocument, bool]:
            store = self._store.open(workspace_id)
            if key_claim and (first_result := await store.idempotency_keys.result_of(key_claim)) is not None:
                return await _first_result(store, first_result)
            candidates, erased = await store.candidates_for([ref], now, may_become_users=True)
            resolver = IdentityResolver(candidates, lambda: new_contact(new_id, workspace_id, now), now, erased)
            draft = self._updated(resolver, ref, command.keys, values)
            if draft.visible_fields():
                draft.document["updated_at"] = now
            if draft.changed_fields() or key_claim:
                await store.database.transaction(partial(self._write, store, draft, key_claim, now))
            return draft.document, draft.stored is None or draft.id == new_id

        return await retry_transaction(attempt, lambda: self._turn(workspace_id))

    async def resolve(self, workspace_id: str, ref: ContactRef) -> ContactDocument:
        """Return the contact of that reference; create it if its strongest key is new."""
        now = self._clock()
        new_id = self._minter.mint(Prefix.CONTACT, now)

        async def attempt(_: int) -> ContactDocument:
            store = self._store.open(workspace_id)
            candidates, erased = await store.candidates_for([ref], now)
            draft = IdentityResolver(candidates, lambda: new_contact(new_id, workspace_id, now), now, erased).resolve(
                ref
            )
            if draft.changed_fields():
                await store.database.transaction(partial(self._write, store, draft, None, now))
            return draft.document

        with error_path("contact"):
            return await retry_transaction(attempt, lambda: self._turn(workspace_id))

    async def _write(
        self, store: WorkspaceStore, draft: ContactDraft, key_claim: Claim | None, now: datetime, session: Session
    ) -> None:
        if draft.changed_fields():
            await self._writer.save(store, [draft], now, session)
        if key_claim:
            await store.idempotency_keys.keep(
                key_claim, {"contact_id": draft.id, "created": draft.stored is None}, now, session
            )

    def _updated(
        self, resolver: IdentityResolver, ref: ContactRef, keys: Mapping[str, str | None], values: Document
    ) -> ContactDraft:
        key_kind, value = ref.keys()[0]
        draft = resolver.find(key_kind, value) or resolver.resolve(ContactRef(**{key_kind.value: value}))
        self.state(resolver, draft, keys, values)
        return draft

    def state(
        self, resolver: IdentityResolver, draft: ContactDraft, keys: Mapping[str, str | None], values: Document
    ) -> None:
        """Set the keys and the checked `values`, and claim the identities; UserProblem."""
        document = draft.document
        resolver.set_keys(draft, **keys)
        if len(document["anonymous_ids"]) > MAX_ANONYMOUS_IDS:
            raise UserProblem(
                ErrorCode.LIMIT_EXCEEDED,
                f"The contact has {MAX_ANONYMOUS_IDS} anonymous ids, which is the limit: leave anonymousId out.",
                ("anonymousId",),
            )
        set_values(document, values, self._settings)
        document["role"] = (ContactRole(values["role"]) if values.get("role") else raised_role(document)).value
        resolver.claim_identities(draft)

    def check_values(self, fields: Mapping[str, object]) -> Document:
        """Return the fields other than keys as they are stored; UserProblem on an invalid value."""
        return check_values(fields, self._settings, self._clock())


async def _first_result(store: WorkspaceStore, first_result: Document) -> tuple[ContactDocument, bool]:
    contact = await store.contacts.of_id(first_result["contact_id"])
    if contact is None:
        raise UserProblem(
            ErrorCode.NOT_FOUND,
            "The contact of the first call with this idempotencyKey was deleted: use a new key.",
            ("idempotencyKey",),
        )
    return contact, first_result["created"]
