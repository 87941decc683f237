"""`gateway dev` as a whole: what it says, what it keeps, what it refuses, and how it ends.

What it does with its data folder is in test_data_folder.py, without the gateway."""

import asyncio
import contextlib
import os
import re
import secrets
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import pymongo
import pytest
from gateways import OpenGateway
from processes import CommandLine, Program, own_environment, until

from gateway.development import _dev_workspace

WELCOME_END = "Stop it with Ctrl-C."
SUMMARIES = """{ contacts(first: 100) { nodes { id displayName email externalId
  eventSummaries(first: 100) { nodes { name count firstAt lastAt } } } } }"""
TRACK = 'mutation { trackEvent(input: {contact: {externalId: "me"}, name: "came"}) { summary { count } userErrors { message } } }'
HEARD = "{ klaviyo { mode deliveries { nodes { kind state reason } } } }"
COUNT = '{ contact(by: {externalId: "me"}) { eventSummary(name: "came") { count } } }'


@dataclass
class Dev:
    """A `gateway dev` that was started."""

    program: Program
    port: int
    process: subprocess.Popen[bytes]
    began: int  # where its part of the log begins
    database: int = 0

    @property
    def log(self) -> str:
        text: str = self.program.log[self.began :]
        return text

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/graphql"

    @property
    def key(self) -> str:
        found = re.search(r"^Key:\s+(\S+)", self.log, re.MULTILINE)
        assert found, self.log
        return found[1]

    def wait_until_ready(self, seconds: float = 150) -> "Dev":
        until(lambda: WELCOME_END in self.log or self.process.poll() is not None, seconds)
        assert self.process.poll() is None, self.log
        with contextlib.suppress(OSError, KeyError):
            self.database = self.program.database_pid()
        return self

    def wait_until_ended(self, seconds: float = 60) -> int:
        return self.process.wait(seconds)

    def ask(self, query: str, key: str | None = None) -> Any:
        answer = httpx.post(
            self.url, json={"query": query}, headers={"authorization": f"Bearer {key or self.key}"}, timeout=60
        ).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def end(self, signal_: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(signal_)
        return self.wait_until_ended()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Starter:
    """Starts `gateway dev` on the test's data folder."""

    program: Program
    free_port: Callable[[], int]
    started: list[Dev] = field(default_factory=list)

    def __call__(self, *arguments: str, port: int | None = None, **environment: str) -> Dev:
        """One that may not be up yet."""
        port = port or self.free_port()
        log = self.program.data.parent / "gateway.log"
        began = len(log.read_text()) if log.exists() else 0
        process = self.program.start("dev", "--port", str(port), *arguments, **environment)
        self.started.append(Dev(self.program, port, process, began))
        return self.started[-1]

    def ready(self, *arguments: str, port: int | None = None, **environment: str) -> Dev:
        """One that listens."""
        return self(*arguments, port=port, **environment).wait_until_ready()

    def end_all(self) -> None:
        for dev in self.started:
            if dev.process.poll() is None:
                dev.kill()
        self.program.end()


@pytest.fixture
def start(program: Program, free_port: Callable[[], int]) -> Iterator[Starter]:
    """Starts `gateway dev`; all is ended with the test."""
    starter = Starter(program, free_port)
    yield starter
    starter.end_all()


def summaries(dev: Dev) -> list[Any]:
    """Every contact with its summaries, in one comparable list."""
    nodes = dev.ask(SUMMARIES)["contacts"]["nodes"]
    assert isinstance(nodes, list)
    return nodes


def stored(uri: str, database: str = "gateway") -> dict[str, int]:
    """How many documents every collection of that database has, but for the marks that a gateway writes now and then."""
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri)
    with client:
        names = client[database].list_collection_names()
        return {name: client[database][name].count_documents({"workspace_id": {"$ne": ""}}) for name in names}


def check_one_sentence(text: str) -> None:
    """What a person reads who did something that cannot be: a line or two, no traceback."""
    assert "Traceback" not in text
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].endswith("."), text


# What it says and keeps


def test_it_says_how_to_ask_and_its_demo_data_stays_the_same(start: Starter, program: Program) -> None:
    dev = start.ready()
    assert f"The gateway listens on {dev.url}" in dev.log
    assert f"\nOpen:   {dev.url.removesuffix('graphql')} " in dev.log
    assert dev.key.startswith("dev_")
    assert "Traceback" not in dev.log
    command = dev.log[dev.log.index("  curl ") : dev.log.index(WELCOME_END)]
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    answer = orjson.loads(done.stdout)
    assert "errors" not in answer, answer
    assert len(answer["data"]["contacts"]["nodes"]) == 3
    assert all(
        node["events"]["nodes"] and node["eventSummaries"]["nodes"] for node in answer["data"]["contacts"]["nodes"]
    )
    for path in ("healthz", "readyz"):
        assert httpx.get(f"http://127.0.0.1:{dev.port}/{path}", timeout=30).status_code == 200
    before, documents = summaries(dev), stored(program.uri)
    assert len(before) == 60
    assert all(contact["eventSummaries"]["nodes"] for contact in before)
    counted = sum(line["count"] for contact in before for line in contact["eventSummaries"]["nodes"])
    assert counted == documents["events"] > 500
    dev.end()
    second = start.ready()
    assert summaries(second) == before
    assert stored(program.uri) == documents


def test_data_and_keys_survive_a_restart_and_no_demo_comes_later(start: Starter, program: Program) -> None:
    program.data.mkdir(mode=0o700)
    kept, secret = program.data / "dev_key", program.data / "secret_key"
    kept.touch(mode=0o600)  # an empty one is no key
    first = start.ready("--no-demo")
    assert kept.read_text().strip() == first.key != ""
    assert [stat.S_IMODE(path.stat().st_mode) for path in (kept, secret, program.data)] == [0o600, 0o600, 0o700]
    assert len(kept_secret := secret.read_text().strip()) >= 32
    assert summaries(first) == []
    assert [first.ask(TRACK)["trackEvent"]["summary"]["count"] for _ in range(3)] == [1, 2, 3]
    first.ask('mutation { upsertContact(input: {email: "me@shop.example"}) { created } }')
    token = first.ask('mutation { createContactToken(input: {contact: {externalId: "me"}}) { token } }')
    reason = "Written to the log, not sent: the mode is LOG."
    told = {"mode": "LOG", "deliveries": {"nodes": [{"kind": "PROFILE", "state": "DELIVERED", "reason": reason}]}}
    until(lambda: first.ask(HEARD) == {"klaviyo": told})
    first.end()

    second = start.ready()  # with demo data, which a workspace without it never gets
    assert len(summaries(second)) == 2
    assert second.key == first.key
    assert second.ask("{ viewer { workspace { name } } }") == {"viewer": {"workspace": {"name": "dev"}}}
    viewer = second.ask("{ viewer { contact { externalId } } }", token["createContactToken"]["token"])
    assert viewer == {"viewer": {"contact": {"externalId": "me"}}}
    assert secret.read_text().strip() == kept_secret
    assert kept_secret not in program.log
    assert second.ask(HEARD) == {"klaviyo": told}
    assert second.ask(COUNT) == {"contact": {"eventSummary": {"count": 3}}}
    assert second.ask(TRACK)["trackEvent"]["summary"]["count"] == 4
    second.end()

    third = start.ready("--no-demo", GATEWAY_DEV_KEY="a-key-of-my-own")
    assert third.key == "a-key-of-my-own"
    third.ask("{ viewer { id } }")
    refused = httpx.post(
        third.url, json={"query": "{ viewer { id } }"}, headers={"authorization": f"Bearer {first.key}"}, timeout=60
    )
    assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (401, "UNAUTHENTICATED")
    assert kept.read_text().strip() == first.key


# What it refuses


def test_an_occupied_port_is_told(start: Starter, program: Program) -> None:
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        port = occupant.getsockname()[1]
        dev = start("--no-demo", port=port)
        assert dev.wait_until_ended() == 1
    check_one_sentence(dev.log)
    assert f"Port {port} " in dev.log
    assert "--port" in dev.log
    assert program.databases() == []


@dataclass
class Refused:
    """Runs a `gateway dev` that cannot start, in this process."""

    data: Path
    port: int

    def __call__(self, **environment: str) -> str:
        """What it says."""
        line = CommandLine(own_environment(**environment))
        done = line.run("dev", "--port", str(self.port), "--data", str(self.data))
        assert (done.returncode, done.stdout) == (1, ""), done
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
def refused(tmp_path: Path, free_port: Callable[[], int]) -> Refused:
    return Refused(tmp_path / "data", free_port())


def test_a_server_that_is_not_there_is_told(refused: Refused) -> None:
    text = refused(GATEWAY_EMBEDDED_SERVER="nonexistent")
    check_one_sentence(text)
    assert "'nonexistent', was not found" in text


def test_a_server_that_does_not_start_is_told(refused: Refused) -> None:
    assert "ended with exit code 1" in refused(GATEWAY_EMBEDDED_SERVER="/bin/false")


def test_unknown_and_malformed_settings_are_told_one_sentence_each(refused: Refused) -> None:
    text = refused(GATEWAY_MONGO_URL="mongodb://x", GATEWAY_NONSENSE_OF_MINE="1", GATEWAY_LOG_LEVEL="LOUD")
    lines = text.strip().splitlines()
    assert len(lines) == 3, text
    assert lines[0] == "GATEWAY_MONGO_URL is not a setting: did you mean GATEWAY_MONGO_URI?"
    assert lines[1].startswith("GATEWAY_NONSENSE_OF_MINE is not a setting: ")
    assert lines[2].startswith("GATEWAY_LOG_LEVEL is invalid: ")
    assert not refused.data.exists()


def test_a_data_folder_that_cannot_be_made_is_told(refused: Refused) -> None:
    refused.data.write_text("a file")
    text = refused()
    check_one_sentence(text)
    assert "--data" in text


def test_a_server_that_cannot_be_reached_is_told(refused: Refused, free_port: Callable[[], int]) -> None:
    uri = f"mongodb://127.0.0.1:{free_port()}/?directConnection=true"
    assert "database is not available" in refused(GATEWAY_MONGO_URI=uri, GATEWAY_MONGO_TIMEOUT_SECONDS="1")


# How it starts after anything


def test_the_database_of_a_killed_gateway_is_taken_over(start: Starter, program: Program) -> None:
    first = start.ready("--no-demo")
    first.ask(TRACK)
    first.kill()
    (orphan,) = program.databases()
    port = program.record()["port"]
    second = start.ready("--no-demo")
    assert second.ask(TRACK)["trackEvent"]["summary"]["count"] == 2
    (taken,) = program.databases()
    assert taken.pid != orphan.pid
    assert program.record() == {"port": port, "pid": taken.pid, "owner": second.process.pid}


def test_one_that_waits_for_the_folder_gets_it_when_the_first_one_ends(start: Starter, program: Program) -> None:
    first = start.ready("--no-demo")
    first.ask(TRACK)
    second = start("--no-demo")
    until(lambda: program.opened_by(second.process.pid, "lock"))
    assert first.end() in (0, -signal.SIGINT)
    assert second.wait_until_ready().ask(TRACK)["trackEvent"]["summary"]["count"] == 2


def test_a_gateway_killed_while_it_seeds_has_all_demo_data_the_next_time(start: Starter, program: Program) -> None:
    first = start()
    until(lambda: program.databases())
    until(lambda: _seeds(program))
    first.kill()
    second = start.ready("--demo")
    check_demo(summaries(second), stored(program.uri)["events"])


@pytest.mark.parametrize("commands", [1, 30, 250, 500])
async def test_a_seeding_that_is_cut_off_after_so_many_commands_is_finished_later(
    open_gateway: OpenGateway, fast_mongo: str, commands: int
) -> None:
    async with open_gateway(uri=fast_mongo, rolls_up=False) as gateway:
        began = len(gateway.commands.names)
        seeding = asyncio.create_task(_dev_workspace(gateway.runtime, True))
        while len(gateway.commands.names) - began < commands:
            assert not seeding.done()
            await asyncio.sleep(0)
        seeding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await seeding
        row = await _dev_workspace(gateway.runtime, True)
        store = gateway.runtime.services.store.open(row["_id"])
        contacts, lines = await store.contacts._find({}), await store.summaries._find({})
        assert len(contacts) == 60
        assert sum(line["count"] for line in lines) == len(await store.events._find({})) > 500
        assert await store.tickets._find({}) != []


def check_demo(contacts: list[Any], events: int) -> None:
    """Every contact of the demo is there, with every event once."""
    assert len(contacts) == 60
    assert sum(line["count"] for contact in contacts for line in contact["eventSummaries"]["nodes"]) == events > 500


# How it ends


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_gateway_and_database_cleanly_also_with_an_open_connection(
    start: Starter, program: Program, signal_: signal.Signals
) -> None:
    dev = start.ready("--no-demo")
    dev.ask(TRACK)
    (database,) = program.databases()
    with httpx.Client() as http, socket.create_connection(("127.0.0.1", dev.port)) as half:
        http.get(f"http://127.0.0.1:{dev.port}/healthz")
        half.sendall(b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        http.get(f"http://127.0.0.1:{dev.port}/healthz")
        dev.process.send_signal(signal_)
        assert dev.wait_until_ended(60) in (0, 128 + signal_, -signal_)
    assert not database.is_running() or database.status() == psutil.STATUS_ZOMBIE
    assert program.databases() == []
    assert "pid" not in program.record()
    assert "Traceback" not in dev.log
    assert "died" not in dev.log


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_seeds_leaves_no_database(start: Starter, program: Program, signal_: signal.Signals) -> None:
    dev = start()
    until(lambda: program.databases())
    until(lambda: _seeds(program))
    assert dev.end(signal_) in (0, 1, 128 + signal_, -signal_)
    assert program.databases() == []
    assert "Traceback" not in dev.log


def _seeds(program: Program) -> bool:
    with contextlib.suppress(pymongo.errors.PyMongoError, OSError, KeyError):
        return stored(program.uri).get("contacts", 0) > 0
    return False


def test_a_database_that_dies_while_demo_data_is_made_is_started_again_or_told(
    start: Starter, program: Program
) -> None:
    dev = start()
    until(lambda: program.databases())
    until(lambda: _seeds(program))
    os.kill(program.database_pid(), signal.SIGKILL)
    until(lambda: WELCOME_END in dev.log or dev.process.poll() is not None)
    assert "Traceback" not in dev.log
    if dev.process.poll() is None:
        assert len(summaries(dev)) == 60
    else:
        assert dev.process.returncode == 1
        assert program.databases() == []


# On a server that is not its own


def test_on_another_server_it_has_a_database_of_its_own_and_seeds_only_a_new_workspace(
    start: Starter, mongo: str, program: Program
) -> None:
    with pymongo.MongoClient[dict[str, Any]](mongo) as client:
        client.drop_database("gateway_dev")
        client["bystander"]["events"].insert_one({"workspace_id": "w"})
        names = set(client.list_database_names())
        first = start.ready(GATEWAY_MONGO_URI=mongo)
        seen = summaries(first)
        assert len(seen) == 60
        assert program.databases() == []
        assert not (program.data / "database.json").exists()
        documents = stored(mongo, "gateway_dev")
        assert documents["workspaces"] == 1
        first.end()
        second = start.ready(GATEWAY_MONGO_URI=mongo)
        assert summaries(second) == seen
        assert stored(mongo, "gateway_dev") == documents
        assert stored(mongo, "bystander") == {"events": 1}
        assert set(client.list_database_names()) == names | {"gateway_dev"}
        second.end()
        client.drop_database("gateway_dev")
        client.drop_database("bystander")


def test_a_workspace_dev_that_is_there_already_is_not_seeded(start: Starter, command_line: CommandLine) -> None:
    made = command_line.run("workspaces", "create", "dev")
    assert made.returncode == 0, made.stderr
    server = {name: command_line.environment[name] for name in ("GATEWAY_MONGO_URI", "GATEWAY_MONGO_DATABASE")}
    dev = start.ready(**server, GATEWAY_DEV_KEY=secrets.token_hex(8))
    assert summaries(dev) == []
    assert dev.ask("{ viewer { workspace { id } } }")["viewer"]["workspace"]["id"] == made.stdout.strip()
