"""Commands on keys."""

from typing import Annotated

import typer

from gateway.cli.commands import DATA, DEFAULT_DATA, WORKSPACE, format_time, print_line, table
from gateway.cli.databases import with_workspaces
from gateway.core.principals import Scope
from gateway.services.workspaces import WorkspaceService

cli = typer.Typer(no_args_is_help=True, help="Manage API keys, which services send as 'Authorization: Bearer ...'.")


@cli.command("create")
def create_key(
    workspace: WORKSPACE,
    scope: Annotated[list[Scope], typer.Option("--scope", "-s", help="A scope. Repeat the option for more scopes.")],
    name: Annotated[str | None, typer.Option(help="A note on what the key is for.")] = None,
    data: DATA = DEFAULT_DATA,
) -> None:
    """Create an API key and print it. It cannot be shown again: only a hash is stored."""

    async def run(workspaces: WorkspaceService) -> None:
        workspace_row = await workspaces.find(workspace)
        _, text = await workspaces.create_key(workspace_row["_id"], scope, name)
        print_line(text)

    with_workspaces(run, data)


@cli.command("list")
def list_keys(workspace: WORKSPACE, data: DATA = DEFAULT_DATA) -> None:
    """List the API keys of a workspace, without their secrets."""

    async def run(workspaces: WorkspaceService) -> None:
        workspace_row = await workspaces.find(workspace)
        rows = [
            (
                key["_id"],
                key["name"] or "",
                " ".join(key["scopes"]),
                format_time(key["created_at"]),
                format_time(key.get("last_used_at")),
                format_time(key.get("revoked_at")),
            )
            for key in await workspaces.keys(workspace_row["_id"])
        ]
        table(("id", "name", "scopes", "created", "last used", "revoked"), rows)

    with_workspaces(run, data)


@cli.command("revoke")
def revoke_key(key: str, workspace: WORKSPACE, data: DATA = DEFAULT_DATA) -> None:
    """Revoke an API key. Every process refuses it within seconds."""

    async def run(workspaces: WorkspaceService) -> None:
        workspace_row = await workspaces.find(workspace)
        await workspaces.revoke_key(workspace_row["_id"], key)
        print_line(f"Revoked {key}.")

    with_workspaces(run, data)
