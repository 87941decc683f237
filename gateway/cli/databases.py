"""Runs commands that need only the database: they start without the schema and HTTP clients."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.cli.commands import loaded_settings, owner, run_command, server_uri
from gateway.collections import DESTINATION_REPOSITORIES
from gateway.core.clock import system_clock
from gateway.core.ids import Minter
from gateway.services.workspaces import WorkspaceService
from gateway.settings import database_name
from gateway.store.driver import Database
from gateway.store.migrations import migrate
from gateway.store.servers import open_database, open_tracing
from gateway.store.workspace_store import Store


def with_database(run: Callable[[Database], Awaitable[None]], data: Path) -> None:
    """Run with the configured database, or the embedded one in that folder, without migrating it."""
    settings = loaded_settings()

    async def opened() -> None:
        async with (
            server_uri(settings, data) as uri,
            open_tracing(settings) as tracing,
            open_database(
                settings, uri, database_name(settings), tracing, repositories=DESTINATION_REPOSITORIES
            ) as database,
        ):
            await run(database)

    run_command(opened())


def with_workspaces(run: Callable[[WorkspaceService], Awaitable[None]], data: Path) -> None:
    """Run with the workspaces and keys of that database, after migrating it."""

    async def migrated(database: Database) -> None:
        await migrate(database, system_clock, owner=owner())
        await run(WorkspaceService(Store(database), system_clock, Minter()))

    with_database(migrated, data)
