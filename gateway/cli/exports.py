"""Commands that export files."""

import sys
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.commands import DATA, DEFAULT_DATA, THE_WORKSPACE, print_line
from gateway.cli.progress import FileBar
from gateway.cli.runtimes import with_runtime, workspace_id
from gateway.core.time_ranges import EARLIEST, LATEST, TimeRange
from gateway.errors import StartupError, UserProblem
from gateway.runtime import Runtime
from gateway.store.repositories import D
from gateway.transfer.csv_values import read_time
from gateway.transfer.export_sinks import ExportSink, FileSink, StreamSink
from gateway.transfer.exports import ContactSource, EventSource, SegmentSource, Source, export, find_segment
from gateway.transfer.row_files import Format, format_of

cli = typer.Typer(no_args_is_help=True, help="Export files. 'gateway import' restores the same state from them.")
FILE = Annotated[
    Path,
    typer.Argument(
        help="A .csv or .ndjson file, compressed if it ends in .gz, or - for standard output. The file appears when it is complete; after an interruption the same command continues.",
        dir_okay=False,
    ),
]
FORMAT = Annotated[Format | None, typer.Option("--format", help="Default: by the file name; ndjson for -.")]

ESCAPE_FORMULAS = Annotated[
    bool,
    typer.Option(
        "--escape-formulas",
        help="For CSV files that are opened in a spreadsheet: put an apostrophe before cells that begin with = + - @, a tab or a line break. An import keeps the apostrophe.",
    ),
]


@cli.command("contacts")
def export_contacts(
    file: FILE,
    format_: FORMAT = None,
    escape_formulas: ESCAPE_FORMULAS = False,
    workspace: THE_WORKSPACE = None,
    data: DATA = DEFAULT_DATA,
) -> None:
    """Export all contacts, oldest first."""
    chosen = _format(file, format_, escape_formulas)

    async def run(runtime: Runtime) -> None:
        store = runtime.services.store.open(await workspace_id(runtime, workspace))
        await _export(runtime, ContactSource(store), file, chosen, "contacts", escape_formulas)

    with_runtime(run, data)


@cli.command("events")
def export_events(
    file: FILE,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Only events of this name. Repeat the option for more names.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Only events that occurred at this time or later: RFC 3339, or a date.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Only events that occurred before this time.")] = None,
    format_: FORMAT = None,
    escape_formulas: ESCAPE_FORMULAS = False,
    workspace: THE_WORKSPACE = None,
    data: DATA = DEFAULT_DATA,
) -> None:
    """Export events, oldest first: all, or those of a time range or of some names."""
    chosen = _format(file, format_, escape_formulas)
    times = TimeRange(_time("--from", from_) or EARLIEST, _time("--until", until) or LATEST)
    if times.empty:
        raise StartupError("--from must be before --until: swap them.")

    async def run(runtime: Runtime) -> None:
        store = runtime.services.store.open(await workspace_id(runtime, workspace))
        await _export(runtime, EventSource(store, times, tuple(name or ())), file, chosen, "events", escape_formulas)

    with_runtime(run, data)


@cli.command("segment")
def export_segment(
    segment: Annotated[str, typer.Argument(help="The id or name of the workspace.")],
    file: FILE,
    format_: FORMAT = None,
    escape_formulas: ESCAPE_FORMULAS = False,
    workspace: THE_WORKSPACE = None,
    data: DATA = DEFAULT_DATA,
) -> None:
    """Export the members of a segment, oldest first."""
    chosen = _format(file, format_, escape_formulas)

    async def run(runtime: Runtime) -> None:
        store = runtime.services.store.open(await workspace_id(runtime, workspace))
        segment_row = await find_segment(store, segment)
        await _export(runtime, SegmentSource(store, segment_row["_id"]), file, chosen, "contacts", escape_formulas)

    with_runtime(run, data)


def _format(file: Path, requested: Format | None, escape_formulas: bool) -> Format:
    format_ = _format_of(file, requested)
    if escape_formulas and format_ is not Format.CSV:
        raise StartupError("--escape-formulas is only for CSV: leave it out.")
    return format_


def _format_of(file: Path, requested: Format | None) -> Format:
    by_name = None if file == Path("-") else format_of(file)
    if by_name is None and requested is None and file != Path("-"):
        raise StartupError(f"{file} does not end in .csv, .ndjson, .csv.gz or .ndjson.gz: rename it, or give --format.")
    if None not in (by_name, requested) and by_name is not requested:
        raise StartupError(
            f"{file} is named {by_name}, but --format is {requested}: rename the file, because an import uses its name."
        )
    return requested or by_name or Format.NDJSON


def _time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return read_time(text, option)
    except UserProblem:
        raise StartupError(
            f"{option} '{text}' is not a time: write it like 2026-01-31 or 2026-01-31T09:30:00Z."
        ) from None


async def _export(
    runtime: Runtime, source: Source[D], file: Path, format_: Format, noun: str, escape_formulas: bool
) -> None:
    with ExitStack() as stack:
        output: ExportSink
        if file == Path("-"):
            output = StreamSink(sys.stdout.buffer, format_, escape_formulas=escape_formulas)
        else:
            file_output = FileSink(file, format_, source.options, escape_formulas=escape_formulas)
            output = stack.enter_context(file_output)
        bar = stack.enter_context(FileBar())
        done = await export(source, output, runtime.clock, bar.show)
    if file != Path("-"):
        print_line(f"{done.added} {noun} exported to {file}.")
