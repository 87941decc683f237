"""Many websockets that listen, in a process of their own: they count what comes and say when the last of it came.

listeners.py PORT PATH COUNT OPENINGS      (OPENINGS: a JSON list of lists of texts that each socket sends, taken in turn)

Reads a number of messages from its input, and writes one line of JSON once every socket has got as many more.
"""

import asyncio
import base64
import os
import struct
import sys
import time
from contextlib import suppress

import orjson
import uvloop

_AT_ONCE = 200


class Listener(asyncio.Protocol):
    """One socket, read as sparingly as can be: frames are counted, not decoded."""

    def __init__(self, path: str, openings: list[str], counted: "Counted") -> None:
        self._head = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n"
            + ("Sec-WebSocket-Protocol: graphql-transport-ws\r\n" if openings else "")
            + "\r\n"
        ).encode()
        self._openings = openings
        self._counted = counted
        self._buffer = b""
        self._open = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shake hands."""
        self._transport = transport
        transport.write(self._head)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Count the frames that are whole."""
        self._buffer += data
        if not self._open:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head:
                raise SystemExit(f"no websocket: {head[:200]!r}")
            self._open, self._buffer = True, rest
            if self._openings:
                self._send(0x81, self._openings[0].encode())
            else:
                self.ready.set_result(None)
        while (frame := self._frame()) is not None:
            self._take(*frame)

    def connection_lost(self, exc: Exception | None) -> None:
        """A listener that is cut off is a failed measurement."""
        if not self._counted.over:
            print(orjson.dumps({"lost": str(exc)}).decode(), flush=True)
            os._exit(1)

    def _frame(self) -> tuple[int, bytes] | None:
        if len(self._buffer) < 2:
            return None
        size, start = self._buffer[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(self._buffer[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(self._buffer[2:10]), 10
        if len(self._buffer) < start + size:
            return None
        kind, body = self._buffer[0] & 0x0F, self._buffer[start : start + size]
        self._buffer = self._buffer[start + size :]
        return kind, body

    def _take(self, kind: int, body: bytes) -> None:
        if kind == 9:
            self._send(0x8A, body)
        elif kind == 1 and not self.ready.done():
            for text in self._openings[1:]:
                self._send(0x81, text.encode())
            self.ready.set_result(None)
        elif kind == 1 and b'"ping"' not in body[:40]:
            self._counted.add(len(body))

    def _send(self, first: int, body: bytes) -> None:
        size = struct.pack("!B", 0x80 | len(body)) if len(body) < 126 else struct.pack("!BH", 0x80 | 126, len(body))
        self._transport.write(bytes([first]) + size + bytes(4) + body)  # type: ignore[attr-defined] # masked with zeros


class Counted:
    """What all listeners got."""

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.wanted = 0
        self.over = False
        self.reached = asyncio.Event()

    def add(self, size: int) -> None:
        """One message more."""
        self.messages += 1
        self.bytes += size
        if self.messages == self.wanted:
            self.reached.set()


async def main(port: int, path: str, count: int, openings: list[list[str]]) -> None:
    """Connect, then report."""
    loop, counted = asyncio.get_running_loop(), Counted()
    for start in range(0, count, _AT_ONCE):
        made = [
            loop.create_connection(
                lambda number=number: Listener(path, openings[number % len(openings)] if openings else [], counted),  # type: ignore[misc]
                "127.0.0.1",
                port,
            )
            for number in range(start, min(start + _AT_ONCE, count))
        ]
        await asyncio.gather(*(listener.ready for _, listener in await asyncio.gather(*made)))
    print(orjson.dumps({"listening": count}).decode(), flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        before = counted.bytes
        counted.reached.clear()
        counted.wanted = counted.messages + int(line) * count
        print(orjson.dumps({"waiting": counted.messages}).decode(), flush=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                await counted.reached.wait()
        missing = counted.wanted - counted.messages
        told = {"at": time.time(), "missing": missing, "bytes": (counted.bytes - before) // (int(line) * count)}
        print(orjson.dumps(told).decode(), flush=True)
    counted.over = True


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), orjson.loads(sys.argv[4])))
