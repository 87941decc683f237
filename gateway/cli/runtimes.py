"""Runs commands that need the services: an open runtime, and its workspace."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.cli.commands import loaded_settings, owner, run_command, server_uri
from gateway.runtime import Runtime, open_runtime
from gateway.settings import database_name
from gateway.store.migrations import migrate


def with_runtime(run: Callable[[Runtime], Awaitable[None]], data: Path, *, json_logs: bool = False) -> None:
    """Run with an open, migrated runtime on the configured database, or the embedded one in that folder."""
    settings = loaded_settings(json_logs=json_logs)

    async def opened() -> None:
        async with server_uri(settings, data) as uri, open_runtime(settings, uri, database_name(settings)) as runtime:
            await migrate(runtime.database, runtime.clock, owner=owner())
            await run(runtime)

    run_command(opened())


async def workspace_id(runtime: Runtime, id_or_name: str | None) -> str:
    """The id of the named workspace, or of the only one."""
    workspace = await (runtime.workspaces.find(id_or_name) if id_or_name else runtime.workspaces.only())
    return str(workspace["_id"])
