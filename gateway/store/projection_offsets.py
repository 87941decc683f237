"""Projection offsets: which process consumes the change stream for a projection, and how far it has read."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar, NotRequired, TypedDict, cast

from pymongo import UpdateOne

from gateway.core.leases import is_held
from gateway.core.time_ranges import EARLIEST
from gateway.store.driver import Database, Document, DuplicateError, Session, TransientError


class OffsetDocument(TypedDict):
    """The offset of a projection. `pending`: what must be rebuilt; `owner`: who has the lease until `until`."""

    _id: str
    token: str | None
    pending: list[Document]
    owner: str
    until: datetime
    rebuilding: NotRequired[bool]
    position_at: NotRequired[list[int] | None]
    moved_at: NotRequired[datetime]


class ProjectionOffsets:
    """One document per projection: its lease, its offset, and what must be rebuilt."""

    COLLECTION: ClassVar[str] = "roll_ups"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(
        self, name: str, owner: str, length: timedelta, longest: timedelta | None = None
    ) -> OffsetDocument | None:
        """Take or renew the lease for `length`, by the database server's time; the projection's document, or None if
        another process holds it. `longest`: the longest lease of any owner; a later end comes from a wrong clock."""
        now = await self._database.now()
        row = cast(OffsetDocument | None, await self._database.find_one(self.COLLECTION, {"_id": name}))
        if row is None:
            row = {"_id": name, "token": None, "pending": [], "owner": "", "until": now}
            try:
                await self._database.insert(self.COLLECTION, [row])
            except DuplicateError:
                return None
        if row["owner"] != owner and is_held(row["until"], now, longest or length):
            return None
        guard = {"_id": name, "owner": row["owner"], "until": row["until"]}
        until = now + length
        is_taken = await self._database.update(self.COLLECTION, guard, {"$set": {"owner": owner, "until": until}})
        return {**row, "owner": owner, "until": until} if is_taken else None

    async def renew(self, name: str, owner: str, length: timedelta) -> bool:
        """Extend the lease to `length` from now; False if this owner lost it."""
        until = await self._database.now() + length
        guard = {"_id": name, "owner": owner}
        return await self._database.update(self.COLLECTION, guard, {"$set": {"until": until}}) == 1

    async def release(self, name: str, owner: str) -> None:
        await self._database.update(self.COLLECTION, {"_id": name, "owner": owner}, {"$set": {"until": EARLIEST}})

    async def all(self) -> list[OffsetDocument]:
        fields = ["owner", "until", "position_at", "moved_at", "rebuilding"]
        return cast(list[OffsetDocument], await self._database.find(self.COLLECTION, {}, projection=fields))

    async def save(
        self,
        name: str,
        owner: str,
        token: str | None,
        *,
        new_token: str | None,
        pending: Sequence[Document],
        position_at: tuple[int, int] | None = None,
        session: Session = None,
    ) -> None:
        """Move the offset from `token` to `new_token`; `position_at` is its cluster time. TransientError if another
        process took the lease or moved the offset."""
        guard = {"_id": name, "owner": owner, "token": token}
        position: Document = {"position_at": None if position_at is None else list(position_at)}
        values = {"token": new_token, "pending": list(pending), "rebuilding": bool(pending), **position}
        change = {"$set": values, "$currentDate": {"moved_at": True}}
        if await self._database.bulk(self.COLLECTION, [UpdateOne(guard, change)], session) != 1:
            raise TransientError("another process has the lease of this projection")
