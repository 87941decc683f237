"""Contacts that turn out to be one person: signing in, merging, and all that follows whoever stays."""

import asyncio
import dataclasses
from collections import Counter
from datetime import timedelta
from typing import Any

import orjson
import pytest
import websockets

from gateway.core.clock import system_clock
from gateway.core.pagination import Page
from gateway.core.principals import Scope
from gateway.core.time_ranges import TimeRange
from gateway.store.driver import NaiveUtcProjection

MERGE = """mutation($f: ID!, $i: ID!) { mergeContacts(input: {from: $f, into: $i}) {
  contact { ...whole } movedEvents userErrors { code message path } } }
  fragment whole on Contact { id externalId role email name tags anonymousIds customAttributes signedUpAt lastSeenAt
    unsubscribedFromEmails eventSummaries(first: 100) { nodes { name count firstAt lastAt } } events(first: 100) { nodes { id contact { id } } } }"""
IDENTIFY = """mutation($i: IdentifyContactInput!) { identifyContact(input: $i) {
  contact { id externalId role email name signedUpAt anonymousIds events(first: 100) { nodes { name } } } merged userErrors { code message path } } }"""
UPSERT = "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { contact { id } userErrors { code message } } }"
TRACK = """mutation($i: TrackEventInput!) { trackEvent(input: $i) {
  duplicate event { id contact { id } } summary { count contact { id } } userErrors { code message path } } }"""
FIND = "query($by: ContactKey!) { contact(by: $by) { id } }"
IMPORT = "mutation($i: ImportEventSummariesInput!) { importEventSummaries(input: $i) { summaries { count } userErrors { code } } }"


async def upsert(workspace: Any, **sent: Any) -> str:
    payload = (await workspace.data(UPSERT, {"i": sent}))["upsertContact"]
    assert payload["userErrors"] == []
    return str(payload["contact"]["id"])


async def id_of(workspace: Any, **by: str) -> str | None:
    found = (await workspace.data(FIND, {"by": by}))["contact"]
    return None if found is None else str(found["id"])


async def identify(workspace: Any, anonymous_id: str, external_id: str, **facts: Any) -> Any:
    sent = {"anonymousId": anonymous_id, "externalId": external_id, **facts}
    payload = (await workspace.data(IDENTIFY, {"i": sent}))["identifyContact"]
    assert payload["userErrors"] == [], payload
    return payload


async def merge(workspace: Any, from_: str, into: str) -> Any:
    payload = (await workspace.data(MERGE, {"f": from_, "i": into}))["mergeContacts"]
    assert payload["userErrors"] == [], payload
    return payload


async def two(workspace: Any) -> tuple[str, str, list[str]]:
    """A visitor and a user who did the same things, and their events, the newest first."""
    now = system_clock()
    people = ({"anonymousId": "v"}, {"externalId": "u", "email": "u@example.com"})
    tracked = await workspace.track(
        *(
            {
                "contact": people[number % 2],
                "name": f"did {number % 3}",
                "occurredAt": (now - timedelta(minutes=number)).isoformat(),
            }
            for number in range(12)
        )
    )
    visitor, user = await id_of(workspace, anonymousId="v"), await id_of(workspace, externalId="u")
    assert visitor
    assert user
    return visitor, user, [result["eventId"] for result in tracked["results"]]


async def test_a_merge_joins_everything(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    visitor, user, events = await two(workspace)
    await upsert(
        workspace, id=visitor, name="V", tags=["b", "c"], customAttributes={"x": 1, "y": 2}, unsubscribedFromEmails=True
    )
    await upsert(workspace, id=user, tags=["a", "b"], customAttributes={"y": 3})
    old = [
        {"name": name, "count": 100, "firstAt": "2020-01-01T00:00:00Z", "lastAt": "2020-01-02T00:00:00Z"}
        for name in ("did 0", "import")
    ]
    later = {"name": "did 0", "count": 10, "firstAt": "2019-01-01T00:00:00Z", "lastAt": "2021-01-02T00:00:00Z"}
    await workspace.data(IMPORT, {"i": {"contact": {"id": visitor}, "summaries": old}})
    await workspace.data(IMPORT, {"i": {"contact": {"id": user}, "summaries": [later]}})
    payload = await merge(workspace, visitor, user)
    contact = payload["contact"]
    assert payload["movedEvents"] == 6
    assert (contact["id"], contact["role"], contact["externalId"], contact["name"]) == (user, "USER", "u", "V")
    assert (contact["tags"], contact["anonymousIds"]) == (["a", "b", "c"], ["v"])
    assert (contact["customAttributes"], contact["unsubscribedFromEmails"]) == ({"x": 1, "y": 3}, True)
    assert contact["events"]["nodes"] == [{"id": id_, "contact": {"id": user}} for id_ in events]
    counts = {row["name"]: row["count"] for row in contact["eventSummaries"]["nodes"]}
    assert counts == {"did 0": 114, "did 1": 4, "did 2": 4, "import": 100}
    first = contact["eventSummaries"]["nodes"][0]
    assert first["firstAt"] == "2019-01-01T00:00:00Z"
    rows = {row["name"]: row for row in await workspace.store.summaries._find({})}
    assert {
        name: (row["contact_id"], row.get("tracked_count"), (row.get("imported") or {}).get("count"))
        for name, row in rows.items()
    } == {
        "did 0": (user, 4, 110),
        "did 1": (user, 4, None),
        "did 2": (user, 4, None),
        "import": (user, None, 100),
    }
    again = await merge(workspace, visitor, user)
    assert again["contact"] == contact
    assert again["movedEvents"] == 0


async def test_the_old_id_leads_to_whoever_has_it_now(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    visitor, user, events = await two(workspace)
    await workspace.track({"contact": {"id": visitor}, "name": "did 0", "idempotencyKey": "k"})
    await merge(workspace, visitor, user)
    assert [await id_of(workspace, **by) for by in ({"id": visitor}, {"anonymousId": "v"}, {"externalId": "u"})] == [
        user
    ] * 3
    nodes = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    assert await workspace.data(nodes, {"ids": [visitor, user]}) == {"nodes": [{"id": user}, {"id": user}]}
    payload = (await workspace.data(TRACK, {"i": {"contact": {"id": visitor}, "name": "did 0"}}))["trackEvent"]
    assert payload["event"]["contact"] == {"id": user}
    assert payload["summary"] == {"count": 6, "contact": {"id": user}}
    newest = payload["event"]["id"]
    sent = {"contact": {"id": visitor}, "name": "did 0", "idempotencyKey": "k"}
    payload = (await workspace.data(TRACK, {"i": sent}))["trackEvent"]
    assert (payload["duplicate"], payload["event"]["contact"], payload["summary"]["count"]) == (True, {"id": user}, 6)
    page = """query($f: EventFilter, $n: Int, $a: String) { events(filter: $f, first: $n, after: $a) {
      nodes { id contact { id } } pageInfo { hasNextPage endCursor } } }"""
    for asked in (visitor, user):
        shown, after = [], None
        while True:
            found = (await workspace.data(page, {"f": {"contactId": asked}, "n": 5, "a": after}))["events"]
            shown += [node["id"] for node in found["nodes"]]
            after = found["pageInfo"]["endCursor"]
            if not found["pageInfo"]["hasNextPage"]:
                break
        assert [id_ for id_ in shown if id_ in events] == events
        assert shown[0] == newest
        assert len(shown) == 14
        named = (await workspace.data(page, {"f": {"contactId": asked, "name": ["did 1", "did 2"]}, "n": 50}))["events"]
        assert len(named["nodes"]) == 8
    nested = "query($id: ID!, $c: ID!) { contact(by: {id: $id}) { events(first: 100, filter: {contactId: $c}) { nodes { id } } } }"
    assert len((await workspace.data(nested, {"id": user, "c": visitor}))["contact"]["events"]["nodes"]) == 14
    assert await id_of(workspace, id=user) == user
    third = await upsert(workspace, anonymousId="w")
    await merge(workspace, third, visitor)
    assert await id_of(workspace, id=third) == user


async def test_who_may_be_merged_into_whom(workspace: Any) -> None:
    people = {
        "VISITOR": await upsert(workspace, anonymousId="v"),
        "LEAD": await upsert(workspace, email="l@example.com"),
        "USER": await upsert(workspace, externalId="u"),
        "VISITOR 2": await upsert(workspace, anonymousId="v2"),
        "LEAD 2": await upsert(workspace, email="l2@example.com"),
        "USER 2": await upsert(workspace, externalId="u2"),
    }
    for from_, into, code, path in (
        ("USER", "USER 2", "ILLEGAL_TRANSITION", "from"),
        ("USER", "LEAD", "ILLEGAL_TRANSITION", "from"),
        ("USER", "VISITOR", "ILLEGAL_TRANSITION", "from"),
        ("LEAD", "LEAD 2", "ILLEGAL_TRANSITION", "from"),
        ("LEAD", "VISITOR", "ILLEGAL_TRANSITION", "from"),
        ("VISITOR", "VISITOR 2", "ILLEGAL_TRANSITION", "from"),
        ("USER", "USER", "INVALID", "into"),
        ("x", "USER", "NOT_FOUND", "from"),
        ("USER", "x", "NOT_FOUND", "into"),
    ):
        asked = {"f": people.get(from_, "con_x"), "i": people.get(into, "con_x")}
        payload = (await workspace.data(MERGE, asked))["mergeContacts"]
        (problem,) = payload["userErrors"]
        assert (problem["code"], problem["path"], payload["contact"]) == (code, ["input", path], None)
    assert (await merge(workspace, people["VISITOR"], people["LEAD"]))["contact"]["role"] == "LEAD"
    found = (await merge(workspace, people["LEAD"], people["USER"]))["contact"]
    assert (found["email"], found["anonymousIds"]) == ("l@example.com", ["v"])
    for by in ({"id": people["VISITOR"]}, {"id": people["LEAD"]}, {"email": "L@example.com"}, {"anonymousId": "v"}):
        assert await id_of(workspace, **by) == people["USER"]
    payload = (await workspace.data(MERGE, {"f": people["USER"], "i": people["LEAD"]}))["mergeContacts"]
    assert [problem["code"] for problem in payload["userErrors"]] == ["ILLEGAL_TRANSITION"]


async def test_an_email_that_a_user_has_is_not_taken_along(workspace: Any) -> None:
    lead = await upsert(workspace, anonymousId="l", email="same@example.com", role="LEAD")
    owner = await upsert(workspace, externalId="owner")
    await upsert(workspace, externalId="owner", email="same@example.com")
    user = await upsert(workspace, externalId="u")
    assert (await merge(workspace, lead, user))["contact"]["email"] is None
    assert await id_of(workspace, email="same@example.com") == owner


async def test_pages_of_contacts_that_are_merged_while_they_are_read_stay_apart(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    visitor, user, events = await two(workspace)
    other = await upsert(workspace, externalId="other")
    await workspace.track({"contact": {"externalId": "other"}, "name": "did"})
    await merge(workspace, visitor, user)
    known_before = {one: [one] for one in (visitor, user, other)}
    for fields in (None, ["name"], NaiveUtcProjection(["name", "occurred_at"])):
        found = await workspace.store.events.pages_of_contacts(
            known_before, Page(100, False, None, None), TimeRange(), None, fields
        )
        assert [row["_id"] for row in found[user]] == events
        assert set(found) == {user, other}
        assert len(found[other]) == 1


async def test_signing_in(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    await workspace.track({"contact": {"anonymousId": "a"}, "name": "before"})
    visitor = await id_of(workspace, anonymousId="a")
    facts = {"email": "ada@example.com", "name": "Ada", "signedUpAt": "2026-01-31T09:30:00Z"}
    for _ in range(2):
        payload = await identify(workspace, "a", "ada", **facts)
        assert payload["merged"] is False
        assert payload["contact"] == {
            "id": visitor,
            "externalId": "ada",
            "role": "USER",
            "anonymousIds": ["a"],
            "events": {"nodes": [{"name": "before"}]},
            **facts,
        }
    await workspace.track({"contact": {"anonymousId": "phone"}, "name": "elsewhere"})
    phone = await id_of(workspace, anonymousId="phone")
    payload = await identify(workspace, "phone", "ada")
    assert (payload["merged"], payload["contact"]["id"], payload["contact"]["name"]) == (True, visitor, "Ada")
    assert [node["name"] for node in payload["contact"]["events"]["nodes"]] == ["elsewhere", "before"]
    assert (await identify(workspace, "phone", "ada"))["merged"] is False
    assert await id_of(workspace, id=phone or "") == visitor
    payload = await identify(workspace, "a", "bob")
    assert (payload["merged"], payload["contact"]["externalId"], payload["contact"]["anonymousIds"]) == (
        False,
        "bob",
        [],
    )
    assert await id_of(workspace, anonymousId="a") == visitor
    assert await id_of(workspace, externalId="ada") == visitor
    payload = await identify(workspace, "phone", "bob")
    assert (payload["merged"], await id_of(workspace, anonymousId="phone")) == (False, visitor)
    payload = await identify(workspace, "new", "cleo")
    assert (payload["merged"], payload["contact"]["anonymousIds"], payload["contact"]["role"]) == (
        False,
        ["new"],
        "USER",
    )
    payload = await identify(workspace, "newer", "cleo", name=None)
    assert payload["contact"]["anonymousIds"] == ["newer", "new"]


async def test_the_lead_of_an_anonymous_id_signs_in(workspace: Any) -> None:
    lead = await upsert(workspace, anonymousId="l", email="l@example.com", tags=["t"])
    payload = await identify(workspace, "l", "u")
    contact = payload["contact"]
    assert (contact["id"], contact["role"], contact["email"]) == (lead, "USER", "l@example.com")
    other = await upsert(workspace, anonymousId="m", email="m@example.com")
    payload = await identify(workspace, "m", "u")
    assert (payload["merged"], payload["contact"]["email"]) == (True, "l@example.com")
    assert await id_of(workspace, id=other) == lead


async def test_what_cannot_be_signed_in(workspace: Any) -> None:
    await upsert(workspace, externalId="owner", email="same@example.com")
    for sent, code, path in (
        ({"anonymousId": "a", "externalId": "u", "email": "Same@example.com"}, "CONFLICT", "email"),
        ({"anonymousId": "a", "externalId": "u", "email": "none"}, "INVALID", "email"),
        ({"anonymousId": "", "externalId": "u"}, "INVALID", "anonymousId"),
        ({"anonymousId": "a", "externalId": ""}, "INVALID", "externalId"),
        ({"anonymousId": "a", "externalId": "u", "signedUpAt": "2200-01-01T00:00:00Z"}, "INVALID", "signedUpAt"),
    ):
        payload = (await workspace.data(IDENTIFY, {"i": sent}))["identifyContact"]
        (problem,) = payload["userErrors"]
        assert (problem["code"], problem["path"], payload["contact"]) == (code, ["input", path], None)
    assert await id_of(workspace, externalId="u") is None
    lead = await upsert(workspace, anonymousId="l", email="lead@example.com")
    await upsert(workspace, externalId="other", email=None)
    await workspace.data(UPSERT, {"i": {"externalId": "other", "email": "lead@example.com"}})
    payload = await identify(workspace, "l", "u")
    assert payload["contact"]["id"] == lead
    key = await workspace.key_with(Scope.TRACK)
    hidden = await workspace.data(IDENTIFY, {"i": {"anonymousId": "l", "externalId": "u"}}, key=key)
    assert hidden["identifyContact"]["contact"] is None


@pytest.mark.parametrize("by_merge", [False, True], ids=["identify", "merge"])
async def test_tracking_beside_a_merge_loses_and_doubles_nothing(each_gateway: Any, by_merge: bool) -> None:
    workspace = await each_gateway.workspace()
    visitor = await upsert(workspace, anonymousId="v")
    user = await upsert(workspace, externalId="u")
    people = ({"anonymousId": "v"}, {"externalId": "u"}, {"id": visitor})

    async def client(number: int) -> None:
        for turn in range(3):
            sent = {"contact": people[(number + turn) % 3], "name": f"did {number % 2}"}
            payload = (await workspace.data(TRACK, {"i": sent}))["trackEvent"]
            assert payload["userErrors"] == []

    async def join() -> None:
        await (merge(workspace, visitor, user) if by_merge else identify(workspace, "v", "u"))

    await asyncio.gather(
        *(client(number) for number in range(10)), join(), join(), *(client(number) for number in range(10))
    )
    (contact,) = await workspace.store.contacts._find({})
    counts = Counter(row["name"] for row in await workspace.store.events._find({}))
    assert counts == {"did 0": 30, "did 1": 30}
    rows = await workspace.store.summaries._find({})
    assert {row["name"]: (row["contact_id"], row["count"]) for row in rows} == {
        "did 0": (contact["_id"], 30),
        "did 1": (contact["_id"], 30),
    }
    shown = await workspace.data('{ contact(by: {externalId: "u"}) { events(first: 100) { nodes { id } } } }')
    assert len(shown["contact"]["events"]["nodes"]) == 60
    merges = [row for row in await workspace.store.changes._find({}) if row["kind"] == "MERGED"]
    assert sorted(row["subject"] for row in merges) == ["contact", "summaries"]


async def test_definitions_follow_a_merge(workspace: Any) -> None:
    await workspace.data(
        'mutation { describeEvent(input: {name: "did", summarizeBy: "page"}) { userErrors { code } } }'
    )
    tracked = [
        {"contact": who, "name": "did", "metadata": {"page": page}}
        for who, page in (({"anonymousId": "v"}, "/a"), ({"anonymousId": "v"}, "/b"), ({"externalId": "u"}, "/a"))
    ]
    await workspace.track(*tracked)
    await identify(workspace, "v", "u")
    await workspace.track(tracked[0])
    asked = """{ eventDefinitions { nodes { count contactCount } }
      contact(by: {externalId: "u"}) { eventSummary(name: "did") { count values { value count } } } }"""
    expected = {
        "eventDefinitions": {"nodes": [{"count": 4, "contactCount": 1}]},
        "contact": {"eventSummary": {"count": 4, "values": [{"value": "/a", "count": 3}, {"value": "/b", "count": 1}]}},
    }
    async with asyncio.timeout(30):
        while (found := await workspace.data(asked)) != expected:
            await asyncio.sleep(0.1)
    rows = await workspace.store.values._find({})
    assert sum(row["count"] for row in rows) == 4
    async for _ in workspace.gateway.runtime.definitions.rebuild([workspace.id]):
        pass
    assert found == await workspace.data(asked)


async def test_an_anonymous_token_reads_no_user_after_a_merge(workspace: Any) -> None:
    await workspace.track(
        {"contact": {"anonymousId": "v"}, "name": "did"}, {"contact": {"externalId": "u"}, "name": "did"}
    )
    visitor, user = await id_of(workspace, anonymousId="v"), await id_of(workspace, externalId="u")
    token, known = await workspace.token(anonymousId="v"), await workspace.token(externalId="u")
    await merge(workspace, str(visitor), str(user))
    answer = await workspace.ask(FIND, {"by": {"id": visitor}}, key=token)
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]
    tracked = await workspace.data(TRACK, {"i": {"contact": {}, "name": "did"}}, key=token)
    assert tracked["trackEvent"]["userErrors"] == []
    assert tracked["trackEvent"]["event"] is None
    events = [row["_id"] for row in await workspace.store.events._find({"contact_id": visitor})]
    found = await workspace.data("query($id: ID!) { event(id: $id) { contact { id } } }", {"id": events[0]}, key=known)
    assert found == {"event": {"contact": {"id": user}}}
    assert (await workspace.data("{ viewer { contact { events(first: 9) { nodes { id } } } } }", key=known))["viewer"][
        "contact"
    ]["events"]["nodes"][0]


async def test_two_processes_merge_and_track_at_once(open_gateway: Any) -> None:
    async with open_gateway() as one, open_gateway(database=one.runtime.database._database.name) as other:
        workspace = await one.workspace()
        elsewhere = dataclasses.replace(workspace, gateway=other)
        visitor, user = await upsert(workspace, anonymousId="v"), await upsert(workspace, externalId="u")

        async def client(place: Any, **who: str) -> None:
            for _ in range(5):
                payload = (await place.data(TRACK, {"i": {"contact": who, "name": "did"}}))["trackEvent"]
                assert payload["userErrors"] == []

        clients = [
            client(place, **who) for place in (workspace, elsewhere) for who in ({"id": visitor}, {"externalId": "u"})
        ]
        moved = await asyncio.gather(*clients, merge(workspace, visitor, user), merge(elsewhere, visitor, user))
        assert sorted(payload["movedEvents"] > 0 for payload in moved[-2:]) in ([False, True], [False, False])
        (row,) = await workspace.store.summaries._find({})
        assert (row["contact_id"], row["count"], row["tracked_count"]) == (user, 20, 20)
        assert len(await workspace.store.events._find({})) == 20


CHANGED = "subscription($f: ContactStreamFilter, $a: String) { contactChanged(filter: $f, after: $a) { kind contactId mergedId contact { id } } }"
TRACKED = "subscription($f: EventStreamFilter, $a: String) { eventTracked(filter: $f, after: $a) { kind event { name contact { id } } } }"


async def heard(connection: Any, id_: str, count: int) -> list[Any]:
    """The next payloads of a subscription of that socket, checkpoints left out."""
    found: list[Any] = []
    while len(found) < count:
        message = orjson.loads(await asyncio.wait_for(connection.recv(), 30))
        assert message["type"] == "next", message
        (payload,) = message["payload"]["data"].values()
        if message["id"] == id_ and payload["kind"] != "CHECKPOINT":
            found.append(payload)
    return found


async def test_subscribers_to_the_old_id_follow_whoever_has_it(workspace: Any) -> None:
    visitor, user = await upsert(workspace, anonymousId="v"), await upsert(workspace, externalId="u")
    cursor = (await workspace.data("{ streamCursor }"))["streamCursor"]
    delete = "mutation($id: ID!) { deleteContact(input: {id: $id}) { userErrors { code } } }"
    await merge(workspace, visitor, user)
    await workspace.track(
        {"contact": {"externalId": "u"}, "name": "did"}, {"contact": {"externalId": "x"}, "name": "no"}
    )
    await workspace.data(delete, {"id": visitor})
    url = workspace.gateway.url.replace("http:", "ws:")
    merged = {"kind": "MERGED", "contactId": user, "mergedId": visitor, "contact": None}
    deleted = {"kind": "DELETED", "contactId": user, "mergedId": None, "contact": None}
    for subscription, filter_, expected in (
        (CHANGED, {"contactId": visitor, "kind": ["MERGED", "DELETED"]}, [merged, deleted]),
        (CHANGED, {"contactId": user, "kind": ["MERGED", "DELETED"]}, [merged, deleted]),
        (CHANGED, {"kind": ["MERGED"]}, [merged]),
        (CHANGED, {"kind": ["DELETED"]}, [deleted]),
        (TRACKED, {"contactId": visitor}, [{"kind": "TRACKED", "event": {"name": "did", "contact": None}}]),
    ):
        async with websockets.connect(url, subprotocols=["graphql-transport-ws"]) as connection:  # type: ignore[list-item]
            await connection.send(
                orjson.dumps(
                    {"type": "connection_init", "payload": {"authorization": f"Bearer {workspace.key}"}}
                ).decode()
            )
            assert orjson.loads(await connection.recv()) == {"type": "connection_ack"}
            sent = {"query": subscription, "variables": {"f": filter_, "a": cursor}}
            await connection.send(orjson.dumps({"type": "subscribe", "id": "1", "payload": sent}).decode())
            assert await heard(connection, "1", len(expected)) == expected
