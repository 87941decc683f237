"""The command line: parse, build the settings, call one function."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table
from rich.text import Text

from gateway.development import DRAIN_SECONDS, develop
from gateway.domain.access import Scope
from gateway.domain.imports import Columns
from gateway.errors import GatewayError, StartupError, UserProblem
from gateway.observability import MULTIPROCESS_FOLDER, configure_logs
from gateway.progress import ImportBar
from gateway.protocols import SocketProtocol
from gateway.runtime import Runtime, mongo_uri, open_runtime, under_way
from gateway.services.imports import EventImport
from gateway.serving import check_ready
from gateway.settings import Settings, data_folder, database_name, load_settings
from gateway.store.embedded import HOST
from gateway.store.migrations import migrate as run_migrations
from schema.root import build_schema

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they may hold keys
    help="An async GraphQL gateway for events and customer support.",
)
workspaces_cli = typer.Typer(no_args_is_help=True, help="Workspaces: walls around all that is in them.")
keys_cli = typer.Typer(no_args_is_help=True, help="Keys: what services send as 'Authorization: Bearer ...'.")
cli.add_typer(workspaces_cli, name="workspaces")
cli.add_typer(keys_cli, name="keys")
import_cli = typer.Typer(no_args_is_help=True, help="Import files.")
cli.add_typer(import_cli, name="import")
rebuild_cli = typer.Typer(no_args_is_help=True, help="Count anew what is rolled up.")
cli.add_typer(rebuild_cli, name="rebuild")

DATA = Annotated[Path, typer.Option("--data", help="The folder of the embedded database.")]
WORKSPACE = Annotated[str, typer.Option("--workspace", "-w", help="Its id or name.")]
DEFAULT_DATA = Path(".gateway")


def main() -> None:
    """The program `gateway`."""
    try:
        cli()
    except (StartupError, GatewayError, UserProblem) as error:
        Console(stderr=True, soft_wrap=True).print(str(error), style="red", markup=False, highlight=False)
        sys.exit(1)


@cli.command()
def dev(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port of the gateway on 127.0.0.1.")] = 8000,
    data: DATA = DEFAULT_DATA,
    demo: Annotated[bool, typer.Option(help="Fill a new workspace with people and events that do not exist.")] = True,
) -> None:
    """The gateway for one developer: an embedded database, a workspace with demo data, a key that opens all of it."""
    settings = _settings()
    _check_port(port)
    _run(develop(settings, port, data_folder(data), demo, _owner()))


@cli.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; one for each core.")] = 1,
) -> None:
    """The gateway for production, on the database of GATEWAY_MONGO_URI: JSON logs, metrics, a graceful end at SIGTERM."""
    settings = _settings()
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
            log_config=None,
            access_log=False,
            ws=SocketProtocol,
            ws_max_size=settings.max_body_bytes,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )


@cli.command()
def migrate(data: DATA = DEFAULT_DATA) -> None:
    """Bring the database's indexes and migrations up to this version; safe to repeat, and from several processes."""

    async def run(runtime: Runtime) -> None:
        done = await run_migrations(runtime.database, runtime.clock, owner=_owner())
        _say(
            "\n".join(f"{step.number:04} {step.name}" for step in done)
            or "Nothing to migrate: the database is up to date."
        )

    _with_runtime(run, data, migrated=False)


@workspaces_cli.command("create")
def create_workspace(name: str, data: DATA = DEFAULT_DATA) -> None:
    """A new workspace."""

    async def run(runtime: Runtime) -> None:
        _say((await runtime.workspaces.create(name))["_id"])

    _with_runtime(run, data)


@workspaces_cli.command("list")
def list_workspaces(data: DATA = DEFAULT_DATA) -> None:
    """Every workspace."""

    async def run(runtime: Runtime) -> None:
        _table(
            ("id", "name", "created"),
            [(row["_id"], row["name"], _time(row["created_at"])) for row in await runtime.workspaces.all()],
        )

    _with_runtime(run, data)


@workspaces_cli.command("delete")
def delete_workspace(
    workspace: str, data: DATA = DEFAULT_DATA, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Delete a workspace with every contact, event and key in it."""

    async def run(runtime: Runtime) -> None:
        found = await runtime.workspaces.find(workspace)
        if not yes:
            await asyncio.to_thread(
                typer.confirm, f"Delete '{found['name']}' and all that is in it, for ever?", abort=True
            )
        with Console(stderr=True).status("Deleting ..."):
            gone = await runtime.workspaces.delete(found["_id"])
        _say(f"Deleted {gone} documents.")

    _with_runtime(run, data)


@keys_cli.command("create")
def create_key(
    workspace: WORKSPACE,
    scope: Annotated[list[Scope], typer.Option("--scope", "-s", help="A right; repeat the option for more.")],
    name: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    data: DATA = DEFAULT_DATA,
) -> None:
    """A new key, printed once: only a hash of it is kept."""

    async def run(runtime: Runtime) -> None:
        found = await runtime.workspaces.find(workspace)
        _, text = await runtime.workspaces.create_key(found["_id"], scope, name)
        _say(text)

    _with_runtime(run, data)


@keys_cli.command("list")
def list_keys(workspace: WORKSPACE, data: DATA = DEFAULT_DATA) -> None:
    """The keys of a workspace, without their secrets."""

    async def run(runtime: Runtime) -> None:
        found = await runtime.workspaces.find(workspace)
        rows = [
            (
                key["_id"],
                key["name"] or "",
                " ".join(key["scopes"]),
                _time(key["created_at"]),
                _time(key.get("last_used_at")),
                _time(key.get("revoked_at")),
            )
            for key in await runtime.workspaces.keys(found["_id"])
        ]
        _table(("id", "name", "scopes", "created", "last used", "revoked"), rows)

    _with_runtime(run, data)


@keys_cli.command("revoke")
def revoke_key(key: str, workspace: WORKSPACE, data: DATA = DEFAULT_DATA) -> None:
    """Make a key worthless, within seconds everywhere."""

    async def run(runtime: Runtime) -> None:
        found = await runtime.workspaces.find(workspace)
        await runtime.workspaces.revoke_key(found["_id"], key)
        _say(f"Revoked {key}.")

    _with_runtime(run, data)


@import_cli.command("events")
def import_events(
    file: Annotated[Path, typer.Argument(help="CSV or NDJSON, plain or .gz.", exists=True, dir_okay=False)],
    name: Annotated[str, typer.Option(help="The column with the event's name.")],
    at: Annotated[
        str,
        typer.Option(help="The column with the time: RFC 3339 (without an offset: UTC), unix seconds or milliseconds."),
    ],
    contact_id: Annotated[str | None, typer.Option(help="The column with the contact's externalId.")] = None,
    email: Annotated[str | None, typer.Option(help="The column with the contact's e-mail.")] = None,
    anonymous_id: Annotated[str | None, typer.Option(help="The column with the contact's anonymousId.")] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="The column with the row's idempotency key. Without it: the file's content and the row's place."
        ),
    ] = None,
    metadata: Annotated[str, typer.Option(help="Columns for the metadata, with commas between, or 'all-others'.")] = "",
    workspace: Annotated[
        str | None, typer.Option("--workspace", "-w", help="Its id or name; may be left out where there is only one.")
    ] = None,
    data: DATA = DEFAULT_DATA,
) -> None:
    """Import a file of events. Running it again adds nothing, also after it was cut off. Exit code 3: some rows were rejected."""
    if contact_id is email is anonymous_id is None:
        raise StartupError("Say whose events these are: give --contact-id, --email or --anonymous-id.")
    chosen = None if metadata == "all-others" else tuple(filter(None, metadata.split(",")))
    columns = Columns(name, at, contact_id, email, anonymous_id, key, chosen)

    async def run(runtime: Runtime) -> None:
        found = await (runtime.workspaces.find(workspace) if workspace else runtime.workspaces.only())
        services = runtime.services
        job = EventImport(services.events, found["_id"], file, columns, services.settings, services.clock)
        await _import(job)

    _with_runtime(run, data)


@rebuild_cli.command("definitions")
def rebuild_definitions(
    workspace: Annotated[
        str | None, typer.Option("--workspace", "-w", help="Its id or name; without it: every workspace.")
    ] = None,
    data: DATA = DEFAULT_DATA,
) -> None:
    """Count the totals of all event names anew, from what is stored. Gateways may go on meanwhile."""

    async def run(runtime: Runtime) -> None:
        found = [await runtime.workspaces.find(workspace)] if workspace else await runtime.workspaces.all()
        ids = [row["_id"] for row in found]
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("Counting", total=len(ids))
            async with under_way(runtime.definitions.run()):
                async for _ in runtime.definitions.count_anew(ids):
                    bar.advance(task)
        _say(f"Counted the definitions of {len(ids)} workspaces anew.")

    _with_runtime(run, data)


async def _import(job: EventImport) -> None:
    with ImportBar() as bar:
        done = await job.run(bar.show)
    _say(f"{done.added} events added, {done.duplicates} were there already, {done.rejected} rejected.")
    if done.rejected:
        _say(f"The rejected rows, with their reasons: {job.rejected_path}")
        raise typer.Exit(3)


@cli.command("export-schema")
def export_schema(
    check: Annotated[Path | None, typer.Option(help="Fail if this file differs from the schema.")] = None,
) -> None:
    """Print the public schema."""
    text = build_schema().as_str() + "\n"
    if check is None:
        sys.stdout.write(text)
    elif not check.exists() or check.read_text() != text:
        raise StartupError(f"{check} is not the schema of this version: run 'make sdl'.")


def _check_port(port: int, host: str = HOST) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartupError(
                f"Port {port} of {host} cannot be used ({error.strerror}): stop what listens there, or choose another with --port."
            ) from error


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end; SIGTERM ends it as Ctrl-C does, so that what was opened is closed."""

    async def cancellable() -> None:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await work

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(cancellable())
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None


def _with_runtime(run: Callable[[Runtime], Awaitable[None]], data: Path, *, migrated: bool = True) -> None:
    settings = _settings()

    async def opened() -> None:
        folder = data_folder(data) if settings.mongo_uri is None else data  # where it is not needed, none is made
        async with (
            mongo_uri(settings, folder) as uri,
            open_runtime(settings, uri, database_name(settings)) as runtime,
        ):
            if migrated:
                await run_migrations(runtime.database, runtime.clock, owner=_owner())
            await run(runtime)

    _run(opened())


def _settings() -> Settings:
    settings = load_settings()
    configure_logs(settings.log_level, json=False)
    return settings


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(*(Column(column, no_wrap=True, overflow="ignore") for column in columns), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(width=max(200, Console().width)).print(table, crop=False)


def _time(at: Any) -> str:
    return at.strftime("%Y-%m-%d %H:%M") if at else ""
