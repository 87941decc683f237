"""Commands that serve, and that make a database ready to be served."""

import asyncio
import os
import socket
import tempfile
from typing import Annotated

import typer
import uvicorn

from gateway.cli.commands import DATA, DEFAULT_DATA, loaded_settings, owner, run_to_the_end, say, with_runtime
from gateway.development import DRAIN_SECONDS, develop
from gateway.errors import StartupError
from gateway.observability import MULTIPROCESS_FOLDER
from gateway.protocols import SocketProtocol
from gateway.runtime import Runtime, live
from gateway.serving import check_ready
from gateway.settings import data_folder
from gateway.store.embedded import HOST
from gateway.store.migrations import migrate as run_migrations

servers_cli = typer.Typer()


@servers_cli.command()
def dev(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port of the gateway on 127.0.0.1.")] = 8000,
    data: DATA = DEFAULT_DATA,
    demo: Annotated[bool, typer.Option(help="Fill a new workspace with people and events that do not exist.")] = True,
) -> None:
    """The gateway for one developer: an embedded database, a workspace with demo data, a key that opens all of it."""
    settings = loaded_settings()
    _check_port(port)
    run_to_the_end(develop(settings, port, data_folder(data), demo, owner()))


@servers_cli.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; one for each core.")] = 1,
) -> None:
    """The gateway for production, on the database of GATEWAY_MONGO_URI: JSON logs, metrics, a graceful end at SIGTERM."""
    settings = loaded_settings(json_logs=True)
    _check_port(port, host)
    check_ready(settings)
    with tempfile.TemporaryDirectory() as folder:
        if workers > 1:
            os.environ[MULTIPROCESS_FOLDER] = folder
        uvicorn.run(
            "gateway.serving:application",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            loop="uvloop",
            http="httptools",
            log_config=None,
            access_log=False,
            ws=SocketProtocol,
            ws_max_size=settings.max_body_bytes,
            ws_per_message_deflate=False,
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )


@servers_cli.command()
def worker(data: DATA = DEFAULT_DATA) -> None:
    """Send what Klaviyo is to hear, and finish what takes long, until it is ended. Any number of them share the work."""

    async def run(runtime: Runtime) -> None:
        async with live(runtime, delivers=True):
            say("The worker is at work. Stop it with Ctrl-C.")
            await asyncio.Event().wait()

    with_runtime(run, data, json_logs=True)


@servers_cli.command()
def migrate(data: DATA = DEFAULT_DATA) -> None:
    """Bring the database's indexes and migrations up to this version; safe to repeat, and from several processes."""

    async def run(runtime: Runtime) -> None:
        done = await run_migrations(runtime.database, runtime.clock, owner=owner())
        say(
            "\n".join(f"{step.number:04} {step.name}" for step in done)
            or "Nothing to migrate: the database is up to date."
        )

    with_runtime(run, data, migrated=False)


def _check_port(port: int, host: str = HOST) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartupError(
                f"Port {port} of {host} cannot be used ({error.strerror}): stop what listens there, or choose another with --port."
            ) from error
