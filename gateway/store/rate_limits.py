"""Counters of rate limits that all gateways on a database share: one document for each limit of each caller."""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import ClassVar

from pymongo import ASCENDING, IndexModel
from pymongo.errors import PyMongoError

from gateway.core.leases import latest_end
from gateway.errors import UnavailableError
from gateway.store.deadlines import answered_by, moment_in
from gateway.store.driver import Database, DuplicateError

_TRIES = 3


class RateLimitCounters:
    """The counters of a deployment. Nothing waits long for them."""

    COLLECTION: ClassVar[str] = "rate_limits"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0, name="expiry"),
    )

    def __init__(self, database: Database, patience: float) -> None:
        self._database = database
        self._patience = patience

    async def add(self, key: str, amount: int, now: datetime, window: timedelta) -> tuple[int, datetime]:
        """Count up in the window that is under way, or begin one; the count, and when that window ends.

        UnavailableError whatever is wrong: whether it was counted is unknown."""
        try:
            async with answered_by(moment_in(self._patience)):
                return await self._add(key, amount, now, window)
        except PyMongoError as error:
            raise UnavailableError from error

    async def _add(self, key: str, amount: int, now: datetime, window: timedelta) -> tuple[int, datetime]:
        # A window that ends later than one that began now was written by a wrong clock.
        over = {"$or": [{"$lte": ["$expires_at", now]}, {"$gt": ["$expires_at", latest_end(now, window)]}]}
        change = {
            "count": {"$cond": [over, amount, {"$add": ["$count", amount]}]},
            "expires_at": {"$cond": [over, now + window, "$expires_at"]},
        }
        for _ in range(_TRIES):  # not by an upsert: on the embedded server some of those that race find nothing
            found = await self._database.find_and_update(self.COLLECTION, {"_id": key}, [{"$set": change}])
            if found is not None:
                return found["count"], found["expires_at"]
            with suppress(DuplicateError):
                new = {"_id": key, "count": amount, "expires_at": now + window}
                await self._database.insert(self.COLLECTION, [new])
                return amount, now + window
        raise UnavailableError
