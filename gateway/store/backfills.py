"""Backfills as MongoDB keeps them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.core.ids import Prefix
from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.domain.backfills import BackfillState
from gateway.store.driver import Database, Document, Session, TransientError
from gateway.store.repositories import Repository


class Backfills(Repository):
    """The backfills of a workspace, of which one at most is under way."""

    COLLECTION: ClassVar[str] = "klaviyo_backfills"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("active", ASCENDING)], unique=True, name="active"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="order"),
    )

    async def insert(self, backfill: Document, session: Session) -> None:
        """Add it; DuplicateError where another one is under way."""
        await self._database.insert(self.COLLECTION, [backfill], session)

    async def active(self) -> Document | None:
        """The one that is under way or paused."""
        return next(iter(await self._find({"active": self._workspace_id})), None)

    async def page(self, asked: Page, now: datetime) -> list[Document]:
        """A page of them, the newest first."""
        return await self._page_by_id([{}], Prefix.BACKFILL, asked, TimeRange(), now)

    async def change(
        self, backfill: Mapping[str, Any], values: Mapping[str, Any], session: Session, more: Mapping[str, int]
    ) -> None:
        """Set these fields, add to those in `more`; TransientError where somebody else moved it meanwhile."""
        guard = {"_id": backfill["_id"], "workspace_id": self._workspace_id, "version": backfill["version"]}
        given = {"$set": dict(values)} if values else {}
        update = UpdateOne(guard, {**given, "$inc": {"version": 1, **more}})
        if await self._database.bulk(self.COLLECTION, [update], session) != 1:
            raise TransientError("the backfill moved meanwhile")

    async def read_again(self, session: Session) -> None:
        """Let whoever has read rows of history before this transaction read them again: a contact is erased in it."""
        update = UpdateOne({"active": self._workspace_id}, {"$inc": {"version": 1}})
        await self._database.bulk(self.COLLECTION, [update], session)

    async def settle(self, tallies: Mapping[str, Mapping[str, int]], session: Session) -> None:
        """Add to `done` and `failed` of backfills, by id; whoever walks through history is not kept from it."""
        operations = [
            UpdateOne({"_id": id_, "workspace_id": self._workspace_id}, {"$inc": dict(more)})
            for id_, more in tallies.items()
        ]
        await self._database.bulk(self.COLLECTION, operations, session)


async def running(database: Database) -> list[Document]:
    """Every backfill of every workspace that is under way."""
    rows = await database.find(Backfills.COLLECTION, {"active": {"$gte": Prefix.WORKSPACE.value, "$lt": "wsp`"}})
    return [row for row in rows if row["state"] == BackfillState.RUNNING]
