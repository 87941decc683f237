"""Tracking over HTTP: events, their contacts, their summaries, and what is refused."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.core.clock import system_clock
from gateway.core.principals import Scope

CONTACT = "id role externalId email anonymousIds lastSeenAt"
ERRORS = "userErrors { code message path }"
TRACK = f"""mutation($i: TrackEventInput!) {{ trackEvent(input: $i) {{ duplicate {ERRORS}
  event {{ id name occurredAt receivedAt metadataJson contact {{ {CONTACT} }} }} summary {{ id name count firstAt lastAt }} }} }}"""
MANY = f"mutation($e: [TrackEventInput!]!) {{ trackEvents(input: {{events: $e}}) {{ accepted duplicates rejected results {{ index eventId duplicate error {{ code message path }} }} {ERRORS} }} }}"
IMPORT = f"mutation($i: ImportEventSummariesInput!) {{ importEventSummaries(input: $i) {{ summaries {{ id name count firstAt lastAt }} {ERRORS} }} }}"
DESCRIBE = f"mutation($i: DescribeEventInput!) {{ describeEvent(input: $i) {{ definition {{ id name description archived }} {ERRORS} }} }}"
UPSERT = (
    f"mutation($i: UpsertContactInput!) {{ upsertContact(input: $i) {{ contact {{ {CONTACT} }} created {ERRORS} }} }}"
)
WHO = f"query($by: ContactKey!) {{ contact(by: $by) {{ {CONTACT} eventSummaries(first: 100) {{ nodes {{ name count firstAt lastAt }} }} }} }}"
STORED = ("events", "contacts", "event_summaries", "event_definitions", "changes", "idempotency_keys")


def told(at: datetime) -> str:
    return at.replace(microsecond=at.microsecond // 1000 * 1000).isoformat().replace("+00:00", "Z")


async def track(workspace: Any, key: str | None = None, **event: Any) -> Any:
    return (await workspace.data(TRACK, {"i": {"contact": {"externalId": "u"}, "name": "did", **event}}, key=key))[
        "trackEvent"
    ]


async def track_many(workspace: Any, *events: dict[str, Any]) -> Any:
    return (
        await workspace.data(
            MANY, {"e": [{"contact": {"externalId": "u"}, "name": "did", **event} for event in events]}
        )
    )["trackEvents"]


async def upsert(workspace: Any, **contact: Any) -> Any:
    found = (await workspace.data(UPSERT, {"i": contact}))["upsertContact"]
    assert found["userErrors"] == []
    return found["contact"]


async def who(workspace: Any, **by: str) -> Any:
    return (await workspace.data(WHO, {"by": by}))["contact"]


async def stored(workspace: Any) -> dict[str, int]:
    database = workspace.gateway.runtime.database
    return {name: await database.count(name, {"workspace_id": workspace.id}) for name in STORED}


def problem(found: Any) -> tuple[str, list[str]]:
    (error,) = found["userErrors"]
    return error["code"], error["path"]


# ---- trackEvent and trackEvents ---------------------------------------------------------------------------------


async def test_an_event_comes_back_with_its_contact_and_its_summary(workspace: Any) -> None:
    at = told(system_clock() - timedelta(hours=1))
    found = await track(workspace, occurredAt=at, metadata={"a": 1})
    assert found["userErrors"] == []
    assert found["duplicate"] is False
    event, summary = found["event"], found["summary"]
    assert (event["name"], event["occurredAt"], event["metadataJson"]) == ("did", at, {"a": 1})
    assert (event["contact"]["externalId"], event["contact"]["role"], event["contact"]["lastSeenAt"]) == (
        "u",
        "USER",
        at,
    )
    assert (summary["name"], summary["count"], summary["firstAt"], summary["lastAt"]) == ("did", 1, at, at)
    assert await stored(workspace) == {
        "events": 1,
        "contacts": 1,
        "event_summaries": 1,
        "event_definitions": 1,
        "changes": 1,
        "idempotency_keys": 0,
    }


async def test_omitted_occurred_at_is_the_moment_of_receiving(workspace: Any) -> None:
    event = (await track(workspace))["event"]
    assert event["occurredAt"] == event["receivedAt"]
    event = (await track(workspace, occurredAt=None, metadata=None, idempotencyKey=None, countsAsSeen=None))["event"]
    assert event["occurredAt"] == event["receivedAt"] == event["contact"]["lastSeenAt"]
    assert event["metadataJson"] == {}


async def test_results_stand_in_the_order_sent_and_a_bad_item_spoils_no_neighbour(workspace: Any) -> None:
    found = await track_many(
        workspace,
        {"name": "one"},
        {"name": "  "},
        {"name": "two", "contact": {"id": "con_nobody"}},
        {"name": "three", "occurredAt": "2001-01-01T00:00:00Z"},
        {"name": "four", "contact": {}},
        {"name": "five", "contact": {"email": "nonsense"}},
        {"name": "six", "metadata": {"a.b": 1}},
        {"name": "seven", "idempotencyKey": ""},
        {"name": "eight"},
    )
    assert (found["accepted"], found["duplicates"], found["rejected"], found["userErrors"]) == (2, 0, 7, [])
    assert [result["index"] for result in found["results"]] == list(range(9))
    assert [bool(result["eventId"]) for result in found["results"]] == [True, *[False] * 7, True]
    at = ["input", "events"]
    assert [result["error"] and (result["error"]["code"], result["error"]["path"]) for result in found["results"]] == [
        None,
        ("INVALID", [*at, "1", "name"]),
        ("NOT_FOUND", [*at, "2", "contact", "id"]),
        ("INVALID", [*at, "3", "occurredAt"]),
        ("INVALID", [*at, "4", "contact"]),
        ("INVALID", [*at, "5", "contact", "email"]),
        ("INVALID", [*at, "6", "metadata", "a.b"]),
        ("INVALID", [*at, "7", "idempotencyKey"]),
        None,
    ]
    assert await stored(workspace) == {
        "events": 2,
        "contacts": 1,
        "event_summaries": 2,
        "event_definitions": 2,
        "changes": 1,
        "idempotency_keys": 0,
    }


async def test_many_events_of_many_contacts_are_counted_exactly(workspace: Any) -> None:
    found = await track_many(
        workspace,
        *({"contact": {"externalId": f"u{number % 4}"}, "name": f"did {number % 3}"} for number in range(120)),
    )
    assert (found["accepted"], len({result["eventId"] for result in found["results"]})) == (120, 120)
    for number in range(4):
        summaries = (await who(workspace, externalId=f"u{number}"))["eventSummaries"]["nodes"]
        assert [(row["name"], row["count"]) for row in summaries] == [("did 0", 10), ("did 1", 10), ("did 2", 10)]


@pytest.mark.parametrize("count", [0, 1001])
async def test_too_few_or_too_many_are_refused_as_a_whole(workspace: Any, count: int) -> None:
    before = await stored(workspace)
    found = await track_many(workspace, *[{}] * count)
    assert problem(found) == ("LIMIT_EXCEEDED", ["input", "events"])
    assert (found["accepted"], found["duplicates"], found["rejected"], found["results"]) == (0, 0, 0, [])
    assert await stored(workspace) == before


async def test_a_thousand_are_taken(workspace: Any) -> None:
    assert (await track_many(workspace, *[{}] * 1000))["accepted"] == 1000
    assert (await who(workspace, externalId="u"))["eventSummaries"]["nodes"][0]["count"] == 1000


# ---- idempotency ------------------------------------------------------------------------------------------------


async def test_the_same_key_and_input_gives_the_first_result_again(workspace: Any) -> None:
    sent = {"idempotencyKey": "k", "metadata": {"a": 1, "b": [2]}}
    first = await track(workspace, **sent)
    again = await track(workspace, **{**sent, "metadata": {"b": [2], "a": 1}})
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert again["event"] == first["event"]
    assert again["summary"] == first["summary"]
    assert again["userErrors"] == []
    assert (await stored(workspace))["events"] == 1


@pytest.mark.parametrize(
    "other",
    [
        {"name": "did else"},
        {"metadata": {"a": 2}},
        {"occurredAt": told(system_clock())},
        {"contact": {"externalId": "v"}},
        {"contact": {"externalId": "u", "email": "u@example.com"}},
        {"countsAsSeen": False},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_the_same_key_with_another_input_is_told(workspace: Any, other: dict[str, Any]) -> None:
    await track(workspace, idempotencyKey="k", metadata={"a": 1})
    before = await stored(workspace)
    found = await track(workspace, **{"idempotencyKey": "k", "metadata": {"a": 1}, **other})
    assert problem(found) == ("IDEMPOTENCY_KEY_REUSED", ["input", "idempotencyKey"])
    assert found["event"] is None
    assert await stored(workspace) == before
    results = (
        await track_many(
            workspace,
            {"idempotencyKey": "k", "metadata": {"a": 1}, **other},
            {"idempotencyKey": "k", "metadata": {"a": 1}},
        )
    )["results"]
    assert [result["error"] and (result["error"]["code"], result["error"]["path"]) for result in results] == [
        ("IDEMPOTENCY_KEY_REUSED", ["input", "events", "0", "idempotencyKey"]),
        None,
    ]
    assert [result["duplicate"] for result in results] == [False, True]


async def test_a_key_given_occurred_at_is_another_input_than_without(workspace: Any) -> None:
    first = await track(workspace, idempotencyKey="k")
    found = await track(workspace, idempotencyKey="k", occurredAt=first["event"]["occurredAt"])
    assert problem(found) == ("IDEMPOTENCY_KEY_REUSED", ["input", "idempotencyKey"])
    at = told(system_clock() - timedelta(days=1))
    await track(workspace, idempotencyKey="l", occurredAt=at)
    assert problem(await track(workspace, idempotencyKey="l")) == (
        "IDEMPOTENCY_KEY_REUSED",
        ["input", "idempotencyKey"],
    )
    assert (await track(workspace, idempotencyKey="l", occurredAt=at))["duplicate"] is True


async def test_twice_in_one_batch_the_second_is_the_duplicate(workspace: Any) -> None:
    found = await track_many(
        workspace,
        {"idempotencyKey": "k"},
        {"idempotencyKey": "k"},
        {"idempotencyKey": "k", "name": "else"},
        {"idempotencyKey": "l"},
    )
    assert (found["accepted"], found["duplicates"], found["rejected"]) == (2, 1, 1)
    one, two, three, four = found["results"]
    assert [result["duplicate"] for result in found["results"]] == [False, True, False, False]
    assert one["eventId"] == two["eventId"] != four["eventId"]
    assert three["error"]["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert [
        (row["name"], row["count"]) for row in (await who(workspace, externalId="u"))["eventSummaries"]["nodes"]
    ] == [("did", 2)]


async def test_an_events_key_holds_across_both_mutations_and_for_ever(open_gateway: Any, clock: Any) -> None:
    async with open_gateway(clock=clock) as gateway:
        workspace = await gateway.workspace()
        first = await track(workspace, idempotencyKey="k")
        clock.ahead = timedelta(days=1000)
        (again,) = (await track_many(workspace, {"idempotencyKey": "k"}))["results"]
        assert again == {"index": 0, "eventId": first["event"]["id"], "duplicate": True, "error": None}


async def test_without_a_key_each_call_counts(workspace: Any) -> None:
    events = [await track(workspace) for _ in range(3)]
    assert [found["summary"]["count"] for found in events] == [1, 2, 3]


async def test_the_same_key_at_the_same_moment_counts_once(workspace: Any) -> None:
    found = await asyncio.gather(*(track(workspace, idempotencyKey="k") for _ in range(8)))
    assert len({each["event"]["id"] for each in found}) == 1
    assert sorted(each["duplicate"] for each in found) == [False] + [True] * 7
    assert (await track(workspace, idempotencyKey="k"))["summary"]["count"] == 1


# ---- times ------------------------------------------------------------------------------------------------------


async def test_occurred_at_may_lie_ten_years_back_and_five_minutes_ahead(open_gateway: Any) -> None:
    now = system_clock()
    async with open_gateway(clock=lambda: now) as gateway:
        workspace = await gateway.workspace()
        millisecond = timedelta(milliseconds=1)
        for at in (now + timedelta(minutes=5), now - timedelta(days=3652)):
            found = await track(workspace, occurredAt=told(at))
            assert found["userErrors"] == []
            assert found["event"]["occurredAt"] == told(at)
        before = await stored(workspace)
        for at in (
            now + timedelta(minutes=5) + millisecond,
            now - timedelta(days=3653),
            now.replace(year=9999),
            now.replace(year=1, day=2),
        ):
            found = await track(workspace, occurredAt=told(at))
            assert problem(found) == ("INVALID", ["input", "occurredAt"])
            assert found["event"] is None
        assert await stored(workspace) == before


@pytest.mark.parametrize(("fraction", "kept"), [("", ""), (".123", ".123000"), (".123999", ".123000"), (".000000", "")])
async def test_milliseconds_are_kept_and_offsets_become_utc(workspace: Any, fraction: str, kept: str) -> None:
    day = (system_clock() - timedelta(days=2)).date().isoformat()
    event = (await track(workspace, occurredAt=f"{day}T13:30:07{fraction}+01:30"))["event"]
    assert event["occurredAt"] == f"{day}T12:00:07{kept}Z"
    assert (await workspace.data("query($id: ID!) { event(id: $id) { occurredAt } }", {"id": event["id"]}))["event"][
        "occurredAt"
    ] == event["occurredAt"]


async def test_the_order_of_ids_is_the_order_of_occurring(workspace: Any) -> None:
    now = system_clock()
    times = [now - timedelta(days=days) for days in (3, 1, 2, 0, 1000)]
    results = (await track_many(workspace, *({"occurredAt": told(at)} for at in times)))["results"]
    ids = dict(zip(times, (result["eventId"] for result in results), strict=True))
    assert [ids[at] for at in sorted(times)] == sorted(ids.values())


# ---- when a contact was seen ------------------------------------------------------------------------------------


async def test_last_seen_at_never_goes_back(workspace: Any) -> None:
    now = system_clock() - timedelta(hours=1)
    for at, seen in ((now - timedelta(days=2), now - timedelta(days=2)), (now, now), (now - timedelta(days=1), now)):
        assert (await track(workspace, occurredAt=told(at)))["event"]["contact"]["lastSeenAt"] == told(seen)
    await track_many(workspace, *({"occurredAt": told(now + timedelta(minutes=minutes))} for minutes in (3, 5, 4)))
    assert (await who(workspace, externalId="u"))["lastSeenAt"] == told(now + timedelta(minutes=5))


async def test_what_does_not_count_as_seen_leaves_last_seen_at(workspace: Any) -> None:
    assert (await track(workspace, countsAsSeen=False))["event"]["contact"]["lastSeenAt"] is None
    at = told(system_clock() - timedelta(hours=1))
    await track(workspace, occurredAt=at)
    assert (await track(workspace, countsAsSeen=False))["event"]["contact"]["lastSeenAt"] == at
    await track_many(workspace, {"countsAsSeen": False}, {"occurredAt": told(system_clock() - timedelta(hours=2))})
    assert (await who(workspace, externalId="u"))["lastSeenAt"] == at


async def test_being_seen_is_not_a_change_that_the_journal_tells(workspace: Any) -> None:
    await track(workspace)
    contact = (await workspace.data('{ contact(by: {externalId: "u"}) { updatedAt } }'))["contact"]
    await track(workspace)
    assert (await workspace.data('{ contact(by: {externalId: "u"}) { updatedAt } }'))["contact"] == contact
    assert (await stored(workspace))["changes"] == 1


# ---- who is meant -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "role"),
    [
        ({"externalId": "u"}, "USER"),
        ({"email": "Ada@Example.com"}, "LEAD"),
        ({"anonymousId": "a"}, "VISITOR"),
        ({"email": "Ada@Example.com", "anonymousId": "a"}, "LEAD"),
        ({"externalId": "u", "email": "Ada@Example.com", "anonymousId": "a"}, "USER"),
    ],
)
async def test_a_contact_nobody_knows_is_created_with_the_role_of_its_keys(
    workspace: Any, ref: dict[str, str], role: str
) -> None:
    contact = (await track(workspace, contact=ref))["event"]["contact"]
    assert contact["role"] == role
    assert (contact["externalId"], contact["email"], contact["anonymousIds"]) == (
        ref.get("externalId"),
        ref.get("email"),
        [ref["anonymousId"]] if "anonymousId" in ref else [],
    )
    assert (await track(workspace, contact=ref))["event"]["contact"]["id"] == contact["id"]
    (line,) = await workspace.gateway.runtime.database.find("changes", {"workspace_id": workspace.id})
    assert (line["kind"], line["contact_id"]) == ("CREATED", contact["id"])


async def test_a_weaker_key_that_nobody_has_is_attached_where_the_contact_lacks_it(workspace: Any) -> None:
    first = (await track(workspace, contact={"anonymousId": "a"}))["event"]["contact"]
    second = (
        await track(
            workspace, contact={"id": first["id"], "externalId": "u", "email": "u@example.com", "anonymousId": "b"}
        )
    )["event"]["contact"]
    assert second == {
        **first,
        "role": "USER",
        "externalId": "u",
        "email": "u@example.com",
        "anonymousIds": ["b", "a"],
        "lastSeenAt": second["lastSeenAt"],
    }
    for ref in ({"externalId": "u"}, {"email": "U@example.com"}, {"anonymousId": "a"}, {"anonymousId": "b"}):
        assert (await track(workspace, contact=ref))["event"]["contact"]["id"] == first["id"]
    kinds = [
        row["kind"]
        for row in await workspace.gateway.runtime.database.find(
            "changes", {"workspace_id": workspace.id}, sort={"_id": 1}
        )
    ]
    assert sorted(kinds) == ["CREATED", "UPDATED"]


async def test_a_weaker_key_that_the_contact_has_otherwise_is_left_where_it_is(workspace: Any) -> None:
    contact = await upsert(workspace, externalId="u", email="u@example.com")
    found = (await track(workspace, contact={"id": contact["id"], "externalId": "w", "email": "w@example.com"}))[
        "event"
    ]["contact"]
    assert (found["id"], found["externalId"], found["email"]) == (contact["id"], "u", "u@example.com")
    assert await who(workspace, externalId="w") is None
    assert await who(workspace, email="w@example.com") is None


async def test_a_weaker_key_that_another_has_is_left_there(workspace: Any) -> None:
    visitor = await upsert(workspace, anonymousId="a")
    lead = await upsert(workspace, email="lead@example.com")
    user = await upsert(workspace, externalId="other")
    found = (await track(workspace, contact={"externalId": "u", "email": "Lead@example.com", "anonymousId": "a"}))[
        "event"
    ]["contact"]
    assert (found["externalId"], found["email"], found["anonymousIds"]) == ("u", None, [])
    assert found["id"] not in {visitor["id"], lead["id"], user["id"]}
    found = (await track(workspace, contact={"id": visitor["id"], "externalId": "other"}))["event"]["contact"]
    assert (found["id"], found["externalId"], found["role"]) == (visitor["id"], None, "VISITOR")
    assert (await who(workspace, externalId="other"))["id"] == user["id"]


async def test_the_strongest_key_decides(workspace: Any) -> None:
    one = await upsert(workspace, externalId="one", email="one@example.com", anonymousId="a1")
    two = await upsert(workspace, externalId="two", email="two@example.com", anonymousId="a2")
    for ref, meant in (
        ({"id": one["id"], "externalId": "two", "email": "two@example.com", "anonymousId": "a2"}, one),
        ({"externalId": "two", "email": "one@example.com", "anonymousId": "a1"}, two),
        ({"email": "ONE@example.com", "anonymousId": "a2"}, one),
        ({"anonymousId": "a2"}, two),
    ):
        found = (await track(workspace, contact=ref))["event"]["contact"]
        assert {**found, "lastSeenAt": None} == {**meant, "lastSeenAt": None}


async def test_an_id_that_nobody_has_is_never_created(workspace: Any) -> None:
    for contact_id in ("con_00000000000000000000000000", "nonsense"):
        found = await track(workspace, contact={"id": contact_id, "externalId": "u"})
        assert problem(found) == ("NOT_FOUND", ["input", "contact", "id"])
    assert set((await stored(workspace)).values()) == {0}


async def test_a_reference_without_a_key_means_nobody(workspace: Any) -> None:
    for ref in ({}, {"id": None, "externalId": None, "email": None, "anonymousId": None}):
        assert problem(await track(workspace, contact=ref)) == ("INVALID", ["input", "contact"])


async def test_an_email_that_leads_share_means_none_of_them_but_the_user_who_has_it(workspace: Any) -> None:
    for number in range(2):
        lead = await upsert(workspace, anonymousId=f"a{number}")
        await upsert(workspace, id=lead["id"], email="shared@example.com")
    before = await stored(workspace)
    assert problem(await track(workspace, contact={"email": "Shared@Example.com"})) == (
        "CONFLICT",
        ["input", "contact", "email"],
    )
    assert await stored(workspace) == before
    found = await track(workspace, contact={"anonymousId": "a1", "email": "shared@example.com"})
    assert problem(found) == ("CONFLICT", ["input", "contact", "email"])
    assert (await track(workspace, contact={"anonymousId": "a1"}))["event"]["contact"]["email"] == "shared@example.com"
    user = await upsert(workspace, externalId="u", email="shared@example.com")
    assert user["role"] == "USER"
    assert (await track(workspace, contact={"email": "SHARED@example.com"}))["event"]["contact"]["id"] == user["id"]


async def test_events_of_one_batch_see_what_those_before_them_made_known(workspace: Any) -> None:
    await track_many(
        workspace,
        {"contact": {"externalId": "u"}},
        {"contact": {"externalId": "u", "email": "u@example.com"}},
        {"contact": {"email": "U@EXAMPLE.com", "anonymousId": "a"}},
        {"contact": {"anonymousId": "a"}},
        {"contact": {"externalId": "v", "anonymousId": "a"}},
    )
    user, other = await who(workspace, externalId="u"), await who(workspace, externalId="v")
    assert (user["email"], user["anonymousIds"], user["eventSummaries"]["nodes"][0]["count"]) == (
        "u@example.com",
        ["a"],
        4,
    )
    assert (other["anonymousIds"], other["eventSummaries"]["nodes"][0]["count"]) == ([], 1)
    assert (await stored(workspace))["contacts"] == 2


# ---- metadata ---------------------------------------------------------------------------------------------------

METADATA = """query($id: ID!) { event(id: $id) { metadataJson metadata { __typename key ... on TextMetadata { text } ... on NumberMetadata { number exact }
  ... on BooleanMetadata { boolean } ... on DateMetadata { date } ... on LinkMetadata { url label } ... on MoneyMetadata { amountMinor currency formatted }
  ... on StripeMetadata { object stripeId url } ... on JsonMetadata { json } } } }"""

TYPED: list[tuple[str, Any, dict[str, Any]]] = [
    ("text", "wörld 🌍", {"__typename": "TextMetadata", "text": "wörld 🌍"}),
    ("empty", "", {"__typename": "TextMetadata", "text": ""}),
    ("number", 1.5, {"__typename": "NumberMetadata", "number": 1.5, "exact": "1.5"}),
    (
        "largest",
        2**63 - 1,
        {"__typename": "NumberMetadata", "number": float(2**63 - 1), "exact": "9223372036854775807"},
    ),
    (
        "smallest",
        -(2**63),
        {"__typename": "NumberMetadata", "number": float(-(2**63)), "exact": "-9223372036854775808"},
    ),
    ("zero", 0, {"__typename": "NumberMetadata", "number": 0, "exact": "0"}),
    ("yes", True, {"__typename": "BooleanMetadata", "boolean": True}),
    ("no", False, {"__typename": "BooleanMetadata", "boolean": False}),
    ("order_date", 1392036272, {"__typename": "DateMetadata", "date": "2014-02-10T12:44:32Z"}),
    ("when", "2026-01-31T09:30:00.250+01:00", {"__typename": "DateMetadata", "date": "2026-01-31T08:30:00.250000Z"}),
    ("text_date", "yesterday", {"__typename": "TextMetadata", "text": "yesterday"}),
    (
        "link",
        "https://example.com/a?b=c",
        {"__typename": "LinkMetadata", "url": "https://example.com/a?b=c", "label": None},
    ),
    (
        "order",
        {"url": "https://example.com/o/1", "value": "No. 1"},
        {"__typename": "LinkMetadata", "url": "https://example.com/o/1", "label": "No. 1"},
    ),
    ("script", "javascript:alert(1)", {"__typename": "TextMetadata", "text": "javascript:alert(1)"}),
    (
        "price",
        {"amount": 123456, "currency": "eur"},
        {"__typename": "MoneyMetadata", "amountMinor": 123456, "currency": "EUR", "formatted": "€1,234.56"},
    ),
    (
        "yen",
        {"amount": 500, "currency": "JPY"},
        {"__typename": "MoneyMetadata", "amountMinor": 500, "currency": "JPY", "formatted": "¥500"},
    ),
    (
        "stripe_invoice",
        "in_1",
        {
            "__typename": "StripeMetadata",
            "object": "INVOICE",
            "stripeId": "in_1",
            "url": "https://dashboard.stripe.com/invoices/in_1",
        },
    ),
    (
        "stripe_charge",
        "ch_1",
        {
            "__typename": "StripeMetadata",
            "object": "CHARGE",
            "stripeId": "ch_1",
            "url": "https://dashboard.stripe.com/payments/ch_1",
        },
    ),
    (
        "stripe_customer",
        "cus_1",
        {
            "__typename": "StripeMetadata",
            "object": "CUSTOMER",
            "stripeId": "cus_1",
            "url": "https://dashboard.stripe.com/customers/cus_1",
        },
    ),
    ("list", [1, "two", None, [True]], {"__typename": "JsonMetadata", "json": [1, "two", None, [True]]}),
    ("object", {"b": {"a": []}, "a": 1}, {"__typename": "JsonMetadata", "json": {"b": {"a": []}, "a": 1}}),
    ("nothing", None, {"__typename": "JsonMetadata", "json": None}),
]


async def test_metadata_is_read_back_typed_and_as_sent(workspace: Any) -> None:
    sent = {key: value for key, value, _ in TYPED}
    tracked = await track(workspace, metadata=sent)
    assert tracked["event"]["metadataJson"] == sent
    response = await workspace.post(METADATA, {"id": tracked["event"]["id"]})
    event = json.loads(response.text)["data"]["event"]
    assert event["metadata"] == [{**typed, "key": key} for key, _, typed in TYPED]
    assert event["metadataJson"] == sent
    assert list(event["metadataJson"]) == list(sent)
    assert list(event["metadataJson"]["object"]) == ["b", "a"]
    assert all(type(event["metadataJson"][key]) is type(value) for key, value in sent.items())


async def test_stripe_links_lead_to_test_mode_where_livemode_is_false(workspace: Any) -> None:
    tracked = await track(workspace, metadata={"stripe_invoice": "in_1", "livemode": False})
    event = (await workspace.data(METADATA, {"id": tracked["event"]["id"]}))["event"]
    assert event["metadata"][0]["url"] == "https://dashboard.stripe.com/test/invoices/in_1"


async def test_metadata_may_be_written_as_a_literal_with_variables_in_it(workspace: Any) -> None:
    mutation = """mutation($x: JSON, $s: String) { trackEvent(input: {contact: {externalId: "u"}, name: "did", metadata: {a: $x, b: [$x, 2], c: {d: $s}, e: null, f: 1.5, g: true}})
      { event { metadataJson } userErrors { code } } }"""
    found = await workspace.data(mutation, {"x": {"deep": [1]}, "s": "text"})
    assert found["trackEvent"] == {
        "event": {
            "metadataJson": {
                "a": {"deep": [1]},
                "b": [{"deep": [1]}, 2],
                "c": {"d": "text"},
                "e": None,
                "f": 1.5,
                "g": True,
            }
        },
        "userErrors": [],
    }


HOSTILE = {
    "dollar": ('{"$set": 1}', ["$set"]),
    "dot": ('{"a.b": 1}', ["a.b"]),
    "nul in a key": ('{"a\\u0000b": 1}', ["a\0b"]),
    "empty key": ('{"": 1}', [""]),
    "below": ('{"a": {"b": [0, {"$gt": ""}]}}', ["a", "b", "1", "$gt"]),
    "2^63": ('{"n": 9223372036854775808}', ["n"]),
    "below -2^63": ('{"n": -9223372036854775809}', ["n"]),
    "30 digits": ('{"n": [' + "1" * 30 + "]}", ["n", "0"]),
    "5000 digits": ('{"n": ' + "1" * 5000 + "}", ["n"]),
    "-5000 digits": ('{"n": -' + "1" * 5000 + "}", ["n"]),
    "NaN": ('{"n": NaN}', ["n"]),
    "Infinity": ('{"a": {"n": -Infinity}}', ["a", "n"]),
    "1e400": ('{"n": 1e400}', ["n"]),
    "lone surrogate": ('{"s": "\\ud800"}', ["s"]),
    "lone surrogate in a list": ('{"s": ["a", "b\\udfffc"]}', ["s", "1"]),
    "money in halves": ('{"m": {"amount": 1.5, "currency": "EUR"}}', ["m", "amount"]),
    "money of nowhere": ('{"m": {"amount": 1, "currency": "ZZZ"}}', ["m", "currency"]),
    "a date after all": ('{"x_date": 99999999999999}', ["x_date"]),
}


def raw_variables(query: str, variables: Any, **texts: str) -> bytes:
    """A request whose variables contain those JSON texts, byte for byte, where they say "@name@"."""
    body = json.dumps({"query": query, "variables": variables})
    for name, text in texts.items():
        body = body.replace(f'"@{name}@"', text)
    return body.encode()


@pytest.mark.parametrize("label", HOSTILE)
async def test_hostile_metadata_is_that_items_error_alone(workspace: Any, label: str) -> None:
    text, path = HOSTILE[label]
    before = await stored(workspace)
    event = {"contact": {"externalId": "u"}, "name": "did", "metadata": "@hostile@"}
    answer = (await workspace.post("", raw=raw_variables(TRACK, {"i": event}, hostile=text))).json()
    assert "errors" not in answer, answer["errors"]
    found = answer["data"]["trackEvent"]
    assert problem(found) == ("INVALID", ["input", "metadata", *path])
    named = next(part for part in reversed(path) if not part.isdigit() or len(path) == 1).replace("\0", "\\0")
    assert named in found["userErrors"][0]["message"] or path[-1] in found["userErrors"][0]["message"]
    assert (found["event"], found["summary"], found["duplicate"]) == (None, None, False)
    assert await stored(workspace) == before
    good = {"contact": {"externalId": "u"}, "name": "did", "metadata": {}}
    answer = (await workspace.post("", raw=raw_variables(MANY, {"e": [good, event, good]}, hostile=text))).json()
    assert "errors" not in answer, answer["errors"]
    results = answer["data"]["trackEvents"]["results"]
    assert [bool(result["eventId"]) for result in results] == [True, False, True]
    assert (results[1]["error"]["code"], results[1]["error"]["path"]) == (
        "INVALID",
        ["input", "events", "1", "metadata", *path],
    )
    assert (await stored(workspace))["events"] == 2


async def test_a_key_that_is_half_a_character_is_refused(workspace: Any) -> None:
    before = await stored(workspace)
    event = {"contact": {"externalId": "u"}, "name": "did", "metadata": "@hostile@"}
    answer = (await workspace.post("", raw=raw_variables(TRACK, {"i": event}, hostile='{"\\ud800": 1}'))).json()
    (error,) = answer["data"]["trackEvent"]["userErrors"]
    assert (error["code"], error["path"][:2], len(error["path"])) == ("INVALID", ["input", "metadata"], 3)
    assert await stored(workspace) == before


@pytest.mark.parametrize(
    "text",
    ["9223372036854775808", "1" * 30, "1" * 5000, "-" + "1" * 5000, "1e400", "1" * 5000 + ".5"],
    ids=["2^63", "30 digits", "5000 digits", "-5000 digits", "1e400", "5000 digits and a half"],
)
async def test_hostile_numbers_as_literals_are_that_items_error(workspace: Any, text: str) -> None:
    before = await stored(workspace)
    mutation = f'mutation {{ trackEvent(input: {{contact: {{externalId: "u"}}, name: "did", metadata: {{n: {text}}}}}) {{ event {{ id }} userErrors {{ code path }} }} }}'
    answer = await workspace.ask(mutation)
    assert "errors" not in answer, answer["errors"]
    assert answer["data"]["trackEvent"] == {
        "event": None,
        "userErrors": [{"code": "INVALID", "path": ["input", "metadata", "n"]}],
    }
    assert await stored(workspace) == before


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ({"name": "a\0b"}, ["name"]),
        ({"name": "@half@"}, ["name"]),
        ({"idempotencyKey": "a\0b"}, ["idempotencyKey"]),
        ({"idempotencyKey": "@half@"}, ["idempotencyKey"]),
        ({"contact": {"externalId": "@half@"}}, ["contact", "externalId"]),
        ({"contact": {"externalId": "a\0b"}}, ["contact", "externalId"]),
        ({"contact": {"anonymousId": "@half@"}}, ["contact", "anonymousId"]),
        ({"contact": {"externalId": "u", "anonymousId": ""}}, ["contact", "anonymousId"]),
        ({"contact": {"email": "@half@"}}, ["contact", "email"]),
        ({"contact": {"id": "@half@"}}, ["contact", "id"]),
    ],
)
async def test_hostile_texts_are_that_items_error(workspace: Any, event: dict[str, Any], path: list[str]) -> None:
    sent = {"contact": {"externalId": "u"}, "name": "did", **event}
    answer = (await workspace.post("", raw=raw_variables(TRACK, {"i": sent}, half='"x\\ud800@example.com"'))).json()
    assert "errors" not in answer, answer["errors"]
    assert problem(answer["data"]["trackEvent"]) == ("INVALID", ["input", *path])
    assert set((await stored(workspace)).values()) == {0}


# ---- limits -----------------------------------------------------------------------------------------------------


async def test_limits_are_settings(open_gateway: Any) -> None:
    limits = {
        "max_metadata_keys": 3,
        "max_metadata_key_length": 5,
        "max_metadata_bytes": 100,
        "max_metadata_depth": 2,
        "max_event_name_length": 6,
        "max_batch_events": 3,
    }
    async with open_gateway(**limits) as gateway:
        workspace = await gateway.workspace()
        fits = {"name": "sixsix", "metadata": {"fives": {"b": {"c": 1}}, "b": ["x" * 60], "c": 1}}
        assert (await track(workspace, **fits))["userErrors"] == []
        before = await stored(workspace)
        for event, path in (
            ({"name": "sevense"}, ["name"]),
            ({"metadata": {"a": 1, "b": 1, "c": 1, "d": 1}}, ["metadata", "d"]),
            ({"metadata": {"sixsix": 1}}, ["metadata", "sixsix"]),
            ({"metadata": {"a": 1, "b": "x" * 100}}, ["metadata", "b"]),
            ({"metadata": {"a": [{"b": [1]}]}}, ["metadata", "a", "0", "b"]),
        ):
            assert problem(await track(workspace, **event)) == ("LIMIT_EXCEEDED", ["input", *path])
        assert await stored(workspace) == before
        assert problem(await track_many(workspace, {}, {}, {}, {})) == ("LIMIT_EXCEEDED", ["input", "events"])
        assert (await track_many(workspace, {}, {}, {}))["accepted"] == 3


async def test_names_are_limited_and_those_in_use_go_on(open_gateway: Any) -> None:
    async with open_gateway(max_event_names=2) as gateway:
        workspace = await gateway.workspace()
        found = await track_many(
            workspace, {"name": "one"}, {"name": "two"}, {"name": "three"}, {"name": "one"}, {"name": "four"}
        )
        assert [
            result["error"] and (result["error"]["code"], result["error"]["path"]) for result in found["results"]
        ] == [
            None,
            None,
            ("LIMIT_EXCEEDED", ["input", "events", "2", "name"]),
            None,
            ("LIMIT_EXCEEDED", ["input", "events", "4", "name"]),
        ]
        before = await stored(workspace)
        assert problem(await track(workspace, name="three", contact={"externalId": "new"})) == (
            "LIMIT_EXCEEDED",
            ["input", "name"],
        )
        assert await stored(workspace) == before
        assert (before["event_definitions"], before["contacts"], before["events"]) == (2, 1, 3)
        await workspace.data(DESCRIBE, {"i": {"name": "one", "archived": True}})
        assert (await track(workspace, name="three"))["userErrors"] == []
        assert (await track(workspace, name="one"))["userErrors"] == []
        assert problem(await track(workspace, name="four")) == ("LIMIT_EXCEEDED", ["input", "name"])


async def test_the_name_of_a_refused_event_takes_no_room_from_its_neighbours(open_gateway: Any) -> None:
    async with open_gateway(max_event_names=1) as gateway:
        workspace = await gateway.workspace()
        found = await track_many(
            workspace, {"name": "bad", "contact": {"id": "con_00000000000000000000000000"}}, {"name": "good"}
        )
        assert [result["error"] and result["error"]["code"] for result in found["results"]] == ["NOT_FOUND", None]


# ---- importEventSummaries ---------------------------------------------------------------------------------------


def line(name: str, count: int, first: str, last: str) -> dict[str, Any]:
    return {"name": name, "count": count, "firstAt": first, "lastAt": last}


JAN, FEB, MAR, APR = (f"2020-{month:02}-01T00:00:00Z" for month in (1, 2, 3, 4))


async def import_(
    workspace: Any, *summaries: dict[str, Any], contact: dict[str, str] | None = None, key: str | None = None
) -> Any:
    return (
        await workspace.data(
            IMPORT, {"i": {"contact": contact or {"externalId": "u"}, "summaries": list(summaries)}}, key=key
        )
    )["importEventSummaries"]


def shown(rows: list[Any]) -> list[tuple[Any, ...]]:
    return [(row["name"], row["count"], row["firstAt"], row["lastAt"]) for row in rows]


async def test_an_import_stands_beside_what_is_tracked_and_replaces_an_earlier_one(workspace: Any) -> None:
    tracked = await track(workspace)
    at = tracked["event"]["occurredAt"]
    found = await import_(workspace, line("did", 10, FEB, MAR), line("before", 10**12, JAN, JAN))
    assert found["userErrors"] == []
    assert shown(found["summaries"]) == [("did", 11, FEB, at), ("before", 10**12, JAN, JAN)]
    assert found["summaries"][0]["id"] == tracked["summary"]["id"]
    again = await track(workspace)
    later = again["event"]["occurredAt"]
    assert shown([again["summary"]]) == [("did", 12, FEB, later)]
    assert shown((await import_(workspace, line("did", 3, JAN, APR)))["summaries"]) == [("did", 5, JAN, later)]
    assert shown((await import_(workspace, line("did", 1, APR, APR)))["summaries"]) == [("did", 3, APR, later)]
    assert shown((await who(workspace, externalId="u"))["eventSummaries"]["nodes"]) == [
        ("before", 10**12, JAN, JAN),
        ("did", 3, APR, later),
    ]


async def test_tracking_beside_an_import_moves_first_and_last_only_outwards(workspace: Any) -> None:
    ahead = told(system_clock() + timedelta(minutes=4))
    await import_(workspace, line("did", 10, MAR, ahead))
    at = told(system_clock() - timedelta(days=1))
    assert shown([(await track(workspace, occurredAt=at))["summary"]]) == [("did", 11, MAR, ahead)]
    assert shown((await import_(workspace, line("did", 1, APR, APR)))["summaries"]) == [("did", 2, APR, at)]


async def test_an_import_creates_the_contact_and_the_names_and_is_no_visit(workspace: Any) -> None:
    found = await import_(
        workspace, line("did", 1, JAN, JAN), contact={"externalId": "new", "email": "new@example.com"}
    )
    assert shown(found["summaries"]) == [("did", 1, JAN, JAN)]
    contact = await who(workspace, externalId="new")
    assert (contact["role"], contact["email"], contact["lastSeenAt"]) == ("USER", "new@example.com", None)
    assert await stored(workspace) == {
        "events": 0,
        "contacts": 1,
        "event_summaries": 1,
        "event_definitions": 1,
        "changes": 2,
        "idempotency_keys": 0,
    }


@pytest.mark.parametrize(
    ("summaries", "code", "path"),
    [
        ([line("did", 1, JAN, FEB), line("did", 2, JAN, FEB)], "INVALID", ["summaries", "1", "name"]),
        ([line("ok", 1, JAN, FEB), line("did", 0, JAN, FEB)], "INVALID", ["summaries", "1", "count"]),
        ([line("did", -1, JAN, FEB)], "INVALID", ["summaries", "0", "count"]),
        ([line("did", 2, FEB, JAN)], "INVALID", ["summaries", "0", "firstAt"]),
        ([line("did", 2, JAN, "2999-01-01T00:00:00Z")], "INVALID", ["summaries", "0", "lastAt"]),
        ([line("did", 2, "1901-01-01T00:00:00Z", JAN)], "INVALID", ["summaries", "0", "firstAt"]),
        ([line(" ", 2, JAN, JAN)], "INVALID", ["summaries", "0", "name"]),
        ([], "LIMIT_EXCEEDED", ["summaries"]),
        ([line(f"did {number}", 1, JAN, JAN) for number in range(1001)], "LIMIT_EXCEEDED", ["summaries"]),
    ],
    ids=["twice", "zero", "negative", "exchanged", "future", "ancient", "nameless", "none", "1001"],
)
async def test_an_import_with_a_mistake_writes_nothing(
    workspace: Any, summaries: Any, code: str, path: list[str]
) -> None:
    found = await import_(workspace, *summaries)
    assert problem(found) == (code, ["input", *path])
    assert found["summaries"] is None
    assert set((await stored(workspace)).values()) == {0}


async def test_an_import_of_nobody_writes_nothing(workspace: Any) -> None:
    assert problem(
        await import_(workspace, line("did", 1, JAN, JAN), contact={"id": "con_00000000000000000000000000"})
    ) == ("NOT_FOUND", ["input", "contact", "id"])
    assert problem(await import_(workspace, line("did", 1, JAN, JAN), contact={"email": "x"})) == (
        "INVALID",
        ["input", "contact", "email"],
    )
    assert set((await stored(workspace)).values()) == {0}


async def test_an_import_of_too_many_names_writes_nothing_and_names_the_line(open_gateway: Any) -> None:
    async with open_gateway(max_event_names=1) as gateway:
        workspace = await gateway.workspace()
        found = await import_(workspace, line("one", 1, JAN, JAN), line("two", 1, JAN, JAN))
        assert set((await stored(workspace)).values()) == {0}
        assert problem(found) == ("LIMIT_EXCEEDED", ["input", "summaries", "1", "name"])


# ---- describeEvent ----------------------------------------------------------------------------------------------


async def describe(workspace: Any, key: str | None = None, **said: Any) -> Any:
    return (await workspace.data(DESCRIBE, {"i": said}, key=key))["describeEvent"]


async def test_a_name_is_described_before_and_after_its_first_use(workspace: Any) -> None:
    found = await describe(workspace, name="did", description="Did it.")
    assert found["userErrors"] == []
    first = found["definition"]
    assert (first["name"], first["description"], first["archived"]) == ("did", "Did it.", False)
    await track(workspace)
    definition = (
        await workspace.data(
            '{ contact(by: {externalId: "u"}) { events { nodes { definition { id name description archived } } } } }'
        )
    )["contact"]["events"]["nodes"][0]["definition"]
    assert definition == first
    assert (await describe(workspace, name="did", archived=True))["definition"] == {**first, "archived": True}
    assert (await describe(workspace, name="did"))["definition"] == {**first, "archived": True}
    assert (await describe(workspace, name="did", description=None))["definition"] == {
        **first,
        "archived": True,
        "description": None,
    }
    assert (await describe(workspace, name="did", archived=None))["definition"] == {
        **first,
        "archived": False,
        "description": None,
    }
    assert (await stored(workspace))["event_definitions"] == 1


@pytest.mark.parametrize(
    ("said", "code", "path"),
    [
        ({"name": ""}, "INVALID", ["name"]),
        ({"name": "x" * 201}, "LIMIT_EXCEEDED", ["name"]),
        ({"name": "did", "description": "x" * 1001}, "LIMIT_EXCEEDED", ["description"]),
        ({"name": "did", "description": "a\0b"}, "INVALID", ["description"]),
    ],
)
async def test_a_mistaken_description_writes_nothing(workspace: Any, said: Any, code: str, path: list[str]) -> None:
    found = await describe(workspace, **said)
    assert problem(found) == (code, ["input", *path])
    assert found["definition"] is None
    assert (await stored(workspace))["event_definitions"] == 0


async def test_describing_counts_towards_the_limit_unless_archived(open_gateway: Any) -> None:
    async with open_gateway(max_event_names=1) as gateway:
        workspace = await gateway.workspace()
        assert (await describe(workspace, name="old", archived=True))["userErrors"] == []
        assert (await describe(workspace, name="one"))["userErrors"] == []
        assert problem(await describe(workspace, name="two")) == ("LIMIT_EXCEEDED", ["input", "name"])
        assert (await describe(workspace, name="old", description="Still archived."))["userErrors"] == []
        assert problem(await track(workspace, name="two")) == ("LIMIT_EXCEEDED", ["input", "name"])


async def test_a_name_is_not_taken_out_of_the_archive_over_the_limit(open_gateway: Any) -> None:
    async with open_gateway(max_event_names=1) as gateway:
        workspace = await gateway.workspace()
        await describe(workspace, name="old", archived=True)
        await track(workspace, name="new")
        found = await describe(workspace, name="old", archived=False)
        assert [error["code"] for error in found["userErrors"]] == ["LIMIT_EXCEEDED"]


async def test_a_name_described_by_many_at_once_is_described(workspace: Any) -> None:
    answers = await asyncio.gather(
        *(workspace.ask(DESCRIBE, {"i": {"name": "did", "description": str(number)}}) for number in range(12))
    )
    assert [error["extensions"]["code"] for answer in answers for error in answer.get("errors", ())] == []
    assert len({answer["data"]["describeEvent"]["definition"]["id"] for answer in answers}) == 1


# ---- what a key without READ gets back --------------------------------------------------------------------------


async def test_a_key_that_may_not_read_gets_nulls_without_errors(workspace: Any) -> None:
    key = await workspace.key_with(Scope.TRACK)
    for duplicate in (False, True):
        assert await track(workspace, key, idempotencyKey="k") == {
            "duplicate": duplicate,
            "event": None,
            "summary": None,
            "userErrors": [],
        }
    found = (await workspace.data(MANY, {"e": [{"contact": {"externalId": "u"}, "name": "did"}]}, key=key))[
        "trackEvents"
    ]
    assert found["accepted"] == 1
    assert found["results"][0]["eventId"].startswith("evt_")
    assert await import_(workspace, line("did", 1, JAN, JAN), key=key) == {"summaries": None, "userErrors": []}
    assert await describe(workspace, key, name="did", description="Did it.") == {"definition": None, "userErrors": []}
    assert (await workspace.data(UPSERT, {"i": {"externalId": "v"}}, key=key))["upsertContact"] == {
        "contact": None,
        "created": True,
        "userErrors": [],
    }
    assert [
        (row["name"], row["count"]) for row in (await who(workspace, externalId="u"))["eventSummaries"]["nodes"]
    ] == [("did", 3)]
