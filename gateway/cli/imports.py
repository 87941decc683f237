"""Commands that import files."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.commands import DATA, DEFAULT_DATA, THE_WORKSPACE, say, with_runtime
from gateway.domain.imports import Columns
from gateway.errors import StartupError
from gateway.progress import ImportBar
from gateway.runtime import Runtime
from gateway.services.imports import EventImport

imports_cli = typer.Typer(no_args_is_help=True, help="Import files.")


@imports_cli.command("events")
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
    workspace: THE_WORKSPACE = None,
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

    with_runtime(run, data)


async def _import(job: EventImport) -> None:
    with ImportBar() as bar:
        done = await job.run(bar.show)
    say(f"{done.added} events added, {done.duplicates} were there already, {done.rejected} rejected.")
    if done.rejected:
        say(f"The rejected rows, with their reasons: {job.rejected_path}")
        raise typer.Exit(3)
