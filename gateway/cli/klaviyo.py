"""Commands on the sync with Klaviyo."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.cli.commands import DATA, DEFAULT_DATA, THE_WORKSPACE, print_line
from gateway.cli.progress import FileBar
from gateway.cli.runtimes import with_runtime, workspace_id
from gateway.destinations.klaviyo.backfill import ACTIVE, BackfillState
from gateway.destinations.klaviyo.backfill_repository import Backfills
from gateway.destinations.klaviyo.client import REVISION
from gateway.destinations.klaviyo.commands import StartBackfill
from gateway.destinations.klaviyo.connection import SyncState
from gateway.destinations.klaviyo.documents import BackfillDocument
from gateway.runtime import Runtime, running
from gateway.transfer.imports import Progress

_POLL_SECONDS = 0.5
_TIME = typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="A time in UTC.")
cli = typer.Typer(no_args_is_help=True, help="Check the connection to Klaviyo, and send history.")


@cli.command()
def check(workspace: THE_WORKSPACE = None, data: DATA = DEFAULT_DATA) -> None:
    """Check API key, scope and revision with one call to Klaviyo that writes nothing."""

    async def run(runtime: Runtime) -> None:
        connection, problem = await runtime.klaviyo.service.problem(await workspace_id(runtime, workspace))
        if problem is not None:
            print_line(problem)
            raise typer.Exit(1)
        state = connection.state(runtime.clock())
        reason = f" ({connection.paused_reason})" if connection.paused_reason else ""
        print_line(
            f"Klaviyo accepts the API key and events of revision {REVISION}. The synchronization is {state}{reason}."
        )

    with_runtime(run, data)


@cli.command()
def backfill(
    workspace: THE_WORKSPACE = None,
    since: Annotated[datetime | None, _TIME] = None,
    until: Annotated[datetime | None, _TIME] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="The name of a support metric. Repeat the option for more. Default: all.")
    ] = None,
    profiles: Annotated[bool, typer.Option(help="Send profiles too.")] = True,
    data: DATA = DEFAULT_DATA,
) -> None:
    """Send history to Klaviyo and wait until it is done. An active or interrupted backfill continues."""
    command = StartBackfill(
        since=since and since.replace(tzinfo=UTC),
        until=until and until.replace(tzinfo=UTC),
        metrics=metric or None,
        include_profiles=profiles,
    )

    async def run(runtime: Runtime) -> None:
        await backfill_history(runtime, await workspace_id(runtime, workspace), command)

    with_runtime(run, data)


async def backfill_history(runtime: Runtime, workspace_id: str, command: StartBackfill) -> None:
    """Start a backfill, or continue the active one, and wait for its end; typer.Exit(1) unless it is DONE."""
    row = await _backfills(runtime, workspace_id).active()
    if row is None:
        row = await runtime.klaviyo.backfills.start(workspace_id, command)
    else:
        print_line(_is_running(row))
    if row["state"] == BackfillState.PAUSED:
        row = await runtime.klaviyo.backfills.resume(workspace_id, row["_id"])
    async with AsyncExitStack() as stack:
        for work in (runtime.klaviyo.backfill_runner.run(), runtime.deliveries.run()):
            await stack.enter_async_context(running(work))
        row = await _follow(runtime, row)
    print_line(f"{row['_id']} is {row['state']}: {row['done']} done, {row['failed']} failed.")
    if row["state"] in ACTIVE and (reason := await _paused(runtime, workspace_id)) is not None:
        print_line(
            f"The synchronization is paused: {reason} Resume it with resumeKlaviyo, then run this command again: the backfill continues."
        )
    if row["state"] != BackfillState.DONE:
        raise typer.Exit(1)


def _is_running(row: BackfillDocument) -> str:
    metrics = "all metrics" if row["metrics"] is None else ", ".join(row["metrics"]) or "no metrics"
    times = f"since {row['since'].isoformat()} until {row['until'].isoformat()}"
    return f"The backfill {row['_id']} is active and continues: {times}, {metrics}. The options of this command are ignored."


def _backfills(runtime: Runtime, workspace_id: str) -> Backfills:
    return runtime.services.store.open(workspace_id).repository(Backfills)


async def _paused(runtime: Runtime, workspace_id: str) -> str | None:
    connection = await runtime.klaviyo.connections.read(workspace_id)
    return connection.paused_reason if connection.state(runtime.clock()) is SyncState.PAUSED else None


async def _follow(runtime: Runtime, row: BackfillDocument) -> BackfillDocument:
    """Wait until the backfill ends, or until it or the connection is paused; shows a progress bar."""
    backfills = _backfills(runtime, row["workspace_id"])
    with FileBar() as bar:
        while row["state"] in ACTIVE and row["state"] != BackfillState.PAUSED:
            if await _paused(runtime, row["workspace_id"]) is not None:
                break
            await asyncio.sleep(_POLL_SECONDS)
            row = (await backfills.by_ids([row["_id"]]))[row["_id"]]
            settled = row["done"] + row["failed"]
            total = max(row["total"], settled) if row.get("counted") else None
            bar.show(Progress("sending history", settled, total, added=row["done"], rejected=row["failed"]))
    return row
