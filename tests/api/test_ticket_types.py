"""Types of tickets: saved, changed, archived, refused, and what a contact's token sees of them."""

import asyncio
from typing import Any

import pytest

from gateway.domain.support.ticket_types import MAX_ATTRIBUTES, MAX_OPTIONS, MAX_TICKET_TYPES

SAVE = """mutation($i: SaveTicketTypeInput!) { saveTicketType(input: $i) { ticketType {
  id name category description archived attributes { name kind required options visibleToContacts } }
  userErrors { code message path } } }"""
NOBODY = "tty_01JZ0000000000000000000000"


@pytest.fixture
def gateway(still_gateway: Any) -> Any:
    return still_gateway


async def save(workspace: Any, **input_: Any) -> Any:
    return (await workspace.data(SAVE, {"i": {"name": "Bug", "category": "CUSTOMER", **input_}}))["saveTicketType"]


def problems(payload: Any) -> list[tuple[str, list[str]]]:
    return [(problem["code"], problem["path"][1:]) for problem in payload["userErrors"]]


async def test_a_type_is_saved_changed_and_archived(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    attributes = [
        {"name": "Severity", "kind": "LIST", "options": ["low", "high"], "required": True},
        {"name": "Cause", "kind": "LONG_STRING", "visibleToContacts": False, "required": None},
    ]
    made = (await save(workspace, description="What is broken", attributes=attributes))["ticketType"]
    assert made == {
        "id": made["id"],
        "name": "Bug",
        "category": "CUSTOMER",
        "description": "What is broken",
        "archived": False,
        "attributes": [
            {
                "name": "Severity",
                "kind": "LIST",
                "required": True,
                "options": ["low", "high"],
                "visibleToContacts": True,
            },
            {"name": "Cause", "kind": "LONG_STRING", "required": False, "options": None, "visibleToContacts": False},
        ],
    }
    renamed = (await save(workspace, id=made["id"], name="Defect"))["ticketType"]
    assert renamed == {**made, "name": "Defect"}
    changed = (await save(workspace, id=made["id"], name="Defect", description=None, attributes=None, archived=True))[
        "ticketType"
    ]
    assert changed == {**renamed, "description": None, "attributes": [], "archived": True}
    await save(workspace, name="Account", category="BACK_OFFICE")
    listed = await workspace.data("{ ticketTypes { name category archived } }")
    assert listed["ticketTypes"] == [
        {"name": "Account", "category": "BACK_OFFICE", "archived": False},
        {"name": "Defect", "category": "CUSTOMER", "archived": True},
    ]
    node = await workspace.data("query($id: ID!) { node(id: $id) { __typename id } }", {"id": made["id"]})
    assert node == {"node": {"__typename": "TicketType", "id": made["id"]}}


def attribute(**values: Any) -> dict[str, Any]:
    return {"attributes": [{"name": "A", "kind": "STRING"} | values]}


@pytest.mark.parametrize(
    ("input_", "code", "path"),
    [
        ({"name": " "}, "INVALID", ["name"]),
        ({"name": "x" * 256}, "LIMIT_EXCEEDED", ["name"]),
        ({"name": "TAKEN"}, "CONFLICT", ["name"]),
        ({"description": "x" * 1001}, "LIMIT_EXCEEDED", ["description"]),
        ({"id": NOBODY}, "NOT_FOUND", ["id"]),
        (attribute(name=""), "INVALID", ["attributes", "0", "name"]),
        (attribute(name="a.b"), "INVALID", ["attributes", "0", "name"]),
        (attribute(name="$a"), "INVALID", ["attributes", "0", "name"]),
        (attribute(options=["x"]), "INVALID", ["attributes", "0", "options"]),
        (attribute(kind="LIST"), "INVALID", ["attributes", "0", "options"]),
        (attribute(kind="LIST", options=["x", ""]), "INVALID", ["attributes", "0", "options", "1"]),
        (attribute(kind="LIST", options=["x", "x"]), "INVALID", ["attributes", "0", "options", "1"]),
        (
            attribute(kind="LIST", options=[f"{n}" for n in range(MAX_OPTIONS + 1)]),
            "LIMIT_EXCEEDED",
            ["attributes", "0", "options"],
        ),
        (
            {"attributes": [{"name": "A", "kind": "STRING"}, {"name": "a", "kind": "INTEGER"}]},
            "INVALID",
            ["attributes", "1", "name"],
        ),
        (
            {"attributes": [{"name": f"{n}", "kind": "STRING"} for n in range(MAX_ATTRIBUTES + 1)]},
            "LIMIT_EXCEEDED",
            ["attributes"],
        ),
    ],
)
async def test_a_type_that_cannot_be_saved(workspace: Any, input_: Any, code: str, path: list[str]) -> None:
    await save(workspace, name="Taken")
    refused = await save(workspace, **input_)
    assert (refused["ticketType"], problems(refused)) == (None, [(code, path)])
    assert await workspace.data("{ ticketTypes { name } }") == {"ticketTypes": [{"name": "Taken"}]}


async def test_a_types_category_stays(workspace: Any) -> None:
    made = (await save(workspace))["ticketType"]
    refused = await save(workspace, id=made["id"], category="TRACKER", name="Other")
    assert problems(refused) == [("INVALID", ["category"])]
    assert "cannot be changed" in refused["userErrors"][0]["message"]
    assert await workspace.data("{ ticketTypes { name category } }") == {
        "ticketTypes": [{"name": "Bug", "category": "CUSTOMER"}]
    }


async def test_of_two_at_once_one_gets_the_name(workspace: Any) -> None:
    saved = await asyncio.gather(*(save(workspace) for _ in range(5)))
    assert sorted(problems(one) for one in saved) == [[], *[[("CONFLICT", ["name"])]] * 4]


async def test_a_workspace_has_a_hundred_types_at_most(workspace: Any) -> None:
    for number in range(MAX_TICKET_TYPES):
        assert problems(await save(workspace, name=f"Type {number}")) == []
    assert problems(await save(workspace, name="One more")) == [("LIMIT_EXCEEDED", [])]
    listed = (await workspace.data("{ ticketTypes { id } }"))["ticketTypes"]
    assert problems(await save(workspace, id=listed[0]["id"], name="Renamed")) == []


async def test_a_contacts_token_sees_what_it_may_open_tickets_of(workspace: Any) -> None:
    hidden = [{"name": "Open", "kind": "STRING"}, {"name": "Cause", "kind": "STRING", "visibleToContacts": False}]
    shown = (await save(workspace, attributes=hidden))["ticketType"]
    others = [
        (await save(workspace, name="Task", category="BACK_OFFICE"))["ticketType"]["id"],
        (await save(workspace, name="Old", archived=True))["ticketType"]["id"],
    ]
    await workspace.track({"contact": {"externalId": "u"}, "name": "did"})
    token = await workspace.token(externalId="u")
    found = await workspace.data("{ ticketTypes { id name attributes { name } } }", key=token)
    assert found == {"ticketTypes": [{"id": shown["id"], "name": "Bug", "attributes": [{"name": "Open"}]}]}
    nodes = await workspace.data("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": others}, key=token)
    assert nodes == {"nodes": [None, {"id": others[1]}]}
