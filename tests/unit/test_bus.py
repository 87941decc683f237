"""The bus in virtual time, over a history that it reads as it would a change stream: what each subscriber gets, against a plain model."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.bus.bus import Bus, BusLimits
from gateway.bus.change_events import BusEvent, Position
from gateway.bus.fan_out import SharedSubscription, SharingRegistry, SocketSink
from gateway.core.ids import Minter
from gateway.domain.change_kinds import ChangeKind
from gateway.errors import (
    BadRequestError,
    CursorExpiredError,
    GatewayError,
    RateLimitedError,
    SlowReaderError,
    UnavailableError,
)
from gateway.execution.executor import Result
from gateway.observability import Metrics
from gateway.store.driver import HistoryLostError, Insert

RING, QUEUE, CHECKPOINT_SECONDS = 8, 5, 2.0
A_MOMENT = 60.0  # much less than the time between two marks of a quiet bus
MINE, THEIRS = "ws_mine", "ws_theirs"


class InstantLoop(asyncio.SelectorEventLoop):
    """Its time passes where everybody waits, and then at once."""

    def __init__(self) -> None:
        super().__init__()
        self._passed = 0.0
        self._poll = self._selector.select  # type: ignore[attr-defined]
        self._selector.select = self._pass_time  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._passed

    def _pass_time(self, timeout: float | None = None) -> Any:
        found = self._poll(0)
        assert found or timeout is not None, "everybody waits for ever"
        self._passed += 0 if found else timeout or 0
        return found


@dataclass
class History:
    """Every insert of a server, in order; each stream of it takes its own time, and all break off when they are told to."""

    delays: Sequence[float | None]
    rows: list[Insert] = field(default_factory=list)
    kept_from: int = 0
    open: int = 0
    most_open: int = 0
    opened: int = 0
    broken: int = 0
    refusals: int = 0
    read: int = 0
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    async def insert(self, collection: str, documents: Sequence[dict[str, Any]]) -> None:
        at = (len(self.rows) + 1, 0)  # one transaction shares the cluster's time
        self.rows += [
            Insert(collection, document, str(number), at) for number, document in enumerate(documents, len(self.rows))
        ]
        self.grown.set()
        self.grown = asyncio.Event()

    @contextlib.asynccontextmanager
    async def watch(self, _: Any, resume_after: str | Position | None = None) -> AsyncIterator["Stream"]:
        await asyncio.sleep(0.001)
        token = resume_after.token if isinstance(resume_after, Position) else resume_after
        if self.refusals:
            self.refusals -= 1
            raise UnavailableError
        if token == "nonsense":
            raise ValueError("the server cannot read that token")
        if token is not None and int(token) < self.kept_from:
            raise HistoryLostError
        delay = self.delays[self.opened % len(self.delays)]
        self.open, self.opened = self.open + 1, self.opened + 1
        self.most_open = max(self.open, self.most_open)
        try:
            yield Stream(self, len(self.rows) if token is None else int(token) + 1, delay, self.broken)
        finally:
            self.open -= 1

    def position(self, number: int) -> Position:
        row = self.rows[number]
        return Position(row.document["_id"], row.token, row.at)


@dataclass
class Stream:
    """A stream whose rows take that long each; None: what is there is there at once, as in a batch that arrived."""

    history: History
    place: int
    delay: float | None
    broken: int

    async def next(self) -> Insert | None:
        rows = self.history.rows
        if self.place >= len(rows):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self.history.grown.wait()
        if self.delay is not None:
            await asyncio.sleep(self.delay)
        if self.broken != self.history.broken:
            raise UnavailableError
        if self.place >= len(rows):
            return None
        self.place += 1
        self.history.read += 1
        return rows[self.place - 1]


@dataclass
class Client:
    """A client as people write them: it keeps its last cursor, and comes back with it after whatever it can come back from."""

    bus: Bus
    history: History
    name: str | None
    cursor: Position | None
    exact: bool
    began: int
    seen: list[str] = field(default_factory=list)
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    ended: GatewayError | None = None
    dropped: int = 0
    task: asyncio.Task[None] | None = None
    alike: SharingRegistry = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)

    def start(self) -> None:
        self.task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task], timeout=A_MOMENT)
        assert self.task.done(), "who was cancelled goes on"
        assert self.task.cancelled() or self.task.exception() is None, self.task.exception()

    async def _run(self) -> None:
        while self.ended is None:
            if self.cursor is None:
                self.began = len(self.history.rows)
            try:
                async with contextlib.aclosing(self.bus.subscribe(MINE, self._wants, self.cursor)) as items:  # type: ignore[type-var]
                    async for item in items:
                        self._take(item)
                        await self.reads.wait()
            except (SlowReaderError, UnavailableError):
                self.dropped += 1
            except GatewayError as error:
                self.ended = error

    def _wants(self, notice: BusEvent) -> bool:
        return notice.kind is ChangeKind.EVENT_TRACKED and self.name in (None, notice.document["name"])

    def _take(self, item: BusEvent | Position) -> None:
        if isinstance(item, Position):
            self.cursor = item
        else:
            self.cursor = item.position
            self.seen.append(item.position.id)


class Listener(Client):
    """A client at a socket: what it is told is broadcast to all who want the same."""

    execution_seconds = 0.0

    async def _run(self) -> None:
        while self.ended is None:
            if self.cursor is None:
                self.began = len(self.history.rows)
            over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

            async def ended(error: Exception | None, over: asyncio.Future[Exception | None] = over) -> None:
                over.set_result(error)

            receiver = SocketSink("1", QUEUE, _written, self._push, self._send, ended)
            begun = asyncio.create_task(self._broadcast(receiver))
            try:
                error = await over
                if isinstance(error, SlowReaderError | UnavailableError):
                    self.dropped += 1
                elif isinstance(error, GatewayError):
                    self.ended = error
            finally:
                receiver.leave() if hasattr(receiver, "subscription") else begun.cancel()

    async def _broadcast(self, receiver: SocketSink) -> None:
        broadcast = SharedSubscription(self.alike, receiver, lambda: self.name, self.metrics)

        async def answers() -> AsyncGenerator[Result, None]:
            items = self.bus.subscribe(MINE, self._wants, self.cursor, broadcast.on_caught_up)
            async with contextlib.aclosing(items) as found:  # type: ignore[type-var]
                async for item in found:
                    await asyncio.sleep(self.execution_seconds)
                    yield Result(item)

        await broadcast.run(answers())

    def _push(self, frame: bytes) -> bool:
        if not self.reads.is_set():
            return False
        self._told(frame[2 if frame[1] < 126 else 4 :].decode())
        return True

    async def _send(self, text: str) -> None:
        await self.reads.wait()
        self._told(text)

    def _told(self, text: str) -> None:
        number, id_ = text.split(" ")
        self.cursor = self.history.position(int(number))
        self.seen += [id_] if id_ else []


def _written(answer: Result) -> str:
    known = isinstance(answer.data, BusEvent)
    position = answer.data.position if known else answer.data
    return f"{position.token} {position.id if known else ''}"


class SlowlyServed(Listener):
    """A client whose operation takes a moment to execute."""

    execution_seconds = 0.002


class World:
    """A bus, what it reads, and who reads it."""

    def __init__(self, delays: Sequence[float | None], kind: type[Client] = Client) -> None:
        self.kind = kind
        self.alike: SharingRegistry = {}
        self.history = History(delays)
        self.metrics = Metrics()
        self.bus = Bus(
            self.history,  # type: ignore[arg-type]
            lambda: datetime(2026, 1, 1, tzinfo=UTC),
            Minter(),
            BusLimits(RING, QUEUE, CHECKPOINT_SECONDS),
            self.metrics,
        )
        self.clients: list[Client] = []
        self.strangers: list[Client] = []
        self._numbers = itertools.count()

    async def track(self, count: int, workspace: str = MINE, name: str = "a") -> None:
        rows = [{"_id": f"e{next(self._numbers)}", "workspace_id": workspace, "name": name} for _ in range(count)]
        await self.history.insert("events", rows)

    def come(self, after: int | None, name: str | None = None) -> Client:
        """Somebody who comes with the cursor of that row, or with none, and reads."""
        cursor = None if after is None else self.history.position(after)
        began = len(self.history.rows) if after is None else after + 1
        client = self.kind(self.bus, self.history, name, cursor, after is not None, began)
        client.alike, client.metrics = self.alike, self.metrics
        client.reads.set()
        self.clients.append(client)
        client.start()
        return client

    def forge(self, token: str) -> Client:
        """Somebody with a cursor that nobody gave, older than all by its own account."""
        client = Client(self.bus, self.history, None, Position("nobody", token, (0, 0)), True, 0)
        client.reads.set()
        self.strangers.append(client)
        client.start()
        return client

    def wanted(self, client: Client, since: int = 0) -> list[str]:
        """What that client wants of all that was committed since that row."""
        rows = [row for row in self.history.rows[since:] if row.collection == "events"]
        mine = [row.document for row in rows if row.document["workspace_id"] == MINE]
        return [row["_id"] for row in mine if client.name in (None, row["name"])]

    async def settle(self) -> None:
        """Everybody reads and nothing breaks, for a moment; then each has seen what it must have, and nothing is left over."""
        for client in self.clients:
            client.reads.set()
        await asyncio.sleep(A_MOMENT)
        for client in [*self.clients, *self.strangers]:
            await client.stop()
        for client in self.clients:
            self._check(client)
        await asyncio.sleep(0.1)
        assert self.alike == {}
        assert self.metrics.registry.get_sample_value("gateway_subscribers") == 0
        assert self.history.most_open <= 2
        assert self.bus.running

    def _check(self, client: Client) -> None:
        if client.ended is not None:
            assert isinstance(client.ended, CursorExpiredError)
            assert client.cursor is not None
            assert int(str(client.cursor.token)) < self.history.kept_from
            return
        must, may = self.wanted(client, client.began), self.wanted(client)
        assert client.seen == may[len(may) - len(client.seen) :]
        assert len(client.seen) == len(must) or (len(client.seen) > len(must) and not client.exact)


def simulated(
    scenario: Callable[[World], Awaitable[None]],
    delays: Sequence[float | None] = (0.0,),
    kind: type[Client] = Client,
) -> None:
    """Run a scenario in a world of its own, and then see that everybody got what they must."""

    async def all_of_it() -> None:
        world = World(delays, kind)
        running = asyncio.create_task(world.bus.run())
        await world.bus.position()
        try:
            await scenario(world)
            await world.settle()
        finally:
            running.cancel()
            await asyncio.wait([running])

    with asyncio.Runner(loop_factory=InstantLoop) as runner, capture_logs():
        runner.run(all_of_it())


fractions = st.floats(0, 1)
steps = st.one_of(
    st.tuples(st.just("track"), st.integers(1, 12), st.sampled_from([MINE, MINE, THEIRS]), st.sampled_from("ab")),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.001, 0.01, 0.6, 3.0, 40.0])),
    st.tuples(st.just("come"), st.none() | fractions, st.sampled_from([None, "a", "b"])),
    st.tuples(st.just("stall"), fractions),
    st.tuples(st.just("read"), fractions),
    st.tuples(st.just("return"), fractions),
    st.tuples(st.just("break"), st.integers(0, 2)),
    st.tuples(st.just("prune"), fractions),
    st.tuples(st.just("forge"), st.sampled_from(["nonsense", "1000000"])),
)
delays = st.lists(st.sampled_from([None, 0.0, 0.002, 0.3]), min_size=1, max_size=4)


@pytest.mark.parametrize("kind", [Client, Listener, SlowlyServed])
@settings(max_examples=200)
@given(plan=st.lists(steps, max_size=40), delays=delays)
def test_whatever_happens_each_subscriber_gets_what_it_wants_once_in_order(
    kind: type[Client], plan: list[tuple[Any, ...]], delays: list[float | None]
) -> None:
    async def scenario(world: World) -> None:
        for step in plan:
            await happen(world, *step)

    simulated(scenario, delays, kind)


async def happen(world: World, what: str, *how: Any) -> None:
    rows = len(world.history.rows)
    match what, how:
        case "track", (count, workspace, name):
            await world.track(count, workspace, name)
        case "wait", (seconds,):
            await asyncio.sleep(seconds)
        case "come", (after, name):
            world.come(None if after is None else int(after * (rows - 1)), name)
        case "break", (refusals,):
            world.history.broken += 1
            world.history.refusals = refusals
        case "prune", (part,):
            known = int(str((await world.bus.position()).token))
            world.history.kept_from = max(world.history.kept_from, int(part * known))
        case "forge", (token,):
            world.forge(token)
        case _, (which,) if world.clients:
            client = world.clients[int(which * (len(world.clients) - 1))]
            if what == "return":
                await client.stop()
                client.start()
            elif what == "stall":
                client.reads.clear()
            else:
                client.reads.set()


@pytest.mark.parametrize("kind", [Client, Listener])
def test_a_checkpoint_never_leads_past_what_was_dropped(kind: type[Client]) -> None:
    async def scenario(world: World) -> None:
        client = world.come(0)
        client.reads.clear()
        await world.track(1)
        await asyncio.sleep(0.01)
        await world.track(QUEUE + 1)
        await asyncio.sleep(2 * CHECKPOINT_SECONDS)
        client.reads.set()
        await asyncio.sleep(1)
        assert client.dropped == 1

    simulated(scenario, kind=kind)


def test_whoever_has_caught_up_is_told_with_the_others_and_the_first_may_leave() -> None:
    async def scenario(world: World) -> None:
        await world.track(2)
        await asyncio.sleep(1)
        first, *others = [world.come(after, name) for name in "ab" for after in (None, 0, 1, 2)]
        await asyncio.sleep(1)
        assert sorted(len(one.sinks) for several in world.alike.values() for one in several) == [4, 4]
        assert world.metrics.registry.get_sample_value("gateway_subscribers") == 8
        others[0].reads.clear()
        await first.stop()
        await world.track(3)
        await asyncio.sleep(1)
        assert world.metrics.registry.get_sample_value("gateway_subscribers") == 7
        assert [len(one.seen) for one in others[1:3]] == [4, 3]
        assert len(others[0].seen) == 2
        first.start()

    simulated(scenario, kind=Listener)


def test_whoever_comes_from_the_past_joins_the_others_once_it_was_told_of_it() -> None:
    async def scenario(world: World) -> None:
        await world.track(3 * RING)
        await asyncio.sleep(10)
        others = [world.come(None) for _ in range(2)]
        await asyncio.sleep(1)
        late = world.come(0)
        await asyncio.sleep(3)
        await world.track(1)
        await asyncio.sleep(2 * CHECKPOINT_SECONDS)
        assert [len(one.seen) for one in others] == [1, 1]
        assert late.seen == world.wanted(late, 1)[-len(late.seen) :]
        assert [len(one.sinks) for several in world.alike.values() for one in several] == [3]

    simulated(scenario, kind=Listener)


def test_nobody_joins_others_who_are_still_being_told_of_what_it_knows() -> None:
    async def scenario(world: World) -> None:
        first = world.come(None)
        await asyncio.sleep(1)
        await world.track(1)
        while int(str((await world.bus.position()).token)) < 1:
            await asyncio.sleep(0)
        later = world.come(len(world.history.rows) - 1)
        await world.track(1)
        await asyncio.sleep(1)
        assert (len(first.seen), len(later.seen)) == (2, 1)

    simulated(scenario, kind=SlowlyServed)


def test_whoever_does_not_keep_up_with_the_others_is_dropped_alone() -> None:
    async def scenario(world: World) -> None:
        slow, quick = world.come(0), world.come(0)
        await asyncio.sleep(1)
        slow.reads.clear()
        for _ in range(QUEUE + 2):
            await world.track(1)
            await asyncio.sleep(0.1)
        assert quick.seen == world.wanted(quick)
        assert world.metrics.registry.get_sample_value("gateway_slow_subscribers_total") == 1
        slow.reads.set()
        await asyncio.sleep(1)
        assert (slow.dropped, quick.dropped) == (1, 0)

    simulated(scenario, kind=Listener)


def test_a_burst_that_arrives_at_once_is_no_burden_for_who_reads() -> None:
    async def scenario(world: World) -> None:
        client = world.come(0)
        await asyncio.sleep(0.01)
        await world.track(10 * QUEUE)
        await asyncio.sleep(1)
        assert client.dropped == 0

    simulated(scenario, [None])


@pytest.mark.parametrize("kind", [Client, Listener])
@pytest.mark.parametrize("turns", range(6))
def test_who_is_cancelled_while_something_arrives_ends(turns: int, kind: type[Client]) -> None:
    async def scenario(world: World) -> None:
        client = world.come(0)
        await asyncio.sleep(0.01)
        await world.track(1)
        while not client.seen:
            await asyncio.sleep(0)
        await world.track(1)
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.stop()
        client.start()

    simulated(scenario, kind=kind)


def test_a_cursor_that_is_ahead_of_this_process_holds_up_nobody_in_a_quiet_hour() -> None:
    async def scenario(world: World) -> None:
        await world.track(2 * RING)
        await asyncio.sleep(10)
        await world.track(1)
        world.come(len(world.history.rows) - 1)  # the bus reads it in 0.3 seconds, and then there is nothing more
        await asyncio.sleep(2)
        late = world.come(0)
        await asyncio.sleep(5)
        assert late.seen == world.wanted(late)

    simulated(scenario, [0.3, 0.0])


def test_whoever_has_joined_is_not_failed_for_another() -> None:
    async def scenario(world: World) -> None:
        await world.track(2 * RING)
        await asyncio.sleep(10)
        await world.track(1)
        ahead = world.come(len(world.history.rows) - 1)
        world.history.refusals = 1
        await asyncio.sleep(0.002)
        expired = world.come(0)
        world.history.kept_from = 2
        await asyncio.sleep(5)
        assert isinstance(expired.ended, CursorExpiredError)
        assert ahead.ended is None

    simulated(scenario, [0.3, 0.0])


def test_a_forged_cursor_of_the_future_holds_up_nobody() -> None:
    async def scenario(world: World) -> None:
        await world.track(2 * RING)
        await asyncio.sleep(1)
        world.forge("1000000")
        await asyncio.sleep(1)
        late = world.come(0)
        await asyncio.sleep(5)
        assert late.seen == world.wanted(late)

    simulated(scenario)


def test_a_cursor_that_the_server_cannot_read_is_refused_alone() -> None:
    async def scenario(world: World) -> None:
        await world.track(2 * RING)
        await asyncio.sleep(1)
        forged, late = world.forge("nonsense"), world.come(0)
        await asyncio.sleep(5)
        assert isinstance(forged.ended, BadRequestError)
        assert late.seen == world.wanted(late)

    simulated(scenario)


def stalled(world: World, *after: int) -> list[Client]:
    """Clients with these old cursors that never read."""
    clients = [world.come(place) for place in after]
    for client in clients:
        client.reads.clear()
    return clients


@pytest.mark.parametrize("kind", [Client, Listener])
@pytest.mark.parametrize("places", [range(20), [0] * 20])
def test_those_who_never_read_hold_up_nobody_who_returns(kind: type[Client], places: Sequence[int]) -> None:
    async def scenario(world: World) -> None:
        await world.track(20 * RING)
        await asyncio.sleep(1)
        stuck = stalled(world, *places)
        await asyncio.sleep(0.5)
        readers = [world.come(after) for after in range(40, 60)]
        await asyncio.sleep(2)
        assert [reader.seen for reader in readers] == [world.wanted(reader, reader.began) for reader in readers]
        assert [client.dropped for client in stuck] == [0] * 20
        assert world.history.opened < 10 * 40

    simulated(scenario, kind=kind)


def test_who_takes_nothing_for_long_is_ended_and_who_takes_a_little_is_not() -> None:
    async def scenario(world: World) -> None:
        await world.track(5 * RING)
        await asyncio.sleep(1)
        stuck, slow = stalled(world, 1, 2)
        for _ in range(10):
            await asyncio.sleep(10)
            slow.reads.set()
            await asyncio.sleep(0)
            slow.reads.clear()
        stuck.reads.set()
        await asyncio.sleep(0.1)
        assert (stuck.dropped, slow.dropped) == (1, 0)

    simulated(scenario)


def test_many_who_want_nothing_of_a_long_past_let_others_go_first() -> None:
    async def scenario(world: World) -> None:
        await world.track(3000, name="b")
        await world.track(2 * RING)
        await asyncio.sleep(10)
        read_before = world.history.read
        idlers = [world.come(place, "nobody") for place in range(0, 2000, 100)]
        reader = world.come(len(world.history.rows) - 2 * RING)
        while reader.seen != world.wanted(reader, reader.began):
            await asyncio.sleep(0.001)
        # What all idlers have to look at is 3,000 rows; until the reader had its few, they may have seen some of them.
        assert world.history.read - read_before < 1500
        await asyncio.sleep(30)
        assert all(idler.seen == [] for idler in idlers)

    simulated(scenario)


def test_who_stalls_while_it_joins_the_present_keeps_no_more_than_its_queue() -> None:
    async def scenario(world: World) -> None:
        await world.track(RING)
        await asyncio.sleep(1)
        (client,) = stalled(world, 1)
        await asyncio.sleep(1)
        (subscriber,) = {one for several in world.bus._catch_up._by_key.values() for one in several}
        assert len(subscriber.queue) == QUEUE - 1 or len(subscriber.queue) == QUEUE
        client.reads.set()
        await asyncio.sleep(1)
        assert client.seen == world.wanted(client, 2)
        assert client.dropped == 0

    simulated(scenario)


def test_no_more_of_one_owner_catch_up_than_may() -> None:
    async def scenario(world: World) -> None:
        await world.track(5 * RING)
        await asyncio.sleep(1)
        cursor = world.history.position(1)

        async def one(owner: str, most: int | None) -> Any:
            items = world.bus.subscribe(MINE, lambda _: True, cursor, owner=owner, most_resumes=most)
            async with contextlib.aclosing(items) as found:  # type: ignore[type-var]
                async for _ in found:
                    await asyncio.sleep(5)

        tasks = [asyncio.create_task(one("o", 2)) for _ in range(2)]
        await asyncio.sleep(0.1)
        with pytest.raises(RateLimitedError) as refused:
            await one("o", 2)
        assert refused.value.retry_after == 5
        tasks += [asyncio.create_task(one("other", 2)), asyncio.create_task(one("", None))]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert world.bus._catch_up._by_key == {}

    simulated(scenario)


def of_contact(
    world: World, ids: set[str], after: int | None, calls: list[str]
) -> tuple[list[str], asyncio.Task[None]]:
    """Follows these contacts and who takes them over; what it saw, and every look that was taken for it."""
    seen: list[str] = []

    def wanted(notice: BusEvent) -> bool:
        calls.append(notice.position.id)
        if notice.document.get("merged_id") in ids:
            ids.add(notice.document["contact_id"])
        return notice.document.get("contact_id") in ids

    async def follow() -> None:
        cursor = None if after is None else world.history.position(after)
        items = world.bus.subscribe(MINE, wanted, cursor, contact_ids=ids)
        async with contextlib.aclosing(items) as found:  # type: ignore[type-var]
            async for item in found:
                seen.append(item.position.id if isinstance(item, BusEvent) else "")  # noqa: PERF401 - each as it comes

    return seen, asyncio.create_task(follow())


async def happened(world: World, *rows: tuple[str, str, str | None]) -> None:
    """Rows of these ids and contacts, and which contact each took over."""
    for id_, contact, gone in rows:
        row: dict[str, Any] = {"_id": id_, "workspace_id": MINE, "name": "a", "contact_id": contact}
        if gone is None:
            await world.history.insert("events", [row])
        else:
            merged = {"subject": "summaries", "kind": "MERGED", "merged_id": gone, "lines": [], "at": None}
            await world.history.insert("changes", [row | merged])


def test_a_notice_is_offered_to_those_alone_who_follow_its_contact() -> None:
    async def scenario(world: World) -> None:
        calls: list[list[str]] = [[] for _ in range(50)]
        followers = [of_contact(world, {f"c{number}"}, None, calls[number]) for number in range(50)]
        await asyncio.sleep(0.1)
        await happened(world, ("one", "c7", None), ("two", "c8", None), ("three", "c7", None))
        await asyncio.sleep(0.1)
        assert [len(looks) for looks in calls] == [0] * 7 + [2, 1] + [0] * 41
        assert followers[7][0] == ["one", "three"]
        for _, task in followers:
            task.cancel()
        await asyncio.wait([task for _, task in followers])
        assert len(world.bus._live) == 0

    simulated(scenario)


@pytest.mark.parametrize("where", ["live", "ring", "past"])
def test_who_follows_a_contact_follows_whoever_takes_it_over(where: str) -> None:
    rows = [("0", "c", None), ("1", "d", None), ("2", "d", "c"), ("3", "d", None), ("4", "e", "d"), ("5", "d", None), ("6", "e", None)]  # fmt: skip

    async def scenario(world: World) -> None:
        await happened(world, ("before", "x", None))
        await asyncio.sleep(0.1)
        place, calls = len(world.history.rows) - 1, list[str]()
        if where != "live":
            await happened(world, *rows)
        if where == "past":
            await happened(world, *((f"later{number}", "x", None) for number in range(2 * RING)))
        await asyncio.sleep(0.1)
        seen, task = of_contact(world, {"c"}, None if where == "live" else place, calls)
        await asyncio.sleep(0.1)
        if where == "live":
            await happened(world, *rows)
            await asyncio.sleep(0.1)
        assert seen == ["0", "2", "3", "4", "5", "6"]
        assert not {"1", "later0"} & set(calls)
        task.cancel()
        await asyncio.wait([task])

    simulated(scenario)


class _Group:
    """What a broadcast of answers that come at once tells its receivers."""

    def __init__(self, *stuck: bool, limit: int = QUEUE) -> None:
        self.sent: list[list[str]] = [[] for _ in stuck]
        self.ends: list[Exception | None] = [LookupError()] * len(stuck)
        self.never = asyncio.Event()
        self.receivers = [self._receiver(number, one, limit) for number, one in enumerate(stuck)]

    def _receiver(self, number: int, stuck: bool, limit: int) -> SocketSink:
        def push(frame: bytes) -> bool:
            if stuck:
                raise RuntimeError("a transport that is gone")
            self.sent[number].append(frame.decode("utf-8", "ignore")[-3:])
            return True

        async def send(text: str) -> None:
            await self.never.wait()

        async def ended(error: Exception | None) -> None:
            self.ends[number] = error

        return SocketSink("1", limit, lambda answer: str(answer.encoded), push, send, ended)

    async def tell(self, *texts: str) -> None:
        async def answers() -> AsyncGenerator[Result, None]:
            for text in texts:
                yield Result(None, encoded=text)
                await asyncio.sleep(0)

        broadcast = SharedSubscription({}, self.receivers[0], lambda: None, Metrics())
        for receiver in self.receivers[1:]:
            receiver.subscription = broadcast
        broadcast.sinks |= set(self.receivers)
        running = asyncio.create_task(broadcast.run(answers()))
        for _ in range(len(texts) * 3):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])


async def test_a_transport_that_fails_is_its_own_receivers_trouble() -> None:
    group = _Group(True, False)
    await group.tell("one", "two")
    assert group.sent[1] == ["one", "two"]


async def test_what_waits_for_a_stuck_receiver_is_bounded_by_its_length_too() -> None:
    group = _Group(True, False, limit=1000)
    await group.tell(*["x" * 900_000 + "end"] * 6)
    assert group.sent[1] == ["end"] * 6
    assert isinstance(group.ends[0], SlowReaderError)
    assert group.ends[1] is None
