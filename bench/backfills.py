"""What a backfill of few events and one of many keep in memory at most: prints the lines of docs/klaviyo.md.

.venv/bin/python -m bench.backfills [EVENTS ...] [--server EXECUTABLE]
"""

import argparse
import asyncio
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from bench.data import bearer
from bench.processes import most_megabytes, python, started
from gateway.core.clock import system_clock
from gateway.core.ids import Minter, Prefix
from gateway.domain.support.commands import CreateConversation
from gateway.runtime import open_runtime
from gateway.settings import Settings
from gateway.store.embedded import embedded_server
from gateway.store.migrations import migrate

PEOPLE, ROWS_AT_ONCE = 200, 5000


async def fill(uri: str, database: str, events: int) -> None:
    """People with a conversation each, in which they reply: so many events in all."""
    async with open_runtime(Settings(), uri, database) as runtime:
        await migrate(runtime.database, system_clock, owner="benchmark")
        workspace_id = (await runtime.workspaces.create("benchmark"))["_id"]
        (speaker,) = bearer(workspace_id).values()
        begun = []
        for number in range(PEOPLE):
            command = CreateConversation({"email": f"p{number}@shop.example"}, "Where is my parcel?")
            begun.append(await runtime.services.conversations.create(speaker, command))
        at, minter = system_clock() - timedelta(minutes=1), Minter()
        for first in range(0, events, ROWS_AT_ONCE):
            numbers = range(first, min(events, first + ROWS_AT_ONCE))
            rows = [_reply(begun[number % PEOPLE], minter.mint(Prefix.CONVERSATION_PART, at)) for number in numbers]
            await runtime.database.insert("conversation_parts", [{**row, "created_at": at} for row in rows])


def _reply(conversation: dict[str, object], id_: str) -> dict[str, object]:
    author = {"kind": "CONTACT", "id": conversation["contact_id"]}
    of = {"subject_id": conversation["_id"], "workspace_id": conversation["workspace_id"]}
    return {
        "_id": id_,
        **of,
        "contact_id": conversation["contact_id"],
        "kind": "COMMENT",
        "author": author,
        "body": "?",
    }


async def backfill(uri: str, database: str, url: str) -> float:
    """The most that `gateway klaviyo backfill` keeps in memory, in megabytes."""
    arguments = ["klaviyo", "backfill", "--no-profiles", "--metric", "Replied to Conversation"]
    environment = {
        "GATEWAY_MONGO_URI": uri,
        "GATEWAY_MONGO_DATABASE": database,
        "GATEWAY_KLAVIYO_MODE": "live",
        "GATEWAY_KLAVIYO_API_KEY": "pk_of_the_benchmark",
        "GATEWAY_KLAVIYO_BASE_URL": url,
    }
    return await most_megabytes(arguments, environment)


async def main(sizes: list[int], server: str) -> None:
    """One backfill for each number of events, each in a database of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            embedded_server(Path(folder), server) as uri,
            started("klaviyo", python("yes.py"), {}) as klaviyo,
        ):
            for events in sizes:
                database = f"benchmark_{events}"
                await fill(uri, database, events)
                began = time.perf_counter()
                most = await backfill(uri, database, f"http://127.0.0.1:{klaviyo.port}")
                print(f"{events:,} events: {most:.0f} MB at most, {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("events", nargs="*", type=int, default=[2_000, 50_000])
    parser.add_argument("--server", default="secantusd-py")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.events, arguments.server))
