"""Those who answer: admins and teams, and the tokens that admins act by."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.core.principals import Principal, Scope
from gateway.domain.support.actors import AUTOMATION, Actor, ActorKind
from gateway.domain.support.teammates import MAX_ADMINS_OF_TEAM, MAX_TEAMS
from gateway.domain.tokens import LEEWAY
from gateway.errors import UserProblem

SAVE_ADMIN = """mutation($i: SaveAdminInput!) { saveAdmin(input: $i) {
  admin { id name email avatarUrl displayName archived } userErrors { code message path } } }"""
SAVE_TEAM = """mutation($i: SaveTeamInput!) { saveTeam(input: $i) {
  team { id name archived admins { id name } } userErrors { code message path } } }"""
MAKE = """mutation($i: CreateAdminTokenInput!) { createAdminToken(input: $i) {
  token expiresAt userErrors { code message path } } }"""
VIEWER = "{ viewer { id scopes contact { id } admin { id name email } } }"


@pytest.fixture
def gateway(still_gateway: Any) -> Any:
    return still_gateway


async def save_admin(workspace: Any, **input_: Any) -> Any:
    return (await workspace.data(SAVE_ADMIN, {"i": input_}))["saveAdmin"]


async def save_team(workspace: Any, **input_: Any) -> Any:
    return (await workspace.data(SAVE_TEAM, {"i": input_}))["saveTeam"]


async def admin(workspace: Any, name: str = "Eve") -> str:
    saved = await save_admin(workspace, name=name, email=f"{name.lower()}@acme.example")
    return str(saved["admin"]["id"])


def problems(payload: Any) -> list[tuple[str, list[str]]]:
    return [(problem["code"], problem["path"][1:]) for problem in payload["userErrors"]]


async def test_an_admin_is_saved_changed_and_archived(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    made = (await save_admin(workspace, name="Eve", email="Eve@Acme.example", avatarUrl="https://a.example/e.png"))[
        "admin"
    ]
    assert made == {
        "id": made["id"],
        "name": "Eve",
        "email": "Eve@Acme.example",
        "avatarUrl": "https://a.example/e.png",
        "displayName": "Eve",
        "archived": False,
    }
    changed = (await save_admin(workspace, id=made["id"], name="Eva", email="eva@acme.example", archived=True))["admin"]
    assert changed == {**made, "name": "Eva", "displayName": "Eva", "email": "eva@acme.example", "archived": True}
    cleared = (
        await save_admin(workspace, id=made["id"], name="Eva", email="eva@acme.example", avatarUrl=None, archived=None)
    )["admin"]
    assert cleared == {**changed, "avatarUrl": None, "archived": False}
    assert await workspace.data("query($id: ID!) { node(id: $id) { __typename id } }", {"id": made["id"]}) == {
        "node": {"__typename": "Admin", "id": made["id"]}
    }


@pytest.mark.parametrize(
    ("input_", "code", "path"),
    [
        ({"name": " ", "email": "a@acme.example"}, "INVALID", ["name"]),
        ({"name": "x" * 256, "email": "a@acme.example"}, "LIMIT_EXCEEDED", ["name"]),
        ({"name": "A", "email": "nobody"}, "INVALID", ["email"]),
        ({"name": "A", "email": "a@acme.example", "avatarUrl": "x" * 2001}, "LIMIT_EXCEEDED", ["avatarUrl"]),
        ({"name": "A", "email": "a@acme.example", "id": "adm_01JZ0000000000000000000000"}, "NOT_FOUND", ["id"]),
        ({"name": "A", "email": "EVE@acme.example"}, "CONFLICT", ["email"]),
    ],
)
async def test_an_admin_that_cannot_be_saved(workspace: Any, input_: Any, code: str, path: list[str]) -> None:
    first = await admin(workspace)
    refused = await save_admin(workspace, **input_)
    assert (refused["admin"], problems(refused)) == (None, [(code, path)])
    listed = await workspace.data("{ admins(first: 10) { nodes { id } } }")
    assert listed == {"admins": {"nodes": [{"id": first}]}}


async def test_of_two_at_once_one_gets_the_address(workspace: Any) -> None:
    saved = await asyncio.gather(*(save_admin(workspace, name="A", email="a@acme.example") for _ in range(5)))
    assert sorted(problems(one) for one in saved) == [[], *[[("CONFLICT", ["email"])]] * 4]


async def test_admins_are_paged_the_newest_first(workspace: Any) -> None:
    ids = [await admin(workspace, name) for name in ("A", "B", "C")]
    query = "query($a: String) { admins(first: 2, after: $a) { nodes { id } pageInfo { hasNextPage endCursor } } }"
    first = (await workspace.data(query))["admins"]
    rest = (await workspace.data(query, {"a": first["pageInfo"]["endCursor"]}))["admins"]
    assert [node["id"] for node in first["nodes"] + rest["nodes"]] == sorted(ids, reverse=True)
    assert (first["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)


async def test_a_team_lists_its_admins_in_their_order(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    eve, bob = await admin(workspace), await admin(workspace, "Bob")
    made = (await save_team(workspace, name="Support", adminIds=[bob, eve, bob]))["team"]
    assert made == {
        "id": made["id"],
        "name": "Support",
        "archived": False,
        "admins": [{"id": bob, "name": "Bob"}, {"id": eve, "name": "Eve"}],
    }
    await save_team(workspace, name="Billing", adminIds=[])
    changed = (await save_team(workspace, id=made["id"], name="Help", adminIds=[eve], archived=True))["team"]
    assert changed == {**made, "name": "Help", "archived": True, "admins": [{"id": eve, "name": "Eve"}]}
    each_gateway.commands.finds.clear()
    listed = await workspace.data("{ teams { name admins { id } } }")
    assert listed == {"teams": [{"name": "Billing", "admins": []}, {"name": "Help", "admins": [{"id": eve}]}]}
    read = [find.get("find") for find in each_gateway.commands.finds]  # others are read in the background
    assert [name for name in read if name in ("teams", "admins")] == ["teams", "admins"]


@pytest.mark.parametrize(
    ("input_", "code", "path"),
    [
        ({"name": "", "adminIds": []}, "INVALID", ["name"]),
        ({"name": "A", "adminIds": ["adm_01JZ0000000000000000000000"]}, "NOT_FOUND", ["adminIds", "0"]),
        (
            {"name": "A", "adminIds": [f"adm_{number:026}" for number in range(MAX_ADMINS_OF_TEAM + 1)]},
            "LIMIT_EXCEEDED",
            ["adminIds"],
        ),
        ({"name": "SUPPORT", "adminIds": []}, "CONFLICT", ["name"]),
        ({"name": "A", "adminIds": [], "id": "tea_01JZ0000000000000000000000"}, "NOT_FOUND", ["id"]),
    ],
)
async def test_a_team_that_cannot_be_saved(workspace: Any, input_: Any, code: str, path: list[str]) -> None:
    await save_team(workspace, name="Support", adminIds=[])
    refused = await save_team(workspace, **input_)
    assert (refused["team"], problems(refused)) == (None, [(code, path)])
    assert await workspace.data("{ teams { name } }") == {"teams": [{"name": "Support"}]}


async def test_a_workspace_has_a_hundred_teams_at_most(workspace: Any) -> None:
    for number in range(MAX_TEAMS):
        assert problems(await save_team(workspace, name=f"Team {number}", adminIds=[])) == []
    refused = await save_team(workspace, name="One more", adminIds=[])
    assert problems(refused) == [("LIMIT_EXCEEDED", [])]
    listed = (await workspace.data("{ teams { id } }"))["teams"]
    assert len(listed) == MAX_TEAMS
    assert problems(await save_team(workspace, id=listed[0]["id"], name="Renamed", adminIds=[])) == []


async def test_an_admins_token_reads_the_workspace_and_says_who_it_is(open_gateway: Any, clock: Any) -> None:
    async with open_gateway(clock=clock) as gateway:
        workspace = await gateway.workspace()
        eve = await admin(workspace)
        await workspace.track({"contact": {"externalId": "u"}, "name": "did"})
        before = datetime.now(UTC)
        made = (await workspace.data(MAKE, {"i": {"adminId": eve}}))["createAdminToken"]
        assert made["userErrors"] == []
        lifetime = datetime.fromisoformat(made["expiresAt"]) - before
        assert timedelta(minutes=59, seconds=58) < lifetime < timedelta(minutes=61)
        token = made["token"]
        assert await workspace.data(VIEWER, key=token) == {
            "viewer": {
                "id": "tok_" + eve[4:],
                "scopes": ["READ", "SUPPORT"],
                "contact": None,
                "admin": {"id": eve, "name": "Eve", "email": "eve@acme.example"},
            }
        }
        found = await workspace.data(
            "{ admins(first: 1) { nodes { id } } contacts(first: 1) { nodes { externalId } } }", key=token
        )
        assert found == {"admins": {"nodes": [{"id": eve}]}, "contacts": {"nodes": [{"externalId": "u"}]}}
        for refused in (
            'mutation { trackEvent(input: {contact: {externalId: "u"}, name: "did"}) { duplicate } }',
            'mutation { saveAdmin(input: {name: "X", email: "x@acme.example"}) { admin { id } } }',
        ):
            answer = await workspace.ask(refused, key=token)
            assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]
        clock.ahead = timedelta(hours=1) + LEEWAY
        assert (await workspace.post(VIEWER, key=token)).status_code == 401


async def test_an_archived_admins_token_is_worth_nothing(workspace: Any) -> None:
    eve = await admin(workspace)
    token = (await workspace.data(MAKE, {"i": {"adminId": eve, "expiresInSeconds": 60}}))["createAdminToken"]["token"]
    assert (await workspace.post(VIEWER, key=token)).status_code == 200
    await save_admin(workspace, id=eve, name="Eve", email="eve@acme.example", archived=True)
    response = await workspace.post(VIEWER, key=token)
    assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (401, "UNAUTHENTICATED")
    refused = (await workspace.data(MAKE, {"i": {"adminId": eve}}))["createAdminToken"]
    assert (refused["token"], problems(refused)) == (None, [("INVALID", ["adminId"])])


@pytest.mark.parametrize(
    ("input_", "code", "path"),
    [
        ({"adminId": "adm_01JZ0000000000000000000000"}, "NOT_FOUND", ["adminId"]),
        ({"expiresInSeconds": 59}, "INVALID", ["expiresInSeconds"]),
        ({"expiresInSeconds": 86_401}, "INVALID", ["expiresInSeconds"]),
    ],
)
async def test_an_admins_token_that_cannot_be_made(workspace: Any, input_: Any, code: str, path: list[str]) -> None:
    eve = await admin(workspace)
    refused = (await workspace.data(MAKE, {"i": {"adminId": eve, **input_}}))["createAdminToken"]
    assert (refused["token"], problems(refused)) == (None, [(code, path)])


async def test_who_acts(workspace: Any) -> None:
    people = workspace.gateway.runtime.services.teammates
    eve = await admin(workspace)
    await workspace.track({"contact": {"externalId": "u"}, "name": "did"})
    ada = (await workspace.data('{ contact(by: {externalId: "u"}) { id } }'))["contact"]["id"]
    service = Principal("key_1", workspace.id, frozenset(Scope))
    tokens = {
        Actor(ActorKind.CONTACT, ada): Principal("tok_1", workspace.id, contact_id=ada),
        Actor(ActorKind.ADMIN, eve): Principal("tok_2", workspace.id, admin_id=eve),
    }
    assert await people.actor(service, None) == AUTOMATION
    assert await people.actor(service, None, Actor(ActorKind.CONTACT, ada)) == Actor(ActorKind.CONTACT, ada)
    assert await people.actor(service, {"admin_id": eve}) == Actor(ActorKind.ADMIN, eve)
    assert await people.actor(service, {"contact_id": ada}) == Actor(ActorKind.CONTACT, ada)
    for actor, token in tokens.items():
        assert await people.actor(token, None) == actor
        with pytest.raises(UserProblem) as forbidden:
            await people.actor(token, {"admin_id": eve})
        assert (forbidden.value.code, forbidden.value.path) == ("FORBIDDEN", ("actor",))
    for named, path in (({"admin_id": ada}, "adminId"), ({"contact_id": eve}, "contactId")):
        with pytest.raises(UserProblem) as unknown:
            await people.actor(service, named)
        assert (unknown.value.code, unknown.value.path) == ("NOT_FOUND", ("actor", path))
