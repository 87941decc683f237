"""Sockets under hard conditions: peers that read nothing, keys that are revoked."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import uvicorn
import websockets
from gateways import subscribers
from processes import becomes_true

from gateway.app import create_app
from gateway.auth import Authenticator
from gateway.core.principals import Principal, Scope
from gateway.server.uvicorn_options import server_options

SMALLEST = 4096  # bytes of a receive buffer: what a peer does not read soon waits on the server's side
TEXTS = "subscription($after: String) { eventTracked(after: $after) { cursor event { id metadataJson } } }"
UNKNOWN = "This API key is unknown or was revoked: 'gateway keys create' creates a new one."


class Stumbling(Authenticator):
    """An authenticator that now and then fails in a way that nobody foresaw."""

    stumbles = 0

    async def principal(self, authorization: str | None) -> Principal | None:
        if self.stumbles:
            self.stumbles -= 1
            raise RuntimeError("nobody foresaw this")
        return await super().principal(authorization)


@contextlib.asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[str]:
    """That application on a port of its own, whose system keeps little for peers that do not read; the URL of its sockets."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALLEST)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", **({"log_config": None} | options)))
    task = asyncio.create_task(server.serve([listening]))
    yield f"ws://127.0.0.1:{listening.getsockname()[1]}/graphql"
    server.should_exit = True
    await task


@contextlib.asynccontextmanager
async def connected(url: str, key: str, **options: Any) -> AsyncIterator[Any]:
    """A socket that has said who it is."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALLEST)
    raw.setblocking(False)
    host, port = url.split("/")[2].split(":")
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    async with websockets.connect(
        url, sock=raw, subprotocols=["graphql-transport-ws"], compression=None, ping_interval=None, close_timeout=1, **options
    ) as connection:  # fmt: skip
        await send(connection, type="connection_init", payload={"authorization": f"Bearer {key}"})
        assert await told(connection) == {"type": "connection_ack"}
        yield connection


async def send(connection: Any, **message: Any) -> None:
    await connection.send(orjson.dumps(message).decode())


async def told(connection: Any, seconds: float = 30) -> Any:
    return orjson.loads(await asyncio.wait_for(connection.recv(), seconds))


async def test_a_peer_that_takes_nothing_is_cut_off_and_one_that_is_slow_is_not(open_gateway: Any) -> None:
    async with open_gateway(stalled_seconds=2) as gateway:
        workspace = await gateway.workspace()
        app = create_app(gateway.runtime, gateway.runtime.authenticator())
        async with (
            serving(app, **server_options(gateway.runtime.services.settings)) as url,
            connected(url, workspace.key, max_queue=1) as stalled,
            connected(url, workspace.key, max_queue=1) as slow,
        ):
            for connection in (stalled, slow):
                await send(connection, type="subscribe", id="1", payload={"query": TEXTS})
            await becomes_true(lambda: subscribers(gateway) == 2)
            event = {"contact": {"externalId": "u"}, "name": "wrote", "metadata": {"text": "x" * 30_000}}
            ids = [item["eventId"] for item in (await workspace.track(*([event] * 40)))["results"]]
            seen = []
            for _ in ids:
                seen.append(tracked(await told(slow)))
                await asyncio.sleep(0.1)
            assert [item["event"]["id"] for item in seen] == ids
            await becomes_true(lambda: subscribers(gateway) == 1)
            early = []
            with contextlib.suppress(websockets.ConnectionClosedError):
                while True:
                    early.append(tracked(await told(stalled)))
            assert stalled.close_code == 1006
            async with connected(url, workspace.key) as again:
                variables = {"after": early[-1]["cursor"]}
                await send(again, type="subscribe", id="1", payload={"query": TEXTS, "variables": variables})
                late = [tracked(await told(again)) for _ in range(len(ids) - len(early))]
            assert [item["event"]["id"] for item in early + late] == ids


async def test_a_revoked_key_ends_its_sockets_and_no_others(open_gateway: Any) -> None:
    async with open_gateway(max_sockets_per_key=1) as gateway:
        runtime, workspace = gateway.runtime, await gateway.workspace()
        row, revoked = await runtime.workspaces.create_key(workspace.id, list(Scope))
        authenticator = Stumbling(runtime.services.store, runtime.clock, runtime.signer, remembered_seconds=0.1)
        async with (
            serving(create_app(runtime, authenticator, check_seconds=0.2)) as url,
            connected(url, workspace.key) as kept,
            connected(url, revoked) as ended,
        ):
            for connection in (kept, ended):
                await send(connection, type="subscribe", id="1", payload={"query": TEXTS})
            await becomes_true(lambda: subscribers(gateway) == 2)
            await workspace.track({"contact": {"externalId": "u"}, "name": "before"})
            assert [(await told(connection))["type"] for connection in (kept, ended)] == ["next", "next"]
            authenticator.stumbles = 4
            await becomes_true(lambda: authenticator.stumbles == 0)
            await runtime.workspaces.revoke_key(workspace.id, row["_id"])
            await ended.wait_closed()
            assert (ended.close_code, ended.close_reason) == (4401, UNKNOWN)
            await becomes_true(lambda: subscribers(gateway) == 1)
            with pytest.raises(websockets.ConnectionClosedError) as refused:
                async with connected(url, revoked):
                    pass
            assert (refused.value.rcvd.code, refused.value.rcvd.reason) == (4403, UNKNOWN)
            await workspace.track({"contact": {"externalId": "u"}, "name": "after"})
            assert (await told(kept))["type"] == "next"
            await kept.close()
            await becomes_true(lambda: subscribers(gateway) == 0)
            async with connected(url, workspace.key):  # its place is free again
                pass


def tracked(message: Any) -> Any:
    return message["payload"]["data"]["eventTracked"]


async def test_who_asks_alike_is_told_the_same_whoever_began_and_however_it_is_sent(open_gateway: Any) -> None:
    async with open_gateway() as gateway:
        workspace = await gateway.workspace()
        app = create_app(gateway.runtime, gateway.runtime.authenticator())
        options = server_options(gateway.runtime.services.settings) | {"ws_per_message_deflate": True}
        cursors = [(await workspace.data("{ streamCursor }"))["streamCursor"]]
        await workspace.track({"contact": {"externalId": "u"}, "name": "before"})
        async with contextlib.AsyncExitStack() as stack:
            url = await stack.enter_async_context(serving(app, **options))
            first, *others = [await stack.enter_async_context(connected(url, workspace.key)) for _ in range(3)]
            squeezed = await stack.enter_async_context(
                websockets.connect(url, subprotocols=["graphql-transport-ws"])  # type: ignore[list-item]
            )
            await send(squeezed, type="connection_init", payload={"authorization": f"Bearer {workspace.key}"})
            assert await told(squeezed) == {"type": "connection_ack"}
            assert squeezed.protocol.extensions
            await send(first, type="subscribe", id="1", payload={"query": TEXTS, "variables": {"after": cursors[0]}})
            cursors.append(tracked(await told(first))["cursor"])
            for connection, after in zip((*others, squeezed), (*cursors, cursors[1]), strict=True):
                await send(
                    connection, type="subscribe", id="1", payload={"query": TEXTS, "variables": {"after": after}}
                )
            await send(others[1], type="subscribe", id="ü", payload={"query": TEXTS})
            await becomes_true(lambda: subscribers(gateway) == 5)
            assert tracked(await told(others[0]))["cursor"] == cursors[1]
            for leaves, listening in ((first, 5), (None, 4)):
                text = "x" * 30_000 if leaves is None else "short"
                (result,) = (
                    await workspace.track({"contact": {"externalId": "u"}, "name": "now", "metadata": {"text": text}})
                )["results"]
                heard = [await told(one) for one in (*([leaves] if leaves else []), others[0], squeezed)]
                twice = [await told(others[1]) for _ in range(2)]
                assert {one["id"] for one in twice} == {"1", "ü"}
                assert {tracked(one)["event"]["id"] for one in (*heard, *twice)} == {result["eventId"]}
                assert subscribers(gateway) == listening
                if leaves is not None:
                    await leaves.close()
                    await becomes_true(lambda: subscribers(gateway) == 4)
            await send(others[1], type="complete", id="1")
            await becomes_true(lambda: subscribers(gateway) == 3)
            for connection in (*others, squeezed):
                await connection.close()
            await becomes_true(lambda: subscribers(gateway) == 0)
