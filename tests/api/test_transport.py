"""What a peer may send before it is answered, and how long it may take: raw bytes on a socket, with short limits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import websockets
from gateways import Gateway, OpenGateway
from peers import HANDSHAKE, LONG, MOST_SENT, Peer, connected, frame, statuses

from gateway.server.connections import Connections
from gateway.settings import Settings

GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /graphql HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OPERATION = b'{"query": "{ streamCursor }"}'


@pytest.fixture(scope="module")
async def gateway(open_gateway: OpenGateway) -> AsyncIterator[Gateway]:
    """One that waits for nobody."""
    limits = {"header_seconds": 0.6, "body_seconds": 0.6, "stalled_seconds": 0.6, "keep_alive_seconds": 0.6}
    async with open_gateway(rolls_up=False, max_body_bytes=100_000, **limits) as opened:
        yield opened


@pytest.fixture(scope="module")
async def patient_gateway(open_gateway: OpenGateway) -> AsyncIterator[Gateway]:
    """One that waits for messages, for tests of their size alone."""
    limits = {"stalled_seconds": 0.6, "keep_alive_seconds": 0.6}
    async with open_gateway(rolls_up=False, max_body_bytes=100_000, **limits) as opened:
        yield opened


def peer_of(gateway: Any) -> contextlib.AbstractAsyncContextManager[Peer]:
    return connected(gateway.url)


async def is_served(gateway: Any) -> bool:
    async with peer_of(gateway) as peer:
        await peer.send(GET)
        return await peer.answer() == (200, b'{"status":"ok"}')


@pytest.mark.parametrize(
    ("begin", "part", "status"),
    [
        (b"GET / HTTP/1.1\r\nA: ", b"x" * 10_000, 431),
        (b"GET / HTTP/1.1\r\n", b"x" * 10_000, 431),
        (b"GET / HTTP/1.1\r\n", b"A: b\r\n" * 1000, 431),
        (b"GET /?", b"x" * 10_000, 414),
        (b"", b"\r\n" * 5000, 431),
        (GET, b"\r\n" * 5000, 431),
        (GET + b"GET / HTTP/1.1\r\nA: ", b"x" * 10_000, 431),
        (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\nA: ", b"x" * 10_000, 431),
    ],
    ids=["value", "name", "many", "url", "empty lines", "empty lines later", "second request", "upgrade"],
)
async def test_headers_are_cut_off_while_they_are_sent(
    patient_gateway: Gateway, begin: bytes, part: bytes, status: int
) -> None:
    async with peer_of(patient_gateway) as peer:
        await peer.send(begin)
        _, answer = await asyncio.gather(peer.flood(part), peer.rest())
        assert peer.sent < MOST_SENT
        assert statuses(answer)[-1:] == [status]
        assert b"connection: close" in answer
    assert await is_served(patient_gateway)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 65_536 + b"\r\n\r\n", 431),
        (b"GET /?" + b"x" * 65_536 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"A%d: b\r\n" % number for number in range(101)) + b"\r\n", 431),
        (GET + b"GET / HTTP/1.1\r\nA: " + b"x" * 65_536 + b"\r\n\r\n", 431),
        (CHUNKED + b"0\r\nA: " + b"x" * 200_000 + b"\r\n\r\n", 401),  # before the body; then it is idle, and closed
    ],
    ids=["value", "url", "many", "second request", "trailer"],
)
async def test_a_request_that_arrives_at_once_is_refused_too(
    patient_gateway: Gateway, sent: bytes, status: int
) -> None:
    async with peer_of(patient_gateway) as peer:
        await peer.send(sent)
        assert statuses(await peer.rest())[-1:] == [status]


async def test_headers_within_the_limits_are_served(patient_gateway: Gateway) -> None:
    headers = b"".join(b"A%d: %s\r\n" % (number, b"x" * 600) for number in range(98))
    async with peer_of(patient_gateway) as peer:
        for _ in range(2):
            await peer.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n")
            assert (await peer.answer())[0] == 200


@pytest.mark.parametrize(
    ("begin", "drip", "answered"),
    [
        (b"", b"", []),
        (b"G", b"", [408]),
        (b"GET / HTTP/1.1\r\nA: ", b"x", [408]),
        (b"GET / HTTP/1.1\r\n", b"A: b\r\n", [408]),
        (b"\r\n", b"\r\n", [408]),
        (GET, b"", [200]),
        (GET + b"G", b"", [200]),
        (GET + b"GET / HTTP/1.1\r\nA: ", b"x", [200, 408]),
        (POST + b"Content-Length: 99\r\n\r\n", b"", [408]),
        (POST + b"Content-Length: 99\r\n\r\n", b"x", [408]),
        (POST + b"Content-Length: 99\r\nExpect: 100-continue\r\n\r\n", b"", [100, 408]),
        (CHUNKED, b"", [408]),
        (CHUNKED, b"1\r\nx\r\n", [408]),
        (CHUNKED + b"1;a=", b"x", [408]),
        (CHUNKED + b"0\r\nA: ", b"x", [408]),
        (GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 99\r\n\r\n"), b"x", [200]),
    ],
)
async def test_a_peer_that_is_too_slow_is_cut_off(gateway: Any, begin: bytes, drip: bytes, answered: list[int]) -> None:
    async with peer_of(gateway) as peer:
        await peer.send(begin)
        dripping = asyncio.create_task(peer.send(*[drip] * 1000, pause=0.1))
        answer = await peer.rest()
        assert not dripping.done() or not drip
        dripping.cancel()
        # without a credential the gateway may refuse an operation before its body: then there is no 408
        refused = [401 if status == 408 else status for status in answered if status != 100]
        assert statuses(answer) in (answered, refused)
    assert await is_served(gateway)


async def test_a_body_that_arrives_at_the_least_rate_is_read(gateway: Any) -> None:
    workspace = await gateway.workspace()
    head = POST + b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n" % (workspace.key.encode(), 8000)
    body = OPERATION.ljust(8000)
    async with peer_of(gateway) as peer:
        await peer.send(head, *(body[at : at + 2000] for at in range(0, 8000, 2000)), pause=0.4)
        status, answer = await peer.answer()
        assert (status, list(orjson.loads(answer)["data"])) == (200, ["streamCursor"])


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        (CHUNKED, b"1\r\nx\r\n" * 1000),
        (CHUNKED, b"1;" + b"a" * 998 + b"\r\nx\r\n"),
        (CHUNKED + b"1;", b"a" * 1000),
        (CHUNKED, b"0" * 1000),
        (CHUNKED + b"0\r\n", b"A: b\r\n" * 1000),
        (CHUNKED + b"0\r\nA: ", b"b" * 1000),
        (CHUNKED, b"3e8\r\n" + b"x" * 1000 + b"\r\n"),
        (GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 999999999\r\n\r\n"), b"x" * 1000),
        (POST + b"Content-Length: 999999999\r\n\r\n", b"x" * 1000),
    ],
    ids=["tiny chunks", "extensions", "extension", "size", "trailers", "trailer", "chunks", "unread body", "body"],
)
async def test_a_body_without_end_is_cut_off(patient_gateway: Gateway, begin: bytes, part: bytes) -> None:
    async with peer_of(patient_gateway) as peer:
        await peer.send(begin)
        _, answer = await asyncio.gather(peer.flood(part * 10), peer.rest())
        assert peer.sent < MOST_SENT
        assert len(statuses(answer)) == 1
    assert await is_served(patient_gateway)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n01234", 400),
        (POST + b"Content-Length: +5\r\n\r\n01234", 400),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Expect: 100-continue\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
        (POST.replace(b"/1.1", b"/1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (CHUNKED + b"-1\r\nx\r\n0\r\n\r\n", 400),
        (CHUNKED + b"fffffffffffffffff\r\nx\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1\nx\n0\n\n", 400),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\nB: c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n: b\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET /\r\n\r\n", 505),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /graphql HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\nx", 400),
        (CHUNKED.replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n") + b"0\r\n\r\n", 400),
        (CHUNKED[:-2] + b"Upgrade: h2c\r\nConnection: upgrade\r\n\r\n0\r\n\r\n", 400),
    ],
)
async def test_an_ambiguous_request_is_refused_and_what_follows_is_not_read(
    gateway: Any, request_: bytes, status: int
) -> None:
    async with peer_of(gateway) as peer:
        await peer.send(GET)
        assert (await peer.answer())[0] == 200
        await peer.send(request_ + GET)
        assert statuses(await peer.rest()) == [status]


async def test_a_trailer_is_no_header(gateway: Any) -> None:
    workspace = await gateway.workspace()
    body = b"%x\r\n%s\r\n0\r\n" % (len(OPERATION), OPERATION)
    header = b"Authorization: Bearer " + workspace.key.encode()
    async with peer_of(gateway) as peer:
        for sent, refused in ((CHUNKED + body + header + b"\r\n\r\n", True), (CHUNKED[:-2] + header + b"\r\n\r\n" + body + b"\r\n", False)):  # fmt: skip
            await peer.send(sent)
            _, answer = await peer.answer()
            assert ("errors" in orjson.loads(answer)) is refused


async def test_a_refused_expectation_ends_the_connection(gateway: Any) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(GET)
    async with peer_of(gateway) as peer:
        await peer.send(head + GET + GET)  # a body and the next request, or two requests
        assert statuses(await peer.rest()) == [200]


async def test_pipelined_requests_are_answered_in_order_before_a_refusal(gateway: Any) -> None:
    async with peer_of(gateway) as peer:
        await peer.send(GET * 3 + b"GET /nowhere HTTP/1.1\r\n\r\n" + b"Nonsense\r\n\r\n" + GET)
        assert statuses(await peer.rest()) == [200, 200, 200, 404, 400]
    async with peer_of(gateway) as peer:
        await peer.send(GET * 5000)
        answered = statuses(await peer.rest())
    assert answered == [200] * 17 + [400]  # one is being answered while 16 wait
    async with peer_of(gateway) as peer:
        await peer.send(GET * 2 + POST + b"Content-Length: 99\r\n\r\n")
        assert statuses(await peer.rest()) in ([200, 200, 408], [200, 200, 401])


async def test_an_upgrade_waits_for_earlier_answers(gateway: Any) -> None:
    async with peer_of(gateway) as peer:
        await peer.send(GET + HANDSHAKE + b"\r\n")
        assert statuses(await peer.rest()) == [200, 400]
    async with peer_of(gateway) as peer:
        await peer.send(GET.replace(b"\r\n\r\n", b"\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n") + GET)
        assert [(await peer.answer())[0], (await peer.answer())[0]] == [200, 200]


@pytest.mark.parametrize("path", [b"/metrics", b"/healthz"])
async def test_a_peer_that_reads_no_answers_is_cut_off(gateway: Any, path: bytes) -> None:
    async with peer_of(gateway) as peer:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.wait_for(peer.flood(GET.replace(b"/healthz", path) * 10), 60)
        assert peer.sent < LONG
    async with peer_of(gateway) as peer:  # the same, but it closes by itself after the answer
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await peer.send(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert await is_served(gateway)


async def test_connections_are_limited_and_freed(open_gateway: Any) -> None:
    for setting in ("max_connections", "max_connections_per_address"):
        async with open_gateway(rolls_up=False, **{setting: 3}) as gateway, contextlib.AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(peer_of(gateway)) for _ in range(3)]
            for peer in peers:
                await peer.send(GET)
                assert (await peer.answer())[0] == 200
            async with peer_of(gateway) as refused:
                assert statuses(await refused.rest()) == [503]
            peers[0].writer.close()
            await until_served(gateway)
            async with contextlib.AsyncExitStack() as opened:
                upgraded = await until_upgraded(gateway, opened)  # a socket keeps the place of its connection
                async with peer_of(gateway) as refused:
                    assert statuses(await refused.rest()) == [503]
                upgraded.writer.close()
            await until_served(gateway)


class Untouched:
    """A connection that is left alone."""

    def look(self, now: float) -> None:
        """Nothing is late."""


async def test_connections_of_one_ipv6_network_count_together() -> None:
    connections = Connections(Settings(max_connections_per_address=1))
    addresses = ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1", "192.0.2.1", "192.0.2.2", "192.0.2.1")
    assert [connections.add(Untouched(), address) for address in addresses] == [True, False, True, True, True, False]


async def until_upgraded(gateway: Any, opened: contextlib.AsyncExitStack) -> Peer:
    async with asyncio.timeout(30):
        while True:
            peer = await opened.enter_async_context(raw_socket(gateway))
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                if (await peer.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 "):
                    return peer
            peer.writer.close()


async def until_served(gateway: Any) -> None:
    async with asyncio.timeout(30):
        while True:
            async with peer_of(gateway) as peer:
                await peer.send(GET)
                if (await peer.answer())[0] == 200:
                    return


@contextlib.asynccontextmanager
async def raw_socket(gateway: Any, *headers: bytes) -> AsyncIterator[Peer]:
    async with peer_of(gateway) as peer:
        await peer.send(HANDSHAKE, *headers, b"\r\n")
        yield peer


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"A: " + b"x" * 10_000 + b"\r\n", 431),
        (b"A: " + b"x" * 65_536 + b"\r\n", 431),
        (b"".join(b"A%d: b\r\n" % number for number in range(130)), 431),
    ],
)
async def test_a_handshake_with_large_headers_is_refused(gateway: Any, header: bytes, status: int) -> None:
    async with raw_socket(gateway, header) as peer:
        assert statuses(await peer.rest()) == [status]
    async with raw_socket(gateway, b"A: " + b"x" * 8000 + b"\r\n") as peer:
        assert (await asyncio.wait_for(peer.reader.readline(), 30)).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    "kinds",
    [(0x89,), (0x8A,), (0x01, 0x00), (0x81,), (0x89, 0x01, 0x00, 0x00)],
    ids=["ping", "pong", "empty fragments", "empty messages", "between"],
)
async def test_frames_that_bring_nothing_are_cut_off(gateway: Any, kinds: tuple[int, ...]) -> None:
    first, *others = (frame(kind) for kind in kinds)
    async with raw_socket(gateway) as peer:
        await asyncio.wait_for(peer.reader.readuntil(b"\r\n\r\n"), 30)
        await peer.send(first)
        await asyncio.gather(peer.flood((b"".join(others) or first) * 100), peer.rest())
        assert peer.sent < MOST_SENT
    assert await is_served(gateway)


@pytest.mark.parametrize("kinds", [(0x89,), (0x8A,), (0x01, 0x00)], ids=["ping", "pong", "empty fragments"])
async def test_frames_that_bring_nothing_are_cut_off_in_small_portions_too(
    gateway: Any, kinds: tuple[int, ...]
) -> None:
    first, *others = (frame(kind) for kind in kinds)
    async with raw_socket(gateway) as peer:
        await asyncio.wait_for(peer.reader.readuntil(b"\r\n\r\n"), 30)
        await peer.send(first)
        _, answer = await asyncio.gather(peer.send(*[(others or [first])[0] * 40] * 20, pause=0.02), peer.rest())
        assert b"\x03\xeatoo many control frames or small fragments" in answer  # 1002


async def test_a_few_control_frames_and_fragments_are_taken(gateway: Any) -> None:
    async with raw_socket(gateway) as peer:
        await asyncio.wait_for(peer.reader.readuntil(b"\r\n\r\n"), 30)
        first, second = b'{"type":', b'"ping"}'
        await peer.send(frame(0x89, b"a") * 50 + frame(0x01, first) + frame(0x00) * 50 + frame(0x80, second))
        pongs = await asyncio.wait_for(peer.reader.readexactly(50 * 3), 30)
        assert pongs == b"\x8a\x01a" * 50
        assert (await asyncio.wait_for(peer.reader.readexactly(2 + 15), 30))[2:] == b'{"type":"pong"}'


async def test_messages_are_small_until_the_credential_is_known(gateway: Any) -> None:
    workspace = await gateway.workspace()
    url, large = gateway.url.replace("http", "ws"), "x" * 70_000
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {workspace.key}"}}
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"]) as connection:  # type: ignore[list-item]
        await connection.send(orjson.dumps(init | {"padding": large}).decode())
        await asyncio.wait_for(connection.wait_closed(), 5)
        assert connection.close_code == 1009
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"]) as connection:  # type: ignore[list-item]
        await connection.send(orjson.dumps(init).decode())
        assert orjson.loads(await connection.recv()) == {"type": "connection_ack"}
        await connection.send(orjson.dumps({"type": "ping", "payload": {"padding": large}}).decode())
        assert orjson.loads(await connection.recv()) == {"type": "pong"}
        await connection.send("x" * 100_001)
        await asyncio.wait_for(connection.wait_closed(), 5)
        assert connection.close_code == 1009
