"""A thousand subscribers that come back at once: one more stream for all of them, and nobody else waits for long."""

import asyncio
import contextlib
import time
from typing import Any

import orjson
import websockets
from pymongo.monitoring import CommandListener

from gateway.bus.change_events import BusEvent, cursor_to, position_of
from gateway.domain.change_kinds import ChangeKind

RING, PLACES, MORE = 100, 100, 150
RETURNING, SOCKETS, MEANWHILE = 1000, 30, 20
A_WHILE = 15.0
FOLLOW = "subscription($after: String) { eventTracked(after: $after) { cursor kind event { id name } } }"
QUERY = "{ contacts(first: 1) { nodes { externalId eventSummaries { nodes { count } } } } }"


class Streams(CommandListener):
    """Which change streams are open at the database."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.asked: set[int] = set()
        self.opened = 0
        self.most = 0

    def started(self, event: Any) -> None:
        if event.command_name == "aggregate" and "$changeStream" in event.command["pipeline"][0]:
            self.asked.add(event.request_id)
        elif event.command_name == "killCursors":
            self.open -= set(event.command["cursors"])

    def succeeded(self, event: Any) -> None:
        if event.request_id in self.asked:
            self.open.add(event.reply["cursor"]["id"])
            self.opened += 1
            self.most = max(self.most, len(self.open))

    def failed(self, event: Any) -> None:
        """It opened nothing."""


class Follower:
    """Somebody who reads until something is told that ends it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.cursors: list[str] = []

    async def at_the_bus(self, gateway: Any, workspace_id: str, after: str, last: str) -> None:
        cipher = await gateway.runtime.services.cursors.cipher()
        notices = gateway.runtime.services.bus.subscribe(workspace_id, is_event, position_of(after, cipher))
        async with contextlib.aclosing(notices) as items:
            async for item in items:
                if isinstance(item, BusEvent):
                    self.seen.append(item.position.id)
                    self.cursors.append(cursor_to(item.position, cipher))
                    if item.document["name"] == last:
                        return

    async def at_a_socket(self, gateway: Any, key: str, after: str, last: str) -> None:
        async with websockets.connect(
            gateway.url.replace("http:", "ws:"),
            subprotocols=["graphql-transport-ws"],
            additional_headers={"Authorization": f"Bearer {key}"},
        ) as connection:  # type: ignore[list-item]
            variables = {"after": after}
            subscribe = {"type": "subscribe", "id": "1", "payload": {"query": FOLLOW, "variables": variables}}
            await connection.send('{"type": "connection_init"}')
            await connection.send(orjson.dumps(subscribe).decode())
            assert orjson.loads(await connection.recv()) == {"type": "connection_ack"}
            async for message in connection:
                told = orjson.loads(message)["payload"]["data"]["eventTracked"]
                if told["kind"] == "TRACKED":
                    self.seen.append(told["event"]["id"])
                    if told["event"]["name"] == last:
                        return


def is_event(notice: BusEvent) -> bool:
    return notice.kind is ChangeKind.EVENT_TRACKED


def events(count: int, name: str) -> list[dict[str, Any]]:
    return [{"contact": {"externalId": f"u{number % 7}"}, "name": name} for number in range(count)]


async def test_a_thousand_come_back_with_cursors_older_than_the_ring(open_gateway: Any) -> None:
    streams = Streams()
    async with open_gateway(stream_ring=RING, rolls_up=False, listener=streams) as gateway:
        workspace = await gateway.workspace()
        cursor = (await workspace.data("{ streamCursor }"))["streamCursor"]
        await workspace.track(*events(PLACES, "long ago"))
        await workspace.track(*events(1, "then"))
        first = Follower()
        await first.at_the_bus(gateway, workspace.id, cursor, "then")
        await workspace.track(*events(MORE, "missed"))
        await workspace.track(*events(1, "until now"))
        await Follower().at_the_bus(gateway, workspace.id, first.cursors[-1], "until now")

        everybody = [Follower() for _ in range(RETURNING)]
        sockets = [Follower() for _ in range(SOCKETS)]
        live = Follower()
        async with asyncio.TaskGroup() as group, asyncio.timeout(120):
            now = (await workspace.data("{ streamCursor }"))["streamCursor"]
            group.create_task(live.at_a_socket(gateway, workspace.key, now, "last"))
            for number, follower in enumerate(everybody):
                after = first.cursors[number % PLACES]
                group.create_task(follower.at_the_bus(gateway, workspace.id, after, "last"))
            for number, follower in enumerate(sockets):
                group.create_task(follower.at_a_socket(gateway, workspace.key, first.cursors[number], "last"))
            waits = [await served(workspace, live) for _ in range(MEANWHILE)]
            assert max(waits) < A_WHILE
            await workspace.track(*events(1, "last"))
        assert streams.most == 2  # the bus's own, and one of the past
        assert streams.opened <= 2 + SOCKETS  # sockets come one by one, and each may find the last turn over

        everything = Follower()
        await everything.at_the_bus(gateway, workspace.id, cursor, "last")
        must = everything.seen
        assert len(must) == len(set(must)) == PLACES + 1 + MORE + 1 + MEANWHILE + 1
        for number, follower in enumerate(everybody):
            assert follower.seen == must[number % PLACES + 1 :]
        for number, follower in enumerate(sockets):
            assert follower.seen == must[number + 1 :]
        assert live.seen == must[-MEANWHILE - 1 :]


async def served(workspace: Any, live: Follower) -> float:
    """How long it takes until a query is answered, an event tracked, and a live subscriber told of it."""
    began = time.monotonic()
    assert len((await workspace.data(QUERY))["contacts"]["nodes"]) == 1
    (result,) = (await workspace.track(*events(1, "meanwhile")))["results"]
    while result["eventId"] not in live.seen:
        assert time.monotonic() - began < A_WHILE
        await asyncio.sleep(0.01)
    return time.monotonic() - began
