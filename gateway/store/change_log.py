"""The change log: written in the transaction of each change, read by the bus and by operators."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from pymongo import ASCENDING, IndexModel

from gateway.store.driver import Document, Session
from gateway.store.repositories import Repository

RETENTION = timedelta(days=7)


class ChangeLog(Repository[Document]):
    """The change log of one workspace, kept for 7 days."""

    COLLECTION: ClassVar[str] = "changes"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="order"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING)], name="contact"),
        IndexModel([("at", ASCENDING)], expireAfterSeconds=int(RETENTION.total_seconds()), name="expiry"),
    )

    async def write(self, changes: Sequence[Document], session: Session) -> None:
        """Append changes."""
        await self._database.insert(self.COLLECTION, changes, session)


def heartbeat(change_id: str, now: datetime) -> Document:
    """A change that belongs to no workspace: a position in the change stream that every process sees."""
    return {"_id": change_id, "workspace_id": "", "subject": "bus", "kind": "MARK", "at": now}
