"""Memory: of a gateway at rest, of each socket that only listens, of each plan that is kept, and of a long import."""

import asyncio
import csv
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from rich.progress import Progress

from bench.data import DATABASE, KEY
from bench.fan_out import subscription_openings
from bench.load import ask, request
from bench.processes import SERVERS, most_megabytes, python, started
from bench.rounds import Line

SOCKETS, PLANS = 1000, 500
_SETTLE_SECONDS = 2


async def measure(environment: Mapping[str, str], workspace_id: str, largest: int, progress: Progress) -> list[Line]:
    """The lines of memory; each is beside a gateway at rest, but for the import, which is beside a short one."""
    task = progress.add_task("memory", total=4)
    command = python("gateway_server.py", workspace_id, "database", "moving")
    async with started("gateway", command, environment) as server:
        await ask(server, request("/graphql", {"query": "{ __typename }"}, KEY))
        rest = server.megabytes()
        progress.advance(task)
        for number in range(PLANS):
            query = f"{{ contacts(first: 1) {{ nodes {{ id alias{number}: name events(first: 1) {{ nodes {{ id name }} }} }} }} }}"
            await ask(server, request("/graphql", {"query": query}, KEY))
        planned = server.megabytes()
        progress.advance(task)
        async with _listening(server.port):
            await asyncio.sleep(_SETTLE_SECONDS)
            listened = server.megabytes()
        progress.advance(task)
    short, long = [await _import(environment, rows) for rows in (largest // 100, largest)]
    progress.remove_task(task)
    return [
        _line("at rest", rest, "MB", 1.0),
        _line("each kept plan", (planned - rest) * 1024 / PLANS, "KB", planned / rest),
        _line("each socket that listens", (listened - planned) * 1024 / SOCKETS, "KB", listened / rest),
        Line("memory", "import", f"{largest // 100:,} rows", short, "MB at most", "the short import", 1, 1, 1),
        Line("memory", "import", f"{largest:,} rows", long, "MB at most", "the short import", *[long / short] * 3),
    ]


def _line(way: str, cost: float, unit: str, ratio: float) -> Line:
    return Line("memory", "gateway", way, cost, unit, "a gateway at rest", ratio, ratio, ratio)


@asynccontextmanager
async def _listening(port: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SERVERS / "listeners.py"), str(port), "/graphql", str(SOCKETS)),
        orjson.dumps([subscription_openings(["never tracked"])]).decode(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield
    finally:
        process.terminate()
        await process.wait()


async def _import(environment: Mapping[str, str], rows: int) -> float:
    """The most that `gateway import events` of a file with so many rows keeps in memory, in megabytes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "events.csv"
        _write(file, rows)
        columns = ["--contact-id", "user_id", "--name", "event", "--at", "timestamp", "--metadata", "page"]
        at = {"GATEWAY_MONGO_URI": environment["BENCH_URI"], "GATEWAY_MONGO_DATABASE": DATABASE}
        arguments = ["import", "events", str(file), *columns, "--workspace", "benchmark"]
        return await most_megabytes(arguments, {**environment, **at})


def _write(path: Path, rows: int) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("user_id", "event", "timestamp", "page"))
        for number in range(rows):
            at = f"2026-{number % 9 + 1:02}-{number % 28 + 1:02} {number % 24:02}:{number % 60:02}:{number // 60 % 60:02}"
            writer.writerow((f"imported-{number % 1000}", "viewed page", at, f"/page/{number}"))
