"""The benchmark: what the gateway costs beside what else one might run, measured in one go and in turn.

.venv/bin/python -m bench.run [--server EXECUTABLE | --uri URI] [--rounds 5] [--seconds 1.0] [--sections queries,...]
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import Progress

from bench import fan_out, growth, memory, pages, writes
from bench.data import DATABASE, Clock, fill
from bench.report import machine, show, write
from bench.rounds import Line
from gateway.observability import configure_logs
from gateway.runtime import open_runtime
from gateway.settings import Settings
from gateway.store.embedded import embedded_server
from gateway.store.migrations import migrate

SECTIONS = ("queries", "tracking", "fan-out", "growth", "memory")
QUIET = {"GATEWAY_LOG_LEVEL": "WARNING", "GATEWAY_RATE_LIMIT": "0", "GATEWAY_MAX_SOCKETS_PER_KEY": "10000"}


def main(
    server: Annotated[str, typer.Option(help="The embedded server's executable.")] = "secantusd-py",
    uri: Annotated[str, typer.Option(help="A MongoDB replica set, in the place of an embedded server.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often each way is measured.")] = 5,
    seconds: Annotated[float, typer.Option(help="About how long each measurement lasts.")] = 1.0,
    sections: Annotated[str, typer.Option(help="Which, with commas between.")] = ",".join(SECTIONS),
    largest: Annotated[int, typer.Option(help="The most events of the growth's lines.")] = 1_000_000,
    folder: Annotated[Path, typer.Option(help="Where the JSON and the chart go.")] = Path("bench/results"),
) -> None:
    """Measure, print one table, and write JSON and a chart."""
    chosen = [name.strip() for name in sections.split(",")]
    if unknown := set(chosen) - set(SECTIONS):
        raise SystemExit(f"Unknown section '{', '.join(unknown)}': there are {', '.join(SECTIONS)}.")
    configure_logs("ERROR", json=True)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    told = asyncio.run(_measure(server, uri, rounds, seconds, chosen, largest))
    about = machine(uri or Path(server).name, rounds)
    show(told, about)
    write(told, about, folder)


async def _measure(server: str, uri: str, rounds: int, seconds: float, chosen: list[str], largest: int) -> list[Line]:
    told: list[Line] = []
    with Progress(console=Console(stderr=True)) as progress:
        async with database(server, uri) as at:
            environment = {"BENCH_URI": at, **QUIET}
            workspace_id, contact_id = await filled(at)
            if "queries" in chosen:
                told += await pages.measure(environment, workspace_id, contact_id, rounds, seconds, progress)
            if "tracking" in chosen:
                told += await writes.measure(environment, workspace_id, rounds, seconds, progress)
            if "fan-out" in chosen:
                told += await fan_out.measure(environment, workspace_id, rounds, progress)
            if "growth" in chosen:
                told += await growth.measure(at, rounds, largest, progress)
            if "memory" in chosen:
                told += await memory.measure(environment, workspace_id, largest, progress)
    return told


async def filled(uri: str) -> tuple[str, str]:
    """The ids of a workspace that the questions are asked of, and of one of its contacts."""
    clock = Clock()
    async with open_runtime(Settings(), uri, DATABASE, clock=clock) as runtime:
        await migrate(runtime.database, clock, owner="bench")
        return await fill(runtime, clock)


@asynccontextmanager
async def database(server: str, uri: str) -> AsyncIterator[str]:
    """The URI of the database to measure on, which is one of its own unless a URI is given."""
    if uri:
        yield uri
        return
    with tempfile.TemporaryDirectory() as folder:
        async with embedded_server(Path(folder), server) as at:
            yield at


if __name__ == "__main__":
    typer.run(main)
