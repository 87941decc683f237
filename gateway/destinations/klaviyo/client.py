"""Klaviyo's API over HTTP: one revision, a limit on every wait, and answers in place of exceptions."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import orjson

from gateway.core.clock import Clock
from gateway.destinations.klaviyo.responses import Outcome, Response, classify

REVISION = "2026-10-15"
BASE_URL = "https://a.klaviyo.com"
PATIENCE_SECONDS = 10.0
_TIMEOUT = httpx.Timeout(9.0, connect=5.0)
_LIMITS = httpx.Limits(max_connections=50, max_keepalive_connections=20)
_LARGEST_RESPONSE = 16_000_000
_LONGEST_ERROR = 500
_TYPE = "application/vnd.api+json"


Connections = httpx.AsyncClient


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of Klaviyo's API, and how often it may be asked for in a second and in a minute."""

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
    """The connections of a process to Klaviyo, whatever the workspace."""
    async with httpx.AsyncClient(timeout=_TIMEOUT, limits=_LIMITS, follow_redirects=False) as http:
        yield http


class KlaviyoClient:
    """Klaviyo as one workspace speaks to it."""

    def __init__(self, http: httpx.AsyncClient, base_url: str, key: str, clock: Clock) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._key = key
        self._clock = clock

    async def send(self, operation: Operation, body: Any = None) -> Response:
        """The answer to one request. It never raises: what did not arrive is an answer too."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = await self._send(operation, body, began)
        except TimeoutError:
            answer = self._failed_request(began, f"no answer within {PATIENCE_SECONDS:g} seconds")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:  # httpx reads hosts late
            answer = self._failed_request(began, f"no answer ({type(error).__name__})")
        return answer

    async def _send(self, operation: Operation, body: Any, began: float) -> Response:
        headers = {"authorization": f"Klaviyo-API-Key {self._key}", "revision": REVISION, "accept": _TYPE}
        content = None
        if body is not None:
            headers["content-type"], content = _TYPE, orjson.dumps(body)
        url = self._base_url + operation.path
        async with self._http.stream(operation.method, url, headers=headers, content=content) as response:
            read = bytearray()
            async for chunk in response.aiter_bytes():
                read += chunk
                if len(read) > _LARGEST_RESPONSE:
                    break
        found = classify(response.status_code, response.headers, bytes(read), self._clock(), _since(began))
        return found if found.error is None else _without(found, self._key)

    @staticmethod
    def _failed_request(began: float, reason: str) -> Response:
        return Response(Outcome.RETRY, error=f"Klaviyo gave {reason}.", duration_ms=_since(began))


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _without(answer: Response, key: str) -> Response:
    """The answer, whose error does not tell the key whatever Klaviyo repeats."""
    return replace(answer, error=(answer.error or "").replace(key, "***")[:_LONGEST_ERROR])
