"""Nothing live is lost or told twice, whoever comes, goes, stalls and returns, and whatever is killed meanwhile.

What a seed decides happens at random; `LIVE_SEEDS="1 2 3" make test ARGS=tests/process/test_live.py` plays others.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import orjson
import psutil
import pytest
import websockets
from processes import becomes_true

from gateway.bus.bus import WATCHED
from gateway.bus.change_events import Position, position_of
from gateway.core.cursors import CursorCipher
from gateway.core.principals import Scope
from gateway.runtime import open_runtime
from gateway.settings import Settings
from gateway.store.driver import Insert
from gateway.store.embedded import embedded_server
from gateway.store.migrations import migrate

SEEDS = [int(seed) for seed in os.environ.get("LIVE_SEEDS", "7").split()]
EVENTS, FOLLOWERS, CALLERS = 400, 15, 3
STALLED = 30
NAMES, PEOPLE = ["opened door", "closed door", "rang bell"], ["ada", "bob", "cleo"]
SMALL = {"GATEWAY_STREAM_RING": "100", "GATEWAY_STREAM_QUEUE": "10", "GATEWAY_CHECKPOINT_SECONDS": "1"}
TRACK = """mutation($e: [TrackEventInput!]!) { trackEvents(input: {events: $e}) { results { eventId error { message } } } }"""
FOLLOW = """subscription($after: String, $filter: EventStreamFilter)
  { eventTracked(after: $after, filter: $filter) { cursor kind event { id metadataJson } } }"""
UPSERT = "mutation($id: String!) { upsertContact(input: {externalId: $id}) { contact { id } } }"
LIST = """query($after: String) { events(first: 100, after: $after)
  { nodes { id name contact { id } } pageInfo { hasNextPage endCursor } } }"""


class AwayError(Exception):
    """The gateway cannot be reached, or its database: try again."""


@dataclass
class Node:
    """A `gateway serve` that can be killed and started again on its port."""

    program: Any
    port: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = self.program.start("serve", "--port", str(self.port), **self.environment)

    async def ready(self, http: httpx.AsyncClient) -> None:
        async with asyncio.timeout(60):
            while True:
                assert self.process is not None
                assert self.process.poll() is None, self.program.log
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"http://127.0.0.1:{self.port}/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await asyncio.to_thread(self.process.wait)

    async def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            await asyncio.to_thread(self.process.wait, 60)


@dataclass
class Cluster:
    """Two gateways on one database, and how to ask either of them."""

    nodes: Sequence[Node]
    key: str
    http: httpx.AsyncClient
    cipher: CursorCipher

    async def ask(self, node: Node, query: str, **variables: Any) -> Any:
        """The data of an answer without errors; AwayError where another try is due."""
        try:
            response = await self.http.post(
                f"http://127.0.0.1:{node.port}/graphql",
                json={"query": query, "variables": variables},
                headers={"authorization": f"Bearer {self.key}"},
            )
        except httpx.TransportError as error:
            raise AwayError from error
        answer = response.json()
        if errors := answer.get("errors"):
            assert [error["extensions"]["code"] for error in errors] == ["UNAVAILABLE"], answer
            raise AwayError
        return answer["data"]

    async def insist(self, chance: random.Random, query: str, **variables: Any) -> Any:
        """The data that one of the gateways gives in the end."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(AwayError):
                    return await self.ask(chance.choice(self.nodes), query, **variables)
                await asyncio.sleep(0.05)


@dataclass
class Traffic:
    """Events that are tracked through both gateways by several callers at once."""

    cluster: Cluster
    chance: random.Random
    begun: int = 0
    tracked: list[str] = field(default_factory=list)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self._call(random.Random(self.chance.random())))

    async def _call(self, chance: random.Random) -> None:
        while self.begun < EVENTS:
            events = [self.event(chance.choice(PEOPLE), chance.choice(NAMES)) for _ in range(chance.randint(1, 6))]
            await self.track(chance, events)
            await asyncio.sleep(chance.choice([0, 0.01, 0.1]))

    async def track(self, chance: random.Random, events: list[Any]) -> None:
        results = (await self.cluster.insist(chance, TRACK, e=events))["trackEvents"]["results"]
        assert [result["error"] for result in results] == [None] * len(events)
        self.tracked += [result["eventId"] for result in results]

    async def grows_by(self, count: int) -> None:
        """Wait until that many more are tracked, or all."""
        wanted = min(len(self.tracked) + count, EVENTS)
        await becomes_true(partial(reached, self.tracked, wanted))

    def event(self, person: str, name: str) -> Any:
        self.begun += 1
        key = f"event {self.begun}"
        return {"contact": {"externalId": person}, "name": name, "idempotencyKey": key, "metadata": {"x": "x" * 4000}}


@dataclass
class Follower:
    """A subscriber that leaves, stalls and returns as it likes, with its last cursor, to either gateway."""

    cluster: Cluster
    traffic: Traffic
    filter: dict[str, Any] | None
    chance: random.Random
    cursor: str = ""
    began: str = ""
    seen: list[str] = field(default_factory=list)
    restless: bool = True

    async def run(self) -> None:
        await asyncio.sleep(self.chance.choice([0, 0, 1, 3]))
        self.cursor = (await self.cluster.insist(self.chance, "{ streamCursor }"))["streamCursor"]
        self.began = position_of(self.cursor, self.cluster.cipher).id
        while True:
            try:
                async with connected(self.chance.choice(self.cluster.nodes).port, self.cluster.key) as connection:
                    await subscribe(connection, self.cursor, self.filter)
                    await self._follow(connection)
            except (OSError, websockets.WebSocketException, TimeoutError, AwayError):
                pass
            await asyncio.sleep(self.chance.choice([0, 0.05, 0.5]))

    async def _follow(self, connection: Any) -> None:
        """Read, and stall now and then, until it is time to leave."""
        while True:
            for _ in range(self.chance.randint(1, 20)):
                self._take(orjson.loads(await connection.recv()))
            if self.restless and self.chance.random() < 0.5:
                return
            if self.restless:
                connection.transport.pause_reading()
                await self.traffic.grows_by(self.chance.choice([10, 100]))
                connection.transport.resume_reading()
                while self._take(orjson.loads(await connection.recv())) != "CHECKPOINT":
                    pass

    def _take(self, message: Any) -> str:
        if message["type"] == "error":
            assert [error["extensions"]["code"] for error in message["payload"]] == ["UNAVAILABLE"], message
            raise AwayError
        told = message["payload"]["data"]["eventTracked"]
        self.cursor = told["cursor"]
        if told["kind"] == "TRACKED":
            self.seen.append(told["event"]["id"])
        return str(told["kind"])


@contextlib.asynccontextmanager
async def connected(port: int, key: str) -> AsyncIterator[Any]:
    """A socket that has said who it is, for which the system keeps little: what it does not read stalls its sender."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    raw.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        async with websockets.connect(
            f"ws://127.0.0.1:{port}/graphql", sock=raw, subprotocols=["graphql-transport-ws"], compression=None,
            ping_interval=None, close_timeout=0.1, max_queue=1,
            additional_headers={"Authorization": f"Bearer {key}"},
        ) as connection:  # fmt: skip
            await connection.send('{"type": "connection_init"}')
            assert orjson.loads(await connection.recv()) == {"type": "connection_ack"}
            yield connection
    finally:
        raw.close()


async def subscribe(connection: Any, after: str, filter_: Any) -> None:
    variables = {"after": after, "filter": filter_}
    message = {"type": "subscribe", "id": "1", "payload": {"query": FOLLOW, "variables": variables}}
    await connection.send(orjson.dumps(message).decode())


def reached(found: Sequence[Any], count: int) -> bool:
    return len(found) >= count


def wants(filter_: dict[str, Any] | None, event: dict[str, Any]) -> bool:
    asked = filter_ or {}
    return event["name"] in asked.get("name", NAMES) and event["contact"]["id"] == asked.get(
        "contactId", event["contact"]["id"]
    )


async def listed(cluster: Cluster, chance: random.Random) -> dict[str, Any]:
    """Every event as the API lists it, by id."""
    found: dict[str, Any] = {}
    after = None
    while True:
        page = (await cluster.insist(chance, LIST, after=after))["events"]
        found |= {node["id"]: node for node in page["nodes"]}
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return found


async def committed(database: Any, after: Position, last: str) -> list[Insert]:
    """What was inserted after that position, in the order of the commits, up to the event with that id."""
    found = []
    async with asyncio.timeout(60), database.watch(WATCHED, after) as inserts:
        while not found or found[-1].document["_id"] != last:
            if (insert := await inserts.next()) is not None:
                found.append(insert)
    return found


@contextlib.asynccontextmanager
async def clustered(
    program: Any, free_port: Any, uri: str, name: str, **environment: str
) -> AsyncIterator[tuple[Cluster, Any]]:
    """Two gateways on that database, and the database itself."""
    environment |= {"GATEWAY_MONGO_URI": uri, "GATEWAY_MONGO_DATABASE": name, "GATEWAY_LOG_LEVEL": "ERROR"}
    nodes = [Node(program, free_port(), environment) for _ in range(2)]
    async with open_runtime(Settings(), uri, name) as runtime, httpx.AsyncClient(timeout=60) as http:
        await migrate(runtime.database, runtime.clock, owner="tests")
        workspace = await runtime.workspaces.create("live")
        _, key = await runtime.workspaces.create_key(workspace["_id"], [Scope.READ, Scope.TRACK])
        try:
            for node in nodes:
                node.start()
            for node in nodes:
                await node.ready(http)
            yield Cluster(nodes, key, http, await runtime.services.cursors.cipher()), runtime.database
        finally:
            await asyncio.gather(*(node.end() for node in nodes))


@pytest.mark.parametrize("seed", SEEDS)
async def test_each_follower_sees_each_event_once_in_order_whatever_is_killed(
    program: Any, free_port: Any, tmp_path: Any, seed: int
) -> None:
    chance = random.Random(seed)
    data = tmp_path / "mongo"
    data.mkdir()
    async with (
        embedded_server(data, "secantusd-py") as uri,
        clustered(program, free_port, uri, "live", **SMALL) as opened,
    ):
        cluster, database = opened
        cursors = [(await cluster.ask(node, "{ streamCursor }"))["streamCursor"] for node in cluster.nodes]
        start = min((position_of(cursor, cluster.cipher) for cursor in cursors), key=lambda position: position.at)
        people = [
            (await cluster.insist(chance, UPSERT, id=person))["upsertContact"]["contact"]["id"] for person in PEOPLE
        ]
        filters = [None, {"name": [NAMES[0]]}, {"name": NAMES[1:]}, {"contactId": people[0]}]
        filters.append({"contactId": people[1], "name": NAMES[:2]})
        traffic = Traffic(cluster, random.Random(chance.random()))
        followers = [
            Follower(cluster, traffic, filters[number % len(filters)], random.Random(chance.random()))
            for number in range(FOLLOWERS)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(follower.run()) for follower in followers]
            flowing = group.create_task(traffic.run())
            await disrupt(cluster, data, traffic, chance)
            await flowing
            for follower in followers:
                follower.restless = False
            await becomes_true(lambda: all(follower.began for follower in followers))
            for person in PEOPLE:
                await traffic.track(chance, [traffic.event(person, name) for name in NAMES])
            rows = await committed(database, start, traffic.tracked[-1])
            events = await listed(cluster, chance)
            assert sorted(events) == sorted(traffic.tracked)
            assert sorted(row.document["_id"] for row in rows if row.collection == "events") == sorted(events)
            order = [start.id, *(row.document["_id"] for row in rows)]
            for follower in followers:
                after = order[order.index(follower.began) + 1 :]
                must = [id_ for id_ in after if id_ in events and wants(follower.filter, events[id_])]
                await becomes_true(partial(reached, follower.seen, len(must)))
                assert follower.seen == must
            for task in tasks:
                task.cancel()


async def disrupt(cluster: Cluster, data: Any, traffic: Traffic, chance: random.Random) -> None:
    """Kill each gateway and the database, in any order, each when more has flowed."""
    victims: list[Node | None] = [*cluster.nodes, None]
    chance.shuffle(victims)
    for number, victim in enumerate(victims, 1):
        await becomes_true(partial(reached, traffic.tracked, EVENTS * number // (len(victims) + 1)))
        if victim is None:
            await kill_database(data)
            continue
        await victim.kill()
        try:
            async with asyncio.timeout(2):
                await traffic.grows_by(30)
        except (
            TimeoutError
        ):  # a transaction of the killed one holds its contacts for a minute, or until the server ends
            await kill_database(data)
        victim.start()
        await victim.ready(cluster.http)


async def kill_database(data: Any) -> None:
    before = pid_of(data)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    await becomes_true(lambda: pid_of(data) not in (None, before))


def pid_of(data: Any) -> int | None:
    found = orjson.loads((data / "database.json").read_bytes()).get("pid")
    return None if found is None else int(found)


async def test_who_reads_nothing_holds_no_memory_and_does_not_hold_up_the_end(
    program: Any, free_port: Any, mongo: str, tmp_path: Any
) -> None:
    name = f"stall_{tmp_path.name[-20:]}".replace("-", "_")
    async with clustered(program, free_port, mongo, name, GATEWAY_STREAM_RING="100") as (cluster, _):
        node, other = cluster.nodes
        assert node.process is not None
        process = psutil.Process(node.process.pid)
        cursor = (await cluster.ask(other, "{ streamCursor }"))["streamCursor"]
        async with contextlib.AsyncExitStack() as stack:
            stalled = [await stack.enter_async_context(connected(node.port, cluster.key)) for _ in range(STALLED)]
            reading = [await stack.enter_async_context(connected(one.port, cluster.key)) for one in (node, node, other)]
            for connection in (*stalled, *reading):
                await subscribe(connection, cursor, None)
            for connection in stalled:
                connection.transport.pause_reading()
            before = process.memory_info().rss
            text, tracked = {"text": "x" * 30_000}, []
            for _ in range(8):
                batch = [{"contact": {"externalId": "u"}, "name": "wrote", "metadata": text}] * 50
                found = await cluster.ask(node, TRACK, e=batch)
                tracked += [result["eventId"] for result in found["trackEvents"]["results"]]
                for connection in reading:
                    assert [(await event_of(connection))["event"]["id"] for _ in batch] == tracked[-50:]
            sent_to_each = 400 * 30_000
            assert process.memory_info().rss - before < STALLED * sent_to_each / 3
            node.process.terminate()
            assert await asyncio.to_thread(node.process.wait, 60) in (0, -signal.SIGTERM)
            for connection in reading[:2]:
                await connection.wait_closed()
                assert connection.close_code == 1012
            early = await drained(stalled[0])
        async with connected(other.port, cluster.key) as connection:
            await subscribe(connection, early[-1]["cursor"] if early else cursor, None)
            late = [await event_of(connection) for _ in range(len(tracked) - len(early))]
        assert [told["event"]["id"] for told in early + late] == tracked


async def event_of(connection: Any) -> Any:
    """The next event that a socket is told of."""
    while True:
        message = orjson.loads(await asyncio.wait_for(connection.recv(), 60))
        if message["payload"]["data"]["eventTracked"]["kind"] == "TRACKED":
            return message["payload"]["data"]["eventTracked"]


async def drained(connection: Any) -> list[Any]:
    """What had arrived at somebody who did not read it."""
    connection.transport.resume_reading()
    found = []
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            found.append(await event_of(connection))
    return found
