"""Messages are sent once each, by two processes that are killed again and again."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from processes import becomes_true
from pymongo import AsyncMongoClient

KEY = "a-key-for-messages"
CONTACTS = [f"person {number}" for number in range(8)]
EVENTS = 80
KILLS = 4
TRACK = "mutation($i: TrackEventInput!) { trackEvent(input: $i) { event { id } userErrors { message } } }"
SAVE = (
    "mutation($i: SaveMessageRuleInput!) { saveMessageRule(input: $i) { messageRule { id } userErrors { message } } }"
)
SEGMENT = (
    'mutation { saveSegment(input: {name: "all", filter: {role: [USER]}}) { segment { id } userErrors { message } } }'
)
COMPLETE = "query($id: ID!) { segment(id: $id) { complete contacts(first: 100) { nodes { id } } } }"
SEND = "mutation($i: SendMessageInput!) { sendMessage(input: $i) { recipients userErrors { message } } }"
RULES = "{ messageRules { name sentCount } }"
SENT = """query($by: ContactKey!, $after: String) { contact(by: $by) { conversations(first: 100, after: $after)
  { nodes { source { body } } pageInfo { hasNextPage endCursor } } } }"""


class Cluster:
    """Two gateways on one database, either of which may be away."""

    def __init__(self, program: Any, ports: list[int], environment: dict[str, str]) -> None:
        self.program = program
        self.ports = ports
        self.environment = environment
        self.processes: dict[int, Any] = {}

    async def start(self, port: int) -> None:
        self.processes[port] = self.program.start("dev", "--no-demo", "--port", str(port), **self.environment)
        async with httpx.AsyncClient() as http, asyncio.timeout(120):
            while True:
                assert self.processes[port].poll() is None, self.program.log
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.05)

    async def kill(self, port: int) -> None:
        self.processes[port].kill()
        await asyncio.to_thread(self.processes[port].wait)

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    async def ask(self, query: str, **variables: Any) -> Any:
        """The answer of either, tried until there is one."""
        chance = random.Random()
        async with (
            httpx.AsyncClient(timeout=30, headers={"authorization": f"Bearer {KEY}"}) as http,
            asyncio.timeout(120),
        ):
            while True:
                url = f"http://127.0.0.1:{chance.choice(self.ports)}/graphql"
                with contextlib.suppress(httpx.TransportError):
                    answer = (await http.post(url, json={"query": query, "variables": variables})).json()
                    if not answer.get("errors"):
                        (payload,) = answer["data"].values()
                        assert not (payload or {}).get("userErrors") if isinstance(payload, dict) else True, payload
                        return payload
                    assert answer["errors"][0]["extensions"]["code"] == "UNAVAILABLE", answer
                await asyncio.sleep(0.05)

    async def sent_to(self, contact: str) -> list[str]:
        found: list[str] = []
        after = None
        while True:
            page = (await self.ask(SENT, by={"externalId": contact}, after=after))["conversations"]
            found += [node["source"]["body"] for node in page["nodes"]]
            if not page["pageInfo"]["hasNextPage"]:
                return found
            after = page["pageInfo"]["endCursor"]


async def test_each_message_is_sent_once_whatever_is_killed(
    program: Any, mongo: str, free_port: Callable[[], int], tmp_path: Any
) -> None:
    database = f"messages_{tmp_path.name[-12:]}".replace("-", "_")
    environment = {
        "GATEWAY_MONGO_URI": mongo,
        "GATEWAY_MONGO_DATABASE": database,
        "GATEWAY_DEV_KEY": KEY,
    }
    cluster = Cluster(program, [free_port(), free_port()], environment)
    async with AsyncMongoClient[dict[str, Any]](mongo) as client:

        async def nothing_waits() -> bool:
            kinds = {"$in": ["message", "mailing"]}
            return await client[database]["timers"].count_documents({"kind": kinds}) == 0

        try:
            for port in cluster.ports:
                await cluster.start(port)
            await the_messages_hold(cluster, random.Random(7), nothing_waits)
        finally:
            cluster.end()


async def the_messages_hold(
    cluster: Cluster, chance: random.Random, nothing_waits: Callable[[], Awaitable[bool]]
) -> None:
    every = {"name": "every", "event": "did", "trigger": {"everyTime": True}, "body": "every {{ event.metadata.mark }}"}
    tenth = {"name": "tenth", "event": "did", "trigger": {"nthTime": 10}, "body": "tenth {{ event.count }}"}
    waits = {"name": "waits", "event": "left", "trigger": {"minutesSinceLast": 1}, "body": "waits"}
    for rule in (every, tenth, waits):
        await cluster.ask(SAVE, i=rule)
    await asyncio.sleep(1.1)  # the other process knows them by then
    marks = {f"m{number}": chance.choice(CONTACTS) for number in range(EVENTS)}
    left = (datetime.now(UTC) - timedelta(seconds=40)).isoformat()
    events = [("did", contact, {"mark": mark}, mark, None) for mark, contact in marks.items()]
    events += [("left", contact, {}, f"left {contact}", left) for contact in CONTACTS]
    chance.shuffle(events)
    over = asyncio.Event()

    async def track(some: list[Any]) -> None:
        for name, contact, metadata, key, at in some:
            sent = {"contact": {"externalId": contact}, "name": name, "metadata": metadata, "idempotencyKey": key}
            await cluster.ask(TRACK, i=sent | ({} if at is None else {"occurredAt": at}))

    async def write_to_all() -> None:
        segment_id = (await cluster.ask(SEGMENT))["segment"]["id"]
        async with asyncio.timeout(120):
            while True:
                segment = await cluster.ask(COMPLETE, id=segment_id)
                if segment["complete"] and len(segment["contacts"]["nodes"]) == len(CONTACTS):
                    break
                await asyncio.sleep(0.1)
        sent = {"segmentId": segment_id, "body": "to all", "idempotencyKey": "to all"}
        for _ in range(2):
            assert (await cluster.ask(SEND, i=sent))["recipients"] == len(CONTACTS)

    async def kill_now_and_then() -> None:
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.3, 1.5))
            port = chance.choice(cluster.ports)
            await cluster.kill(port)
            await cluster.start(port)
        over.set()

    killing = asyncio.create_task(kill_now_and_then())
    await track(events[: len(CONTACTS) * 3])
    await asyncio.gather(*(track(events[start::4]) for start in range(4)), write_to_all())
    await killing

    wanted = {contact: Counter({"to all": 1, "waits": 1}) for contact in CONTACTS}
    for mark, contact in marks.items():
        wanted[contact][f"every {mark}"] += 1
    for contact, count in Counter(marks.values()).items():
        if count >= 10:
            wanted[contact]["tenth 10"] += 1

    async def found() -> dict[str, Counter[str]]:
        return {contact: Counter(await cluster.sent_to(contact)) for contact in CONTACTS}

    async with asyncio.timeout(180):
        while (seen := await found()) != wanted:
            assert all(seen[contact] <= wanted[contact] for contact in CONTACTS), (seen, wanted)
            await asyncio.sleep(0.5)
    await becomes_true(nothing_waits)  # not even what somebody claimed and died over
    assert await found() == wanted
    tens = sum("tenth 10" in one for one in wanted.values())
    counts = {rule["name"]: rule["sentCount"] for rule in await cluster.ask(RULES)}
    assert counts == {"every": EVENTS, "tenth": tens, "waits": len(CONTACTS)}
