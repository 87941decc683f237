"""The client meets every way in which Klaviyo answers, or does not."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from klaviyo_stand_in import KEY, Fault, Kind, Klaviyo, listening

from gateway.core.clock import system_clock
from gateway.destinations.klaviyo import client as clients
from gateway.destinations.klaviyo.client import (
    BULK_CREATE_EVENTS,
    CREATE_EVENT,
    GET_ACCOUNTS,
    UPSERT_PROFILE,
    KlaviyoClient,
    open_http_client,
)
from gateway.destinations.klaviyo.responses import Outcome, Quota, Response, classify

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def event(email: str = "ada@shop.example", unique_id: str = "one") -> dict[str, Any]:
    person = {"data": {"type": "profile", "attributes": {"email": email}}}
    metric = {"data": {"type": "metric", "attributes": {"name": "Created Ticket"}}}
    attributes = {"properties": {}, "unique_id": unique_id, "metric": metric, "profile": person}
    return {"data": {"type": "event", "attributes": attributes}}


def profile(**attributes: Any) -> dict[str, Any]:
    return {"data": {"type": "profile", "attributes": attributes}}


@pytest.fixture
async def account() -> Klaviyo:
    return Klaviyo()


@pytest.fixture
async def client(account: Klaviyo) -> AsyncIterator[KlaviyoClient]:
    async with listening(account) as url, open_http_client() as http:
        yield KlaviyoClient(http, url, KEY, system_clock)


async def test_what_is_taken_is_done(client: KlaviyoClient, account: Klaviyo) -> None:
    answer = await client.send(CREATE_EVENT, event())
    assert (answer.outcome, answer.status, answer.error) == (Outcome.DONE, 202, None)
    assert answer.quota is not None
    assert (answer.quota.limit, answer.quota.remaining) == (3500, 3499)
    made = await client.send(UPSERT_PROFILE, profile(email="ada@shop.example"))
    assert (made.outcome, made.profile_id) == (Outcome.DONE, next(iter(account.profiles)))
    assert (await client.send(GET_ACCOUNTS)).body["data"][0]["id"] == "AbC123"


async def test_what_is_refused_is_bad_and_pointed_at(client: KlaviyoClient) -> None:
    answer = await client.send(UPSERT_PROFILE, profile(email="nobody"))
    assert (answer.outcome, answer.status, answer.pointer) == (Outcome.BAD, 400, "/data/attributes/email")
    assert answer.error == "Klaviyo responded 400: Invalid email address"


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [
        (Fault(Kind.RATE_LIMIT, seconds=7), 429, 7),
        (Fault(Kind.ERROR, 500), 500, None),
        (Fault(Kind.ERROR, 524), 524, None),
        (Fault(Kind.HTML, 502), 502, None),
        (Fault(Kind.HTML, 403), 403, None),
        (Fault(Kind.RESET_BEFORE), None, None),
        (Fault(Kind.RESET_AFTER), None, None),
    ],
)
async def test_what_may_pass_is_tried_again(
    client: KlaviyoClient, account: Klaviyo, fault: Fault, status: int | None, retry_after: int | None
) -> None:
    account.faults = [fault]
    answer = await client.send(CREATE_EVENT, event())
    assert (answer.outcome, answer.status, answer.retry_after) == (Outcome.RETRY, status, retry_after)
    assert answer.error is not None
    assert answer.error.startswith("Klaviyo ")


async def test_nobody_waits_for_ever(client: KlaviyoClient, account: Klaviyo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PATIENCE_SECONDS", 0.2)
    account.faults = [Fault(Kind.HANG, seconds=1)]
    answer = await client.send(CREATE_EVENT, event())
    assert (answer.outcome, answer.status) == (Outcome.RETRY, None)
    assert answer.error == "Klaviyo gave no response within 0.2 seconds."
    assert 200 <= answer.duration_ms < 1000


async def test_nobody_there_is_tried_again(free_port: Any) -> None:
    async with open_http_client() as http:
        answer = await KlaviyoClient(http, f"http://127.0.0.1:{free_port()}", KEY, system_clock).send(GET_ACCOUNTS)
    assert (answer.outcome, answer.error) == (Outcome.RETRY, "Klaviyo gave no response (ConnectError).")


async def test_a_wrong_key_scope_or_revision_pauses(client: KlaviyoClient, account: Klaviyo) -> None:
    account.scopes_missing = frozenset({"create_event"})
    assert (await client.send(CREATE_EVENT, event())).outcome is Outcome.PAUSE
    account.scopes_missing, account.retired = frozenset(), True
    gone = await client.send(CREATE_EVENT, event())
    assert (gone.outcome, gone.error) == (Outcome.PAUSE, "Klaviyo responded 410: This revision is retired.")
    account.revoked = True
    answer = await client.send(CREATE_EVENT, event())
    assert (answer.outcome, answer.status) == (Outcome.PAUSE, 401)


async def test_no_error_tells_the_key() -> None:
    def repeats(request: httpx.Request) -> httpx.Response:
        detail = f"The key {request.headers['authorization']} is unknown."
        return httpx.Response(401, json={"errors": [{"detail": detail}]})

    async with httpx.AsyncClient(transport=httpx.MockTransport(repeats)) as http:
        answer = await KlaviyoClient(http, "http://klaviyo", KEY, system_clock).send(GET_ACCOUNTS)
    assert answer.error == "Klaviyo responded 401: The key Klaviyo-API-Key *** is unknown."


async def test_a_bulk_names_the_bad_item(client: KlaviyoClient) -> None:
    group = event("nobody")["data"]["attributes"]
    rows = [
        {
            "type": "event-bulk-create",
            "attributes": {
                "profile": group["profile"],
                "events": {"data": [{"type": "event", "attributes": {"properties": {}, "metric": group["metric"]}}]},
            },
        }
    ]
    body = {"data": {"type": "event-bulk-create-job", "attributes": {"events-bulk-create": {"data": rows}}}}
    answer = await client.send(BULK_CREATE_EVENTS, body)
    assert (answer.outcome, answer.item) == (Outcome.BAD, (0, None))


@pytest.mark.parametrize(
    ("status", "content", "verdict"),
    [
        (404, b'{"errors": [{"title": "Not found."}]}', Outcome.BAD),
        (409, b'{"errors": [{"code": "duplicate_profile"}]}', Outcome.BAD),
        (404, b"<html>", Outcome.RETRY),
        (413, b"<html>", Outcome.TOO_LARGE),
        (302, b"", Outcome.RETRY),
        (408, b"{}", Outcome.RETRY),
        (400, b"[]", Outcome.RETRY),
        (400, b'{"errors": []}', Outcome.BAD),
        (400, b'{"errors": ["text"]}', Outcome.BAD),
        (400, b'{"errors": [{"detail": 7, "source": "text"}]}', Outcome.BAD),
    ],
)
def test_every_status_means_something(status: int, content: bytes, verdict: Outcome) -> None:
    assert classify(status, {}, content, NOW, 1).outcome is verdict


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        ("30", 30),
        ("0", 1),
        ("999999999", 86_400),
        ("Wed, 25 Nov 2026 12:00:30 GMT", 31),
        ("Wed, 25 Nov 2026 11:00:00 GMT", 1),
        ("soon", None),
        ("-5", None),
    ],
)
def test_retry_after_is_read_in_every_form(sent: str, seconds: int | None) -> None:
    assert classify(429, {"retry-after": sent}, b"", NOW, 1).retry_after == seconds


def test_an_item_and_a_quota_are_read_where_they_are_told() -> None:
    answer = Response(Outcome.BAD, pointer="/data/attributes/events-bulk-create/data/3/attributes/events/data/12/time")
    assert answer.item == (3, 12)
    assert Response(Outcome.BAD, pointer="/data").item is None
    headers = {"ratelimit-limit": "150, 10;w=1, 150;w=60", "ratelimit-remaining": "0", "ratelimit-reset": "12"}
    assert classify(202, headers, b"", NOW, 1).quota == Quota(150, 0, 12)
