"""Conversations and their parts as MongoDB keeps them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from pymongo import ASCENDING, IndexModel

from gateway.domain.ids import Prefix
from gateway.domain.pages import Page
from gateway.domain.times import TimeRange
from gateway.store.contacts import IDS_OF_CONTACT, Contacts
from gateway.store.driver import Document
from gateway.store.histories import Parts, Subjects


class Conversations(Subjects):
    """The conversations of one workspace. `lists` holds the lists that each stands in, `words` what it is found by."""

    COLLECTION: ClassVar[str] = "conversations"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING), ("_id", ASCENDING)], name="contact"),
        IndexModel([("workspace_id", ASCENDING), ("lists", ASCENDING), ("_id", ASCENDING)], name="lists"),
        IndexModel([("workspace_id", ASCENDING), ("words", ASCENDING), ("_id", ASCENDING)], name="words"),
        *(
            IndexModel(
                [("workspace_id", ASCENDING), ("lists", ASCENDING), (field, ASCENDING), ("_id", ASCENDING)],
                name=f"lists_by_{field}",
            )
            for field in ("updated_at", "waiting_since", "sla_due_at")
        ),
    )

    async def page(
        self, filters: Sequence[Mapping[str, Any]], asked: Page, times: TimeRange, now: datetime
    ) -> list[Document]:
        """A page of those of any of the filters (each on equality, with an index) that were begun in that time, the
        newest first."""
        return await self._page_by_id(filters, Prefix.CONVERSATION, asked, times, now)

    async def ordered(self, filter_: Mapping[str, Any], sort: Mapping[str, int], limit: int) -> list[Document]:
        """The first ones of a part of another order; `filter_`: one operator at most, behind equalities of its index."""
        return await self._find(filter_, sort=sort, limit=limit)

    async def count(self, filter_: Mapping[str, Any], most: int) -> int:
        """How many a filter finds, counted up to that many."""
        return await self._database.count(self.COLLECTION, {**filter_, "workspace_id": self._workspace_id}, most)

    async def of_contacts(
        self, contact_ids: Sequence[str], bounds: Mapping[str, str], limit: int, *, oldest_first: bool
    ) -> dict[str, list[Document]]:
        """The first ones of each contact, those of contacts that it took over included, in one read."""
        return await self._pages_of_children(
            contact_ids,
            {"_id": bounds},
            {"_id": 1 if oldest_first else -1},
            limit,
            foreign="contact_id",
            parent_collection=Contacts.COLLECTION,
            parent_ids=IDS_OF_CONTACT,
        )


class ConversationParts(Parts):
    """The parts of the conversations of one workspace."""

    COLLECTION: ClassVar[str] = "conversation_parts"
    SUBJECTS: ClassVar[type[Subjects]] = Conversations
