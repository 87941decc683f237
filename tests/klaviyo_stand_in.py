"""A stand-in for Klaviyo that listens on a socket: it remembers, it refuses what Klaviyo refuses, drops what Klaviyo
drops, keeps its rate windows, and misbehaves when it is told to."""

import asyncio
import contextlib
import itertools
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import klaviyo_rules as rules
import orjson
import uvicorn
from klaviyo_rules import Problem
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

KEY = "pk_a_key_of_the_stand_in"
UNDER_WAY_SECONDS = 1.0  # what arrives so soon after a 429 was sent before that was heard
OLDEST_REVISION = "2026-04-15"
LIMITS = {
    "create_event": (350, 3500),
    "bulk_create_events": (10, 150),
    "create_or_update_profile": (75, 750),
    "bulk_import_profiles": (10, 150),
    "get_bulk_import_profiles_job": (10, 150),
    "get_errors_for_bulk_import_profiles_job": (10, 150),
    "get_metrics": (10, 150),
    "get_accounts": (1, 15),
    "request_profile_deletion": (3, 60),
}


class Kind(StrEnum):
    """How the stand-in can misbehave."""

    RATE_LIMIT = "429"
    ERROR = "5xx"
    HANG = "hang"
    RESET_BEFORE = "reset before recording"
    RESET_AFTER = "reset after recording"
    HTML = "html"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Fault:
    """One misbehaviour; `seconds`: Retry-After, or how long it hangs or is slow."""

    kind: Kind
    status: int = 503
    seconds: float = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that arrived."""

    operation: str
    at: float
    size: int
    status: int
    fault: Kind | None


@dataclass(frozen=True, slots=True)
class Event:
    """One event that Klaviyo keeps."""

    profile_id: str
    metric: str
    unique_id: str
    time: datetime
    properties: dict[str, Any]
    value: float | None
    value_currency: str | None
    backfill: bool


class Klaviyo:
    """An account of Klaviyo."""

    def __init__(self, windows: tuple[float, float] = (1.0, 60.0)) -> None:
        """`windows`: the lengths of the burst and the steady window in seconds."""
        self.windows = windows
        self.limits = dict(LIMITS)
        self.revoked = False
        self.scopes_missing: frozenset[str] = frozenset()
        self.retired = False
        self.poison: Callable[[dict[str, Any]], str | None] = lambda _: None  # an event's attributes -> why it is bad
        self.points = True  # whether refusals say which item is bad
        self.faults: list[Fault] = []
        self.misbehave: Callable[[str], Fault | None] = lambda _: None
        self.asked: list[Asked] = []
        self.too_early: list[str] = []
        self.events: list[Event] = []
        self.dropped: list[str] = []
        self.profiles: dict[str, dict[str, Any]] = {}
        self.profile_writes: list[str] = []
        self.deletions: list[dict[str, str]] = []
        self._known: dict[tuple[str, str], str] = {}
        self._keys: dict[tuple[str, str, str], Event] = {}
        self._jobs: dict[str, dict[str, Any]] = {}
        self._used: Counter[tuple[str, int, int]] = Counter()
        self._closed_until: dict[str, float] = {}
        self._closed_at: dict[str, float] = {}
        self._numbers = itertools.count(1)

    def find(self, identifiers: dict[str, str]) -> str | None:
        """Whose these identifiers are, the strongest first: id, external id, e-mail, phone."""
        if identifiers.get("id") in self.profiles:
            return identifiers["id"]
        for name in ("external_id", "email", "phone_number"):
            id_ = self._known.get((name, identifiers.get(name, "").lower()))
            if id_ in self.profiles:
                return id_
        return None

    def of(self, email: str) -> list[Event]:
        """The events of the profile with that e-mail, in the order in which they arrived."""
        id_ = self.find({"email": email})
        return [event for event in self.events if event.profile_id == id_]

    def requests(self, operation: str) -> list[Asked]:
        """The requests for that operation."""
        return [one for one in self.asked if one.operation == operation]

    # What each operation does with a body that passed its schema.

    def create_event(self, body: dict[str, Any], now: datetime) -> Response:
        attributes = body["data"]["attributes"]
        pointer = "/data/attributes"
        identifiers = rules.check_identifiers(attributes["profile"]["data"], f"{pointer}/profile/data")
        self._check_event(attributes, pointer, now)
        self._record(identifiers, attributes, attributes["profile"]["data"]["attributes"], now)
        return Response(status_code=202)

    def bulk_create_events(self, body: dict[str, Any], now: datetime) -> Response:
        taken: list[tuple[dict[str, str], dict[str, Any], dict[str, Any]]] = []
        keys: list[tuple[tuple[str, ...], str]] = []
        groups = body["data"]["attributes"]["events-bulk-create"]["data"]
        for place, group in enumerate(groups):
            above = f"/data/attributes/events-bulk-create/data/{place}/attributes"
            profile = group["attributes"]["profile"]["data"]
            identifiers = rules.check_identifiers(profile, f"{above}/profile/data")
            for number, event in enumerate(group["attributes"]["events"]["data"]):
                pointer = f"{above}/events/data/{number}/attributes"
                self._check_event(event["attributes"], pointer, now)
                backfill = event["attributes"].get("backfill") or group["attributes"].get("backfill") or False
                attributes = {**event["attributes"], "backfill": backfill}
                taken.append((identifiers, attributes, profile["attributes"]))
                key = (*identifiers.values(), _metric(attributes), attributes.get("unique_id") or attributes["time"])
                keys.append((key, pointer))
        if len(taken) > rules.MOST_EVENTS:
            raise Problem("There are more than 1000 events.", "/data/attributes/events-bulk-create")
        rules.repeated(iter(keys))
        for identifiers, attributes, profile_attributes in taken:
            self._record(identifiers, attributes, profile_attributes, now)
        return Response(status_code=202)

    def create_or_update_profile(self, body: dict[str, Any], now: datetime) -> Response:
        identifiers = rules.check_profile(body["data"], "/data")
        id_, created = self._upsert(identifiers, body["data"]["attributes"], now)
        return JSONResponse({"data": self._profile(id_)}, status_code=201 if created else 200)

    def bulk_import_profiles(self, body: dict[str, Any], now: datetime) -> Response:
        profiles = body["data"]["attributes"]["profiles"]["data"]
        if len(profiles) > rules.MOST_PROFILES:
            raise Problem("There are more than 10000 profiles.", "/data/attributes/profiles")
        job: dict[str, Any] = {"errors": [], "total_count": len(profiles), "created_at": now.isoformat()}
        for place, profile in enumerate(profiles):
            try:
                identifiers = rules.check_profile(profile, f"/data/attributes/profiles/data/{place}")
                self._upsert(identifiers, profile["attributes"], now)
            except Problem as problem:
                job["errors"].append((problem, profile))
        id_ = f"job{next(self._numbers)}"
        self._jobs[id_] = job
        return JSONResponse({"data": self._job(id_, "queued")}, status_code=202)

    def request_profile_deletion(self, body: dict[str, Any], now: datetime) -> Response:
        profile = body["data"]["attributes"]["profile"]["data"]
        identifiers = rules.check_identifiers(profile, "/data/attributes/profile/data")
        self.deletions.append(identifiers)
        if (id_ := self.find(identifiers)) is not None:
            del self.profiles[id_]
            self.events = [event for event in self.events if event.profile_id != id_]
        return Response(status_code=202)

    # What is read.

    def get_accounts(self, request: Request) -> Response:
        address = dict.fromkeys(("address1", "address2", "city", "region", "country", "zip"))
        sender = {"default_sender_name": "Shop", "default_sender_email": "shop@shop.example", "website_url": None}
        attributes = {
            "test_account": True,
            "contact_information": {**sender, "organization_name": "The Shop", "street_address": address},
            "industry": None,
            "timezone": "UTC",
            "preferred_currency": "USD",
            "public_api_key": "AbC123",
            "locale": "en-US",
        }
        account = {"type": "account", "id": "AbC123", "attributes": attributes, "links": {"self": str(request.url)}}
        return JSONResponse({"data": [account], "links": {"self": str(request.url)}})

    def get_metrics(self, request: Request) -> Response:
        names = sorted({event.metric for event in self.events})
        now = datetime.now(UTC).isoformat()
        rows = [
            {
                "type": "metric",
                "id": f"metric{place}",
                "attributes": {"name": name, "created": now, "updated": now, "integration": {"name": "API"}},
                "links": {"self": str(request.url)},
            }
            for place, name in enumerate(names)
        ]
        return JSONResponse({"data": rows, "links": {"self": str(request.url)}})

    def get_bulk_import_profiles_job(self, request: Request) -> Response:
        id_ = request.path_params["id"]
        if id_ not in self._jobs:
            return _refused(404, "not_found", "There is no such job.")
        return JSONResponse({"data": self._job(id_, "complete")})

    def get_errors_for_bulk_import_profiles_job(self, request: Request) -> Response:
        errors = self._jobs[request.path_params["id"]]["errors"]
        rows = [
            {
                "type": "import-error",
                "id": f"error{place}",
                "attributes": {
                    "code": "invalid",
                    "title": "Invalid input.",
                    "detail": problem.detail,
                    "source": {"pointer": problem.pointer},
                    "original_payload": profile,
                },
            }
            for place, (problem, profile) in enumerate(errors)
        ]
        return JSONResponse({"data": rows, "links": {"self": str(request.url)}})

    # The way of a request.

    def endpoint(self, operation: str) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            refused = self._refusal(operation, request)
            response = refused or self._limited(operation) or await self._done(operation, request)
            if response.status_code != 429:
                self._tell_limits(operation, response)
            return response

        return answer

    async def _done(self, operation: str, request: Request) -> Response:
        if request.method == "GET":
            found: Response = getattr(self, operation)(request)
            return found
        raw = await request.body()
        if len(raw) > rules.MOST_BYTES:
            return _refused(413, "payload_too_large", "The payload is larger than 5 MB.")
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return _refused(400, "invalid", "The body is no JSON.", "/")
        try:
            rules.check_shape(operation, body)
            done: Response = getattr(self, operation)(body, datetime.now(UTC))
        except Problem as problem:
            pointer = problem.pointer if self.points else "/data"
            return _refused(problem.status, "invalid", problem.detail, pointer)
        return done

    def _refusal(self, operation: str, request: Request) -> Response | None:
        if self.revoked or request.headers.get("authorization") != f"Klaviyo-API-Key {KEY}":
            return _refused(401, "not_authenticated", "The API key is missing or invalid.")
        if operation in self.scopes_missing:
            return _refused(403, "permission_denied", f"The API key lacks a scope for {operation}.")
        if "revision" not in request.headers:
            return _refused(400, "invalid", "The header 'revision' is missing.")
        if self.retired or request.headers["revision"] < OLDEST_REVISION:
            return _refused(410, "gone", "This revision is retired.")
        if request.method == "POST" and request.headers.get("content-type") != "application/vnd.api+json":
            return _refused(415, "unsupported_media_type", "The content type must be application/vnd.api+json.")
        return None

    def _limited(self, operation: str) -> Response | None:
        now = time.time()
        if now < self._closed_until.get(operation, 0):
            if now - self._closed_at[operation] > UNDER_WAY_SECONDS:
                self.too_early.append(operation)
            return self.too_many(operation, self._closed_until[operation] - now)
        for number, (length, limit) in enumerate(zip(self.windows, self.limits[operation], strict=True)):
            key = (operation, number, int(now / length))
            self._used[key] += 1
            if self._used[key] > limit:
                return self.too_many(operation, length - now % length)
        return None

    def too_many(self, operation: str, seconds: float) -> Response:
        """The answer 429, after which nothing may arrive until its time is over."""
        whole = max(1, int(seconds + 0.999))
        now = time.time()
        if now >= self._closed_until.get(operation, 0):
            self._closed_at[operation] = now
        self._closed_until[operation] = max(self._closed_until.get(operation, 0), now + whole)
        answer = _refused(429, "throttled", f"Request was throttled. Expected available in {whole} seconds.")
        answer.headers["retry-after"] = str(whole)
        return answer

    def _tell_limits(self, operation: str, response: Response) -> None:
        now, length = time.time(), self.windows[1]
        limit = self.limits[operation][1]
        used = self._used[(operation, 1, int(now / length))]
        response.headers["ratelimit-limit"] = str(limit)
        response.headers["ratelimit-remaining"] = str(max(0, limit - used))
        response.headers["ratelimit-reset"] = str(max(1, int(length - now % length)))

    def _check_event(self, attributes: dict[str, Any], pointer: str, now: datetime) -> None:
        rules.check_event(attributes, pointer, now)
        if (reason := self.poison(attributes)) is not None:
            raise Problem(reason, pointer)

    def _record(
        self, identifiers: dict[str, str], event: dict[str, Any], profile: dict[str, Any], now: datetime
    ) -> None:
        if rules.is_dropped(identifiers):
            self.dropped.append(event.get("unique_id") or "")
            return
        id_, _ = self._upsert(identifiers, profile, now, told=False)
        at = rules.event_time(event, now)
        unique_id = event.get("unique_id") or at.isoformat()
        key = (id_, _metric(event), unique_id)
        if key in self._keys:
            return
        ignored = (0, None, "")
        properties = {
            name: value
            for name, value in event["properties"].items()
            if isinstance(value, bool) or not any(value == nothing for nothing in ignored)
        }
        told = (event.get("value"), event.get("value_currency"), bool(event.get("backfill")))
        self._keys[key] = Event(id_, _metric(event), unique_id, at, properties, *told)
        self.events.append(self._keys[key])

    def _upsert(
        self, identifiers: dict[str, str], attributes: dict[str, Any], now: datetime, *, told: bool = True
    ) -> tuple[str, bool]:
        if told and rules.is_dropped(identifiers):
            self.dropped.append(identifiers["email"])
            return "dropped", True
        found = self.find(identifiers)
        id_ = found or f"01K{next(self._numbers):023}"
        profile = self.profiles.setdefault(id_, {"created": now.isoformat(), "properties": {}})
        profile["updated"] = now.isoformat()
        for name, value in attributes.items():
            if name == "properties":
                profile["properties"] |= value or {}
            elif name not in ("email", "phone_number") or name in identifiers:
                profile[name] = value
        self._known |= {(name, value.lower()): id_ for name, value in identifiers.items() if name != "id"}
        if told:
            self.profile_writes.append(id_)
        return id_, found is None

    def _profile(self, id_: str) -> dict[str, Any]:
        attributes = self.profiles.get(id_, {})
        return {"type": "profile", "id": id_, "attributes": attributes, "links": {"self": f"/api/profiles/{id_}"}}

    def _job(self, id_: str, status: str) -> dict[str, Any]:
        job = self._jobs[id_]
        failed = len(job["errors"])
        attributes = {"status": status, "created_at": job["created_at"], "total_count": job["total_count"]}
        if status == "complete":
            attributes |= {"completed_count": job["total_count"] - failed, "failed_count": failed}
        links = {"self": f"/api/profile-bulk-import-jobs/{id_}"}
        return {"type": "profile-bulk-import-job", "id": id_, "attributes": attributes, "links": links}


class Misbehaving:
    """The account over HTTP, with what it was told to do wrong."""

    def __init__(self, account: Klaviyo) -> None:
        self._account = account
        routes = {
            ("POST", "/api/events"): "create_event",
            ("POST", "/api/event-bulk-create-jobs"): "bulk_create_events",
            ("POST", "/api/profile-import"): "create_or_update_profile",
            ("POST", "/api/profile-bulk-import-jobs"): "bulk_import_profiles",
            ("GET", "/api/profile-bulk-import-jobs/{id}"): "get_bulk_import_profiles_job",
            ("GET", "/api/profile-bulk-import-jobs/{id}/import-errors"): "get_errors_for_bulk_import_profiles_job",
            ("GET", "/api/metrics"): "get_metrics",
            ("GET", "/api/accounts"): "get_accounts",
            ("POST", "/api/data-privacy-deletion-jobs"): "request_profile_deletion",
        }
        self._operations = {pair: name for pair, name in routes.items() if "{" not in pair[1]}
        self._app = Starlette(
            routes=[Route(path, account.endpoint(name), methods=[method]) for (method, path), name in routes.items()]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        account = self._account
        operation = self._operations.get((scope["method"], scope["path"].rstrip("/")), scope["path"])
        fault = account.faults.pop(0) if account.faults else account.misbehave(operation)
        size, status = 0, 0

        async def heard() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return message

        async def said(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            if fault is None or fault.kind is not Kind.RESET_AFTER:
                await send(message)

        try:
            await self._answer(fault, operation, (scope, heard, said))
        finally:
            account.asked.append(Asked(operation, time.time(), size, status, fault.kind if fault else None))
            if fault is not None and fault.kind in (Kind.RESET_BEFORE, Kind.RESET_AFTER):
                send.__self__.transport.abort()  # type: ignore[attr-defined]

    async def _answer(self, fault: Fault | None, operation: str, call: tuple[Scope, Receive, Send]) -> None:
        receive = call[1]
        while fault is not None and fault.kind in (Kind.RESET_BEFORE, Kind.HTML, Kind.ERROR, Kind.RATE_LIMIT):
            if not (await receive()).get("more_body"):
                break
        if fault is None or fault.kind in (Kind.SLOW, Kind.HANG, Kind.RESET_AFTER):
            await asyncio.sleep(fault.seconds if fault and fault.kind is not Kind.RESET_AFTER else 0)
            await self._app(*call)
        elif fault.kind is Kind.HTML:
            page = "<html><body><h1>Error</h1>The edge could not reach the origin.</body></html>"
            await HTMLResponse(page, fault.status)(*call)
        elif fault.kind is Kind.ERROR:
            await _refused(fault.status, "error", "A server error occurred.")(*call)
        elif fault.kind is Kind.RATE_LIMIT:
            await self._account.too_many(operation, fault.seconds)(*call)


@contextlib.asynccontextmanager
async def listening(account: Klaviyo, port: int = 0) -> AsyncIterator[str]:
    """The account's address, for as long as the context is open."""
    config = uvicorn.Config(
        Misbehaving(account), host="127.0.0.1", port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def at_random(chance: random.Random, share: float, *faults: Fault) -> Callable[[str], Fault | None]:
    """Misbehave at that share of the requests."""
    return lambda _: chance.choice(faults) if chance.random() < share else None


def _metric(event: dict[str, Any]) -> str:
    return str(event["metric"]["data"]["attributes"]["name"])


def _refused(status: int, code: str, detail: str, pointer: str | None = None) -> Response:
    source = {} if pointer is None else {"pointer": pointer}
    error = {"id": str(uuid.uuid4()), "status": status, "code": code, "title": "Refused.", "detail": detail}
    return JSONResponse({"errors": [{**error, "source": source, "meta": {}}]}, status_code=status)
