"""Commands on workspaces."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from gateway.cli.commands import DATA, DEFAULT_DATA, say, shown_time, table, with_runtime
from gateway.runtime import Runtime

workspaces_cli = typer.Typer(no_args_is_help=True, help="Workspaces: walls around all that is in them.")


@workspaces_cli.command("create")
def create_workspace(name: str, data: DATA = DEFAULT_DATA) -> None:
    """A new workspace."""

    async def run(runtime: Runtime) -> None:
        say((await runtime.workspaces.create(name))["_id"])

    with_runtime(run, data)


@workspaces_cli.command("list")
def list_workspaces(data: DATA = DEFAULT_DATA) -> None:
    """Every workspace."""

    async def run(runtime: Runtime) -> None:
        table(
            ("id", "name", "created"),
            [(row["_id"], row["name"], shown_time(row["created_at"])) for row in await runtime.workspaces.all()],
        )

    with_runtime(run, data)


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
        say(f"Deleted {gone} documents.")

    with_runtime(run, data)
