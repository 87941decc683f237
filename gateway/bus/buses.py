"""The bus of one process: reads the stream, keeps the newest of it, and gives each subscriber what it asked for."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from gateway.bus.notices import Notice, Position, Ring, notice_of
from gateway.domain.clocks import Clock
from gateway.domain.ids import Minter, Prefix
from gateway.errors import BadRequestError, CursorExpiredError, GatewayError, SlowReaderError, UnavailableError
from gateway.observability import Metrics
from gateway.store.changes import Changes, mark
from gateway.store.driver import Database, HistoryLostError, Inserts
from gateway.store.events import Events

WATCHED = (Events.COLLECTION, Changes.COLLECTION)
Wanted = Callable[[Notice], bool]
Resting = Callable[["Subscriber"], None]
_AGAIN_SECONDS = 0.5
_PATIENCE_SECONDS = 5.0
_PATIENCE_TURNS = 250


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the bus keeps, and how often it says where it is."""

    ring: int = 10_000
    queue: int = 1_000
    checkpoint_seconds: float = 30.0
    mark_seconds: float = 600.0


@dataclass(slots=True, eq=False)
class Subscriber:
    """A bounded queue of what one subscription asked for, or several that ask alike. It ends with `failure`."""

    workspace_id: str
    wanted: Wanted
    limit: int
    queue: deque[Notice] = field(default_factory=deque)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    failure: GatewayError | None = None
    cursor: Position | None = None
    barren_turns: int = 0
    listeners: int = 1
    waits: bool = False
    over: bool = False

    def offer(self, notice: Notice) -> None:
        """Queue a notice that is wanted; where the queue is full the subscriber has failed, and keeps nothing."""
        if self.failure is None and notice.workspace_id == self.workspace_id and self.wanted(notice):
            if len(self.queue) >= self.limit:
                self.fail(SlowReaderError())
                return
            self.queue.append(notice)
            self.ready.set()

    def fail(self, error: GatewayError) -> None:
        """End the subscription."""
        self.failure = error
        self.queue.clear()
        self.ready.set()

    @property
    def full(self) -> bool:
        """Whether the queue takes no more."""
        return self.failure is None and len(self.queue) >= self.limit

    @property
    def at_rest(self) -> bool:
        """Whether it was given everything up to now, and nothing of that is under way."""
        return self.waits and not self.queue and self.cursor is None and self.failure is None and not self.over

    def join(self, other: "Subscriber") -> None:
        """End here, as its listeners go on with another that wants the same: both are at rest, so at one place."""
        other.listeners += self.listeners
        self.listeners = 0
        self.over = True
        self.ready.set()


class Bus:
    """One stream, many subscribers. `run` must be under way for anything to arrive."""

    def __init__(self, database: Database, clock: Clock, minter: Minter, limits: Limits, metrics: Metrics) -> None:
        self._database = database
        self._clock = clock
        self._minter = minter
        self._limits = limits
        self._metrics = metrics
        self._ring = Ring(limits.ring)
        self._live: dict[str, set[Subscriber]] = defaultdict(set)
        self._returning: list[Subscriber] = []
        self._someone_returns = asyncio.Event()
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
                tasks.create_task(self._serve_returning())
                tasks.create_task(self._keep_moving())
        finally:
            self.running = False

    async def position(self) -> Position:
        """Where the stream is now: what is committed later comes after it, and nothing that came before is missed."""
        return await self._now()

    async def subscribe(
        self, workspace_id: str, wanted: Wanted, after: Position | None, resting: Resting | None = None
    ) -> AsyncIterator[Notice | Position]:
        """What is wanted of that workspace, in order, once each, from `after` (or now) on; a Position where nothing
        came for a while. `resting` is told whenever all was given. CursorExpiredError, SlowReaderError."""
        subscriber = Subscriber(workspace_id, wanted, self._limits.queue)
        loop = asyncio.get_running_loop()
        async with self._attached(subscriber, after):
            checkpoint_at = loop.time() + self._limits.checkpoint_seconds
            while subscriber.failure is None and not subscriber.over:
                while subscriber.queue:
                    yield subscriber.queue.popleft()
                if loop.time() >= checkpoint_at:
                    checkpoint_at = loop.time() + self._limits.checkpoint_seconds
                    if (here := self._passed_by(subscriber)) is not None:
                        yield here
                elif subscriber.failure is None:
                    subscriber.ready.clear()
                    subscriber.waits = True
                    if resting is not None and subscriber.at_rest:
                        resting(subscriber)
                    await _set_within(subscriber.ready, checkpoint_at - loop.time())
                    subscriber.waits = False
            if subscriber.failure is not None:
                raise subscriber.failure

    def _passed_by(self, subscriber: Subscriber) -> Position | None:
        """Up to where a subscriber that has nothing queued was given everything; None while it catches up, or failed."""
        last = self._ring.last
        given = subscriber.failure is None and subscriber.cursor is None and not subscriber.queue
        return last.position if last is not None and given else None

    @asynccontextmanager
    async def _attached(self, subscriber: Subscriber, after: Position | None) -> AsyncIterator[None]:
        await self._now()
        self._metrics.subscribers.inc()
        if after is None:
            self._live[subscriber.workspace_id].add(subscriber)
        elif after.id in self._ring:
            self._join(subscriber, after.id)
        else:
            subscriber.cursor = after
            self._returning.append(subscriber)
            self._someone_returns.set()
        try:
            yield
        finally:
            self._metrics.subscribers.dec(subscriber.listeners)
            if isinstance(subscriber.failure, SlowReaderError):
                self._metrics.queue_drops.inc(subscriber.listeners)
            subscriber.listeners = 0
            subscriber.fail(subscriber.failure or SlowReaderError())
            others = self._live[subscriber.workspace_id]
            others.discard(subscriber)
            if not others:
                del self._live[subscriber.workspace_id]
            if subscriber in self._returning:
                self._returning.remove(subscriber)

    def _join(self, subscriber: Subscriber, id_: str) -> None:
        """Give what the ring has after that notice, and from then on what comes: no moment lies between."""
        limit, subscriber.limit = subscriber.limit, self._limits.ring + subscriber.limit
        for notice in self._ring.after(id_):
            subscriber.offer(notice)
        subscriber.limit = max(limit, len(subscriber.queue) + limit // 2)
        subscriber.cursor = None
        if subscriber.failure is None:
            self._live[subscriber.workspace_id].add(subscriber)

    async def _now(self) -> Position:
        if not await _set_within(self._started, _PATIENCE_SECONDS) or self._ring.last is None:
            raise UnavailableError
        return self._ring.last.position

    async def _follow(self) -> None:
        while True:
            last = self._ring.last
            try:
                async with self._database.watch(WATCHED, last.position.token if last else None) as inserts:
                    await self._read(inserts)
            except HistoryLostError:
                self._log.warning("the stream lost its place: every subscriber must load anew")
                self._break_off(CursorExpiredError())
            except UnavailableError as error:
                self._log.warning("the stream broke off and is opened again", reason=str(error))
                await asyncio.sleep(_AGAIN_SECONDS)
            except Exception:
                self._log.exception("the stream failed and is opened again")
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _read(self, inserts: Inserts) -> None:
        if self._ring.last is None:
            first = await inserts.next()  # only now the stream is open, with every driver
            await self._mark()
            if first is not None:
                self._publish(notice_of(first))
        while True:
            if (insert := await inserts.next()) is not None:
                self._publish(notice_of(insert))
                self._started.set()
                await asyncio.sleep(0)  # a batch that arrived at once must not fill the queues of those who do read

    def _publish(self, notice: Notice) -> None:
        if notice.position.id in self._ring:
            return
        self._ring.add(notice)
        self._metrics.bus_lag.set(max(0.0, self._clock().timestamp() - notice.position.at[0] - 1))
        self._moved_at = asyncio.get_running_loop().time()
        for subscriber in [*self._live.get(notice.workspace_id, ())]:
            subscriber.offer(notice)

    def _break_off(self, error: GatewayError) -> None:
        self._ring.clear()
        self._started.clear()
        for subscriber in [*(one for several in self._live.values() for one in several), *self._returning]:
            subscriber.fail(error)

    async def _keep_moving(self) -> None:
        """In a quiet hour write a mark now and then, so that no cursor grows older than the server's history."""
        while True:
            await asyncio.sleep(self._limits.mark_seconds / 2)
            if asyncio.get_running_loop().time() - self._moved_at >= self._limits.mark_seconds / 2:
                try:
                    await self._mark()
                except Exception:
                    self._log.exception("no mark could be written")

    async def _mark(self) -> None:
        """A line of the journal that belongs to no workspace: a place in the stream that every process sees."""
        now = self._clock()
        line = mark(self._minter.mint(Prefix.CHANGE, now), now)
        await self._database.insert(Changes.COLLECTION, [line])

    async def _serve_returning(self) -> None:
        """Serve those whose cursors lie before the ring: all of them together from one stream of the past."""
        while True:
            await self._someone_returns.wait()
            self._someone_returns.clear()
            while self._returning:
                group = [one for one in self._returning if one.failure is None and not self._joined(one)]
                self._returning = []
                if group:
                    await self._take_turn(group)

    async def _take_turn(self, group: list[Subscriber]) -> None:
        """A turn for those whose cursor is the oldest; whoever has not joined after it returns for another."""
        oldest = min(group, key=_age)
        try:
            await self._catch_up(oldest, group)
        except HistoryLostError:
            oldest.fail(CursorExpiredError())
        except UnavailableError as error:
            self._log.warning("the stream of the past broke off and is opened again", reason=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)
        except Exception:
            self._log.exception("a cursor cannot be followed")
            oldest.fail(BadRequestError("'after' is not a cursor of this stream: pass one that a payload gave."))
        self._returning += [one for one in group if one.failure is None and one.cursor is not None]

    async def _catch_up(self, oldest: Subscriber, group: list[Subscriber]) -> None:
        """Read the past from the oldest cursor until it meets the ring; each subscriber gets what comes after its own."""
        here = oldest.cursor
        assert here is not None  # noqa: S101 - who returns has a cursor
        under_way = {one for one in group if one.cursor == here}
        async with self._database.watch(WATCHED, here) as inserts:
            while any(one.failure is None for one in group):
                insert = await inserts.next()
                if insert is not None:
                    notice = notice_of(insert)
                    await self._hand_out(notice, under_way)
                    here = notice.position
                    under_way |= {one for one in group if one.cursor is not None and one.cursor.id == here.id}
                if here.id in self._ring:
                    for one in group:
                        self._joined(one)
                    return
                if insert is None and self._others_wait(group, under_way):
                    for one in under_way:
                        one.barren_turns += 1
                    return

    def _others_wait(self, group: list[Subscriber], under_way: set[Subscriber]) -> bool:
        return any(one.failure is None and one not in under_way for one in (*group, *self._returning))

    async def _hand_out(self, notice: Notice, under_way: set[Subscriber]) -> None:
        """Offer it to all; those who have no room get a moment to make some, and no more than that holds up the others."""
        for _ in range(_PATIENCE_TURNS):
            await asyncio.sleep(0)
            if not any(subscriber.full for subscriber in under_way):
                break
            await asyncio.sleep(_PATIENCE_SECONDS / _PATIENCE_TURNS)
        for subscriber in under_way:
            subscriber.offer(notice)
            subscriber.cursor = notice.position

    def _joined(self, subscriber: Subscriber) -> bool:
        if subscriber.cursor is None or subscriber.cursor.id not in self._ring:
            return False
        self._join(subscriber, subscriber.cursor.id)
        return True


def _age(one: Subscriber) -> tuple[int, tuple[int, int]]:
    """The oldest first; but a cursor after which nothing came (its place is said by its owner) after all others."""
    return one.barren_turns, one.cursor.at if one.cursor else (0, 0)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):  # wait_for forgets a cancellation that comes with the event (Python 3.11)
            await event.wait()
    except TimeoutError:
        return False
    return True
