"""The demo of `gateway dev` keeps arriving, so that a first subscription shows something."""

import asyncio
from typing import Any

import orjson
import websockets


async def test_a_first_subscription_shows_something(program: Any, free_port: Any, started: Any) -> None:
    port = free_port()
    settings = {"GATEWAY_DEV_KEY": "local-dev-key", "GATEWAY_DEMO_SECONDS": "0.2"}
    async with started(program, port, "dev", "--port", str(port), **settings):
        url, headers = f"ws://127.0.0.1:{port}/graphql", {"authorization": "Bearer local-dev-key"}
        async with websockets.connect(url, subprotocols=["graphql-transport-ws"], additional_headers=headers) as socket:
            await socket.send('{"type": "connection_init"}')
            await socket.recv()
            query = "subscription { eventTracked { event { name contact { displayName } } summary { count } } }"
            await socket.send(orjson.dumps({"type": "subscribe", "id": "1", "payload": {"query": query}}).decode())
            seen = [
                orjson.loads(await asyncio.wait_for(socket.recv(), 20))["payload"]["data"]["eventTracked"]
                for _ in range(3)
            ]
    assert all(found["event"]["contact"]["displayName"] and found["summary"]["count"] >= 1 for found in seen)
    assert "Traceback" not in program.log
