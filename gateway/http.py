"""GraphQL over HTTP to the letter: what a request may be, what is answered, and with which status and content type."""

import asyncio
import json
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.admissions import admitted, limit_headers
from gateway.auth import Authenticator, from_allowed_page
from gateway.documents import Documents
from gateway.errors import (
    BadRequestError,
    GatewayError,
    LimitExceededError,
    MethodNotAllowedError,
    RateLimitedError,
    UnsupportedMediaTypeError,
)
from gateway.execution.operations import Answer, Operations
from gateway.jsons import decode_json, encode_json
from resolvers.contexts import Context, Services
from schema.limits import OperationLimits
from schema.problems import code_and_status, formatted

if TYPE_CHECKING:
    from gateway.tracing import OperationSpan

JSON = "application/json"
RESPONSE_JSON = "application/graphql-response+json"


@dataclass(frozen=True, slots=True)
class Operation:
    """What a request asks for."""

    query: str
    variables: dict[str, Any] | None
    name: str | None
    shows_cost: bool


class OperationEndpoint:
    """One operation per request: queries by GET or POST, mutations by POST."""

    def __init__(
        self,
        operations: Operations,
        limits: OperationLimits,
        documents: Documents,
        services: Services,
        authenticator: Authenticator,
    ) -> None:
        self._operations = operations
        self._limits = limits
        self._documents = documents
        self._services = services
        self._authenticator = authenticator
        self._log = structlog.get_logger("gateway.http").bind()  # a logger that is not bound is bound anew at each line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request, request_id = Request(scope, receive), secrets.token_hex(8)
        tracing, span = self._services.tracing, None
        try:
            with ExitStack() as traced:
                if tracing is not None:
                    traced.enter_context(tracing.continued(request.headers))
                    span = traced.enter_context(tracing.operation(request_id))
                response = await self._answer_or_refusal(request, request_id, span)
        except (ClientDisconnect, asyncio.CancelledError):
            return  # the client left, or the gateway does: nobody is there to answer
        response.headers["x-request-id"] = request_id
        response.headers.update(await limit_headers(request, self._services.clock()))
        await response(scope, receive, send)

    async def _answer_or_refusal(self, request: Request, request_id: str, span: "OperationSpan | None") -> Response:
        try:
            return await self._answer(request, request_id, span)
        except ClientDisconnect:
            raise
        except GatewayError as error:
            refused = error
        except Exception:
            self._log.exception("unexpected error", request_id=request_id)
            text = f"Something went wrong in the gateway. Quote the request id {request_id} when you report it."
            refused = GatewayError(text)
        self._services.metrics.refused(refused.code)
        if span is not None:
            span.failed(refused.code, refused.status)
        return _refusal(refused, request, request_id)

    async def _answer(self, request: Request, request_id: str, span: "OperationSpan | None") -> Response:
        if request.method not in ("GET", "POST"):
            raise MethodNotAllowedError("Send a POST request, or a query by GET.")
        body = await _bounded_body(request, self._services.settings.max_body_bytes)
        bearer = await admitted(request, self._authenticator, self._services.rate_limits)
        operation = _operation(request, body, self._documents, register=bearer is not None)
        from_page = from_allowed_page(request.headers, self._services.settings.allowed_origins)
        context = Context(self._services, request_id, bearer, from_page)
        checked = self._limits.check(operation.query, operation.variables, operation.name)
        await request.state.allowance.take_cost(checked.cost)
        if span is not None:
            span.meant(checked.kind, checked.name)
        with self._services.metrics.operation(checked.name) as told:
            told["outcome"] = "refused"
            _check_kind(checked.kind, request.method)
            answer = await self._operations.execute(operation.query, operation.variables, operation.name, context)
            told["outcome"] = "error" if answer.errors else "ok"
        if span is not None and answer.errors:
            span.failed(*code_and_status(answer.errors[0]))
        self._log.info(
            "operation", request_id=request_id, name=checked.name, outcome=told["outcome"], key=bearer and bearer.id
        )
        return _response(answer, checked.cost if operation.shows_cost else None, request, request_id)


async def _bounded_body(request: Request, most: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise LimitExceededError(
                f"The request body is larger than the {most} bytes that are allowed: send less at once."
            )
    return bytes(body)


def _operation(request: Request, body: bytes, documents: Documents, *, register: bool) -> Operation:
    sent = _posted(request, body) if request.method == "POST" else _queried(request)
    variables, name, extensions = (sent.get(key) for key in ("variables", "operationName", "extensions"))
    if variables is not None and not isinstance(variables, dict):
        raise BadRequestError("'variables' must be an object.")
    if name is not None and not isinstance(name, str):
        raise BadRequestError("'operationName' must be a text.")
    if extensions is not None and not isinstance(extensions, dict):
        raise BadRequestError("'extensions' must be an object.")
    return Operation(
        documents.text(sent, register=register), variables, name or None, (extensions or {}).get("cost") is True
    )


def _posted(request: Request, body: bytes) -> Mapping[str, Any]:
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != JSON:
        raise UnsupportedMediaTypeError(f"Send the operation as JSON, with 'Content-Type: {JSON}'.")
    charset = parameters.lower().partition("charset=")[2].strip().strip('"')
    if charset not in ("", "utf-8", "utf8"):
        raise UnsupportedMediaTypeError("The body must be encoded in UTF-8.")
    return _object(body, "The body")


def _queried(request: Request) -> Mapping[str, Any]:
    sent: dict[str, Any] = dict(request.query_params)
    for name in ("variables", "extensions"):
        if sent.get(name):
            sent[name] = _object(sent[name].encode("utf-8", "surrogatepass"), f"'{name}'")
        else:
            sent.pop(name, None)
    return sent


def _object(data: bytes, named: str) -> Mapping[str, Any]:
    try:
        found = decode_json(data)
    except json.JSONDecodeError:
        raise BadRequestError(f"{named} is not JSON that can be read.") from None
    if isinstance(found, list):
        raise BadRequestError(f"{named} must be one JSON object: several operations in one request are not served.")
    if not isinstance(found, dict):
        raise BadRequestError(f"{named} must be a JSON object.")
    return found


def _check_kind(kind: str | None, method: str) -> None:
    if kind == "subscription":
        raise BadRequestError("Subscriptions are served over websockets (graphql-transport-ws).")
    if kind == "mutation" and method != "POST":
        raise MethodNotAllowedError("Mutations are taken by POST alone.")


def _response(answer: Answer, cost: int | None, request: Request, request_id: str) -> Response:
    body: dict[str, Any] = {}
    if answer.errors:
        body["errors"] = [formatted(error, request_id) for error in answer.errors]
    if not answer.refused:
        body["data"] = answer.data
    if cost is not None:
        body["extensions"] = {"cost": cost}
    kind = _accepted(request.headers)
    return _json(body, 400 if answer.refused and kind == RESPONSE_JSON else 200, kind)


def _refusal(error: GatewayError, request: Request, request_id: str) -> Response:
    extensions = {"code": error.code, "retryable": error.retryable, "requestId": request_id}
    response = _json(
        {"errors": [{"message": error.message, "extensions": extensions}]}, error.status, _accepted(request.headers)
    )
    if error.status == 200:
        response.headers["cache-control"] = "no-store"  # it holds until the client's next request
    if isinstance(error, RateLimitedError):
        response.headers["retry-after"] = str(error.retry_after)
    if error.status == 401:
        response.headers["www-authenticate"] = "Bearer"
    if error.status == 405:
        response.headers["allow"] = "POST" if request.method == "GET" else "GET, POST"
    return response


def _json(body: Mapping[str, Any], status: int, kind: str) -> Response:
    return Response(encode_json(body), status, media_type=f"{kind}; charset=utf-8")


def _accepted(headers: Headers) -> str:
    """The content type of the answer: the newer one where it is asked for by name, before or instead of the older."""
    wanted = headers.get("accept", "").lower()
    newer, older = wanted.find(RESPONSE_JSON), wanted.find(JSON)
    return RESPONSE_JSON if newer >= 0 and (older < 0 or newer < older) else JSON
