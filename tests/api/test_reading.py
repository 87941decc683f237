"""Reading over HTTP: connections, nesting, and what a page costs."""

import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.core.clock import system_clock

PAGE = """query($first: Int, $after: String, $last: Int, $before: String) {
  events(first: $first, after: $after, last: $last, before: $before) { nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""


def some_events(count: int) -> list[dict[str, Any]]:
    return [
        {"contact": {"externalId": f"u{number % 7}"}, "name": f"did {number % 3}", "metadata": {"number": number}}
        for number in range(count)
    ]


async def test_pages_forwards_and_backwards_show_every_event_once(workspace: Any) -> None:
    await workspace.track(*some_events(53))
    forwards: list[str] = []
    asked: dict[str, Any] = {"first": 10}
    while True:
        page = (await workspace.data(PAGE, asked))["events"]
        forwards += [node["id"] for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            break
        asked = {"first": 10, "after": page["pageInfo"]["endCursor"]}
    assert forwards == sorted(forwards, reverse=True)
    assert len(set(forwards)) == 53
    backwards: list[str] = []
    asked = {"last": 10}
    while True:
        page = (await workspace.data(PAGE, asked))["events"]
        backwards = [node["id"] for node in page["nodes"]] + backwards
        if not page["pageInfo"]["hasPreviousPage"]:
            break
        asked = {"last": 10, "before": page["pageInfo"]["startCursor"]}
    assert backwards == forwards


# ---- nesting ----------------------------------------------------------------------------------------------------


async def test_events_lead_to_contacts_and_contacts_to_events(workspace: Any) -> None:
    await workspace.track(*some_events(14))
    data = await workspace.data(
        "{ events(first: 14) { nodes { id name contact { externalId events(first: 100) { nodes { id contact { externalId } } } } definition { name archived } } } }"
    )
    nodes = data["events"]["nodes"]
    assert len(nodes) == 14
    for node in nodes:
        assert node["definition"] == {"name": node["name"], "archived": False}
        timeline = node["contact"]["events"]["nodes"]
        assert [event["contact"]["externalId"] for event in timeline] == [node["contact"]["externalId"]] * 2
        assert node["id"] in {event["id"] for event in timeline}
    back = await workspace.data(
        "{ contacts(first: 10) { nodes { externalId events { nodes { id } } eventSummaries { nodes { name contact { externalId } definition { name } } } } } }"
    )
    seen = [event["id"] for contact in back["contacts"]["nodes"] for event in contact["events"]["nodes"]]
    assert sorted(seen, reverse=True) == [node["id"] for node in nodes]
    for contact in back["contacts"]["nodes"]:
        for summary in contact["eventSummaries"]["nodes"]:
            assert summary == {
                "name": summary["name"],
                "contact": {"externalId": contact["externalId"]},
                "definition": {"name": summary["name"]},
            }


async def test_one_field_with_two_sets_of_arguments_gives_each_its_own(workspace: Any) -> None:
    await workspace.track(*some_events(21))
    data = await workspace.data(
        """{ contact(by: {externalId: "u0"}) { all: events { nodes { id name } } one: events(first: 1) { nodes { id } } zero: events(filter: {name: ["did 0"]}) { nodes { name } }
          x: eventSummary(name: "did 0") { count } y: eventSummary(name: "never") { count } named: eventSummaries(names: ["did 1", "never"]) { nodes { name } } } }"""
    )
    contact = data["contact"]
    assert [node["name"] for node in contact["all"]["nodes"]].count("did 0") == 1
    assert (len(contact["all"]["nodes"]), contact["one"]["nodes"]) == (3, [{"id": contact["all"]["nodes"][0]["id"]}])
    assert (contact["zero"]["nodes"], contact["x"], contact["y"], contact["named"]["nodes"]) == (
        [{"name": "did 0"}],
        {"count": 1},
        None,
        [{"name": "did 1"}],
    )


# ---- time -------------------------------------------------------------------------------------------------------

TIMELINE = """query($f: EventFilter) { contact(by: {externalId: "u"}) { events(first: 100, filter: $f) { nodes { name } } } events(first: 100, filter: $f) { nodes { name } } }"""


async def days_ago(workspace: Any, *days: float) -> None:
    now = system_clock()
    await workspace.track(
        *(
            {"contact": {"externalId": "u"}, "name": f"{ago:g}", "occurredAt": (now - timedelta(days=ago)).isoformat()}
            for ago in days
        )
    )


async def timelines(workspace: Any, **filter_: Any) -> tuple[list[str], list[str]]:
    """The names that the contact's timeline and the workspace's list show."""
    data = await workspace.data(TIMELINE, {"f": filter_ or None})
    return [node["name"] for node in data["contact"]["events"]["nodes"]], [
        node["name"] for node in data["events"]["nodes"]
    ]


async def test_a_timeline_shows_ninety_days_unless_asked_for_others(workspace: Any) -> None:
    await days_ago(workspace, 0, 1, 89.9, 90.1, 400, 3600)
    assert await timelines(workspace) == (["0", "1", "89.9"], ["0", "1", "89.9", "90.1", "400", "3600"])
    assert await timelines(workspace, name=["1", "400"]) == (["1"], ["1", "400"])
    everything = ["0", "1", "89.9", "90.1", "400", "3600"]
    assert await timelines(workspace, occurredAt={"after": "1990-01-01T00:00:00Z"}) == (everything, everything)
    assert await timelines(workspace, occurredAt={"known": True}) == (everything, everything)
    assert await timelines(workspace, occurredAt={"moreThanDaysAgo": 90}) == (everything[3:], everything[3:])


async def test_a_timeline_moves_on_with_the_clock_and_hides_nothing_elsewhere(open_gateway: Any, clock: Any) -> None:
    async with open_gateway(clock=clock, timeline_days=10) as gateway:
        workspace = await gateway.workspace()
        (result,) = (await workspace.track({"contact": {"externalId": "u"}, "name": "old"}))["results"]
        assert await timelines(workspace) == (["old"], ["old"])
        clock.ahead = timedelta(days=9, hours=23)
        assert await timelines(workspace) == (["old"], ["old"])
        clock.ahead = timedelta(days=10, minutes=1)
        assert await timelines(workspace) == ([], ["old"])
        assert await timelines(workspace, occurredAt={"lessThanDaysAgo": 11}) == (["old"], ["old"])
        found = await workspace.data(
            "query($id: ID!) { event(id: $id) { name } node(id: $id) { id } }", {"id": result["eventId"]}
        )
        assert found == {"event": {"name": "old"}, "node": {"id": result["eventId"]}}
        summary = await workspace.data('{ contact(by: {externalId: "u"}) { eventSummary(name: "old") { count } } }')
        assert summary["contact"]["eventSummary"] == {"count": 1}


async def test_an_event_a_little_ahead_is_on_the_timeline(workspace: Any) -> None:
    await days_ago(workspace, -4 / 1440, 0)
    assert (await timelines(workspace))[0] == ["-0.00277778", "0"]


async def test_times_filter_absolutely_to_the_millisecond(workspace: Any) -> None:
    day = (system_clock() - timedelta(days=3)).date().isoformat()
    times = {f"{place}": f"{day}T12:00:00.{place:03}Z" for place in range(5)}
    await workspace.track(
        *({"contact": {"externalId": "u"}, "name": name, "occurredAt": at} for name, at in times.items())
    )
    for filter_, shown in (
        ({"after": times["1"]}, ["4", "3", "2"]),
        ({"before": times["3"]}, ["2", "1", "0"]),
        ({"after": times["1"], "before": times["3"]}, ["2"]),
        ({"after": times["3"], "before": times["1"]}, []),
        ({"after": times["1"], "before": None}, ["4", "3", "2"]),
        ({"known": False}, []),
        ({"before": "1900-01-01T00:00:00Z"}, []),
        ({"after": "9999-12-31T23:59:59Z"}, []),
    ):
        assert await timelines(workspace, occurredAt=filter_) == (shown, shown), filter_


async def test_times_filter_relatively_to_the_clock(open_gateway: Any) -> None:
    noon = system_clock().replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
    async with open_gateway(clock=lambda: noon) as gateway:
        workspace = await gateway.workspace()
        ago = {
            "now": timedelta(),
            "hour": timedelta(hours=1),
            "morning": timedelta(hours=12),
            "evening": timedelta(hours=12, milliseconds=1),
            "day": timedelta(days=1),
            "early": timedelta(days=1, hours=12),
            "two": timedelta(days=2),
        }
        await workspace.track(
            *(
                {"contact": {"externalId": "u"}, "name": name, "occurredAt": (noon - age).isoformat()}
                for name, age in ago.items()
            )
        )
        for filter_, shown in (
            ({"lessThanDaysAgo": 1}, ["now", "hour", "morning", "evening"]),
            ({"moreThanDaysAgo": 1}, ["early", "two"]),
            ({"exactlyDaysAgo": 0}, ["now", "hour", "morning"]),
            ({"exactlyDaysAgo": 1}, ["evening", "day", "early"]),
            ({"lessThanMinutesAgo": 60}, ["now"]),
            ({"moreThanMinutesAgo": 60, "lessThanDaysAgo": 1}, ["morning", "evening"]),
            ({"moreThanDaysAgo": 2**31 - 1}, []),
            ({"lessThanDaysAgo": 2**31 - 1}, list(ago)),
            ({"exactlyDaysAgo": -(2**31)}, []),
        ):
            assert await timelines(workspace, occurredAt=filter_) == (shown, shown), filter_


# ---- filters and single things ----------------------------------------------------------------------------------


async def test_events_are_filtered_by_names_and_contact(workspace: Any) -> None:
    await workspace.track(*some_events(42))
    rows = (await workspace.data("{ events(first: 100) { nodes { id name contact { id externalId } } } }"))["events"][
        "nodes"
    ]
    u3 = next(row["contact"]["id"] for row in rows if row["contact"]["externalId"] == "u3")
    u4 = next(row["contact"]["id"] for row in rows if row["contact"]["externalId"] == "u4")
    ask = 'query($f: EventFilter) { events(first: 100, filter: $f) { nodes { id } } contact(by: {externalId: "u3"}) { events(first: 100, filter: $f) { nodes { id } } } }'
    for names, contact_id in (
        (["did 1"], None),
        (["did 2", "did 0", "did 2"], None),
        (["never"], None),
        ([], None),
        (None, u3),
        (["did 1", "did 2"], u3),
        (["did 1"], u4),
        (None, "con_nobody"),
    ):
        wanted = {"name": names, "contactId": contact_id}
        data = await workspace.data(ask, {"f": wanted})
        expected = [
            row
            for row in rows
            if (names is None or row["name"] in names) and contact_id in (None, row["contact"]["id"])
        ]
        assert [node["id"] for node in data["events"]["nodes"]] == [row["id"] for row in expected], wanted
        assert [node["id"] for node in data["contact"]["events"]["nodes"]] == [
            row["id"] for row in expected if row["contact"]["id"] == u3
        ], wanted


async def test_too_many_names_are_refused(workspace: Any) -> None:
    await workspace.track(*some_events(1))
    names = [str(number) for number in range(101)]
    for query in (
        "query($n: [String!]) { events(filter: {name: $n}) { nodes { id } } }",
        'query($n: [String!]) { contact(by: {externalId: "u0"}) { events(filter: {name: $n}) { nodes { id } } } }',
        'query($n: [String!]) { contact(by: {externalId: "u0"}) { eventSummaries(names: $n) { nodes { id } } } }',
    ):
        assert code(await workspace.ask(query, {"n": names})) == "BAD_REQUEST"


async def test_event_node_nodes_and_viewer(workspace: Any) -> None:
    results = (await workspace.track(*some_events(3)))["results"]
    ids = [result["eventId"] for result in results]
    assert (await workspace.data("query($id: ID!) { event(id: $id) { id name metadataJson } }", {"id": ids[1]}))[
        "event"
    ] == {"id": ids[1], "name": "did 1", "metadataJson": {"number": 1}}
    found = (
        await workspace.data(
            "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id ... on Event { name } } }",
            {"ids": [ids[2], "evt_nobody", ids[0], ids[2]]},
        )
    )["nodes"]
    assert found == [
        {"__typename": "Event", "id": ids[2], "name": "did 2"},
        None,
        {"__typename": "Event", "id": ids[0], "name": "did 0"},
        {"__typename": "Event", "id": ids[2], "name": "did 2"},
    ]
    assert (await workspace.data("{ nodes(ids: []) { id } }"))["nodes"] == []
    assert (
        code(await workspace.ask("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ["x"] * 101}))
        == "BAD_REQUEST"
    )
    for nobody in (
        "",
        "x",
        "evt_",
        "evt_" + "0" * 26,
        "evt_" + "é" * 26,
        "con_" + "Z" * 26,
        ids[0].lower(),
        "xyz_" + ids[0][4:],
        ids[0] + "0",
    ):
        assert await workspace.data(
            "query($id: ID!) { node(id: $id) { id } event(id: $id) { id } contact(by: {id: $id}) { id } }",
            {"id": nobody},
        ) == {"node": None, "event": None, "contact": None}
    viewer = (await workspace.data("{ viewer { id scopes workspace { id name createdAt } } }"))["viewer"]
    assert (viewer["id"], viewer["workspace"]["id"]) == (workspace.key.partition(".")[0], workspace.id)
    assert sorted(viewer["scopes"]) == ["ADMIN", "BROWSER", "KLAVIYO", "READ", "SUPPORT", "TRACK"]


async def test_event_gives_nothing_of_another_type(workspace: Any) -> None:
    await workspace.track(*some_events(1))
    contact = (await workspace.data('{ contact(by: {externalId: "u0"}) { id eventSummary(name: "did 0") { id } } }'))[
        "contact"
    ]
    for id_ in (contact["id"], contact["eventSummary"]["id"]):
        assert await workspace.data("query($id: ID!) { event(id: $id) { id } }", {"id": id_}) == {"event": None}
    assert (await workspace.data("query($id: ID!) { node(id: $id) { ... on EventSummary { name count contact { externalId } } } }", {"id": contact["eventSummary"]["id"]}))["node"] == {
        "name": "did 0", "count": 1, "contact": {"externalId": "u0"},
    }  # fmt: skip


# ---- summaries --------------------------------------------------------------------------------------------------

SUMMARIES = """query($names: [String!], $first: Int, $after: String, $last: Int, $before: String) { contact(by: {externalId: "u"}) {
  eventSummaries(names: $names, first: $first, after: $after, last: $last, before: $before) { nodes { name count } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }"""


@pytest.mark.parametrize("chosen", [False, True], ids=["all", "named"])
@pytest.mark.parametrize("size", [1, 2, 5, 7, 100])
async def test_summaries_page_by_name_both_ways(workspace: Any, chosen: bool, size: int) -> None:
    names = ["Zebra", "a", "a b", "ab", "b", "é", "🌍"]
    await workspace.track(*({"contact": {"externalId": "u"}, "name": name} for name in names))
    asked = {"names": [*names[::-1], "never", "a"]} if chosen else {}

    async def read(arguments: dict[str, Any]) -> Any:
        return (await workspace.data(SUMMARIES, {**asked, **arguments}))["contact"]["eventSummaries"]

    forwards, backwards = await walk(read, size, "name"), await walk(read, size, "name", backward=True)
    assert forwards == backwards == names


# ---- cursors ----------------------------------------------------------------------------------------------------


def code(answer: dict[str, Any]) -> str:
    (error,) = answer["errors"]
    found = error["extensions"]["code"]
    assert isinstance(found, str)
    return found


async def walk(read: Any, size: int, key: str = "id", *, backward: bool = False) -> list[str]:
    """What all pages show, in the list's order: read page by page from one end to the other."""
    shown: list[str] = []
    arguments: dict[str, Any] = {"last" if backward else "first": size}
    while True:
        page = await read(arguments)
        names = [node[key] for node in page["nodes"]]
        assert len(names) <= size
        shown = names + shown if backward else shown + names
        info = page["pageInfo"]
        if not info["hasPreviousPage" if backward else "hasNextPage"]:
            return shown
        assert len(names) == size
        arguments = (
            {"last": size, "before": info["startCursor"]} if backward else {"first": size, "after": info["endCursor"]}
        )


CURSOR = "pageInfo { startCursor endCursor hasNextPage hasPreviousPage }"
LISTS = {
    "events": "query($c: String) { found: events(first: 1, after: $c) { %s } }",
    "events of a name": 'query($c: String) { found: events(first: 1, after: $c, filter: {name: ["did 0"]}) { %s } }',
    "events of a time": "query($c: String) { found: events(first: 1, after: $c, filter: {occurredAt: {lessThanDaysAgo: 5}}) { %s } }",
    "contacts": "query($c: String) { found: contacts(first: 1, after: $c) { %s } }",
    "timeline": 'query($c: String) { contact(by: {externalId: "u0"}) { found: events(first: 1, after: $c) { %s } } }',
    "timeline of a name": 'query($c: String) { contact(by: {externalId: "u0"}) { found: events(first: 1, after: $c, filter: {name: ["did 0"]}) { %s } } }',
    "timeline of another": 'query($c: String) { contact(by: {externalId: "u1"}) { found: events(first: 1, after: $c) { %s } } }',
    "summaries": 'query($c: String) { contact(by: {externalId: "u0"}) { found: eventSummaries(first: 1, after: $c) { %s } } }',
    "summaries of names": 'query($c: String) { contact(by: {externalId: "u0"}) { found: eventSummaries(names: ["did 0"], first: 1, after: $c) { %s } } }',
    "summaries of another": 'query($c: String) { contact(by: {externalId: "u1"}) { found: eventSummaries(first: 1, after: $c) { %s } } }',
}


async def test_a_cursor_leads_only_where_it_came_from(workspace: Any) -> None:
    await workspace.track(*some_events(42))

    def found(data: Any) -> Any:
        return data.get("found") or (data.get("contact") or {}).get("found")

    cursors = {
        name: found(await workspace.data(query % CURSOR))["pageInfo"]["endCursor"] for name, query in LISTS.items()
    }
    assert len(set(cursors.values())) == len(LISTS)
    for came_from, cursor in cursors.items():
        for name, query in LISTS.items():
            for argument in ("after", "before"):
                answer = await workspace.ask((query % CURSOR).replace("after:", f"{argument}:"), {"c": cursor})
                if name == came_from:
                    assert "errors" not in answer
                else:
                    assert (code(answer), found(answer["data"])) == ("BAD_REQUEST", None), (came_from, name)


@pytest.mark.parametrize(
    "garbage", ["", "x", "!!!!", "é", "AAAA", "A" * 3000, "ZXZ0XzAx", "\0", " ", "con_01", "=" * 40]
)
async def test_garbage_is_no_cursor(workspace: Any, garbage: str) -> None:
    await workspace.track(*some_events(3))
    for query in LISTS.values():
        for argument in ("after", "before"):
            assert (
                code(await workspace.ask((query % CURSOR).replace("after:", f"{argument}:"), {"c": garbage}))
                == "BAD_REQUEST"
            )


async def test_a_cursor_with_one_letter_changed_is_refused(workspace: Any) -> None:
    await workspace.track(*some_events(3))
    cursor = (await workspace.data(LISTS["events"] % CURSOR))["found"]["pageInfo"]["endCursor"]
    for place in range(0, len(cursor) - 1, 5):
        changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        assert code(await workspace.ask(LISTS["events"] % CURSOR, {"c": changed})) == "BAD_REQUEST"


@pytest.mark.parametrize(
    "arguments", ["first: 0", "first: 101", "first: -1", "last: 0", "last: 101", "last: -1", "first: 1, last: 1"]
)
async def test_page_sizes_are_one_to_a_hundred(workspace: Any, arguments: str) -> None:
    await workspace.track(*some_events(3))
    for query in LISTS.values():
        answer = await workspace.ask(
            (query % CURSOR).replace("($c: String)", "").replace("first: 1, after: $c", arguments)
        )
        assert code(answer) == "BAD_REQUEST", answer


async def test_a_page_without_a_size_has_twenty_and_null_arguments_are_omitted_ones(workspace: Any) -> None:
    await workspace.track(*({"contact": {"externalId": "u0"}, "name": f"did {number}"} for number in range(25)))
    for query in LISTS.values():
        if '["did 0"]' in query or "contacts(" in query or "u1" in query or "lessThan" in query:
            continue
        text = (
            query.replace("first: 1, after: $c", "first: null, after: $c, last: null, before: null")
            % "edges { cursor } nodes { id } pageInfo { hasNextPage }"
        )
        data = await workspace.data(text, {"c": None})
        page = data.get("found") or data["contact"]["found"]
        assert (
            len(page["nodes"]),
            len({edge["cursor"] for edge in page["edges"]}),
            page["pageInfo"]["hasNextPage"],
        ) == (20, 20, True)


async def test_an_empty_page_says_so(workspace: Any) -> None:
    empty = {
        "edges": [],
        "nodes": [],
        "pageInfo": {"startCursor": None, "endCursor": None, "hasNextPage": False, "hasPreviousPage": False},
    }
    assert await workspace.data(
        "{ events { edges { cursor } nodes { id } @ } contacts { edges { cursor } nodes { id } @ } }".replace(
            "@", CURSOR
        )
    ) == {"events": empty, "contacts": empty}


async def test_between_two_cursors_lies_what_lies_between(workspace: Any) -> None:
    await workspace.track(*some_events(10))
    edges = (await workspace.data("{ events(first: 10) { edges { cursor node { id } } } }"))["events"]["edges"]
    for size in ({"first": 3}, {"last": 3}, {"first": 10}):
        page = (await workspace.data(PAGE, {**size, "after": edges[2]["cursor"], "before": edges[8]["cursor"]}))[
            "events"
        ]
        between = [edge["node"]["id"] for edge in edges[3:8]]
        assert [node["id"] for node in page["nodes"]] == (between[-3:] if "last" in size else between[: size["first"]])
        assert page["pageInfo"]["hasPreviousPage"] is True or "first" in size


# ---- stability --------------------------------------------------------------------------------------------------


async def test_pages_stay_while_rows_arrive_on_both_sides(workspace: Any) -> None:
    now = system_clock()

    def event(minutes: float) -> dict[str, Any]:
        return {
            "contact": {"externalId": "u"},
            "name": "did",
            "occurredAt": (now - timedelta(minutes=minutes)).isoformat(),
        }

    results = (await workspace.track(*(event(minutes) for minutes in range(10, 50))))["results"]
    expected = [result["eventId"] for result in results]
    for nested in (False, True):
        shown: list[str] = []
        after = None
        for _ in range(4):
            data = await workspace.data(
                'query($a: String) { contact(by: {externalId: "u"}) { events(first: 10, after: $a) { nodes { id } pageInfo { endCursor } } } }'
                if nested
                else "query($a: String) { events(first: 10, after: $a) { nodes { id } pageInfo { endCursor } } }",
                {"a": after},
            )
            page = data["contact"]["events"] if nested else data["events"]
            shown += [node["id"] for node in page["nodes"]]
            after = page["pageInfo"]["endCursor"]
            await workspace.track(event(0), event(5), event(100))
        if not nested:
            assert shown == expected
            arrived = (await workspace.data("{ events(first: 100) { nodes { id } } }"))["events"]["nodes"]
            expected = [node["id"] for node in arrived][:40]
        else:
            assert shown == expected


async def test_pages_show_what_a_plain_model_shows(workspace: Any) -> None:
    chance = random.Random(7)
    now = system_clock()
    ages = [
        timedelta(
            seconds=chance.choice(
                (
                    chance.uniform(-200, 60),
                    chance.uniform(0, 3600),
                    chance.uniform(0, 86_400 * 2),
                    chance.uniform(0, 86_400 * 3600),
                )
            )
        )
        for _ in range(150)
    ]
    ages += [ages[0]] * 20
    events = [
        {
            "contact": {"externalId": f"u{chance.randrange(3)}"},
            "name": f"did {chance.randrange(4)}",
            "occurredAt": (now - age).isoformat(),
        }
        for age in ages
    ]
    results = (await workspace.track(*events))["results"]
    rows = sorted(
        (result["eventId"], event["contact"]["externalId"], event["name"], now - age)
        for result, event, age in zip(results, events, ages, strict=True)
    )[::-1]
    assert [row[3] for row in rows] == sorted((row[3] for row in rows), reverse=True)
    walks = "query($f: EventFilter, $first: Int, $after: String, $last: Int, $before: String) { found: events(filter: $f, first: $first, after: $after, last: $last, before: $before) { nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"
    nested = walks.replace("{ found:", '{ contact(by: {externalId: "u1"}) { found:') + " }"
    for _ in range(12):
        names = chance.choice((None, ["did 1"], ["did 0", "did 3"]))
        after = chance.choice(
            ("2000-01-01T00:00:00Z", (now - timedelta(days=chance.uniform(0, 3600))).isoformat(timespec="milliseconds"))
        )
        filter_ = {"name": names, "occurredAt": {"after": after}}
        of_contact = chance.random() < 0.5

        async def read(
            arguments: dict[str, Any], query: str = nested if of_contact else walks, filter_: Any = filter_
        ) -> Any:
            data = await workspace.data(query, {"f": filter_, **arguments})
            return data["contact"]["found"] if "contact" in data else data["found"]

        since = datetime.fromisoformat(after)
        expected = [
            row[0]
            for row in rows
            if (names is None or row[2] in names)
            and row[3] >= since + timedelta(milliseconds=1) - timedelta(microseconds=999)
            and (not of_contact or row[1] == "u1")
        ]
        assert await walk(read, chance.randint(3, 60), backward=chance.random() < 0.5) == expected, (
            filter_,
            of_contact,
        )
