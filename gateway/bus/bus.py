"""The bus of one process: reads the change stream, keeps the newest events, and serves every subscriber."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from gateway.bus.catch_up import AGAIN_SECONDS, WATCHED, CatchUp
from gateway.bus.change_events import BusEvent, Position, Ring, bus_event_of
from gateway.bus.subscribers import Predicate, Subscriber, Subscribers
from gateway.core.background import run_forever
from gateway.core.clock import Clock
from gateway.core.ids import Minter
from gateway.domain.changes import heartbeat, new_change_id
from gateway.errors import (
    CursorExpiredError,
    GatewayError,
    SlowReaderError,
    UnavailableError,
)
from gateway.observability import Metrics
from gateway.store.change_log import append
from gateway.store.driver import Database, HistoryLostError, InsertStream

OnCaughtUp = Callable[[Subscriber], None]
_START_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class BusLimits:
    """Sizes in events: of the ring, and of one subscriber's queue."""

    ring_size: int = 10_000
    queue_size: int = 1_000
    checkpoint_seconds: float = 30.0
    heartbeat_seconds: float = 600.0


class Bus:
    """One change stream for many subscribers. Events arrive only while `run` is running."""

    def __init__(self, database: Database, clock: Clock, minter: Minter, limits: BusLimits, metrics: Metrics) -> None:
        self._database = database
        self._clock = clock
        self._minter = minter
        self._limits = limits
        self._metrics = metrics
        self._ring = Ring(limits.ring_size)
        self._live = Subscribers()
        self._catch_up = CatchUp(database, self._ring, self._live, limits.queue_size)
        self._started = asyncio.Event()
        self._last_event_at = 0.0
        self.running = False
        self._log = structlog.get_logger("gateway.bus")

    async def run(self) -> None:
        """Read the change stream until cancelled. It is reopened at the same position when it breaks."""
        self.running = True
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(
                    run_forever(
                        self._follow,
                        AGAIN_SECONDS,
                        self._log,
                        unavailable="the change stream broke; reopening it",
                        failed="the change stream failed; reopening it",
                    )
                )
                tasks.create_task(self._catch_up.run())
                tasks.create_task(self._write_heartbeats())
        finally:
            self.running = False

    async def position(self) -> Position:
        """The newest position. Every later commit comes after it; every earlier one is before it."""
        return await self._now()

    def oldest_after(self, at: tuple[int, int]) -> int | None:
        """Unix time of the oldest event in memory that is younger than that cluster time; None if there is none."""
        event = self._ring.first_after(at)
        return None if event is None else event.position.at[0]

    async def subscribe(
        self,
        workspace_id: str,
        predicate: Predicate,
        after: Position | None,
        on_caught_up: OnCaughtUp | None = None,
        *,
        contact_ids: set[str] | None = None,
        owner: str = "",
        most_resumes: int | None = None,
    ) -> AsyncIterator[BusEvent | Position]:
        """Yield the workspace's events that match the predicate, in order, once each, after `after` (or from now on);
        and a Position as a checkpoint at each interval. `on_caught_up` is called whenever the queue is empty and no
        older event is missing.

        `contact_ids`: only events that name one of these contacts are offered; the predicate may add ids after a merge.
        `most_resumes`: how many subscriptions of `owner` may catch up at once. Raises RateLimitedError above that,
        CursorExpiredError, SlowReaderError."""
        subscriber = Subscriber(workspace_id, predicate, self._limits.queue_size, owner, contact_ids)
        loop = asyncio.get_running_loop()
        async with self._attached(subscriber, after, most_resumes):
            checkpoint_at = loop.time() + self._limits.checkpoint_seconds
            while subscriber.failure is None and not subscriber.is_over:
                while subscriber.queue:
                    yield subscriber.queue.popleft()
                    self._catch_up.record_read(subscriber)
                if loop.time() >= checkpoint_at:
                    checkpoint_at = loop.time() + self._limits.checkpoint_seconds
                    if (position := self._checkpoint_of(subscriber)) is not None:
                        yield position
                elif subscriber.failure is None:
                    subscriber.ready.clear()
                    subscriber.is_waiting = True
                    if on_caught_up is not None and subscriber.caught_up:
                        on_caught_up(subscriber)
                    await _set_within(subscriber.ready, checkpoint_at - loop.time())
                    subscriber.is_waiting = False
            if subscriber.failure is not None:
                raise subscriber.failure

    def _checkpoint_of(self, subscriber: Subscriber) -> Position | None:
        """The newest position, if the subscriber received everything up to it."""
        newest = self._ring.last
        is_drained = subscriber.failure is None and subscriber.cursor is None and not subscriber.queue
        return newest.position if newest is not None and is_drained else None

    @asynccontextmanager
    async def _attached(
        self, subscriber: Subscriber, after: Position | None, most_resumes: int | None
    ) -> AsyncIterator[None]:
        await self._now()
        if after is None:
            self._live.add(subscriber)
        else:
            self._catch_up.begin(subscriber, after, most_resumes)
        self._metrics.subscribers.inc()
        try:
            yield
        finally:
            self._detach(subscriber)

    def _detach(self, subscriber: Subscriber) -> None:
        self._metrics.subscribers.dec(subscriber.listeners)
        if isinstance(subscriber.failure, SlowReaderError):
            self._metrics.queue_drops.inc(subscriber.listeners)
        subscriber.listeners = 0
        subscriber.fail(subscriber.failure or SlowReaderError())
        self._live.discard(subscriber)
        self._catch_up.discard(subscriber)

    async def _now(self) -> Position:
        if not await _set_within(self._started, _START_SECONDS) or self._ring.last is None:
            raise UnavailableError
        return self._ring.last.position

    async def _follow(self) -> float:
        newest = self._ring.last
        try:
            async with self._database.watch(WATCHED, newest.position if newest else None) as inserts:
                await self._read(inserts)
        except HistoryLostError:
            self._log.warning("the change stream cannot be resumed: subscribers must reload")
            self._fail_all(CursorExpiredError())
        return 0.0

    async def _read(self, inserts: InsertStream) -> None:
        if self._ring.last is None:
            first = await inserts.next()  # with every driver the stream is open only after the first read
            await self._write_heartbeat()
            if first is not None:
                self._publish(bus_event_of(first))
        while True:
            if (insert := await inserts.next()) is not None:
                self._publish(bus_event_of(insert))
                self._started.set()
                await asyncio.sleep(0)  # let readers drain their queues within a batch

    def _publish(self, event: BusEvent) -> None:
        if event.position.id in self._ring:
            return
        self._ring.add(event)
        self._metrics.bus_lag.set(max(0.0, self._clock().timestamp() - event.position.at[0] - 1))
        self._last_event_at = asyncio.get_running_loop().time()
        for subscriber in self._live.offer(event):
            subscriber.fail(SlowReaderError())
        self._catch_up.published(event)

    def _fail_all(self, error: GatewayError) -> None:
        self._ring.clear()
        self._started.clear()
        for subscriber in self._live:
            subscriber.fail(error)
        self._catch_up.fail(error)

    async def _write_heartbeats(self) -> None:
        """Write a heartbeat when no event came for a while, so that no cursor grows older than the server's history."""
        while True:
            await asyncio.sleep(self._limits.heartbeat_seconds / 2)
            if asyncio.get_running_loop().time() - self._last_event_at >= self._limits.heartbeat_seconds / 2:
                try:
                    await self._write_heartbeat()
                except Exception:
                    self._log.exception("heartbeat could not be written")

    async def _write_heartbeat(self) -> None:
        now = self._clock()
        await append(self._database, heartbeat(new_change_id(self._minter, now), now))


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):  # wait_for forgets a cancellation that comes with the event (Python 3.11)
            await event.wait()
    except TimeoutError:
        return False
    return True
