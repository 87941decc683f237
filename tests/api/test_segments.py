"""Segments: who is in them, who is told, and that each entering is told once."""

import asyncio
from typing import Any

SAVE = """mutation($i: SaveSegmentInput!) { saveSegment(input: $i) {
  segment { id name filter complete createdAt } userErrors { code message path } } }"""
DELETE = "mutation($id: ID!) { deleteSegment(input: {id: $id}) { deletedId userErrors { code message path } } }"
SEGMENT = """query($id: ID!) { segment(id: $id) { id name complete
  contacts(first: 50) { nodes { externalId } pageInfo { hasNextPage endCursor } totalCount } } }"""
UPSERT = (
    "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { contact { id updatedAt } userErrors { message } } }"
)


async def save(workspace: Any, name: str, filter_: Any, **more: Any) -> Any:
    """The segment, once its members are known."""
    found = (await workspace.data(SAVE, {"i": {"name": name, "filter": filter_, **more}}))["saveSegment"]
    assert found["userErrors"] == []
    await until(lambda: is_complete(workspace, found["segment"]["id"]))
    return found["segment"]["id"]


async def refused(workspace: Any, name: str, filter_: Any, **more: Any) -> Any:
    """The one problem with a segment that cannot be saved."""
    found = (await workspace.data(SAVE, {"i": {"name": name, "filter": filter_, **more}}))["saveSegment"]
    assert found["segment"] is None
    (problem,) = found["userErrors"]
    return problem


async def is_complete(workspace: Any, id_: str) -> bool:
    return bool((await workspace.data(SEGMENT, {"id": id_}))["segment"]["complete"])


async def until(check: Any) -> None:
    async with asyncio.timeout(30):
        while not await check():
            await asyncio.sleep(0.05)


async def members(workspace: Any, id_: str) -> str:
    found = (await workspace.data(SEGMENT, {"id": id_}))["segment"]["contacts"]
    return " ".join(sorted(node["externalId"] for node in found["nodes"]))


async def has_members(workspace: Any, id_: str, expected: str) -> None:
    async def so() -> bool:
        return await members(workspace, id_) == expected

    await until(so)


async def moves(workspace: Any, segment_id: str) -> list[str]:
    """What was told of a segment, in order."""
    contacts = {row["_id"]: row.get("external_id") for row in await workspace.store.contacts._find({})}
    rows = await workspace.store.changes._find({"segment_id": segment_id}, sort={"_id": 1})
    return [f"{row['kind'][:4]} {contacts[row['contact_id']]}" for row in rows if row["subject"] == "contact"]


async def stated(workspace: Any, **contact: Any) -> Any:
    found = (await workspace.data(UPSERT, {"i": contact}))["upsertContact"]
    assert found["userErrors"] == []
    return found["contact"]


def did(who: str, name: str, **more: Any) -> dict[str, Any]:
    return {"contact": {"externalId": who}, "name": name, **more}


async def test_a_saved_segment_finds_its_members_and_tells_of_those_who_move_later(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    await workspace.track(did("ann", "bought"), did("ben", "looked"), did("cleo", "bought"))
    buyers = await save(workspace, "Buyers", {"event": {"name": "bought"}})
    assert await members(workspace, buyers) == "ann cleo"
    await workspace.track(did("ben", "bought"), did("ann", "bought"))
    await has_members(workspace, buyers, "ann ben cleo")
    assert await moves(workspace, buyers) == ["ENTE ben"]
    german = await save(workspace, "German", {"country": {"eq": "DE"}, "not": {"tag": {"eq": "left"}}})
    assert await members(workspace, german) == ""
    await stated(workspace, externalId="ann", location={"country": "de"})
    await has_members(workspace, german, "ann")
    await stated(workspace, externalId="ann", tags=["left"])
    await has_members(workspace, german, "")
    assert await moves(workspace, german) == ["ENTE ann", "LEFT ann"]
