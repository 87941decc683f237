"""What all commands share: options, settings, the database server and output."""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from gateway.observability import configure_logs, log_uncaught_exceptions
from gateway.settings import Settings, data_folder, load_settings
from gateway.store.servers import mongo_uri

DATA = Annotated[Path, typer.Option("--data", help="The folder of the embedded database.")]
WORKSPACE = Annotated[str, typer.Option("--workspace", "-w", help="The id or name of the workspace.")]
THE_WORKSPACE = Annotated[
    str | None, typer.Option("--workspace", "-w", help="The id or name of the workspace. Default: the only workspace.")
]
DEFAULT_DATA = Path(".gateway")


def run_command(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end; SIGTERM cancels it like Ctrl-C, so that resources are closed."""

    async def cancellable() -> None:
        task = asyncio.current_task()
        if (
            task is not None and threading.current_thread() is threading.main_thread()
        ):  # only the main thread handles signals
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await work

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(cancellable())
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None


@asynccontextmanager
async def server_uri(settings: Settings, data: Path) -> AsyncIterator[str]:
    """The URI of the configured server, or of an embedded one in that folder."""
    folder = data_folder(data) if settings.mongo_uri is None else data
    async with mongo_uri(settings, folder) as uri:
        yield uri


def loaded_settings(*, json_logs: bool = False) -> Settings:
    settings = load_settings()
    configure_logs(settings.log_level, json=json_logs)
    if json_logs:
        log_uncaught_exceptions()
    return settings


def owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    grid = Table(*(Column(column, no_wrap=True, overflow="ignore") for column in columns), box=None, pad_edge=False)
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    Console(width=max(200, Console().width)).print(grid, crop=False)


def format_time(at: datetime | None) -> str:
    """A time as tables show it; empty for None."""
    return at.strftime("%Y-%m-%d %H:%M") if at else ""
