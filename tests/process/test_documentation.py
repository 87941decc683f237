"""The examples of the README and the guides, run as they stand, against a gateway started as they say."""

import asyncio
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from graphql import parse, validate
from klaviyo_stand_in import KEY as KLAVIYO_KEY
from klaviyo_stand_in import Klaviyo, listening
from processes import becomes_true

from schema.root import build_schema

ROOT = Path(__file__).parents[2]
README, FRONT_ENDS, SERVICES, FILES, HELP_DESK, MESSAGES, KLAVIYO = (
    (ROOT / path).read_text()
    for path in (
        "README.md",
        "docs/front-ends.md",
        "docs/services.md",
        "docs/files.md",
        "docs/help-desk.md",
        "docs/messages.md",
        "docs/klaviyo.md",
    )
)
KEY = "local-dev-key"
SETTINGS = {"GATEWAY_DEV_KEY": KEY, "GATEWAY_ALLOWED_ORIGINS": '["https://shop.example"]'}
TRACK = "mutation ($input: TrackEventInput!) { trackEvent(input: $input) { event { id } } }"
JSON = json.JSONDecoder(object_hook=lambda found: {key: found[key] for key in found if key != "requestId"})


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def python(name: str) -> str:
    (found,) = [block for block in blocks("python", SERVICES) if block.startswith(f"# {name}\n")]
    return found


@dataclass
class Terminal:
    """A terminal in which examples are tried, beside the gateway on that port."""

    program: Any
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/graphql"

    @property
    def folder(self) -> Path:
        folder: Path = self.program.data.parent
        return folder

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "EVENTS_URL": self.url, "EVENTS_KEY": KEY}

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, cwd=self.folder, env=self.environment, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def bash(self, text: str) -> str:
        gateway = f"{Path(sys.executable).parent}/gateway"
        here = text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        return self.run(
            "bash", "-c", re.sub(r"\.venv/bin/gateway (\w+ \w+)", rf"{gateway} \1 --data {self.program.data}", here)
        )

    def python(self, text: str) -> str:
        return self.run(sys.executable, "-c", text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}"))

    @contextlib.contextmanager
    def running(self, text: str) -> Iterator[subprocess.Popen[str]]:
        """A program under way, killed at the end if it has none."""
        command = [sys.executable, "-c", text]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=self.folder, env=self.environment)
        with process:
            try:
                yield process
            finally:
                process.kill()


async def test_every_example_runs(program: Any, free_port: Any, started: Any) -> None:
    port = free_port()
    here = Terminal(program, port)
    with here.running(python("track.py")) as tracking:  # tries again until the gateway is there
        async with started(program, port, "dev", "--port", str(port), **SETTINGS):
            assert await asyncio.to_thread(tracking.communicate, timeout=60) == ("100 []\n100 []\n50 []\n", "")
            await the_readme_holds(here)
            for guide in (FRONT_ENDS, SERVICES, MESSAGES):
                await the_outputs_hold(here, guide)
            with here.running(python("follow.py")):
                await becomes_true(lambda: len(rows(here, "place")) == 1)
                sent = [await track(here) for _ in range(3)]
                await becomes_true(lambda: len(rows(here, "orders")) == 3)
            sent += [await track(here) for _ in range(2)]
    with here.running(python("follow.py")) as following:
        assert following.stderr is not None
        assert (await asyncio.to_thread(following.stderr.readline)).startswith("connecting again: ")
        async with started(program, port, "dev", "--port", str(port), **SETTINGS):
            sent += [await track(here) for _ in range(2)]
            await becomes_true(lambda: len(rows(here, "orders")) == len(sent))
            assert [event for event, _ in rows(here, "orders")] == sent


def test_the_guide_of_files_needs_no_gateway(program: Any) -> None:
    here = Terminal(program, 0)
    program.data.mkdir()
    for text, shown in re.findall(r"```bash\n(.*?)```\n(?:\n```text\n(.*?)```)?", FILES, flags=re.S):
        assert here.bash(text) == shown


async def the_readme_holds(here: Terminal) -> None:
    people, tracked, read, defined, imported, made = (here.bash(block) for block in blocks("bash"))
    assert len(orjson.loads(people)["data"]["contacts"]["nodes"]) == 2
    assert orjson.loads(tracked)["data"]["trackEvent"]["summary"]["count"] == 1
    contact = orjson.loads(read)["data"]["contact"]
    assert contact["role"] == "USER"
    assert contact["events"]["nodes"][0]["metadata"] == [
        {"key": "price", "formatted": "€49.99"},
        {"key": "order", "url": "https://shop.example/orders/1001", "label": "No. 1001"},
    ]
    definitions = orjson.loads(defined)["data"]["eventDefinitions"]["nodes"]
    assert [node["name"] for node in definitions] == ["created report", "exported pdf", "invited teammate"]
    assert imported == "3 events added, 0 unchanged, 0 rejected.\n"
    token = orjson.loads(made)["data"]["createContactToken"]["token"]
    async with httpx.AsyncClient() as http:
        viewer = await http.post(
            here.url,
            json={"query": "{ viewer { contact { externalId } } }"},
            headers={"authorization": f"Bearer {token}"},
        )
        assert viewer.json() == {"data": {"viewer": {"contact": {"externalId": "user-42"}}}}
        secret = (here.program.data / "secret_key").read_text().strip()
        assert all(part not in here.program.log for part in (secret, *token.split(".")))
        (program,) = blocks("python")
        assert here.python(program) == "100 new, 0 there already\n"
        assert here.python(program) == "0 new, 100 there already\n"
        health = await http.get(f"http://127.0.0.1:{here.port}/healthz")
        assert health.json() == {"status": "ok"}


async def the_outputs_hold(here: Terminal, guide: str) -> None:
    """Run what a guide runs, after its first block, which sets up the terminal, and compare what it shows below each."""
    setup, *_ = blocks("bash", guide)
    for language, text, shown in re.findall(
        r"```(bash|python)\n(.*?)```\n(?:\n```(?:json|text)\n(.*?)```)?", guide, flags=re.S
    ):
        if not shown:
            continue
        for _ in range(100):
            found = comparable(here.python(text) if language == "python" else here.bash(setup + text))
            if found == comparable(shown) or not any(late in text for late in ("eventDefinitions", "conversations")):
                break
            await asyncio.sleep(0.1)  # what is rolled up or sent comes a moment later
        assert found == comparable(shown)


def comparable(output: str) -> list[Any]:
    """JSON values, and lines that are none."""
    found: list[Any] = []
    while output := output.strip():
        try:
            value, end = JSON.raw_decode(output)
        except ValueError:
            value = output.splitlines()[0]
            end = len(value)
        found.append(value)
        output = output[end:]
    return found


async def track(here: Terminal) -> str:
    event = {"contact": {"externalId": "customer-1"}, "name": "shipped order"}
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=60) as http:
        answer = await http.post(here.url, json={"query": TRACK, "variables": {"input": event}})
    return str(answer.json()["data"]["trackEvent"]["event"]["id"])


def rows(here: Terminal, table: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(here.folder / "orders.db", timeout=30)) as database:
        with contextlib.suppress(sqlite3.OperationalError):  # no such table yet
            return database.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall()
    return []


async def test_a_program_waits_as_long_as_the_gateway_says(open_gateway: Any) -> None:
    async with open_gateway(rate_limit="1/6second") as gateway:  # of three calls, some share one of its windows
        workspace = await gateway.workspace()
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", python("track.py")],
            env={**os.environ, "EVENTS_URL": gateway.url, "EVENTS_KEY": workspace.key},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.stdout, done.returncode) == ("100 []\n100 []\n50 []\n", 0), done.stderr
        registry = gateway.runtime.services.metrics.registry
        assert registry.get_sample_value("gateway_rate_limited_total", {"limit": "requests"}) in (1, 2)


async def test_every_query_of_the_help_desk_runs(open_gateway: Any) -> None:
    async with open_gateway(rolls_up=False) as gateway:
        workspace = await gateway.workspace()
        made = await workspace.data(
            """mutation { saveAdmin(input: {name: "Eve", email: "eve@acme.example"}) { admin { id } }
              saveTeam(input: {name: "Support", adminIds: []}) { team { id } }
              createConversation(input: {contact: {externalId: "ada"}, body: "The export fails"}) { conversation { id contact { id } } } }"""
        )
        conversation = made["createConversation"]["conversation"]
        variables = {
            "me": made["saveAdmin"]["admin"]["id"],
            "team": made["saveTeam"]["team"]["id"],
            "contact": conversation["contact"]["id"],
            "id": conversation["id"],
        }
        agent = await workspace.data(
            "mutation($me: ID!) { createAdminToken(input: {adminId: $me}) { token } }", {"me": variables["me"]}
        )
        keys = (agent["createAdminToken"]["token"], await workspace.token(externalId="ada"))
        schema, tried = build_schema().core, 0
        for key, part in zip(keys, HELP_DESK.split("## A customer's portal"), strict=True):
            for query in blocks("graphql", part):
                tried += 1
                assert validate(schema, parse(query)) == []
                if query.startswith("subscription"):
                    continue
                used = {name: value for name, value in variables.items() if f"${name}:" in query}
                found = await workspace.data(query, used, key=key)
                assert all(not one.get("userErrors") for one in found.values()), found
        assert tried == 11


async def test_every_query_of_the_guide_of_klaviyo_runs(open_gateway: Any) -> None:
    account = Klaviyo()
    async with listening(account) as url, open_gateway(rolls_up=False, klaviyo_base_url=url) as gateway:
        workspace = await gateway.workspace()
        made = await workspace.data('mutation { upsertContact(input: {email: "ada@shop.example"}) { contact { id } } }')
        variables = {"contact": made["upsertContact"]["contact"]["id"], "key": KLAVIYO_KEY}
        schema, queries = build_schema().core, blocks("graphql", KLAVIYO)
        for query in queries:
            assert validate(schema, parse(query)) == []
            if not query.startswith("subscription"):
                used = {name: value for name, value in variables.items() if f"${name}:" in query}
                found = await workspace.data(query, used)
                assert all(not one.get("userErrors") for one in found.values()), found
        assert len(queries) == 11


@pytest.mark.parametrize(("language", "file"), [("js", "token.js"), ("jsx", "timeline.jsx")])
def test_the_guide_shows_the_tested_file(language: str, file: str) -> None:
    assert blocks(language, FRONT_ENDS) == [(ROOT / "tests" / "clients" / file).read_text()]


def test_what_is_named_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", README):
        assert f"\n{target}:" in makefile, target
    for folder, text in (
        (ROOT, README),
        (ROOT / "docs", FRONT_ENDS),
        (ROOT / "docs", SERVICES),
        (ROOT / "docs", MESSAGES),
        (ROOT / "docs", FILES),
    ):
        for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
            path, _, heading = link.partition("#")
            assert (folder / path).exists(), link
            headings = re.findall(r"^#+ (.*)$", (folder / path).read_text() if path.endswith(".md") else "", flags=re.M)
            assert not heading or heading in {each.lower().replace(" ", "-") for each in headings}, link
