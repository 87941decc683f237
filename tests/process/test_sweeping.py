"""A sweep of old events outlives the process that began it, and several processes sweep each event once."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import MongoClient

DAYS = "30"
EVENTS = 6000
NOW = datetime.now(UTC).replace(microsecond=0)


def tracked(start: int, end: int) -> list[dict[str, Any]]:
    return [
        {
            "contact": {"externalId": f"u{number % 50}"},
            "name": "did",
            "occurredAt": (NOW - timedelta(days=40, minutes=number)).isoformat(),
            "idempotencyKey": f"k{number}",
        }
        for number in range(start, end)
    ]


async def test_a_sweep_is_finished_by_others_after_kill_9(
    program: Any, free_port: Callable[[], int], started: Callable[..., Any], open_gateway: Any, mongo: str
) -> None:
    database = f"swept_{free_port()}"
    settings = {
        "GATEWAY_MONGO_URI": mongo,
        "GATEWAY_MONGO_DATABASE": database,
        "GATEWAY_EVENT_RETENTION_DAYS": DAYS,
    }
    async with open_gateway(database=database, rolls_up=False) as gateway:
        workspace = await gateway.workspace()
        for start in range(0, EVENTS, 1000):
            await workspace.track(*tracked(start, start + 1000))
        await workspace.track({"contact": {"externalId": "u1"}, "name": "did"})
        with MongoClient(mongo, directConnection=True) as client:
            rows = client[database]
            rows["events"].update_many({}, {"$set": {"received_at": NOW - timedelta(days=2)}})

            async def until(buried: int) -> None:
                async with asyncio.timeout(100):
                    while await asyncio.to_thread(rows["tombstones"].count_documents, {}) < buried:
                        await asyncio.sleep(0.02)

            port = free_port()
            async with started(program, port, "serve", "--port", str(port), **settings) as process:
                await until(1)
                process.kill()
                await asyncio.to_thread(process.wait, 60)
            left = await asyncio.to_thread(rows["events"].count_documents, {})
            assert left > 1
            one, other = free_port(), free_port()
            async with (
                started(program, one, "serve", "--port", str(one), **settings),
                started(program, other, "serve", "--port", str(other), **settings),
            ):
                await until(EVENTS)
            assert [row["name"] for row in rows["events"].find({})] == ["did"]
            assert sorted(row["identity"] for row in rows["tombstones"].find({})) == sorted(
                f"trackEvent:k{number}" for number in range(EVENTS)
            )
        for start in range(0, EVENTS, 1000):
            again = await workspace.track(*tracked(start, start + 1000))
            assert (again["accepted"], again["duplicates"], again["rejected"]) == (0, 1000, 0)
        summaries = await workspace.store.summaries._find({"name": "did"})
        assert sum(row["count"] for row in summaries) == EVENTS + 1
