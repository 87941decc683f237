"""The backfills collection."""

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, cast

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.core.ids import Prefix
from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.destinations.klaviyo.backfill import BackfillState
from gateway.destinations.klaviyo.documents import BackfillChanges, BackfillDocument
from gateway.store.driver import Database, Session, TransientError
from gateway.store.repositories import Repository


class Backfills(Repository[BackfillDocument]):
    """The backfills of a workspace. At most one is active."""

    COLLECTION: ClassVar[str] = "klaviyo_backfills"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("active", ASCENDING)], unique=True, name="active"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="order"),
    )

    async def insert(self, backfill: BackfillDocument, session: Session) -> None:
        """Add it; DuplicateError if another one is active."""
        await self._database.insert(self.COLLECTION, [backfill], session)

    async def active(self) -> BackfillDocument | None:
        return next(iter(await self._find({"active": self._workspace_id})), None)

    async def page(self, page: Page, now: datetime) -> list[BackfillDocument]:
        return await self._page_by_id([{}], Prefix.BACKFILL, page, TimeRange(), now)

    async def change(
        self, backfill: BackfillDocument, values: BackfillChanges, session: Session, increments: Mapping[str, int]
    ) -> None:
        """Set `values` and add `increments`; TransientError if the backfill changed since it was read."""
        guard = {"_id": backfill["_id"], "workspace_id": self._workspace_id, "version": backfill["version"]}
        sets = {"$set": dict(values)} if values else {}
        update = UpdateOne(guard, {**sets, "$inc": {"version": 1, **increments}})
        if await self._database.bulk(self.COLLECTION, [update], session) != 1:
            raise TransientError("the backfill changed meanwhile")

    async def read_again(self, session: Session) -> None:
        """Increment the version, so that a batch of history that was read before this erasure is read again."""
        update = UpdateOne({"active": self._workspace_id}, {"$inc": {"version": 1}})
        await self._database.bulk(self.COLLECTION, [update], session)

    async def settle(self, counts: Mapping[str, Mapping[str, int]], session: Session) -> None:
        """Add to `done` and `failed`, by backfill id. The version stays, so a running batch does not conflict."""
        operations = [
            UpdateOne({"_id": id_, "workspace_id": self._workspace_id}, {"$inc": dict(increments)})
            for id_, increments in counts.items()
        ]
        await self._database.bulk(self.COLLECTION, operations, session)


async def running(database: Database) -> list[BackfillDocument]:
    """The running backfills of every workspace."""
    rows = await database.find(Backfills.COLLECTION, {"active": {"$gte": Prefix.WORKSPACE.value, "$lt": "wsp`"}})
    return [row for row in cast(list[BackfillDocument], rows) if row["state"] == BackfillState.RUNNING]
