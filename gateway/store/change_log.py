"""The journal: what changed, written in the transaction of the change and read by the live bus and by operators."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from pymongo import ASCENDING, IndexModel

from gateway.store.driver import Document, Session
from gateway.store.repositories import Repository

KEPT = timedelta(days=7)


class ChangeLog(Repository):
    """The journal of one workspace, kept for 7 days."""

    COLLECTION: ClassVar[str] = "changes"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="order"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING)], name="contact"),
        IndexModel([("at", ASCENDING)], expireAfterSeconds=int(KEPT.total_seconds()), name="expiry"),
    )

    async def write(self, lines: Sequence[Document], session: Session) -> None:
        """Add lines to the journal."""
        await self._database.insert(self.COLLECTION, lines, session)


def heartbeat(line_id: str, now: datetime) -> Document:
    """A line that belongs to no workspace: a place in the stream that every process sees."""
    return {"_id": line_id, "workspace_id": "", "subject": "bus", "kind": "MARK", "at": now}
