"""Tickets by a contact's token: its own shared customer tickets, with what is for it to see, and nothing else."""

from typing import Any

import pytest
from tickets import ASSIGN, CREATE, REPLY, SET_STATE, UPDATE, admin, asked, parts, problems, team, ticket, type_id

OWN_CREATE = """mutation($i: CreateTicketInput!) { createTicket(input: $i) {
  ticket { id number state category attributes contact { externalId } } userErrors { code message path } } }"""
OWN_REPLY = """mutation($i: ReplyToTicketInput!) { replyToTicket(input: $i) {
  ticket { id state partCount } part { kind body fromState toState } userErrors { code message path } } }"""
NODES = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
LISTS = """query($f: TicketFilter) { tickets(first: 10, filter: $f) { nodes { id } }
  viewer { contact { tickets(first: 10, filter: $f) { nodes { id } } } } }"""
ATTRIBUTES = [
    {"name": "Order", "kind": "STRING"},
    {"name": "Cause", "kind": "STRING", "required": True, "visibleToContacts": False},
]


@pytest.fixture
def gateway(still_gateway: Any) -> Any:
    return still_gateway


@pytest.fixture
async def bug(workspace: Any) -> str:
    return await type_id(workspace, attributes=ATTRIBUTES)


@pytest.fixture
async def token(workspace: Any) -> str:
    await workspace.track({"contact": {"externalId": "u"}, "name": "did"})
    return str(await workspace.token(externalId="u"))


async def listed(workspace: Any, token: str, **filter_: Any) -> list[str]:
    found = await workspace.data(LISTS, {"f": filter_}, key=token)
    assert found["viewer"]["contact"]["tickets"] == found["tickets"]
    return [node["id"] for node in found["tickets"]["nodes"]]


async def test_a_contact_opens_its_own_ticket_and_answers(workspace: Any, bug: str, token: str) -> None:
    sent = {"contact": {"externalId": "somebody"}, "typeId": bug, "title": "Help", "attributes": {"Order": "7"}}
    made = (await asked(workspace, OWN_CREATE, token, **sent))["ticket"]
    assert made == {
        "id": made["id"],
        "number": 1,
        "state": "SUBMITTED",
        "category": "CUSTOMER",
        "attributes": {"Order": "7"},
        "contact": {"externalId": "u"},
    }
    await asked(workspace, SET_STATE, id=made["id"], state="WAITING_ON_CUSTOMER", body="Which one?")
    replied = await asked(workspace, OWN_REPLY, token, ticketId=made["id"], body="The red one")
    assert replied == {
        "ticket": {"id": made["id"], "state": "IN_PROGRESS", "partCount": 2},
        "part": {
            "kind": "COMMENT",
            "body": "The red one",
            "fromState": "WAITING_ON_CUSTOMER",
            "toState": "IN_PROGRESS",
        },
        "userErrors": [],
    }
    keyed = [
        await asked(workspace, OWN_REPLY, token, ticketId=made["id"], body="Yes", idempotencyKey="k") for _ in range(2)
    ]
    assert keyed[0] == keyed[1]
    other = await workspace.token(externalId="other")
    for key, code in ((token, "IDEMPOTENCY_KEY_REUSED"), (other, "NOT_FOUND")):
        payload = await asked(workspace, OWN_REPLY, key, ticketId=made["id"], body="No", idempotencyKey="k")
        assert [problem["code"] for problem in payload["userErrors"]] == [code]


async def test_what_a_contact_does_not_say(workspace: Any, bug: str, token: str) -> None:
    eve, support = await admin(workspace), await team(workspace)
    own = (await asked(workspace, OWN_CREATE, token, contact={}, typeId=bug, title="A"))["ticket"]
    for more, path in (
        ({"actor": {"adminId": eve}}, ["actor"]),
        ({"assigneeId": eve}, ["assigneeId"]),
        ({"teamId": support}, ["teamId"]),
        ({"tags": ["a"]}, ["tags"]),
        ({"isShared": False}, ["isShared"]),
        ({"createdAt": "2026-01-01T00:00:00Z"}, ["createdAt"]),
    ):
        refused = await asked(workspace, OWN_CREATE, token, contact={}, typeId=bug, title="A", **more)
        assert problems(refused) == [("FORBIDDEN", path)]
    hidden = await asked(workspace, OWN_CREATE, token, contact={}, typeId=bug, title="A", attributes={"Cause": "x"})
    assert problems(hidden) == [("INVALID", ["attributes", "Cause"])]
    office = await type_id(workspace, "Task", "BACK_OFFICE")
    refused = await asked(workspace, OWN_CREATE, token, contact={}, typeId=office, title="A")
    assert problems(refused) == [("NOT_FOUND", ["typeId"])]
    for more, path in (({"note": True}, ["note"]), ({"createdAt": "2026-01-01T00:00:00Z"}, ["createdAt"])):
        refused = await asked(workspace, OWN_REPLY, token, ticketId=own["id"], body="A", **more)
        assert problems(refused) == [("FORBIDDEN", path)]
    assert len(await workspace.store.tickets._find({})) == 1
    assert await workspace.store.ticket_parts._find({}) == []


async def test_a_contact_sees_its_own_shared_customer_tickets_alone(workspace: Any, bug: str, token: str) -> None:
    office = await type_id(workspace, "Task", "BACK_OFFICE")
    eve = await admin(workspace)
    seen = await ticket(workspace, bug, attributes={"Cause": "x", "Order": "7"}, tags=["vip"], assigneeId=eve)
    unseen = [
        await ticket(workspace, bug, attributes={"Cause": "x"}, isShared=False),
        await ticket(workspace, bug, attributes={"Cause": "x"}, contact={"externalId": "other"}),
        await ticket(workspace, office),
    ]
    said = [
        (await asked(workspace, REPLY, ticketId=one["id"], body="Hello", actor={"adminId": eve}))["part"]["id"]
        for one in (seen, *unseen)
    ]
    note = (await asked(workspace, REPLY, ticketId=seen["id"], body="Secret", note=True))["part"]["id"]
    assert await listed(workspace, token) == [seen["id"]]
    for one in unseen:
        for by in ({"id": one["id"]}, {"number": one["number"]}):
            found = await workspace.data("query($by: TicketKey!) { ticket(by: $by) { id } }", {"by": by}, key=token)
            assert found == {"ticket": None}
        refused = await asked(workspace, OWN_REPLY, token, ticketId=one["id"], body="Hi")
        assert problems(refused) == [("NOT_FOUND", ["ticketId"])]
    ids = [seen["id"], *(one["id"] for one in unseen), *said, note]
    nodes = await workspace.data(NODES, {"ids": ids}, key=token)
    assert [node and node["id"] for node in nodes["nodes"]] == [seen["id"], None, None, None, said[0], *[None] * 4]
    shown = await parts(workspace, seen["id"], token)
    assert [(one["kind"], one["body"], one["author"]["displayName"]) for one in shown] == [("COMMENT", "Hello", "Eve")]
    answer = await workspace.ask(
        "query($id: ID!) { ticket(by: {id: $id}) { attributes partCount tags isShared snoozedUntil team { name } "
        "assignee { displayName email } type { attributes { name } } } }",
        {"id": seen["id"]},
        key=token,
    )
    assert answer["data"]["ticket"] == {
        "attributes": {"Order": "7"},
        "partCount": 1,
        "tags": None,
        "isShared": None,
        "snoozedUntil": None,
        "team": None,
        "assignee": {"displayName": "Eve", "email": None},
        "type": {"attributes": [{"name": "Order"}]},
    }
    assert {error["path"][-1] for error in answer["errors"]} == {"tags", "isShared", "snoozedUntil", "team", "email"}
    assert await listed(workspace, token, text="hello") == [seen["id"]]
    assert await listed(workspace, token, text="secret") == []
    assert await listed(workspace, token, state=["RESOLVED"]) == []
    other = await workspace.data('{ contact(by: {externalId: "other"}) { id } }')
    assert await listed(workspace, token, contactId=other["contact"]["id"]) == []
    for name, value in (("teamId", eve),):
        refused = await workspace.ask(
            "query($f: TicketFilter) { tickets(filter: $f) { nodes { id } } }", {"f": {name: value}}, key=token
        )
        assert [error["extensions"]["code"] for error in refused["errors"]] == ["FORBIDDEN"]
    await asked(workspace, UPDATE, id=seen["id"], isShared=False)
    assert await listed(workspace, token) == []
    for document, more in (
        (SET_STATE, {"state": "RESOLVED"}),
        (ASSIGN, {"assigneeId": None}),
        (UPDATE, {"title": "A"}),
    ):
        refused = await workspace.ask(document, {"i": {"id": seen["id"], **more}}, key=token)
        assert [error["extensions"]["code"] for error in refused["errors"]] == ["FORBIDDEN"]
    assert problems(await asked(workspace, CREATE, contact={"externalId": "u"}, typeId=bug, title="A")) == [
        ("INVALID", ["attributes", "Cause"])
    ]


async def test_a_conversation_shows_its_ticket_where_it_is_shared(workspace: Any, bug: str, token: str) -> None:
    office = await type_id(workspace, "Task", "BACK_OFFICE")
    begin = 'mutation { createConversation(input: {contact: {}, body: "Hi"}) { conversation { id } } }'
    convert = "mutation($i: ConvertToTicketInput!) { convertToTicket(input: $i) { ticket { id } userErrors { code } } }"
    show = "query($id: ID!) { conversation(id: $id) { ticket { id conversation { id } } } }"
    for type_, attributes, seen in ((bug, {"Cause": "x"}, True), (office, {}, False)):
        talk = (await workspace.data(begin, key=token))["createConversation"]["conversation"]["id"]
        made = await asked(workspace, convert, conversationId=talk, typeId=type_, title="A", attributes=attributes)
        found = await workspace.data(show, {"id": talk}, key=token)
        shown = {"id": made["ticket"]["id"], "conversation": {"id": talk}} if seen else None
        assert found == {"conversation": {"ticket": shown}}
