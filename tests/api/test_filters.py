"""Filters of contacts: the questions that people ask, what each one reads, and that random ones answer as plain Python does."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.clock import system_clock
from gateway.core.cursors import CursorCipher
from gateway.core.pagination import PageArguments, connection, page, page_info
from gateway.core.sorting import ContactOrder, ContactSortKey
from gateway.core.time_ranges import TimeRange
from gateway.domain.filters.conditions import check_metadata_filter, parse_filter
from gateway.store.contacts.contacts import Contacts
from gateway.store.events.event_search import EventSearch
from gateway.store.filters.contact_search import ContactSearch

CIPHER = CursorCipher([b"a secret of this test"])
CONTACTS = """query($f: ContactFilter, $s: ContactSort, $first: Int, $after: String, $last: Int, $before: String) {
  contacts(filter: $f, sort: $s, first: $first, after: $after, last: $last, before: $before) {
    nodes { externalId } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } totalCount } }"""
UPSERT = "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { userErrors { code message path } } }"


@pytest.fixture
def gateway(still_gateway: Any) -> Any:
    return still_gateway


async def stated(workspace: Any, *contacts: dict[str, Any]) -> None:
    for contact in contacts:
        found = await workspace.data(UPSERT, {"i": contact})
        assert found["upsertContact"]["userErrors"] == []


def did(who: str, name: str, at: datetime, **metadata: Any) -> dict[str, Any]:
    return {"contact": {"externalId": who}, "name": name, "occurredAt": at.isoformat(), "metadata": metadata}


async def people(workspace: Any, filter_: Any, **arguments: Any) -> list[str]:
    found = await workspace.data(CONTACTS, {"f": filter_, **arguments})
    return [node["externalId"] for node in found["contacts"]["nodes"]]


@pytest.fixture
async def shop(workspace: Any, now: datetime) -> Any:
    """Ann uses everything, Ben left his cart, Cleo has just come, Dora did nothing."""
    day = timedelta(days=1)
    await stated(
        workspace,
        {
            "externalId": "ann",
            "name": "Ann",
            "email": "Ann@Example.com",
            "tags": ["VIP", "beta"],
            "location": {"city": "Bonn", "country": "DE"},
            "customAttributes": {
                "plan": "Pro",
                "seats": 12,
                "trial": False,
                "renews_at": (now + 3 * day).isoformat(),
                "spent": {"amount": 12000, "currency": "EUR"},
                "site": "https://ann.example/",
            },
            "signedUpAt": (now - 20 * day).isoformat(),
        },
        {
            "externalId": "ben",
            "name": "ben",
            "email": "ben@shop.example",
            "tags": ["beta"],
            "location": {"country": "FR"},
            "customAttributes": {"plan": "free", "seats": 1, "trial": True},
            "signedUpAt": (now - 2 * day).isoformat(),
        },
        {"externalId": "cleo", "name": "Cleo", "role": "USER", "phone": "+49 1"},
        {"externalId": "dora"},
    )
    events = [did("ann", "created report", now - age * day) for age in (30, 6, 1)]
    events += [did("ben", "created report", now - 2 * day), did("cleo", "created report", now - day / 2)]
    events += [did("ann", "viewed pricing", now - age * day) for age in (25, 22, 4, 3, 2)]
    events += [did("ben", "viewed pricing", now - day) for _ in range(3)]
    events += [did("ann", "added to cart", now - 5 * day), did("ann", "bought", now - 4 * day)]
    events += [did("ben", "bought", now - 5 * day), did("ben", "added to cart", now - 4 * day)]
    events += [did("cleo", "added to cart", now - 3 * day), did("cleo", "bought", now - 3 * day)]
    events += [
        did("ann", "viewed page", now - 25 * day, url="https://shop.example/pricing", seconds=12),
        did("ann", "viewed page", now - 10 * day, url="https://shop.example/docs", seconds=3.5),
        did(
            "ben",
            "viewed page",
            now - day,
            url="https://shop.example/pricing",
            price={"amount": 4999, "currency": "usd"},
        ),
        did("cleo", "viewed page", now - day, title="Start", renewal_date=1893456000, first_visit=True),
    ]
    await workspace.track(*events)
    return workspace


ANSWERS: dict[str, tuple[Any, str]] = {
    "everybody": ({}, "dora cleo ben ann"),
    "more than two reports": ({"event": {"name": "created report", "count": {"gt": 2}}}, "ann"),
    "first report over 5 days ago": ({"event": {"name": "created report", "first": {"moreThanDaysAgo": 5}}}, "ann"),
    "first report within 5 days": ({"event": {"name": "created report", "first": {"lessThanDaysAgo": 5}}}, "cleo ben"),
    "pricing over 3 times": ({"event": {"name": "viewed pricing", "count": {"gt": 3}}}, "ann"),
    "fewer than 5 looks, or none": ({"event": {"name": "viewed pricing", "count": {"lt": 5}}}, "dora cleo ben"),
    "a cart without a purchase": ({"event": {"name": "added to cart", "notFollowedBy": "bought"}}, "ben"),
    "never bought": ({"event": {"name": "bought", "never": True}}, "dora"),
    "bought once at least": ({"event": {"name": "bought"}}, "cleo ben ann"),
    "pricing twice this week": (
        {"event": {"name": "viewed pricing", "within": {"lessThanDaysAgo": 7}, "count": {"gte": 3}}},
        "ben ann",
    ),
    "no report this week": (
        {"event": {"name": "created report", "never": True, "within": {"lessThanDaysAgo": 1}}},
        "dora ben ann",
    ),
    "pricing before signing up": (
        {"event": {"name": "viewed pricing", "beforeSignUp": True, "count": {"eq": 2}}},
        "ann",
    ),
    "pages before signing up": ({"event": {"name": "viewed page", "beforeSignUp": True}}, "cleo ann"),
    "metadata: link": (
        {"event": {"name": "viewed page", "metadata": [{"key": "url", "link": {"endsWith": "/PRICING"}}]}},
        "ben ann",
    ),
    "metadata: number": (
        {"event": {"name": "viewed page", "metadata": [{"key": "seconds", "number": {"lt": 4}}]}},
        "ann",
    ),
    "metadata: money": (
        {
            "event": {
                "name": "viewed page",
                "metadata": [{"key": "price", "money": {"currency": "USD", "amountMinor": {"gte": 4999}}}],
            }
        },
        "ben",
    ),
    "metadata: date": (
        {
            "event": {
                "name": "viewed page",
                "metadata": [{"key": "renewal_date", "time": {"after": "2029-12-31T00:00:00Z"}}],
            }
        },
        "cleo",
    ),
    "metadata: text": (
        {"event": {"name": "viewed page", "metadata": [{"key": "title", "string": {"eq": "start"}}]}},
        "cleo",
    ),
    "metadata: yes or no": (
        {"event": {"name": "viewed page", "metadata": [{"key": "first_visit", "boolean": True}]}},
        "cleo",
    ),
    "metadata: a key that is there": ({"event": {"name": "viewed page", "metadata": [{"key": "seconds"}]}}, "ann"),
    "metadata: both": (
        {
            "event": {
                "name": "viewed page",
                "metadata": [{"key": "url", "link": {"contains": "docs"}}, {"key": "seconds", "number": {"gt": 10}}],
            }
        },
        "",
    ),
    "tag": ({"tag": {"eq": "vip"}}, "ann"),
    "tag in": ({"tag": {"in": ["vip", "Beta"]}}, "ben ann"),
    "not that tag": ({"tag": {"ne": "vip"}}, "dora cleo ben"),
    "no tag": ({"tag": {"known": False}}, "dora cleo"),
    "e-mail": ({"email": {"eq": "ann@example.COM"}}, "ann"),
    "e-mail ends": ({"email": {"endsWith": "@SHOP.example"}}, "ben"),
    "name": ({"name": {"startsWith": "B"}}, "ben"),
    "name in": ({"name": {"in": ["BEN", "CLEO"]}}, "cleo ben"),
    "external id": ({"externalId": {"eq": "CLEO"}}, "cleo"),
    "phone": ({"phone": {"known": True}}, "cleo"),
    "place": ({"country": {"eq": "de"}, "city": {"contains": "ON"}}, "ann"),
    "role": ({"role": ["USER"], "country": {"known": False}}, "dora cleo"),
    "no role": ({"role": []}, ""),
    "signed up": ({"signedUpAt": {"known": True, "moreThanDaysAgo": 5}}, "ann"),
    "never signed up": ({"signedUpAt": {"known": False}}, "dora cleo"),
    "seen": ({"lastSeenAt": {"lessThanDaysAgo": 1}}, "cleo"),
    "never seen": ({"lastSeenAt": {"known": False}}, "dora"),
    "created": ({"createdAt": {"lessThanMinutesAgo": 60}}, "dora cleo ben ann"),
    "not created yet": ({"createdAt": {"moreThanMinutesAgo": 60}}, ""),
    "attribute: text": ({"customAttribute": {"key": "plan", "string": {"eq": "pro"}}}, "ann"),
    "attribute: number": ({"customAttribute": {"key": "seats", "number": {"gte": 1, "lt": 12}}}, "ben"),
    "attribute: yes or no": ({"customAttribute": {"key": "trial", "boolean": False}}, "ann"),
    "attribute: time": ({"customAttribute": {"key": "renews_at", "time": {"lessThanDaysAgo": 0}}}, "ann"),
    "attribute: money": ({"customAttribute": {"key": "spent", "money": {"currency": "eur"}}}, "ann"),
    "attribute: link": ({"customAttribute": {"key": "site", "link": {"startsWith": "https://ann"}}}, "ann"),
    "attribute: another type": ({"customAttribute": {"key": "plan", "number": {"gt": 0}}}, ""),
    "or": ({"or": [{"tag": {"eq": "vip"}}, {"event": {"name": "bought", "never": True}}]}, "dora ann"),
    "or by indexes": ({"or": [{"tag": {"eq": "vip"}}, {"event": {"name": "added to cart"}}]}, "cleo ben ann"),
    "none of nothing": ({"or": []}, ""),
    "and, not": (
        {"and": [{"event": {"name": "bought"}}, {"not": {"country": {"in": ["DE", "FR"]}}}], "role": ["USER"]},
        "cleo",
    ),
}


async def test_questions_have_their_answers(shop: Any) -> None:
    for question, (filter_, expected) in ANSWERS.items():
        found = (await shop.data(CONTACTS, {"f": filter_, "first": 3}))["contacts"]
        names = [node["externalId"] for node in found["nodes"]]
        assert names == expected.split()[:3], question
        assert found["pageInfo"]["hasNextPage"] == (len(expected.split()) > 3), question
        assert found["totalCount"] == len(expected.split()), question


async def test_a_page_that_shows_all_there_is_has_no_next_and_cursors_hold_for_one_filter(shop: Any) -> None:
    bought = {"event": {"name": "bought"}}
    first = (await shop.data(CONTACTS, {"f": bought, "first": 2}))["contacts"]
    assert [node["externalId"] for node in first["nodes"]] == ["cleo", "ben"]
    after = first["pageInfo"]["endCursor"]
    assert await people(shop, bought, first=2, after=after) == ["ann"]
    assert await people(shop, bought, last=2) == ["ben", "ann"]
    for filter_, sort in (({}, None), (bought, {"key": "NAME", "direction": "ASC"})):
        answer = await shop.ask(CONTACTS, {"f": filter_, "s": sort, "after": after})
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["BAD_REQUEST"]


async def test_names_and_times_sort_with_nulls_last_either_way(shop: Any) -> None:
    def sort(key: str, direction: str) -> Any:
        return {"key": key, "direction": direction}

    assert await people(shop, {}, s=sort("NAME", "ASC")) == ["ann", "ben", "cleo", "dora"]
    assert await people(shop, {}, s=sort("NAME", "DESC")) == ["cleo", "ben", "ann", "dora"]
    assert await people(shop, {}, s=sort("LAST_SEEN_AT", "DESC")) == ["cleo", "ben", "ann", "dora"]
    assert await people(shop, {}, s=sort("LAST_SEEN_AT", "ASC")) == ["ann", "ben", "cleo", "dora"]
    assert await people(shop, {}, s=sort("CREATED_AT", "ASC")) == ["ann", "ben", "cleo", "dora"]
    await stated(shop, {"externalId": "ben", "name": "Zoe"})
    assert await people(shop, {}, s=sort("UPDATED_AT", "DESC")) == ["ben", "dora", "cleo", "ann"]
    assert await people(shop, {"tag": {"eq": "beta"}}, s=sort("NAME", "DESC")) == ["ben", "ann"]
    assert await people(shop, {"name": {"eq": "ben"}}) == []
    assert await people(shop, {"name": {"eq": "ZOE"}}) == ["ben"]
    await stated(shop, {"externalId": "ben", "name": None})
    assert await people(shop, {}, s=sort("NAME", "DESC")) == ["cleo", "ann", "dora", "ben"]


REFUSED: dict[str, tuple[Any, str]] = {
    "51 conditions": ({"and": [{"name": {"eq": "x"}}] * 51}, "more than 50 conditions"),
    "metadata counts": (
        {"event": {"name": "x", "metadata": [{"key": "k"}] * 50}},
        "more than 50 conditions: remove filter.event.metadata.49 and those after it",
    ),
    "6 deep": ({"not": {"not": {"not": {"not": {"not": {"name": {"eq": "x"}}}}}}}, "deeper than 5 levels"),
    "too many texts": (
        {"or": [{"name": {"in": ["x"] * 101}}]},
        "filter.or.0.name.in has 101 texts; the limit is 100",
    ),
    "never with a count": (
        {"not": {"event": {"name": "x", "never": True, "count": {"gt": 1}}}},
        "filter.not.event.never cannot be combined with count",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_what_a_filter_cannot_mean_is_told(workspace: Any, why: str) -> None:
    filter_, told = REFUSED[why]
    (error,) = (await workspace.ask(CONTACTS, {"f": filter_}))["errors"]
    assert error["extensions"]["code"] == "BAD_REQUEST"
    assert told in error["message"]


async def test_a_filter_that_nests_without_end_is_refused_before_it_is_read(workspace: Any) -> None:
    sent = json.dumps({"query": CONTACTS, "variables": {"f": "DEEP"}})
    deep = '{"not": ' * 400 + "{}" + "}" * 400
    written = "{ contacts(filter: " + "{not: " * 30 + "{}" + "}" * 30 + ") { nodes { id } } }"
    for raw in (sent.replace('"DEEP"', deep), json.dumps({"query": written})):
        (error,) = (await workspace.post("", raw=raw.encode())).json()["errors"]
        assert error["extensions"]["code"] == "BAD_REQUEST"
        assert "deeper than 5 levels" in error["message"]


async def test_a_text_that_no_text_can_be_is_refused(workspace: Any) -> None:
    (error,) = (await workspace.ask('{ contacts(filter: {tag: {eq: "\\ud800"}}) { nodes { id } } }'))["errors"]
    assert error["extensions"]["code"] == "BAD_REQUEST"


async def test_conditions_count_into_the_cost(workspace: Any) -> None:
    events = 'events(filter: {metadata: [{key: "a"}, {key: "b"}], name: ["x"]}, first: 3) { nodes { id } }'
    query = f"query($f: ContactFilter) {{ contacts(first: 5, filter: $f) {{ nodes {{ {events} }} }} }}"
    filter_ = {"and": [{"tag": {"eq": "a"}}], "event": {"name": "x", "metadata": [{"key": "a"}]}}
    request = {"query": query, "variables": {"f": filter_}, "extensions": {"cost": True}}
    answer = (await workspace.post("", raw=orjson.dumps(request))).json()
    of_contacts, of_events = 1000 + 5 * 200, 1000 + 3 * 200  # five objects and three
    assert answer["extensions"] == {
        "cost": 5 + of_contacts + of_contacts // 20 + 5 * 3 + of_events + 5 * of_events // 20
    }


@pytest.mark.parametrize("order", [ContactOrder(), ContactOrder(ContactSortKey.NAME, descending=False)])
@pytest.mark.parametrize("backward", [False, True])
async def test_what_no_index_narrows_looks_at_so_many_a_page_and_goes_on(
    workspace: Any, order: ContactOrder, backward: bool
) -> None:
    await workspace.track(*({"contact": {"externalId": f"u{number}"}, "name": "came"} for number in range(60)))
    rare = parse_filter({"external_id": {"ends_with": "7"}})
    search = ContactSearch(workspace.store, rare, order, system_clock(), most=7)
    arguments, found, looks = PageArguments(last=2) if backward else PageArguments(first=2), [], 0
    while True:
        asked = page(arguments, CIPHER, "list")
        result = await search.page(asked)
        shown = connection(result.rows, asked, order.position, result.stopped_at)
        assert len(shown["nodes"]) <= 2
        found += [row["external_id"] for row in shown["nodes"]]
        looks += 1
        info = page_info(shown)
        if not info["has_previous_page" if backward else "has_next_page"]:
            break
        cursors = {"before": info["start_cursor"], "last": 2} if backward else {"after": info["end_cursor"], "first": 2}
        arguments = PageArguments(**cursors)
    assert sorted(found) == ["u17", "u27", "u37", "u47", "u57", "u7"]
    assert looks >= 60 // 7
    assert await search.count(100) is None
    assert await ContactSearch(workspace.store, rare, order, system_clock()).count(100) == 6
    assert await ContactSearch(workspace.store, rare, order, system_clock()).count(4) == 4
    totals = await workspace.data(
        "{ contacts { all: totalCount some: totalCount(upTo: 7) null: totalCount(upTo: null) } }"
    )
    assert totals["contacts"] == {"all": 60, "some": 7, "null": 60}


async def test_events_that_are_looked_at_go_on_too(workspace: Any, now: datetime) -> None:
    await workspace.track(*(did("u", "came", now - timedelta(minutes=number), n=number) for number in range(60)))
    tests = check_metadata_filter([{"key": "n"}, {"key": "n", "number": {"gte": 50}}], "filter")
    search = EventSearch(workspace.store, TimeRange(), system_clock(), metadata=tests, most=9)
    found, cursor = [], None
    while True:
        asked = page(PageArguments(first=3, after=cursor), CIPHER, "list")
        result = await search.page(asked)
        shown = connection(result.rows, asked, lambda row: str(row["_id"]), result.stopped_at)
        found += [row["metadata_json"]["n"] for row in shown["nodes"]]
        info = page_info(shown)
        cursor = info["end_cursor"]
        if not info["has_next_page"]:
            break
    assert found == list(range(50, 60))
    assert await search.count(100) is None


# Those that no index narrows: they walk all contacts, up to 10,000 a page.
WALKED = {
    *("everybody", "fewer than 5 looks, or none", "never bought", "no report this week", "not that tag", "no tag"),
    *("e-mail ends", "name", "phone", "role", "signed up", "never signed up", "seen", "never seen", "created", "or"),
    *(question for question in ANSWERS if question.startswith("attribute")),
}


async def test_each_question_reads_by_an_index(shop: Any) -> None:
    """The executed plan of every read: none goes through a collection, and what an index narrows reads those alone."""
    await shop.track(*(did(f"other {number}", "came", system_clock()) for number in range(300)))
    database = shop.gateway.runtime.database._database
    for question, (filter_, _) in ANSWERS.items():
        for sort in (None, {"key": "NAME", "direction": "DESC"}):
            shop.gateway.commands.finds.clear()
            await shop.data(
                "query($f: ContactFilter, $s: ContactSort) { contacts(filter: $f, sort: $s) { nodes { id } } }",
                {"f": filter_, "s": sort},
            )
            examined = 0
            for command in list(shop.gateway.commands.finds):
                plan = await explained(database, command)
                assert "COLLSCAN" not in str(plan["winningPlan"]), (question, command)
                if command.get("find") == "contacts":
                    examined += plan["executed"]["totalDocsExamined"]
            assert question in WALKED or examined <= 5 * 4, (question, sort, examined)


async def explained(database: Any, command: dict[str, Any]) -> Any:
    told = {"find", "filter", "sort", "limit", "aggregate", "pipeline", "cursor"}
    asked = {name: value for name, value in command.items() if name in told}
    found = await database.command("explain", asked, verbosity="executionStats")
    if "stages" in found:
        found = found["stages"][0]["$cursor"]
    return {"winningPlan": found["queryPlanner"]["winningPlan"], "executed": found["executionStats"]}


EVENTS = """query($c: ContactKey!, $f: EventFilter, $first: Int, $after: String) {
  contact(by: $c) { events(filter: $f, first: $first, after: $after) {
    nodes { name metadataJson } pageInfo { hasNextPage endCursor } totalCount } } }"""


async def test_every_page_that_somebody_saw_before_signing_up(shop: Any) -> None:
    async def seen(who: str, **filter_: Any) -> list[Any]:
        found = await shop.data(EVENTS, {"c": {"externalId": who}, "f": {"name": ["viewed page"], **filter_}})
        events = found["contact"]["events"]
        assert events["totalCount"] == len(events["nodes"])
        assert not events["pageInfo"]["hasNextPage"]
        return [node["metadataJson"].get("url", node["metadataJson"].get("title")) for node in events["nodes"]]

    pricing, docs = "https://shop.example/pricing", "https://shop.example/docs"
    assert await seen("ann") == [docs, pricing]
    assert await seen("ann", beforeSignUp=True) == [pricing]
    assert await seen("ben", beforeSignUp=True) == []
    assert await seen("cleo", beforeSignUp=True) == ["Start"]
    assert await seen("ann", metadata=[{"key": "seconds", "number": {"lt": 4}}]) == [docs]
    assert await seen("ann", metadata=[{"key": "seconds"}], occurredAt={"moreThanDaysAgo": 20}) == [pricing]
    for filter_, expected in (
        ({"beforeSignUp": True, "name": ["viewed page"]}, ["cleo", "ann"]),
        ({"metadata": [{"key": "url", "link": {"endsWith": "pricing"}}]}, ["ben", "ann"]),
        ({"metadata": [{"key": "url"}], "beforeSignUp": True}, ["ann"]),
        ({"metadata": [{"key": "url"}], "name": ["viewed page", "bought"], "contactId": "con_none"}, []),
    ):
        found = await shop.data(
            "query($f: EventFilter) { events(filter: $f) { nodes { contact { externalId } } totalCount } }",
            {"f": filter_},
        )
        assert [node["contact"]["externalId"] for node in found["events"]["nodes"]] == expected
        assert found["events"]["totalCount"] == len(expected)
    everything = await shop.data(
        '{ events { totalCount few: totalCount(upTo: 3) } bought: events(filter: {name: ["bought", "viewed page"]}) { totalCount } }'
    )
    assert everything == {"events": {"totalCount": 23, "few": 3}, "bought": {"totalCount": 7}}


async def test_metadata_of_a_level_of_contacts_is_looked_at_for_each(shop: Any) -> None:
    query = """query($f: EventFilter) { contacts(sort: {key: NAME, direction: ASC}) { nodes { externalId
      events(filter: $f, first: 1) { nodes { name } pageInfo { hasNextPage } totalCount } } } }"""
    found = await shop.data(query, {"f": {"metadata": [{"key": "url"}]}})
    assert [
        (
            row["externalId"],
            len(row["events"]["nodes"]),
            row["events"]["pageInfo"]["hasNextPage"],
            row["events"]["totalCount"],
        )
        for row in found["contacts"]["nodes"]
    ] == [("ann", 1, True, 2), ("ben", 1, False, 1), ("cleo", 0, False, 0), ("dora", 0, False, 0)]


async def test_the_heaviest_users_of_a_feature(shop: Any) -> None:
    query = """query($e: String!, $n: Int) { topContacts(event: $e, first: $n) {
      contact { externalId } count lastAt summary { name count lastAt } } }"""
    found = (await shop.data(query, {"e": "created report"}))["topContacts"]
    assert [(row["contact"]["externalId"], row["count"]) for row in found] == [("ann", 3), ("ben", 1), ("cleo", 1)]
    assert all(
        row["summary"] == {"name": "created report", "count": row["count"], "lastAt": row["lastAt"]} for row in found
    )
    assert len((await shop.data(query, {"e": "created report", "n": 1}))["topContacts"]) == 1
    assert (await shop.data(query, {"e": "nothing"}))["topContacts"] == []
    for number in (0, 101):
        (error,) = (await shop.ask(query, {"e": "bought", "n": number}))["errors"]
        assert error["extensions"]["code"] == "BAD_REQUEST"
    (error,) = (await shop.ask("{ contacts { totalCount(upTo: 10001) } }"))["errors"]
    assert error["message"] == "'upTo' must be from 1 to 10000, not 10001."


async def test_contacts_from_before_are_found_by_their_terms_once_migrated(shop: Any) -> None:
    database = shop.gateway.runtime.database
    await database._database["contacts"].update_many(
        {"workspace_id": shop.id}, {"$unset": {"terms": "", "name_lower": ""}}
    )
    assert await people(shop, {"tag": {"eq": "vip"}}) == []
    await Contacts(database, shop.id).set_terms()
    assert await people(shop, {"tag": {"eq": "vip"}}) == ["ann"]
    assert await people(shop, {}, s={"key": "NAME", "direction": "ASC"}) == ["ann", "ben", "cleo", "dora"]


# The queries of docs/filters.md, in their order, with who is found.
DOCUMENTED = [
    *("ann", "ann", "cleo ben", "ann", "ben", "", "ben ann", "ben ann", "ben ann", "ben", "cleo ann", "ann", "ann"),
    *("cleo ann", "cleo ben ann", "ann ben cleo"),
]


async def test_every_query_of_the_page_on_filters_answers_as_it_says(shop: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "filters.md").read_text()
    queries = re.findall(r"```graphql\n(.*?)```", page, flags=re.S)
    found = []
    for query in queries:
        data = await shop.data(query.replace("displayName", "displayName externalId"))
        rows = data["contacts"]["nodes"] if "contacts" in data else [row["contact"] for row in data["topContacts"]]
        found.append(" ".join(row["externalId"] for row in rows))
    assert found == DOCUMENTED
