"""Where the gateway's CPU goes for one of the benchmark's questions: the functions that take most, with what they take themselves.

.venv/bin/python -m bench.profiles page|one|memory|typename|trackEvent|trackEvents [--server EXECUTABLE | --uri URI]
"""

import asyncio
import itertools
import pstats
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from bench.data import EVENTS_EACH, KEY, PAGE
from bench.load import request, take
from bench.processes import python, started
from bench.queries import ONE, TYPENAME
from bench.queries import PAGE as PAGE_QUERY
from bench.run import QUIET, database, filled
from bench.writes import BATCH, tracked
from gateway.observability import configure_logs


class Question(StrEnum):
    """What is asked, again and again."""

    PAGE = "page"
    ONE = "one"
    MEMORY = "memory"
    TYPENAME = "typename"
    TRACK = "trackEvent"
    TRACK_MANY = "trackEvents"


_TIMES = {
    Question.PAGE: 300,
    Question.ONE: 3000,
    Question.MEMORY: 600,
    Question.TYPENAME: 10_000,
    Question.TRACK: 1000,
    Question.TRACK_MANY: 8,
}


def main(
    question: Question,
    server: Annotated[str, typer.Option(help="The embedded server's executable.")] = "secantusd-py",
    uri: Annotated[str, typer.Option(help="A MongoDB replica set, in the place of an embedded server.")] = "",
    shown: Annotated[int, typer.Option(help="How many functions.")] = 30,
) -> None:
    """Measure, and print the functions."""
    configure_logs("ERROR", json=True)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile"
        asyncio.run(_measure(question, server, uri, path))
        pstats.Stats(str(path)).strip_dirs().sort_stats("tottime").print_stats(shown)


async def _measure(question: Question, server: str, uri: str, path: Path) -> None:
    async with database(server, uri) as at:
        workspace_id, contact_id = await filled(at)
        environment = {"BENCH_URI": at, "BENCH_PROFILE": str(path), **QUIET}
        tracks = question in (Question.TRACK, Question.TRACK_MANY)
        documents = "memory" if question in (Question.MEMORY, Question.TYPENAME) else "database"
        command = python("gateway_server.py", workspace_id, documents, "moving" if tracks else "still")
        numbers, times = itertools.count(), _TIMES[question]
        if tracks:
            size = 1 if question is Question.TRACK else BATCH
            requests = [request("/graphql", tracked(size, numbers), KEY) for _ in range(times)]
        else:
            requests = [request("/graphql", _body(question, contact_id), KEY)]
        async with started("gateway", command, environment) as running:
            await take(running, requests, times, 50 if question is Question.TRACK else 4)


def _body(question: Question, contact_id: str) -> dict[str, Any]:
    if question is Question.TYPENAME:
        return {"query": TYPENAME}
    if question is Question.ONE:
        return {"query": ONE, "variables": {"id": contact_id}}
    return {"query": PAGE_QUERY, "variables": {"first": PAGE, "each": EVENTS_EACH}}


if __name__ == "__main__":
    typer.run(main)
