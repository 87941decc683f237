"""Contacts over HTTP: created, updated, refused, found, and what the journal tells of it."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from gateway.core.clock import system_clock
from gateway.core.principals import Scope

ALL = """id externalId role anonymousIds displayName avatarUrl email phone name firstName lastName location { city region country } customAttributes tags
  createdAt updatedAt signedUpAt lastSeenAt unsubscribedFromEmails hasHardBounced markedEmailAsSpam optedOutSubscriptionTypesCount"""
UPSERT = f"mutation($i: UpsertContactInput!) {{ upsertContact(input: $i) {{ created contact {{ {ALL} }} userErrors {{ code message path }} }} }}"
CONTACT = f"query($by: ContactKey!) {{ contact(by: $by) {{ {ALL} }} }}"
STORED = ("events", "contacts", "event_summaries", "event_definitions", "changes", "idempotency_keys")
AT = "2026-01-31T09:30:00.250000Z"
FULL: dict[str, Any] = {
    "externalId": "u",
    "email": "Ada@Example.com",
    "anonymousId": "a",
    "phone": "+49 30 1",
    "name": "Ada L.",
    "firstName": "Ada",
    "lastName": "Lovelace",
    "avatarUrl": "https://example.com/ada.png",
    "location": {"city": "London", "region": "Greater London", "country": "UK"},
    "signedUpAt": "2025-12-31T23:59:59Z",
    "lastSeenAt": AT,
    "customAttributes": {"plan": "team", "seats": 3, "nested": {"a": [1]}},
    "tags": ["vip", "beta"],
    "unsubscribedFromEmails": True,
    "hasHardBounced": True,
    "markedEmailAsSpam": True,
    "optedOutSubscriptionTypesCount": 2,
}


async def upsert(workspace: Any, **contact: Any) -> Any:
    return (await workspace.data(UPSERT, {"i": contact}))["upsertContact"]


async def good(workspace: Any, **contact: Any) -> Any:
    found = await upsert(workspace, **contact)
    assert found["userErrors"] == []
    return found["contact"]


async def who(workspace: Any, **by: str) -> Any:
    return (await workspace.data(CONTACT, {"by": by}))["contact"]


async def stored(workspace: Any) -> dict[str, int]:
    database = workspace.gateway.runtime.database
    return {name: await database.count(name, {"workspace_id": workspace.id}) for name in STORED}


async def lines(workspace: Any) -> list[Any]:
    rows: list[Any] = await workspace.gateway.runtime.database.find(
        "changes", {"workspace_id": workspace.id}, sort={"_id": 1}
    )
    return rows


async def document(workspace: Any, contact_id: str) -> Any:
    return await workspace.gateway.runtime.database.find_one("contacts", {"_id": contact_id})


def problem(found: Any) -> tuple[str, list[str]]:
    (error,) = found["userErrors"]
    return error["code"], error["path"]


async def leads_sharing(workspace: Any, email: str, count: int = 2) -> list[str]:
    found = []
    for number in range(count):
        lead = await good(workspace, anonymousId=f"{email}-{number}")
        found.append((await good(workspace, id=lead["id"], email=email))["id"])
    return found


# ---- create and update ------------------------------------------------------------------------------------------


async def test_a_contact_is_created_with_all_that_is_said(workspace: Any) -> None:
    found = await upsert(workspace, **FULL)
    assert (found["created"], found["userErrors"]) == (True, [])
    contact = found["contact"]
    told = {name: value for name, value in FULL.items() if name != "anonymousId"}
    assert {name: contact[name] for name in told} == told
    assert (contact["role"], contact["anonymousIds"], contact["displayName"]) == ("USER", ["a"], "Ada L.")
    assert contact["createdAt"] == contact["updatedAt"]
    assert await who(workspace, externalId="u") == contact


async def test_a_contact_of_whom_only_a_key_is_known(workspace: Any) -> None:
    contact = await good(workspace, anonymousId="a")
    nothing = (
        "externalId",
        "avatarUrl",
        "email",
        "phone",
        "name",
        "firstName",
        "lastName",
        "location",
        "signedUpAt",
        "lastSeenAt",
    )
    assert {name: contact[name] for name in nothing} == dict.fromkeys(nothing)
    assert (contact["role"], contact["displayName"], contact["customAttributes"], contact["tags"]) == (
        "VISITOR",
        "Visitor",
        {},
        [],
    )
    assert [
        contact[name]
        for name in ("unsubscribedFromEmails", "hasHardBounced", "markedEmailAsSpam", "optedOutSubscriptionTypesCount")
    ] == [False, False, False, 0]


async def test_what_is_omitted_is_left_alone(workspace: Any) -> None:
    before = await good(workspace, **FULL)
    found = await upsert(workspace, externalId="u", name="Countess")
    assert found["created"] is False
    assert found["contact"] == {
        **before,
        "name": "Countess",
        "displayName": "Countess",
        "updatedAt": found["contact"]["updatedAt"],
    }
    assert datetime.fromisoformat(found["contact"]["updatedAt"]) > datetime.fromisoformat(before["updatedAt"])


@pytest.mark.parametrize(
    "field", ["phone", "name", "firstName", "lastName", "avatarUrl", "location", "signedUpAt", "lastSeenAt", "email"]
)
async def test_null_clears(workspace: Any, field: str) -> None:
    before = await good(workspace, **FULL)
    after = await good(workspace, externalId="u", **{field: None})
    assert after[field] is None
    assert {**after, field: before[field], "updatedAt": 0, "displayName": 0} == {
        **before,
        "updatedAt": 0,
        "displayName": 0,
    }


async def test_null_means_the_default_where_there_is_one(workspace: Any) -> None:
    await good(workspace, **FULL)
    flags = ("unsubscribedFromEmails", "hasHardBounced", "markedEmailAsSpam", "optedOutSubscriptionTypesCount")
    after = await good(workspace, externalId="u", tags=None, customAttributes=None, **dict.fromkeys(flags))
    assert [after[name] for name in flags] == [False, False, False, 0]
    assert (after["tags"] or [], after["customAttributes"] or {}) == ([], {})


async def test_null_clears_an_external_id_which_another_may_then_have(workspace: Any) -> None:
    one = await good(workspace, externalId="u", email="u@example.com")
    cleared = await good(workspace, id=one["id"], externalId=None)
    assert (cleared["externalId"], cleared["role"]) == (None, "USER")
    two = await good(workspace, externalId="u")
    assert two["id"] != one["id"]


async def test_tags_are_the_whole_set(workspace: Any) -> None:
    assert (await good(workspace, externalId="u", tags=["a", "b", "a"]))["tags"] == ["a", "b"]
    assert (await good(workspace, externalId="u", tags=["c"]))["tags"] == ["c"]
    assert (await good(workspace, externalId="u", name="Ada"))["tags"] == ["c"]
    assert (await good(workspace, externalId="u", tags=[]))["tags"] == []


async def test_custom_attributes_are_merged_and_a_key_with_null_goes(workspace: Any) -> None:
    assert (await good(workspace, externalId="u", customAttributes={"a": 1, "b": {"c": 1}, "n": None}))[
        "customAttributes"
    ] == {"a": 1, "b": {"c": 1}}
    assert (await good(workspace, externalId="u", customAttributes={"b": {"d": 2}, "e": True}))["customAttributes"] == {
        "a": 1,
        "b": {"d": 2},
        "e": True,
    }
    assert (await good(workspace, externalId="u", customAttributes={"a": None, "unknown": None}))[
        "customAttributes"
    ] == {"b": {"d": 2}, "e": True}
    assert (await good(workspace, externalId="u", customAttributes={}))["customAttributes"] == {
        "b": {"d": 2},
        "e": True,
    }


async def test_parts_of_a_location_that_are_omitted_are_left_alone(workspace: Any) -> None:
    await good(workspace, externalId="u", location={"city": "London", "region": "Greater London", "country": "UK"})
    after = await good(workspace, externalId="u", location={"city": "Leeds", "region": None})
    assert after["location"] == {"city": "Leeds", "region": None, "country": "UK"}


async def test_last_seen_at_never_goes_back(workspace: Any) -> None:
    await good(workspace, externalId="u", lastSeenAt=AT)
    assert (await good(workspace, externalId="u", lastSeenAt="2026-01-01T00:00:00Z"))["lastSeenAt"] == AT
    assert (await good(workspace, externalId="u", lastSeenAt="2026-02-01T00:00:00Z"))[
        "lastSeenAt"
    ] == "2026-02-01T00:00:00Z"


async def test_one_display_name_is_the_best_of_all(workspace: Any) -> None:
    steps: list[tuple[dict[str, Any], str]] = [
        ({"anonymousId": "a"}, "Visitor"),
        ({"externalId": "u-1"}, "u-1"),
        ({"email": "ada@example.com"}, "ada@example.com"),
        ({"lastName": "Lovelace"}, "Lovelace"),
        ({"firstName": "Ada"}, "Ada Lovelace"),
        ({"name": "Countess"}, "Countess"),
    ]
    contact = await good(workspace, anonymousId="a")
    for said, shown in steps:
        assert (await good(workspace, id=contact["id"], **said))["displayName"] == shown


# ---- keys, roles, conflicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "role"),
    [
        ({"externalId": "u"}, "USER"),
        ({"email": "u@example.com"}, "LEAD"),
        ({"anonymousId": "a"}, "VISITOR"),
        ({"externalId": "u", "role": "LEAD"}, "LEAD"),
        ({"anonymousId": "a", "role": "USER"}, "USER"),
    ],
)
async def test_a_role_follows_the_keys_unless_it_is_said(workspace: Any, keys: dict[str, str], role: str) -> None:
    assert (await good(workspace, **keys))["role"] == role
    assert (await good(workspace, **{name: value for name, value in keys.items() if name != "role"}, name="Ada"))[
        "role"
    ] in (role, "USER" if "externalId" in keys else role)


async def test_a_role_rises_with_the_keys_and_never_falls_by_itself(workspace: Any) -> None:
    contact = await good(workspace, anonymousId="a")
    assert (await good(workspace, id=contact["id"], email="u@example.com"))["role"] == "LEAD"
    assert (await good(workspace, id=contact["id"], externalId="u"))["role"] == "USER"
    assert (await good(workspace, id=contact["id"], externalId=None, email=None))["role"] == "USER"
    assert (await good(workspace, id=contact["id"], role="VISITOR"))["role"] == "VISITOR"


async def test_keys_are_attached_to_the_contact_that_the_strongest_key_means(workspace: Any) -> None:
    first = await good(workspace, externalId="u")
    found = await good(workspace, externalId="u", email="U@Example.com", anonymousId="a")
    assert (found["id"], found["email"], found["anonymousIds"]) == (first["id"], "U@Example.com", ["a"])
    assert (await good(workspace, externalId="u", anonymousId="b"))["anonymousIds"] == ["b", "a"]
    for by in (
        {"id": first["id"]},
        {"externalId": "u"},
        {"email": "u@EXAMPLE.COM"},
        {"anonymousId": "a"},
        {"anonymousId": "b"},
    ):
        assert (await who(workspace, **by))["id"] == first["id"]


async def test_emails_compare_in_lower_case_and_are_shown_as_sent(workspace: Any) -> None:
    first = await good(workspace, email="Ada@Example.com")
    found = await upsert(workspace, email="ADA@example.COM", name="Ada")
    assert (found["created"], found["contact"]["id"]) == (False, first["id"])
    assert (await who(workspace, email="ada@example.com"))["id"] == first["id"]
    assert (await stored(workspace))["contacts"] == 1


@pytest.mark.parametrize(
    ("by", "stated", "path"),
    [
        ("id", {"externalId": "taken"}, ["externalId"]),
        ("id", {"email": "TAKEN@example.com"}, ["email"]),
        ("id", {"anonymousId": "taken-a"}, ["anonymousId"]),
        ("externalId", {"email": "taken@example.com"}, ["email"]),
        ("externalId", {"anonymousId": "taken-a"}, ["anonymousId"]),
        ("email", {"anonymousId": "taken-a"}, ["anonymousId"]),
    ],
)
async def test_a_key_that_another_contact_has_is_a_conflict(
    workspace: Any, by: str, stated: dict[str, str], path: list[str]
) -> None:
    await good(workspace, externalId="taken", email="taken@example.com", anonymousId="taken-a")
    mine = await good(workspace, externalId="mine", email="mine@example.com")
    before, kept = await stored(workspace), await document(workspace, mine["id"])
    found = await upsert(workspace, **{by: mine[by]}, name="Changed", **stated)
    assert problem(found) == ("CONFLICT", ["input", *path])
    assert (found["contact"], found["created"]) == (None, False)
    assert await stored(workspace) == before
    assert await document(workspace, mine["id"]) == kept


async def test_a_new_contact_with_anothers_key_is_a_conflict_and_not_created(workspace: Any) -> None:
    await good(workspace, externalId="taken", email="taken@example.com", anonymousId="taken-a")
    before = await stored(workspace)
    for stated, path in (({"email": "taken@example.com"}, "email"), ({"anonymousId": "taken-a"}, "anonymousId")):
        assert problem(await upsert(workspace, externalId="new", **stated)) == ("CONFLICT", ["input", path])
    assert await stored(workspace) == before


async def test_leads_may_share_an_email_and_then_it_means_none_of_them(workspace: Any) -> None:
    one, two = await leads_sharing(workspace, "shared@example.com")
    assert one != two
    assert problem(await upsert(workspace, email="Shared@example.com", name="?")) == ("CONFLICT", ["input", "email"])
    answer = await workspace.ask(CONTACT, {"by": {"email": "SHARED@example.com"}})
    assert answer["data"] == {"contact": None}
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["BAD_REQUEST"]
    for by in ({"id": one}, {"anonymousId": "shared@example.com-1"}):
        assert (await who(workspace, **by))["email"] == "shared@example.com"


async def test_where_a_user_has_an_email_that_leads_share_the_user_is_meant(workspace: Any) -> None:
    leads = await leads_sharing(workspace, "shared@example.com")
    user = await good(workspace, externalId="u", email="Shared@Example.com")
    assert user["id"] not in leads
    assert (await who(workspace, email="shared@example.com"))["id"] == user["id"]
    assert (await good(workspace, email="SHARED@EXAMPLE.COM", name="Ada"))["id"] == user["id"]


async def test_at_most_one_user_has_an_email_also_when_a_lead_becomes_one(workspace: Any) -> None:
    one, two = await leads_sharing(workspace, "shared@example.com")
    assert (await good(workspace, id=one, externalId="u"))["role"] == "USER"
    for raised in ({"externalId": "v"}, {"role": "USER"}):
        found = await upsert(workspace, id=two, **raised)
        assert problem(found) == ("CONFLICT", ["input", "email"])
    assert (await who(workspace, id=two))["role"] == "LEAD"
    assert (await good(workspace, id=two, externalId="v", email="v@example.com"))["role"] == "USER"


async def test_a_user_that_steps_down_leaves_the_email_to_another(workspace: Any) -> None:
    one = await good(workspace, externalId="u", email="shared@example.com")
    await good(workspace, id=one["id"], role="LEAD")
    two = await good(workspace, externalId="v", email="shared@example.com")
    assert (await who(workspace, email="shared@example.com"))["id"] == two["id"] != one["id"]


@pytest.mark.parametrize(
    "by",
    [
        {"id": "con_00000000000000000000000000"},
        {"externalId": "u"},
        {"email": "u@example.com"},
        {"anonymousId": "a"},
        {"id": "nonsense"},
    ],
)
async def test_a_contact_that_nobody_knows_is_null(workspace: Any, by: dict[str, str]) -> None:
    assert await who(workspace, **by) is None


@pytest.mark.parametrize(
    ("sent", "code", "path"),
    [
        ({}, "INVALID", []),
        ({"name": "Nobody"}, "INVALID", []),
        ({"id": "con_00000000000000000000000000", "externalId": "u"}, "NOT_FOUND", ["id"]),
        ({"externalId": ""}, "INVALID", ["externalId"]),
        ({"externalId": "x" * 256}, "LIMIT_EXCEEDED", ["externalId"]),
        ({"email": "no address"}, "INVALID", ["email"]),
        ({"externalId": "u", "email": "@"}, "INVALID", ["email"]),
        ({"anonymousId": "a\0b"}, "INVALID", ["anonymousId"]),
        ({"externalId": "u", "phone": "x" * 1001}, "LIMIT_EXCEEDED", ["phone"]),
        ({"externalId": "u", "firstName": "a\0b"}, "INVALID", ["firstName"]),
        ({"externalId": "u", "location": {"city": "a\0b"}}, "INVALID", ["location", "city"]),
        ({"externalId": "u", "signedUpAt": "2999-01-01T00:00:00Z"}, "INVALID", ["signedUpAt"]),
        ({"externalId": "u", "lastSeenAt": "0001-01-01T00:00:00Z"}, "INVALID", ["lastSeenAt"]),
        ({"externalId": "u", "tags": ["ok", ""]}, "INVALID", ["tags", "1"]),
        ({"externalId": "u", "tags": [str(number) for number in range(101)]}, "LIMIT_EXCEEDED", ["tags"]),
        ({"externalId": "u", "customAttributes": {"$set": 1}}, "INVALID", ["customAttributes", "$set"]),
        ({"externalId": "u", "customAttributes": {"a": {"b.c": None}}}, "INVALID", ["customAttributes", "a", "b.c"]),
        ({"externalId": "u", "optedOutSubscriptionTypesCount": -1}, "INVALID", ["optedOutSubscriptionTypesCount"]),
        ({"externalId": "u", "idempotencyKey": "x" * 256}, "LIMIT_EXCEEDED", ["idempotencyKey"]),
    ],
)
async def test_a_mistake_writes_nothing(workspace: Any, sent: dict[str, Any], code: str, path: list[str]) -> None:
    found = await upsert(workspace, **sent)
    assert problem(found) == (code, ["input", *path])
    assert (found["contact"], found["created"]) == (None, False)
    assert set((await stored(workspace)).values()) == {0}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("name", '"\\ud800"'),
        ("customAttributes", '{"n": 1e400}'),
        ("customAttributes", '{"n": ' + "1" * 5000 + "}"),
        ("customAttributes", '{"n": 9223372036854775808}'),
        ("tags", '["\\ud800"]'),
        ("avatarUrl", '"\\udfff"'),
    ],
    ids=["half a name", "1e400", "5000 digits", "2^63", "half a tag", "half a url"],
)
async def test_what_cannot_be_kept_is_a_user_error(workspace: Any, field: str, text: str) -> None:
    body = json.dumps({"query": UPSERT, "variables": {"i": {"externalId": "u", field: "@hostile@"}}}).replace(
        '"@hostile@"', text
    )
    answer = (await workspace.post("", raw=body.encode())).json()
    assert "errors" not in answer, answer["errors"]
    code, path = problem(answer["data"]["upsertContact"])
    assert (code, path[:2]) == ("INVALID", ["input", field])
    assert set((await stored(workspace)).values()) == {0}


async def test_custom_attributes_have_the_limits_of_metadata_also_when_they_grow(open_gateway: Any) -> None:
    async with open_gateway(max_metadata_keys=2) as gateway:
        workspace = await gateway.workspace()
        await good(workspace, externalId="u", customAttributes={"a": 1, "b": 2})
        assert problem(await upsert(workspace, externalId="u", customAttributes={"c": 3})) == (
            "LIMIT_EXCEEDED",
            ["input", "customAttributes", "c"],
        )
        assert (await good(workspace, externalId="u", customAttributes={"c": 3, "a": None}))["customAttributes"] == {
            "b": 2,
            "c": 3,
        }


# ---- idempotency ------------------------------------------------------------------------------------------------


async def test_the_same_key_and_input_gives_the_first_result_again(workspace: Any) -> None:
    first = await upsert(workspace, externalId="u", name="Ada", idempotencyKey="k")
    assert first["created"] is True
    before = await stored(workspace)
    assert await upsert(workspace, externalId="u", name="Ada", idempotencyKey="k") == first
    assert (
        await stored(workspace)
        == before
        == {
            "events": 0,
            "contacts": 1,
            "event_summaries": 0,
            "event_definitions": 0,
            "changes": 1,
            "idempotency_keys": 1,
        }
    )


async def test_a_repeated_call_undoes_no_change_since(workspace: Any) -> None:
    await upsert(workspace, externalId="u", name="Ada", idempotencyKey="k")
    await good(workspace, externalId="u", name="Countess")
    again = await upsert(workspace, externalId="u", name="Ada", idempotencyKey="k")
    assert (again["created"], again["userErrors"]) == (True, [])
    assert (await who(workspace, externalId="u"))["name"] == "Countess"


@pytest.mark.parametrize(
    "other",
    [{"name": "Other"}, {"externalId": "v"}, {"phone": None}, {"tags": []}],
    ids=lambda other: next(iter(other)),
)
async def test_the_same_key_with_another_input_is_told(workspace: Any, other: dict[str, Any]) -> None:
    await upsert(workspace, externalId="u", name="Ada", idempotencyKey="k")
    before = await stored(workspace)
    found = await upsert(workspace, **{"externalId": "u", "name": "Ada", "idempotencyKey": "k", **other})
    assert problem(found) == ("IDEMPOTENCY_KEY_REUSED", ["input", "idempotencyKey"])
    assert await stored(workspace) == before


async def test_a_key_of_one_mutation_is_free_in_another(workspace: Any) -> None:
    await upsert(workspace, externalId="u", idempotencyKey="k")
    (result,) = (await workspace.track({"contact": {"externalId": "u"}, "name": "did", "idempotencyKey": "k"}))[
        "results"
    ]
    assert (result["duplicate"], result["error"]) == (False, None)


async def test_the_same_key_at_the_same_moment_creates_once(workspace: Any) -> None:
    found = await asyncio.gather(*(upsert(workspace, externalId="u", name="Ada", idempotencyKey="k") for _ in range(6)))
    assert [each == found[0] for each in found] == [True] * 6
    assert found[0]["created"] is True
    assert (await stored(workspace))["changes"] == 1


async def test_keys_are_forgotten_after_seven_days_by_an_index(gateway: Any) -> None:
    database = gateway.runtime.database._database
    indexes = await database["idempotency_keys"].index_information()
    assert [index["expireAfterSeconds"] for index in indexes.values() if "expireAfterSeconds" in index] == [7 * 86_400]
    indexes = await database["events"].index_information()
    assert [index for index in indexes.values() if "expireAfterSeconds" in index] == []


async def test_a_key_holds_for_just_short_of_seven_days(open_gateway: Any, clock: Any) -> None:
    async with open_gateway(clock=clock) as gateway:
        workspace = await gateway.workspace()
        first = await upsert(workspace, externalId="u", idempotencyKey="k")
        clock.ahead = timedelta(days=6, hours=23)
        assert await upsert(workspace, externalId="u", idempotencyKey="k") == first


# ---- what a change writes ---------------------------------------------------------------------------------------


async def test_creating_writes_one_line(workspace: Any) -> None:
    contact = await good(workspace, **FULL)
    (line,) = await lines(workspace)
    assert (line["subject"], line["kind"], line["contact_id"], line["before"]) == (
        "contact",
        "CREATED",
        contact["id"],
        None,
    )
    assert (line["after"]["external_id"], line["after"]["email"], line["after"]["role"], line["after"]["tags"]) == (
        "u",
        "Ada@Example.com",
        "USER",
        ["vip", "beta"],
    )


async def test_being_seen_alone_is_no_change(workspace: Any) -> None:
    before = await good(workspace, externalId="u", name="Ada")
    after = await good(workspace, externalId="u", lastSeenAt=AT)
    assert after == {**before, "lastSeenAt": AT}
    told = [(line["subject"], line["kind"]) for line in await lines(workspace)]
    assert told == [("contact", "CREATED"), ("seen", "SEEN")]  # which segments read, and no subscriber hears


CHANGES: list[dict[str, Any]] = [
    {"name": "Other"}, {"phone": "1"}, {"firstName": "Other"}, {"lastName": "Other"}, {"avatarUrl": "https://example.com/b.png"}, {"location": {"city": "Leeds"}}, {"signedUpAt": AT},
    {"customAttributes": {"plan": "free"}}, {"tags": ["other"]}, {"unsubscribedFromEmails": False}, {"hasHardBounced": False}, {"markedEmailAsSpam": False},
    {"optedOutSubscriptionTypesCount": 5}, {"email": "other@example.com"}, {"anonymousId": "b"}, {"role": "LEAD"}, {"name": None}, {"name": "Other", "lastSeenAt": "2026-02-01T00:00:00Z", "tags": []},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: "+".join(change))
async def test_any_other_change_writes_exactly_one_line_and_moves_updated_at(
    workspace: Any, change: dict[str, Any]
) -> None:
    before = await good(workspace, **FULL)
    after = await good(workspace, externalId="u", **change)
    assert datetime.fromisoformat(after["updatedAt"]) > datetime.fromisoformat(before["updatedAt"])
    _, line = await lines(workspace)
    assert (line["kind"], line["contact_id"]) == ("UPDATED", before["id"])
    assert line["before"]["name"] == "Ada L."
    assert line["after"].get("name") == after["name"]


async def test_a_line_tells_before_and_after(workspace: Any) -> None:
    contact = await good(workspace, email="lead@example.com", tags=["a"])
    await good(workspace, id=contact["id"], externalId="u", tags=["a", "b"], lastSeenAt=AT)
    _, line = await lines(workspace)
    assert line["fields"] == ["external_id", "role", "tags"]
    assert [
        (line[side].get("external_id"), line[side]["role"], line[side]["tags"]) for side in ("before", "after")
    ] == [(None, "LEAD", ["a"]), ("u", "USER", ["a", "b"])]


async def test_what_changes_nothing_writes_nothing(workspace: Any) -> None:
    contact = await good(workspace, **FULL)
    before, counts = await document(workspace, contact["id"]), await stored(workspace)
    for said in (
        FULL,
        {"externalId": "u"},
        {"id": contact["id"], "name": "Ada L."},
        {"externalId": "u", "customAttributes": {"unknown": None}},
        {"externalId": "u", "lastSeenAt": "2026-01-01T00:00:00Z"},
    ):
        found = await upsert(workspace, **said)
        assert found == {"created": False, "contact": contact, "userErrors": []}
    assert await document(workspace, contact["id"]) == before
    assert await stored(workspace) == counts


async def test_a_key_without_read_creates_and_is_told_so(workspace: Any) -> None:
    key = await workspace.key_with(Scope.TRACK)
    for created in (True, False):
        found = await workspace.data(UPSERT, {"i": {"externalId": "u", "name": "Ada"}}, key=key)
        assert found == {"upsertContact": {"created": created, "contact": None, "userErrors": []}}
    assert (await who(workspace, externalId="u"))["name"] == "Ada"


async def test_a_contact_shows_its_newest_hundred_anonymous_ids(workspace: Any) -> None:
    await workspace.track(
        *({"contact": {"externalId": "u", "anonymousId": f"a{number:03}"}, "name": "did"} for number in range(120))
    )
    assert (await who(workspace, externalId="u"))["anonymousIds"] == [f"a{number:03}" for number in range(119, 19, -1)]
    assert (await who(workspace, anonymousId="a000"))["externalId"] == "u"


async def test_contacts_are_listed_the_newest_first(workspace: Any) -> None:
    ids = [(await good(workspace, externalId=f"u{number}"))["id"] for number in range(5)]
    page = (await workspace.data("{ contacts(first: 3) { nodes { id } pageInfo { hasNextPage endCursor } } }"))[
        "contacts"
    ]
    assert [node["id"] for node in page["nodes"]] == sorted(ids, reverse=True)[:3]
    rest = (
        await workspace.data(
            "query($a: String) { contacts(after: $a) { nodes { id } pageInfo { hasNextPage } } }",
            {"a": page["pageInfo"]["endCursor"]},
        )
    )["contacts"]
    assert [node["id"] for node in rest["nodes"]] == sorted(ids, reverse=True)[3:]
    assert (page["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)


async def test_signing_up_may_lie_long_ago(workspace: Any) -> None:
    at = (system_clock() - timedelta(days=36_000)).replace(microsecond=250_000).isoformat().replace("+00:00", "Z")
    assert (await good(workspace, externalId="u", signedUpAt=at))["signedUpAt"] == at
