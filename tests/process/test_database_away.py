"""The database is away for a while: every answer says so in time, and when it is back all goes on by itself."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import becomes_true

KEY = "a-key-for-outages"
LONGEST = 12.0  # seconds in which everything must be answered: five of a call, and those of a busy machine
AWAY = 8.0
CONTACTS = "{ contacts(first: 5) { nodes { displayName eventSummaries(first: 5) { nodes { count } } } } }"
EVENTS = '{ events(first: 100, filter: {name: ["was there"]}) { nodes { id metadataJson } pageInfo { hasNextPage } } }'
TRACK = """mutation($e: TrackEventInput!) { trackEvent(input: $e)
  { event { id } duplicate summary { count } userErrors { message } } }"""
REQUESTS = {
    "contacts": CONTACTS,
    "events": EVENTS,
    "event": '{ event(id: "evt_01JGFJJZ000000000000000000") { id } }',
    "node": '{ node(id: "con_01JGFJJZ000000000000000000") { id } }',
    "contact": '{ contact(by: {externalId: "u"}) { id } }',
    "viewer": "{ viewer { workspace { name } } }",
    "trackEvent": 'mutation { trackEvent(input: {contact: {externalId: "away"}, name: "was away"}) { event { id } } }',
    "trackEvents": """mutation { trackEvents(input: {events: [{contact: {externalId: "away"}, name: "was away"},
      {contact: {externalId: "away"}, name: "was away too"}]}) { accepted } }""",
    "upsertContact": 'mutation { upsertContact(input: {externalId: "away", name: "Away"}) { created } }',
    "describeEvent": 'mutation { describeEvent(input: {name: "was away", description: "It was."}) { userErrors { message } } }',
    "importEventSummaries": """mutation { importEventSummaries(input: {contact: {externalId: "away"}, summaries: [
      {name: "was away", count: 3, firstAt: "2026-01-01T00:00:00Z", lastAt: "2026-01-02T00:00:00Z"}]}) { userErrors { message } } }""",
}


@dataclass
class Server:
    """A database server of the test's own, on one port and one folder."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        program = [str(Path(sys.executable).parent / "secantusd-py"), "--host", "127.0.0.1", "--port", str(self.port)]
        options = ["--storage-path", str(self.folder / "database"), "--sync-on-commit", "--log-level", "WARNING"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*program, *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder
            )
        await becomes_true(self._listening)

    async def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)

    def send(self, signal_: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(signal_)
        if signal_ is signal.SIGSTOP:
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)  # not all of its threads stand still at once

    async def _listening(self) -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            return True
        return False


@dataclass
class Answer:
    """What came back over HTTP, and how long that took."""

    status: int
    body: dict[str, Any]
    seconds: float

    @property
    def code(self) -> str:
        """The code of every error, `ok` where there is none, with a mark where it is not retryable as it should be."""
        codes = {
            error["extensions"]["code"] + ("" if error["extensions"]["retryable"] else " for good")
            for error in self.body.get("errors", ())
        }
        return " ".join(sorted(codes)) or "ok"


@dataclass
class Client:
    """Who asks one gateway."""

    url: str
    http: httpx.AsyncClient
    acknowledged: dict[str, str] = field(default_factory=dict)

    async def ask(self, query: str, key: str = KEY, **variables: Any) -> Answer:
        began = time.monotonic()
        body = {"query": query, "variables": variables}
        response = await self.http.post(f"{self.url}/graphql", json=body, headers={"authorization": f"Bearer {key}"})
        return Answer(response.status_code, response.json(), time.monotonic() - began)

    async def get(self, path: str) -> Answer:
        began = time.monotonic()
        response = await self.http.get(self.url + path)
        return Answer(response.status_code, response.json(), time.monotonic() - began)

    async def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return (await self.get("/readyz")).status == 200
        return False

    async def track(self, key: str) -> Answer:
        """Track an event under that key; an acknowledgement is remembered."""
        event = {
            "contact": {"externalId": "present"},
            "name": "was there",
            "idempotencyKey": key,
            "metadata": {"key": key},
        }
        answer = await self.ask(TRACK, e=event)
        if answer.code == "ok":
            assert answer.body["data"]["trackEvent"]["userErrors"] == []
            self.acknowledged[key] = answer.body["data"]["trackEvent"]["event"]["id"]
        return answer

    async def track_until_taken(self, key: str) -> None:
        deadline = time.monotonic() + 90
        while (answer := await self.track(key)).code != "ok":
            assert answer.code == "UNAVAILABLE", answer
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)

    async def check_nothing_lost(self) -> None:
        """What was acknowledged is stored once, under the id told, and counted once."""
        found = (await self.ask(EVENTS)).body["data"]["events"]
        assert found["pageInfo"]["hasNextPage"] is False, "the test tracks too much to read it in one page"
        assert sorted((node["metadataJson"]["key"], node["id"]) for node in found["nodes"]) == sorted(
            self.acknowledged.items()
        )
        summary = await self.ask(
            '{ contact(by: {externalId: "present"}) { eventSummary(name: "was there") { count } } }'
        )
        assert summary.body["data"]["contact"]["eventSummary"]["count"] == len(self.acknowledged)


@contextlib.asynccontextmanager
async def gateway_of(program: Any, port: int, **environment: str) -> AsyncIterator[Client]:
    """A gateway that listens, and a client of it that waits longer than any answer may take."""
    process = program.start("dev", "--no-demo", "--port", str(port), GATEWAY_DEV_KEY=KEY, **environment)
    try:
        async with httpx.AsyncClient(timeout=4 * LONGEST) as http:
            client = Client(f"http://127.0.0.1:{port}", http)
            await becomes_true(client.ready)
            yield client
            assert process.poll() is None, "the gateway ended"
    finally:
        if process.poll() is None:
            process.kill()
        await asyncio.to_thread(process.wait)


@pytest.fixture
async def server(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[Server]:
    """A database server that a test may kill."""
    opened = Server(tmp_path / "server", free_port())
    try:
        await opened.start()
        yield opened
    finally:
        await opened.kill()


@pytest.fixture
async def client(program: Any, server: Server, free_port: Callable[[], int]) -> AsyncIterator[Client]:
    """A client of a gateway on that server, which waits a second for it; ten events are acknowledged."""
    async with gateway_of(
        program, free_port(), GATEWAY_MONGO_URI=server.uri, GATEWAY_MONGO_TIMEOUT_SECONDS="1"
    ) as opened:
        for number in range(10):
            assert (await opened.track(f"before {number}")).code == "ok"
        yield opened


async def all_requests(client: Client) -> dict[str, Answer]:
    """The answers to every kind of request, asked at once."""
    answers = await asyncio.gather(*(client.ask(query) for query in REQUESTS.values()))
    return dict(zip(REQUESTS, answers, strict=True))


def check_unavailable(answers: dict[str, Answer]) -> None:
    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(answers, "UNAVAILABLE")
    assert {name: answer.seconds for name, answer in answers.items() if answer.seconds > LONGEST} == {}


async def check_health(client: Client, ready: int) -> None:
    healthz, readyz = await asyncio.gather(client.get("/healthz"), client.get("/readyz"))
    assert (healthz.status, readyz.status) == (200, ready)
    assert healthz.seconds < 5
    assert readyz.seconds < LONGEST


async def test_a_dead_database_is_told_and_comes_back(client: Client, server: Server, program: Any) -> None:
    async def pressing(number: int) -> list[Answer]:
        answers = [await client.ask(REQUESTS["contacts" if number % 2 else "trackEvent"])]
        while answers[-1].code == "ok":
            answers.append(await client.ask(REQUESTS["contacts" if number % 2 else "trackEvent"]))
        return answers

    under_way = [asyncio.create_task(pressing(number)) for number in range(10)]
    await client.track("in the middle")
    await server.kill()
    gone = time.monotonic()
    check_unavailable({f"under way {number}": (await task)[-1] for number, task in enumerate(under_way)})
    while time.monotonic() - gone < AWAY:
        check_unavailable(await all_requests(client))
        await check_health(client, ready=503)
    bogus = await client.ask(REQUESTS["viewer"], key="key_01JGFJJZ000000000000000000.of-nobody")
    assert (bogus.status, bogus.code) == (503, "UNAVAILABLE")
    await server.start()
    await becomes_true(client.ready)
    await check_health(client, ready=200)
    await client.track_until_taken("after")
    check = await all_requests(client)
    assert {name: answer.code for name, answer in check.items()} == dict.fromkeys(REQUESTS, "ok")
    await client.check_nothing_lost()
    assert "Traceback" not in program.log


async def test_nothing_acknowledged_is_lost_by_an_outage(client: Client, server: Server) -> None:
    writers = [asyncio.create_task(_write(client, f"writer {number}", 6)) for number in range(8)]
    await becomes_true(lambda: _acknowledged(client, 18))
    await server.kill()
    await asyncio.sleep(2)
    assert not all(writer.done() for writer in writers)
    await server.start()
    await asyncio.gather(*writers)
    assert len(client.acknowledged) == 10 + 8 * 6
    await client.check_nothing_lost()


async def test_queries_of_a_frozen_database_are_answered_in_time(client: Client, server: Server) -> None:
    server.send(signal.SIGSTOP)
    try:
        answers, _ = await asyncio.gather(all_requests(client), check_health(client, ready=503))
    finally:
        server.send(signal.SIGCONT)
    check_unavailable(answers)
    await becomes_true(client.ready)
    await client.track_until_taken("after")
    # What was refused as UNAVAILABLE may have been stored once the server woke up; what was acknowledged is there once.
    await client.check_nothing_lost()


async def test_calls_that_come_one_after_the_other_do_not_wait_for_each_other(
    program: Any, server: Server, free_port: Callable[[], int]
) -> None:
    """Each is answered in time, with the default settings, however many came before it."""
    async with gateway_of(program, free_port(), GATEWAY_MONGO_URI=server.uri) as client:
        server.send(signal.SIGSTOP)
        try:
            calls = []
            for _ in range(5):
                calls += [asyncio.create_task(client.ask(REQUESTS[name])) for name in ("trackEvent", "contacts")]
                await asyncio.sleep(0.5)
            answers = await asyncio.gather(*calls)
        finally:
            server.send(signal.SIGCONT)
        check_unavailable({f"call {number}": answer for number, answer in enumerate(answers)})


async def test_writes_into_a_frozen_database_count_once_when_it_wakes_up(client: Client, server: Server) -> None:
    writers = [asyncio.create_task(_write(client, f"writer {number}", 6)) for number in range(8)]
    await becomes_true(lambda: _acknowledged(client, 18))
    server.send(signal.SIGSTOP)
    await asyncio.sleep(AWAY)
    assert not any(writer.done() for writer in writers)
    server.send(signal.SIGCONT)
    await asyncio.gather(*writers)
    await client.check_nothing_lost()


async def test_an_embedded_database_that_cannot_be_started_again_for_a_while(
    program: Any, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    broken, wrapper = tmp_path / "broken", tmp_path / "server-that-breaks"
    real = Path(sys.executable).parent / "secantusd-py"
    wrapper.write_text(f'#!/bin/sh\n[ -e "{broken}" ] && exit 7\nexec "{real}" "$@"\n')
    wrapper.chmod(0o755)
    async with gateway_of(
        program, free_port(), GATEWAY_EMBEDDED_SERVER=str(wrapper), GATEWAY_MONGO_TIMEOUT_SECONDS="1"
    ) as client:
        for number in range(5):
            assert (await client.track(f"before {number}")).code == "ok"
        broken.touch()
        os.kill(program.database_pid(), signal.SIGKILL)
        await becomes_true(lambda: _is_away(client))
        gone = time.monotonic()
        while time.monotonic() - gone < AWAY / 2:
            check_unavailable({name: await client.ask(REQUESTS[name]) for name in ("contacts", "trackEvent")})
            await check_health(client, ready=503)
        broken.unlink()
        await becomes_true(client.ready)
        await client.track_until_taken("after")
        await client.check_nothing_lost()
    assert "exit code 7" in program.log
    assert "Traceback" not in program.log


async def _write(client: Client, name: str, count: int) -> None:
    for number in range(count):
        await client.track_until_taken(f"{name}: {number}")


async def _acknowledged(client: Client, count: int) -> bool:
    return len(client.acknowledged) >= count


async def _is_away(client: Client) -> bool:
    return not await client.ready()
