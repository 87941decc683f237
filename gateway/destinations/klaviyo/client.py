"""Klaviyo's API over HTTP: one revision, a timeout for every request, and failures as responses."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import httpx
import orjson

from gateway.core.clock import Clock
from gateway.destinations.klaviyo.responses import Outcome, Response, classify
from gateway.domain.contacts.contacts import Document

REVISION = "2026-10-15"
PATIENCE_SECONDS = 10.0
_TIMEOUT = httpx.Timeout(9.0, connect=5.0)
_LIMITS = httpx.Limits(max_connections=50, max_keepalive_connections=20)
_LARGEST_RESPONSE = 16_000_000
_LONGEST_ERROR = 500
_TYPE = "application/vnd.api+json"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of Klaviyo's API, with its limits per second (`burst`) and per minute (`steady`)."""

    name: str
    method: str
    path: str
    burst: int
    steady: int


CREATE_EVENT = Operation("create_event", "POST", "/api/events", 350, 3500)
BULK_CREATE_EVENTS = Operation("bulk_create_events", "POST", "/api/event-bulk-create-jobs", 10, 150)
UPSERT_PROFILE = Operation("create_or_update_profile", "POST", "/api/profile-import", 75, 700)
DELETE_PROFILE = Operation("request_profile_deletion", "POST", "/api/data-privacy-deletion-jobs", 3, 60)
GET_ACCOUNTS = Operation("get_accounts", "GET", "/api/accounts", 1, 15)


@asynccontextmanager
async def open_http_client() -> AsyncIterator[httpx.AsyncClient]:
    """The connections of a process to Klaviyo, shared by all workspaces."""
    async with httpx.AsyncClient(timeout=_TIMEOUT, limits=_LIMITS, follow_redirects=False) as http:
        yield http


class KlaviyoClient:
    def __init__(self, http: httpx.AsyncClient, base_url: str, key: str, clock: Clock) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._key = key
        self._clock = clock

    async def send(self, operation: Operation, body: Document | None = None) -> Response:
        """Send one request. Never raises: a failed request is a response with an error."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                response = await self._send(operation, body, began)
        except TimeoutError:
            response = self._failed_request(began, f"no response within {PATIENCE_SECONDS:g} seconds")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:  # httpx parses hosts late
            response = self._failed_request(began, f"no response ({type(error).__name__})")
        return response

    async def _send(self, operation: Operation, body: Document | None, began: float) -> Response:
        headers = {"authorization": f"Klaviyo-API-Key {self._key}", "revision": REVISION, "accept": _TYPE}
        content = None
        if body is not None:
            headers["content-type"], content = _TYPE, orjson.dumps(body)
        url = self._base_url + operation.path
        async with self._http.stream(operation.method, url, headers=headers, content=content) as response:
            content_read = bytearray()
            async for chunk in response.aiter_bytes():
                content_read += chunk
                if len(content_read) > _LARGEST_RESPONSE:
                    break
        result = classify(response.status_code, response.headers, bytes(content_read), self._clock(), _since(began))
        return result if result.error is None else _redacted(result, self._key)

    @staticmethod
    def _failed_request(began: float, reason: str) -> Response:
        return Response(Outcome.RETRY, error=f"Klaviyo gave {reason}.", duration_ms=_since(began))


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _redacted(response: Response, key: str) -> Response:
    """Remove the key from the error, which may quote what was sent."""
    return replace(response, error=(response.error or "").replace(key, "***")[:_LONGEST_ERROR])
