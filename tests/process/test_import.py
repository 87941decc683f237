"""`gateway import events`: whole files, once, whatever happens half-way."""

import asyncio
import collections
import contextlib
import csv
import gzip
import signal
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from gateways import OpenGateway
from processes import Program
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from gateway.store.embedded import embedded_server

SHOP = Path(__file__).parents[3] / "shared" / "data" / "ecom.csv.gz"
COLUMNS = ("--contact-id", "user_id", "--name", "event", "--at", "timestamp")


@pytest.fixture
def shop(program: Any) -> Any:
    """The program, with a workspace to import into."""
    assert program.run_here("workspaces", "create", "shop").returncode == 0
    return program


async def summaries(
    program: Any, open_gateway: Any, server: str = "secantusd-py"
) -> dict[tuple[str, str], tuple[int, str, str]]:
    """Count, first and last by external id and name, read from the database that the program left."""
    async with (
        embedded_server(program.data, server) as uri,
        open_gateway(uri=uri, database="gateway") as gateway,
    ):
        (workspace,) = await gateway.runtime.workspaces.all()
        store = gateway.runtime.services.store.open(workspace["_id"])
        people = {row["_id"]: row["external_id"] for row in await store.contacts._find({})}
        counted: collections.Counter[tuple[str, str]] = collections.Counter(
            (people[row["contact_id"]], row["name"]) for row in await store.events._find({})
        )
        found = {
            (people[row["contact_id"]], row["name"]): (
                row["count"],
                str(row["first_at"])[:19],
                str(row["last_at"])[:19],
            )
            for row in await store.summaries._find({})
        }
        assert {key: value[0] for key, value in found.items()} == dict(counted)
        return found


def until_some_are_stored(program: Any, process: Any) -> None:
    """Wait until the import that is under way has stored a part of its file."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, KeyError, ValueError, PyMongoError):
            port = orjson.loads((program.data / "database.json").read_bytes())["port"]
            with MongoClient("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=500) as client:
                if client["gateway"]["events"].estimated_document_count() >= 3000:
                    return
        time.sleep(0.1)
    raise AssertionError("the import ended, or stored nothing")


def expected() -> dict[tuple[str, str], tuple[int, str, str]]:
    """The same, counted from the file in plain Python."""
    times: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    with gzip.open(SHOP, "rt") as lines:
        for row in csv.DictReader(lines):
            times[row["user_id"], row["event"]].append(row["timestamp"])
    return {key: (len(found), min(found), max(found)) for key, found in times.items()}


@pytest.mark.skipif(not SHOP.exists(), reason="left out: ../shared/data/ecom.csv.gz is not beside this checkout")
async def test_a_real_file_killed_half_way_and_run_again_is_whole_and_counted_once(
    program: Program, tmp_path: Path, open_gateway: OpenGateway, fast_server: str
) -> None:
    """On the faster server; test_files.py kills an import into the other."""
    program.environment["GATEWAY_EMBEDDED_SERVER"] = fast_server
    made = await asyncio.to_thread(program.run_here, "workspaces", "create", "shop")
    assert made.returncode == 0, made.stderr
    file = tmp_path / SHOP.name
    file.write_bytes(SHOP.read_bytes())
    command = ("import", "events", str(file), *COLUMNS, "--metadata", "all-others")
    process = program.start(*command)
    await asyncio.to_thread(until_some_are_stored, program, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    second = await asyncio.to_thread(program.run, *command)
    assert second.returncode == 0, second.stderr
    added, there = (int(text.split(" ")[0]) for text in second.stdout.split(", ")[:2])
    assert added + there == 31_106
    assert added > 0
    assert there > 0
    assert await summaries(program, open_gateway, fast_server) == expected()
    third = await asyncio.to_thread(program.run, *command)
    assert third.stdout == "0 events added, 31106 unchanged, 0 rejected.\n"
    assert len({person for person, _ in expected()}) == 600


async def test_two_equal_rows_count_twice_and_the_file_once(shop: Any, tmp_path: Path, open_gateway: Any) -> None:
    rows = "user_id,event,timestamp\n" + "u1,home,2026-01-05 09:12:44\n" * 2
    plain, packed = tmp_path / "twice.csv", tmp_path / "twice.csv.gz"
    plain.write_text(rows)
    packed.write_bytes(gzip.compress(rows.encode()))
    assert shop.run("import", "events", str(plain), *COLUMNS).stdout == "2 events added, 0 unchanged, 0 rejected.\n"
    assert shop.run("import", "events", str(packed), *COLUMNS).stdout == "0 events added, 2 unchanged, 0 rejected.\n"
    assert await summaries(shop, open_gateway) == {("u1", "home"): (2, "2026-01-05 09:12:44", "2026-01-05 09:12:44")}


def test_bad_rows_are_told_with_their_lines_and_the_rest_is_imported(shop: Any, tmp_path: Path) -> None:
    file = tmp_path / "mixed.csv"
    file.write_text(
        "user_id,event,timestamp,price\n"
        "u1,home,2026-01-05T09:12:44Z,1\n"
        "u1,home,yesterday,1\n"
        ",home,2026-01-05T09:12:44Z,1\n"
        "u1,,2026-01-05T09:12:44Z,1\n"
        "u1,home,2026-01-05T09:12:44Z\n"
        "u1,home,1200000000000,\n"
        "u1,home,9999-01-01,1\n"
        "u2,home,1767605400,12.5\n"
    )
    done = shop.run_here("import", "events", str(file), *COLUMNS, "--metadata", "price")
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines()[0] == "3 events added, 0 unchanged, 5 rejected."
    told = [orjson.loads(line) for line in (tmp_path / "mixed.csv.rejected.ndjson").read_bytes().splitlines()]
    assert [(row["line"], row["code"], row["path"]) for row in told] == [
        (3, "INVALID", ["timestamp"]),
        (4, "INVALID", ["contact"]),
        (5, "INVALID", ["name"]),
        (6, "INVALID", []),
        (8, "INVALID", ["occurredAt"]),
    ]
    assert (
        told[0]["reason"]
        == "'yesterday' in the column 'timestamp' is not a time: write RFC 3339, Unix seconds or Unix milliseconds."
    )
    assert told[0]["row"] == {"user_id": "u1", "event": "home", "timestamp": "yesterday", "price": "1"}


def test_a_stray_quote_costs_its_own_line_alone(shop: Any, tmp_path: Path) -> None:
    file = tmp_path / "quote.csv"
    file.write_text(
        'user_id,event,timestamp\nu1,"two\nlines",2026-01-05T09:12:44Z\nu2,"viewed,2026-01-05T09:12:44Z\n'
        "u3,home,2026-01-05T09:12:44Z\nu4,home,2026-01-05T09:12:44Z\n"
    )
    done = shop.run_here("import", "events", str(file), *COLUMNS)
    assert (done.returncode, done.stdout.splitlines()[0]) == (3, "3 events added, 0 unchanged, 1 rejected.")
    (told,) = [orjson.loads(line) for line in (tmp_path / "quote.csv.rejected.ndjson").read_bytes().splitlines()]
    assert (told["line"], told["row"]) == (4, {"text": 'u2,"viewed,2026-01-05T09:12:44Z'})
    again = shop.run_here("import", "events", str(file), *COLUMNS, "--metadata", "event")
    assert again.stdout.splitlines()[0] == "0 events added, 0 unchanged, 4 rejected."
    assert "imported before with other columns" in (tmp_path / "quote.csv.rejected.ndjson").read_text()


async def test_ndjson_with_keys_shares_them_with_live_tracking(shop: Any, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson.gz"
    lines = [
        {"who": 7, "what": "paid", "when": 1767605400, "key": "k1", "price": {"amount": 5, "currency": "USD"}},
        {"who": 7, "what": "paid", "when": 1767605400.25, "key": "k1", "price": {"amount": 5, "currency": "USD"}},
        {"who": 7, "what": "paid", "when": 1767605400, "key": "k2", "price": {"amount": "5", "currency": "USD"}},
        ["no object"],
    ]
    file.write_bytes(gzip.compress(b"\n".join(orjson.dumps(line) for line in lines) + b"\nno json\n"))
    command = (
        "import",
        "events",
        str(file),
        "--contact-id",
        "who",
        "--name",
        "what",
        "--at",
        "when",
        "--key",
        "key",
        "--metadata",
        "all-others",
    )
    done = shop.run(*command)
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines()[0] == "1 events added, 0 unchanged, 4 rejected."
    told = [orjson.loads(line) for line in file.with_name(file.name + ".rejected.ndjson").read_bytes().splitlines()]
    assert [(row["line"], row["code"]) for row in told] == [
        (2, "IDEMPOTENCY_KEY_REUSED"),
        (3, "INVALID"),
        (4, "INVALID"),
        (5, "INVALID"),
    ]
    assert told[1]["path"] == ["metadata", "price", "amount"]


def test_what_cannot_be_imported_is_said_in_a_sentence(shop: Any, tmp_path: Path) -> None:
    for name, content, arguments, sentence in (
        ("a.csv", "x,y\n1,2\n", COLUMNS, "has no column 'event'. Its columns: x, y."),
        (
            "a.csv",
            "x,y\n1,2\n",
            COLUMNS[2:],
            "Give the column of the contact with --contact-id, --email or --anonymous-id.",
        ),
        ("a.csv", "user_id,event,timestamp,x,x\n", COLUMNS, "has two columns named 'x': rename one of them."),
        ("a.txt", "x,y\n1,2\n", COLUMNS, "does not end in .csv, .ndjson"),
        ("a.csv.gz", "\x1f\x8bno gzip", COLUMNS, "cannot be read"),
    ):
        file = tmp_path / name
        file.write_text(content, encoding="latin-1")
        done = shop.run_here("import", "events", str(file), *arguments)
        assert done.returncode == 1, name
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
