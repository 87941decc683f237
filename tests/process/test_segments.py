"""Each entering is told once, though the process that reads the stream is killed while it does."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import orjson
import websockets
from pymongo import AsyncMongoClient

from gateway.core.principals import Scope

KEY = "a-key-for-segments"
SAVE = 'mutation { saveSegment(input: {name: "Buyers", filter: {event: {name: "bought"}}}) { segment { id } } }'
TRACK = "mutation($e: [TrackEventInput!]!) { trackEvents(input: {events: $e}) { rejected } }"
COUNT = "query($id: ID!) { segment(id: $id) { complete contacts(first: 1) { totalCount } } }"
MOVES = """subscription($a: String, $f: ContactStreamFilter) {
  contactChanged(after: $a, filter: $f) { kind matches segment { name } contact { externalId } } }"""
BATCHES, SIZE = 30, 10


async def ask(port: int, query: str, **variables: Any) -> Any:
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(
            f"http://127.0.0.1:{port}/graphql",
            json={"query": query, "variables": variables},
            headers={"authorization": f"Bearer {KEY}"},
        )
    assert "errors" not in answer.json(), answer.text
    return answer.json()["data"]


async def track(port: int, batch: int) -> None:
    """Have everybody of a batch buy, whatever it takes: a call that was not answered is sent again."""
    people = [f"u{batch}-{number}" for number in range(SIZE)]
    events = [{"contact": {"externalId": one}, "name": "bought", "idempotencyKey": one} for one in people]
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(AssertionError, httpx.HTTPError):
                assert (await ask(port, TRACK, e=events))["trackEvents"]["rejected"] == 0
                return
            await asyncio.sleep(0.1)


async def entered(port: int, cursor: str, segment_id: str, last: str) -> list[str]:
    """Who entered the segment after that cursor, up to that one."""
    found: list[str] = []
    async with websockets.connect(f"ws://127.0.0.1:{port}/graphql", subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]
        await socket.send(
            orjson.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {KEY}"}}).decode()
        )
        assert orjson.loads(await socket.recv()) == {"type": "connection_ack"}
        sent = {"query": MOVES, "variables": {"a": cursor, "f": {"segmentId": segment_id}}}
        await socket.send(orjson.dumps({"type": "subscribe", "id": "1", "payload": sent}).decode())
        while last not in found:
            told = orjson.loads(await asyncio.wait_for(socket.recv(), 60))["payload"]["data"]["contactChanged"]
            if told["kind"] != "CHECKPOINT":
                assert (told["kind"], told["matches"], told["segment"]) == ("ENTERED_SEGMENT", True, {"name": "Buyers"})
                found.append(told["contact"]["externalId"])
    return found


async def test_each_entering_is_told_once_when_a_process_is_killed(
    program: Any, mongo: str, free_port: Callable[[], int], started: Callable[..., Any]
) -> None:
    first, second = free_port(), free_port()
    other = replace(program, data=program.data.parent / "other")
    database = {"GATEWAY_MONGO_URI": mongo, "GATEWAY_MONGO_DATABASE": f"test_{uuid.uuid4().hex[:12]}"}
    settings = {**database, "GATEWAY_DEV_KEY": KEY}
    async with (
        started(program, first, "dev", "--no-demo", "--port", str(first), **settings) as doomed,
        started(other, second, "dev", "--no-demo", "--port", str(second), **settings),
        asyncio.timeout(180),
    ):
        segment_id = (await ask(first, SAVE))["saveSegment"]["segment"]["id"]
        while not (await ask(second, COUNT, id=segment_id))["segment"]["complete"]:
            await asyncio.sleep(0.1)
        cursor = (await ask(second, "{ streamCursor }"))["streamCursor"]
        for batch in range(BATCHES):
            if batch == BATCHES // 2:
                doomed.kill()
                await asyncio.to_thread(doomed.wait, 60)
            await track(second if batch % 2 or batch >= BATCHES // 2 else first, batch)
        while (await ask(second, COUNT, id=segment_id))["segment"]["contacts"]["totalCount"] < BATCHES * SIZE:
            await asyncio.sleep(0.2)
        await ask(second, TRACK, e=[{"contact": {"externalId": "last"}, "name": "bought"}])
        told = await entered(second, cursor, segment_id, "last")
        everybody = [f"u{batch}-{number}" for batch in range(BATCHES) for number in range(SIZE)]
        assert sorted(told) == sorted([*everybody, "last"])


RECENT = """mutation { saveSegment(input: {name: "Buyers", filter: {event: {name: "bought", within: {lessThanDaysAgo: 9}}}}) {
  segment { id } } }"""
PEOPLE = 1000


async def test_the_search_for_members_goes_on_where_it_was_when_its_process_is_killed(
    program: Any, mongo: str, free_port: Callable[[], int], started: Callable[..., Any], open_gateway: Any
) -> None:
    port, name = free_port(), f"test_{uuid.uuid4().hex[:12]}"
    settings = {"GATEWAY_MONGO_URI": mongo, "GATEWAY_MONGO_DATABASE": name, "GATEWAY_DEV_KEY": KEY}
    settings["GATEWAY_MONGO_TIMEOUT_SECONDS"] = "60"  # 500 events in one call, on a machine that may be busy
    async with AsyncMongoClient(mongo) as client, asyncio.timeout(120):

        async def place() -> str | None:
            """How far the search is; None where there is none."""
            row = await client[name]["roll_ups"].find_one({"_id": "segments"})
            return next((job.get("after", "") for job in (row or {}).get("pending", ())), None)

        async with started(program, port, "dev", "--no-demo", "--port", str(port), **settings) as doomed:
            for start in range(0, PEOPLE, 500):
                people = [{"externalId": f"u{number}"} for number in range(start, start + 500)]
                events = [{"contact": one, "name": "bought"} for one in people]
                assert (await ask(port, TRACK, e=events))["trackEvents"]["rejected"] == 0
            segment_id = (await ask(port, RECENT))["saveSegment"]["segment"]["id"]
            while not await place():
                await asyncio.sleep(0.01)
            doomed.kill()
            await asyncio.to_thread(doomed.wait, 60)
        reached = await place()
        assert reached  # there is something left to do
        async with open_gateway(uri=mongo, database=name) as gateway:
            segment = await client[name]["segments"].find_one({"_id": segment_id})
            assert segment is not None
            assert segment["complete"] is False
            _, key = await gateway.runtime.workspaces.create_key(segment["workspace_id"], list(Scope))
            workspace = replace(await gateway.workspace(), id=segment["workspace_id"], key=key)
            await workspace.track({"contact": {"externalId": "late"}, "name": "bought"})
            while (where := await place()) is not None:
                assert where >= reached
                await asyncio.sleep(0.01)
            while (await workspace.store.members.count(segment_id, PEOPLE + 2)) <= PEOPLE:
                await asyncio.sleep(0.05)
            found = await workspace.data(COUNT, {"id": segment_id})
            assert found == {"segment": {"complete": True, "contacts": {"totalCount": PEOPLE + 1}}}
            moves = await workspace.store.changes._find({"segment_id": segment_id, "subject": "contact"})
            (late,) = await workspace.store.contacts._find({"external_id": "late"})
            assert [(row["kind"], row["contact_id"]) for row in moves] == [("ENTERED_SEGMENT", late["_id"])]
