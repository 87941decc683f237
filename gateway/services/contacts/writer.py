"""Writes contacts with all that reports their change."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime

from gateway.core.ids import Minter
from gateway.domain.change_kinds import ChangeEvent
from gateway.domain.changes import contact_saved, contact_seen, new_change_id
from gateway.domain.contacts.contacts import ContactDraft, Document
from gateway.domain.support.threads import Changeset
from gateway.services.outboxes import Outbox
from gateway.store.driver import Session
from gateway.store.workspace_store import WorkspaceStore


class ContactWriter:
    """Saves contacts, their change events and their deliveries, in the caller's transaction."""

    def __init__(self, minter: Minter, outbox: Outbox) -> None:
        self._minter = minter
        self._outbox = outbox

    async def save(
        self,
        store: WorkspaceStore,
        drafts: Sequence[ContactDraft],
        now: datetime,
        session: Session,
        *,
        events: Sequence[Document] = (),
        seen: Mapping[str, datetime] | None = None,
        unchanged_since_read: bool = False,
    ) -> None:
        """Save contacts, with the tracked events that the outbox forwards. For the options see `Contacts.save`."""
        await store.contacts.save(drafts, session, seen=seen, unchanged_since_read=unchanged_since_read)
        await self.report(store, drafts, self._changes_of(drafts, now), now, session, events=events)

    async def report(
        self,
        store: WorkspaceStore,
        drafts: Sequence[ContactDraft],
        changes: Sequence[ChangeEvent],
        now: datetime,
        session: Session,
        *,
        events: Sequence[Document] = (),
    ) -> None:
        """Write the change events of saved contacts, and queue their deliveries."""
        await store.changes.write(changes, session)
        contacts = {draft.id: draft.document for draft in drafts}
        await self._outbox.contacts_changed(store, now, session, drafts=drafts, events=events, contacts=contacts)

    async def save_with_thread(
        self,
        store: WorkspaceStore,
        contact: ContactDraft | None,
        changeset: Changeset,
        thread_changes: Sequence[ChangeEvent],
        write_thread: Callable[[], Awaitable[None]],
        now: datetime,
        session: Session,
    ) -> None:
        """Save the contact of a new thread and then the thread, write the change events and queue the deliveries of both."""
        if contact is not None:  # even if unchanged, so that a concurrent erasure conflicts with this
            await store.contacts.save([contact], session)
        await write_thread()
        contact_changes = self._changes_of([contact] if contact is not None else [], now)
        await store.changes.write([*contact_changes, *thread_changes], session)
        await self._outbox.thread_changed(store, changeset, contact, now, session)

    def _changes_of(self, drafts: Iterable[ContactDraft], now: datetime) -> list[ChangeEvent]:
        changes: list[ChangeEvent] = []
        for draft in drafts:
            if draft.visible_fields():
                changes.append(contact_saved(new_change_id(self._minter, now), draft, now))
            elif "last_seen_at" in draft.changed_fields():
                changes.append(contact_seen(new_change_id(self._minter, now), draft, now))
        return changes
