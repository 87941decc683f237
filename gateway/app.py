"""The ASGI application: /graphql over HTTP and websocket, /healthz, /readyz, /metrics, and GraphiQL at / if enabled."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from gateway.auth import Authenticator
from gateway.errors import UnavailableError
from gateway.execution.executor import Operations
from gateway.execution.plans import Planner
from gateway.json_codec import decode_json
from gateway.observability import Metrics
from gateway.runtime import Runtime
from gateway.server.graphql_http import OperationEndpoint
from gateway.server.graphql_ws import CHECK_SECONDS, SocketAdapter, SocketHandler, SocketRegistry
from gateway.server.persisted_documents import PersistedDocuments
from gateway.services.projections.monitor import ProjectionMonitor
from gateway.settings import Settings
from gateway.store.deadlines import answered_by, moment_in
from gateway.store.driver import FaultError
from gateway.store.migrations import pending_migrations, probe
from gateway.web.pages import graphiql_routes
from resolvers.context import Context
from schema.introspection import Introspection
from schema.limits import OperationLimits
from schema.nodes import document_key
from schema.root import Schema, build_schema
from schema.subscriptions import sharing

_CORS_SECONDS = 600
_CHECK_SECONDS = 1.0
_EXPOSED_HEADERS = ("x-request-id", "retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
_log = structlog.get_logger("gateway.app")


def create_app(
    runtime: Runtime,
    authenticator: Authenticator,
    page_key: str | None = None,
    check_seconds: float = CHECK_SECONDS,
) -> Starlette:
    """Build the ASGI application for an open runtime.

    `page_key`: the key that GraphiQL uses. `check_seconds`: how often the credentials of open sockets are checked."""
    services, settings = runtime.services, runtime.services.settings
    suggestions, caches = bool(settings.introspection), runtime.caches
    schema = build_schema(suggestions=suggestions)
    planner = Planner(schema.core, document_key, suggestions=suggestions) if settings.compiled_execution else None
    operations = Operations(
        schema.core,
        schema.report_errors,
        services.metrics,
        planner,
        sharing,
        Context.set_projection,
        "after",
        caches,
        suggestions=suggestions,
    )
    limits = OperationLimits(schema.core, settings, caches, operations.documents)
    documents = PersistedDocuments(settings, schema.core, limits, caches, operations.documents.is_valid)
    introspection = Introspection(schema.core, settings)
    endpoint = OperationEndpoint(operations, limits, documents, services, authenticator, introspection)
    registry = SocketRegistry(authenticator, services, operations, limits, documents, check_seconds)
    return Starlette(
        routes=[
            Route("/graphql", endpoint, middleware=[_cross_origin(settings)]),
            WebSocketRoute("/graphql", _Sockets(schema, registry, settings)),
            Route("/healthz", _healthy),
            Route("/readyz", _Readiness(runtime)),
            Route("/metrics", _Metrics(services.metrics, runtime.projections)),
            *(graphiql_routes(page_key) if settings.graphiql else ()),
        ]
    )


class _CrossOrigin(CORSMiddleware):
    """Starlette's CORS middleware, skipped for requests without an Origin header."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if any(name == b"origin" for name, _ in scope["headers"]):
            await super().__call__(scope, receive, send)
            return

        async def send_with_vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"vary", b"Origin"))
            await send(message)

        await self.app(scope, receive, send_with_vary)


def _cross_origin(settings: Settings) -> Middleware:
    """CORS for /graphql alone: no other origin may read the page with the key."""
    return Middleware(
        _CrossOrigin,
        allow_origins=settings.allowed_origins,
        allow_methods=("GET", "POST"),
        allow_headers=("authorization", "content-type"),
        expose_headers=_EXPOSED_HEADERS,
        max_age=_CORS_SECONDS,
    )


async def _healthy(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


class _Readiness:
    """Readiness: the first failing check is reported. Concurrent requests share one run of the checks."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._checks = (self._check_database, self._check_writes, self._check_stream, self._check_projections)
        self._running: asyncio.Task[str | None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._unready())
        reason = await asyncio.shield(self._running)
        response = JSONResponse({"status": reason or "ok"}, status_code=503 if reason else 200)
        await response(scope, receive, send)

    async def _unready(self) -> str | None:
        for check in self._checks:
            if (reason := await check()) is not None:
                return reason
        return None

    async def _check_database(self) -> str | None:
        try:
            with answered_by(self._moment()):
                pending = await pending_migrations(self._runtime.database)
        except FaultError:
            return "the database reports an internal fault: check its disk space"
        except UnavailableError:
            return "the database cannot be reached"
        except Exception:
            _log.exception("the database cannot be read")
            return "the database cannot be read"
        return "the database is not migrated: run 'gateway migrate'" if pending else None

    async def _check_writes(self) -> str | None:
        database, clock = self._runtime.database, self._runtime.clock
        try:
            with answered_by(self._moment()):
                await database.writes.check(lambda: probe(database, clock()))
        except UnavailableError:
            return "the database cannot be written: check its disk space"
        except Exception:
            _log.exception("the database cannot be written")
            return "the database cannot be written"
        return None

    async def _check_stream(self) -> str | None:
        return None if self._runtime.services.bus.running else "the change stream is not open"

    async def _check_projections(self) -> str | None:
        return await _stalled_projection(self._runtime.projections)

    def _moment(self) -> float:
        return moment_in(self._runtime.services.settings.mongo_timeout_seconds)


async def _stalled_projection(projections: ProjectionMonitor) -> str | None:
    """Return which projection is stalled; the check takes at most a second."""
    with suppress(UnavailableError), answered_by(moment_in(_CHECK_SECONDS)):
        await projections.check()
    return projections.problem()


class _Metrics:
    def __init__(self, metrics: Metrics, projections: ProjectionMonitor) -> None:
        self._metrics = metrics
        self._projections = projections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _stalled_projection(self._projections)  # updates the projection metrics
        await Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)(scope, receive, send)


class _Sockets(GraphQL[Context, None]):
    """Strawberry's ASGI view for websockets alone, with our handler and JSON codec."""

    graphql_transport_ws_handler_class = SocketHandler
    websocket_adapter_class = SocketAdapter

    def __init__(self, schema: Schema, registry: SocketRegistry, settings: Settings) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=timedelta(seconds=settings.socket_init_seconds),
            max_subscriptions_per_connection=settings.max_operations_per_socket,
            allowed_origins=settings.allowed_origins,
        )
        self._registry = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["gateway.server.graphql_ws"] = self._registry
        await super().__call__(scope, receive, send)

    async def get_context(self, request: Any, response: Any) -> Any:
        """Return None: each operation has its own context."""
        return None

    def decode_json(self, data: str | bytes) -> object:
        return decode_json(data)
