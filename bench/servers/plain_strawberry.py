"""The same API as strawberry's own documentation would have it: types, resolvers, a data loader, its ASGI application.

plain_strawberry.py WORKSPACE database|memory PORT
"""

import asyncio
import os
import sys
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import strawberry
import uvicorn
import uvloop
from pymongo import AsyncMongoClient
from strawberry.asgi import GraphQL
from strawberry.dataloader import DataLoader
from strawberry.scalars import JSON

from bench.data import DATABASE, NOW
from gateway.core.ids import Prefix, lowest_id


@strawberry.enum
class Role(Enum):
    """How well a contact is known."""

    USER = "USER"
    LEAD = "LEAD"
    VISITOR = "VISITOR"


@strawberry.type
class Event:
    """What a contact did."""

    id: strawberry.ID
    name: str
    occurred_at: datetime
    received_at: datetime
    metadata_json: JSON


@strawberry.type
class EventPage:
    """Some events."""

    nodes: list[Event]


@strawberry.type
class Contact:
    """A person."""

    id: strawberry.ID
    external_id: str | None
    role: Role
    email: str | None
    name: str | None
    phone: str | None
    created_at: datetime
    last_seen_at: datetime | None

    @strawberry.field
    async def events(self, info: strawberry.Info, first: int) -> EventPage:
        """Its events, the newest first."""
        return EventPage(nodes=(await info.context["events"].load(self.id))[:first])


@strawberry.type
class ContactPage:
    """Some contacts."""

    nodes: list[Contact]


@strawberry.input(one_of=True)
class ContactKey:
    """Who is meant."""

    id: strawberry.ID | None = strawberry.UNSET


@strawberry.type
class Query:
    """What can be asked."""

    @strawberry.field
    async def contacts(self, info: strawberry.Info, first: int) -> ContactPage:
        """The newest contacts."""
        return ContactPage(nodes=[contact_of(row) for row in await info.context["source"].contacts(first)])

    @strawberry.field
    async def contact(self, info: strawberry.Info, by: ContactKey) -> Contact | None:
        """One contact."""
        row = await info.context["source"].one(str(by.id))
        return contact_of(row) if row else None


def contact_of(row: Any) -> Contact:
    """The contact of a document."""
    return Contact(
        id=row["_id"],
        external_id=row.get("external_id"),
        role=Role(row["role"]),
        email=row.get("email"),
        name=row.get("name"),
        phone=row.get("phone"),
        created_at=row["created_at"],
        last_seen_at=row.get("last_seen_at"),
    )


def event_of(row: Any) -> Event:
    """The event of a document."""
    return Event(
        id=row["_id"],
        name=row["name"],
        occurred_at=row["occurred_at"],
        received_at=row["received_at"],
        metadata_json=row["metadata_json"],
    )


class Source:
    """The database, or what was read of it before."""

    def __init__(self, workspace_id: str, in_memory: bool) -> None:
        client: Any = AsyncMongoClient(os.environ["BENCH_URI"], tz_aware=True)
        self._database = client[DATABASE]
        self._workspace_id = workspace_id
        self._in_memory = in_memory
        self._known: dict[str, Any] = {}

    async def contacts(self, first: int) -> Any:
        """The newest contacts."""
        filter_ = {
            "workspace_id": self._workspace_id,
            "_id": {"$gt": lowest_id(Prefix.CONTACT, NOW - timedelta(minutes=1))},
        }
        return await self._read("contacts", filter_, sort=[("_id", -1)], limit=first)

    async def one(self, id_: str) -> Any:
        """One contact."""
        rows = await self._read("contacts", {"workspace_id": self._workspace_id, "_id": id_})
        return rows[0] if rows else None

    async def events(self, contact_ids: list[str]) -> list[list[Event]]:
        """The events of each contact, the newest first."""
        since = lowest_id(Prefix.EVENT, NOW - timedelta(days=90))
        filter_ = {"contact_id": {"$in": contact_ids}, "workspace_id": self._workspace_id, "_id": {"$gt": since}}
        found: dict[str, list[Event]] = {}
        for row in await self._read("events", filter_, sort=[("_id", -1)], batch_size=100_000):
            found.setdefault(row["contact_id"], []).append(event_of(row))
        return [found.get(id_, []) for id_ in contact_ids]

    async def _read(self, collection: str, filter_: Any, **options: Any) -> Any:
        key = collection + repr(filter_)
        if self._in_memory and key in self._known:
            return self._known[key]
        rows = await self._database[collection].find(filter_, **options).to_list(None)
        self._known[key] = rows
        return rows


class Application(GraphQL[Any, None]):
    """Strawberry's own application, with a loader for each request."""

    source: Source

    async def get_context(self, request: Any, response: Any) -> Any:
        """What resolvers find."""
        return {"source": self.source, "events": DataLoader(load_fn=self.source.events)}


async def serve(workspace_id: str, documents: str, port: int) -> None:
    """Serve until terminated."""
    app = Application(strawberry.Schema(Query), graphql_ide=None)
    app.source = Source(workspace_id, documents == "memory")
    await uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False, http="httptools")).serve()


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
