"""The change log: written in the transaction of each change, read by the bus and by operators."""

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar, cast

from pymongo import ASCENDING, IndexModel

from gateway.domain.change_kinds import ChangeEvent
from gateway.store.driver import Database, Document, Session
from gateway.store.repositories import Repository

RETENTION = timedelta(days=7)


class ChangeLog(Repository):
    """The change log of one workspace, kept for 7 days."""

    COLLECTION: ClassVar[str] = "changes"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="order"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING)], name="contact"),
        IndexModel([("at", ASCENDING)], expireAfterSeconds=int(RETENTION.total_seconds()), name="expiry"),
    )

    async def write(self, changes: Sequence[ChangeEvent], session: Session) -> None:
        """Append changes."""
        await self._database.insert(self.COLLECTION, cast("Sequence[Document]", changes), session)


async def append(database: Database, change: ChangeEvent) -> None:
    """Append a change that belongs to no transaction."""
    await database.insert(ChangeLog.COLLECTION, [cast("Document", change)])
