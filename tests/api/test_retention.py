"""Retention: old events go, what they were counted in stays, and nobody can bring one back or count without it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.core.clock import system_clock
from gateway.domain.events.definitions import bounded, generation_of
from gateway.domain.events.retention import Retention
from gateway.services.events.retention import RetentionService
from gateway.services.projections.value_rebuild import rebuild_values

KEPT = 30
NOW = datetime.now(UTC).replace(microsecond=0)
TRACK = """mutation($i: TrackEventInput!) { trackEvent(input: $i)
  { duplicate event { id } summary { count firstAt lastAt } userErrors { code message path } } }"""
DESCRIBE = "mutation($i: DescribeEventInput!) { describeEvent(input: $i) { userErrors { code } } }"
TOTALS = "{ eventDefinitions { nodes { name count contactCount firstAt lastAt metadataKeys { key types } } } }"
COUNTED = """query($id: String!) { contact(by: {externalId: $id}) {
  eventSummary(name: "did") { count firstAt lastAt values { value count firstAt lastAt } } } }"""
READ = """query($id: ID!, $contact: String!) { event(id: $id) { id } node(id: $id) { id } nodes(ids: [$id]) { id }
  events(filter: {name: ["did"]}) { nodes { metadataJson } totalCount }
  contact(by: {externalId: $contact}) {
    all: events(filter: {beforeSignUp: true}) { nodes { metadataJson } totalCount }
    some: events(filter: {metadata: [{key: "page"}]}) { nodes { metadataJson } totalCount } } }"""
FIND = "query($f: ContactFilter!) { contacts(filter: $f) { nodes { externalId } totalCount } }"


def ago(**units: int) -> str:
    return (NOW - timedelta(**units)).isoformat().replace("+00:00", "Z")


def did(contact: str, at: str, page: str, key: str | None = None, **more: Any) -> dict[str, Any]:
    keyed = {} if key is None else {"idempotencyKey": key}
    return {
        "contact": {"externalId": contact},
        "name": "did",
        "occurredAt": at,
        "metadata": {"page": page, **more},
        **keyed,
    }


@pytest.fixture
async def keeping(open_gateway: Any, clock: Any) -> AsyncIterator[Any]:
    """A gateway that keeps events for 30 days."""
    async with open_gateway(clock=clock, event_retention_days=KEPT, timeline_days=365) as gateway:
        yield gateway


async def counted(workspace: Any, contact: str = "ada") -> Any:
    """All that is counted of the events: summaries, values, totals."""
    summary = (await workspace.data(COUNTED, {"id": contact}))["contact"]["eventSummary"]
    summary["values"] = sorted(summary["values"] or (), key=lambda line: str(line["value"]))
    return summary, (await workspace.data(TOTALS))["eventDefinitions"]["nodes"]


async def rolled_up(workspace: Any, total: int, contact: str = "ada") -> Any:
    """What is counted, once so many values of that contact are."""
    async with asyncio.timeout(60):
        while True:
            found = await counted(workspace, contact)
            values = found[0]["values"]
            if sum(line["count"] for line in values) == total == found[1][0]["count"]:
                return found
            await asyncio.sleep(0.05)


async def swept(gateway: Any, workspace: Any, clock: Any, ahead: timedelta = timedelta(days=2)) -> None:
    clock.ahead += ahead
    assert await gateway.runtime.retention.sweep() is True


async def pages(workspace: Any, event_id: str, contact: str = "ada") -> dict[str, Any]:
    found: dict[str, Any] = await workspace.data(READ, {"id": event_id, "contact": contact})
    return found


async def test_an_old_event_is_seen_by_nobody_and_stays_counted(keeping: Any, clock: Any) -> None:
    workspace = await keeping.workspace()
    await workspace.data(DESCRIBE, {"i": {"name": "did", "summarizeBy": "page"}})
    old = did("ada", ago(days=40), "/old", "k1", plan={"amount": 1, "currency": "EUR"})
    tracked = await workspace.track(old, did("ada", ago(days=29), "/old"), did("ada", ago(days=1), "/new"))
    event_id, turning, young = (one["eventId"] for one in tracked["results"])
    before = await rolled_up(workspace, 3)
    assert before[0]["count"] == 3
    assert before[0]["firstAt"] == ago(days=40)
    assert [(line["value"], line["count"]) for line in before[0]["values"]] == [("/new", 1), ("/old", 2)]
    assert [line["key"] for line in before[1][0]["metadataKeys"]] == ["page", "plan"]
    assert await keeping.runtime.retention.sweep() is True  # it has just arrived: who follows the stream reads it first
    assert len(await workspace.store.events._find({})) == 3

    await swept(keeping, workspace, clock)
    assert [row["_id"] for row in await workspace.store.events._find({}, sort={"_id": 1})] == [young]
    stays = {row["_id"]: row for row in await workspace.store.tombstones._find({})}
    assert set(stays) == {event_id, turning}
    tombstone = stays[event_id]
    contact_id, fingerprint = tombstone.pop("contact_id"), tombstone.pop("fingerprint")
    assert (contact_id[:4], len(fingerprint)) == ("con_", 32)
    assert tombstone == {
        "_id": event_id,
        "workspace_id": workspace.id,
        "name": "did",
        "occurred_at": NOW - timedelta(days=40),
        "identity": "trackEvent:k1",
        "metadata": [{"key": "page", "type": "TextMetadata", "text": "/old"}],
    }
    shown = {"nodes": [{"metadataJson": {"page": "/new"}}], "totalCount": 1}
    assert await pages(workspace, event_id) == {
        "event": None,
        "node": None,
        "nodes": [None],
        "events": shown,
        "contact": {"all": shown, "some": shown},
    }
    assert (await pages(workspace, young))["event"] == {"id": young}
    assert await counted(workspace) == before

    again = (await workspace.data(TRACK, {"i": old}))["trackEvent"]
    summary = {name: before[0][name] for name in ("count", "firstAt", "lastAt")}
    assert again == {"duplicate": True, "event": None, "summary": summary, "userErrors": []}
    (line,) = (await workspace.track(old))["results"]
    assert line == {"index": 0, "eventId": event_id, "duplicate": True, "error": None}
    (other,) = (await workspace.track(did("ada", ago(days=40), "/else", "k1")))["results"]
    assert other["error"] == {
        "code": "IDEMPOTENCY_KEY_REUSED",
        "message": "This idempotencyKey was used before with a different input: send the same input, or a new key.",
        "path": ["input", "events", "0", "idempotencyKey"],
    }
    async for _ in keeping.runtime.definitions.rebuild([workspace.id]):
        pass
    assert await counted(workspace) == before


async def test_what_is_older_than_what_is_kept_is_counted_and_goes(keeping: Any, clock: Any) -> None:
    workspace = await keeping.workspace()
    await workspace.data(DESCRIBE, {"i": {"name": "did", "summarizeBy": "page"}})
    await workspace.track(did("ada", ago(days=3), "/new"))
    await rolled_up(workspace, 1)
    await swept(keeping, workspace, clock)
    late = await workspace.track(did("ada", ago(days=3000), "/late", "late"))
    assert late["accepted"] == 1
    after = await rolled_up(workspace, 2)
    assert (after[0]["count"], after[0]["firstAt"]) == (2, ago(days=3000))
    await swept(keeping, workspace, clock)
    assert [row["metadata_json"]["page"] for row in await workspace.store.events._find({})] == ["/new"]
    assert await counted(workspace) == after
    assert (await workspace.track(did("ada", ago(days=3000), "/late", "late")))["duplicates"] == 1
    async for _ in keeping.runtime.definitions.rebuild([workspace.id]):
        pass
    assert await counted(workspace) == after


async def test_a_question_about_events_that_are_not_kept_is_refused(keeping: Any) -> None:
    workspace = await keeping.workspace()
    await workspace.track(did("ada", ago(days=3), "/new"))

    async def refusal(query: str, variables: Any = None) -> str:
        (error,) = (await workspace.ask(query, variables))["errors"]
        assert error["extensions"]["code"] == "BAD_REQUEST"
        return str(error["message"])

    def event(**asked: Any) -> dict[str, Any]:
        return {"f": {"or": [{"tag": {"eq": "vip"}}, {"not": {"event": {"name": "did", **asked}}}]}}

    further = " begins before the 30 days for which events are stored: use a later start, such as lessThanDaysAgo: 30."
    path = "filter.or.1.not.event"
    for within in (
        {"lessThanDaysAgo": 31},
        {"moreThanDaysAgo": 3},
        {"before": ago(days=1)},
        {"after": ago(days=31)},
        {"exactlyDaysAgo": 30},
        {"known": True},
    ):
        assert await refusal(FIND, event(within=within)) == f"{path}.within{further}"
        times = {"f": within}
        listed = "query($f: TimeFilter!) { events(filter: {occurredAt: $f}) { totalCount } }"
        assert await refusal(listed, times) == f"filter.occurredAt{further}"
        mine = 'query($f: TimeFilter!) { contact(by: {externalId: "ada"}) { events(filter: {occurredAt: $f}) { totalCount } } }'
        assert await refusal(mine, times) == f"filter.occurredAt{further}"
    counts = " counts stored events, which are stored for 30 days: add within: {lessThanDaysAgo: 30}."
    assert await refusal(FIND, event(beforeSignUp=True)) == f"{path}.beforeSignUp{counts}"
    assert await refusal(FIND, event(metadata=[{"key": "page"}], never=True)) == f"{path}.metadata{counts}"
    for within in ({"lessThanDaysAgo": 30}, {"after": ago(days=29)}, {"exactlyDaysAgo": 3}, {"known": False}):
        assert "errors" not in await workspace.ask(FIND, event(within=within, metadata=[{"key": "page"}])), within
    asked = {"f": {"event": {"name": "did", "first": {"moreThanDaysAgo": 1}, "count": {"lt": 3}}}}
    assert (await workspace.data(FIND, asked))["contacts"]["nodes"] == [{"externalId": "ada"}]


async def test_a_segment_is_saved_where_it_never_counts_what_is_not_kept(keeping: Any) -> None:
    workspace = await keeping.workspace()
    save = 'mutation($f: ContactFilter!) { saveSegment(input: {name: "s", filter: $f}) { segment { name } userErrors { code message path } } }'

    async def problems(**asked: Any) -> list[Any]:
        payload = (await workspace.data(save, {"f": {"event": {"name": "did", **asked}}}))["saveSegment"]
        assert (payload["segment"] is None) == bool(payload["userErrors"])
        return [(one["code"], one["path"], one["message"]) for one in payload["userErrors"]]

    further = "filter.event.within begins before the 30 days for which events are stored: use a later start, such as lessThanDaysAgo: 30."
    for within in ({"lessThanDaysAgo": 31}, {"after": ago(days=3)}, {"before": ago(days=3)}):
        assert await problems(within=within) == [("INVALID", ["input", "filter"], further)]
    counts = "filter.event.beforeSignUp counts stored events, which are stored for 30 days: add within: {lessThanDaysAgo: 30}."
    assert await problems(beforeSignUp=True) == [("INVALID", ["input", "filter"], counts)]
    assert await problems(within={"lessThanDaysAgo": 30}, beforeSignUp=True) == []
    assert await problems(count={"gt": 2}, first={"before": ago(days=300)}) == []


async def test_nothing_is_refused_where_events_are_kept_for_ever(workspace: Any) -> None:
    await workspace.track(did("ada", ago(days=3000), "/old"))
    for asked in ({"within": {"moreThanDaysAgo": 3}}, {"beforeSignUp": True}, {"metadata": [{"key": "page"}]}):
        found = await workspace.data(FIND, {"f": {"event": {"name": "did", **asked}}})
        assert found["contacts"]["nodes"] == [{"externalId": "ada"}]


async def test_two_who_sweep_at_once_leave_one_tombstone_each(each_new_gateway: Any) -> None:
    workspace = await each_new_gateway.workspace()
    await workspace.track(*(did("ada", ago(days=40, minutes=n), f"/{n}", f"k{n}") for n in range(600)))
    store = each_new_gateway.runtime.services.store

    def later() -> datetime:
        return system_clock() + timedelta(days=2)

    sweepers = [RetentionService(store, Retention(KEPT), later) for _ in range(3)]
    ids = [row["_id"] for row in await workspace.store.events._find({})]
    buried = await asyncio.gather(*(one._replace_by_tombstones(workspace.store, ids[:100]) for one in sweepers))
    assert sorted(buried) == [0, 0, 100]
    swept = await asyncio.gather(*(one.sweep() for one in sweepers))
    assert sorted(swept) == [False, False, True]
    assert await workspace.store.events._find({}) == []
    tombstones = await workspace.store.tombstones._find({})
    assert sorted(row["_id"] for row in tombstones) == sorted(ids)
    again = await workspace.track(*(did("ada", ago(days=40, minutes=n), f"/{n}", f"k{n}") for n in range(600)))
    assert (again["accepted"], again["duplicates"]) == (0, 600)
    summary = (await workspace.data(COUNTED, {"id": "ada"}))["contact"]["eventSummary"]
    assert summary["count"] == 600


async def test_values_are_counted_anew_a_range_of_contacts_at_a_time(each_new_gateway: Any) -> None:
    workspace = await each_new_gateway.workspace()
    await workspace.data(DESCRIBE, {"i": {"name": "did", "summarizeBy": "page"}})
    events = [did(f"c{n % 9}", ago(days=40 + n % 3), f"/{n % 4}", f"k{n}") for n in range(90)]
    visitor = {"contact": {"anonymousId": "visitor"}, "name": "did", "metadata": {"page": "/0"}}
    await workspace.track(visitor, *events)
    merging = (
        'mutation { identifyContact(input: {anonymousId: "visitor", externalId: "c4"}) { merged userErrors { code } } }'
    )
    assert (await workspace.data(merging))["identifyContact"] == {"merged": True, "userErrors": []}
    store = workspace.store
    definition = (await store.definitions.by_names(["did"]))["did"]
    while generation_of(definition) is None:
        await asyncio.sleep(0.05)
        definition = (await store.definitions.by_names(["did"]))["did"]
    build = generation_of(definition)
    assert build is not None

    async def anew(size: int) -> tuple[int, list[Any]]:
        async with each_new_gateway.runtime.database.snapshot() as session:
            await store.definitions.all(session)
            found = [counts async for counts in rebuild_values(store, build, session, system_clock(), size)]
        return len(found), sorted(
            (one.contact_id, one.value, one.count, one.first_at, one.last_at) for counts in found for one in counts
        )

    ids = {row["external_id"]: row["_id"] for row in await store.contacts._find({})}
    wanted: dict[tuple[str, str], int] = {(ids["c4"], "/0"): 1}
    for n in range(90):
        key = (ids[f"c{n % 9}"], f"/{n % 4}")
        wanted[key] = wanted.get(key, 0) + 1
    parts, whole = await anew(1000)
    assert parts == 2
    assert {(contact, value): count for contact, value, count, *_ in whole} == wanted
    sweeper = RetentionService(each_new_gateway.runtime.services.store, Retention(KEPT), system_clock)
    half = [row["_id"] for row in await store.events._find({}) if row["occurred_at"] < NOW - timedelta(days=40)][::2]
    await sweeper._replace_by_tombstones(store, half)
    assert await anew(1000) == (2, whole)
    assert await anew(4) == (4, whole)
    assert bounded([]) == []


async def test_a_tombstone_goes_with_its_contact_also_after_a_merge(keeping: Any, clock: Any) -> None:
    workspace = await keeping.workspace()
    await workspace.data(DESCRIBE, {"i": {"name": "did", "summarizeBy": "page"}})
    visitor = {**did("", ago(days=40), "/v", "v"), "contact": {"anonymousId": "visitor"}}
    await workspace.track(visitor, did("ada", ago(days=41), "/a", "a"), did("bob", ago(days=42), "/b", "b"))
    await swept(keeping, workspace, clock)
    assert len(await workspace.store.tombstones._find({})) == 3
    merging = (
        'mutation { identifyContact(input: {anonymousId: "visitor", externalId: "ada"}) { merged contact { id } } }'
    )
    merged = (await workspace.data(merging))["identifyContact"]
    assert merged["merged"] is True
    summary = (await workspace.data(COUNTED, {"id": "ada"}))["contact"]["eventSummary"]
    assert (summary["count"], summary["firstAt"], summary["lastAt"]) == (2, ago(days=41), ago(days=40))
    again = (await workspace.data(TRACK, {"i": visitor}))["trackEvent"]
    assert (again["duplicate"], again["event"], again["summary"]["count"]) == (True, None, 2)
    async for _ in keeping.runtime.definitions.rebuild([workspace.id]):
        pass
    values = (await counted(workspace))[0]["values"]
    assert [(line["value"], line["count"]) for line in values] == [("/a", 1), ("/v", 1)]
    deleting = "mutation($id: ID!) { deleteContact(input: {id: $id}) { userErrors { code } } }"
    await workspace.data(deleting, {"id": merged["contact"]["id"]})
    assert [row["identity"] for row in await workspace.store.tombstones._find({})] == ["trackEvent:b"]


async def test_a_key_that_is_summarized_by_while_events_go_is_the_one_that_stays(
    keeping: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.retries.BUDGET_SECONDS", 60)  # they hold each other up, longer on a busy machine
    workspace = await keeping.workspace()
    await workspace.track(*(did("ada", ago(days=40, minutes=n), f"/{n % 3}", f"k{n}", plan="pro") for n in range(300)))
    await workspace.data(DESCRIBE, {"i": {"name": "did", "summarizeBy": "page"}})
    clock.ahead += timedelta(days=2)
    store = workspace.store
    ids = sorted(row["_id"] for row in await store.events._find({}))
    service = keeping.runtime.retention
    parts = [ids[start : start + 60] for start in range(0, 300, 60)]
    changing = workspace.data(DESCRIBE, {"i": {"name": "did", "summarizeBy": "plan"}})
    await asyncio.gather(*(service._replace_by_tombstones(store, part) for part in parts), changing)
    left = {row["_id"]: row["metadata"][0]["key"] for row in await store.tombstones._find({})}
    assert len(left) == 300
    async for _ in keeping.runtime.definitions.rebuild([workspace.id]):
        pass
    values = (await counted(workspace))[0]["values"]
    plans = sum(key == "plan" for key in left.values())
    assert [(line["value"], line["count"]) for line in values] == ([("pro", plans)] if plans else [])
