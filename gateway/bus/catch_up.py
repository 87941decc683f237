"""Subscribers that catch up: from the ring or, before it, from one shared catch-up stream."""

import asyncio
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass

import structlog

from gateway.bus.change_events import BusEvent, Position, Ring, bus_event_of
from gateway.bus.resume_schedule import ResumeQueue
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
    """Brings subscribers from their cursors to the newest event, where they become `live`. `run` must be running."""

    def __init__(self, database: Database, ring: Ring, live: Subscribers, queue_size: int) -> None:
        self._database = database
        self._ring = ring
        self._live = live
        self._queue_size = queue_size
        self._by_key: dict[Hashable, set[Subscriber]] = defaultdict(set)  # waiting, active or full
        self._waiting = ResumeQueue()
        self._active = Subscribers()
        self._has_waiting = asyncio.Event()
        self._log = structlog.get_logger("gateway.bus")

    async def run(self) -> None:
        """Serve the subscribers with cursors older than the ring, by one catch-up stream in turns."""
        while True:
            await self._has_waiting.wait()
            self._has_waiting.clear()
            while self._waiting:
                await self._take_turn()

    def begin(self, subscriber: Subscriber, after: Position, most: int | None) -> None:
        """Start at that position. RateLimitedError if `most` subscribers of the same owner catch up already."""
        self._check_resumes(subscriber.turn_key, most)
        subscriber.cursor = after
        self._by_key[subscriber.turn_key].add(subscriber)
        self._resume(subscriber)

    def discard(self, subscriber: Subscriber) -> None:
        subscriber.stop_timer()
        self._active.discard(subscriber)
        self._waiting.discard(subscriber)
        self._finish(subscriber)

    def published(self, event: BusEvent) -> None:
        """Continue with the subscribers whose cursors were ahead of this process: this event is now in the ring."""
        for subscriber in self._waiting.take(event.position.id):
            self._join_live(subscriber, event.position)

    def fail(self, error: GatewayError) -> None:
        for subscriber in [subscriber for subscribers in self._by_key.values() for subscriber in subscribers]:
            subscriber.fail(error)
            self._active.discard(subscriber)
            self._waiting.discard(subscriber)

    def record_read(self, subscriber: Subscriber) -> None:
        """Resume a full subscriber once half its queue is free; a slow one after a growing pause."""
        subscriber.read_count += 1
        if subscriber.full_since is None or len(subscriber.queue) > subscriber.limit // 2:
            return
        loop = asyncio.get_running_loop()
        is_slow = loop.time() - subscriber.full_since > _SLOW_SECONDS
        subscriber.pause = min(max(2 * subscriber.pause, _FIRST_PAUSE), _LONGEST_PAUSE) if is_slow else 0
        subscriber.full_since = None
        self._resume_later(subscriber, subscriber.pause)

    def _check_resumes(self, key: Hashable, most: int | None) -> None:
        if most is not None and len(self._by_key.get(key, ())) >= most:
            raise RateLimitedError(
                f"{most} subscriptions of this contact are catching up from old cursors, which is the limit: "
                f"try again in {_REFUSED_SECONDS} seconds.",
                _REFUSED_SECONDS,
            )

    def _finish(self, subscriber: Subscriber) -> None:
        subscriber.cursor = None
        key = subscriber.turn_key
        peers = self._by_key.get(key, set())
        peers.discard(subscriber)
        if not peers:
            self._by_key.pop(key, None)
            self._waiting.forget(key)

    def _resume(self, subscriber: Subscriber) -> None:
        """Continue after the cursor: from the ring, or in a turn of the catch-up stream."""
        subscriber.stop_timer()
        if subscriber.failure is not None or subscriber.cursor is None:
            return
        if subscriber.cursor.id in self._ring:
            self._join_live(subscriber, subscriber.cursor)
        else:
            self._waiting.add(subscriber)
            self._has_waiting.set()

    def _join_live(self, subscriber: Subscriber, cursor: Position) -> None:
        """Offer what the ring has after the cursor, then make the subscriber live; nothing is awaited between, so no
        event is missed. One that becomes full returns later for the rest."""
        for event in self._ring.after(cursor.id, subscriber.contact_ids):
            if not subscriber.offer(event):
                self._wait_for_space(subscriber, cursor)
                return
            cursor = event.position
        limit = self._queue_size
        subscriber.limit = max(limit, len(subscriber.queue) + limit // 2)
        self._finish(subscriber)
        if subscriber.failure is None:
            self._live.add(subscriber)

    def _wait_for_space(self, subscriber: Subscriber, cursor: Position) -> None:
        """Pause a full subscriber until half its queue is free; it fails if it reads nothing for _PATIENCE_SECONDS."""
        loop = asyncio.get_running_loop()
        subscriber.cursor, subscriber.full_since = cursor, loop.time()
        subscriber.timer = loop.call_later(_PATIENCE_SECONDS, self._check_progress, subscriber, subscriber.read_count)

    def _check_progress(self, subscriber: Subscriber, read_count: int) -> None:
        if subscriber.read_count == read_count:
            subscriber.fail(SlowReaderError())
        else:
            call_later = asyncio.get_running_loop().call_later
            subscriber.timer = call_later(_PATIENCE_SECONDS, self._check_progress, subscriber, subscriber.read_count)

    def _resume_later(self, subscriber: Subscriber, seconds: float) -> None:
        subscriber.stop_timer()
        if seconds:
            subscriber.timer = asyncio.get_running_loop().call_later(seconds, self._resume, subscriber)
        else:
            self._resume(subscriber)

    async def _take_turn(self) -> None:
        """Read from one cursor; subscribers with cursors on the way join in."""
        start, max_events, subscribers = self._waiting.begin_turn()
        keys = {subscriber.turn_key for subscriber in subscribers}
        for subscriber in subscribers:
            self._active.add(subscriber)
        turn = _Turn(start, max_events, max(subscriber.empty_turns for subscriber in subscribers))
        try:
            await self._read_turn(turn)
        except HistoryLostError:
            self._fail_active(turn, CursorExpiredError())
        except UnavailableError as error:
            self._log.warning("the catch-up stream broke; reopening it", reason=str(error))
            await asyncio.sleep(AGAIN_SECONDS)
        except Exception:
            self._log.exception("a cursor could not be resumed")
            self._fail_active(
                turn, BadRequestError("'after' is not a cursor of this stream: pass the cursor of a payload.")
            )
            await asyncio.sleep(AGAIN_SECONDS if turn.events else 0)
        self._waiting.count_turn(keys | {subscriber.turn_key for subscriber in self._active})
        self._requeue(turn)

    async def _read_turn(self, turn: "_Turn") -> None:
        """Read until the ring is reached, no active subscriber is left, or the turn is over and others wait."""
        async with self._database.watch(WATCHED, turn.position) as inserts:
            while self._active:
                insert = await inserts.next()
                if insert is None:
                    turn.polls += 1
                else:
                    self._dispatch(turn, bus_event_of(insert))
                    await asyncio.sleep(0)  # let readers drain their queues
                if turn.position.id in self._ring or (self._waiting and turn.is_over):
                    return

    def _dispatch(self, turn: "_Turn", event: BusEvent) -> None:
        """Offer an event to the active subscribers. Full ones leave; those that wait for this position join."""
        for subscriber in self._active.offer(event):
            self._active.discard(subscriber)
            self._wait_for_space(subscriber, turn.position)
        turn.position = event.position
        turn.events += 1
        for subscriber in self._waiting.take(event.position.id):
            self._active.add(subscriber)

    def _fail_active(self, turn: "_Turn", error: GatewayError) -> None:
        """Fail those that started at this cursor; after a later break the next turn finds the bad one."""
        for subscriber in self._active if not turn.events else ():
            subscriber.fail(error)

    def _requeue(self, turn: "_Turn") -> None:
        for subscriber in self._active:
            self._active.discard(subscriber)
            subscriber.cursor = turn.position
            is_empty = not turn.events and bool(turn.polls)
            subscriber.empty_turns = subscriber.empty_turns + 1 if is_empty else 0
            pause = min(_FIRST_PAUSE * 2**subscriber.empty_turns, _LONGEST_PAUSE) if is_empty else 0
            self._resume_later(subscriber, pause)


@dataclass(slots=True)
class _Turn:
    """One turn of the catch-up stream: its position, its limit while others wait, and what it read."""

    position: Position
    max_events: int
    empty_turns: int
    events: int = 0
    polls: int = 0

    @property
    def is_over(self) -> bool:
        """Whether others have waited for long enough. A position with nothing after it gets longer turns each time."""
        return self.events >= self.max_events or self.polls >= 1 << min(self.empty_turns, 4)
