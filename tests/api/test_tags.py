"""Tags of contacts, one by one."""

import asyncio
from typing import Any

TAG = """mutation($i: TagContactInput!) { tagContact(input: $i) { contact { id tags } userErrors { code message path } } }"""
UNTAG = """mutation($i: UntagContactInput!) { untagContact(input: $i) { contact { id tags } userErrors { code message path } } }"""


async def contact_of(workspace: Any, external_id: str = "u") -> str:
    await workspace.track({"contact": {"externalId": external_id}, "name": "did"})
    found = await workspace.data("query($u: String!) { contact(by: {externalId: $u}) { id } }", {"u": external_id})
    return str(found["contact"]["id"])


async def tagged(workspace: Any, mutation: str, contact_id: str, *tags: str) -> Any:
    (payload,) = (await workspace.data(mutation, {"i": {"contactId": contact_id, "tags": list(tags)}})).values()
    assert payload["userErrors"] == [], payload
    return payload["contact"]["tags"]


async def test_tags_are_added_and_removed_and_told_once(workspace: Any) -> None:
    id_ = await contact_of(workspace)
    assert await tagged(workspace, TAG, id_, "b", "a", "b") == ["b", "a"]
    assert await tagged(workspace, TAG, id_, "a", "c") == ["b", "a", "c"]
    assert await tagged(workspace, TAG, id_, "a", "c") == ["b", "a", "c"]
    assert await tagged(workspace, TAG, id_) == ["b", "a", "c"]
    assert await tagged(workspace, UNTAG, id_, "b", "absent") == ["a", "c"]
    assert await tagged(workspace, UNTAG, id_, "b", "absent") == ["a", "c"]
    lines = [row for row in await workspace.store.changes._find({}) if row["subject"] == "contact"]
    told = [(row["kind"], row["fields"], row["after"]["tags"]) for row in lines if row["kind"] == "UPDATED"]
    assert told == [
        ("UPDATED", ["tags"], ["b", "a"]),
        ("UPDATED", ["tags"], ["b", "a", "c"]),
        ("UPDATED", ["tags"], ["a", "c"]),
    ]


async def test_tags_of_many_callers_are_all_there(workspace: Any) -> None:
    id_ = await contact_of(workspace)
    await asyncio.gather(*(tagged(workspace, TAG, id_, f"t{number}") for number in range(20)))
    assert sorted(await tagged(workspace, TAG, id_)) == sorted(f"t{number}" for number in range(20))


async def test_what_is_wrong_with_tags_is_told(workspace: Any) -> None:
    id_ = await contact_of(workspace)
    await tagged(workspace, TAG, id_, *(f"t{number}" for number in range(60)))
    for tags, contact_id, code, path in (
        ([f"s{number}" for number in range(41)], id_, "LIMIT_EXCEEDED", ["input", "tags"]),
        ([f"s{number}" for number in range(101)], id_, "LIMIT_EXCEEDED", ["input", "tags"]),
        (["ok", ""], id_, "INVALID", ["input", "tags", "1"]),
        (["ok"], "con_unknown", "NOT_FOUND", ["input", "contactId"]),
        (["ok"], "con_" + "0" * 26, "NOT_FOUND", ["input", "contactId"]),
    ):
        found = await workspace.data(TAG, {"i": {"contactId": contact_id, "tags": tags}})
        (problem,) = found["tagContact"]["userErrors"]
        assert (problem["code"], problem["path"]) == (code, path)
        assert found["tagContact"]["contact"] is None
    (problem,) = (await workspace.data(UNTAG, {"i": {"contactId": "con_unknown", "tags": ["a"]}}))["untagContact"][
        "userErrors"
    ]
    assert (problem["code"], problem["path"]) == ("NOT_FOUND", ["input", "contactId"])
    assert len(await tagged(workspace, TAG, id_)) == 60
