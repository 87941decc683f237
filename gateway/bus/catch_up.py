"""Subscribers that catch up: from the ring, and before it by one stream of the past, which nobody who is full holds up."""

import asyncio
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

import structlog

from gateway.bus.change_events import BusEvent, Position, Ring, bus_event_of
from gateway.bus.resume_schedule import Returning
from gateway.bus.subscribers import Subscriber, Subscribers
from gateway.errors import (
    BadRequestError,
    CursorExpiredError,
    GatewayError,
    RateLimitedError,
    SlowReaderError,
    UnavailableError,
)
from gateway.store.change_log import ChangeLog
from gateway.store.driver import Database, HistoryLostError
from gateway.store.events.events import Events

WATCHED = (Events.COLLECTION, ChangeLog.COLLECTION)
AGAIN_SECONDS = 0.5
_PATIENCE_SECONDS = 30.0
_SLOW_SECONDS, _FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 0.1, 10.0
_REFUSED_SECONDS = 5


class CatchUp:
    """Leads subscribers from their cursors to the present, where they become `live`. `run` must be under way."""

    def __init__(self, database: Database, ring: Ring, live: Subscribers, queue: int) -> None:
        self._database = database
        self._ring = ring
        self._live = live
        self._queue = queue
        self._by_key: dict[Hashable, set[Subscriber]] = defaultdict(set)  # waiting, under way, or full
        self._returning = Returning()
        self._under_way = Subscribers()
        self._someone_returns = asyncio.Event()
        self._log = structlog.get_logger("gateway.bus")

    async def run(self) -> None:
        """Serve those whose cursors lie before the ring, by one stream of the past in turns."""
        while True:
            await self._someone_returns.wait()
            self._someone_returns.clear()
            while self._returning:
                await self._take_turn()

    def begin(self, subscriber: Subscriber, after: Position, most: int | None) -> None:
        """Lead a subscriber on from there; RateLimitedError where `most` of its owner catch up already."""
        self._check_resumes(subscriber.turn_key, most)
        subscriber.cursor = after
        self._by_key[subscriber.turn_key].add(subscriber)
        self._return(subscriber)

    def discard(self, subscriber: Subscriber) -> None:
        """Forget a subscriber that is over."""
        subscriber.stop_timer()
        self._under_way.discard(subscriber)
        self._returning.discard(subscriber)
        self._has_caught_up(subscriber)

    def published(self, notice: BusEvent) -> None:
        """Go on with those whose cursors were ahead of this process: this notice is now in the ring."""
        for subscriber in self._returning.take(notice.position.id):
            self._join(subscriber, notice.position)

    def fail(self, error: GatewayError) -> None:
        """End all that catch up."""
        for subscriber in [subscriber for subscribers in self._by_key.values() for subscriber in subscribers]:
            subscriber.fail(error)
            self._under_way.discard(subscriber)
            self._returning.discard(subscriber)

    def note_taken(self, subscriber: Subscriber) -> None:
        """Let a subscriber that was full return once it has room: at once where it reads, and ever later where it does so
        slowly."""
        subscriber.taken += 1
        if subscriber.full_since is None or len(subscriber.queue) > subscriber.limit // 2:
            return
        loop = asyncio.get_running_loop()
        slow = loop.time() - subscriber.full_since > _SLOW_SECONDS
        subscriber.pause = min(max(2 * subscriber.pause, _FIRST_PAUSE), _LONGEST_PAUSE) if slow else 0
        subscriber.full_since = None
        self._return_later(subscriber, subscriber.pause)

    def _check_resumes(self, key: Hashable, most: int | None) -> None:
        if most is not None and len(self._by_key.get(key, ())) >= most:
            raise RateLimitedError(
                f"{most} subscriptions of this contact catch up from old cursors, and no more may at once: "
                f"try again in {_REFUSED_SECONDS} seconds.",
                _REFUSED_SECONDS,
            )

    def _has_caught_up(self, subscriber: Subscriber) -> None:
        subscriber.cursor = None
        key = subscriber.turn_key
        others = self._by_key.get(key, set())
        others.discard(subscriber)
        if not others:
            self._by_key.pop(key, None)
            self._returning.forget(key)

    def _return(self, subscriber: Subscriber) -> None:
        """Go on after the subscriber's cursor: from the ring, or in a turn with the stream of the past."""
        subscriber.stop_timer()
        if subscriber.failure is not None or subscriber.cursor is None:
            return
        if subscriber.cursor.id in self._ring:
            self._join(subscriber, subscriber.cursor)
        else:
            self._returning.add(subscriber)
            self._someone_returns.set()

    def _join(self, subscriber: Subscriber, cursor: Position) -> None:
        """Give what the ring has after that place, and from then on what comes: no moment lies between. Who becomes full on
        the way comes back for the rest."""
        for notice in self._ring.after(cursor.id, subscriber.contact_ids):
            if not subscriber.offer(notice):
                self._wait_for_room(subscriber, cursor)
                return
            cursor = notice.position
        limit = self._queue
        subscriber.limit = max(limit, len(subscriber.queue) + limit // 2)
        self._has_caught_up(subscriber)
        if subscriber.failure is None:
            self._live.add(subscriber)

    def _wait_for_room(self, subscriber: Subscriber, cursor: Position) -> None:
        """Leave a subscriber that is full alone until half its queue is free; one that takes nothing at all is ended."""
        loop = asyncio.get_running_loop()
        subscriber.cursor, subscriber.full_since = cursor, loop.time()
        subscriber.timer = loop.call_later(_PATIENCE_SECONDS, self._give_up, subscriber, subscriber.taken)

    def _give_up(self, subscriber: Subscriber, taken: int) -> None:
        if subscriber.taken == taken:
            subscriber.fail(SlowReaderError())
        else:
            again = asyncio.get_running_loop().call_later
            subscriber.timer = again(_PATIENCE_SECONDS, self._give_up, subscriber, subscriber.taken)

    def _return_later(self, subscriber: Subscriber, seconds: float) -> None:
        subscriber.stop_timer()
        if seconds:
            subscriber.timer = asyncio.get_running_loop().call_later(seconds, self._return, subscriber)
        else:
            self._return(subscriber)

    async def _take_turn(self) -> None:
        """A turn for those of one cursor, and for others whose cursors are met on the way."""
        start, most, group = self._returning.begin_turn()
        keys = {subscriber.turn_key for subscriber in group}
        for subscriber in group:
            self._under_way.add(subscriber)
        turn = _Turn(start, most, max(subscriber.barren_turns for subscriber in group))
        try:
            await self._catch_up(turn)
        except HistoryLostError:
            self._refuse(turn, CursorExpiredError())
        except UnavailableError as error:
            self._log.warning("the stream of the past broke off and is opened again", reason=str(error))
            await asyncio.sleep(AGAIN_SECONDS)
        except Exception:
            self._log.exception("a cursor cannot be followed")
            self._refuse(turn, BadRequestError("'after' is not a cursor of this stream: pass one that a payload gave."))
            await asyncio.sleep(AGAIN_SECONDS if turn.notices else 0)
        self._returning.count_turn(keys | {subscriber.turn_key for subscriber in self._under_way})
        self._put_back(turn)

    async def _catch_up(self, turn: "_Turn") -> None:
        """Read the past until it meets the ring, nobody is left who has room, or others had to wait for long enough."""
        async with self._database.watch(WATCHED, turn.here) as inserts:
            while self._under_way:
                insert = await inserts.next()
                if insert is None:
                    turn.polls += 1
                else:
                    self._hand_out(turn, bus_event_of(insert))
                    await asyncio.sleep(0)  # who reads makes room meanwhile
                if turn.here.id in self._ring or (self._returning and turn.is_over):
                    return

    def _hand_out(self, turn: "_Turn", notice: BusEvent) -> None:
        """Offer a notice to those under way: who is full leaves them at once. Who waits for this place comes along."""
        for subscriber in self._under_way.offer(notice):
            self._under_way.discard(subscriber)
            self._wait_for_room(subscriber, turn.here)
        turn.here = notice.position
        turn.notices += 1
        for subscriber in self._returning.take(notice.position.id):
            self._under_way.add(subscriber)

    def _refuse(self, turn: "_Turn", error: GatewayError) -> None:
        """End those whose cursor it is that leads nowhere; where the stream broke later, the next turn shows who that is."""
        for subscriber in self._under_way if not turn.notices else ():
            subscriber.fail(error)

    def _put_back(self, turn: "_Turn") -> None:
        for subscriber in self._under_way:
            self._under_way.discard(subscriber)
            subscriber.cursor = turn.here
            barren = not turn.notices and bool(turn.polls)
            subscriber.barren_turns = subscriber.barren_turns + 1 if barren else 0
            pause = min(_FIRST_PAUSE * 2**subscriber.barren_turns, _LONGEST_PAUSE) if barren else 0
            self._return_later(subscriber, pause)


@dataclass(slots=True)
class _Turn:
    """A look at the past: where it is, how many notices it may hand out while others wait, and what there was."""

    here: Position
    most: int
    barren_turns: int
    notices: int = 0
    polls: int = 0

    @property
    def is_over(self) -> bool:
        """Whether others have waited for long enough; a place after which nothing comes is looked at longer each time."""
        return self.notices >= self.most or self.polls >= 1 << min(self.barren_turns, 4)
