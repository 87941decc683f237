"""The database of a process: on the server that the settings name or the embedded one, its commands traced if so set."""

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

if TYPE_CHECKING:
    from gateway.tracing import Tracing


@asynccontextmanager
async def mongo_uri(settings: Settings, data: Path, *, share: bool = True) -> AsyncIterator[str]:
    """The URI of the server that the settings name, or of the embedded one of that folder while the context is open."""
    if settings.mongo_uri is not None:
        yield settings.mongo_uri
        return
    async with embedded_server(data, settings.embedded_server, share=share) as uri:
        yield uri


@asynccontextmanager
async def open_database(
    settings: Settings, uri: str, name: str, tracing: "Tracing | None" = None, listeners: Sequence[Any] = ()
) -> AsyncIterator[Database]:
    """That database, with its connections closed at the end; `listeners` are pymongo's and hear of every command."""
    spans = () if tracing is None else (CommandSpans(tracing),)
    database = Database(uri, name, settings, [*listeners, *spans])
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_tracing(settings: Settings) -> AsyncIterator["Tracing | None"]:
    """The tracing of the settings, which sends its last spans at the end; None where it is off."""
    if settings.tracing is None:
        yield None
        return
    try:
        module = importlib.import_module("gateway.tracing")  # it takes a moment, and an extra
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
