"""A gateway that listens, the workspaces of tests, and what tests count and move: the types of the fixtures."""

import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import orjson
from pymongo.monitoring import CommandListener

from gateway.core.clock import system_clock
from gateway.core.principals import Scope
from gateway.runtime import Runtime
from gateway.store.workspace_store import WorkspaceStore


class Commands(CommandListener):
    """Counts what is asked of the database."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.finds: list[dict[str, Any]] = []

    def started(self, event: Any) -> None:
        if event.command.get("collection") != "$cmd.aggregate" and event.command.get("aggregate") != 1:
            self.names.append(event.command_name)  # the bus reads its stream all the while, whatever is asked
            if event.command_name in ("find", "aggregate"):
                self.finds.append(dict(event.command))

    def succeeded(self, event: Any) -> None:
        """Not counted again."""

    def failed(self, event: Any) -> None:
        """Not counted again."""

    @property
    def reads(self) -> list[str]:
        return [name for name in self.names if name in ("find", "aggregate", "getMore", "count")]


@dataclass
class MovableClock:
    """The present, as far ahead as a test wants."""

    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return system_clock() + self.ahead


@dataclass
class Gateway:
    """A gateway that listens, and what is behind it."""

    url: str
    runtime: Runtime
    commands: Commands
    http: httpx.AsyncClient

    async def workspace(self) -> "Workspace":
        row = await self.runtime.workspaces.create(f"test-{uuid.uuid4().hex}")
        _, key = await self.runtime.workspaces.create_key(row["_id"], list(Scope))
        return Workspace(self, row["_id"], key)


@dataclass
class Workspace:
    """A workspace that nobody else uses, with a key that may do everything in it."""

    gateway: Gateway
    id: str
    key: str

    async def key_with(self, *scopes: Scope) -> str:
        _, key = await self.gateway.runtime.workspaces.create_key(self.id, scopes)
        return key

    async def post(
        self,
        query: str,
        variables: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        raw: bytes | None = None,
        origin: str | None = None,
    ) -> httpx.Response:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key != "" else {})
        headers |= {} if key is not None else {"authorization": f"Bearer {self.key}"}
        headers |= {"origin": origin} if origin is not None else {}
        content = raw if raw is not None else orjson.dumps({"query": query, "variables": variables or {}})
        return await self.gateway.http.post(self.gateway.url, content=content, headers=headers)

    async def ask(
        self, query: str, variables: dict[str, Any] | None = None, *, key: str | None = None, origin: str | None = None
    ) -> dict[str, Any]:
        """The whole answer, errors and all."""
        response = await self.post(query, variables, key=key, origin=origin)
        answer = response.json()
        assert isinstance(answer, dict), response.text
        return answer

    async def data(
        self, query: str, variables: dict[str, Any] | None = None, *, key: str | None = None, origin: str | None = None
    ) -> Any:
        """The data of an answer without errors."""
        answer = await self.ask(query, variables, key=key, origin=origin)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    async def track(self, *events: dict[str, Any]) -> dict[str, Any]:
        """The payload of trackEvents, all of whose events were taken."""
        found = await self.data(
            "mutation($e: [TrackEventInput!]!) { trackEvents(input: {events: $e}) "
            "{ accepted duplicates rejected results { index eventId duplicate error { code message path } } userErrors { code message path } } }",
            {"e": list(events)},
        )
        assert isinstance(found["trackEvents"], dict)
        return found["trackEvents"]

    async def token(self, **ref: Any) -> str:
        """A token of the contact of that reference."""
        found = await self.data(
            "mutation($c: ContactRef!) { createContactToken(input: {contact: $c}) { token userErrors { code message path } } }",
            {"c": ref},
        )
        assert found["createContactToken"]["userErrors"] == []
        return str(found["createContactToken"]["token"])

    @property
    def store(self) -> Any:
        return self.gateway.runtime.services.store.open(self.id)


OpenGateway = Callable[..., AbstractAsyncContextManager[Gateway]]


def cache_weight(gateway: Any) -> int:
    """What the caches keep of requests, in bytes; the stores of workspaces are opened in the background too."""
    entries = gateway.runtime.caches._entries
    return sum(entry.weight for entry in entries if not isinstance(entry.value, WorkspaceStore))


def subscribers(gateway: Gateway) -> float | None:
    """How many subscriptions are under way."""
    return gateway.runtime.services.metrics.registry.get_sample_value("gateway_subscribers")
