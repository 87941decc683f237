"""The commands beside `gateway dev`: what they do, which database they find, what they leave behind.

Most run in this process; of each group one is run as people run it."""

import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pymongo
import pytest
from gateways import Gateway, OpenGateway
from processes import CommandLine, Done, Program, becomes_true, until

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


class Beside:
    """A gateway, and commands on its database: both live in this process, the commands in a thread."""

    def __init__(self, gateway: Gateway, command_line: CommandLine) -> None:
        self.gateway = gateway
        self.database = gateway.runtime.database._database
        self.run = command_line.run_beside

    async def ask(self, key: str, query: str = VIEWER) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        return await self.gateway.http.post(self.gateway.url, json={"query": query}, headers=headers)


@pytest.fixture
def beside(command_line: CommandLine, open_gateway: OpenGateway) -> Callable[[], Any]:
    """`async with beside() as beside:` a gateway on the database of the commands."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Beside]:
        async with open_gateway(database=command_line.environment["GATEWAY_MONGO_DATABASE"]) as gateway:
            yield Beside(gateway, command_line)

    return opened


@pytest.fixture
def database(command_line: CommandLine, mongo: str) -> Iterator[Any]:
    """The database of the commands, without a gateway in between."""
    with pymongo.MongoClient[dict[str, Any]](mongo) as client:
        yield client[command_line.environment["GATEWAY_MONGO_DATABASE"]]


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


def codes(response: httpx.Response) -> list[str]:
    return [error["extensions"]["code"] for error in response.json().get("errors", ())]


def rows(done: Done) -> list[list[str]]:
    """The cells of a printed table below its head; columns are at least two blanks apart."""
    return [re.split(r"\s{2,}", line.strip()) for line in well(done).splitlines()[1:]]


def at_once(program: Program, count: int, *arguments: str, **environment: str) -> list[Done]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: program.run(*arguments, **environment), range(count)))


# As people run them


def test_migrate_alone_starts_a_database_and_leaves_none(program: Program) -> None:
    assert well(program.run("migrate")) == MIGRATED
    assert program.databases() == []
    assert well(program.run("migrate")) == UP_TO_DATE
    assert program.databases() == []


def test_four_migrate_at_once_without_a_database(program: Program) -> None:
    printed = sorted(well(done) for done in at_once(program, 4, "migrate"))
    assert printed == [MIGRATED, *[UP_TO_DATE] * 3]
    assert program.databases() == []


def test_a_command_that_is_interrupted_leaves_no_database(program: Program) -> None:
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        process = program.start("migrate")
        until(lambda: program.databases())
        process.send_signal(signal_)
        assert process.wait(40) in (0, 1, 128 + signal_, -signal_)
        assert program.databases() == []
        assert "Traceback" not in program.log


def test_commands_see_what_dev_made_while_it_runs_and_after(program: Program, free_port: Callable[[], int]) -> None:
    port = free_port()
    dev = program.start("dev", "--no-demo", "--port", str(port), GATEWAY_DEV_KEY=DEV_KEY)
    try:
        until(lambda: WELCOME_END in program.log or dev.poll() is not None)
        (running,) = program.databases()
        key = well(program.run("keys", "create", "-w", "dev", "-s", "TRACK", "-s", "READ"))
        url, headers = f"http://127.0.0.1:{port}/graphql", {"authorization": f"Bearer {key}"}
        tracked = httpx.post(url, json={"query": TRACK}, headers=headers, timeout=60).json()
        assert tracked["data"]["trackEvent"]["duplicate"] is False
        assert [process.pid for process in program.databases()] == [running.pid]
        dev.send_signal(signal.SIGINT)
        dev.wait(60)
    finally:
        if dev.poll() is None:
            dev.kill()
            dev.wait()
    assert program.databases() == []
    assert [row[0] for row in rows(program.run("keys", "list", "-w", "dev"))] == [key.partition(".")[0]]
    assert well(program.run("rebuild", "definitions")) == "Rebuilt the definitions of 1 workspaces."
    assert program.databases() == []


def test_commands_use_the_server_that_the_settings_name(program: Program, mongo: str) -> None:
    setting = {"GATEWAY_MONGO_URI": mongo, "GATEWAY_MONGO_DATABASE": f"commands_{os.getpid()}"}
    made = well(program.run("workspaces", "create", "far away", **setting))
    assert [row[:2] for row in rows(program.run("workspaces", "list", **setting))] == [[made, "far away"]]
    assert not (program.data / "database.json").exists()
    assert program.databases() == []
    with pymongo.MongoClient[dict[str, Any]](mongo) as client:
        assert [row["_id"] for row in client[setting["GATEWAY_MONGO_DATABASE"]]["workspaces"].find()] == [made]


def test_three_create_the_same_workspace_at_once(program: Program, mongo: str) -> None:
    setting = {"GATEWAY_MONGO_URI": mongo, "GATEWAY_MONGO_DATABASE": f"commands_at_once_{os.getpid()}"}
    done = at_once(program, 3, "workspaces", "create", "same", **setting)
    assert sorted(item.returncode for item in done) == [0, 1, 1]
    assert {told(item) for item in done if item.returncode} == {
        "A workspace 'same' already exists: choose another name."
    }
    assert [row[1] for row in rows(program.run("workspaces", "list", **setting))] == ["same"]


# migrate


async def test_migrate_beside_a_running_gateway(beside: Callable[[], Any]) -> None:
    async with beside() as it:
        ready = it.gateway.url.replace("/graphql", "/readyz")
        await becomes_true(lambda: it.gateway.runtime.services.bus.running)
        await it.database["migrations"].delete_many({})
        assert (await it.gateway.http.get(ready)).status_code == 503
        assert well(await it.run("migrate")) == MIGRATED
        assert well(await it.run("migrate")) == UP_TO_DATE
        assert (await it.gateway.http.get(ready)).status_code == 200
        assert [row["_id"] for row in await it.database["migrations"].find().to_list(None)] == [*range(1, 9)]


def test_migrate_on_a_server_that_cannot_be_reached_is_told(
    command_line: CommandLine, free_port: Callable[[], int]
) -> None:
    uri = f"mongodb://127.0.0.1:{free_port()}/?directConnection=true"
    done = command_line.run("migrate", GATEWAY_MONGO_URI=uri, GATEWAY_MONGO_TIMEOUT_SECONDS="1")
    assert "is not available" in told(done)


# Workspaces


def test_workspaces_are_created_listed_and_deleted(command_line: CommandLine) -> None:
    well(command_line.run("workspaces", "create", "first"))
    acme = well(command_line.run("workspaces", "create", "acme"))
    assert re.fullmatch(r"wsp_[0-9A-Z]{26}", acme)
    assert "A workspace 'acme' already exists" in told(command_line.run("workspaces", "create", "acme"))
    assert [row[:2] for row in rows(command_line.run("workspaces", "list"))][1:] == [[acme, "acme"]]
    shown = rows(command_line.run("workspaces", "list"))[1][2]
    created = datetime.strptime(shown, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=2)
    unknown = told(command_line.run("workspaces", "delete", "nobody", "--yes"))
    assert unknown == "There is no workspace 'nobody'. Workspaces: first, acme."
    assert well(command_line.run("workspaces", "delete", "acme", "--yes")) == "Deleted 1 documents."
    assert [row[1] for row in rows(command_line.run("workspaces", "list"))] == ["first"]


async def test_a_deleted_workspace_leaves_nothing_and_its_neighbours_all(beside: Callable[[], Any]) -> None:
    async with beside() as it:
        neighbour = await it.gateway.workspace()
        gone = well(await it.run("workspaces", "create", "to go"))
        key = well(await it.run("keys", "create", "-w", "to go", "-s", "TRACK", "-s", "READ"))
        for bearer in (key, neighbour.key):
            answer = (await it.ask(bearer, TRACK)).json()
            assert answer["data"]["trackEvent"]["userErrors"] == []
        counts = "{ eventDefinitions { nodes { contactCount } } }"
        for bearer in (key, neighbour.key):  # what is rolled up a moment later is a document too

            async def counted(bearer: str = bearer) -> bool:
                nodes = (await it.ask(bearer, counts)).json()["data"]["eventDefinitions"]["nodes"]
                return nodes == [{"contactCount": 1}]

            await becomes_true(counted)
        names = [name for name in await it.database.list_collection_names() if name != "migrations"]

        async def counts_of(query: dict[str, Any]) -> dict[str, int]:
            return {name: await it.database[name].count_documents(query) for name in names}

        others = await counts_of({"workspace_id": {"$nin": [gone, ""]}, "_id": {"$ne": gone}})
        own = await counts_of({"$or": [{"workspace_id": gone}, {"_id": gone}]})
        assert {name for name in names if own[name]} >= {"keys", "contacts", "events", "event_summaries"}
        deleted = well(await it.run("workspaces", "delete", "to go", "--yes"))
        assert deleted == f"Deleted {sum(own.values())} documents."
        assert await counts_of({"workspace_id": {"$ne": ""}}) == others


def test_deleting_a_workspace_asks_first(command_line: CommandLine) -> None:
    well(command_line.run("workspaces", "create", "kept"))
    refused = command_line.run("workspaces", "delete", "kept", input="n\n")
    assert refused.returncode == 1
    assert "'kept'" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    agreed = command_line.run("workspaces", "delete", "kept", input="y\n")
    assert agreed.returncode == 0, agreed
    assert "Deleted 1 documents." in agreed.stdout


@pytest.mark.parametrize("name", ["[bold]", "[/]", "[/red] :smile:", "Ünïcode 名前", "a" * 100])
def test_a_workspace_may_have_any_name(command_line: CommandLine, name: str) -> None:
    made = well(command_line.run("workspaces", "create", name))
    listed = well(command_line.run("workspaces", "list"))
    assert made in listed
    assert name in listed


@pytest.mark.parametrize("name", ["", "a" * 101])
def test_a_name_that_cannot_be_is_told(command_line: CommandLine, name: str) -> None:
    told(command_line.run("workspaces", "create", name))


# Keys


async def test_a_keys_text_is_printed_once_and_only_its_hash_is_kept(beside: Callable[[], Any]) -> None:
    async with beside() as it:
        well(await it.run("workspaces", "create", "w"))
        text = well(await it.run("keys", "create", "-w", "w", "-s", "READ", "-s", "TRACK", "--name", "for tests"))
        key_id, _, secret = text.partition(".")
        assert re.fullmatch(r"key_[0-9A-Z]{26}", key_id)
        assert len(secret) >= 32
        listed = await it.run("keys", "list", "-w", "w")
        assert secret not in listed.stdout
        assert rows(listed)[0][:3] == [key_id, "for tests", "READ TRACK"]
        viewer = (await it.ask(text)).json()["data"]["viewer"]
        assert (sorted(viewer["scopes"]), viewer["workspace"]["name"]) == (["READ", "TRACK"], "w")
        assert [key["_id"] for key in await it.database["keys"].find({}).to_list(None)] == [key_id]
        for name in await it.database.list_collection_names():
            assert all(secret not in str(row) for row in await it.database[name].find({}).to_list(None)), name
        wrong = await it.ask(f"{key_id}.{'x' * len(secret)}")
        assert (wrong.status_code, codes(wrong)) == (401, ["UNAUTHENTICATED"])


async def test_the_last_use_of_a_key_is_listed(beside: Callable[[], Any]) -> None:
    async with beside() as it:
        well(await it.run("workspaces", "create", "w"))
        key = well(await it.run("keys", "create", "-w", "w", "-s", "READ"))
        before = well(await it.run("keys", "list", "-w", "w"))
        assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", before)) == 1  # when it was created
        assert (await it.ask(key)).status_code == 200
        after = well(await it.run("keys", "list", "-w", "w"))
        assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", after)) == 2


async def test_a_revoked_key_opens_nothing(beside: Callable[[], Any]) -> None:
    async with beside() as it:
        well(await it.run("workspaces", "create", "w"))
        kept = well(await it.run("keys", "create", "-w", "w", "-s", "READ"))
        revoked = well(await it.run("keys", "create", "-w", "w", "-s", "READ"))
        key_id = revoked.partition(".")[0]
        assert well(await it.run("keys", "revoke", key_id, "-w", "w")) == f"Revoked {key_id}."
        refused = await it.ask(revoked)  # the gateway had never seen it
        assert (refused.status_code, codes(refused)) == (401, ["UNAUTHENTICATED"])
        assert (await it.ask(kept)).status_code == 200
        well(await it.run("keys", "revoke", kept.partition(".")[0], "-w", "w"))
        listed = rows(await it.run("keys", "list", "-w", "w"))
        assert [row[0] for row in listed] == [kept.partition(".")[0], key_id]
    async with beside() as it:  # one that remembers no key
        for text in (kept, revoked):
            refused = await it.ask(text)
            assert (refused.status_code, codes(refused)) == (401, ["UNAUTHENTICATED"])


async def test_a_key_may_do_what_its_scopes_say_and_no_more(beside: Callable[[], Any]) -> None:
    async with beside() as it:
        well(await it.run("workspaces", "create", "w"))
        key = well(await it.run("keys", "create", "-w", "w", "-s", "TRACK"))
        assert codes(await it.ask(key, TRACK)) == []
        assert codes(await it.ask(key, "{ contacts(first: 1) { nodes { id } } }")) == ["FORBIDDEN"]


def test_mistakes_with_keys_are_told(command_line: CommandLine) -> None:
    well(command_line.run("workspaces", "create", "w"))
    assert "There is no workspace 'nobody'" in told(command_line.run("keys", "create", "-w", "nobody", "-s", "READ"))
    assert "There is no workspace 'nobody'" in told(command_line.run("keys", "list", "-w", "nobody"))
    assert "There is no API key 'key_x'" in told(command_line.run("keys", "revoke", "key_x", "-w", "w"))
    well(command_line.run("workspaces", "create", "other"))
    key_id = well(command_line.run("keys", "create", "-w", "other", "-s", "READ")).partition(".")[0]
    assert f"There is no API key '{key_id}'" in told(command_line.run("keys", "revoke", key_id, "-w", "w"))
    assert well(command_line.run("keys", "revoke", key_id, "-w", "other")) == f"Revoked {key_id}."
    usage = command_line.run("keys", "create", "-w", "w", "-s", "EVERYTHING")
    assert usage.returncode == 2
    assert "EVERYTHING" in usage.stderr
    assert "Traceback" not in usage.stderr
    assert command_line.run("keys", "create", "-w", "w").returncode == 2


# Definitions


async def test_definitions_are_counted_anew_beside_a_running_gateway_and_without_one(
    beside: Callable[[], Any], command_line: CommandLine
) -> None:
    totals = "{ eventDefinitions { nodes { count contactCount } } }"
    async with beside() as it:
        well(await it.run("workspaces", "create", "w"))
        key = well(await it.run("keys", "create", "-w", "w", "-s", "READ", "-s", "TRACK"))

        async def counted() -> Any:
            return (await it.ask(key, totals)).json()["data"]["eventDefinitions"]["nodes"]

        async def counted_once() -> bool:
            return await counted() == [{"count": 1, "contactCount": 1}]

        assert codes(await it.ask(key, TRACK)) == []
        await becomes_true(counted_once)
        await it.database["event_definitions"].update_many({}, {"$set": {"count": 7}})
        assert await counted() == [{"count": 7, "contactCount": 1}]
        done = await it.run("rebuild", "definitions", "-w", "w")
        assert well(done) == "Rebuilt the definitions of 1 workspaces."
        assert await counted_once()
        await it.database["event_definitions"].update_many({}, {"$set": {"count": 7}})
        assert "There is no workspace 'nobody'" in told(await it.run("rebuild", "definitions", "-w", "nobody"))
    well(await command_line.run_beside("rebuild", "definitions"))
    async with beside() as it:
        nodes = (await it.ask(key, totals)).json()["data"]["eventDefinitions"]["nodes"]
        assert nodes == [{"count": 1, "contactCount": 1}]


# Settings


def test_settings_that_cannot_be_are_told_before_anything_is_started(command_line: CommandLine, tmp_path: Any) -> None:
    for name, value in (("GATEWAY_MONGO_TIMEOUT_SECONDS", "0"), ("GATEWAY_MONGO_URI", "http://x")):
        assert told(command_line.run("migrate", **{name: value})).startswith(f"{name} is invalid")
    assert list(tmp_path.iterdir()) == []


# What they cost


def test_help_names_every_command_and_what_it_is_for(command_line: CommandLine) -> None:
    shown = well(command_line.run("--help"))
    for name, purpose in {
        "dev": "Run the gateway for development",
        "serve": "Run the gateway for production",
        "worker": "Send deliveries and",
        "migrate": "Build the indexes",
        "workspaces": "Manage workspaces",
        "keys": "Manage API keys",
        "import": "Import files.",
        "export": "Export files",
        "klaviyo": "Check the connection",
        "rebuild": "Rebuild",
        "export-schema": "Print the public schema.",
        "explain-plan": "Print the Python",
    }.items():
        assert re.search(rf"{name} +{re.escape(purpose)}", shown), name
    assert "Did you mean 'keys'?" in command_line.run("kyes").stderr
    assert re.search(r"revoke +Revoke an API key", well(command_line.run("keys", "--help")))
