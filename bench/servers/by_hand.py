"""Endpoints written by hand: Starlette, orjson, PyMongo Async, uvloop and httptools; the JSON is built from documents each time.

by_hand.py WORKSPACE database|memory PORT
"""

import asyncio
import os
import sys
from datetime import timedelta
from typing import Any

import orjson
import uvicorn
import uvloop
from pymongo import AsyncMongoClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.data import DATABASE, NOW
from gateway.core.ids import Minter, Prefix, lowest_id

_CONTACT = dict.fromkeys(("external_id", "role", "email", "name", "phone", "created_at", "last_seen_at"), 1)
_EVENT = dict.fromkeys(("contact_id", "name", "occurred_at", "received_at", "metadata_json"), 1)


class Endpoints:
    """What the benchmark asks for, and no more."""

    def __init__(self, workspace_id: str, in_memory: bool) -> None:
        client: Any = AsyncMongoClient(os.environ["BENCH_URI"], tz_aware=True)
        self._database = client[DATABASE]
        self._workspace_id = workspace_id
        self._in_memory = in_memory
        self._known: dict[str, Any] = {}
        self._minter = Minter()

    async def page(self, request: Request) -> Response:
        """Fifty contacts with ten events each."""
        asked = orjson.loads(await request.body())["variables"]
        contacts = await self._remembered("contacts", lambda: self._contacts(asked["first"]))
        events = await self._remembered("events", lambda: self._events([row["_id"] for row in contacts]))
        nodes = []
        for row in contacts:
            told = _told(row)
            shown = events.get(row["_id"], [])[: asked["each"]]
            told["events"] = {"nodes": [_told_event(event) for event in shown]}
            nodes.append(told)
        return _json({"data": {"contacts": {"nodes": nodes}}})

    async def one(self, request: Request) -> Response:
        """One contact."""
        asked = orjson.loads(await request.body())["variables"]
        row = await self._remembered("one", lambda: self._one(asked["id"]))
        return _json({"data": {"contact": _told(row)}})

    async def typename(self, request: Request) -> Response:
        """The least there is to say."""
        orjson.loads(await request.body())
        return _json({"data": {"__typename": "Query"}})

    async def insert_one(self, request: Request) -> Response:
        """An event, without any of the promises."""
        sent = orjson.loads(await request.body())["variables"]["input"]
        await self._database.plain_events.insert_one(self._event(sent))
        return _json({"data": {"trackEvent": {"duplicate": False}}})

    async def insert_many(self, request: Request) -> Response:
        """Many events, without any of the promises."""
        sent = orjson.loads(await request.body())["variables"]["events"]
        await self._database.plain_events.insert_many([self._event(one) for one in sent])
        return _json({"data": {"trackEvents": {"accepted": len(sent)}}})

    def _event(self, sent: Any) -> Any:
        return {
            "_id": self._minter.mint(Prefix.EVENT, NOW),
            "workspace_id": self._workspace_id,
            "contact_id": sent["contact"]["externalId"],
            "name": sent["name"],
            "occurred_at": NOW,
            "metadata_json": sent.get("metadata", {}),
        }

    async def _contacts(self, first: int) -> list[Any]:
        low = lowest_id(Prefix.CONTACT, NOW - timedelta(minutes=1))
        filter_ = {"workspace_id": self._workspace_id, "_id": {"$gt": low}}
        cursor = self._database.contacts.find(filter_, _CONTACT, sort=[("_id", -1)], limit=first)
        return list(await cursor.to_list(None))

    async def _events(self, contact_ids: list[str]) -> dict[str, list[Any]]:
        since = lowest_id(Prefix.EVENT, NOW - timedelta(days=90))
        filter_ = {"contact_id": {"$in": contact_ids}, "workspace_id": self._workspace_id, "_id": {"$gt": since}}
        cursor = self._database.events.find(filter_, _EVENT, sort=[("_id", -1)], batch_size=100_000)
        found: dict[str, list[Any]] = {}
        for row in await cursor.to_list(None):
            found.setdefault(row["contact_id"], []).append(row)
        return found

    async def _one(self, id_: str) -> Any:
        return await self._database.contacts.find_one({"_id": id_, "workspace_id": self._workspace_id}, _CONTACT)

    async def _remembered(self, what: str, read: Any) -> Any:
        if not self._in_memory:
            return await read()
        if what not in self._known:
            self._known[what] = await read()
        return self._known[what]


def _told(row: Any) -> dict[str, Any]:
    return {
        "id": row["_id"],
        "externalId": row.get("external_id"),
        "role": row["role"],
        "email": row.get("email"),
        "name": row.get("name"),
        "phone": row.get("phone"),
        "createdAt": row["created_at"],
        "lastSeenAt": row.get("last_seen_at"),
    }


def _told_event(row: Any) -> dict[str, Any]:
    return {
        "id": row["_id"],
        "name": row["name"],
        "occurredAt": row["occurred_at"],
        "receivedAt": row["received_at"],
        "metadataJson": row["metadata_json"],
        "kind": row["name"],
        "at": row["occurred_at"],
        "received": row["received_at"],
    }


def _json(body: Any) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


async def serve(workspace_id: str, documents: str, port: int) -> None:
    """Serve until terminated."""
    endpoints = Endpoints(workspace_id, documents == "memory")
    paths = ("page", "one", "typename", "insert_one", "insert_many")
    app = Starlette(routes=[Route(f"/{path}", getattr(endpoints, path), methods=["POST"]) for path in paths])
    await uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False, http="httptools")).serve()


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
