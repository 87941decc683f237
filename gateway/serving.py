"""`gateway serve`: one application per worker process, opened when the worker starts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.app import create_app
from gateway.errors import StartupError
from gateway.observability import configure_logs, forget_dead_workers, log_uncaught_exceptions
from gateway.runtime import background_tasks, open_runtime, tune_gc
from gateway.server.persisted_documents import PersistedDocuments
from gateway.settings import Settings, database_name, load_settings
from gateway.store.migrations import pending_migrations
from schema.limits import OperationLimits
from schema.root import build_schema

_log = structlog.get_logger("gateway.serving")


def application() -> ASGIApp:
    configure_logs("INFO", json=True)
    log_uncaught_exceptions()
    try:
        settings = load_settings()
    except StartupError as error:
        _log.critical("the worker cannot start", reason=str(error))
        raise SystemExit(1) from None
    configure_logs(settings.log_level, json=True)
    forget_dead_workers()  # this worker may replace a dead one
    opened = _Opened()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with _gateway(settings) as opened.app:
            _log.info("open", loop=type(asyncio.get_running_loop()).__module__)
            yield

    return Starlette(routes=[Mount("/", opened)], lifespan=lifespan)


class _Opened:
    """Forwards to the application, which is set when the worker has started."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@asynccontextmanager
async def _gateway(settings: Settings) -> AsyncIterator[ASGIApp]:
    async with (
        open_runtime(settings, str(settings.mongo_uri), database_name(settings)) as runtime,
        background_tasks(runtime),
    ):
        app = create_app(runtime, runtime.authenticator())
        tune_gc()
        yield app


def check_ready(settings: Settings) -> None:
    """Check that workers can start; raises StartupError with what to do."""
    if settings.mongo_uri is None:
        raise StartupError(
            "Set GATEWAY_MONGO_URI to a MongoDB replica set, or use 'gateway dev' with its embedded database."
        )

    schema = build_schema(suggestions=bool(settings.introspection)).core
    PersistedDocuments(settings, schema, OperationLimits(schema, settings))

    async def check() -> None:
        async with open_runtime(settings, str(settings.mongo_uri), database_name(settings)) as runtime:
            await runtime.database.check_deployment()
            if await pending_migrations(runtime.database):
                raise StartupError("The database is not migrated: run 'gateway migrate' first.")

    asyncio.run(check())
