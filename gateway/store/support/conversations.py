"""Conversations and their parts in MongoDB."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pymongo import ASCENDING, IndexModel

from gateway.core.ids import Prefix
from gateway.domain.support.documents import ConversationDocument
from gateway.store.contacts.contacts import IDS_OF_CONTACT, Contacts
from gateway.store.support.inboxes import Inbox, inbox_indexes
from gateway.store.support.threads import Parts, Threads


class Conversations(Threads[ConversationDocument], Inbox[ConversationDocument]):
    COLLECTION: ClassVar[str] = "conversations"
    PREFIX: ClassVar[Prefix] = Prefix.CONVERSATION
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING), ("_id", ASCENDING)], name="contact"),
        *inbox_indexes("updated_key", "waiting_key", "due_key", by_id=""),
    )

    async def count_of_contacts(self, contact_ids: Sequence[str], most: int) -> int:
        filter_ = {"contact_id": {"$in": list(contact_ids)}, "workspace_id": self._workspace_id}
        return await self._database.count(self.COLLECTION, filter_, most)

    async def of_contacts(
        self,
        contacts: Mapping[str, Sequence[str]],
        bounds: Mapping[str, str],
        limit: int,
        *,
        oldest_first: bool,
        fields: Sequence[str] | None = None,
    ) -> dict[str, list[ConversationDocument]]:
        """The first conversations by contact id, in one read. `contacts`: by contact id, all ids under which its
        conversations may be stored (a merged contact has several)."""
        return await self._pages_of_children(
            list(contacts),
            {"_id": bounds},
            {"_id": 1 if oldest_first else -1},
            limit,
            foreign="contact_id",
            parent_collection=Contacts.COLLECTION,
            parent_ids=IDS_OF_CONTACT,
            known=contacts,
            fields=fields,
        )


class ConversationParts(Parts):
    COLLECTION: ClassVar[str] = "conversation_parts"
    PARENTS: ClassVar[str] = Conversations.COLLECTION
