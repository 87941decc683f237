"""The store on each server with each driver: races, pages, unique indexes, transactions."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.core.clock import system_clock
from gateway.store.driver import Database, DuplicateError
from gateway.store.retries import retry_transaction

TRACK = """mutation($i: TrackEventInput!) { trackEvent(input: $i) { duplicate event { id name contact { externalId } } userErrors { code message path } } }"""
UPSERT = "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { created contact { id } userErrors { code message path } } }"
IMPORT = "mutation($i: ImportEventSummariesInput!) { importEventSummaries(input: $i) { summaries { count } userErrors { code message path } } }"
PAGE = """query($f: EventFilter, $first: Int, $after: String, $last: Int, $before: String) {
  events(filter: $f, first: $first, after: $after, last: $last, before: $before) { nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
COUNTED = "{ contacts(first: 100) { nodes { id externalId lastSeenAt events(first: 100) { nodes { id name occurredAt } } eventSummaries(first: 100) { nodes { name count firstAt lastAt } } } } }"


def never(problems: list[Any]) -> None:
    assert [each for each in problems if each] == []


async def agree(workspace: Any) -> Counter[tuple[str, str]]:
    """How often each contact did each thing, where its summaries say just what its events say."""
    found: Counter[tuple[str, str]] = Counter()
    for contact in (await workspace.data(COUNTED))["contacts"]["nodes"]:
        events = contact["events"]["nodes"]
        expected = []
        for name in sorted({event["name"] for event in events}):
            times = [event["occurredAt"] for event in events if event["name"] == name]
            first, last = min(times, key=datetime.fromisoformat), max(times, key=datetime.fromisoformat)
            expected.append({"name": name, "count": len(times), "firstAt": first, "lastAt": last})
            found[contact["externalId"], name] = len(times)
        assert contact["eventSummaries"]["nodes"] == expected
        assert contact["lastSeenAt"] == max((event["occurredAt"] for event in events), key=datetime.fromisoformat)
    return found


async def test_fifty_clients_at_once_are_counted_exactly(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    now = system_clock()
    calls = [
        {
            "contact": {"externalId": f"u{number % 5}"},
            "name": f"did {number % 3}",
            "idempotencyKey": f"k{number}",
            "occurredAt": (now - timedelta(minutes=number)).isoformat(),
        }
        for number in range(40)
    ]
    sent = calls + calls[:10]
    payloads = [
        data["trackEvent"] for data in await asyncio.gather(*(workspace.data(TRACK, {"i": call}) for call in sent))
    ]
    never([payload["userErrors"] for payload in payloads])
    assert [(payload["event"]["name"], payload["event"]["contact"]["externalId"]) for payload in payloads] == [
        (call["name"], call["contact"]["externalId"]) for call in sent
    ]
    assert sum(payload["duplicate"] for payload in payloads) == 10
    assert [payload["event"]["id"] for payload in payloads[40:]] == [
        payload["event"]["id"] for payload in payloads[:10]
    ]
    assert len({payload["event"]["id"] for payload in payloads}) == 40
    expected = Counter((call["contact"]["externalId"], call["name"]) for call in calls)
    assert await agree(workspace) == expected
    again = [
        data["trackEvent"] for data in await asyncio.gather(*(workspace.data(TRACK, {"i": call}) for call in calls))
    ]
    assert [(payload["duplicate"], payload["event"]["id"]) for payload in again] == [
        (True, payload["event"]["id"]) for payload in payloads[:40]
    ]
    assert await agree(workspace) == expected


async def test_calls_without_keys_at_once_are_counted_exactly(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    calls = [{"contact": {"anonymousId": "a"}, "name": f"did {number % 2}"} for number in range(24)]
    batches = [workspace.track(*calls[:6]) for _ in range(4)]
    results = await asyncio.gather(*(workspace.data(TRACK, {"i": call}) for call in calls), *batches)
    never([data["trackEvent"]["userErrors"] for data in results[:24]])
    assert [payload["accepted"] for payload in results[24:]] == [6] * 4
    assert await agree(workspace) == Counter({(None, "did 0"): 24, (None, "did 1"): 24})
    assert await every_gateway.runtime.database.count("contacts", {"workspace_id": workspace.id}) == 1


async def test_a_race_for_a_new_contact_creates_one(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    sent = [
        {"externalId": "u", "name": f"Name {number}", "customAttributes": {f"a{number}": number}}
        for number in range(10)
    ]
    payloads = [
        data["upsertContact"] for data in await asyncio.gather(*(workspace.data(UPSERT, {"i": each}) for each in sent))
    ]
    never([payload["userErrors"] for payload in payloads])
    assert sorted(payload["created"] for payload in payloads) == [False] * 9 + [True]
    assert len({payload["contact"]["id"] for payload in payloads}) == 1
    contact = (await workspace.data('{ contact(by: {externalId: "u"}) { customAttributes } }'))["contact"]
    assert contact["customAttributes"] == {f"a{number}": number for number in range(10)}
    kinds = Counter(
        row["kind"] for row in await every_gateway.runtime.database.find("changes", {"workspace_id": workspace.id})
    )
    assert kinds == Counter({"CREATED": 1, "UPDATED": 9})


async def test_a_race_for_an_email_leaves_it_to_one_user(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    sent = [
        {"externalId": f"u{number}", "email": f"{'SHARED' if number % 2 else 'shared'}@example.com"}
        for number in range(8)
    ]
    payloads = [
        data["upsertContact"] for data in await asyncio.gather(*(workspace.data(UPSERT, {"i": each}) for each in sent))
    ]
    codes = sorted(payload["userErrors"][0]["code"] if payload["userErrors"] else "" for payload in payloads)
    assert codes == [""] + ["CONFLICT"] * 7
    assert await every_gateway.runtime.database.count("contacts", {"workspace_id": workspace.id}) == 1


async def test_imports_and_tracking_at_once_lose_no_count(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    await workspace.track({"contact": {"externalId": "u"}, "name": "did"})
    lines = [{"name": "did", "count": 1000, "firstAt": "2020-01-01T00:00:00Z", "lastAt": "2020-01-01T00:00:00Z"}]
    event = {"contact": {"externalId": "u"}, "name": "did"}
    import_ = {"contact": {"externalId": "u"}, "summaries": lines}
    for _ in range(3):
        calls = [
            workspace.data(IMPORT, {"i": import_}) if number % 4 == 0 else workspace.data(TRACK, {"i": event})
            for number in range(16)
        ]
        found = await asyncio.gather(*calls)
        never([payload["userErrors"] for data in found for payload in data.values()])
    (row,) = await every_gateway.runtime.database.find("event_summaries", {"workspace_id": workspace.id})
    assert await every_gateway.runtime.database.count("events", {"workspace_id": workspace.id}) == 37
    assert (row["tracked_count"], row["count"]) == (37, 1037)


async def test_a_race_for_a_new_name_describes_it(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    mutation = 'mutation($d: String!) { describeEvent(input: {name: "did", description: $d}) { definition { id } userErrors { code } } }'
    found = await asyncio.gather(
        *(workspace.ask(mutation, {"d": str(number)}) for number in range(10)),
        *(workspace.ask(TRACK, {"i": {"contact": {"externalId": "u"}, "name": "did"}}) for _ in range(5)),
    )
    never([answer.get("errors") for answer in found])
    assert await every_gateway.runtime.database.count("event_definitions", {"workspace_id": workspace.id}) == 1


async def test_pages_both_ways_show_every_event_once(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    now = system_clock()
    ages = [timedelta(seconds=number**4) for number in range(60)]
    results = (
        await workspace.track(
            *(
                {
                    "contact": {"externalId": f"u{place % 4}"},
                    "name": f"did {place % 3}",
                    "occurredAt": (now - age).isoformat(),
                }
                for place, age in enumerate(ages)
            )
        )
    )["results"]
    everything = [result["eventId"] for result in results]
    for filter_, expected in (
        (None, everything),
        ({"name": ["did 0", "did 2"]}, [id_ for place, id_ in enumerate(everything) if place % 3 != 1]),
        (
            {"occurredAt": {"moreThanDaysAgo": 1}},
            [id_ for id_, age in zip(everything, ages, strict=True) if age > timedelta(days=1)],
        ),
    ):
        for backward in (False, True):
            assert await walk(workspace, filter_, backward) == expected


async def walk(workspace: Any, filter_: Any, backward: bool) -> list[str]:
    shown: list[str] = []
    asked: dict[str, Any] = {"last" if backward else "first": 7}
    while True:
        page = (await workspace.data(PAGE, {"f": filter_, **asked}))["events"]
        ids = [node["id"] for node in page["nodes"]]
        shown = ids + shown if backward else shown + ids
        if not page["pageInfo"]["hasPreviousPage" if backward else "hasNextPage"]:
            return shown
        asked = (
            {"last": 7, "before": page["pageInfo"]["startCursor"]}
            if backward
            else {"first": 7, "after": page["pageInfo"]["endCursor"]}
        )


NESTED = """query($f: Int, $l: Int, $names: [String!], $after: DateTime) { contacts(first: 10) { nodes { externalId
  events(first: $f, last: $l, filter: {name: $names, occurredAt: {after: $after}}) { nodes { id contact { externalId } definition { name } } pageInfo { hasNextPage hasPreviousPage } }
  eventSummaries(first: $f, last: $l) { nodes { name count } pageInfo { hasNextPage hasPreviousPage } } } } }"""


@pytest.mark.parametrize("backward", [False, True], ids=["first", "last"])
async def test_nested_pages_show_each_contact_its_own(every_gateway: Any, backward: bool) -> None:
    workspace = await every_gateway.workspace()
    now = system_clock()
    ages = [timedelta(hours=number * 7) for number in range(40)]
    results = (
        await workspace.track(
            *(
                {
                    "contact": {"externalId": f"u{place % 3}"},
                    "name": f"did {place % 4}",
                    "occurredAt": (now - age).isoformat(),
                }
                for place, age in enumerate(ages)
            )
        )
    )["results"]
    for names, after in (
        (None, timedelta(days=3650)),
        (["did 1", "did 3"], timedelta(days=3650)),
        (None, timedelta(hours=50)),
    ):
        data = await workspace.data(
            NESTED, {"l" if backward else "f": 3, "names": names, "after": (now - after).isoformat()}
        )
        for contact in data["contacts"]["nodes"]:
            number = int(contact["externalId"][1:])
            mine = [
                result["eventId"]
                for place, result in enumerate(results)
                if place % 3 == number and ages[place] < after and (names is None or f"did {place % 4}" in names)
            ]
            page, shown = contact["events"], mine[-3:] if backward else mine[:3]
            assert [event["id"] for event in page["nodes"]] == shown
            assert {event["contact"]["externalId"] for event in page["nodes"]} == {contact["externalId"]}
            assert page["pageInfo"]["hasPreviousPage" if backward else "hasNextPage"] is (len(mine) > 3)
            counts = Counter(f"did {place % 4}" for place in range(40) if place % 3 == number)
            names_shown = sorted(counts)[-3:] if backward else sorted(counts)[:3]
            assert contact["eventSummaries"]["nodes"] == [{"name": name, "count": counts[name]} for name in names_shown]


UNIQUE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("events", {"identity": "trackEvent:k"}, {"identity": "trackEvent:l"}),
    ("contacts", {"identities": ["id:a", "email:a@example.com"]}, {"identities": ["id:c"]}),
    ("event_definitions", {"name": "did"}, {"name": "did else"}),
    ("idempotency_keys", {"key": "upsertContact:k"}, {"key": "upsertContact:l"}),
]


@pytest.mark.parametrize(("collection", "row", "other"), UNIQUE, ids=[case[0] for case in UNIQUE])
async def test_what_is_unique_is_so_in_its_workspace_alone(
    every_database: Database, collection: str, row: dict[str, Any], other: dict[str, Any]
) -> None:
    await every_database.insert(collection, [{"_id": "1", "workspace_id": "one", **row}])
    await every_database.insert(
        collection, [{"_id": "2", "workspace_id": "two", **row}, {"_id": "3", "workspace_id": "one", **other}]
    )
    again = {**row, "identities": ["id:b", "email:a@example.com"]} if collection == "contacts" else row
    with pytest.raises(DuplicateError):
        await every_database.insert(collection, [{"_id": "4", "workspace_id": "one", **again}])
    assert sorted(found["_id"] for found in await every_database.find(collection, {})) == ["1", "2", "3"]


async def test_workspaces_have_names_of_their_own(every_database: Database) -> None:
    await every_database.insert("workspaces", [{"_id": "1", "name": "same"}])
    with pytest.raises(DuplicateError):
        await every_database.insert("workspaces", [{"_id": "2", "name": "same"}])


class _StoppedError(Exception):
    """Something in the middle of a transaction."""


@pytest.mark.parametrize("reason", ["an error", "a duplicate", "a cancellation"])
async def test_a_transaction_that_fails_leaves_nothing(every_database: Database, reason: str) -> None:
    await every_database.insert("events", [{"_id": "there", "workspace_id": "w", "identity": "there"}])

    async def body(session: Any) -> None:
        await every_database.insert("events", [{"_id": "new", "workspace_id": "w", "identity": "new"}], session)
        await every_database.insert(
            "contacts", [{"_id": "new", "workspace_id": "w", "identities": ["id:new"]}], session
        )
        if reason == "an error":
            raise _StoppedError
        if reason == "a cancellation":
            raise asyncio.CancelledError
        await every_database.insert("events", [{"_id": "other", "workspace_id": "w", "identity": "there"}], session)

    with pytest.raises(
        {"an error": _StoppedError, "a duplicate": DuplicateError, "a cancellation": asyncio.CancelledError}[reason]
    ):
        await every_database.transaction(body)
    assert [row["_id"] for row in await every_database.find("events", {})] == ["there"]
    assert await every_database.find("contacts", {}) == []

    async def good(session: Any) -> None:
        await every_database.insert("events", [{"_id": "new", "workspace_id": "w", "identity": "new"}], session)

    await retry_transaction(
        lambda _: every_database.transaction(good)
    )  # the locks of the one that failed may go a moment later
    assert await every_database.count("events", {}) == 2


async def test_a_race_for_a_new_leads_email_makes_one_lead(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    lead = {"email": "Race@example.com"}
    upserts = [workspace.data(UPSERT, {"i": {**lead, "name": f"n{number}"}}) for number in range(6)]
    tracks = [workspace.data(TRACK, {"i": {"contact": lead, "name": "did"}}) for _ in range(6)]
    for found in await asyncio.gather(*upserts, *tracks):
        (payload,) = found.values()
        assert payload["userErrors"] == []
    (contact,) = await workspace.store.contacts._find({})
    assert contact["role"] == "LEAD"
    assert [row["count"] for row in await workspace.store.summaries._find({})] == [6]
