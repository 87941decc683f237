"""GraphQL over HTTP: which requests are accepted, and the status and content type of each response."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from gateway.auth import Authenticator, from_allowed_page
from gateway.core.principals import Principal
from gateway.errors import (
    BadRequestError,
    GatewayError,
    LimitExceededError,
    MethodNotAllowedError,
    RateLimitedError,
    UnauthenticatedError,
    UnsupportedMediaTypeError,
)
from gateway.execution.executor import Operations, Result
from gateway.json_codec import decode_json, encode_json
from gateway.observability import log_name, new_request_id
from gateway.server.admission import authenticate, limit_headers
from gateway.server.exchange import Exchange, Reply
from gateway.server.persisted_documents import PersistedDocuments
from gateway.services.rate_limits import Allowance
from gateway.store.deadlines import answered_by, moment_in
from resolvers.context import Context, Services
from schema.errors import code_and_status, formatted
from schema.introspection import MOST_BYTES, Introspection
from schema.limits import OperationLimits

if TYPE_CHECKING:
    from gateway.tracing import OperationSpan

JSON = "application/json"
RESPONSE_JSON = "application/graphql-response+json"


@dataclass(frozen=True, slots=True)
class Operation:
    """A parsed request; `request` is its JSON object."""

    query: str
    variables: dict[str, object] | None
    name: str | None
    shows_cost: bool
    request: Mapping[str, object]


class OperationEndpoint:
    """Executes one operation per request: queries by GET or POST, mutations by POST."""

    def __init__(
        self,
        operations: Operations,
        limits: OperationLimits,
        documents: PersistedDocuments,
        services: Services,
        authenticator: Authenticator,
        introspection: Introspection,
    ) -> None:
        self._operations = operations
        self._introspection = introspection
        self._limits = limits
        self._documents = documents
        self._services = services
        self._authenticator = authenticator
        self._log = structlog.get_logger(
            "gateway.server.graphql_http"
        ).bind()  # an unbound logger binds itself for every line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, request_id = Exchange(scope, receive, send), new_request_id()
        tracing = self._services.tracing
        try:
            if tracing is None:
                reply = await self._response(exchange, request_id, None)
            else:
                with tracing.continued(exchange.headers), tracing.operation(request_id) as span:
                    reply = await self._response(exchange, request_id, span)
        except (ClientDisconnect, asyncio.CancelledError):
            return  # the client left or the gateway stops: nobody reads a response
        reply.headers["x-request-id"] = request_id
        if exchange.allowance is not None:
            reply.headers |= limit_headers(exchange.allowance, self._services.clock())
        await exchange.respond(reply)

    async def _response(self, exchange: Exchange, request_id: str, span: "OperationSpan | None") -> Reply:
        line: dict[str, object] = {"name": None, "outcome": "cancelled", "key": None}
        try:
            return await self._execute(exchange, request_id, span, line)
        except ClientDisconnect:
            raise
        except GatewayError as error:
            refused = error
            line |= {"outcome": "refused", "code": error.code}
        except Exception:
            self._log.exception("unexpected error", request_id=request_id)
            text = f"The gateway failed unexpectedly. Report the request id {request_id} to its operator."
            refused = GatewayError(text)
            line |= {"outcome": "refused", "code": refused.code}
        finally:
            self._log.info("operation", request_id=request_id, **line)
        self._services.metrics.refused(refused.code)
        if span is not None:
            span.failed(refused.code, refused.status)
        return _error_reply(refused, exchange, request_id)

    async def _execute(
        self, exchange: Exchange, request_id: str, span: "OperationSpan | None", line: dict[str, object]
    ) -> Reply:
        if exchange.method not in ("GET", "POST"):
            raise MethodNotAllowedError("Send a POST request, or a query with GET.")
        settings = self._services.settings
        bearer, allowance = await authenticate(
            exchange, self._authenticator, self._services.rate_limits, settings.mongo_timeout_seconds
        )
        if bearer is None:
            return await self._run_introspection(exchange, request_id, line)
        line["key"] = bearer.id
        body = await exchange.body(settings.max_body_bytes)  # the body has its own timeout
        with answered_by(moment_in(settings.mongo_timeout_seconds)):
            return await self._run_operation(body, bearer, allowance, exchange, request_id, span, line)

    async def _run_operation(
        self,
        body: bytes,
        bearer: Principal,
        allowance: Allowance,
        exchange: Exchange,
        request_id: str,
        span: "OperationSpan | None",
        line: dict[str, object],
    ) -> Reply:
        operation = _operation(_request(exchange, body), self._documents)
        from_page = from_allowed_page(exchange.headers, self._services.settings.allowed_origins)
        context = Context(self._services, request_id, bearer, from_page)
        checked = self._limits.check(operation.query, operation.variables, operation.name)
        line["name"] = log_name(checked.name)
        await allowance.take_cost(checked.cost)
        if span is not None:
            span.name_operation(checked.kind, checked.name)
        with self._services.metrics.operation(checked.name) as measured:
            measured["outcome"] = "refused"
            _check_kind(checked.kind, exchange.method)
            self._documents.register(operation.request)
            result = await self._operations.execute(operation.query, operation.variables, operation.name, context)
            measured["outcome"] = "error" if result.errors else "ok"
        line["outcome"] = measured["outcome"]
        if result.errors:
            code, status = code_and_status(result.errors[0])
            line["code"] = code
            if span is not None:
                span.failed(code, status)
        return _reply(result, checked.cost if operation.shows_cost else None, exchange, request_id)

    async def _run_introspection(self, exchange: Exchange, request_id: str, line: dict[str, object]) -> Reply:
        if not self._introspection.is_on:
            raise UnauthenticatedError
        try:
            request = _request(exchange, await exchange.body(MOST_BYTES))
            variables, name, _ = _parameters(request)
        except (BadRequestError, LimitExceededError):
            request, variables, name = {}, None, None
        with self._services.metrics.operation(None) as measured:
            measured["outcome"] = "refused"
            result = self._introspection.answer(request.get("query"), variables, name)
            measured["outcome"] = "error" if result.errors else "ok"
        line["outcome"] = measured["outcome"]
        return _reply(result, None, exchange, request_id)


def _operation(request: Mapping[str, object], documents: PersistedDocuments) -> Operation:
    variables, name, extensions = _parameters(request)
    return Operation(documents.text(request), variables, name, extensions.get("cost") is True, request)


def _request(exchange: Exchange, body: bytes) -> Mapping[str, object]:
    return _posted_request(exchange, body) if exchange.method == "POST" else _query_request(exchange)


def _parameters(request: Mapping[str, object]) -> tuple[dict[str, object] | None, str | None, Mapping[str, object]]:
    variables, name, extensions = request.get("variables"), request.get("operationName"), request.get("extensions")
    if variables is not None and not isinstance(variables, dict):
        raise BadRequestError("'variables' must be an object.")
    if name is not None and not isinstance(name, str):
        raise BadRequestError("'operationName' must be a string.")
    if extensions is not None and not isinstance(extensions, dict):
        raise BadRequestError("'extensions' must be an object.")
    return variables, name or None, extensions or {}


def _posted_request(exchange: Exchange, body: bytes) -> Mapping[str, object]:
    kind, _, parameters = exchange.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != JSON:
        raise UnsupportedMediaTypeError(f"Send the operation as JSON, with 'Content-Type: {JSON}'.")
    charset = parameters.lower().partition("charset=")[2].strip().strip('"')
    if charset not in ("", "utf-8", "utf8"):
        raise UnsupportedMediaTypeError("The body must be encoded in UTF-8.")
    return _object(body, "The body")


def _query_request(exchange: Exchange) -> Mapping[str, object]:
    query = exchange.query
    request: dict[str, object] = dict(query)
    for name in ("variables", "extensions"):
        if text := query.get(name):
            request[name] = _object(text.encode("utf-8", "surrogatepass"), f"'{name}'")
        else:
            request.pop(name, None)
    return request


def _object(data: bytes, named: str) -> Mapping[str, object]:
    try:
        value = decode_json(data)
    except json.JSONDecodeError:
        raise BadRequestError(f"{named} is not valid JSON.") from None
    if isinstance(value, list):
        raise BadRequestError(f"{named} must be one JSON object: send one operation per request.")
    if not isinstance(value, dict):
        raise BadRequestError(f"{named} must be a JSON object.")
    return value


def _check_kind(kind: str | None, method: str) -> None:
    if kind == "subscription":
        raise BadRequestError("Subscriptions need a websocket: connect with the protocol graphql-transport-ws.")
    if kind == "mutation" and method != "POST":
        raise MethodNotAllowedError("Mutations must be sent with POST.")


def _reply(result: Result, cost: int | None, exchange: Exchange, request_id: str) -> Reply:
    body: dict[str, object] = {}
    if result.errors:
        body["errors"] = [formatted(error, request_id) for error in result.errors]
    if not result.refused:
        body["data"] = result.data
    if cost is not None:
        body["extensions"] = {"cost": cost}
    kind = _accepted(exchange.headers)
    return Reply(encode_json(body), 400 if result.refused and kind == RESPONSE_JSON else 200, kind)


def _error_reply(error: GatewayError, exchange: Exchange, request_id: str) -> Reply:
    extensions = {"code": error.code, "retryable": error.retryable, "requestId": request_id}
    body = {"errors": [{"message": error.message, "extensions": extensions}]}
    reply = Reply(encode_json(body), error.status, _accepted(exchange.headers))
    if error.status == 200:
        reply.headers["cache-control"] = "no-store"  # valid only until the client registers the text
    if isinstance(error, RateLimitedError):
        reply.headers["retry-after"] = str(error.retry_after)
    if error.status == 401:
        reply.headers["www-authenticate"] = "Bearer"
    if error.status == 405:
        reply.headers["allow"] = "POST" if exchange.method == "GET" else "GET, POST"
    return reply


def _accepted(headers: Mapping[str, str]) -> str:
    """Return the response's content type: the newer one if `Accept` lists it before the older one."""
    accept = headers.get("accept", "").lower()
    newer = accept.find(RESPONSE_JSON)
    older = accept.find(JSON)
    return RESPONSE_JSON if newer >= 0 and (older < 0 or newer < older) else JSON
