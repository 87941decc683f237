"""Timers: set and cancelled in the transaction of a change, deleted in the transaction of what they trigger."""

import operator
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import ClassVar, cast

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.core.leases import latest_end
from gateway.core.timers import LONGEST_PAUSE, TimerDocument, backoff_after
from gateway.store.driver import Database, Session
from gateway.store.repositories import Repository

_MAX_RESET = 1000


class TimerTakenError(Exception):
    """The timer is gone: another process ran it, or it was moved or cancelled. There is nothing to do."""


class Timers(Repository[TimerDocument]):
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

    async def set(self, timers: Iterable[TimerDocument], session: Session) -> None:
        """Set these timers. A timer of the same kind and subject is moved."""
        upserts = [
            UpdateOne(
                {"_id": timer["_id"], "workspace_id": self._workspace_id},
                {"$set": {name: value for name, value in timer.items() if name != "_id"}},
                upsert=True,
            )
            for timer in timers
        ]
        await self._database.bulk(self.COLLECTION, upserts, session)

    async def cancel(self, ids: Sequence[str], session: Session) -> None:
        if ids:
            filter_ = {"_id": {"$in": list(ids)}, "workspace_id": self._workspace_id}
            await self._database.delete(self.COLLECTION, filter_, session)

    async def take(self, timer: TimerDocument, session: Session) -> None:
        """Delete the timer in the transaction of what it triggers; TimerTakenError if it changed since it was read."""
        guard = {"_id": timer["_id"], "workspace_id": self._workspace_id, "due_at": timer["due_at"]}
        if await self._database.delete(self.COLLECTION, guard, session) != 1:
            raise TimerTakenError


async def timers_due(database: Database, kinds: Collection[str], now: datetime, limit: int) -> list[TimerDocument]:
    """The due timers of these kinds in every workspace, longest due first. Timers of unknown kinds, set by a newer
    version, do not block them."""
    due = {"next_at": {"$lte": now}}
    rows = cast(list[TimerDocument], await database.find(Timers.COLLECTION, due, sort={"next_at": 1}, limit=limit))
    timers = [timer for timer in rows if timer["kind"] in kinds]
    if len(rows) == limit and len(timers) < limit:
        of_kinds = {**due, "kind": {"$in": sorted(kinds)}}
        due_rows = await database.find(Timers.COLLECTION, of_kinds, sort={"next_at": 1}, limit=limit)
        timers = cast(list[TimerDocument], due_rows)
    return sorted(timers, key=operator.itemgetter("due_at"))


async def reset_postponed_timers(database: Database, now: datetime) -> int:
    """Make timers due now that are postponed for longer than any pause: a wrong clock did it. Returns their number."""
    postponed = {"attempts": {"$gt": 0}, "next_at": {"$gt": latest_end(now, LONGEST_PAUSE)}}
    rows = await database.find(Timers.COLLECTION, postponed, limit=_MAX_RESET)
    guards = [{name: row[name] for name in ("_id", "next_at")} for row in rows]
    return await database.bulk(Timers.COLLECTION, [UpdateOne(guard, {"$set": {"next_at": now}}) for guard in guards])


async def claim_timer(database: Database, timer: TimerDocument, now: datetime) -> bool:
    """Claim the next attempt; False if another process did. An attempt that never ends is repeated later."""
    guard = {"_id": timer["_id"], "due_at": timer["due_at"], "next_at": timer["next_at"]}
    attempts = timer["attempts"]
    claim = {"$set": {"attempts": attempts + 1, "next_at": now + backoff_after(attempts)}}
    return await database.update(Timers.COLLECTION, guard, claim) == 1
