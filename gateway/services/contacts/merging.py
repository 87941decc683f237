"""Contacts that turn out to be one person: joined in one transaction, so that nobody sees a state between."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.core.text_rules import check_text
from gateway.domain.contacts.contacts import (
    ContactDraft,
    ContactRef,
    ContactRole,
    Document,
    IdentityKind,
    check_key,
    is_visible_change,
    new_contact,
    visible_change,
)
from gateway.domain.contacts.identity_resolution import IdentityResolver
from gateway.domain.contacts.merging import (
    MergeResult,
    contacts_merged,
    merge,
    merged_line,
    merged_summaries,
    pair_of,
)
from gateway.domain.events.events import check_occurred_at, summary_id_of
from gateway.services.contacts.contacts import Turn
from gateway.services.outboxes import Outbox
from gateway.settings import Settings
from gateway.store.driver import Session
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore

_YEARS = 100


@dataclass(slots=True)
class _Plan:
    """Whom a call ends with, and whom that contact takes over."""

    draft: ContactDraft
    gone: Document | None = None


class MergeService:
    """What joins contacts. Ids of contacts that were taken over lead to whoever has them now."""

    def __init__(
        self, store: Store, settings: Settings, clock: Clock, minter: Minter, turn: Turn, outbox: Outbox
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._settings = settings
        self._clock = clock
        self._minter = minter
        self._turn = turn

    async def merge(self, workspace_id: str, from_id: str, into_id: str) -> tuple[Document, int]:
        """The contact that stays, and how many events came to it; none where it had taken over the other before."""
        refs = [ContactRef(id=check_key(IdentityKind.ID, id_)) for id_ in (from_id, into_id)]
        line_id, moved = self._line_id(), 0

        async def attempt(_: int) -> Document:
            nonlocal moved
            store, now = self._store.open(workspace_id), self._clock()
            found = await store.contacts.candidates_for(refs, may_become_users=True)
            pair = pair_of(found, from_id, into_id)
            if isinstance(pair, dict):
                moved = await _moved_keys(store, line_id)
                return pair
            gone, survivor = pair
            joined = self._merged_draft(found, gone, ContactDraft(dict(survivor), survivor), now)
            moved = await self._store_merge(store, joined, line_id, now)
            return joined.survivor.document

        return await retry_transaction(attempt, lambda: self._turn(workspace_id)), moved

    async def identify(self, workspace_id: str, sent: Mapping[str, Any]) -> tuple[Document, bool]:
        """Whoever signed in, and whether an anonymous contact was merged into it. `sent`: the input in snake_case
        without what was omitted; None clears."""
        ref = ContactRef(
            external_id=check_key(IdentityKind.EXTERNAL, sent["external_id"]),
            anonymous_id=check_key(IdentityKind.ANONYMOUS, sent["anonymous_id"]),
        )
        facts = self._check_facts(sent)
        new_id = self._minter.mint(Prefix.CONTACT, self._clock())
        line_id = self._line_id()

        async def attempt(number: int) -> tuple[Document, bool]:
            store, now = self._store.open(workspace_id), self._clock()
            found, erased = await store.candidates_for(_refs(ref, facts), now, may_become_users=True)
            directory = IdentityResolver(found, lambda: new_contact(new_id, workspace_id, now), now, erased)
            plan = _plan(directory, ref)
            if plan.gone is None:
                await self._store_signed_in(store, directory, plan.draft, facts, now)
                return plan.draft.document, number > 1 and await _is_stored(store, line_id)
            joined = self._merged_draft(found, plan.gone, plan.draft, now, facts, erased)
            await self._store_merge(store, joined, line_id, now)
            return plan.draft.document, True

        return await retry_transaction(attempt, lambda: self._turn(workspace_id))

    def _line_id(self) -> str:
        """The id of the journal's line of a merge: by it a commit whose answer was lost is recognised."""
        return self._minter.mint(Prefix.CHANGE, self._clock())

    def _check_facts(self, sent: Mapping[str, Any]) -> Document:
        facts: Document = {}
        if "email" in sent:
            facts["email"] = sent["email"] and check_key(IdentityKind.EMAIL, sent["email"])
        if "name" in sent:
            facts["name"] = sent["name"] and check_text(sent["name"], ("name",), longest=1000, named="name")
        if "signed_up_at" in sent:
            facts["signed_up_at"] = check_occurred_at(sent["signed_up_at"], self._clock(), _YEARS, ("signedUpAt",))
        return facts

    def _merged_draft(
        self,
        found: list[Document],
        gone: Document,
        survivor: ContactDraft,
        now: datetime,
        facts: Mapping[str, Any] | None = None,
        erased: frozenset[str] = frozenset(),
    ) -> MergeResult:
        others = [row for row in found if row["_id"] not in (gone["_id"], survivor.id)]
        free = not any(_has_users_email(row, gone.get("email_lower")) for row in others)
        directory = IdentityResolver(others, dict, now, erased)
        joined = merge(gone, survivor, now, email_free=free, max_attributes=self._settings.max_metadata_keys)
        _state(directory, survivor, facts or {})
        return joined

    async def _store_signed_in(
        self,
        store: WorkspaceStore,
        directory: IdentityResolver,
        draft: ContactDraft,
        facts: Mapping[str, Any],
        now: datetime,
    ) -> None:
        _state(directory, draft, facts)
        if not draft.is_changed():
            return
        if is_visible_change(draft):
            draft.document["updated_at"] = now

        async def write(session: Session) -> None:
            await store.contacts.save([draft], session)
            if is_visible_change(draft):
                await store.changes.write([visible_change(self._minter.mint(Prefix.CHANGE, now), draft, now)], session)
            await self._outbox.contacts_changed(store, now, session, drafts=[draft])

        await store.database.transaction(write)

    async def _store_merge(self, store: WorkspaceStore, joined: MergeResult, line_id: str, now: datetime) -> int:
        """Store the merge; how many events came along."""
        moved = 0

        async def write(session: Session) -> None:
            nonlocal moved
            await store.contacts.take_over(joined, session)
            gone = await store.summaries.of_contact(joined.gone["_id"], session)
            ids = [summary_id_of(store.workspace_id, joined.survivor.id, row["name"]) for row in gone]
            own = {row["name"]: row for row in (await store.summaries.by_ids(ids, session)).values()}
            await store.summaries.remove([row["_id"] for row in gone], session)
            await store.summaries.replace(merged_summaries(gone, own, joined.survivor.document), session)
            moved = sum(row.get("tracked_count", 0) for row in gone)
            segment_ids = await store.members.carry_over(joined.gone["_id"], joined.survivor.id, session)
            told = {**contacts_merged(line_id, joined, now), "moved_events": moved, "segment_ids": segment_ids}
            await store.changes.write([told, merged_line(self._line_id(), joined, gone, now)], session)
            await self._outbox.contacts_changed(store, now, session, drafts=[joined.survivor])

        await store.database.transaction(write)
        return moved


def _plan(directory: IdentityResolver, ref: ContactRef) -> _Plan:
    """What signing in means: the anonymous contact becomes the user, or is merged into the one there is. A USER stays
    who it is: where two people share a computer the anonymous id stays with whoever had it first."""
    user = directory.find(IdentityKind.EXTERNAL, str(ref.external_id))
    anonymous = directory.find(IdentityKind.ANONYMOUS, str(ref.anonymous_id))
    unknown = anonymous is not None and _is_unknown(anonymous.document)
    if user is None and anonymous is not None and unknown:
        anonymous.document |= {"external_id": ref.external_id, "role": ContactRole.USER.value}
        return _Plan(anonymous)
    if user is None or anonymous is None:
        user = directory.resolve(ref if anonymous is None else ContactRef(external_id=ref.external_id))
    user.document["role"] = ContactRole.USER.value
    if anonymous is not None and anonymous is not user and unknown:
        return _Plan(user, anonymous.document)
    return _Plan(user)


async def _is_stored(store: WorkspaceStore, line_id: str) -> bool:
    return bool(await store.changes.by_ids([line_id]))


async def _moved_keys(store: WorkspaceStore, line_id: str) -> int:
    """How many events a merge brought along, if the attempt at it that lost its answer was stored."""
    line = (await store.changes.by_ids([line_id])).get(line_id)
    return 0 if line is None else int(line["moved_events"])


def _is_unknown(contact: Mapping[str, Any]) -> bool:
    return contact["role"] != ContactRole.USER and contact.get("external_id") is None


def _state(directory: IdentityResolver, draft: ContactDraft, facts: Mapping[str, Any]) -> None:
    """File the contact with those facts; UserProblem CONFLICT where another USER has the e-mail that is stated."""
    document = draft.document
    directory.set_keys(draft, **({"email": facts["email"]} if "email" in facts else {}))
    if "email" not in facts and directory.users_email_taken(document, draft):
        del document["email"]  # left where it is: it keeps nobody from signing in
    for name in ("name", "signed_up_at"):
        if facts.get(name) is not None:
            document[name] = facts[name]
        elif name in facts:
            document.pop(name, None)
    directory.claim_identities(draft)


def _has_users_email(contact: Mapping[str, Any], email: str | None) -> bool:
    return contact["role"] == ContactRole.USER and email is not None and contact.get("email_lower") == email


def _refs(ref: ContactRef, facts: Mapping[str, Any]) -> list[ContactRef]:
    return [ref, *([ContactRef(email=facts["email"])] if facts.get("email") else [])]
