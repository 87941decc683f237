"""CPU per request of the gateway (compiled, and by graphql-core), of strawberry's own view, and of an endpoint by hand.

    .venv/bin/python bench/execution.py [--server PATH] [--rounds 5] [--profile LINE]

All of them answer from one database, in one interleaved run; what is counted is the CPU time of each server's process.
"""

import argparse
import asyncio
import contextlib
import cProfile
import http.client
import pstats
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import orjson
import psutil
import uvicorn
import uvloop
from pymongo import AsyncMongoClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from strawberry.asgi import GraphQL

from gateway.app import create_app
from gateway.domain.access import Scope
from gateway.domain.clocks import system_clock
from gateway.domain.contacts import IdentityKind, display_name, identity
from gateway.observability import configure_logs
from gateway.runtime import open_runtime
from gateway.settings import MongoDriver, Settings
from gateway.store.embedded import embedded_server
from gateway.store.migrations import migrate
from resolvers.contexts import Context
from schema.root import build_schema

DATABASE = "bench"
KINDS = ("hand", "compiled", "core", "strawberry")
CONTACTS, EVENTS = 50, 10
CONTACT = "id displayName email role createdAt lastSeenAt"
EVENT = "id name occurredAt receivedAt metadataJson"
LINES = {
    "page": "{ contacts(first: 50) { nodes { %s events(first: 10) { nodes { %s } } } } }" % (CONTACT, EVENT),  # noqa: UP031
    "contact": '{ contact(by: {externalId: "u1"}) { %s } }' % CONTACT,  # noqa: UP031
    "typename": "{ __typename }",
}
REQUESTS = {"page": 60, "contact": 300, "typename": 1000}


def settings(uri: str, *, compiled: bool = True) -> Settings:
    """The settings of every server."""
    return Settings(
        mongo_uri=uri,
        mongo_driver=MongoDriver.PYMONGO,
        log_level="WARNING",
        compiled_execution=compiled,
        rate_limit="0",
    )


def written(row: dict[str, Any], fields: dict[str, str]) -> dict[str, Any]:
    """Those fields of a document."""
    return {name: row.get(key) for name, key in fields.items()}


class ByHand:
    """What one would write for these three requests alone."""

    def __init__(self, uri: str, workspace_id: str) -> None:
        self.database: Any = AsyncMongoClient(uri, tz_aware=True)[DATABASE]
        self.workspace_id = workspace_id

    async def answer(self, request: Request) -> Response:
        """Answer one of them."""
        query = orjson.loads(await request.body())["query"]
        if query == LINES["typename"]:
            data: Any = {"__typename": "Query"}
        elif query == LINES["contact"]:
            row = await self.database["contacts"].find_one(
                {"identities": identity(IdentityKind.EXTERNAL, "u1"), "workspace_id": self.workspace_id}
            )
            data = {"contact": self.contact(row)}
        else:
            data = {"contacts": {"nodes": await self.page()}}
        return Response(orjson.dumps({"data": data}), media_type="application/json")

    async def page(self) -> list[Any]:
        """Two reads, whatever the number of rows."""
        found = self.database.contacts.find({"workspace_id": self.workspace_id}, sort=[("_id", -1)], limit=CONTACTS + 1)
        contacts = (await found.to_list(None))[:CONTACTS]
        since = (system_clock() - timedelta(days=90)).astimezone(UTC)
        pipeline = [
            {"$match": {"workspace_id": self.workspace_id, "_id": {"$in": [row["_id"] for row in contacts]}}},
            {"$project": {"_id": 1}},
            {
                "$lookup": {
                    "from": "events",
                    "localField": "_id",
                    "foreignField": "contact_id",
                    "pipeline": [
                        {"$match": {"workspace_id": self.workspace_id, "occurred_at": {"$gte": since}}},
                        {"$sort": {"_id": -1}},
                        {"$limit": EVENTS + 1},
                    ],
                    "as": "events",
                }
            },
        ]
        events = {row["_id"]: row["events"] async for row in await self.database.contacts.aggregate(pipeline)}
        return [
            self.contact(row) | {"events": {"nodes": [self.event(one) for one in events[row["_id"]][:EVENTS]]}}
            for row in contacts
        ]

    @staticmethod
    def contact(row: dict[str, Any]) -> dict[str, Any]:
        """A contact as it is sent."""
        return {
            "id": row["_id"],
            "displayName": display_name(row),
            "email": row.get("email"),
            "role": row["role"],
            "createdAt": at(row["created_at"]),
            "lastSeenAt": at(row["last_seen_at"]),
        }

    @staticmethod
    def event(row: dict[str, Any]) -> dict[str, Any]:
        """An event as it is sent."""
        return {
            "id": row["_id"],
            "name": row["name"],
            "occurredAt": at(row["occurred_at"]),
            "receivedAt": at(row["received_at"]),
            "metadataJson": row["metadata_json"],
        }


def at(moment: Any) -> str:
    """A time as the contract has it."""
    return str(moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"))


@contextlib.asynccontextmanager
async def application(kind: str, uri: str, workspace_id: str) -> AsyncIterator[Any]:
    """One of the servers."""
    if kind == "hand":
        yield Starlette(routes=[Route("/graphql", ByHand(uri, workspace_id).answer, methods=["POST"])])
        return
    async with open_runtime(settings(uri, compiled=kind != "core"), uri, DATABASE) as runtime:
        authenticator = runtime.authenticator()
        if kind != "strawberry":
            yield create_app(runtime, authenticator)
            return

        class View(GraphQL[Context, None]):
            """Strawberry's own view."""

            async def get_context(self, request: Any, response: Any) -> Any:
                """A context for each operation."""
                return Context(runtime.services, "-", await authenticator.principal(request.headers["authorization"]))

        yield Starlette(routes=[Route("/graphql", View(build_schema()))])


async def serve(kind: str, port: int, uri: str, workspace_id: str, profile: str | None) -> None:
    """Run one of the servers until it is told to end."""
    configure_logs("WARNING", json=True)
    async with application(kind, uri, workspace_id) as app:
        config = uvicorn.Config(
            app, port=port, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=600
        )
        server, profiler = uvicorn.Server(config), cProfile.Profile()
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign] # it would end by the signal itself
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, setattr, server, "should_exit", True)
        if profile:
            profiler.enable()
        await server.serve()
        profiler.disable()
        if profile:
            profiler.dump_stats(profile)


async def fill(uri: str) -> tuple[str, str]:
    """A workspace with contacts and events; its id, and a key."""
    async with open_runtime(settings(uri), uri, DATABASE) as runtime:
        await migrate(runtime.database, runtime.clock, owner="bench")
        workspace = await runtime.workspaces.create("bench")
        _, key = await runtime.workspaces.create_key(workspace["_id"], list(Scope))
        context = Context(runtime.services, "-", await runtime.authenticator().principal(f"Bearer {key}"))
        schema = build_schema()
        for number in range(CONTACTS * 2):
            events = [
                {
                    "contact": {"externalId": f"u{number}", "email": f"u{number}@example.com"},
                    "name": ("viewed page", "placed order")[index % 2],
                    "metadata": {"page": "pricing", "amount": 4999, "order": f"o-{index}"},
                    "occurredAt": (system_clock() - timedelta(hours=index)).isoformat(),
                }
                for index in range(EVENTS * 2)
            ]
            answer = await schema.execute(
                "mutation($e: [TrackEventInput!]!) { trackEvents(input: {events: $e}) { accepted } }",
                {"e": events},
                context,
            )
            if answer.data != {"trackEvents": {"accepted": len(events)}}:
                raise SystemExit(str(answer))
        return workspace["_id"], key


class Client:
    """One connection to one server, and the server's process."""

    def __init__(self, kind: str, uri: str, workspace_id: str, key: str, profile: str | None) -> None:
        self.kind = kind
        self.port = free_port()
        self.headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        command = [sys.executable, __file__, "--serve", kind, str(self.port), uri, workspace_id, profile or ""]
        self.process = subprocess.Popen(command)  # noqa: S603 - this program
        self.usage = psutil.Process(self.process.pid)
        self.connect()

    def connect(self) -> None:
        """Wait until it listens."""
        for _ in range(600):
            with contextlib.suppress(OSError):
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                self.connection.connect()
                return
            time.sleep(0.1)
        raise SystemExit(f"{self.kind} does not answer")

    def ask(self, query: str) -> Any:
        """The data of its answer."""
        self.connection.request("POST", "/graphql", orjson.dumps({"query": query}), self.headers)
        return orjson.loads(self.connection.getresponse().read())["data"]

    def measure(self, query: str, requests: int) -> float:
        """Milliseconds of the server's CPU for each of that many requests."""
        before = self.cpu()
        for _ in range(requests):
            self.ask(query)
        return (self.cpu() - before) * 1000 / requests

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        times = self.usage.cpu_times()
        return times.user + times.system

    def end(self) -> None:
        """End the server."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def clients(uri: str, workspace_id: str, key: str, kinds: list[str], profile: str | None) -> Iterator[list[Client]]:
    """All the servers, each with a connection."""
    started = [Client(kind, uri, workspace_id, key, profile) for kind in kinds]
    try:
        yield started
    finally:
        for client in started:
            client.end()


def table(started: list[Client], rounds: int) -> None:
    """Measure, and print what each costs beside the endpoint by hand."""
    first = started[0]
    for line, query in LINES.items():
        expected = first.ask(query)
        for client in started:
            if client.ask(query) != expected:
                raise SystemExit(f"{client.kind} answers '{line}' otherwise than {first.kind}")
            client.measure(query, 5)
        times: dict[str, list[float]] = {client.kind: [] for client in started}
        for _ in range(rounds):
            for client in started:
                requests = REQUESTS[line] if client.kind in ("hand", "compiled") else REQUESTS[line] // 4
                times[client.kind].append(client.measure(query, requests))
        base = statistics.median(times[first.kind])
        for kind, found in times.items():
            median = statistics.median(found)
            print(
                f"{line:10} {kind:10} {median:8.3f} ms  {median / base:6.2f} x   from {min(found):.3f} to {max(found):.3f}",
                flush=True,
            )


async def main() -> None:
    """Run the servers, and print a table or a profile."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="secantusd-py")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", choices=LINES)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with embedded_server(Path(folder), given.server) as uri:
            workspace_id, key = await fill(uri)
            if given.profile is None:
                with clients(uri, workspace_id, key, list(KINDS), None) as started:
                    await asyncio.to_thread(table, started, given.rounds)
                return
            path = Path(folder) / "profile.txt"
            with clients(uri, workspace_id, key, ["compiled"], str(path)) as (client,):
                await asyncio.to_thread(client.measure, LINES[given.profile], REQUESTS[given.profile] * 3)
            pstats.Stats(str(path)).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        kind, port, uri, workspace_id, profile = sys.argv[2:]
        uvloop.run(serve(kind, int(port), uri, workspace_id, profile or None))
    else:
        uvloop.run(main())
