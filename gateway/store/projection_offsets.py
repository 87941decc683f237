"""Roll-ups: who reads the stream for them, and up to where what it tells is contained in their totals."""

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

from pymongo import UpdateOne

from gateway.core.leases import is_held
from gateway.core.time_ranges import EARLIEST
from gateway.store.driver import Database, Document, DuplicateError, Session, TransientError


class ProjectionOffsets:
    """One document per roll-up: the owner of its lease, its position in the stream, and what is to be counted anew."""

    COLLECTION: ClassVar[str] = "roll_ups"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, name: str, owner: str, length: timedelta, longest: timedelta | None = None) -> Document | None:
        """The roll-up's document, if nobody else holds its lease; it is then held for that long. `longest`: what any owner
        holds it for at most. A lease goes by the time of the database's server, and never reaches beyond now and its length."""
        now = await self._database.now()
        row = await self._database.find_one(self.COLLECTION, {"_id": name})
        if row is None:
            row = {"_id": name, "token": None, "pending": [], "owner": "", "until": now}
            try:
                await self._database.insert(self.COLLECTION, [row])
            except DuplicateError:
                return None
        if row["owner"] != owner and is_held(row["until"], now, longest or length):
            return None
        guard = {"_id": name, "owner": row["owner"], "until": row["until"]}
        held = {"owner": owner, "until": now + length}
        return {**row, **held} if await self._database.update(self.COLLECTION, guard, {"$set": held}) else None

    async def renew(self, name: str, owner: str, length: timedelta) -> bool:
        """Whether the lease is still this owner's; it is then held for that long from now on."""
        until = await self._database.now() + length
        guard = {"_id": name, "owner": owner}
        return await self._database.update(self.COLLECTION, guard, {"$set": {"until": until}}) == 1

    async def release(self, name: str, owner: str) -> None:
        """Give the lease up, if it is this owner's."""
        await self._database.update(self.COLLECTION, {"_id": name, "owner": owner}, {"$set": {"until": EARLIEST}})

    async def all(self) -> list[Document]:
        """Every roll-up's document, without what is pending."""
        fields = ["owner", "until", "position_at", "moved_at", "rebuilding"]
        return await self._database.find(self.COLLECTION, {}, projection=fields)

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
        """Move on from that position, which lies at `position_at` in the cluster's time; TransientError where another owner
        has the lease, or moved."""
        guard = {"_id": name, "owner": owner, "token": token}
        place: Document = {"position_at": None if position_at is None else list(position_at)}
        values = {"token": new_token, "pending": list(pending), "rebuilding": bool(pending), **place}
        change = {"$set": values, "$currentDate": {"moved_at": True}}
        if await self._database.bulk(self.COLLECTION, [UpdateOne(guard, change)], session) != 1:
            raise TransientError("another process reads this roll-up now")
