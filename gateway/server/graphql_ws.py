"""GraphQL over websockets: the graphql-transport-ws protocol, with credentials that are checked repeatedly."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Hashable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import orjson
import structlog
from graphql import GraphQLError
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler, Operation
from strawberry.subscriptions.protocols.graphql_transport_ws.types import Message

from gateway.auth import Authenticator, from_allowed_page
from gateway.bus.fan_out import SharedSubscription, SharingRegistry, SocketSink
from gateway.core.principals import Principal
from gateway.errors import (
    LimitExceededError,
    RateLimitedError,
    SlowReaderError,
    UnauthenticatedError,
    UnavailableError,
)
from gateway.execution.executor import Operations, Result, as_graphql_error
from gateway.json_codec import encode_json
from gateway.observability import log_name, new_request_id
from gateway.server.persisted_documents import PersistedDocuments
from gateway.services.rate_limits import Allowance
from gateway.settings import Settings
from gateway.store.deadlines import answered_by, moment_in
from resolvers.context import Context, Services
from schema.errors import code_and_status, formatted, log_unexpected
from schema.limits import OperationLimits

if TYPE_CHECKING:
    from gateway.tracing import OperationSpan

CHECK_SECONDS = 20.0
_SHORTEST_WAIT = 0.5
_WAIT_WHEN_LIMITED = timedelta(seconds=2)  # for a socket whose address has no requests left: enough to send a valid key
_MALFORMED, _UNAUTHORIZED, _FORBIDDEN, _TOO_MANY = 4400, 4401, 4403, 4429
_TRY_AGAIN_LATER = 1013
_LONGEST_ID = 1000  # repeated in every message of the operation
_log = structlog.get_logger("gateway.server.graphql_ws")
_TYPES = frozenset({"connection_init", "ping", "pong", "subscribe", "complete"})


class SocketRegistry:
    """What the sockets of a process share; `open` counts the sockets of each principal."""

    def __init__(
        self,
        authenticator: Authenticator,
        services: Services,
        operations: Operations,
        limits: OperationLimits,
        documents: PersistedDocuments,
        check_seconds: float,
    ) -> None:
        self.authenticator = authenticator
        self.check_seconds = check_seconds
        self.operations = operations
        self.limits = limits
        self.documents = documents
        self.services = services
        self.open: Counter[str] = Counter()
        self.shared_subscriptions: SharingRegistry = {}
        self.log = _log.bind()  # an unbound logger binds itself for every line

    @property
    def settings(self) -> Settings:
        return self.services.settings


class SocketAdapter(ASGIWebSocketAdapter):
    async def send_json(self, message: Mapping[str, object]) -> None:
        await self.send_text(encode_json(message).decode())

    async def send_text(self, text: str) -> None:
        try:
            await self.ws.send_text(text)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise WebSocketDisconnected from error

    async def close(self, code: int, reason: str) -> None:
        """Close if still open. The reason is cut to 123 bytes, the limit of a close frame."""
        with suppress(RuntimeError, WebSocketDisconnect):
            await self.ws.close(code=code, reason=reason.encode()[:123].decode(errors="ignore"))


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """One socket. It has no principal until `connection_init`."""

    principal: Principal | None = None
    _credential: str | None = None
    _is_counted = False
    _next_check: asyncio.TimerHandle | None = None
    _check: asyncio.Task[None] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._payloads: dict[str, Mapping[str, Any]] = {}
        self._sinks: dict[str, SocketSink] = {}

    @property
    def registry(self) -> SocketRegistry:
        registry: SocketRegistry = self._socket.scope["gateway.server.graphql_ws"]
        return registry

    @property
    def _socket(self) -> WebSocket:
        return cast("SocketAdapter", self.websocket).ws

    @property
    def _address(self) -> Allowance:
        client = self._socket.client
        return self.registry.services.rate_limits.of_address(client.host if client else "")

    async def handle(self) -> None:
        """Serve the socket. Until authenticated it counts for its address; if that has no requests left, time is short."""
        try:
            await self._address.take_request()
            self._is_counted = True
        except RateLimitedError:
            self.connection_init_wait_timeout = min(self.connection_init_wait_timeout, _WAIT_WHEN_LIMITED)
        await super().handle()

    async def handle_message(self, message: Message) -> None:
        """Handle a valid message; an invalid one closes the socket with 4400."""
        problem = _malformed(message)
        if problem is not None:
            await self.handle_invalid_message(problem)
        else:
            await super().handle_message(message)

    async def handle_connection_init(self, message: Any) -> None:
        """Authenticate: by `authorization` in the payload (in any case), or by the header of the handshake."""
        if self.connection_init_received:
            await self.websocket.close(_TOO_MANY, "Too many initialisation requests")
            return
        self.connection_init_received = True
        if self.connection_init_timeout_task:
            self.connection_init_timeout_task.cancel()
        payload = message.get("payload") or {}
        if self._is_counted:
            await self._address.give_back_request()
        by_name = {str(name).lower(): value for name, value in payload.items()}
        self._credential = by_name.get("authorization") or self._socket.headers.get("authorization")
        close_frame = await self._refused()
        if close_frame is not None:
            self.registry.log.info("socket refused", close_code=close_frame[0])
            await self.websocket.close(*close_frame)
            return
        self._check_later()
        if (accept_large_messages := self._socket.scope.get("gateway.accept_large_messages")) is not None:
            accept_large_messages()
        await self.send_message({"type": "connection_ack"})
        self.connection_acknowledged = True

    async def handle_subscribe(self, message: Any) -> None:
        """Start an operation. Strawberry drops payload keys that it does not know, so the payload is stored for the task."""
        id_, payload = message["id"], message["payload"]
        if id_ not in self.operations and await self._refused_operation(id_):
            return
        self._payloads[id_] = payload
        message["payload"] = {**payload, "query": payload.get("query") or ""}
        with self._continued(payload):
            await super().handle_subscribe(message)
        if id_ not in self.operations:
            self._payloads.pop(id_, None)

    async def _refused_operation(self, id_: str) -> bool:
        settings, principal = self.registry.settings, self.principal
        most = settings.max_operations_per_socket
        if principal is not None and principal.contact_id is not None:
            most = min(most, settings.max_operations_per_token_socket)
        if principal is None or len(self.operations) < most:
            return False
        message = f"This socket has {most} active operations, which is the limit: complete one first."
        error = formatted(as_graphql_error(LimitExceededError(message)), new_request_id())
        await self.send_message({"id": id_, "type": "error", "payload": [error]})
        return True

    async def shutdown(self) -> None:
        for check in (self._next_check, self._check):
            if check is not None:
                check.cancel()
        if self.principal is not None:
            self.registry.open[self.principal.id] -= 1
            self.registry.open += Counter()  # drops counts of zero
            self.principal = None
        for id_, sink in self._sinks.items():
            if sink.subscription.sinks != {sink}:
                self.operations[id_].task = None  # it continues for other sockets
        await super().shutdown()

    def forget_id(self, id: str) -> None:
        self._sinks.pop(id, None)
        super().forget_id(id)

    async def cleanup_operation(self, operation_id: str) -> None:
        """End an operation; a shared subscription continues for its other sockets."""
        sink = self._sinks.pop(operation_id, None)
        if sink is None:
            await super().cleanup_operation(operation_id)
            return
        self.operations.pop(operation_id).completed = True
        sink.leave()

    def _continued(self, payload: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Continue the trace of the message's `extensions`, or that of the handshake."""
        tracing = self.registry.services.tracing
        if tracing is None:
            return nullcontext()
        extensions = payload.get("extensions")
        carrier = (
            {name: text for name, text in extensions.items() if isinstance(text, str)}
            if isinstance(extensions, dict)
            else {}
        )
        return tracing.continued(carrier if "traceparent" in carrier else self._socket.headers)

    async def run_operation(self, operation: Operation[Context, None]) -> None:
        """Run one operation with its own context. Its errors end the operation, not the socket."""
        from_page = from_allowed_page(self._socket.headers, self.registry.settings.allowed_origins)
        context = Context(self.registry.services, new_request_id(), self.principal, from_page)
        tracing = self.registry.services.tracing
        with ExitStack() as traced:
            span = None if tracing is None else traced.enter_context(tracing.operation(context.request_id))
            line: dict[str, Any] = {"name": None, "outcome": "cancelled", "key": context.principal.id}
            traced.callback(lambda: self.registry.log.info("operation", request_id=context.request_id, **line))
            try:
                await self._deliver(operation, context, span, traced, line)
            except WebSocketDisconnected:
                return
            except Exception as error:
                failure = as_graphql_error(error)
                line |= {"outcome": "refused", "code": code_and_status(failure)[0]}
                await self._end(operation, failure, context, span)

    async def _deliver(
        self,
        operation: Operation[Context, None],
        context: Context,
        span: "OperationSpan | None",
        traced: ExitStack,
        line: dict[str, Any],
    ) -> None:
        moment = moment_in(self.registry.settings.mongo_timeout_seconds)
        allowance = context.services.rate_limits.of(context.principal.id)
        with answered_by(moment):
            await allowance.take_request()
        payload = self._payloads.pop(operation.id)
        operation.query = self.registry.documents.text(payload)
        checked = self.registry.limits.check(operation.query, operation.variables, operation.operation_name)
        line["name"] = log_name(checked.name)
        with answered_by(moment):
            await allowance.take_cost(checked.cost)
        self.registry.documents.register(payload)
        if span is not None:
            span.name_operation(checked.kind, checked.name)
        metrics = context.services.metrics
        if checked.kind == "subscription":
            metrics.subscribed(checked.name)
            line["outcome"] = "subscribed"
            traced.close()  # only the start is traced: a subscription may run for days
            await self._subscribe(operation, context)
            return
        with metrics.operation(checked.name) as measured:
            measured["outcome"] = "refused"
            measured["outcome"] = line["outcome"] = await self._send_result(operation, context, span, line, moment)

    async def _subscribe(self, operation: Operation[Context, None], context: Context) -> None:
        async def ended(error: Exception | None) -> None:
            with suppress(WebSocketDisconnected):
                if error is None:
                    await operation.send_operation_message({"id": operation.id, "type": "complete"})
                else:
                    failure = as_graphql_error(error)
                    code = code_and_status(failure)[0]
                    self.registry.log.info("subscription ended", request_id=context.request_id, code=code)
                    await self._end(operation, failure, context, None)

        def key() -> Hashable:
            sharing_key = self.registry.operations.sharing_key(
                operation.query or "", operation.variables, operation.operation_name, context
            )
            return sharing_key, context.rights

        sink = SocketSink(
            operation.id,
            self.registry.settings.stream_queue,
            lambda result: _next(operation.id, result, context.request_id),
            self._socket.scope.get("gateway.push"),
            cast("SocketAdapter", self.websocket).send_text,
            ended,
        )
        self._sinks[operation.id] = sink
        subscription = SharedSubscription(self.registry.shared_subscriptions, sink, key, context.services.metrics)
        context.on_caught_up = subscription.on_caught_up
        await subscription.run(self._results(operation, context))

    async def _send_result(
        self,
        operation: Operation[Context, None],
        context: Context,
        span: "OperationSpan | None",
        line: dict[str, Any],
        moment: float,
    ) -> str:
        """Send the result and `complete`; returns the outcome."""
        with answered_by(moment):
            result = await self.registry.operations.execute(
                operation.query or "", operation.variables, operation.operation_name, context
            )
        if (error := result.end) is not None:
            raise error
        if result.errors:
            code, status = code_and_status(result.errors[0])
            line["code"] = code
            if span is not None:
                span.failed(code, status)
        if not operation.completed:
            await cast("SocketAdapter", self.websocket).send_text(_next(operation.id, result, context.request_id))
        await operation.send_operation_message({"id": operation.id, "type": "complete"})
        return "error" if result.errors else "ok"

    async def _end(
        self,
        operation: Operation[Context, None],
        error: GraphQLError,
        context: Context,
        span: "OperationSpan | None",
    ) -> None:
        if span is not None:
            span.failed(*code_and_status(error))
        if isinstance(error.original_error, SlowReaderError):
            await self.websocket.close(_TRY_AGAIN_LATER, error.original_error.message)
            return
        log_unexpected([error], context.request_id)
        errors = [formatted(error, context.request_id)]
        with suppress(WebSocketDisconnected):
            await operation.send_operation_message({"id": operation.id, "type": "error", "payload": errors})

    def _results(self, operation: Operation[Context, None], context: Context) -> AsyncGenerator[Result, None]:
        return self.registry.operations.stream(
            operation.query or "", operation.variables, operation.operation_name, context
        )

    async def _bearer(self, credential: Any) -> Principal | None:
        """Return the principal; before `connection_ack`, an invalid credential counts for the address."""
        if self.connection_acknowledged:
            return await self.registry.authenticator.principal(credential)
        if _is_text(credential):
            return await self.registry.authenticator.admit(credential, self._address)
        await self._address.take_request()
        raise UnauthenticatedError

    async def _refused(self) -> tuple[int, str] | None:
        """Check the credential. Returns the code and reason to close with, or None if the socket may stay."""
        credential = self._credential
        try:
            with answered_by(moment_in(self.registry.settings.mongo_timeout_seconds)):
                principal = await self._bearer(credential)
        except RateLimitedError as error:
            return _TRY_AGAIN_LATER, error.message
        except UnauthenticatedError as error:
            return (_UNAUTHORIZED if self.connection_acknowledged else _FORBIDDEN), error.message
        except UnavailableError:
            return (
                None
                if self.connection_acknowledged
                else (_TRY_AGAIN_LATER, "The database is not available: try again in a few seconds.")
            )
        assert principal is not None  # noqa: S101 - only a missing credential gives None
        if self.principal is not None and self.principal.contact_id != principal.contact_id:
            return _TRY_AGAIN_LATER, "The contact of this token was merged into another: connect again."
        if self.principal is None:
            settings, holder = self.registry.settings, "key" if principal.contact_id is None else "contact"
            most = settings.max_sockets_per_key if holder == "key" else settings.max_sockets_per_token
            if self.registry.open[principal.id] >= most:
                return _FORBIDDEN, f"This {holder} has {most} open sockets: close one first."
            self.registry.open[principal.id] += 1
        self.principal = principal
        return None

    def _check_later(self) -> None:
        self._next_check = asyncio.get_running_loop().call_later(self._seconds_until_check(), self._begin_check)

    def _begin_check(self) -> None:
        self._check = asyncio.create_task(self._check_again())

    async def _check_again(self) -> None:
        close_frame = None
        try:
            close_frame = await self._refused()
        except Exception:
            _log.exception("credential of a socket could not be checked")
        if close_frame is not None:
            await self.websocket.close(*close_frame)
        else:
            self._check_later()

    def _seconds_until_check(self) -> float:
        """The interval of checks, or the rest of a token's life if that is shorter."""
        expires_at = self.principal.expires_at if self.principal else None
        if expires_at is None:
            return self.registry.check_seconds
        left = (expires_at - self.registry.services.clock()).total_seconds()
        return min(self.registry.check_seconds, max(_SHORTEST_WAIT, left))


def _malformed(message: Any) -> str | None:
    """Return what is wrong with a message's shape, or None."""
    if not isinstance(message, dict) or message.get("type") not in _TYPES:
        return "Invalid message: it needs a known 'type'"
    type_, payload = message["type"], message.get("payload")
    if payload is not None and not isinstance(payload, dict):
        return f"Invalid {type_} message: 'payload' must be an object"
    if type_ in ("subscribe", "complete") and not (_is_text(message.get("id")) and len(message["id"]) <= _LONGEST_ID):
        return f"Invalid {type_} message: 'id' must be a string of 1 to {_LONGEST_ID} characters"
    return _malformed_operation(payload) if type_ == "subscribe" else None


def _is_text(value: Any) -> bool:
    """Whether it is a non-empty string that UTF-8 can encode."""
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:
        return False


def _malformed_operation(payload: Any) -> str | None:
    query = payload and payload.get("query")
    if not isinstance(query, str) and not (query is None and payload and {"documentId", "extensions"} & payload.keys()):
        return "Invalid subscribe message: 'payload.query' must be a string"
    if not isinstance(payload.get("extensions") or {}, dict):
        return "Invalid subscribe message: 'payload.extensions' must be an object"
    if not isinstance(payload.get("variables") or {}, dict):
        return "Invalid subscribe message: 'payload.variables' must be an object"
    if not isinstance(payload.get("operationName") or "", str):
        return "Invalid subscribe message: 'payload.operationName' must be a string"
    return None


def _next(operation_id: str, result: Result, request_id: str) -> str:
    """Encode a `next` message. The payload is encoded once for all sockets that receive the result."""
    if result.encoded is None:
        payload: dict[str, Any] = {"data": result.data}
        if result.errors:
            payload["errors"] = [formatted(error, request_id) for error in result.errors]
        result.encoded = encode_json(payload).decode()
    return f'{{"id":{orjson.dumps(operation_id).decode()},"type":"next","payload":{result.encoded}}}'
