"""Adds and removes tags of contacts, so that concurrent callers keep each other's tags."""

from collections.abc import Callable, Sequence

from gateway.core.clock import Clock
from gateway.core.text_rules import MAX_TAGS, check_tags
from gateway.domain.contacts.contacts import (
    ContactDraft,
    ContactRef,
    IdentityKind,
    check_key,
    distinct,
    unknown_contact,
)
from gateway.domain.contacts.documents import ContactDocument
from gateway.errors import ErrorCode, UserProblem
from gateway.services.contacts.contacts import Turn
from gateway.services.contacts.writer import ContactWriter
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store


class TagService:
    """Tags and untags contacts; both are idempotent."""

    def __init__(self, store: Store, clock: Clock, turn: Turn, writer: ContactWriter) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._turn = turn

    async def tag(self, workspace_id: str, contact_id: str, tags: Sequence[str]) -> ContactDocument:
        """Add these tags; UserProblem LIMIT_EXCEEDED if the contact has too many."""
        added = check_tags(list(tags))

        def change(stored: list[str]) -> list[str]:
            all_tags = distinct([*stored, *added])
            if len(all_tags) > MAX_TAGS:
                raise UserProblem(
                    ErrorCode.LIMIT_EXCEEDED,
                    f"The contact would have {len(all_tags)} tags; the limit is {MAX_TAGS}: remove some first.",
                    ("tags",),
                )
            return all_tags

        return await self._change(workspace_id, contact_id, change)

    async def untag(self, workspace_id: str, contact_id: str, tags: Sequence[str]) -> ContactDocument:
        """Remove these tags; ignore those that the contact does not have."""
        removed = frozenset(check_tags(list(tags)))
        return await self._change(
            workspace_id, contact_id, lambda stored: [tag for tag in stored if tag not in removed]
        )

    async def _change(
        self, workspace_id: str, contact_id: str, change: Callable[[list[str]], list[str]]
    ) -> ContactDocument:
        ref = ContactRef(id=check_key(IdentityKind.ID, contact_id))

        async def attempt(_: int) -> ContactDocument:
            store = self._store.open(workspace_id)
            stored = next(iter(await store.contacts.candidates_for([ref])), None)
            if stored is None:
                raise unknown_contact(contact_id, "contactId")
            draft = ContactDraft({**stored, "tags": change(stored["tags"])}, stored)
            if draft.visible_fields():
                draft.document["updated_at"] = now = self._clock()
                await store.database.transaction(lambda session: self._writer.save(store, [draft], now, session))
            return draft.document

        return await retry_transaction(attempt, lambda: self._turn(workspace_id))
