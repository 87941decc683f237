"""Tombstones: what is remembered of events that are no longer kept, as MongoDB keeps it."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pymongo import ASCENDING, IndexModel

from gateway.store.driver import Document, Session
from gateway.store.events.events import Occurrences


class Tombstones(Occurrences):
    """The events of one workspace that are no longer kept: in a collection of their own, so that no reader of events
    can meet them. No token finds any."""

    COLLECTION: ClassVar[str] = "tombstones"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("identity", ASCENDING)], unique=True, name="identity"),
        IndexModel([("workspace_id", ASCENDING), ("name", ASCENDING), ("contact_id", ASCENDING)], name="name_contact"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING)], name="contact"),
    )

    async def counts_of(self, owners: Mapping[str, str]) -> dict[str, list[Document]]:
        """Name, count, first_at and last_at of what there is of some contacts, by who has it now; `owners`: who that is of
        each id."""
        pipeline: list[Document] = [
            {"$match": {"contact_id": {"$in": list(owners)}, "workspace_id": self._workspace_id}},
            {
                "$group": {
                    "_id": {"contact_id": "$contact_id", "name": "$name"},
                    "count": {"$sum": 1},
                    "first_at": {"$min": "$occurred_at"},
                    "last_at": {"$max": "$occurred_at"},
                }
            },
        ]
        found: dict[str, list[Document]] = {}
        for row in await self._database.aggregate(self.COLLECTION, pipeline, long=True):
            key = row.pop("_id")
            found.setdefault(owners[key["contact_id"]], []).append({**row, "name": key["name"]})
        return found

    async def insert(self, tombstones: Sequence[Document], session: Session) -> None:
        """Add those of events that go in the same transaction."""
        await self._database.insert(self.COLLECTION, tombstones, session)
