"""Roll-ups: who reads the stream for them, and up to where what it tells is contained in their totals."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from pymongo import UpdateOne

from gateway.store.driver import Database, Document, DuplicateError, Session, TransientError


class RollUps:
    """One document per roll-up: the owner of its lease, its position in the stream, and what is to be counted anew."""

    COLLECTION: ClassVar[str] = "roll_ups"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, name: str, owner: str, now: datetime, until: datetime) -> Document | None:
        """The roll-up's document, if nobody else holds its lease; it is then held until that moment."""
        found = await self._database.find_one(self.COLLECTION, {"_id": name})
        if found is None:
            found = {"_id": name, "token": None, "pending": [], "owner": "", "until": now}
            try:
                await self._database.insert(self.COLLECTION, [found])
            except DuplicateError:
                return None
        if found["until"] > now and found["owner"] != owner:
            return None
        guard = {"_id": name, "owner": found["owner"], "until": found["until"]}
        held = {"owner": owner, "until": until}
        return {**found, **held} if await self._database.update(self.COLLECTION, guard, {"$set": held}) else None

    async def renew(self, name: str, owner: str, until: datetime) -> bool:
        """Whether the lease is still held; it is then held until that moment."""
        return (
            await self._database.update(self.COLLECTION, {"_id": name, "owner": owner}, {"$set": {"until": until}}) == 1
        )

    async def save(
        self,
        name: str,
        owner: str,
        token: str | None,
        *,
        new_token: str | None,
        pending: Sequence[Document],
        session: Session = None,
    ) -> None:
        """Move on from that position; TransientError where another owner has the lease, or moved."""
        guard = {"_id": name, "owner": owner, "token": token}
        change = {"$set": {"token": new_token, "pending": list(pending)}}
        if await self._database.bulk(self.COLLECTION, [UpdateOne(guard, change)], session) != 1:
            raise TransientError("another process reads this roll-up now")
