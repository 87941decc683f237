"""`gateway import contacts` and `gateway export`: whole files, whatever happens half-way, and every mistake told in a sentence."""

import contextlib
import gzip
import signal
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

ROWS = 2500


@pytest.fixture
def shop(program: Any) -> Any:
    """The program, with a workspace."""
    assert program.run_here("workspaces", "create", "shop").returncode == 0
    return program


def until(holds: Any, process: Any) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, KeyError, ValueError, PyMongoError):
            if holds():
                return
        time.sleep(0.01)
    raise AssertionError("it ended, or did nothing")


def some_are_stored(program: Any) -> bool:
    port = orjson.loads((program.data / "database.json").read_bytes())["port"]
    with MongoClient("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=500) as client:
        return client["gateway"]["contacts"].estimated_document_count() > 0


def killed(program: Any, holds: Any, *command: str) -> None:
    process = program.start(*command)
    until(holds, process)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_an_import_and_an_export_that_are_killed_go_on_and_are_whole(shop: Any, tmp_path: Path) -> None:
    file = tmp_path / "people.ndjson"
    rows = [
        {
            "id": f"con_01{number:024}",
            "externalId": f"u{number}",
            "role": "USER",
            "name": f"N {number}",
            "tags": ["a"],
            "createdAt": f"2020-01-{number % 28 + 1:02}T00:00:00.000Z",
            "updatedAt": f"2021-01-{number % 28 + 1:02}T00:00:00.000Z",
            "unsubscribedFromEmails": False,
            "hasHardBounced": False,
            "markedEmailAsSpam": False,
            "optedOutSubscriptionTypesCount": 0,
            "customAttributes": {"number": number},
        }
        for number in range(ROWS)
    ]
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    command = ("import", "contacts", str(file))
    killed(shop, lambda: some_are_stored(shop), *command)
    second = shop.run(*command)
    assert second.returncode == 0, second.stderr
    added, changed, there, rejected = (int(text.split(" ")[0]) for text in second.stdout.split(", "))
    assert (added + there, changed, rejected) == (ROWS, 0, 0)
    assert added > 0
    assert there > 0
    assert shop.run(*command).stdout == f"0 contacts added, 0 changed, {ROWS} unchanged, 0 rejected.\n"

    out = tmp_path / "out.ndjson.gz"
    place = tmp_path / "out.ndjson.gz.partial.json"
    killed(shop, lambda: orjson.loads(place.read_bytes())["rows"] > 0, "export", "contacts", str(out))
    begun = orjson.loads(place.read_bytes())
    assert 0 < begun["rows"] < ROWS
    assert not out.exists()
    done = shop.run("export", "contacts", str(out))
    assert (done.returncode, done.stdout) == (0, f"{ROWS} contacts exported to {out}.\n"), done.stderr
    found = [orjson.loads(line) for line in gzip.decompress(out.read_bytes()).splitlines()]
    ids = [row["id"] for row in found]
    assert ids == sorted(set(ids))
    here = {row["externalId"]: {**row, "id": row["otherIds"][0]} for row in found}
    assert here == {row["externalId"]: {**row, "otherIds": [row["id"]]} for row in rows}
    assert not list(tmp_path.glob("*.partial*"))


def test_events_go_out_and_come_in_by_the_commands_alone(shop: Any, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text('{"who": "u1", "what": "paid", "at": "2026-01-01T00:00:00Z", "sum": "007"}\n')
    columns = ("--contact-id", "who", "--name", "what", "--at", "at", "--metadata", "all-others")
    assert shop.run("import", "events", str(file), *columns).returncode == 0
    shop.run("workspaces", "create", "copy")
    written = shop.run("export", "events", "-", "--workspace", "shop", "--name", "paid", "--from", "2026-01-01")
    assert written.returncode == 0, written.stderr
    (row,) = [orjson.loads(line) for line in written.stdout.splitlines()]
    assert (row["name"], row["externalId"], row["metadata"]) == ("paid", "u1", {"sum": "007"})
    assert shop.run(
        "export", "events", "-", "-w", "shop", "--until", "2026-01-01", "--format", "csv"
    ).stdout.splitlines() == [
        "contactId,externalId,email,anonymousId,name,occurredAt,receivedAt,metadata,identity,fingerprint"
    ]
    out = tmp_path / "out.csv"
    shop.run("export", "events", str(out), "--workspace", "shop")
    for added in (1, 0):
        done = shop.run("import", "events", str(out), "--workspace", "copy")
        assert done.stdout == f"{added} events added, {1 - added} unchanged, 0 rejected.\n"


def test_what_cannot_be_imported_or_exported_is_said_in_a_sentence(shop: Any, tmp_path: Path) -> None:
    good = b"externalId,name\r\nu1,Ada\r\n"
    for name, content, arguments, sentence in (
        ("a.csv", b"externalId,hobby\r\n", (), "'hobby' is not a field of a contact: name its field with --map"),
        ("a.csv", good, ("--map", "name"), "--map 'name' must be COLUMN=FIELD"),
        ("a.csv", good, ("--map", "name=hair"), "'hair', the field for 'name', is not a field of a contact"),
        ("a.csv", b"externalId,name,name\r\n", (), "has two columns named 'name': rename one of them."),
        ("a.txt", good, (), "does not end in .csv, .ndjson"),
        ("a.csv.gz", b"\x1f\x8bno gzip", (), "cannot be read"),
        ("a.csv.gz", gzip.compress(good * 1000)[:-20], (), "cannot be read to its end"),
        ("a.csv", good, ("--workspace", "other"), "There is no workspace 'other'"),
    ):
        file = tmp_path / name
        file.write_bytes(content)
        told(shop.run("import", "contacts", str(file), *arguments), sentence)
    file = tmp_path / "a.csv"
    file.write_bytes(good)
    told(shop.run("import", "events", str(file)), "has no column 'occurredAt'. Its columns: externalId, name.")
    told(shop.run("import", "events", str(file), "--name", "name"), "with --name and --at")
    for arguments, sentence in (
        (
            ("contacts", "out.txt"),
            "does not end in .csv, .ndjson, .csv.gz or .ndjson.gz: rename it, or give --format.",
        ),
        (("contacts", "out.csv", "--format", "ndjson"), "rename the file, because an import uses its name."),
        (("contacts", "nowhere/out.csv"), "cannot be written (No such file or directory)"),
        (("events", "out.csv", "--from", "soon"), "--from 'soon' is not a time"),
        (("segment", "vips", "out.csv"), "There is no segment 'vips'. Segments: none yet."),
        (("events", "out.csv", "--from", "2026-01-02", "--until", "2026-01-01"), "--from must be before --until"),
    ):
        told(shop.run("export", *arguments), sentence)


def told(done: Any, sentence: str) -> None:
    assert done.returncode == 1, done.stdout
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
