"""The stand-in for Klaviyo speaks as Klaviyo does: the official SDK drives it, and reads its answers."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from klaviyo_api import KlaviyoAPI
from klaviyo_stand_in import KEY, Fault, Kind, Klaviyo, listening
from openapi_client.exceptions import ApiException


class Sdk:
    """The official SDK, whose calls block, in a thread."""

    def __init__(self, url: str, attempts: int = 1) -> None:
        self._api = KlaviyoAPI(KEY, max_delay=1, max_retries=attempts, test_host=url)

    async def __call__(self, path: str, *arguments: Any) -> Any:
        group, name = path.split(".")
        return await asyncio.to_thread(getattr(getattr(self._api, group), name), *arguments)


@pytest.fixture
async def account() -> Klaviyo:
    return Klaviyo()


@pytest.fixture
async def url(account: Klaviyo) -> AsyncIterator[str]:
    async with listening(account) as address:
        yield address


@pytest.fixture
def sdk(url: str) -> Sdk:
    return Sdk(url)


def event(email: str = "ada@shop.example", metric: str = "Created Ticket", **attributes: Any) -> dict[str, Any]:
    return {
        "data": {"type": "event", "attributes": event_attributes(metric, **attributes) | {"profile": person(email)}}
    }


def event_attributes(metric: str = "Created Ticket", **attributes: Any) -> dict[str, Any]:
    named = {"data": {"type": "metric", "attributes": {"name": metric}}}
    return {"properties": {"Ticket ID": "1"}, "metric": named, "unique_id": "one"} | attributes


def person(email: str) -> dict[str, Any]:
    return {"data": {"type": "profile", "attributes": {"email": email}}}


def bulk(*groups: tuple[str, list[dict[str, Any]]]) -> dict[str, Any]:
    rows = [
        {
            "type": "event-bulk-create",
            "attributes": {
                "profile": person(email),
                "events": {"data": [{"type": "event", "attributes": attributes} for attributes in several]},
            },
        }
        for email, several in groups
    ]
    return {"data": {"type": "event-bulk-create-job", "attributes": {"events-bulk-create": {"data": rows}}}}


def profile(**attributes: Any) -> dict[str, Any]:
    return {"data": {"type": "profile", "attributes": attributes}}


async def post(url: str, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    given = {
        "authorization": f"Klaviyo-API-Key {KEY}",
        "revision": "2026-10-15",
        "content-type": "application/vnd.api+json",
    }
    async with httpx.AsyncClient() as http:
        return await http.post(f"{url}/api/{path}", json=body, headers=given | headers)


async def test_the_sdk_sends_events_one_by_one_and_in_bulk(account: Klaviyo, sdk: Sdk) -> None:
    at = "2026-11-25T10:00:00.900+00:00"
    await sdk("Events.create_event", event(time=at, value=9.5, value_currency="USD"))
    await sdk("Events.create_event", event(time=at))
    await sdk(
        "Events.bulk_create_events", bulk(("ada@shop.example", [event_attributes(unique_id="two", backfill=True)]))
    )
    first, second = account.of("ada@shop.example")
    assert (first.metric, first.unique_id, first.time) == (
        "Created Ticket",
        "one",
        datetime(2026, 11, 25, 10, tzinfo=UTC),
    )
    assert (first.value, first.value_currency, first.backfill) == (9.5, "USD", False)
    assert (second.unique_id, second.backfill) == ("two", True)


async def test_the_sdk_reads_what_became_of_profiles(account: Klaviyo, sdk: Sdk) -> None:
    made = await sdk("Profiles.create_or_update_profile", profile(email="ada@shop.example", properties={"a": 1}))
    same = await sdk("Profiles.create_or_update_profile", profile(email="ADA@shop.example", properties={"b": 2}))
    assert made.data.id == same.data.id
    assert account.profiles[made.data.id]["properties"] == {"a": 1, "b": 2}
    assert [one.status for one in account.requests("create_or_update_profile")] == [201, 200]


async def test_the_sdk_reads_jobs_and_their_errors(account: Klaviyo, sdk: Sdk) -> None:
    rows = [profile(email="a@shop.example")["data"], profile(first_name="Nobody")["data"]]
    body = {"data": {"type": "profile-bulk-import-job", "attributes": {"profiles": {"data": rows}}}}
    job = await sdk("Profiles.bulk_import_profiles", body)
    assert (job.data.attributes.status, job.data.attributes.total_count) == ("queued", 2)
    done = await sdk("Profiles.get_bulk_import_profiles_job", job.data.id)
    assert (done.data.attributes.completed_count, done.data.attributes.failed_count) == (1, 1)
    errors = await sdk("Profiles.get_errors_for_bulk_import_profiles_job", job.data.id)
    assert [row.attributes.source.pointer for row in errors.data] == ["/data/attributes/profiles/data/1"]


async def test_the_sdk_reads_the_account_and_its_metrics_and_asks_for_erasure(account: Klaviyo, sdk: Sdk) -> None:
    await sdk("Events.create_event", event())
    accounts = await sdk("Accounts.get_accounts")
    assert accounts.data[0].attributes.contact_information.organization_name == "The Shop"
    assert [row.attributes.name for row in (await sdk("Metrics.get_metrics")).data] == ["Created Ticket"]
    asked = {"type": "data-privacy-deletion-job", "attributes": {"profile": person("ada@shop.example")}}
    await sdk("Data_Privacy.request_profile_deletion", {"data": asked})
    assert account.deletions == [{"email": "ada@shop.example"}]
    assert (account.events, account.profiles) == ([], {})


async def test_the_sdk_meets_errors_that_it_understands(account: Klaviyo, url: str) -> None:
    account.faults = [Fault(Kind.RATE_LIMIT, seconds=1)]
    began = time.monotonic()
    await Sdk(url, attempts=3)("Events.create_event", event())
    assert time.monotonic() - began >= 1
    assert [one.status for one in account.requests("create_event")] == [429, 202]
    assert account.too_early == []
    account.revoked = True
    with pytest.raises(ApiException) as refused:
        await Sdk(url)("Events.create_event", event())
    assert refused.value.status == 401


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"uniqueid": "typo"}, "/data/attributes"),
        ({"time": "yesterday"}, "/data/attributes/time"),
        ({"time": "1980-01-01T00:00:00+00:00"}, "/data/attributes/time"),
        ({"value": "9.99"}, "/data/attributes/value"),
        ({"unique_id": "x" * 256}, "/data/attributes/unique_id"),
        ({"properties": {str(number): 1 for number in range(401)}}, "/data/attributes/properties"),
        ({"properties": {"a": "x" * 100_001}}, "/data/attributes/properties/a"),
        ({"properties": {"a": [0] * 4001}}, "/data/attributes/properties/a"),
        ({"profile": person("nobody")}, "/data/attributes/profile/data/attributes/email"),
        (
            {"profile": {"data": {"type": "profile", "attributes": {"phone_number": "0151"}}}},
            "/data/attributes/profile/data/attributes/phone_number",
        ),
        ({"profile": {"data": {"type": "profile", "attributes": {}}}}, "/data/attributes/profile/data"),
        ({"profile": profile(email="a@shop.example") | {"meta": {}}}, "/data/attributes/profile"),
    ],
)
async def test_bodies_are_refused_to_the_letter(
    account: Klaviyo, url: str, changed: dict[str, Any], pointer: str
) -> None:
    body = event()
    body["data"]["attributes"] |= changed
    answer = await post(url, "events", body)
    assert (answer.status_code, answer.json()["errors"][0]["source"]) == (400, {"pointer": pointer})
    assert account.events == []


async def test_headers_are_asked_for(url: str) -> None:
    for headers, status in (
        ({"authorization": "Klaviyo-API-Key pk_other"}, 401),
        ({"revision": "2024-01-01"}, 410),
        ({"content-type": "application/json"}, 415),
    ):
        assert (await post(url, "events", event(), **headers)).status_code == status


async def test_a_bulk_is_all_or_nothing_and_points_at_the_bad_item(account: Klaviyo, url: str) -> None:
    good, bad = event_attributes(unique_id="good"), event_attributes(unique_id="bad", time="1980-01-01T00:00:00Z")
    answer = await post(
        url, "event-bulk-create-jobs", bulk(("a@shop.example", [good]), ("b@shop.example", [good, bad]))
    )
    assert answer.json()["errors"][0]["source"]["pointer"] == (
        "/data/attributes/events-bulk-create/data/1/attributes/events/data/1/attributes/time"
    )
    assert (answer.status_code, account.events) == (400, [])
    twice = await post(url, "event-bulk-create-jobs", bulk(("a@shop.example", [good, good])))
    assert (twice.status_code, account.events) == (400, [])
    assert (await post(url, "event-bulk-create-jobs", bulk(("a@shop.example", [good])))).status_code == 202
    assert len(account.events) == 1


async def test_what_klaviyo_drops_in_silence_is_dropped(account: Klaviyo, url: str) -> None:
    assert (await post(url, "events", event("ada@example.com"))).status_code == 202
    told = {"a": 0, "b": None, "c": "", "d": False, "e": "kept"}
    await post(url, "events", event(properties=told))
    assert account.dropped == ["one"]
    assert [one.properties for one in account.events] == [{"d": False, "e": "kept"}]


async def test_profiles_are_found_by_their_strongest_identifier(account: Klaviyo, url: str) -> None:
    first = (await post(url, "profile-import", profile(email="a@shop.example"))).json()["data"]["id"]
    other = (await post(url, "profile-import", profile(phone_number="+15005550006"))).json()["data"]["id"]
    both = (await post(url, "profile-import", profile(email="a@shop.example", phone_number="+15005550006"))).json()
    assert both["data"]["id"] == first != other


async def test_windows_are_kept_and_told(url: str, account: Klaviyo) -> None:
    account.limits["create_event"] = (2, 100)
    account.windows = (3600.0, 7200.0)
    taken = [await post(url, "events", event(unique_id=str(number))) for number in range(3)]
    assert [answer.status_code for answer in taken] == [202, 202, 429]
    assert [answer.headers.get("ratelimit-remaining") for answer in taken] == ["99", "98", None]
    assert 1 <= int(taken[2].headers["retry-after"]) <= 3600
    await post(url, "events", event(unique_id="4"))
    assert account.too_early == []
    account._closed_at["create_event"] -= 2
    await post(url, "events", event(unique_id="5"))
    assert account.too_early == ["create_event"]


async def test_it_misbehaves_as_it_is_told(account: Klaviyo, url: str) -> None:
    account.faults = [Fault(Kind.RESET_BEFORE)]
    with pytest.raises(httpx.TransportError):
        await post(url, "events", event())
    assert account.events == []
    account.faults = [Fault(Kind.RESET_AFTER)]
    with pytest.raises(httpx.TransportError):
        await post(url, "events", event())
    assert len(account.events) == 1
    account.faults = [Fault(Kind.HTML, 403), Fault(Kind.ERROR, 500), Fault(Kind.RATE_LIMIT, seconds=7)]
    answers = [await post(url, "events", event(unique_id="two")) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [403, 500, 429]
    assert answers[0].headers["content-type"].startswith("text/html")
    assert answers[2].headers["retry-after"] == "7"
    account.faults = [Fault(Kind.SLOW, seconds=0.2)]
    began = time.monotonic()
    await post(url, "profile-import", profile(email="a@shop.example"))
    assert time.monotonic() - began >= 0.2
    assert len(account.events) == 1
