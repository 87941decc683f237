"""What a contact's token may open at once, and that those who never read what they resume hold up nobody."""

import asyncio
import contextlib
import socket
import uuid
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import uvicorn
import websockets
from gateways import subscribers
from processes import becomes_true

from gateway.app import create_app
from gateway.bus import catch_up
from gateway.server.uvicorn_options import server_options

SMALLEST = 4096  # bytes of a buffer: what a peer does not read soon waits on the server's side
NAMES = "subscription($after: String) { eventTracked(after: $after) { cursor event { name } } }"
TEXTS = "subscription($after: String) { eventTracked(after: $after) { cursor event { id metadataJson } } }"
STALLED, READING, EVENTS = 20, 40, 60


@contextlib.asynccontextmanager
async def serving(gateway: Any) -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALLEST)
    app = create_app(gateway.runtime, gateway.runtime.authenticator())
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", **server_options(gateway.runtime.services.settings)))
    task = asyncio.create_task(server.serve([listening]))
    yield f"ws://127.0.0.1:{listening.getsockname()[1]}/graphql"
    server.should_exit = True
    await task


@contextlib.asynccontextmanager
async def connected(url: str, credential: str, **options: Any) -> AsyncIterator[Any]:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALLEST)
    raw.setblocking(False)
    host, port = url.split("/")[2].split(":")
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    async with websockets.connect(
        url, sock=raw, subprotocols=["graphql-transport-ws"], compression=None, ping_interval=None, close_timeout=0.1, **options
    ) as connection:  # fmt: skip
        await send(connection, type="connection_init", payload={"authorization": f"Bearer {credential}"})
        assert await heard(connection) == {"type": "connection_ack"}
        yield connection


async def send(connection: Any, **message: Any) -> None:
    await connection.send(orjson.dumps(message).decode())


async def subscribe(connection: Any, id_: str, query: str, after: str | None = None) -> None:
    await send(connection, type="subscribe", id=id_, payload={"query": query, "variables": {"after": after}})


async def heard(connection: Any) -> Any:
    return orjson.loads(await asyncio.wait_for(connection.recv(), 60))


async def test_a_contact_has_so_many_sockets_and_each_so_many_operations(open_gateway: Any) -> None:
    async with open_gateway(max_sockets_per_token=2, max_operations_per_token_socket=3) as gateway:
        workspace = await gateway.workspace()
        await workspace.track({"contact": {"externalId": "u"}, "name": "did"})
        tokens = [await workspace.token(externalId="u") for _ in range(3)]
        async with contextlib.AsyncExitStack() as stack:
            url = await stack.enter_async_context(serving(gateway))
            first, second = [await stack.enter_async_context(connected(url, token)) for token in tokens[:2]]
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                async with connected(url, tokens[2]):
                    pass
            reason = "This contact has 2 open sockets: close one first."
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4403, reason)
            for number in range(4):
                await subscribe(first, f"{number}", NAMES)
            refused = await heard(first)
            assert (refused["id"], refused["type"]) == ("3", "error")
            (error,) = refused["payload"]
            assert error["extensions"]["code"] == "LIMIT_EXCEEDED"
            assert error["message"].startswith("This socket has 3 active operations")
            await send(first, type="complete", id="0")
            await becomes_true(lambda: subscribers(gateway) == 2)
            await subscribe(first, "4", NAMES)
            async with connected(url, workspace.key) as keyed:  # a key has other limits
                for number in range(4):
                    await subscribe(keyed, f"{number}", NAMES)
                await subscribe(second, "0", NAMES)
                await becomes_true(lambda: subscribers(gateway) == 8)
                await workspace.track({"contact": {"externalId": "u"}, "name": "again"})
                assert {(await heard(keyed))["id"] for _ in range(4)} == {"0", "1", "2", "3"}
                assert {(await heard(first))["id"] for _ in range(3)} == {"1", "2", "4"}
                assert (await heard(second))["id"] == "0"


async def test_those_who_resume_and_never_read_hold_up_nobody(open_gateway: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(catch_up, "_PATIENCE_SECONDS", 600)  # who waited for those who read nothing would not finish
    database = f"resume_{uuid.uuid4().hex[:8]}"
    async with open_gateway(database=database) as before:
        workspace = await before.workspace()
        cursor = (await workspace.data("{ streamCursor }"))["streamCursor"]
        text = {"text": "x" * 30_000}
        event = {"contact": {"externalId": "u"}, "name": "wrote", "metadata": text}
        tracked = [(await workspace.track(event))["results"][0]["eventId"] for _ in range(EVENTS)]
        token = await workspace.token(externalId="u")
    async with open_gateway(database=database, stream_queue=10) as after, contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(after))
        for _ in range(STALLED):
            stuck = await stack.enter_async_context(connected(url, token, max_queue=1))
            await subscribe(stuck, "1", TEXTS, cursor)
        readers = [await stack.enter_async_context(connected(url, workspace.key)) for _ in range(READING)]
        for reader in readers:
            await subscribe(reader, "1", "subscription($after: String) { eventTracked(after: $after) { cursor event { id } } }", cursor)  # fmt: skip

        async def events(reader: Any) -> list[str]:
            payloads = [(await heard(reader))["payload"]["data"]["eventTracked"] for _ in range(EVENTS)]
            return [payload["event"]["id"] for payload in payloads]

        assert await asyncio.gather(*(events(reader) for reader in readers)) == [tracked] * READING
        dropped = after.runtime.services.metrics.registry.get_sample_value("gateway_slow_subscribers_total")
        assert dropped == 0
