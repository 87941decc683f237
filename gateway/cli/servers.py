"""Commands that serve."""

import os
import socket
import tempfile
from typing import Annotated

import typer
import uvicorn

from gateway.cli.commands import DATA, DEFAULT_DATA, loaded_settings, owner, run_command
from gateway.development import develop
from gateway.errors import StartupError
from gateway.observability import MULTIPROCESS_FOLDER
from gateway.server.uvicorn_options import server_options
from gateway.serving import check_ready
from gateway.settings import data_folder
from gateway.store.embedded import HOST

WORKER_START_SECONDS = 60  # a silent worker is killed after this; on a busy machine a start is slow

cli = typer.Typer()


@cli.command()
def dev(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port on 127.0.0.1.")] = 8000,
    data: DATA = DEFAULT_DATA,
    demo: Annotated[bool, typer.Option(help="Fill a new workspace with demo data.")] = True,
) -> None:
    """Run the gateway for development: an embedded database, a workspace with demo data, and a key with every scope."""
    settings = loaded_settings()
    _check_port(port)
    run_command(develop(settings, port, data_folder(data), demo, owner()))


@cli.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="The number of processes; one per core is usual.")] = 1,
) -> None:
    """Run the gateway for production on the database of GATEWAY_MONGO_URI, with JSON logs, metrics and graceful shutdown on SIGTERM."""
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
            access_log=False,
            timeout_worker_healthcheck=WORKER_START_SECONDS,
            **server_options(settings),
        )


def _check_port(port: int, host: str = HOST) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartupError(
                f"Port {port} of {host} cannot be used ({error.strerror}): stop the program that listens there, or choose another port with --port."
            ) from error
