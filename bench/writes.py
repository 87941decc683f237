"""Tracking: exactly once with its summary, beside an endpoint that inserts without any promise, and beside a transaction an event."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from rich.progress import Progress

from bench.data import KEY
from bench.load import request, take
from bench.processes import Server, python, started
from bench.queries import TRACK, TRACK_MANY
from bench.rounds import Line, Measured, in_turn, lines

BY_HAND, GROUPED, ALONE = "by hand: plain inserts", "gateway", "gateway, a transaction for each call"
CLIENTS, CONTACTS, BATCH, BATCH_CLIENTS = 50, 500, 500, 4
Judged = dict[str, tuple[str, Callable[[Mapping[str, float]], bool]]]


async def measure(
    environment: Mapping[str, str], workspace_id: str, rounds: int, seconds: float, progress: Progress
) -> list[Line]:
    """The lines of single events and of batches: the gateway's CPU, and the time from the first call to the last answer."""
    told: list[Line] = []
    numbers = itertools.count()
    async with _servers(environment, workspace_id) as servers:
        for what, path, size, clients in (
            ("trackEvent from 50 clients", "insert_one", 1, CLIENTS),
            ("trackEvents by 500", "insert_many", BATCH, BATCH_CLIENTS),
        ):
            ways = {
                way: _taker(server, path if way == BY_HAND else None, size, clients, seconds, numbers)
                for way, server in servers.items()
                if size == 1 or way != ALONE
            }
            both: dict[str, list[tuple[Measured, Measured]]] = {way: [] for way in ways}
            found = await in_turn({way: _kept(one, both[way]) for way, one in ways.items()}, rounds, progress, what)
            times = {way: [time for _, time in taken[-rounds:]] for way, taken in both.items()}
            told += lines("tracking", f"{what}: CPU", found, BY_HAND, "ms of CPU an event", _cpu_target())
            told += lines("tracking", f"{what}: time", times, BY_HAND, "ms an event", _time_target(size))
    return told


def _cpu_target() -> Judged:
    return {GROUPED: ("at most 3 x by hand", lambda ratios: ratios[GROUPED] <= 3)}


def _time_target(size: int) -> Judged:
    if size > 1:
        return {}

    def judge(ratios: Mapping[str, float]) -> bool:
        return ratios[GROUPED] <= 1 and ratios[ALONE] >= 3 * ratios[GROUPED]

    return {GROUPED: ("no slower than by hand; a transaction each: 3 x", judge)}


Pair = Callable[[], Awaitable[tuple[Measured, Measured]]]


def _kept(measured: Pair, told: list[tuple[Measured, Measured]]) -> Callable[[], Awaitable[Measured]]:
    async def one() -> Measured:
        pair = await measured()
        told.append(pair)
        return pair[0]

    return one


def _taker(server: Server, path: str | None, size: int, clients: int, seconds: float, numbers: Iterator[int]) -> Pair:
    count = max(clients * 4, int(seconds * 400)) if size == 1 else max(clients * 2, int(seconds * 8))

    async def measured() -> tuple[Measured, Measured]:
        requests = [_request(path, size, numbers) for _ in range(count)]
        taken = await take(server, requests, count, clients)
        events = count * size
        rate = events / taken.seconds
        return Measured(taken.cpu_seconds * 1000 / events, rate), Measured(taken.seconds * 1000 / events, rate)

    return measured


def _request(path: str | None, size: int, numbers: Iterator[int]) -> bytes:
    return request(f"/{path}" if path else "/graphql", tracked(size, numbers), KEY)


def tracked(size: int, numbers: Iterator[int]) -> dict[str, Any]:
    """The body of a request that tracks so many new events."""
    sent = [_event(next(numbers)) for _ in range(size)]
    if size == 1:
        return {"query": TRACK, "variables": {"input": sent[0]}}
    return {"query": TRACK_MANY, "variables": {"events": sent}}


def _event(number: int) -> dict[str, Any]:
    return {
        "contact": {"externalId": f"tracked-{number % CONTACTS}"},
        "name": "viewed page",
        "metadata": {"page": f"/pricing/{number % 10}", "seconds": 1.5},
        "idempotencyKey": f"event-{number}",
    }


@asynccontextmanager
async def _servers(environment: Mapping[str, str], workspace_id: str) -> AsyncIterator[dict[str, Server]]:
    ways = {
        BY_HAND: python("by_hand.py", workspace_id, "database"),
        GROUPED: python("gateway_server.py", workspace_id, "database", "moving"),
        ALONE: python("gateway_server.py", workspace_id, "alone", "moving"),
    }
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(started(name, command, environment)) for name, command in ways.items()
        }
