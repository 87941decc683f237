"""A machine whose clock is three hours wrong: what it writes has the right time, and after kill -9 others go on at once."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

SHIFTED = """
from datetime import datetime, timedelta

import gateway.core.clock


class Wrong(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(hours={hours})


gateway.core.clock.datetime = Wrong
"""


@pytest.mark.parametrize("hours", [3, -3])
async def test_it_goes_by_the_databases_time_and_leaves_no_lease_behind(
    program: Any,
    free_port: Callable[[], int],
    started: Callable[..., Any],
    open_gateway: Any,
    mongo: str,
    tmp_path: Path,
    hours: int,
) -> None:
    database = f"shifted_{free_port()}"
    settings = {"GATEWAY_MONGO_URI": mongo, "GATEWAY_MONGO_DATABASE": database}
    (tmp_path / "shifted").mkdir()
    (tmp_path / "shifted" / "sitecustomize.py").write_text(SHIFTED.format(hours=hours))
    async with open_gateway(database=database, rolls_up=False) as gateway:
        workspace = await gateway.workspace()

        async def counted(number: int) -> None:
            async with asyncio.timeout(100):
                while [row.get("count") for row in await workspace.store.definitions.all()] != [number]:
                    await asyncio.sleep(0.1)

        port, wrong = free_port(), {**settings, "PYTHONPATH": str(tmp_path / "shifted")}
        async with started(program, port, "serve", "--port", str(port), **wrong) as process:
            headers = {"authorization": f"Bearer {workspace.key}"}
            query = 'mutation { trackEvent(input: {contact: {externalId: "u"}, name: "did"}) { event { occurredAt } userErrors { message } } }'
            answer = await gateway.http.post(f"http://127.0.0.1:{port}/graphql", json={"query": query}, headers=headers)
            at = datetime.fromisoformat(answer.json()["data"]["trackEvent"]["event"]["occurredAt"])
            assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)
            await counted(1)
            process.kill()
            await asyncio.to_thread(process.wait, 60)
        assert "this machine's clock is wrong" in program.log
        with MongoClient[dict[str, Any]](mongo, directConnection=True, tz_aware=True) as client:
            until = client[database]["roll_ups"].find_one({"_id": "definitions"})["until"]  # type: ignore[index]
            assert until - datetime.now(UTC) < timedelta(seconds=7)
        other = free_port()
        async with started(program, other, "serve", "--port", str(other), **settings):
            await workspace.track({"contact": {"externalId": "u"}, "name": "did"})
            await counted(2)
