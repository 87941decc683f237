"""Queries: a nested page, one contact and the least there is, of the gateway and of all that it is compared with."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from rich.progress import Progress

from bench.data import EVENTS_EACH, KEY, NOW
from bench.data import PAGE as ROWS
from bench.load import ask, request, take
from bench.processes import PEERS, Server, python, started
from bench.queries import ONE, PAGE, TYPENAME
from bench.rounds import Line, Measured, in_turn, lines
from gateway.core.ids import Prefix, lowest_id

BY_HAND, COMPILED, INTERPRETED, PLAIN = "by hand", "gateway", "gateway, not compiled", "plain strawberry"
NODE = {"mercurius.js": "mercurius with its JIT", "yoga.js": "GraphQL Yoga", "apollo.js": "Apollo Server"}
CONNECTIONS = 8
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


async def measure(
    environment: Mapping[str, str], workspace_id: str, contact_id: str, rounds: int, seconds: float, progress: Progress
) -> list[Line]:
    """The lines of all queries."""
    told: list[Line] = []
    page = {"query": PAGE, "variables": {"first": ROWS, "each": EVENTS_EACH}}
    one = {"query": ONE, "variables": {"id": contact_id}}
    for documents, questions in (
        ("database", (("page of 50 contacts x 10 events", "page", page), ("one contact", "one", one))),
        (
            "memory",
            (("page of 50 x 10, from memory", "page", page), ("{ __typename }", "typename", {"query": TYPENAME})),
        ),
    ):
        async with _servers(environment, workspace_id, documents) as servers:
            for what, path, body in questions:
                told += await _line(servers, what, path, body, rounds, seconds, progress)
    return told


async def _line(
    servers: Mapping[str, Server],
    what: str,
    path: str,
    body: Mapping[str, Any],
    rounds: int,
    seconds: float,
    progress: Progress,
) -> list[Line]:
    requests = {way: request(f"/{path}" if way == BY_HAND else "/graphql", body, KEY) for way in servers}
    answers = {way: _comparable(await ask(server, requests[way])) for way, server in servers.items()}
    for way, answer in answers.items():
        if answer != answers[BY_HAND]:
            raise SystemExit(f"{way} answers '{what}' with other data than the endpoint by hand:\n{answer!r:.800}")
    ways: dict[str, Callable[[], Awaitable[Measured]]] = {}
    for way, server in servers.items():
        trial = await take(server, [requests[way]], 30, CONNECTIONS)
        count = max(20, int(seconds * trial.per_second))
        ways[way] = _taker(server, requests[way], count)
    found = await in_turn(ways, rounds, progress, what)
    return lines("queries", what, found, BY_HAND, "ms of CPU a request", _targets(what))


def _taker(server: Server, one: bytes, count: int) -> Callable[[], Awaitable[Measured]]:
    async def measured() -> Measured:
        taken = await take(server, [one], count, CONNECTIONS)
        return Measured(taken.cpu_milliseconds, taken.per_second)

    return measured


def _targets(what: str) -> dict[str, tuple[str, Callable[[Mapping[str, float]], bool]]]:
    most = 1.5 if what in ("page of 50 contacts x 10 events", "one contact") else 2.0
    small = what in ("one contact", "{ __typename }")

    def judge(ratios: Mapping[str, float]) -> bool:
        own, others = ratios[COMPILED], [ratios[way] for way in NODE.values() if way in ratios]
        best = min(others, default=own)
        ahead = own <= best * 1.1 if small else own < best and ratios[PLAIN] >= 10 * own
        return own <= most and ahead

    words = f"at most {most:g} x by hand; " + (
        "level with the best of Node" if small else "ahead of Node, plain strawberry 10 x"
    )
    return {COMPILED: (words, judge)}


@asynccontextmanager
async def _servers(
    environment: Mapping[str, str], workspace_id: str, documents: str
) -> AsyncIterator[dict[str, Server]]:
    ways: dict[str, tuple[list[str], dict[str, str]]] = {
        BY_HAND: (python("by_hand.py", workspace_id, documents), {}),
        COMPILED: (python("gateway_server.py", workspace_id, documents, "still"), {}),
        INTERPRETED: (
            python("gateway_server.py", workspace_id, documents, "still"),
            {"GATEWAY_COMPILED_EXECUTION": "false"},
        ),
        PLAIN: (python("plain_strawberry.py", workspace_id, documents), {}),
    }
    if node_is_there():
        since = [
            lowest_id(Prefix.CONTACT, NOW - timedelta(minutes=1)),
            lowest_id(Prefix.EVENT, NOW - timedelta(days=90)),
        ]
        for script, name in NODE.items():
            ways[name] = (["node", str(PEERS / script), workspace_id, documents, *since], {"NODE_ENV": "production"})
    async with AsyncExitStack() as stack:
        opened = await asyncio.gather(
            *(
                stack.enter_async_context(started(name, command, {**environment, **more}))
                for name, (command, more) in ways.items()
            )
        )
        yield {server.name: server for server in opened}


def node_is_there() -> bool:
    """Whether the peers of Node.js can be run; their packages are installed where they are not yet."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return False
    if not (PEERS / "node_modules" / ".package-lock.json").exists():
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=PEERS, check=True, timeout=300)  # noqa: S607
    return True


def _comparable(answer: Any) -> Any:
    """The answer with times as times: the servers write them in more than one of the ways of RFC 3339."""
    if isinstance(answer, dict):
        return {name: _comparable(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [_comparable(value) for value in answer]
    if isinstance(answer, str) and _TIME.match(answer):
        return datetime.fromisoformat(answer)
    return answer
