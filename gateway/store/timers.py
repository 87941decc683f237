"""Timers as MongoDB keeps them: set and cancelled in the transaction of a change, taken in that of what they set off."""

import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.core.leases import latest_end
from gateway.core.timers import LONGEST_PAUSE, backoff_after
from gateway.store.driver import Database, Document, Session
from gateway.store.repositories import Repository

_MOST_BROUGHT = 1000


class TimerTakenError(Exception):
    """This timer is no more: it was fired elsewhere, moved or cancelled. Nothing is to be done for it."""


class Timers(Repository):
    """The timers of one workspace."""

    COLLECTION: ClassVar[str] = "timers"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("next_at", ASCENDING)], name="next"),
        IndexModel(
            [("attempts", ASCENDING), ("next_at", ASCENDING)],
            name="tried",
            partialFilterExpression={"attempts": {"$gt": 0}},
        ),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING)], name="contact"),
    )

    async def set(self, timers: Iterable[Document], session: Session) -> None:
        """Set these timers; one of the same kind and subject is moved."""
        setting = [
            UpdateOne(
                {"_id": timer["_id"], "workspace_id": self._workspace_id},
                {"$set": {name: value for name, value in timer.items() if name != "_id"}},
                upsert=True,
            )
            for timer in timers
        ]
        await self._database.bulk(self.COLLECTION, setting, session)

    async def cancel(self, ids: Sequence[str], session: Session) -> None:
        """Delete the timers with those ids, as far as there are any."""
        if ids:
            filter_ = {"_id": {"$in": list(ids)}, "workspace_id": self._workspace_id}
            await self._database.delete(self.COLLECTION, filter_, session)

    async def take(self, timer: Mapping[str, Any], session: Session) -> None:
        """Delete the timer in the transaction of what it sets off; TimerTakenError where it is not there as it was read."""
        guard = {"_id": timer["_id"], "workspace_id": self._workspace_id, "due_at": timer["due_at"]}
        if await self._database.delete(self.COLLECTION, guard, session) != 1:
            raise TimerTakenError


async def timers_due(database: Database, kinds: Collection[str], now: datetime, limit: int) -> list[Document]:
    """The timers of these kinds that are due in any workspace and nobody works at, the longest due first; so many at
    most. Those of other kinds, which a newer process set, do not stand in their way."""
    due = {"next_at": {"$lte": now}}
    read = await database.find(Timers.COLLECTION, due, sort={"next_at": 1}, limit=limit)
    found = [timer for timer in read if timer["kind"] in kinds]
    if len(read) == limit and len(found) < limit:
        known = {**due, "kind": {"$in": sorted(kinds)}}
        found = await database.find(Timers.COLLECTION, known, sort={"next_at": 1}, limit=limit)
    return sorted(found, key=operator.itemgetter("due_at"))


async def bring_forward(database: Database, now: datetime) -> int:
    """Let timers be tried now whose next try lies further ahead than any pause: a wrong clock put them off. How many."""
    put_off = {"attempts": {"$gt": 0}, "next_at": {"$gt": latest_end(now, LONGEST_PAUSE)}}
    rows = await database.find(Timers.COLLECTION, put_off, limit=_MOST_BROUGHT)
    guards = [{name: row[name] for name in ("_id", "next_at")} for row in rows]
    return await database.bulk(Timers.COLLECTION, [UpdateOne(guard, {"$set": {"next_at": now}}) for guard in guards])


async def claim_timer(database: Database, timer: Mapping[str, Any], now: datetime) -> bool:
    """Whether this process is the one that now tries it; if it does not come to an end, somebody tries again later."""
    guard = {name: timer[name] for name in ("_id", "due_at", "next_at")}
    attempts = timer["attempts"]
    claimed = {"$set": {"attempts": attempts + 1, "next_at": now + backoff_after(attempts)}}
    return await database.update(Timers.COLLECTION, guard, claimed) == 1
