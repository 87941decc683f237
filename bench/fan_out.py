"""Live: one event to thousands of websockets, beside a server that only sends, and beside graphql-ws on Node.js."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from rich.progress import Progress
from websockets.asyncio.client import connect

from bench.data import KEY
from bench.load import ask, request
from bench.pages import node_is_there
from bench.processes import PEERS, SERVERS, Server, python, started
from bench.queries import TRACK
from bench.rounds import Line, Measured, in_turn, lines

RAW, ONE, MANY, NODE = "raw websockets sends", "gateway, one operation", "gateway, 100 operations", "graphql-ws on ws"
LISTENERS, DISTINCT, EVENTS = (1000, 5000), 100, 5
SUBSCRIBE = (
    "subscription Fan($names: [String!]) { eventTracked(filter: {name: $names}) "
    "{ cursor kind event { id name occurredAt contact { id displayName } } } }"
)
_BYTES = 480  # of a message; said by every line of the gateway's listeners, and checked there
_SLOWEST_SECONDS = 1.0
_UNDISTURBED = {"GATEWAY_CHECKPOINT_SECONDS": "3600"}  # a checkpoint is a message, too


@dataclass(slots=True)
class Way:
    """A server, those who listen to it, and what makes it tell them something; `late`: the slowest of all deliveries."""

    server: Server
    listeners: asyncio.subprocess.Process
    count: int
    tell: Callable[[], Awaitable[None]]
    late: float = 0.0

    async def measured(self) -> Measured:
        """Some events, one after the other: the server's CPU of a delivery, and how many there were in a second."""
        cpu, began = self.server.cpu_seconds(), time.perf_counter()
        for _ in range(EVENTS):
            assert self.listeners.stdin is not None
            self.listeners.stdin.write(b"1\n")
            await self.said()
            at = time.time()
            await self.tell()
            told = await self.said()
            if told.get("missing"):
                raise SystemExit(f"{self.server.name}: {told['missing']} deliveries are missing")
            self.late = max(self.late, told["at"] - at)
        deliveries = EVENTS * self.count
        seconds = time.perf_counter() - began
        return Measured((self.server.cpu_seconds() - cpu) * 1e6 / deliveries, deliveries / seconds)

    async def said(self) -> Any:
        """The next line of the listeners."""
        assert self.listeners.stdout is not None
        line = await self.listeners.stdout.readline()
        if not line:
            raise SystemExit(f"The listeners of '{self.server.name}' are gone.")
        return orjson.loads(line)


async def measure(environment: Mapping[str, str], workspace_id: str, rounds: int, progress: Progress) -> list[Line]:
    """The lines of each number of listeners."""
    told: list[Line] = []
    for count in LISTENERS:
        async with _ways(environment, workspace_id, count) as ways:
            what = f"fan-out to {count:,} sockets"
            found = await in_turn({name: way.measured for name, way in ways.items()}, rounds, progress, what)
            late = {name: way.late for name, way in ways.items()}
            told += lines("fan-out", what, found, RAW, "us of CPU a delivery", _targets(late))
    return told


def _targets(late: Mapping[str, float]) -> Any:
    def judge(ratios: Mapping[str, float]) -> bool:
        return ratios[ONE] <= 2 and late[ONE] < _SLOWEST_SECONDS

    return {ONE: (f"at most 2 x raw sends; slowest {late[ONE]:.2f} s, under 1", judge)}


@asynccontextmanager
async def _ways(environment: Mapping[str, str], workspace_id: str, count: int) -> AsyncIterator[dict[str, Way]]:
    gateway = python("gateway_server.py", workspace_id, "database", "moving")
    async with AsyncExitStack() as stack:
        ways = {}
        for name, command, openings in (
            (RAW, python("raw_sockets.py", str(_BYTES)), []),
            (ONE, gateway, [subscription_openings([ONE])]),
            (MANY, gateway, [subscription_openings([MANY, f"other {number}"]) for number in range(DISTINCT)]),
            (NODE, ["node", str(PEERS / "sockets.js")], [subscription_openings(["fanned out"])]),
        ):
            if name == NODE and not node_is_there():
                continue
            server = await stack.enter_async_context(started(name, command, {**environment, **_UNDISTURBED}))
            listeners = await stack.enter_async_context(_listening(server, count, openings))
            way = Way(server, listeners, count, lambda: asyncio.sleep(0))
            await way.said()
            way.tell = await _teller(stack, name, server)
            ways[name] = way
        await asyncio.sleep(1)  # the last subscriptions are under way, too
        yield ways


async def _teller(stack: AsyncExitStack, name: str, server: Server) -> Callable[[], Awaitable[None]]:
    if name == RAW:
        control = await stack.enter_async_context(connect(f"ws://127.0.0.1:{server.port}/", compression=None))
        await control.send("go")  # it is no listener from now on
        await asyncio.sleep(0.5)
        return lambda: control.send("go")
    body = {"query": TRACK, "variables": {"input": {"contact": {"externalId": "user-1"}, "name": name}}}
    one = request("/graphql", body, KEY)

    async def tell() -> None:
        await ask(server, one)

    return tell


@asynccontextmanager
async def _listening(
    server: Server, count: int, openings: Sequence[Sequence[str]]
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SERVERS / "listeners.py"), str(server.port), "/graphql", str(count)),
        orjson.dumps(openings).decode(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def subscription_openings(names: Sequence[str]) -> list[str]:
    """What a socket sends to be told of events with any of those names."""
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {KEY}"}}
    payload = {"query": SUBSCRIBE, "variables": {"names": list(names)}}
    return [orjson.dumps(one).decode() for one in (init, {"id": "1", "type": "subscribe", "payload": payload})]
