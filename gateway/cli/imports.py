"""Commands that import files."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.commands import DATA, DEFAULT_DATA, THE_WORKSPACE, print_line
from gateway.cli.progress import FileBar
from gateway.cli.runtimes import with_runtime, workspace_id
from gateway.errors import StartupError
from gateway.runtime import Runtime
from gateway.transfer.contact_rows import ContactColumns, Others
from gateway.transfer.event_columns import Columns
from gateway.transfer.imports import ContactImport, EventImport, FileImport, Progress

cli = typer.Typer(no_args_is_help=True, help="Import files.")
FILE = Annotated[Path, typer.Argument(help="CSV or NDJSON, plain or .gz.", exists=True, dir_okay=False)]


@cli.command("contacts")
def import_contacts(
    file: FILE,
    mapped: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="COLUMN=FIELD",
            help="A column whose name differs from its field, such as user_id=externalId or Plan=customAttributes.plan. Repeat the option for more columns.",
        ),
    ] = None,
    others: Annotated[
        Others,
        typer.Option(
            help="What to do with columns that are not fields: import them as custom attributes, ignore them, or refuse the file."
        ),
    ] = Others.REFUSE,
    workspace: THE_WORKSPACE = None,
    data: DATA = DEFAULT_DATA,
) -> None:
    """Import a file of contacts with the rules of upsertContact. It is safe to repeat. Exit code 3: some rows were rejected."""
    columns = ContactColumns(dict(_pair(pair) for pair in mapped or ()), others)

    async def run(runtime: Runtime) -> None:
        job = ContactImport(runtime.contact_batches, await workspace_id(runtime, workspace), file, columns)
        done = await _imported(job)
        print_line(
            f"{done.added} contacts added, {done.changed} changed, {done.unchanged} unchanged, {done.rejected} rejected."
        )
        _print_rejected(job)

    with_runtime(run, data)


@cli.command("events")
def import_events(
    file: FILE,
    name: Annotated[str | None, typer.Option(help="The column with the event's name.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="The column with the time: RFC 3339 (UTC if it has no offset), Unix seconds or Unix milliseconds."
        ),
    ] = None,
    contact_id: Annotated[str | None, typer.Option(help="The column with the contact's externalId.")] = None,
    email: Annotated[str | None, typer.Option(help="The column with the contact's e-mail.")] = None,
    anonymous_id: Annotated[str | None, typer.Option(help="The column with the contact's anonymousId.")] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="The column with the idempotency key. Default: a key from the file's content and the row number."
        ),
    ] = None,
    metadata: Annotated[str, typer.Option(help="The metadata columns, separated by commas, or 'all-others'.")] = "",
    workspace: THE_WORKSPACE = None,
    data: DATA = DEFAULT_DATA,
) -> None:
    """Import a file of events. Without column options it must be a file of 'gateway export events'. It is safe to repeat, also after an interruption. Exit code 3: some rows were rejected."""
    keys = (contact_id, email, anonymous_id)
    columns = None
    if any((name, at, *keys, key, metadata)):
        columns = _columns(name, at, keys, key, metadata)

    async def run(runtime: Runtime) -> None:
        services, chosen = runtime.services, await workspace_id(runtime, workspace)
        job = EventImport(services.events, services.store, chosen, file, columns, services.settings, services.clock)
        done = await _imported(job)
        print_line(f"{done.added} events added, {done.unchanged} unchanged, {done.rejected} rejected.")
        _print_rejected(job)

    with_runtime(run, data)


def _columns(
    name: str | None, at: str | None, keys: tuple[str | None, str | None, str | None], key: str | None, metadata: str
) -> Columns:
    if name is None or at is None:
        raise StartupError(
            "Give the columns of the event name and the time with --name and --at, or no column options for a file of 'gateway export events'."
        )
    if not any(keys):
        raise StartupError("Give the column of the contact with --contact-id, --email or --anonymous-id.")
    chosen = None if metadata == "all-others" else tuple(filter(None, metadata.split(",")))
    return Columns(name, at, *keys, key, chosen)


def _pair(text: str) -> tuple[str, str]:
    column, equals, field = text.rpartition("=")
    if not (column and equals and field):
        raise StartupError(f"--map '{text}' must be COLUMN=FIELD, such as user_id=externalId.")
    return column, field


async def _imported(job: FileImport) -> Progress:
    with FileBar() as bar:
        return await job.run(bar.show)


def _print_rejected(job: FileImport) -> None:
    if job.progress.rejected:
        print_line(f"Rejected rows with reasons: {job.rejected_path}")
        raise typer.Exit(3)
