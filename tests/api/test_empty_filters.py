"""Filters of empty conditions, from outside: counted where they come in, and harmless where they are stored already."""

import asyncio
from typing import Any

import pytest

CONTACTS = "query($f: ContactFilter) { contacts(filter: $f) { nodes { externalId } } }"
UPSERT = "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { contact { id } userErrors { code } } }"
SAVE = "mutation($i: SaveSegmentInput!) { saveSegment(input: $i) { segment { id } userErrors { code message } } }"
RULE = "mutation($i: SaveMessageRuleInput!) { saveMessageRule(input: $i) { messageRule { id } userErrors { code } } }"
PREVIEW = "mutation($i: PreviewMessageRuleInput!) { previewMessageRule(input: $i) { wouldSend userErrors { code } } }"
EMPTY: dict[str, Any] = {
    "and": {"and": [{}] * 1200},
    "or": {"or": [{}] * 1200},
    "not": {"and": [{"not": {}}] * 600},
    "wrapped": {"and": [{"or": [{"and": [{}] * 10}] * 10}] * 12},
    "beside a condition": {"tag": {"eq": "a"}, "and": [{}] * 1200},
    "comparisons": {"and": [{"email": {}}] * 600},
    "metadata": {"event": {"name": "x", "metadata": [{"key": "k", "string": {}}] * 600}},
    "roles": {"role": ["USER"] * 60_000},
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("way", ["list", "segment", "rule", "preview"])
async def test_they_are_refused_wherever_they_come_in(workspace: Any, name: str, way: str) -> None:
    filter_ = EMPTY[name]
    query, variables = {
        "list": (CONTACTS, {"f": filter_}),
        "segment": (SAVE, {"i": {"name": "n", "filter": filter_}}),
        "rule": (
            RULE,
            {"i": {"name": "n", "event": "e", "trigger": {"firstTime": True}, "body": "b", "audience": filter_}},
        ),
        "preview": (PREVIEW, {"i": {"contactId": "x", "body": "b", "audience": filter_}}),
    }[way]
    (error,) = (await workspace.ask(query, variables))["errors"]
    assert error["extensions"]["code"] in ("BAD_REQUEST", "LIMIT_EXCEEDED")
    assert "filter" in error["message"].lower()
    assert await workspace.store.segments.all() == []


@pytest.mark.parametrize(
    ("filter_", "everybody"),
    [
        ({"and": [{}] * 100}, True),
        ({"or": [{}, {"tag": {"eq": "x"}}]}, True),
        ({"or": []}, False),
        ({"not": {"and": [{}]}}, False),
        ({"and": [{"or": []}, {}]}, False),
    ],
)
async def test_a_few_mean_what_they_say(workspace: Any, filter_: Any, everybody: bool) -> None:
    await workspace.data(UPSERT, {"i": {"externalId": "ann"}})
    found = await workspace.data(CONTACTS, {"f": filter_})
    assert found["contacts"]["nodes"] == ([{"externalId": "ann"}] if everybody else [])


async def test_a_stored_segment_of_them_goes_on(gateway: Any) -> None:
    workspace = await gateway.workspace()
    saved = await workspace.data(SAVE, {"i": {"name": "Vips", "filter": {"tag": {"eq": "vip"}}}})
    id_ = saved["saveSegment"]["segment"]["id"]
    stored = {"and": [{}] * 20_000 + [{"tag": {"eq": "vip"}}] + [{"or": [{"and": [{}] * 20}]}] * 500}
    (row,) = await workspace.store.segments.all()

    async def write(session: Any) -> None:
        await workspace.store.segments.save([{**row, "filter": stored}], session)

    await workspace.store.database.transaction(write)
    for name, tags in (("ann", ["vip"]), ("ben", [])):
        await workspace.data(UPSERT, {"i": {"externalId": name, "tags": tags}})
    members: Any = []
    async with asyncio.timeout(60):
        while members != [{"externalId": "ann"}]:
            query = "query($id: ID!) { segment(id: $id) { contacts { nodes { externalId } } } }"
            members = (await workspace.data(query, {"id": id_}))["segment"]["contacts"]["nodes"]
            await asyncio.sleep(0.05)
