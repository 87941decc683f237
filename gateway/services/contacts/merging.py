"""Merges contacts of one person in one transaction, so that no reader sees an intermediate state."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypedDict, cast

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.core.unset import UNSET
from gateway.domain.changes import contacts_merged, new_change_id, summaries_merged
from gateway.domain.contacts.commands import IdentifyContact
from gateway.domain.contacts.contacts import (
    ContactDraft,
    ContactRef,
    ContactRole,
    IdentityKind,
    by_name,
    check_key,
    new_contact,
)
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.field_values import check_values
from gateway.domain.contacts.identity_resolution import IdentityResolver
from gateway.domain.contacts.merging import (
    MergeResult,
    merge,
    merged_summaries,
    pair_of,
)
from gateway.domain.events.events import summary_id_of
from gateway.services.contacts.contacts import Turn
from gateway.services.contacts.writer import ContactWriter
from gateway.settings import Settings
from gateway.store.driver import Session
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore

# What identifyContact may state beside the e-mail.
_FACTS: tuple[Literal["name", "signed_up_at"], ...] = ("name", "signed_up_at")


class ContactFacts(TypedDict, total=False):
    """What is known of a contact that signs in; None clears."""

    email: str | None
    name: str | None
    signed_up_at: datetime | None


@dataclass(slots=True)
class _Plan:
    draft: ContactDraft
    gone: ContactDocument | None = None


class MergeService:
    """Merges contacts. The ids of a merged contact lead to its survivor."""

    def __init__(
        self, store: Store, settings: Settings, clock: Clock, minter: Minter, turn: Turn, writer: ContactWriter
    ) -> None:
        self._store = store
        self._writer = writer
        self._settings = settings
        self._clock = clock
        self._minter = minter
        self._turn = turn

    async def merge(self, workspace_id: str, from_id: str, into_id: str) -> tuple[ContactDocument, int]:
        """Return the survivor and the number of moved events; 0 if the two were merged before."""
        refs = [ContactRef(id=check_key(IdentityKind.ID, id_)) for id_ in (from_id, into_id)]
        change_id, moved = self._new_change_id(), 0

        async def attempt(_: int) -> ContactDocument:
            nonlocal moved
            store, now = self._store.open(workspace_id), self._clock()
            candidates = await store.contacts.candidates_for(refs, may_become_users=True)
            pair = pair_of(candidates, from_id, into_id)
            if not isinstance(pair, tuple):
                moved = await _moved_events(store, change_id)
                return pair
            gone, survivor = pair
            result = self._merged_draft(candidates, gone, ContactDraft(survivor.copy(), survivor), now)
            moved = await self._store_merge(store, result, change_id, now)
            return result.survivor.document

        return await retry_transaction(attempt, lambda: self._turn(workspace_id)), moved

    async def identify(self, workspace_id: str, command: IdentifyContact) -> tuple[ContactDocument, bool]:
        """Return the signed-in contact and whether an anonymous contact was merged into it."""
        ref = ContactRef(
            external_id=check_key(IdentityKind.EXTERNAL, command.external_id),
            anonymous_id=check_key(IdentityKind.ANONYMOUS, command.anonymous_id),
        )
        facts = self._check_facts(command)
        new_id = self._minter.mint(Prefix.CONTACT, self._clock())
        change_id = self._new_change_id()  # by it a retry finds a commit whose response was lost

        async def attempt(number: int) -> tuple[ContactDocument, bool]:
            store, now = self._store.open(workspace_id), self._clock()
            candidates, erased = await store.candidates_for(_refs(ref, facts), now, may_become_users=True)
            resolver = IdentityResolver(candidates, lambda: new_contact(new_id, workspace_id, now), now, erased)
            plan = _plan(resolver, ref)
            if plan.gone is None:
                await self._store_signed_in(store, resolver, plan.draft, facts, now)
                return plan.draft.document, number > 1 and await _is_stored(store, change_id)
            result = self._merged_draft(candidates, plan.gone, plan.draft, now, facts, erased)
            await self._store_merge(store, result, change_id, now)
            return plan.draft.document, True

        return await retry_transaction(attempt, lambda: self._turn(workspace_id))

    def _new_change_id(self) -> str:
        return new_change_id(self._minter, self._clock())

    def _check_facts(self, command: IdentifyContact) -> ContactFacts:
        facts: ContactFacts = {}
        if (email := command.email) is not UNSET:
            facts["email"] = email and check_key(IdentityKind.EMAIL, email)
        if command.name is not UNSET:
            facts["name"] = command.name
        if command.signed_up_at is not UNSET:
            facts["signed_up_at"] = command.signed_up_at
        stated: dict[str, object] = {name: value for name in _FACTS if (value := facts.get(name))}
        checked = check_values(stated, self._settings, self._clock())
        return {**facts, **cast("ContactFacts", checked)}

    def _merged_draft(
        self,
        candidates: list[ContactDocument],
        gone: ContactDocument,
        survivor: ContactDraft,
        now: datetime,
        facts: ContactFacts | None = None,
        erased: frozenset[str] = frozenset(),
    ) -> MergeResult:
        other_contacts = [row for row in candidates if row["_id"] not in (gone["_id"], survivor.id)]
        is_email_free = not any(_has_users_email(row, gone.get("email_lower")) for row in other_contacts)
        resolver = IdentityResolver(other_contacts, gone.copy, now, erased)
        result = merge(gone, survivor, now, email_free=is_email_free, max_attributes=self._settings.max_metadata_keys)
        _apply_facts(resolver, survivor, facts or {})
        return result

    async def _store_signed_in(
        self,
        store: WorkspaceStore,
        resolver: IdentityResolver,
        draft: ContactDraft,
        facts: ContactFacts,
        now: datetime,
    ) -> None:
        _apply_facts(resolver, draft, facts)
        if not draft.changed_fields():
            return
        if draft.visible_fields():
            draft.document["updated_at"] = now
        await store.database.transaction(lambda session: self._writer.save(store, [draft], now, session))

    async def _store_merge(self, store: WorkspaceStore, result: MergeResult, change_id: str, now: datetime) -> int:
        moved = 0

        async def write(session: Session) -> None:
            nonlocal moved
            await store.contacts.take_over(result, session)
            gone = await store.summaries.of_contact(result.gone["_id"], session)
            ids = [summary_id_of(store.workspace_id, result.survivor.id, row["name"]) for row in gone]
            own = {row["name"]: row for row in (await store.summaries.by_ids(ids, session)).values()}
            await store.summaries.remove([row["_id"] for row in gone], session)
            await store.summaries.replace(merged_summaries(gone, own, result.survivor.document), session)
            moved = sum(row.get("tracked_count", 0) for row in gone)
            segment_ids = await store.members.carry_over(result.gone["_id"], result.survivor.id, session)
            changes = [
                contacts_merged(change_id, result, moved, segment_ids, now),
                summaries_merged(self._new_change_id(), result, gone, now),
            ]
            await self._writer.report(store, [result.survivor], changes, now, session)

        await store.database.transaction(write)
        return moved


def _plan(resolver: IdentityResolver, ref: ContactRef) -> _Plan:
    """An anonymous contact becomes the user or is merged into the user. A USER is never merged: on a shared computer
    the anonymous id stays with its first user."""
    user = resolver.find(IdentityKind.EXTERNAL, str(ref.external_id))
    anonymous = resolver.find(IdentityKind.ANONYMOUS, str(ref.anonymous_id))
    unknown = anonymous is not None and _is_unknown(anonymous.document)
    if user is None and anonymous is not None and unknown:
        anonymous.document |= {"external_id": str(ref.external_id), "role": ContactRole.USER.value}
        return _Plan(anonymous)
    if user is None or anonymous is None:
        user = resolver.resolve(ref if anonymous is None else ContactRef(external_id=ref.external_id))
    user.document["role"] = ContactRole.USER.value
    if anonymous is not None and anonymous is not user and unknown:
        return _Plan(user, anonymous.document)
    return _Plan(user)


async def _is_stored(store: WorkspaceStore, change_id: str) -> bool:
    return bool(await store.changes.by_ids([change_id]))


async def _moved_events(store: WorkspaceStore, change_id: str) -> int:
    change_event = await store.changes.get(change_id)
    return 0 if change_event is None else int(change_event["moved_events"])


def _is_unknown(contact: ContactDocument) -> bool:
    return contact["role"] != ContactRole.USER and contact.get("external_id") is None


def _apply_facts(resolver: IdentityResolver, draft: ContactDraft, facts: ContactFacts) -> None:
    """Raise UserProblem CONFLICT if another USER has the stated e-mail."""
    document = draft.document
    resolver.set_keys(draft, **({"email": facts["email"]} if "email" in facts else {}))
    if "email" not in facts and resolver.users_email_taken(document, draft):
        del document["email"]  # a taken e-mail must not prevent signing in
    for name in _FACTS:
        if (fact := facts.get(name)) is not None:
            by_name(document)[name] = fact
        elif name in facts:
            document.pop(name, None)
    resolver.claim_identities(draft)


def _has_users_email(contact: ContactDocument, email: str | None) -> bool:
    return contact["role"] == ContactRole.USER and email is not None and contact.get("email_lower") == email


def _refs(ref: ContactRef, facts: ContactFacts) -> list[ContactRef]:
    return [ref, *([ContactRef(email=facts["email"])] if facts.get("email") else [])]
