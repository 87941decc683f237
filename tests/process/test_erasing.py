"""An erasure outlives the process that began it."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import httpx

KEY = "a-key-for-erasing"
TRACK = "mutation($e: [TrackEventInput!]!) { trackEvents(input: {events: $e}) { accepted } }"
DELETE = "mutation($id: ID!) { deleteContact(input: {id: $id}) { deletedId } }"
FIND = '{ contact(by: {externalId: "u"}) { id } }'
LEFT = (
    "query { events(first: 100, filter: {occurredAt: {lessThanDaysAgo: 2}}) { nodes { name contact { externalId } } } }"
)


async def ask(port: int, query: str, **variables: Any) -> Any:
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(
            f"http://127.0.0.1:{port}/graphql",
            json={"query": query, "variables": variables},
            headers={"authorization": f"Bearer {KEY}"},
        )
    assert "errors" not in answer.json(), answer.text
    return answer.json()["data"]


async def test_an_erasure_goes_on_after_kill_9(
    program: Any, free_port: Callable[[], int], started: Callable[..., Any]
) -> None:
    port = free_port()
    command = ("dev", "--no-demo", "--port", str(port))
    async with started(program, port, *command, GATEWAY_DEV_KEY=KEY) as process:
        for _ in range(3):
            await ask(port, TRACK, e=[{"contact": {"externalId": "u"}, "name": "did"}] * 1000)
        await ask(port, TRACK, e=[{"contact": {"externalId": "other"}, "name": "stays"}])
        id_ = (await ask(port, FIND))["contact"]["id"]
        deleting = asyncio.create_task(ask(port, DELETE, id=id_))
        async with asyncio.timeout(60):
            while (await ask(port, FIND))["contact"] is not None:
                await asyncio.sleep(0.01)
        process.kill()
        await asyncio.to_thread(process.wait, 60)
        with contextlib.suppress(httpx.HTTPError):
            await deleting
    async with started(program, port, *command, GATEWAY_DEV_KEY=KEY), asyncio.timeout(60):
        assert (await ask(port, FIND))["contact"] is None
        while [row["name"] for row in (await ask(port, LEFT))["events"]["nodes"]] != ["stays"]:
            await asyncio.sleep(0.1)
