"""`gateway dev` from the outside: what it says, what it keeps, how it starts after anything, and how it ends."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import pymongo
import pytest

WELCOME_END = "Stop it with Ctrl-C."
SUMMARIES = """{ contacts(first: 100) { nodes { id displayName email externalId
  eventSummaries(first: 100) { nodes { name count firstAt lastAt } } } } }"""
TRACK = 'mutation { trackEvent(input: {contact: {externalId: "me"}, name: "came"}) { summary { count } userErrors { message } } }'
HEARD = "{ klaviyo { mode deliveries { nodes { kind state reason } } } }"
COUNT = '{ contact(by: {externalId: "me"}) { eventSummary(name: "came") { count } } }'


@dataclass
class Dev:
    """A `gateway dev` that was started."""

    program: Any
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

    program: Any
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
        for process in self.program.databases():
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(10)


@pytest.fixture
def start(program: Any, free_port: Callable[[], int]) -> Iterator[Starter]:
    """Starts `gateway dev`; all is ended with the test."""
    starter = Starter(program, free_port)
    yield starter
    starter.end_all()


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"this did not come true within {seconds} seconds"
        time.sleep(0.02)


def record_of(program: Any) -> dict[str, Any]:
    found = orjson.loads((program.data / "database.json").read_bytes())
    assert isinstance(found, dict)
    return found


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


def uri_of(program: Any) -> str:
    return f"mongodb://127.0.0.1:{record_of(program)['port']}/?directConnection=true"


def check_one_sentence(text: str) -> None:
    """What a person reads who did something that cannot be: a line or two, no traceback."""
    assert "Traceback" not in text
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].endswith("."), text


# What it says and keeps


def test_it_says_where_it_listens_with_which_key_and_how_to_ask(start: Starter, tmp_path: Path) -> None:
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


def test_the_key_is_kept_in_the_data_folder_for_its_owner_alone(start: Starter, program: Any) -> None:
    first = start.ready("--no-demo")
    token = first.ask('mutation { createContactToken(input: {contact: {externalId: "u"}}) { token } }')
    secret = program.data / "secret_key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(kept_secret := secret.read_text().strip()) >= 32
    kept = program.data / "dev_key"
    assert kept.read_text().strip() == first.key
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(program.data.stat().st_mode) == 0o700
    first.end()
    second = start.ready("--no-demo")
    assert second.key == first.key
    assert second.ask("{ viewer { workspace { name } } }") == {"viewer": {"workspace": {"name": "dev"}}}
    viewer = httpx.post(
        second.url,
        json={"query": "{ viewer { contact { externalId } } }"},
        headers={"authorization": f"Bearer {token['createContactToken']['token']}"},
        timeout=60,
    )
    assert viewer.json() == {"data": {"viewer": {"contact": {"externalId": "u"}}}}
    assert secret.read_text().strip() == kept_secret
    assert kept_secret not in program.log
    second.end()
    third = start.ready("--no-demo", GATEWAY_DEV_KEY="a-key-of-my-own")
    assert third.key == "a-key-of-my-own"
    third.ask("{ viewer { id } }")
    refused = httpx.post(
        third.url, json={"query": "{ viewer { id } }"}, headers={"authorization": f"Bearer {first.key}"}, timeout=60
    )
    assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (401, "UNAUTHENTICATED")
    assert kept.read_text().strip() == first.key


def test_demo_data_is_there_and_stays_the_same(start: Starter, program: Any) -> None:
    first = start.ready()
    before, documents = summaries(first), stored(uri_of(program))
    assert len(before) == 60
    assert all(contact["eventSummaries"]["nodes"] for contact in before)
    counted = sum(line["count"] for contact in before for line in contact["eventSummaries"]["nodes"])
    assert counted == documents["events"] > 500
    first.end()
    second = start.ready()
    assert summaries(second) == before
    assert stored(uri_of(program)) == documents


def test_without_demo_there_is_none_also_on_a_second_start_with_it(start: Starter) -> None:
    first = start.ready("--no-demo")
    assert summaries(first) == []
    first.end()
    assert summaries(start.ready()) == []


def test_data_survives_a_restart(start: Starter) -> None:
    first = start.ready("--no-demo")
    assert [first.ask(TRACK)["trackEvent"]["summary"]["count"] for _ in range(3)] == [1, 2, 3]
    first.ask('mutation { upsertContact(input: {email: "me@shop.example"}) { created } }')
    reason = "Written to the log and not sent: the mode is LOG."
    told = {"mode": "LOG", "deliveries": {"nodes": [{"kind": "PROFILE", "state": "DELIVERED", "reason": reason}]}}
    until(lambda: first.ask(HEARD) == {"klaviyo": told})
    first.end()
    second = start.ready("--no-demo")
    assert second.ask(HEARD) == {"klaviyo": told}
    assert second.ask(COUNT) == {"contact": {"eventSummary": {"count": 3}}}
    assert second.ask(TRACK)["trackEvent"]["summary"]["count"] == 4


# What it refuses


def test_an_occupied_port_is_told(start: Starter, program: Any) -> None:
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


def test_a_second_one_on_the_same_folder_is_told_who_holds_it(start: Starter) -> None:
    """Slow: it waits half a minute for the first one to end."""
    first = start.ready("--no-demo")
    second = start("--no-demo")
    assert second.wait_until_ended(90) == 1
    told = second.log
    check_one_sentence(told)
    assert f"process {first.process.pid}:" in told
    assert "--data" in told
    assert first.ask(TRACK)["trackEvent"]["summary"]["count"] == 1


def test_one_that_waits_for_the_folder_can_be_interrupted(start: Starter) -> None:
    first = start.ready("--no-demo")
    second = start("--no-demo")
    lock = str(first.program.data / "lock")
    until(lambda: lock in [opened.path for opened in psutil.Process(second.process.pid).open_files()])
    second.process.send_signal(signal.SIGINT)
    assert second.wait_until_ended(10) in (0, 1, 130, -signal.SIGINT)
    assert "Traceback" not in second.log
    assert first.ask(TRACK)["trackEvent"]["summary"]["count"] == 1


def test_one_that_waits_for_the_folder_gets_it_when_the_first_one_ends(start: Starter) -> None:
    first = start.ready("--no-demo")
    first.ask(TRACK)
    second = start("--no-demo")
    lock = str(first.program.data / "lock")
    until(lambda: lock in [opened.path for opened in psutil.Process(second.process.pid).open_files()])
    assert first.end() in (0, -signal.SIGINT)
    assert second.wait_until_ready().ask(TRACK)["trackEvent"]["summary"]["count"] == 2


def test_a_server_that_is_not_there_is_told(start: Starter) -> None:
    dev = start(GATEWAY_EMBEDDED_SERVER="nonexistent")
    assert dev.wait_until_ended() == 1
    check_one_sentence(dev.log)
    assert "'nonexistent' was not found" in dev.log


def test_a_server_that_does_not_start_is_told(start: Starter) -> None:
    dev = start(GATEWAY_EMBEDDED_SERVER="/bin/false")
    assert dev.wait_until_ended() == 1
    assert "Traceback" not in dev.log
    assert "ended with exit code 1" in dev.log


def test_unknown_and_malformed_settings_are_told_one_sentence_each(start: Starter, program: Any) -> None:
    dev = start(GATEWAY_MONGO_URL="mongodb://x", GATEWAY_NONSENSE_OF_MINE="1", GATEWAY_LOG_LEVEL="LOUD")
    assert dev.wait_until_ended() == 1
    lines = dev.log.strip().splitlines()
    assert len(lines) == 3, dev.log
    assert lines[0] == "GATEWAY_MONGO_URL is not a setting: did you mean GATEWAY_MONGO_URI?"
    assert lines[1].startswith("GATEWAY_NONSENSE_OF_MINE is not a setting: ")
    assert lines[2].startswith("GATEWAY_LOG_LEVEL is not usable: ")
    assert not program.data.exists()


def test_a_data_folder_that_cannot_be_made_is_told(start: Starter, program: Any) -> None:
    program.data.write_text("a file")
    dev = start()
    assert dev.wait_until_ended() == 1
    check_one_sentence(dev.log)
    assert "--data" in dev.log


def test_a_server_that_cannot_be_reached_is_told(start: Starter, free_port: Callable[[], int]) -> None:
    uri = f"mongodb://127.0.0.1:{free_port()}/?directConnection=true"
    dev = start(GATEWAY_MONGO_URI=uri, GATEWAY_MONGO_TIMEOUT_SECONDS="1")
    assert dev.wait_until_ended() == 1
    assert "Traceback" not in dev.log
    assert "database cannot be reached" in dev.log


# How it starts after anything


def test_the_database_of_a_killed_gateway_is_taken_over(start: Starter, program: Any) -> None:
    first = start.ready("--no-demo")
    first.ask(TRACK)
    first.kill()
    (orphan,) = program.databases()
    port = record_of(program)["port"]
    second = start.ready("--no-demo")
    assert second.ask(TRACK)["trackEvent"]["summary"]["count"] == 2
    (taken,) = program.databases()
    assert taken.pid != orphan.pid
    assert record_of(program) == {"port": port, "pid": taken.pid, "owner": second.process.pid}


def test_a_frozen_orphan_is_taken_over(start: Starter, program: Any) -> None:
    """Slow: an orphan has twenty seconds to end by itself."""
    first = start.ready("--no-demo")
    first.ask(TRACK)
    first.kill()
    os.kill(first.database, signal.SIGSTOP)
    second = start("--no-demo").wait_until_ready(90)
    assert second.ask(TRACK)["trackEvent"]["summary"]["count"] == 2
    assert [process.pid for process in program.databases()] == [second.database]


def test_an_orphan_that_no_record_tells_of_is_taken_over(start: Starter, program: Any) -> None:
    """What a gateway leaves that was killed between starting its database and writing that down."""
    first = start.ready("--no-demo")
    first.ask(TRACK)
    first.kill()
    (program.data / "database.json").unlink()
    second = start.ready("--no-demo")
    assert second.ask(TRACK)["trackEvent"]["summary"]["count"] == 2
    assert [process.pid for process in program.databases()] == [second.database]


def test_a_gateway_killed_while_it_migrates_starts_again_at_once(start: Starter, program: Any) -> None:
    _kill_while_it_migrates(start, program)
    second = start("--no-demo").wait_until_ready(40)
    assert second.ask(TRACK)["trackEvent"]["summary"]["count"] == 1


def _kill_while_it_migrates(start: Starter, program: Any) -> None:
    """Leave a database whose migration lock is held by a gateway that is no more."""
    for _ in range(10):
        if _killed_holding_the_lock(start("--no-demo"), program):
            return
        start.end_all()
        shutil.rmtree(program.data)
    pytest.fail("the gateway was never met while it migrated")


def _killed_holding_the_lock(dev: Dev, program: Any) -> bool:
    until(lambda: (program.data / "database.json").exists() and "pid" in record_of(program))
    until(lambda: _connects(record_of(program)["port"]))
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri_of(program))
    with client:
        locks = client["gateway"]["migrations"]
        until(lambda: locks.find_one({"_id": "lock"}) or WELCOME_END in dev.log)
        dev.kill()
        return locks.find_one({"_id": "lock"}) is not None


def _connects(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


@pytest.mark.parametrize("wait", [0.3, 0.8, 1.2, 1.6])
def test_a_gateway_killed_while_it_starts_has_all_demo_data_the_next_time(start: Starter, wait: float) -> None:
    first = start()
    with contextlib.suppress(subprocess.TimeoutExpired):
        first.process.wait(wait)
    first.kill()
    second = start("--demo").wait_until_ready(90)
    found = summaries(second)
    assert len(found) == 60
    assert (
        sum(line["count"] for contact in found for line in contact["eventSummaries"]["nodes"])
        == stored(uri_of(second.program))["events"]
        > 500
    )


def test_the_databases_port_taken_by_somebody_else_is_given_up(start: Starter, program: Any) -> None:
    first = start.ready("--no-demo")
    first.ask(TRACK)
    first.end()
    taken = record_of(program)["port"]
    with socket.socket() as occupant:
        occupant.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        until(lambda: _bound(occupant, taken))
        occupant.listen()
        second = start.ready("--no-demo")
        assert record_of(program)["port"] != taken
        assert second.ask(TRACK)["trackEvent"]["summary"]["count"] == 2


def _bound(occupant: socket.socket, port: int) -> bool:
    with contextlib.suppress(OSError):
        occupant.bind(("127.0.0.1", port))
        return True
    return False


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x00\xff not JSON",
        b"[1, 2]",
        b"null",
        b'{"port": 1, "pid": 1, "owner": 1}',
        b'{"port": "many", "pid": "all", "owner": []}',
        b'{"port": 70000, "pid": -1}',
        b'{"port": -1, "pid": 99999999999999999999}',
        b'{"port": true, "pid": null}',
        b'{"port": 27.5, "pid": 0.5}',
    ],
    ids=lambda garbage: garbage.decode(errors="replace")[:20] or "empty",
)
def test_a_damaged_record_does_no_harm(start: Starter, program: Any, garbage: bytes) -> None:
    program.data.mkdir(mode=0o700)
    (program.data / "database.json").write_bytes(garbage)
    (program.data / "lock").write_text("12345 stale")
    (program.data / "users").write_text("stale")
    (program.data / "database.json.new").write_bytes(garbage)
    dev = start.ready("--no-demo")
    assert dev.ask(TRACK)["trackEvent"]["summary"]["count"] == 1
    assert "Traceback" not in dev.log


def test_a_record_that_names_another_living_process_does_it_no_harm(start: Starter, program: Any) -> None:
    bystander = subprocess.Popen(["/bin/sleep", "600"])
    try:
        program.data.mkdir(mode=0o700)
        (program.data / "database.json").write_bytes(orjson.dumps({"port": 1, "pid": bystander.pid, "owner": 1}))
        dev = start.ready("--no-demo")
        dev.ask(TRACK)
        dev.end()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_an_empty_kept_key_is_made_anew(start: Starter, program: Any) -> None:
    program.data.mkdir(mode=0o700)
    (program.data / "dev_key").touch(mode=0o600)
    dev = start.ready("--no-demo")
    dev.ask("{ viewer { id } }")
    assert (program.data / "dev_key").read_text().strip() == dev.key
    assert stat.S_IMODE((program.data / "dev_key").stat().st_mode) == 0o600


# How it ends


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_gateway_and_database_cleanly(start: Starter, program: Any, signal_: signal.Signals) -> None:
    dev = start.ready("--no-demo")
    dev.ask(TRACK)
    (database,) = program.databases()
    assert dev.end(signal_) in (0, 128 + signal_, -signal_)
    assert not database.is_running() or database.status() == psutil.STATUS_ZOMBIE
    assert program.databases() == []
    assert "pid" not in record_of(program)
    assert "Traceback" not in dev.log
    assert "died" not in dev.log


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts_leaves_no_database(start: Starter, program: Any, signal_: signal.Signals) -> None:
    dev = start("--no-demo")
    until(lambda: program.databases())
    assert dev.end(signal_) in (0, 1, 128 + signal_, -signal_)
    assert program.databases() == []
    assert "Traceback" not in dev.log


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_seeds_leaves_no_database(start: Starter, program: Any, signal_: signal.Signals) -> None:
    dev = start()
    until(lambda: program.databases())
    until(lambda: _seeds(program))
    assert dev.end(signal_) in (0, 1, 128 + signal_, -signal_)
    assert program.databases() == []
    assert "Traceback" not in dev.log


def _seeds(program: Any) -> bool:
    with contextlib.suppress(pymongo.errors.PyMongoError, OSError, KeyError):
        return stored(uri_of(program)).get("contacts", 0) > 0
    return False


def test_an_open_connection_does_not_keep_it_from_ending(start: Starter, program: Any) -> None:
    dev = start.ready("--no-demo")
    with httpx.Client() as http, socket.create_connection(("127.0.0.1", dev.port)) as half:
        http.get(f"http://127.0.0.1:{dev.port}/healthz")
        half.sendall(b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        http.get(f"http://127.0.0.1:{dev.port}/healthz")
        dev.process.send_signal(signal.SIGINT)
        assert dev.wait_until_ended(20) in (0, 130, -signal.SIGINT)
    assert program.databases() == []
    assert "Traceback" not in dev.log


def test_a_database_that_dies_while_demo_data_is_made_is_started_again_or_told(start: Starter, program: Any) -> None:
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
    start: Starter, mongo: str, program: Any
) -> None:
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongo)
    with client:
        client.drop_database("gateway_dev")
        before = {
            name: stored(mongo, name)
            for name in client.list_database_names()
            if name not in ("admin", "config", "local")
        }
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
        assert {name: stored(mongo, name) for name in before} == before
        second.end()
        client.drop_database("gateway_dev")


def test_a_workspace_dev_that_is_there_already_is_not_seeded(start: Starter, mongo: str, program: Any) -> None:
    name = f"dev_{uuid.uuid4().hex[:12]}"
    made = program.run("workspaces", "create", "dev", GATEWAY_MONGO_URI=mongo, GATEWAY_MONGO_DATABASE=name)
    assert made.returncode == 0, made.stderr
    dev = start.ready(GATEWAY_MONGO_URI=mongo, GATEWAY_MONGO_DATABASE=name, GATEWAY_DEV_KEY=secrets.token_hex(8))
    assert summaries(dev) == []
    assert dev.ask("{ viewer { workspace { id } } }")["viewer"]["workspace"]["id"] == made.stdout.strip()
