"""How a page of events for each of 50 contacts may be read, and what each way costs: prints the table of decision 2.

.venv/bin/python bench/children.py [SERVER ...]      (the embedded server's executables; default: secantusd-py)
"""

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from pymongo import ASCENDING, AsyncMongoClient

from gateway.store.embedded import embedded_server

EVENTS, CONTACTS, PARENTS, PAGE, ROUNDS = 30_000, 600, 50, 21, 3
CONTACT_FIRST = [("contact_id", ASCENDING), ("workspace_id", ASCENDING), ("_id", ASCENDING)]
WORKSPACE_FIRST = [("workspace_id", ASCENDING), ("contact_id", ASCENDING), ("_id", ASCENDING)]
PARENT_IDS = [f"con_{number:05}" for number in range(PARENTS)]
FROM = f"evt_{EVENTS // 2:012}"


async def main(servers: Sequence[str]) -> None:
    """Measure every way on every server, in turn, and print the medians."""
    for server in servers:
        with tempfile.TemporaryDirectory() as folder:
            async with embedded_server(Path(folder), server) as uri, AsyncMongoClient(uri) as client:
                await measure(Path(server).name, client["bench"])


async def measure(server: str, database: Any) -> None:
    """Fill the database, and read it in every way."""
    chance = random.Random(1)
    rows = [
        {
            "_id": f"evt_{number:012}",
            "workspace_id": "w",
            "contact_id": f"con_{chance.randrange(CONTACTS):05}",
            "name": "x",
        }
        for number in range(EVENTS)
    ]
    await database.contacts.insert_many(
        [{"_id": f"con_{number:05}", "workspace_id": "w"} for number in range(CONTACTS)]
    )
    for start in range(0, EVENTS, 1000):
        await database.events.insert_many(rows[start : start + 1000])
    for name, index in (("workspace first", WORKSPACE_FIRST), ("contact first", CONTACT_FIRST)):
        await database.events.drop_indexes()
        await database.events.create_index(index)
        for way in (lookup, finds, find_in):
            took = [await timed(way, database.contacts, database.events) for _ in range(ROUNDS)]
            print(f"{server:14} {name:16} {way.__name__:8} {statistics.median(took):8.1f} ms")


async def timed(way: Callable[[Any, Any], Awaitable[object]], contacts: Any, events: Any) -> float:
    """How many milliseconds one reading takes."""
    began = time.perf_counter()
    await way(contacts, events)
    return (time.perf_counter() - began) * 1000


async def lookup(contacts: Any, events: Any) -> object:
    """One aggregation: a limited lookup per contact, inside the server."""
    pipeline = [{"$match": {"workspace_id": "w", "_id": {"$gte": FROM}}}, {"$sort": {"_id": -1}}, {"$limit": PAGE}]
    joined = {
        "from": "events",
        "localField": "_id",
        "foreignField": "contact_id",
        "pipeline": pipeline,
        "as": "children",
    }
    cursor = await contacts.aggregate(
        [{"$match": {"_id": {"$in": PARENT_IDS}}}, {"$lookup": joined}, {"$unwind": "$children"}]
    )
    return await cursor.to_list(None)


async def finds(_: Any, events: Any) -> object:
    """One find per contact."""
    filters = [{"contact_id": parent, "workspace_id": "w", "_id": {"$gte": FROM}} for parent in PARENT_IDS]
    return [await events.find(filter_).sort("_id", -1).limit(PAGE).to_list(None) for filter_ in filters]


async def find_in(_: Any, events: Any) -> object:
    """One find for all: every row of the range, not a page of each contact."""
    filter_ = {"contact_id": {"$in": PARENT_IDS}, "workspace_id": "w", "_id": {"$gte": FROM}}
    return await events.find(filter_, batch_size=EVENTS).sort("_id", -1).to_list(None)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["secantusd-py"]))
