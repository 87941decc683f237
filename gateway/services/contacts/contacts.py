"""Creates and updates contacts."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, cast

from gateway.core.clock import Clock
from gateway.core.idempotency import Claim, claim
from gateway.core.ids import Minter, Prefix
from gateway.core.text_rules import check_http_url, check_text
from gateway.core.typed_values import check_metadata
from gateway.domain.contacts.contacts import (
    MAX_ANONYMOUS_IDS,
    ContactDraft,
    ContactRef,
    ContactRole,
    Document,
    IdentityKind,
    check_ref,
    contact_changed,
    distinct,
    is_visible_change,
    merged_attributes,
    new_contact,
    raised_role,
)
from gateway.domain.contacts.documents import ContactRefFields
from gateway.domain.contacts.identity_resolution import IdentityResolver
from gateway.domain.events.events import check_idempotency_key, check_occurred_at
from gateway.errors import ErrorCode, UserProblem, error_path
from gateway.services.outboxes import Outbox
from gateway.settings import Settings
from gateway.store.driver import Session
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore

MUTATION = "upsertContact"
Turn = Callable[[str], AbstractAsyncContextManager[None]]
MAX_TAGS = 100
_TEXTS = {
    "phone": "phone",
    "name": "name",
    "first_name": "firstName",
    "last_name": "lastName",
}
_FLAGS = ("unsubscribed_from_emails", "has_hard_bounced", "marked_email_as_spam")
_YEARS = 100


class ContactService:
    """Commands on single contacts."""

    def __init__(
        self, store: Store, settings: Settings, clock: Clock, minter: Minter, turn: Turn, outbox: Outbox
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._turn = turn
        self._settings = settings
        self._clock = clock
        self._minter = minter

    async def upsert(self, workspace_id: str, fields: Mapping[str, Any]) -> tuple[Document, bool]:
        """Return the contact and whether it was created. `fields`: the given input fields in snake_case; None clears."""
        now = self._clock()
        ref = check_ref(cast(ContactRefFields, fields))
        values = self.check_values(fields)
        key_claim = claim(MUTATION, check_idempotency_key(fields.get("idempotency_key")), _fingerprint(fields))
        new_id = self._minter.mint(Prefix.CONTACT, now)

        async def attempt(_: int) -> tuple[Document, bool]:
            store = self._store.open(workspace_id)
            if key_claim and (first_result := await store.idempotency_keys.result_of(key_claim)) is not None:
                return await _first_result(store, first_result)
            candidates, erased = await store.candidates_for([ref], now, may_become_users=True)
            resolver = IdentityResolver(candidates, lambda: new_contact(new_id, workspace_id, now), now, erased)
            draft = self._updated(resolver, ref, fields, values)
            if is_visible_change(draft):
                draft.document["updated_at"] = now
            if draft.is_changed() or key_claim:
                await store.database.transaction(partial(self._write, store, draft, key_claim, now))
            return draft.document, draft.stored is None or draft.id == new_id

        return await retry_transaction(attempt, lambda: self._turn(workspace_id))

    async def resolve(self, workspace_id: str, ref: ContactRef) -> Document:
        """Return the contact of that reference; create it if its strongest key is new."""
        now = self._clock()
        new_id = self._minter.mint(Prefix.CONTACT, now)

        async def attempt(_: int) -> Document:
            store = self._store.open(workspace_id)
            candidates, erased = await store.candidates_for([ref], now)
            draft = IdentityResolver(candidates, lambda: new_contact(new_id, workspace_id, now), now, erased).resolve(
                ref
            )
            if draft.is_changed():
                await store.database.transaction(partial(self._write, store, draft, None, now))
            return draft.document

        with error_path("contact"):
            return await retry_transaction(attempt, lambda: self._turn(workspace_id))

    async def _write(
        self, store: WorkspaceStore, draft: ContactDraft, key_claim: Claim | None, now: Any, session: Session
    ) -> None:
        if draft.is_changed():
            await store.contacts.save([draft], session)
        if key_claim:
            await store.idempotency_keys.keep(
                key_claim, {"contact_id": draft.id, "created": draft.stored is None}, now, session
            )
        if (change_event := contact_changed(self._minter.mint(Prefix.CHANGE, now), draft, now)) is not None:
            await store.changes.write([change_event], session)
        await self._outbox.contacts_changed(store, now, session, drafts=[draft])

    def _updated(
        self, resolver: IdentityResolver, ref: ContactRef, fields: Mapping[str, Any], values: Document
    ) -> ContactDraft:
        key_kind, value = ref.keys()[0]
        draft = resolver.find(key_kind, value) or resolver.resolve(ContactRef(**{key_kind.value: value}))
        self.state(resolver, draft, fields, values)
        return draft

    def state(
        self, resolver: IdentityResolver, draft: ContactDraft, fields: Mapping[str, Any], values: Document
    ) -> None:
        """Set the keys in `fields` and the checked `values`, and claim the identities; UserProblem."""
        document = draft.document
        resolver.set_keys(
            draft,
            **{
                key.value: fields[key.value]
                for key in IdentityKind
                if key is not IdentityKind.ID and key.value in fields
            },
        )
        if len(document["anonymous_ids"]) > MAX_ANONYMOUS_IDS:
            raise UserProblem(
                ErrorCode.LIMIT_EXCEEDED,
                f"The contact has {MAX_ANONYMOUS_IDS} anonymous ids, and no more are kept.",
                ("anonymousId",),
            )
        self._set(document, values)
        document["role"] = (ContactRole(values["role"]) if values.get("role") else raised_role(document)).value
        resolver.claim_identities(draft)

    def _set(self, document: Document, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if name == "custom_attributes":
                document[name] = merged_attributes(document["custom_attributes"], value) if value is not None else {}
                check_metadata(document[name], self._settings, ("customAttributes",))
            elif name == "location" and value is not None:
                document[name] = merged_attributes(document.get(name, {}), value) or None
            elif name == "last_seen_at" and value is not None:
                document[name] = max(value, document.get(name) or value)
            elif name != "role":
                document[name] = value
        for name in [name for name, value in document.items() if value is None]:
            del document[name]

    def check_values(self, fields: Mapping[str, Any]) -> Document:
        """Return the fields other than keys as they are stored; UserProblem on an invalid value."""
        values: Document = {}
        for name, public in _TEXTS.items():
            if name in fields:
                values[name] = (
                    fields[name]
                    if fields[name] is None
                    else check_text(fields[name], (public,), longest=1000, named=public)
                )
        if "avatar_url" in fields:
            url = fields["avatar_url"]
            values["avatar_url"] = None if url is None else check_http_url(url, ("avatarUrl",), longest=1000)
        if "location" in fields:
            values["location"] = _check_location(fields["location"])
        for name, public in (("signed_up_at", "signedUpAt"), ("last_seen_at", "lastSeenAt")):
            if name in fields:
                values[name] = check_occurred_at(fields[name], self._clock(), _YEARS, (public,))
        if "custom_attributes" in fields:
            check_metadata(fields["custom_attributes"] or {}, self._settings, ("customAttributes",))
            values["custom_attributes"] = fields["custom_attributes"]
        if "tags" in fields:
            values["tags"] = check_tags(fields["tags"] or [])
        for name in _FLAGS:
            if name in fields:
                values[name] = bool(fields[name])
        if "opted_out_subscription_types_count" in fields:
            values["opted_out_subscription_types_count"] = _check_count(
                fields["opted_out_subscription_types_count"] or 0
            )
        if fields.get("role"):
            values["role"] = fields["role"]
        return values


def check_tags(tags: list[str]) -> list[str]:
    """Return the checked tags without duplicates."""
    if len(tags) > MAX_TAGS:
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED, f"There are {len(tags)} tags, and {MAX_TAGS} are allowed.", ("tags",)
        )
    return distinct(
        check_text(tag, ("tags", str(index)), longest=255, named="The tag") for index, tag in enumerate(tags)
    )


def _check_location(location: Mapping[str, Any] | None) -> Document | None:
    if location is None:
        return None
    return {
        part: text if text is None else check_text(text, ("location", part), longest=255, named=part)
        for part, text in location.items()
    }


def _check_count(count: int) -> int:
    if count < 0:
        raise UserProblem(
            ErrorCode.INVALID,
            "optedOutSubscriptionTypesCount must not be negative.",
            ("optedOutSubscriptionTypesCount",),
        )
    return count


async def _first_result(store: WorkspaceStore, first_result: Document) -> tuple[Document, bool]:
    contact = await store.contacts.of_id(first_result["contact_id"])
    if contact is None:
        raise UserProblem(
            ErrorCode.NOT_FOUND,
            "The contact that the first call with this idempotencyKey gave is gone: use a new key.",
            ("idempotencyKey",),
        )
    return contact, first_result["created"]


def _fingerprint(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "idempotency_key"}
