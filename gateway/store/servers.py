"""Opens the database of a process, on the configured or the embedded server, with tracing if configured."""

import importlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.errors import StartupError
from gateway.settings import Settings
from gateway.store.command_tracing import CommandSpans
from gateway.store.driver import Database
from gateway.store.embedded import embedded_server
from gateway.store.repositories import Repository

if TYPE_CHECKING:
    from gateway.tracing import Tracing


@asynccontextmanager
async def mongo_uri(settings: Settings, data: Path, *, share: bool = True) -> AsyncIterator[str]:
    """The URI of the configured server, or of the folder's embedded one while the context is open."""
    if settings.mongo_uri is not None:
        yield settings.mongo_uri
        return
    async with embedded_server(data, settings.embedded_server, share=share) as uri:
        yield uri


@asynccontextmanager
async def open_database(
    settings: Settings,
    uri: str,
    name: str,
    tracing: "Tracing | None" = None,
    listeners: Sequence[Any] = (),
    repositories: Sequence[type[Repository[Any]]] = (),
) -> AsyncIterator[Database]:
    """Open that database; its connections close at the end. `listeners` are PyMongo command listeners; `repositories`:
    those that layers above the store declare."""
    spans = () if tracing is None else (CommandSpans(tracing),)
    database = Database(uri, name, settings, [*listeners, *spans], repositories)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_tracing(settings: Settings) -> AsyncIterator["Tracing | None"]:
    """The configured tracing, which sends its last spans at the end; None if it is off."""
    if settings.tracing is None:
        yield None
        return
    try:
        module = importlib.import_module("gateway.tracing")  # slow to import, and needs an extra
    except ModuleNotFoundError as error:
        raise StartupError(
            f"GATEWAY_TRACING needs {error.name}, which is not installed: run "
            "'pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http', or unset it."
        ) from error
    tracing: Tracing = module.Tracing(settings.tracing)
    try:
        yield tracing
    finally:
        await tracing.close()
