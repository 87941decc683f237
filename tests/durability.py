"""Traffic that tries again until it is acknowledged, and what must be stored of it, for tests that kill what it meets."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from processes import becomes_true

KEY = "a-key-for-durability"
CLIENTS = 10
PATIENCE_SECONDS = 150  # the open transaction of what was killed holds its contacts for a minute
CONTACTS = [f"person {number}" for number in range(6)]
NAMES = ["opened door", "closed door", "rang bell", "left"]
ONE = """mutation($e: TrackEventInput!) { trackEvent(input: $e)
  { event { id } duplicate userErrors { code message path } } }"""
MANY = """mutation($e: [TrackEventInput!]!) { trackEvents(input: {events: $e})
  { results { eventId duplicate error { code message path } } userErrors { code message path } } }"""
EVENTS = """query($after: String) { events(first: 100, after: $after, filter: {occurredAt: {lessThanDaysAgo: 400}})
  { nodes { id name occurredAt metadataJson contact { externalId } } pageInfo { hasNextPage endCursor } } }"""
SUMMARIES = """{ contacts(first: 100) { nodes { externalId
  eventSummaries(first: 100) { nodes { name count firstAt lastAt } } } } }"""
Summaries = dict[tuple[str, str], tuple[int, str, str]]


class UnacknowledgedError(Exception):
    """The gateway did not say that it took this call, in a way that a client may meet with another try."""


@dataclass
class Dev:
    """A `gateway dev` that can be killed and started again on the same port."""

    program: Any
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.process = self.program.start("dev", "--no-demo", "--port", str(self.port), GATEWAY_DEV_KEY=KEY)
        async with httpx.AsyncClient() as http:
            await becomes_true(lambda: self._ready(http))

    async def kill(self) -> None:
        """End the gateway with no chance to tidy up; its database stays, an orphan."""
        assert self.process is not None
        self.process.kill()
        await asyncio.to_thread(self.process.wait)

    async def kill_database(self) -> None:
        """Kill the database; the gateway has to start it again on the same port."""
        before = self.program.database_pid()
        port = self.program.record()["port"]
        os.kill(before, signal.SIGKILL)
        await becomes_true(lambda: self.program.record().get("pid") not in (None, before))
        assert self.program.record()["port"] == port

    async def _ready(self, http: httpx.AsyncClient) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.program.log
        with contextlib.suppress(httpx.TransportError):
            return (await http.get(f"{self.url}/readyz", timeout=30)).status_code == 200
        return False


@dataclass
class Traffic:
    """Clients that track: what they sent, by mark, and what was acknowledged, with the id it got."""

    url: str
    keyed: bool
    key: str = KEY
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    unanswered: int = 0

    async def run(self) -> None:
        """Send until it is over, and then until all that was begun is acknowledged (if the clients try again at all)."""
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(random.Random(number)))

    async def grows_by(self, count: int) -> None:
        """Wait until that many more events are acknowledged."""
        wanted = len(self.acknowledged) + count
        await becomes_true(lambda: len(self.acknowledged) >= wanted, PATIENCE_SECONDS)

    async def _client(self, chance: random.Random) -> None:
        async with httpx.AsyncClient(timeout=60, headers={"authorization": f"Bearer {self.key}"}) as http:
            while not self.over.is_set():
                events = [self._event(chance) for _ in range(1 if chance.random() < 0.5 else 5)]
                with contextlib.suppress(UnacknowledgedError):
                    await self._deliver(http, events)

    async def _deliver(self, http: httpx.AsyncClient, events: list[dict[str, Any]]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                ids = await self._call(http, events)
            except UnacknowledgedError:
                self.unanswered += 1
                if not self.keyed:
                    raise
                assert time.monotonic() < deadline, "a call was not acknowledged, however often it was tried again"
                await asyncio.sleep(0.2)
            else:
                self.acknowledged.update(
                    {event["metadata"]["mark"]: id_ for event, id_ in zip(events, ids, strict=True)}
                )
                return

    async def _call(self, http: httpx.AsyncClient, events: list[dict[str, Any]]) -> list[str]:
        query, value = (ONE, events[0]) if len(events) == 1 else (MANY, events)
        try:
            response = await http.post(f"{self.url}/graphql", json={"query": query, "variables": {"e": value}})
        except httpx.TransportError as error:
            raise UnacknowledgedError from error
        answer = response.json()
        if errors := answer.get("errors"):
            assert [error["extensions"]["code"] for error in errors] == ["UNAVAILABLE"], answer
            assert errors[0]["extensions"]["retryable"] is True
            raise UnacknowledgedError
        (payload,) = answer["data"].values()
        assert payload["userErrors"] == [], answer
        if len(events) == 1:
            return [payload["event"]["id"]]
        assert [result["error"] for result in payload["results"]] == [None] * len(events), answer
        return [result["eventId"] for result in payload["results"]]

    def _event(self, chance: random.Random) -> dict[str, Any]:
        mark = uuid.UUID(int=chance.getrandbits(128)).hex
        at = datetime.now(UTC) - timedelta(milliseconds=chance.randrange(300 * 86_400_000))
        event = {
            "contact": {"externalId": chance.choice(CONTACTS)},
            "name": chance.choice(NAMES),
            "occurredAt": at.isoformat(timespec="milliseconds"),
            "metadata": {"mark": mark},
        } | ({"idempotencyKey": mark} if self.keyed else {})
        self.sent[mark] = event
        return event


async def is_status(url: str, *statuses: int) -> bool:
    """Whether `/readyz` answers with one of these."""
    async with httpx.AsyncClient(timeout=30) as http:
        with contextlib.suppress(httpx.TransportError):
            return (await http.get(f"{url}/readyz")).status_code in statuses
    return False


async def stored(url: str, key: str = KEY) -> tuple[list[dict[str, Any]], Summaries]:
    """Every event of the workspace, and every summary by contact and name, as the API tells them."""
    async with httpx.AsyncClient(timeout=60, headers={"authorization": f"Bearer {key}"}) as http:

        async def ask(query: str, **variables: Any) -> Any:
            answer = (await http.post(f"{url}/graphql", json={"query": query, "variables": variables})).json()
            assert "errors" not in answer, answer
            return answer["data"]

        page, events = (await ask(EVENTS))["events"], []
        events += page["nodes"]
        while page["pageInfo"]["hasNextPage"]:
            page = (await ask(EVENTS, after=page["pageInfo"]["endCursor"]))["events"]
            events += page["nodes"]
        contacts = (await ask(SUMMARIES))["contacts"]["nodes"]
    assert len({contact["externalId"] for contact in contacts}) == len(contacts)
    lines = {
        (contact["externalId"], line["name"]): line
        for contact in contacts
        for line in contact["eventSummaries"]["nodes"]
    }
    return events, {
        key: (line["count"], instant(line["firstAt"]), instant(line["lastAt"])) for key, line in lines.items()
    }


def instant(text: str) -> str:
    return datetime.fromisoformat(text).isoformat(timespec="milliseconds")


def modelled(events: list[tuple[str, str, str]]) -> Summaries:
    """What the summaries must be, given (contact, name, time) of every event."""
    times: dict[tuple[str, str], list[str]] = {}
    for contact, name, at in events:
        times.setdefault((contact, name), []).append(instant(at))
    return {key: (len(found), min(found), max(found)) for key, found in times.items()}


def told(event: dict[str, Any]) -> tuple[str, str, str]:
    return event["contact"]["externalId"], event["name"], instant(event["occurredAt"])


def check_acknowledged(traffic: Traffic, events: list[dict[str, Any]]) -> None:
    """Every acknowledged event is there exactly once, under the id that was told, as it was sent; and nothing is there twice."""
    times = Counter(event["metadataJson"]["mark"] for event in events)
    assert {mark: count for mark, count in times.items() if count > 1} == {}
    assert traffic.acknowledged.keys() - times.keys() == set()
    by_mark = {event["metadataJson"]["mark"]: event for event in events}
    assert {mark: by_mark[mark]["id"] for mark in traffic.acknowledged} == traffic.acknowledged
    assert {mark: told(event) for mark, event in by_mark.items()} == {
        mark: told(traffic.sent[mark]) for mark in by_mark
    }


async def check_all(traffic: Traffic, url: str) -> None:
    """What was sent is what is stored, and the summaries are those of what was sent."""
    events, summaries = await stored(url, traffic.key)
    assert traffic.acknowledged.keys() == traffic.sent.keys()
    check_acknowledged(traffic, events)
    assert len(events) == len(traffic.sent)
    assert summaries == modelled([told(event) for event in traffic.sent.values()])


@contextlib.asynccontextmanager
async def under(traffic: Traffic) -> AsyncIterator[None]:
    """Traffic flows while the body runs, and has ended well when it is left."""
    running = asyncio.create_task(traffic.run())
    body = asyncio.current_task()
    assert body is not None
    running.add_done_callback(lambda _: None if traffic.over.is_set() else body.cancel())
    try:
        await traffic.grows_by(50)
        yield
        await traffic.grows_by(50)
    except asyncio.CancelledError:
        if running.done():
            running.result()
        raise
    finally:
        traffic.over.set()
        await asyncio.wait([running], timeout=120)
        running.cancel()
    await running
