"""Load from this process: requests over connections that stay open, as fast as the answers come, of a number that is said before."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from bench.processes import Server


@dataclass(frozen=True, slots=True)
class Taken:
    """What a number of requests took: the server's processor, and time."""

    requests: int
    cpu_seconds: float
    seconds: float

    @property
    def cpu_milliseconds(self) -> float:
        """Of a request."""
        return self.cpu_seconds * 1000 / self.requests

    @property
    def per_second(self) -> float:
        """Requests."""
        return self.requests / self.seconds


def request(path: str, body: object, key: str) -> bytes:
    """A POST of JSON, as bytes."""
    content = orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def take(server: Server, requests: Sequence[bytes], count: int, connections: int) -> Taken:
    """Send that many requests, taken in turn, over so many connections at once."""
    streams = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(connections)]
    numbers = iter(range(count))
    cpu, began = server.cpu_seconds(), time.perf_counter()
    await asyncio.gather(*(_keep_asking(stream, requests, numbers) for stream in streams))
    taken = Taken(count, server.cpu_seconds() - cpu, time.perf_counter() - began)
    for _, writer in streams:
        writer.close()
    return taken


async def ask(server: Server, one: bytes) -> object:
    """The answer to one request, as JSON."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(one)
    status, body = await _answer(reader)
    writer.close()
    if status != 200:
        raise SystemExit(f"{server.name} answers {status}: {body[:500]!r}")
    return orjson.loads(body)


async def _keep_asking(
    stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], requests: Sequence[bytes], numbers: "object"
) -> None:
    reader, writer = stream
    for number in numbers:  # type: ignore[attr-defined] # shared: each connection takes the next one
        writer.write(requests[number % len(requests)])
        status, body = await _answer(reader)
        if status != 200 or body.startswith(b'{"errors"'):
            raise SystemExit(f"a request is answered by {status}: {body[:500]!r}")


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    status = int(head[9:12])
    place = lower.find(b"content-length:")
    if place >= 0:
        return status, await reader.readexactly(int(lower[place + 15 : lower.index(b"\r\n", place)]))
    return status, await _chunks(reader)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body
