"""Peers that send and read raw bytes on a socket, as no client library would."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator

SMALLEST = 4096  # bytes of a receive buffer: what a peer does not read soon waits on the other side
LONG = 60_000_000
MOST_SENT = 20_000_000  # what the system may keep of what is not read, and much less than LONG
HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n"
)


class Peer:
    """A connection on which a test sends and reads bytes as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.sent = 0

    async def send(self, *parts: bytes, pause: float = 0.0) -> None:
        """Send, as far as the other side takes it."""
        with contextlib.suppress(ConnectionError):
            for part in parts:
                self.writer.write(part)
                await self.writer.drain()
                self.sent += len(part)
                await asyncio.sleep(pause)

    async def flood(self, part: bytes) -> None:
        """Send the same again and again, until nobody takes it."""
        with contextlib.suppress(ConnectionError):
            while self.sent < LONG and not self.reader.at_eof():
                self.writer.write(part)
                await self.writer.drain()
                self.sent += len(part)
                await asyncio.sleep(0)

    async def rest(self) -> bytes:
        """All that is answered until the connection is closed by the other side."""
        answer = bytearray()
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(60):
                while part := await self.reader.read(65_536):
                    answer += part
        return bytes(answer)

    async def answer(self) -> tuple[int, bytes]:
        """The status and the body of one answer."""
        async with asyncio.timeout(30):
            head = await self.reader.readuntil(b"\r\n\r\n")
            (length,) = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            return int(head.split()[1]), await self.reader.readexactly(length)


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Peer]:
    """A peer of the server of that URL."""
    host, port = url.split("/")[2].split(":")
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALLEST)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=raw, limit=SMALLEST)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


def statuses(answer: bytes) -> list[int]:
    """The statuses of the answers that are in it."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def frame(head: int, payload: bytes = b"") -> bytes:
    """A frame of a websocket's client, whose mask is zero; the head is the FIN bit and the opcode."""
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes([head]) + length + bytes(4) + payload
