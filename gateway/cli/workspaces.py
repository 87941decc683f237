"""Commands on workspaces."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from gateway.cli.commands import DATA, DEFAULT_DATA, format_time, print_line, table
from gateway.cli.databases import with_workspaces
from gateway.services.workspaces import WorkspaceService

cli = typer.Typer(no_args_is_help=True, help="Manage workspaces. No workspace can see another.")


@cli.command("create")
def create_workspace(name: str, data: DATA = DEFAULT_DATA) -> None:
    """Create a workspace."""

    async def run(workspaces: WorkspaceService) -> None:
        print_line((await workspaces.create(name))["_id"])

    with_workspaces(run, data)


@cli.command("list")
def list_workspaces(data: DATA = DEFAULT_DATA) -> None:
    """List all workspaces."""

    async def run(workspaces: WorkspaceService) -> None:
        table(
            ("id", "name", "created"),
            [(row["_id"], row["name"], format_time(row["created_at"])) for row in await workspaces.all()],
        )

    with_workspaces(run, data)


@cli.command("delete")
def delete_workspace(
    workspace: str,
    data: DATA = DEFAULT_DATA,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete a workspace with every contact, event and key in it."""

    async def run(workspaces: WorkspaceService) -> None:
        workspace_row = await workspaces.find(workspace)
        if not yes:
            await asyncio.to_thread(
                typer.confirm, f"Delete '{workspace_row['name']}' and everything in it, permanently?", abort=True
            )
        with Console(stderr=True).status("Deleting ..."):
            count = await workspaces.delete(workspace_row["_id"])
        print_line(f"Deleted {count} documents.")

    with_workspaces(run, data)
