"""Definitions of event names: their totals, the values of their summaries, and counting them anew, beside writers."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from gateways import Workspace

from gateway.errors import UnavailableError
from gateway.runtime import running

TOTALS = """{ eventDefinitions(first: 100) { nodes { name count contactCount firstAt lastAt archived summarizeBy
  metadataKeys { key types } } } }"""
VALUES = """query($id: String!, $name: String!) { contact(by: {externalId: $id}) { eventSummary(name: $name) { count
  values(first: 100) { value isOther count firstAt lastAt } } } }"""
DESCRIBE = "mutation($i: DescribeEventInput!) { describeEvent(input: $i) { definition { name summarizeBy } userErrors { code path message } } }"
IMPORT = """mutation($i: ImportEventSummariesInput!) { importEventSummaries(input: $i)
  { summaries { count firstAt lastAt } userErrors { message } } }"""
NOW = datetime.now(UTC).replace(microsecond=0)


def ago(**units: int) -> str:
    return (NOW - timedelta(**units)).isoformat().replace("+00:00", "Z")


def event(contact: str, name: str, at: str, **metadata: Any) -> dict[str, Any]:
    return {"contact": {"externalId": contact}, "name": name, "occurredAt": at, "metadata": metadata}


async def becomes(read: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Pass once what is read is what is wanted."""
    until = time.monotonic() + 60
    while (found := await read()) != wanted:
        assert time.monotonic() < until, f"this is there:\n{found}\nand this was wanted:\n{wanted}"
        await asyncio.sleep(0.05)


async def totals(workspace: Any) -> dict[str, Any]:
    nodes = (await workspace.data(TOTALS))["eventDefinitions"]["nodes"]
    return {node.pop("name"): node for node in nodes}


async def values(workspace: Any, contact: str, name: str) -> Any:
    found = (await workspace.data(VALUES, {"id": contact, "name": name}))["contact"]["eventSummary"]["values"]
    return None if found is None else [(line["value"], line["count"], line["isOther"]) for line in found]


async def summarize(workspace: Any, name: str, key: str | None) -> None:
    told = (await workspace.data(DESCRIBE, {"i": {"name": name, "summarizeBy": key}}))["describeEvent"]
    assert told == {"definition": {"name": name, "summarizeBy": key}, "userErrors": []}


def line(
    count: int, contacts: int, first: str | None, last: str | None, *keys: tuple[str, list[str]]
) -> dict[str, Any]:
    return {
        "count": count,
        "contactCount": contacts,
        "firstAt": first,
        "lastAt": last,
        "archived": False,
        "summarizeBy": None,
        "metadataKeys": [{"key": key, "types": types} for key, types in keys],
    }


async def test_totals_first_last_contacts_and_the_types_of_metadata(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    await workspace.track(
        event("ann", "viewed page", ago(days=3), page="pricing", ms=12),
        event("ann", "viewed page", ago(days=1), page="https://example.com/docs"),
        event("ben", "viewed page", ago(days=2), page="blog"),
        event("ben", "paid", ago(hours=1), price={"amount": 100, "currency": "EUR"}),
    )
    keys = (("page", ["LINK", "TEXT"]), ("ms", ["NUMBER"]))
    seen = {
        "viewed page": line(3, 2, ago(days=3), ago(days=1), *keys),
        "paid": line(1, 1, ago(hours=1), ago(hours=1), ("price", ["MONEY"])),
    }
    await becomes(lambda: totals(workspace), seen)
    await workspace.data(DESCRIBE, {"i": {"name": "never used"}})
    await workspace.track(event("cat", "paid", ago(days=9)))
    seen["paid"] = line(2, 2, ago(days=9), ago(hours=1), ("price", ["MONEY"]))
    await becomes(lambda: totals(workspace), seen | {"never used": line(0, 0, None, None)})


async def test_imported_counts_are_counted_and_replaced(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()

    async def imported(contact: str, count: int, first: str, last: str) -> None:
        lines = [{"name": "report", "count": count, "firstAt": first, "lastAt": last}]
        told = await workspace.data(IMPORT, {"i": {"contact": {"externalId": contact}, "summaries": lines}})
        assert told["importEventSummaries"]["userErrors"] == []

    await workspace.track(event("ann", "report", ago(days=2)))
    await imported("ann", 40, ago(days=400), ago(days=100))
    await imported("ben", 2, ago(days=300), ago(days=200))
    await becomes(lambda: totals(workspace), {"report": line(43, 2, ago(days=400), ago(days=2))})
    await imported("ann", 10, ago(days=90), ago(days=80))
    await becomes(lambda: totals(workspace), {"report": line(13, 2, ago(days=300), ago(days=2))})


async def test_search_pages_and_order(workspace: Any) -> None:
    names = ["Bought plan", "bought 100% (really)", "ärgerte sich", "viewed page", "Viewed Pricing"]
    await workspace.track(*(event("ann", name, ago(days=1)) for name in names))
    ask = "query($s: String, $f: Int, $a: String, $l: Int, $b: String) { eventDefinitions(search: $s, first: $f, after: $a, last: $l, before: $b) { nodes { name } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"

    async def found(**variables: Any) -> tuple[list[str], Any]:
        asked = (await workspace.data(ask, {name[0]: value for name, value in variables.items()}))["eventDefinitions"]
        return [node["name"] for node in asked["nodes"]], asked["pageInfo"]

    assert (await found())[0] == sorted(names)
    assert (await found(search="VIEWED"))[0] == ["Viewed Pricing", "viewed page"]
    assert (await found(search="100% ("))[0] == ["bought 100% (really)"]
    assert (await found(search=".*"))[0] == []
    first, info = await found(first=2)
    assert (first, info["hasNextPage"]) == (sorted(names)[:2], True)
    rest, info = await found(first=3, after=info["endCursor"])
    assert (rest, info["hasNextPage"]) == (sorted(names)[2:], False)
    assert (await found(last=2, before=info["startCursor"]))[0] == sorted(names)[:2]
    _, info = await found(search="view", first=1)
    assert (await found(search="view", first=1, after=info["endCursor"]))[0] == ["viewed page"]
    too_long = await workspace.ask(ask, {"s": "x" * 201})
    assert too_long["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
    assert "200" in too_long["errors"][0]["message"]


async def test_values_of_a_key_are_counted_those_of_earlier_events_too(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    await workspace.track(
        *(event("ann", "viewed", ago(hours=hour), page=page) for hour, page in enumerate(["a", "b", "a"])),
        event("ben", "viewed", ago(hours=1), page="c"),
        event("ann", "other", ago(hours=1), page="a"),
    )
    assert await values(workspace, "ann", "viewed") is None
    await summarize(workspace, "viewed", "page")
    await becomes(lambda: values(workspace, "ann", "viewed"), [("a", 2, False), ("b", 1, False)])
    assert await values(workspace, "ben", "viewed") == [("c", 1, False)]
    assert await values(workspace, "ann", "other") is None
    await workspace.track(
        event("ann", "viewed", ago(minutes=1), page="b", from_="x"),
        event("ann", "viewed", ago(minutes=1), page="b"),
        event("ann", "viewed", ago(minutes=1), page={"deep": 1}),
        event("ann", "viewed", ago(minutes=1)),
    )
    await becomes(lambda: values(workspace, "ann", "viewed"), [("b", 3, False), ("a", 2, False)])
    await summarize(workspace, "viewed", "from_")
    await becomes(lambda: values(workspace, "ann", "viewed"), [("x", 1, False)])
    await summarize(workspace, "viewed", None)
    assert await values(workspace, "ann", "viewed") is None
    kept = {"workspace_id": workspace.id}
    await becomes(lambda: each_gateway.runtime.database.find("event_values", kept), [])


async def test_more_than_a_thousand_values_are_counted_as_one_other(fast_workspace: Workspace) -> None:
    """300 of the events before the key is named, which are counted anew, the others one by one."""
    workspace = fast_workspace

    def viewed(page: str) -> dict[str, Any]:
        return event("ann", "viewed", ago(days=1), page=page)

    async def top() -> Any:
        found = await values(workspace, "ann", "viewed")
        return found and found[:2]

    await workspace.track(*[viewed("often")] * 3, *(viewed(f"early {number}") for number in range(300)))
    await summarize(workspace, "viewed", "page")
    await becomes(top, [("often", 3, False), ("early 0", 1, False)])
    await workspace.track(*(viewed(f"late {number}") for number in range(701)))
    await becomes(top, [("often", 3, False), ("other", 2, True)])
    await workspace.track(viewed("new"), viewed("new"), viewed("often"), viewed("often"))
    await becomes(top, [("often", 5, False), ("other", 4, True)])
    await summarize(workspace, "viewed", None)
    await summarize(workspace, "viewed", "page")
    await becomes(top, [("often", 5, False), ("other", 3, True)])  # "new" is now one of the 1000 most frequent


async def test_every_kind_of_value_has_its_text(workspace: Any) -> None:
    await summarize(workspace, "did", "v")
    kinds = {
        "text": "text",
        "12": 12,
        "1.5": 1.5,
        "true": True,
        "https://example.com/x": {"url": "https://example.com/x", "value": "label"},
        "2024-01-02T03:04:05.000Z": "2024-01-02T04:04:05+01:00",
        "1250 EUR": {"amount": 1250, "currency": "eur"},
        "l" * 255: "l" * 300,
    }
    await workspace.track(*(event("ann", "did", ago(days=1), v=value) for value in kinds.values()))

    async def found() -> Any:
        return sorted(value for value, _, _ in await values(workspace, "ann", "did") or [])

    await becomes(found, sorted(kinds))


@pytest.mark.parametrize(("key", "code", "named"), [("x" * 101, "LIMIT_EXCEEDED", "100"), ("a\0b", "INVALID", "NUL")])
async def test_a_key_that_can_not_be_is_refused(workspace: Any, key: str, code: str, named: str) -> None:
    told = (await workspace.data(DESCRIBE, {"i": {"name": "n", "summarizeBy": key}}))["describeEvent"]
    assert told["definition"] is None
    assert [(one["code"], one["path"]) for one in told["userErrors"]] == [(code, ["input", "summarizeBy"])]
    assert named in told["userErrors"][0]["message"]
    assert await totals(workspace) == {}


async def test_counted_anew_while_others_write_nothing_is_missed_or_counted_twice(each_gateway: Any) -> None:
    """Writers go on while everything is counted anew, again and again, by another process's roll-up too."""
    workspace, chance = await each_gateway.workspace(), random.Random(5)
    await summarize(workspace, "name 0", "page")
    sent: list[dict[str, Any]] = []

    async def write() -> None:
        for _ in range(12):
            rows = [
                event(
                    f"u{chance.randrange(9)}",
                    f"name {chance.randrange(3)}",
                    ago(hours=chance.randrange(99)),
                    page=chance.choice("abc"),
                )
                for _ in range(10)
            ]
            await workspace.track(*rows)
            sent.extend(rows)

    async def rebuild() -> None:
        for _ in range(4):
            async for _ in each_gateway.runtime.definitions.rebuild([workspace.id]):
                pass

    await asyncio.gather(write(), write(), rebuild())
    wanted = {}
    for name in {row["name"] for row in sent}:
        rows = [row for row in sent if row["name"] == name]
        times = sorted(row["occurredAt"] for row in rows)
        people = {row["contact"]["externalId"] for row in rows}
        wanted[name] = line(len(rows), len(people), times[0], times[-1], ("page", ["TEXT"]))
    wanted["name 0"]["summarizeBy"] = "page"
    await becomes(lambda: totals(workspace), wanted)
    for contact in sorted({row["contact"]["externalId"] for row in sent if row["name"] == "name 0"}):
        mine = [row for row in sent if row["name"] == "name 0" and row["contact"]["externalId"] == contact]
        counted = Counter(row["metadata"]["page"] for row in mine)
        found = {value: count for value, count, _ in await values(workspace, contact, "name 0")}
        assert found == counted


async def test_who_waits_for_a_count_that_is_given_up_is_told(open_gateway: Any) -> None:
    async with open_gateway() as gateway:
        workspace = await gateway.workspace()
        await workspace.track(event("ann", "did", ago(days=1)))
        await becomes(lambda: totals(workspace), {"did": line(1, 1, ago(days=1), ago(days=1))})
        roll_up = gateway.runtime.definitions
        roll_up._failures[workspace.id, None] = 10
        with pytest.raises(UnavailableError, match=f"The definitions of {workspace.id} could not be rebuilt"):
            async for _ in roll_up.rebuild([workspace.id]):
                pass
        assert [id_ async for id_ in roll_up.rebuild([workspace.id])] == [workspace.id]


async def test_another_process_goes_on_where_one_ended_and_a_lost_place_is_made_up_for(
    open_gateway: Any, gateway: Any
) -> None:
    """Tracked while nobody rolls up, then by one that finds its position, then by one that finds it lost."""
    name = "definitions_" + NOW.strftime("%H%M%S")
    async with open_gateway(database=name) as first:
        workspace = await first.workspace()
        await workspace.track(event("ann", "did", ago(days=1)))
        await becomes(lambda: totals(workspace), {"did": line(1, 1, ago(days=1), ago(days=1))})
    for token in ("kept", "82lost", None):
        async with open_gateway(database=name, rolls_up=False) as writer:
            workspace.gateway = writer
            before = (await totals(workspace))["did"]["count"]
            await workspace.track(event("ann", "did", ago(days=1)))
            if token != "kept":
                await writer.runtime.database.update("roll_ups", {"_id": "definitions"}, {"$set": {"token": token}})
            assert (await totals(workspace))["did"]["count"] == before
            async with running(writer.runtime.definitions.run()):
                await becomes(lambda: totals(workspace), {"did": line(before + 1, 1, ago(days=1), ago(days=1))})


async def test_of_two_processes_one_rolls_up_and_the_other_takes_over(open_gateway: Any) -> None:
    name = "takeover_" + NOW.strftime("%H%M%S")
    async with open_gateway(database=name) as first:
        workspace = await first.workspace()
        async with open_gateway(database=name) as second:
            await workspace.track(event("ann", "did", ago(days=1)))
            await becomes(lambda: totals(workspace), {"did": line(1, 1, ago(days=1), ago(days=1))})
            owners = [one.runtime.definitions._owner for one in (first, second)]
            (state,) = await first.runtime.database.find("roll_ups", {})
            assert state["owner"] in owners
            # The owner vanishes without a word: its lease is there, and runs out.
            await first.runtime.database.update(
                "roll_ups", {}, {"$set": {"owner": "gone", "until": datetime.now(UTC) + timedelta(seconds=2)}}
            )
            await workspace.track(event("ben", "did", ago(days=1)))
            await becomes(lambda: totals(workspace), {"did": line(2, 2, ago(days=1), ago(days=1))})
            (state,) = await first.runtime.database.find("roll_ups", {})
            assert state["owner"] in owners
