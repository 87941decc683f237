"""What sending alone costs: a server of `websockets` that sends one text to everybody who listens, one after the other.

raw_sockets.py BYTES PORT
"""

import asyncio
import logging
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, serve

Listeners = set[ServerConnection]


async def main(size: int, port: int) -> None:
    """Serve until terminated: who sends `go` is no listener, and has the others sent to."""
    listeners: Listeners = set()

    async def handle(connection: ServerConnection) -> None:
        listeners.add(connection)
        try:
            async for message in connection:
                if message == "go":
                    listeners.discard(connection)
                    for listener in [*listeners]:
                        await listener.send("x" * size)
        finally:
            listeners.discard(connection)

    async with serve(handle, "127.0.0.1", port, compression=None, ping_interval=None, open_timeout=60, backlog=4096):
        await asyncio.Future()


if __name__ == "__main__":
    logging.disable()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
