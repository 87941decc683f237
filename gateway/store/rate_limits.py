"""Rate limit counters, shared by all gateways on a database: one document per limit and caller."""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import ClassVar

from pymongo import ASCENDING, IndexModel
from pymongo.errors import PyMongoError

from gateway.core.leases import latest_end
from gateway.errors import UnavailableError
from gateway.store.deadlines import answered_by, moment_in
from gateway.store.driver import Database, DuplicateError

_ATTEMPTS = 3
_QUEUE_SECONDS = 1.0


class RateLimitCounters:
    """The counters of a deployment. Calls wait at most `patience` seconds."""

    COLLECTION: ClassVar[str] = "rate_limits"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0, name="expiry"),
    )

    def __init__(self, database: Database, patience: float) -> None:
        self._database = database
        self._patience = patience

    async def add(self, key: str, amount: int, now: datetime, window: timedelta) -> tuple[int, datetime]:
        """Add to the current window, or start one; returns the count and the end of the window.

        UnavailableError on any failure: whether it was counted is unknown."""
        try:
            # Motor's calls wait for a thread first. PyMongo has given up by then.
            async with asyncio.timeout(self._patience + _QUEUE_SECONDS):
                with answered_by(moment_in(self._patience)):
                    return await self._add(key, amount, now, window)
        except (TimeoutError, PyMongoError) as error:
            raise UnavailableError from error

    async def _add(self, key: str, amount: int, now: datetime, window: timedelta) -> tuple[int, datetime]:
        # A window that ends later than one that starts now was written by a wrong clock.
        is_over = {"$or": [{"$lte": ["$expires_at", now]}, {"$gt": ["$expires_at", latest_end(now, window)]}]}
        change = {
            "count": {"$cond": [is_over, amount, {"$add": ["$count", amount]}]},
            "expires_at": {"$cond": [is_over, now + window, "$expires_at"]},
        }
        for _ in range(_ATTEMPTS):  # no upsert: when several race, the embedded server returns nothing to some
            counter = await self._database.find_and_update(self.COLLECTION, {"_id": key}, [{"$set": change}])
            if counter is not None:
                return counter["count"], counter["expires_at"]
            with suppress(DuplicateError):
                new = {"_id": key, "count": amount, "expires_at": now + window}
                await self._database.insert(self.COLLECTION, [new])
                return amount, now + window
        raise UnavailableError
