"""Files and folders on the machine: lines without an end, formulas in exports, and a data folder that others could read."""

import csv
import gzip
import io
import os
import stat
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.transfer.export_sinks import escaped_formula
from gateway.transfer.row_files import MAX_ROW_CHARACTERS, RowFile

HEADER = "externalId,name\n"


def packed_line(path: Path, before: str, repeated: bytes, megabytes: int, after: str) -> None:
    """A small file with a very long line."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(before.encode())
        for _ in range(megabytes):
            file.write(repeated * (1_000_000 // len(repeated)))
        file.write(after.encode())


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("bomb.csv.gz", HEADER + "u1,One\nu2,", "\nu3,Three\n"),
        ("quoted.csv.gz", HEADER + 'u1,One\nu2,"', "\nu3,Three\n"),
        ("bomb.ndjson.gz", '{"externalId": "u1"}\n\n{"externalId": "', '"}\n{"externalId": "u3"}\n'),
    ],
)
def test_an_import_rejects_a_line_without_an_end(
    program: Any, tmp_path: Path, name: str, before: str, after: str
) -> None:
    path = tmp_path / name
    packed_line(path, before, b"x" * 1000, 17, after)
    assert program.run_here("workspaces", "create", "w").returncode == 0
    done = program.run("import", "contacts", str(path))
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        3,
        "2 contacts added, 0 changed, 0 unchanged, 1 rejected.",
    ), done.stderr
    (rejected,) = [orjson.loads(line) for line in (tmp_path / f"{name}.rejected.ndjson").read_bytes().splitlines()]
    assert rejected["line"] == 3
    assert f"{MAX_ROW_CHARACTERS:,} characters" in rejected["reason"]


@pytest.mark.parametrize(("name", "before"), [("a.csv.gz", HEADER + 'u2,"'), ("a.ndjson.gz", '{"externalId": "')])
def test_a_packed_line_needs_no_more_memory_than_a_line_may_have(tmp_path: Path, name: str, before: str) -> None:
    path = tmp_path / name
    packed_line(path, before, b"x" * 1000, 400, "")
    assert path.stat().st_size < 5_000_000
    tracemalloc.start()
    try:
        (row,) = rows(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert row.problem is not None
    assert peak < 10 * MAX_ROW_CHARACTERS


def rows(path: Path) -> list[Any]:
    with path.open("rb") as raw:
        return list(RowFile(path).rows(raw, lambda _: None))


def test_a_quote_that_is_never_closed_spoils_its_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "open.csv"
    path.write_text(HEADER + 'u1,"One\n' + "u2,Two\n" * 3)
    assert [(row.line, row.problem is None) for row in rows(path)] == [(2, False), (3, True), (4, True), (5, True)]


@pytest.mark.parametrize("many", [1, 40])
def test_a_row_of_many_long_cells_is_as_long_as_all_of_them(tmp_path: Path, many: int) -> None:
    path = tmp_path / "wide.csv"
    cell = '"' + "x\n" * 500_000 + '"'
    path.write_text("name\n" + ",".join([cell] * many) + "\ny\n")
    found = rows(path)
    assert found[0].line == 2
    assert (found[0].problem is None) is (many == 1)
    assert all(row.size <= MAX_ROW_CHARACTERS for row in found)
    assert found[-1].values == {"name": "y"}


def test_a_header_without_an_end_is_refused(program: Any, tmp_path: Path) -> None:
    path = tmp_path / "header.csv"
    path.write_text("x" * (MAX_ROW_CHARACTERS + 10))
    assert program.run_here("workspaces", "create", "w").returncode == 0
    done = program.run("import", "contacts", str(path))
    assert (done.returncode, "the header in line 1" in done.stderr) == (1, True), done.stderr


FORMULAS = ["=1+1", "+41 44", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("https://evil.example")']


@pytest.mark.parametrize("target", ["file", "stream"])
def test_an_export_escapes_formulas(program: Any, tmp_path: Path, target: str) -> None:
    source = tmp_path / "people.ndjson"
    source.write_bytes(
        b"".join(orjson.dumps({"externalId": f"u{n}", "phone": text}) + b"\n" for n, text in enumerate(FORMULAS))
    )
    assert program.run_here("workspaces", "create", "w").returncode == 0
    assert program.run_here("import", "contacts", str(source)).returncode == 0
    out = str(tmp_path / "out.csv") if target == "file" else "-"

    def phones(*options: str) -> list[str]:
        done = subprocess.run(
            program.command("export", "contacts", out, "--format", "csv", *options),
            capture_output=True,
            env=program.environment,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        content = done.stdout if out == "-" else Path(out).read_bytes()
        rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
        return [row["phone"] for row in sorted(rows, key=lambda row: row["externalId"])]

    assert phones() == FORMULAS
    assert phones("--escape-formulas") == [f"'{text}" for text in FORMULAS]
    refused = program.run("export", "contacts", str(tmp_path / "out.ndjson"), "--escape-formulas")
    assert (refused.returncode, "--escape-formulas is only for CSV" in refused.stderr) == (1, True)


@pytest.mark.parametrize("cell", ["", "a=1", "'=1", " 1", "1-1", "{}", '["="]', "2026-01-01"])
def test_what_is_no_formula_is_left(cell: str) -> None:
    assert escaped_formula(cell) == cell


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_data_folder_that_others_could_read_is_closed(program: Any) -> None:
    program.data.mkdir()
    program.data.chmod(0o777)
    assert program.run_here("workspaces", "create", "w").returncode == 0
    assert mode(program.data) == 0o700
    program.data.chmod(0o755)  # it has our data now
    assert program.run_here("workspaces", "list").returncode == 0
    assert mode(program.data) == 0o700


def test_a_folder_of_something_else_is_left_as_it_is(program: Any) -> None:
    program.data.mkdir()
    (program.data / "site.html").write_text("hello")
    program.data.chmod(0o755)
    done = program.run("workspaces", "list")
    assert (done.returncode, "chmod 700" in done.stderr) == (1, True), done.stderr
    assert mode(program.data) == 0o755
    assert [path.name for path in program.data.iterdir()] == ["site.html"]


def test_files_of_another_user_are_not_trusted(program: Any) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make them")
    program.data.mkdir()
    (program.data / "secret_key").write_text("planted" * 10)
    os.chown(program.data / "secret_key", 65534, 65534)
    program.data.chmod(0o777)
    done = program.run("workspaces", "list")
    assert (done.returncode, "another user" in done.stderr) == (1, True), done.stderr


async def test_secrets_that_others_could_read_are_closed(program: Any, started: Any, free_port: Any) -> None:
    program.data.mkdir(mode=0o755)
    key = program.data / "dev_key"
    key.write_text("dev_0123456789abcdef\n")
    key.chmod(0o644)
    port = free_port()
    async with started(program, port, "dev", "--no-demo", "--port", str(port)):
        assert {mode(program.data / name) for name in ("dev_key", "secret_key")} == {0o600}
        assert mode(program.data) == 0o700
    assert key.read_text() == "dev_0123456789abcdef\n"
