"""What a response is written to, once its connection has ended and the protocol does not know yet."""

import asyncio
from typing import cast

import uvloop

from gateway.server.uvicorn_http import ResponseOutput


def test_what_nobody_receives_any_more_is_discarded() -> None:
    async def write_to_what_was_aborted() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        output = ResponseOutput(cast(asyncio.Transport, writer.transport))
        output.write(b"a")
        writer.transport.abort()
        assert output.is_closing()
        output.write(b"b")  # the transport itself raises here
        server.close()

    uvloop.run(write_to_what_was_aborted())
