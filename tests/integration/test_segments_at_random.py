"""Random contacts, events, segments and deletions: who is kept as a member, and who is told to have moved, is as plain Python says."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from worlds import UPSERT, Json, deeds, depth, do, filters, holds, made, worlds

from gateway.core.clock import system_clock

SAVE = "mutation($i: SaveSegmentInput!) { saveSegment(input: $i) { segment { id } userErrors { code message path } } }"
DELETE = "mutation($id: ID!) { deleteContact(input: {id: $id}) { deletedId userErrors { code message path } } }"
COMPLETE = "{ segments { complete } }"
EVERYBODY = "{ contacts(first: 100) { nodes { id externalId } } }"
BEACON = "beacon"  # somebody of whom the keeper hears last
Pairs = set[tuple[str, str]]  # of a segment and an externalId

shallow = filters.filter(lambda asked: depth(asked) <= 3)  # two levels are kept for what it is asked with
stories = st.fixed_dictionaries(
    {
        "world": worlds,
        "before": st.lists(shallow, min_size=2, max_size=4),
        "between": st.lists(shallow, min_size=1, max_size=3),
        "later": st.lists(deeds, min_size=1, max_size=15),
        "gone": st.sets(st.integers(0, 5), min_size=1, max_size=2),
        "waits": st.booleans(),
    }
)


class Told:
    """The segments of a workspace by id, each as a filter that names no other one, and what was kept and told of them."""

    def __init__(self, workspace: Any, now: datetime) -> None:
        self.workspace = workspace
        self.now = now
        self.plain: dict[str, Json] = {}
        self.names: dict[str, str] = {}
        self.seen: set[str] = set()

    async def save(self, filter_: Json, over: str | None = None) -> str:
        """Save a segment; `over`: of those of whom that one holds too."""
        sent = {"and": [{"segment": over}, filter_]} if over else filter_
        saved = (await self.workspace.data(SAVE, {"i": {"name": "One", "filter": sent}}))["saveSegment"]
        assert saved["userErrors"] == []
        id_: str = saved["segment"]["id"]
        self.plain[id_] = {"and": [self.plain[over], filter_]} if over else filter_
        return id_

    async def completed(self) -> None:
        async with asyncio.timeout(60):
            while not all(row["complete"] for row in (await self.workspace.data(COMPLETE))["segments"]):
                await asyncio.sleep(0.02)

    async def caught_up(self, beacon: str) -> None:
        """Wait until the keeper has judged all that was written by now: the stream tells it in order."""
        lit = await self.workspace.store.members.count(beacon, 1)
        sent = {"externalId": BEACON, "tags": [] if lit else [BEACON]}
        assert (await self.workspace.data(UPSERT, {"i": sent}))["upsertContact"]["userErrors"] == []
        async with asyncio.timeout(60):
            while await self.workspace.store.members.count(beacon, 1) == lit:
                await asyncio.sleep(0.02)
        await self.completed()

    async def learn(self) -> dict[str, str]:
        """The ids of everybody, by externalId."""
        nodes = (await self.workspace.data(EVERYBODY))["contacts"]["nodes"]
        self.names |= {node["id"]: node["externalId"] for node in nodes}
        return {name: id_ for id_, name in self.names.items()}

    async def members(self) -> Pairs:
        rows = await self.workspace.store.members._find({})
        return {
            (row["segment_id"], self.names[row["contact_id"]]) for row in rows if row["segment_id"] in self.plain
        } - {(id_, BEACON) for id_ in self.plain}

    def expected(self, people: dict[str, Json]) -> Pairs:
        return {
            (id_, who)
            for id_, filter_ in self.plain.items()
            for who, person in people.items()
            if holds(filter_, person, self.now)
        }

    async def lines(self) -> list[tuple[str, str, str]]:
        """Who was told to have moved since this was asked last, in order."""
        rows = await self.workspace.store.changes._find({"segment_id": {"$in": list(self.plain)}}, sort={"_id": 1})
        new = [row for row in rows if row["subject"] == "contact" and row["_id"] not in self.seen]
        self.seen |= {row["_id"] for row in new}
        told = [(row["kind"][:4], row["segment_id"], self.names[row["contact_id"]]) for row in new]
        return [one for one in told if one[2] != BEACON]


def moved(before: Pairs, after: Pairs) -> list[tuple[str, str, str]]:
    return sorted([("ENTE", *pair) for pair in after - before] + [("LEFT", *pair) for pair in before - after])


def check_turns(told: list[tuple[str, str, str]], pairs: Pairs) -> None:
    """Nobody enters twice or leaves before, and who entered last is in it."""
    for key in {line[1:] for line in told} | pairs:
        kinds = [kind for kind, *rest in told if tuple(rest) == key]
        assert kinds == (["ENTE", "LEFT"] * len(kinds))[: len(kinds)], key
        assert (len(kinds) % 2 == 1) == (key in pairs), key


@examples(4)
@given(stories)
async def test_members_and_moves_are_as_plain_python_says(every_gateway: Any, story: Json) -> None:
    now = system_clock().astimezone(UTC).replace(microsecond=0)
    told = Told(await every_gateway.workspace(), now)
    beacon = await told.save({"tag": {"eq": BEACON}})
    del told.plain[beacon]
    first, second = story["before"][:2]
    inner = await told.save(first)
    for filter_ in story["before"][1:]:
        await told.save(filter_)
    await told.save({"not": second}, over=inner)
    await told.completed()

    people = await made(told.workspace, story["world"], now)
    await told.caught_up(beacon)
    ids = await told.learn()
    pairs = told.expected(people)
    assert await told.members() == pairs
    check_turns(await told.lines(), pairs)  # what lies between two calls may be told, or not

    early = set(told.plain)
    for filter_ in story["between"]:
        await told.save(filter_, over=inner if filter_ is story["between"][0] else None)
    if story["waits"]:
        await told.completed()
    before = told.expected(people)
    await do(told.workspace, people, story["later"], now)
    await told.caught_up(beacon)
    pairs = told.expected(people)
    assert await told.members() == pairs
    lines, all_moved = await told.lines(), moved(before, pairs)
    certain = [line for line in all_moved if line[1] in early or story["waits"]]
    assert sorted(line for line in lines if line[1] in early or story["waits"]) == certain
    assert len(set(lines)) == len(lines)
    assert set(lines) <= set(all_moved)  # of a segment whose members are looked for, who was passed is told

    for who in [f"u{number}" for number in sorted(story["gone"]) if f"u{number}" in people]:
        gone = (await told.workspace.data(DELETE, {"id": ids[who]}))["deleteContact"]
        assert gone == {"deletedId": ids[who], "userErrors": []}
        del people[who]
    await told.caught_up(beacon)
    assert await told.members() == told.expected(people)
    assert await told.lines() == []  # that somebody who was erased left is told, and erased with all else of them
