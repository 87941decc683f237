"""How much of Klaviyo's rate windows is used: counted for all processes together, one document an operation."""

from datetime import datetime, timedelta
from typing import ClassVar

from pymongo import ASCENDING, IndexModel

from gateway.core.leases import latest_end
from gateway.core.time_ranges import EARLIEST
from gateway.store.driver import Document, DuplicateError
from gateway.store.repositories import Repository

_BURST = timedelta(seconds=1)
_STEADY = timedelta(seconds=60)
_TRIES = 5


class Quotas(Repository):
    """The windows of each operation of a workspace's account."""

    COLLECTION: ClassVar[str] = "klaviyo_quotas"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (IndexModel([("workspace_id", ASCENDING)], name="workspace"),)

    async def take(self, operation: str, wanted: int, limits: tuple[int, int], now: datetime) -> Document:
        """Take up to so many requests out of both windows; the document tells by `granted` how many were to be had, and
        by `closed_until`, `burst_until` and `steady_until` when more are. `limits`: of the burst and steady window."""
        free = [{"$subtract": [limit, f"${window}"]} for window, limit in zip(("burst", "steady"), limits, strict=True)]
        granted = {"$cond": [{"$gt": ["$closed_until", now]}, 0, {"$max": [0, {"$min": [wanted, *free]}]}]}
        change: list[Document] = [
            {"$set": _rolled("burst", now, _BURST) | _rolled("steady", now, _STEADY)},
            {"$set": {"granted": granted}},
            {"$set": {name: {"$add": [f"${name}", "$granted"]} for name in ("burst", "steady")}},
        ]
        return await self._changed(operation, change)

    async def close(self, operation: str, until: datetime) -> None:
        """Let nobody ask before that moment."""
        later = {"$cond": [{"$gt": ["$closed_until", until]}, "$closed_until", until]}
        await self._changed(operation, [{"$set": {"closed_until": later}}])

    async def correct(self, operation: str, used: int, limit: int, until: datetime, now: datetime) -> None:
        """Believe Klaviyo: so much of its steady window is used, and it ends at that moment."""
        more = {"$cond": [{"$gt": ["$steady", used]}, "$steady", used]}
        same = {"$cond": [{"$gt": ["$steady_until", now]}, more, used]}
        change: list[Document] = [{"$set": {"steady": same}}, {"$set": {"steady_until": until, "limit": limit}}]
        await self._changed(operation, change)

    async def _changed(self, operation: str, change: list[Document]) -> Document:
        id_ = f"{self._workspace_id} {operation}"
        for _ in range(_TRIES):  # not by an upsert: on the embedded server some of those that race find nothing
            found = await self._database.find_and_update(self.COLLECTION, {"_id": id_}, change)
            if found is not None:
                return found
            try:
                await self._database.insert(self.COLLECTION, [{"_id": id_, **_unused(self._workspace_id)}])
            except DuplicateError:
                continue
        raise DuplicateError


def _unused(workspace_id: str) -> Document:
    until = {"burst_until": EARLIEST, "steady_until": EARLIEST, "closed_until": EARLIEST}
    return {"workspace_id": workspace_id, "burst": 0, "steady": 0, "granted": 0, **until}


def _rolled(window: str, now: datetime, length: timedelta) -> Document:
    """A window that is over begins anew; one that ends too late was written by a wrong clock, and is over."""
    ends = f"${window}_until"
    over = {"$or": [{"$lte": [ends, now]}, {"$gt": [ends, latest_end(now, length)]}]}
    return {
        window: {"$cond": [over, 0, f"${window}"]},
        f"{window}_until": {"$cond": [over, now + length, f"${window}_until"]},
    }
