"""The bus of one process: reads the stream, keeps the newest of it, and gives each subscriber what it asked for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from gateway.bus.catch_up import AGAIN_SECONDS, WATCHED, CatchUp
from gateway.bus.change_events import BusEvent, Position, Ring, bus_event_of
from gateway.bus.subscribers import Predicate, Subscriber, Subscribers
from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.errors import (
    CursorExpiredError,
    GatewayError,
    SlowReaderError,
    UnavailableError,
)
from gateway.observability import Metrics
from gateway.store.change_log import ChangeLog, heartbeat
from gateway.store.driver import Database, HistoryLostError, InsertStream

OnCaughtUp = Callable[[Subscriber], None]
_START_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class BusLimits:
    """How much the bus keeps, and how often it says where it is."""

    ring_size: int = 10_000
    queue_size: int = 1_000
    checkpoint_seconds: float = 30.0
    heartbeat_seconds: float = 600.0


class Bus:
    """One stream, many subscribers. `run` must be under way for anything to arrive."""

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
        self._moved_at = 0.0
        self.running = False
        self._log = structlog.get_logger("gateway.bus")

    async def run(self) -> None:
        """Read the stream until cancelled; it is opened again, where it was, whenever it breaks."""
        self.running = True
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self._catch_up.run())
                tasks.create_task(self._write_heartbeats())
        finally:
            self.running = False

    async def position(self) -> Position:
        """Where the stream is now: what is committed later comes after it, and nothing that came before is missed."""
        return await self._now()

    def oldest_after(self, at: tuple[int, int]) -> int | None:
        """When (in unix seconds) the oldest change that is known here and younger than that time of the cluster was made."""
        notice = self._ring.first_after(at)
        return None if notice is None else notice.position.at[0]

    async def subscribe(
        self,
        workspace_id: str,
        wanted: Predicate,
        after: Position | None,
        resting: OnCaughtUp | None = None,
        *,
        contact_ids: set[str] | None = None,
        owner: str = "",
        most_resumes: int | None = None,
    ) -> AsyncIterator[BusEvent | Position]:
        """What is wanted of that workspace, in order, once each, from `after` (or now) on; a Position where nothing
        came for a while. `resting` is told whenever all was given. CursorExpiredError, SlowReaderError.

        `contact_ids`: nothing is wanted but what names one of these; `wanted` adds who takes them over. `most_resumes`: how
        many subscriptions of that owner may catch up at once, or RateLimitedError."""
        subscriber = Subscriber(workspace_id, wanted, self._limits.queue_size, owner, contact_ids)
        loop = asyncio.get_running_loop()
        async with self._attached(subscriber, after, most_resumes):
            checkpoint_at = loop.time() + self._limits.checkpoint_seconds
            while subscriber.failure is None and not subscriber.is_over:
                while subscriber.queue:
                    yield subscriber.queue.popleft()
                    self._catch_up.note_taken(subscriber)
                if loop.time() >= checkpoint_at:
                    checkpoint_at = loop.time() + self._limits.checkpoint_seconds
                    if (here := self._checkpoint_of(subscriber)) is not None:
                        yield here
                elif subscriber.failure is None:
                    subscriber.ready.clear()
                    subscriber.is_waiting = True
                    if resting is not None and subscriber.caught_up:
                        resting(subscriber)
                    await _set_within(subscriber.ready, checkpoint_at - loop.time())
                    subscriber.is_waiting = False
            if subscriber.failure is not None:
                raise subscriber.failure

    def _checkpoint_of(self, subscriber: Subscriber) -> Position | None:
        """Up to where a subscriber that has nothing queued was given everything; None while it catches up, or failed."""
        last = self._ring.last
        given = subscriber.failure is None and subscriber.cursor is None and not subscriber.queue
        return last.position if last is not None and given else None

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

    async def _follow(self) -> None:
        while True:
            last = self._ring.last
            try:
                async with self._database.watch(WATCHED, last.position if last else None) as inserts:
                    await self._read(inserts)
            except HistoryLostError:
                self._log.warning("the stream lost its place: every subscriber must load anew")
                self._fail_all(CursorExpiredError())
            except UnavailableError as error:
                self._log.warning("the stream broke off and is opened again", reason=str(error))
                await asyncio.sleep(AGAIN_SECONDS)
            except Exception:
                self._log.exception("the stream failed and is opened again")
                await asyncio.sleep(AGAIN_SECONDS)

    async def _read(self, inserts: InsertStream) -> None:
        if self._ring.last is None:
            first = await inserts.next()  # only now the stream is open, with every driver
            await self._write_heartbeat()
            if first is not None:
                self._publish(bus_event_of(first))
        while True:
            if (insert := await inserts.next()) is not None:
                self._publish(bus_event_of(insert))
                self._started.set()
                await asyncio.sleep(0)  # a batch that arrived at once must not fill the queues of those who do read

    def _publish(self, notice: BusEvent) -> None:
        if notice.position.id in self._ring:
            return
        self._ring.add(notice)
        self._metrics.bus_lag.set(max(0.0, self._clock().timestamp() - notice.position.at[0] - 1))
        self._moved_at = asyncio.get_running_loop().time()
        for subscriber in self._live.offer(notice):
            subscriber.fail(SlowReaderError())
        self._catch_up.published(notice)

    def _fail_all(self, error: GatewayError) -> None:
        self._ring.clear()
        self._started.clear()
        for subscriber in self._live:
            subscriber.fail(error)
        self._catch_up.fail(error)

    async def _write_heartbeats(self) -> None:
        """In a quiet hour write a mark now and then, so that no cursor grows older than the server's history."""
        while True:
            await asyncio.sleep(self._limits.heartbeat_seconds / 2)
            if asyncio.get_running_loop().time() - self._moved_at >= self._limits.heartbeat_seconds / 2:
                try:
                    await self._write_heartbeat()
                except Exception:
                    self._log.exception("no mark could be written")

    async def _write_heartbeat(self) -> None:
        """A line of the journal that belongs to no workspace: a place in the stream that every process sees."""
        now = self._clock()
        line = heartbeat(self._minter.mint(Prefix.CHANGE, now), now)
        await self._database.insert(ChangeLog.COLLECTION, [line])


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):  # wait_for forgets a cancellation that comes with the event (Python 3.11)
            await event.wait()
    except TimeoutError:
        return False
    return True
