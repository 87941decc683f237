"""Tombstones: what is left of events that retention removed."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

from pymongo import ASCENDING, IndexModel

from gateway.domain.events.documents import NamedCounts, TombstoneDocument
from gateway.store.driver import Document, Session
from gateway.store.events.events import Occurrences


class Tombstones(Occurrences[TombstoneDocument]):
    """Removed events, apart from the others so that event queries never return them. Tokens see none."""

    COLLECTION: ClassVar[str] = "tombstones"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("identity", ASCENDING)], unique=True, name="identity"),
        IndexModel([("workspace_id", ASCENDING), ("name", ASCENDING), ("contact_id", ASCENDING)], name="name_contact"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING)], name="contact"),
    )

    async def counts_of(self, owners: Mapping[str, str]) -> dict[str, list[NamedCounts]]:
        """Name, count, first_at and last_at of the tombstones, by current contact. `owners`: the current contact by
        each id that tombstones may have."""
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
        counts: dict[str, list[NamedCounts]] = {}
        for row in await self._database.aggregate(self.COLLECTION, pipeline, long=True):
            key = row.pop("_id")
            counts.setdefault(owners[key["contact_id"]], []).append(cast(NamedCounts, {**row, "name": key["name"]}))
        return counts

    async def insert(self, tombstones: Sequence[TombstoneDocument], session: Session) -> None:
        await self._database.insert(self.COLLECTION, tombstones, session)
