"""The commands beside `gateway dev`: what they do, which database they find, what they leave behind."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import psutil
import pymongo
import pytest

WELCOME_END = "Stop it with Ctrl-C."
VIEWER = "{ viewer { id scopes workspace { id name } } }"
TRACK = (
    'mutation { trackEvent(input: {contact: {externalId: "me"}, name: "came"}) { duplicate userErrors { message } } }'
)
DEV_KEY = "a-key-for-commands"
MIGRATED = (
    "0001 collections and indexes\n0002 values of events, totals by name\n0003 contacts by terms, summaries by count\n"
    "0004 deliveries\n0005 tombstones of events\n0006 lists in every order\n"
    "0007 secret of cursors\n0008 words that contacts see"
)
UP_TO_DATE = "Nothing to migrate: the database is up to date."
Done = subprocess.CompletedProcess[str]


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"this did not come true within {seconds} seconds"
        time.sleep(0.02)


@contextlib.contextmanager
def listening(program: Any, port: int, **environment: str) -> Iterator[str]:
    """The URL of a `gateway dev` that listens."""
    log = program.data.parent / "gateway.log"
    began = len(log.read_text()) if log.exists() else 0
    process = program.start("dev", "--no-demo", "--port", str(port), GATEWAY_DEV_KEY=DEV_KEY, **environment)
    try:
        until(lambda: WELCOME_END in program.log[began:] or process.poll() is not None)
        assert process.poll() is None, program.log
        yield f"http://127.0.0.1:{port}/graphql"
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert program.databases() == []
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def port(free_port: Callable[[], int]) -> int:
    """A port for the gateway."""
    return free_port()


@pytest.fixture(autouse=True)
def nothing_left(program: Any) -> Iterator[None]:
    """End what a test that failed has left."""
    yield
    for process in program.databases():
        with contextlib.suppress(psutil.Error):
            process.kill()
            process.wait(10)


@contextlib.contextmanager
def database(program: Any) -> Iterator[Any]:
    """The database of the running `gateway dev`, without the gateway in between."""
    port = orjson.loads((program.data / "database.json").read_bytes())["port"]
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
        f"mongodb://127.0.0.1:{port}/?directConnection=true"
    )
    with client:
        yield client["gateway"]


def well(done: Done) -> str:
    """What a command that went well printed."""
    assert done.returncode == 0, done
    assert done.stderr == ""
    return done.stdout.strip()


def told(done: Done) -> str:
    """The one clear sentence of a command that cannot be done."""
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].endswith("."), done.stderr
    return lines[0]


def ask(url: str, key: str, query: str = VIEWER) -> httpx.Response:
    return httpx.post(url, json={"query": query}, headers={"authorization": f"Bearer {key}"}, timeout=60)


def codes(response: httpx.Response) -> list[str]:
    return [error["extensions"]["code"] for error in response.json().get("errors", ())]


def rows(done: Done) -> list[list[str]]:
    """The cells of a printed table below its head; columns are at least two blanks apart."""
    return [re.split(r"\s{2,}", line.strip()) for line in well(done).splitlines()[1:]]


def at_once(program: Any, count: int, *arguments: str) -> list[Done]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: program.run(*arguments), range(count)))


# migrate


def test_migrate_alone_starts_a_database_and_leaves_none(program: Any) -> None:
    assert well(program.run("migrate")) == MIGRATED
    assert program.databases() == []
    assert well(program.run("migrate")) == UP_TO_DATE
    assert program.databases() == []


def test_four_migrate_at_once_without_a_database(program: Any) -> None:
    printed = sorted(well(done) for done in at_once(program, 4, "migrate"))
    assert printed == [MIGRATED, *[UP_TO_DATE] * 3]
    assert program.databases() == []


def test_four_migrate_at_once_beside_a_running_gateway(program: Any, port: int) -> None:
    with listening(program, port) as url:
        (running,) = program.databases()
        with database(program) as found:
            found["migrations"].delete_many({})
            assert httpx.get(url.replace("/graphql", "/readyz"), timeout=30).status_code == 503
        printed = sorted(well(done) for done in at_once(program, 4, "migrate"))
        assert printed == [MIGRATED, *[UP_TO_DATE] * 3]
        assert [process.pid for process in program.databases()] == [running.pid]
        assert httpx.get(url.replace("/graphql", "/readyz"), timeout=30).status_code == 200
        with database(program) as found:
            assert [row["_id"] for row in found["migrations"].find()] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_commands_that_follow_each_other_closely_never_meet_a_database_that_ends(program: Any) -> None:
    """Whoever starts the database ends it, while the next ones already look for it."""
    well(program.run("migrate"))
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda number: _late(program, number * 0.35), range(9)))
    assert [item.stderr for item in done] == [""] * 9
    assert [item.returncode for item in done] == [0] * 9
    assert program.databases() == []


def _late(program: Any, seconds: float) -> Done:
    threading.Event().wait(seconds % 1)
    done: Done = program.run("workspaces", "list")
    return done


def test_a_command_that_is_interrupted_leaves_no_database(program: Any) -> None:
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        process = program.start("migrate")
        until(lambda: program.databases())
        process.send_signal(signal_)
        assert process.wait(40) in (0, 1, 128 + signal_, -signal_)
        assert program.databases() == []
        assert "Traceback" not in program.log


def test_a_command_takes_over_the_database_of_a_killed_gateway(program: Any, port: int) -> None:
    process = program.start("dev", "--no-demo", "--port", str(port))
    until(lambda: WELCOME_END in program.log)
    process.kill()
    process.wait()
    assert len(program.databases()) == 1
    assert [row[1] for row in rows(program.run("workspaces", "list"))] == ["dev"]
    assert program.databases() == []


def test_migrate_on_a_server_that_cannot_be_reached_is_told(program: Any, free_port: Callable[[], int]) -> None:
    uri = f"mongodb://127.0.0.1:{free_port()}/?directConnection=true"
    assert "cannot be reached" in told(program.run("migrate", GATEWAY_MONGO_URI=uri, GATEWAY_MONGO_TIMEOUT_SECONDS="1"))
    assert program.databases() == []


# Workspaces


def test_workspaces_are_created_listed_and_deleted(program: Any, port: int) -> None:
    with listening(program, port):
        acme = well(program.run("workspaces", "create", "acme"))
        assert re.fullmatch(r"wsp_[0-9A-Z]{26}", acme)
        assert "There is a workspace 'acme' already" in told(program.run("workspaces", "create", "acme"))
        assert [row[:2] for row in rows(program.run("workspaces", "list"))][1:] == [[acme, "acme"]]
        created = datetime.strptime(rows(program.run("workspaces", "list"))[1][2], "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - created) < timedelta(minutes=2)
        unknown = told(program.run("workspaces", "delete", "nobody", "--yes"))
        assert unknown == "There is no workspace 'nobody': there are dev, acme."
        assert well(program.run("workspaces", "delete", "acme", "--yes")) == "Deleted 1 documents."
        assert [row[1] for row in rows(program.run("workspaces", "list"))] == ["dev"]


def test_a_deleted_workspace_leaves_nothing_and_its_neighbours_all(program: Any, port: int) -> None:
    with listening(program, port) as url:
        gone = well(program.run("workspaces", "create", "to go"))
        key = well(program.run("keys", "create", "-w", "to go", "-s", "TRACK", "-s", "READ"))
        for bearer in (key, DEV_KEY):
            answer = ask(url, bearer, TRACK).json()
            assert answer["data"]["trackEvent"]["userErrors"] == []
        with database(program) as found:
            names = [name for name in found.list_collection_names() if name != "migrations"]
            others = {
                name: found[name].count_documents({"workspace_id": {"$nin": [gone, ""]}, "_id": {"$ne": gone}})
                for name in names
            }
            assert {name for name in names if found[name].count_documents({"workspace_id": gone})} >= {
                "keys",
                "contacts",
                "events",
                "event_summaries",
            }
            total = sum(found[name].count_documents({"$or": [{"workspace_id": gone}, {"_id": gone}]}) for name in names)
            assert well(program.run("workspaces", "delete", "to go", "--yes")) == f"Deleted {total} documents."
            assert {name: found[name].count_documents({"workspace_id": {"$ne": ""}}) for name in names} == others


def test_deleting_a_workspace_asks_first(program: Any) -> None:
    well(program.run("workspaces", "create", "kept"))
    command = program.command("workspaces", "delete", "kept")
    refused = subprocess.run(
        command,
        input="n\n",
        capture_output=True,
        text=True,
        timeout=60,
        env=program.environment,
        cwd=program.data.parent,
    )
    assert refused.returncode == 1
    assert "'kept'" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    agreed = subprocess.run(
        command,
        input="y\n",
        capture_output=True,
        text=True,
        timeout=60,
        env=program.environment,
        cwd=program.data.parent,
    )
    assert agreed.returncode == 0, agreed
    assert "Deleted 1 documents." in agreed.stdout
    assert program.databases() == []


@pytest.mark.parametrize("name", ["[bold]", "[/]", "[/red] :smile:", "Ünïcode 名前", "a" * 100])
def test_a_workspace_may_have_any_name(program: Any, name: str) -> None:
    made = well(program.run("workspaces", "create", name))
    listed = well(program.run("workspaces", "list"))
    assert made in listed
    assert name in listed


def test_two_create_the_same_workspace_at_once(program: Any, port: int) -> None:
    with listening(program, port):
        done = at_once(program, 3, "workspaces", "create", "same")
        assert sorted(item.returncode for item in done) == [0, 1, 1]
        assert {told(item) for item in done if item.returncode} == {
            "There is a workspace 'same' already: choose another name."
        }
        assert [row[1] for row in rows(program.run("workspaces", "list"))] == ["dev", "same"]


@pytest.mark.parametrize("name", ["", "a" * 101])
def test_a_name_that_cannot_be_is_told(program: Any, name: str) -> None:
    told(program.run("workspaces", "create", name))
    assert program.databases() == []


# Keys


def test_a_keys_text_is_printed_once_and_only_its_hash_is_kept(program: Any, port: int) -> None:
    with listening(program, port) as url:
        text = well(program.run("keys", "create", "-w", "dev", "-s", "READ", "-s", "TRACK", "--name", "for tests"))
        key_id, _, secret = text.partition(".")
        assert re.fullmatch(r"key_[0-9A-Z]{26}", key_id)
        assert len(secret) >= 32
        listed = program.run("keys", "list", "-w", "dev")
        assert secret not in listed.stdout
        assert rows(listed)[0][:3] == [key_id, "for tests", "READ TRACK"]
        viewer = ask(url, text).json()["data"]["viewer"]
        assert (sorted(viewer["scopes"]), viewer["workspace"]["name"]) == (["READ", "TRACK"], "dev")
        with database(program) as found:
            assert [key["_id"] for key in found["keys"].find({})] == [key_id]
            for name in found.list_collection_names():
                assert all(secret not in str(row) for row in found[name].find({})), name
        wrong = ask(url, f"{key_id}.{'x' * len(secret)}")
        assert (wrong.status_code, codes(wrong)) == (401, ["UNAUTHENTICATED"])
    for path in program.data.parent.glob("*.log"):
        assert secret not in path.read_text()


def test_the_last_use_of_a_key_is_listed(program: Any, port: int) -> None:
    with listening(program, port) as url:
        key = well(program.run("keys", "create", "-w", "dev", "-s", "READ"))
        before = well(program.run("keys", "list", "-w", "dev"))
        assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", before)) == 1  # when it was created
        assert ask(url, key).status_code == 200
        after = well(program.run("keys", "list", "-w", "dev"))
        assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", after)) == 2


def test_a_revoked_key_opens_nothing(program: Any, port: int) -> None:
    with listening(program, port) as url:
        kept = well(program.run("keys", "create", "-w", "dev", "-s", "READ"))
        revoked = well(program.run("keys", "create", "-w", "dev", "-s", "READ"))
        key_id = revoked.partition(".")[0]
        assert well(program.run("keys", "revoke", key_id, "-w", "dev")) == f"Revoked {key_id}."
        refused = ask(url, revoked)  # the gateway had never seen it
        assert (refused.status_code, codes(refused)) == (401, ["UNAUTHENTICATED"])
        assert ask(url, kept).status_code == 200
        well(program.run("keys", "revoke", kept.partition(".")[0], "-w", "dev"))
        listed = rows(program.run("keys", "list", "-w", "dev"))
        assert [row[0] for row in listed] == [kept.partition(".")[0], key_id]
    with listening(program, port) as url:
        for text in (kept, revoked):
            refused = ask(url, text)
            assert (refused.status_code, codes(refused)) == (401, ["UNAUTHENTICATED"])


def test_a_key_may_do_what_its_scopes_say_and_no_more(program: Any, port: int) -> None:
    with listening(program, port) as url:
        key = well(program.run("keys", "create", "-w", "dev", "-s", "TRACK"))
        assert codes(ask(url, key, TRACK)) == []
        assert codes(ask(url, key, "{ contacts(first: 1) { nodes { id } } }")) == ["FORBIDDEN"]


def test_mistakes_with_keys_are_told(program: Any, port: int) -> None:
    with listening(program, port):
        assert "There is no workspace 'nobody'" in told(program.run("keys", "create", "-w", "nobody", "-s", "READ"))
        assert "There is no workspace 'nobody'" in told(program.run("keys", "list", "-w", "nobody"))
        assert "There is no key 'key_x'" in told(program.run("keys", "revoke", "key_x", "-w", "dev"))
        well(program.run("workspaces", "create", "other"))
        key_id = well(program.run("keys", "create", "-w", "other", "-s", "READ")).partition(".")[0]
        assert f"There is no key '{key_id}'" in told(program.run("keys", "revoke", key_id, "-w", "dev"))
        assert well(program.run("keys", "revoke", key_id, "-w", "other")) == f"Revoked {key_id}."
        usage = program.run("keys", "create", "-w", "dev", "-s", "EVERYTHING")
        assert usage.returncode == 2
        assert "EVERYTHING" in usage.stderr
        assert "Traceback" not in usage.stderr
        assert program.run("keys", "create", "-w", "dev").returncode == 2


# Which database they find


def test_definitions_are_counted_anew_beside_a_running_gateway_and_without_one(program: Any, port: int) -> None:
    totals = "{ eventDefinitions { nodes { count contactCount } } }"

    def counted(url: str) -> Any:
        return ask(url, DEV_KEY, totals).json()["data"]["eventDefinitions"]["nodes"]

    with listening(program, port) as url:
        ask(url, DEV_KEY, TRACK)
        until(lambda: counted(url) == [{"count": 1, "contactCount": 1}])
        with database(program) as mongo:
            mongo["event_definitions"].update_many({}, {"$set": {"count": 7}})
        assert counted(url) == [{"count": 7, "contactCount": 1}]
        done = program.run("rebuild", "definitions", "-w", "dev")
        assert well(done) == "Counted the definitions of 1 workspaces anew."
        assert counted(url) == [{"count": 1, "contactCount": 1}]
        with database(program) as mongo:
            mongo["event_definitions"].update_many({}, {"$set": {"count": 7}})
        assert "There is no workspace 'nobody'" in told(program.run("rebuild", "definitions", "-w", "nobody"))
    well(program.run("rebuild", "definitions"))
    with listening(program, port) as url:
        assert counted(url) == [{"count": 1, "contactCount": 1}]


def test_commands_see_what_dev_made_while_it_runs_and_after(program: Any, port: int) -> None:
    with listening(program, port) as url:
        (running,) = program.databases()
        key = well(program.run("keys", "create", "-w", "dev", "-s", "TRACK", "-s", "READ"))
        assert ask(url, key, TRACK).json()["data"]["trackEvent"]["duplicate"] is False
        assert [process.pid for process in program.databases()] == [running.pid]
    assert [row[0] for row in rows(program.run("keys", "list", "-w", "dev"))] == [key.partition(".")[0]]
    assert program.databases() == []


def test_dev_waits_for_a_command_that_has_the_database(program: Any, port: int) -> None:
    well(program.run("workspaces", "create", "kept"))
    command = program.command("workspaces", "delete", "kept")
    asking = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=program.environment,
        cwd=program.data.parent,
    )
    try:
        until(lambda: program.databases())
        process = program.start("dev", "--no-demo", "--port", str(port))
        try:
            until(
                lambda: (
                    str(program.data / "lock") in [opened.path for opened in psutil.Process(process.pid).open_files()]
                )
            )
            assert process.poll() is None
            out, err = asking.communicate(b"y\n", timeout=60)
            assert asking.returncode == 0, (out, err)
            until(lambda: WELCOME_END in program.log)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    finally:
        if asking.poll() is None:
            asking.kill()
            asking.wait()
    assert program.databases() == []


def test_a_command_outlives_the_one_that_started_the_database(program: Any) -> None:
    """The first one owns the database, and waits to end it until the second, which found it there, is done."""
    for name in ("first", "second"):
        well(program.run("workspaces", "create", name))

    def deleting(name: str) -> subprocess.Popen[bytes]:
        command = program.command("workspaces", "delete", name)
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=program.environment,
            cwd=program.data.parent,
        )

    owner = deleting("first")
    until(lambda: program.databases())
    (running,) = program.databases()
    until(lambda: _connections(running) > 0)
    user = deleting("second")
    until(lambda: str(program.data / "users") in [opened.path for opened in psutil.Process(user.pid).open_files()])
    assert owner.stdin is not None
    owner.stdin.write(b"y\n")
    owner.stdin.flush()
    with contextlib.suppress(subprocess.TimeoutExpired):
        owner.wait(2)
    out, err = user.communicate(b"y\n", timeout=60)
    assert user.returncode == 0, (out, err)
    assert b"Deleted 1 documents." in out
    owner.communicate(timeout=60)
    assert owner.returncode == 0
    assert program.databases() == []


def _connections(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return len([found for found in process.net_connections() if found.status == psutil.CONN_ESTABLISHED])
    return 0


def test_commands_use_the_server_that_the_settings_name(program: Any, mongo: str) -> None:
    setting = {"GATEWAY_MONGO_URI": mongo, "GATEWAY_MONGO_DATABASE": f"commands_{os.getpid()}"}
    made = well(program.run("workspaces", "create", "far away", **setting))
    assert [row[:2] for row in rows(program.run("workspaces", "list", **setting))] == [[made, "far away"]]
    assert not (program.data / "database.json").exists()
    assert program.databases() == []
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongo)
    with client:
        assert [row["_id"] for row in client[setting["GATEWAY_MONGO_DATABASE"]]["workspaces"].find()] == [made]


def test_settings_that_cannot_be_are_told_before_anything_is_started(program: Any) -> None:
    assert told(program.run("migrate", GATEWAY_MONGO_TIMEOUT_SECONDS="0")).startswith(
        "GATEWAY_MONGO_TIMEOUT_SECONDS is not usable"
    )
    assert told(program.run("migrate", GATEWAY_MONGO_URI="http://x")).startswith("GATEWAY_MONGO_URI is not usable")
    assert not program.data.exists()


def test_a_database_port_that_somebody_else_has_taken(program: Any) -> None:
    well(program.run("workspaces", "create", "kept"))
    taken = orjson.loads((program.data / "database.json").read_bytes())["port"]
    with socket.socket() as occupant:
        occupant.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        occupant.bind(("127.0.0.1", taken))
        occupant.listen()
        assert [row[1] for row in rows(program.run("workspaces", "list"))] == ["kept"]
    assert program.databases() == []
