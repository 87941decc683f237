"""Use of Klaviyo's rate windows by all processes together: one document per operation."""

from datetime import datetime, timedelta
from typing import ClassVar, cast

from pymongo import ASCENDING, IndexModel

from gateway.core.leases import latest_end
from gateway.core.time_ranges import EARLIEST
from gateway.destinations.klaviyo.documents import RateWindowsDocument
from gateway.store.driver import Document, DuplicateError
from gateway.store.repositories import Repository

_BURST = timedelta(seconds=1)
_STEADY = timedelta(seconds=60)
_ATTEMPTS = 5


class RateWindows(Repository[RateWindowsDocument]):
    """The rate windows of each operation of a workspace's Klaviyo account."""

    COLLECTION: ClassVar[str] = "klaviyo_quotas"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (IndexModel([("workspace_id", ASCENDING)], name="workspace"),)

    async def take(self, operation: str, requests: int, limits: tuple[int, int], now: datetime) -> RateWindowsDocument:
        """Take up to that many requests from both windows. The document says how many in `granted`, and in
        `closed_until`, `burst_until` and `steady_until` when there are more. `limits`: of the burst and the steady
        window."""
        free = [{"$subtract": [limit, f"${window}"]} for window, limit in zip(("burst", "steady"), limits, strict=True)]
        granted = {"$cond": [{"$gt": ["$closed_until", now]}, 0, {"$max": [0, {"$min": [requests, *free]}]}]}
        change: list[Document] = [
            {"$set": _roll_over("burst", now, _BURST) | _roll_over("steady", now, _STEADY)},
            {"$set": {"granted": granted}},
            {"$set": {name: {"$add": [f"${name}", "$granted"]} for name in ("burst", "steady")}},
        ]
        return await self._update(operation, change)

    async def close(self, operation: str, until: datetime) -> None:
        """Grant nothing before that moment."""
        closed_until = {"$cond": [{"$gt": ["$closed_until", until]}, "$closed_until", until]}
        await self._update(operation, [{"$set": {"closed_until": closed_until}}])

    async def correct(self, operation: str, used: int, limit: int, until: datetime, now: datetime) -> None:
        """Take over what Klaviyo reports: the used part of the steady window, and its end."""
        larger = {"$cond": [{"$gt": ["$steady", used]}, "$steady", used]}
        steady = {"$cond": [{"$gt": ["$steady_until", now]}, larger, used]}
        change: list[Document] = [{"$set": {"steady": steady}}, {"$set": {"steady_until": until, "limit": limit}}]
        await self._update(operation, change)

    async def _update(self, operation: str, change: list[Document]) -> RateWindowsDocument:
        id_ = f"{self._workspace_id} {operation}"
        for _ in range(_ATTEMPTS):  # no upsert: when several race, the embedded server returns nothing to some
            window = await self._database.find_and_update(self.COLLECTION, {"_id": id_}, change)
            if window is not None:
                return cast(RateWindowsDocument, window)
            try:
                await self._database.insert(self.COLLECTION, [{"_id": id_, **_new_windows(self._workspace_id)}])
            except DuplicateError:
                continue
        raise DuplicateError


def _new_windows(workspace_id: str) -> Document:
    until = {"burst_until": EARLIEST, "steady_until": EARLIEST, "closed_until": EARLIEST}
    return {"workspace_id": workspace_id, "burst": 0, "steady": 0, "granted": 0, **until}


def _roll_over(window: str, now: datetime, length: timedelta) -> Document:
    """Restart a window that is over. One that ends too late was written by a wrong clock and counts as over."""
    ends = f"${window}_until"
    is_over = {"$or": [{"$lte": [ends, now]}, {"$gt": [ends, latest_end(now, length)]}]}
    return {
        window: {"$cond": [is_over, 0, f"${window}"]},
        f"{window}_until": {"$cond": [is_over, now + length, f"${window}_until"]},
    }
