"""Peers that are slow, silent or without end do not keep others from being served, also while a worker is killed."""

import asyncio
import contextlib
import itertools
import os
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from signal import SIGKILL
from typing import Any

import httpx
import psutil
import pytest
from peers import HANDSHAKE, MOST_SENT, Peer, connected, frame, statuses
from processes import becomes_true, new_workspace

LIMITS = {f"GATEWAY_{name}_SECONDS": "1" for name in ("HEADER", "BODY", "KEEP_ALIVE", "STALLED", "SOCKET_INIT")}
GET = b"GET /metrics HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /graphql HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
TRACK = """mutation($e: TrackEventInput!) { trackEvent(input: $e)
  { event { id } userErrors { code message path } } }"""
COUNT = "{ contacts(first: 10) { nodes { eventSummaries(first: 10) { nodes { count } } } } }"
EVENTS = (
    "query($after: String) { events(first: 100, after: $after) { nodes { id } pageInfo { hasNextPage endCursor } } }"
)
SLOW, CLIENTS, CALLS = 20, 8, 25


async def drip(peer: Peer, begin: bytes, part: bytes) -> None:
    """Send one part after the other, and read, until the connection is closed."""
    await peer.send(begin)
    dripping = asyncio.create_task(peer.send(*[part] * 1000, pause=0.2))
    try:
        await peer.rest()
    finally:
        dripping.cancel()


async def read_nothing(peer: Peer) -> None:
    """Send requests without reading their answers, until the connection is closed."""
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await peer.flood((GET + b"\r\n") * 10)


KINDS = (
    lambda peer: drip(peer, b"", b""),
    lambda peer: drip(peer, GET + b"A: ", b"x"),
    lambda peer: drip(peer, GET + b"\r\n", b""),
    lambda peer: drip(peer, POST + b"Content-Length: 999\r\n\r\n", b"x"),
    lambda peer: drip(peer, POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    lambda peer: drip(peer, HANDSHAKE, b""),
    lambda peer: drip(peer, HANDSHAKE + b"\r\n", frame(0x89)),
    lambda peer: drip(peer, HANDSHAKE + b"\r\n" + frame(0x01), frame(0x00)),
    lambda peer: drip(peer, GET + b"A: ", b"x" * 10_000),
    read_nothing,
)


async def attack(url: str, number: int, cut_off: Counter[int]) -> None:
    """Be one kind of slow peer again and again."""
    kind = number % len(KINDS)
    while True:
        with contextlib.suppress(OSError):
            async with connected(url) as peer:
                await KINDS[kind](peer)
                cut_off[kind] += 1
        await asyncio.sleep(0.05)


async def track(http: httpx.AsyncClient, acknowledged: list[str], contact: str) -> None:
    """Track events, each with one key until it is acknowledged."""
    for number in range(CALLS):
        event = {"contact": {"externalId": contact}, "name": "walked", "idempotencyKey": uuid.uuid4().hex}
        event["metadata"] = {"number": number}
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = (await http.post("/graphql", json={"query": TRACK, "variables": {"e": event}})).json()
                if "errors" not in answer:
                    acknowledged.append(answer["data"]["trackEvent"]["event"]["id"])
                    break
            await asyncio.sleep(0.05)


@pytest.fixture
def environment(mongo: str, tmp_path: Any) -> dict[str, str]:
    return {
        "GATEWAY_MONGO_URI": mongo,
        "GATEWAY_MONGO_DATABASE": f"slow_{tmp_path.name[-20:]}".replace("-", "_"),
        "GATEWAY_RATE_LIMIT_ANONYMOUS": "0",
        **LIMITS,
    }


@contextlib.asynccontextmanager
async def attacked(url: str) -> AsyncIterator[Counter[int]]:
    """How often each kind of slow peer was cut off so far, while they go on."""
    cut_off: Counter[int] = Counter()
    attackers = [asyncio.create_task(attack(url, number, cut_off)) for number in range(SLOW)]
    try:
        yield cut_off
    finally:
        for attacker in attackers:
            attacker.cancel()
        await asyncio.gather(*attackers, return_exceptions=True)


async def test_what_is_acknowledged_beside_slow_peers_is_kept_when_a_worker_is_killed(
    program: Any, environment: dict[str, str], free_port: Any, started: Any
) -> None:
    key, port = await new_workspace(environment, "READ", "TRACK"), free_port()
    url = f"http://127.0.0.1:{port}"
    async with (
        started(program, port, "serve", "--port", str(port), "--workers", "2", **environment) as process,
        attacked(url) as cut_off,
        httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60) as http,
    ):
        acknowledged: list[str] = []
        clients = [asyncio.create_task(track(http, acknowledged, f"u{number}")) for number in range(CLIENTS)]
        await becomes_true(
            lambda: len(acknowledged) >= CLIENTS * CALLS // 4 or any(client.done() for client in clients)
        )
        workers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in str(child.cmdline())]
        os.kill(workers[0].pid, SIGKILL)
        before = len(acknowledged)
        await asyncio.gather(*clients)
        assert before < len(acknowledged) == CLIENTS * CALLS == len(set(acknowledged))
        await becomes_true(lambda: len(cut_off) == len(KINDS))
        contacts = (await http.post("/graphql", json={"query": COUNT})).json()["data"]["contacts"]["nodes"]
        assert [node["eventSummaries"]["nodes"] for node in contacts] == [[{"count": CALLS}]] * CLIENTS
        assert await stored(http) == set(acknowledged)
    assert "Traceback" not in program.log, program.log


async def stored(http: httpx.AsyncClient) -> set[str]:
    ids: set[str] = set()
    after = None
    for _ in itertools.count():
        answer = (await http.post("/graphql", json={"query": EVENTS, "variables": {"after": after}})).json()
        page = answer["data"]["events"]
        ids |= {node["id"] for node in page["nodes"]}
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    return ids


async def test_the_gateway_of_a_developer_has_the_same_limits(program: Any, free_port: Any, started: Any) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with started(program, port, "dev", "--no-demo", "--port", str(port), **LIMITS), attacked(url) as cut_off:
        for begin, part, status in (
            (b"GET / HTTP/1.1\r\nA: ", b"x" * 10_000, 431),
            (b"GET /?", b"x" * 10_000, 414),
            (b"GET /metrics HTTP/1.1\r\nA: ", b"", 408),
        ):
            async with connected(url) as peer:
                await peer.send(begin)
                _, answer = await asyncio.gather(peer.flood(part) if part else peer.send(), peer.rest())
                assert (statuses(answer), peer.sent < MOST_SENT) == ([status], True)
        await becomes_true(lambda: len(cut_off) == len(KINDS))
        for path in ("/", "/healthz", "/readyz", "/metrics"):
            async with httpx.AsyncClient() as http:  # a connection each: an idle one is closed after a second
                assert (await http.get(url + path)).status_code == 200
    assert "Traceback" not in program.log, program.log
