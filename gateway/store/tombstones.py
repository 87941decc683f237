"""Tombstones: what is remembered of events that are no longer kept, as MongoDB keeps it."""

from collections.abc import Sequence
from typing import ClassVar

from pymongo import ASCENDING, IndexModel

from gateway.store.driver import Document, Session
from gateway.store.events import Occurrences


class Tombstones(Occurrences):
    """The events of one workspace that are no longer kept: in a collection of their own, so that no reader of events
    can meet them. No token finds any."""

    COLLECTION: ClassVar[str] = "tombstones"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("identity", ASCENDING)], unique=True, name="identity"),
        IndexModel([("workspace_id", ASCENDING), ("name", ASCENDING), ("contact_id", ASCENDING)], name="name_contact"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING)], name="contact"),
    )

    async def insert(self, tombstones: Sequence[Document], session: Session) -> None:
        """Add those of events that go in the same transaction."""
        await self._database.insert(self.COLLECTION, tombstones, session)
