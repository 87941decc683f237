"""Tickets live: every change in order, from any cursor on, and to a contact what it sees."""

import asyncio
from typing import Any

import orjson
import websockets
from tickets import ASSIGN, REPLY, SET_STATE, UPDATE, admin, asked, ticket, type_id

CHANGED = """subscription($f: TicketStreamFilter, $after: String) { ticketChanged(filter: $f, after: $after) {
  cursor kind matches ticketId ticket { id state } part { kind body } } }"""
ALL = ["CREATED", "NOTED", "ASSIGNED", "WAITING", "REPLIED", "IN_PROGRESS", "UPDATED", "RESOLVED", "SUBMITTED"]


async def told(workspace: Any, count: int, key: str | None = None, **variables: Any) -> list[Any]:
    """The first notifications of a subscription."""
    url = workspace.gateway.url.replace("http:", "ws:")
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"], compression=None) as connection:  # type: ignore[list-item]
        init = {"type": "connection_init", "payload": {"authorization": f"Bearer {key or workspace.key}"}}
        await connection.send(orjson.dumps(init).decode())
        assert orjson.loads(await connection.recv())["type"] == "connection_ack"
        message = {"type": "subscribe", "id": "1", "payload": {"query": CHANGED, "variables": variables}}
        await connection.send(orjson.dumps(message).decode())
        found = []
        for _ in range(count):
            message = orjson.loads(await asyncio.wait_for(connection.recv(), 30))
            assert message["type"] == "next", message
            found.append(message["payload"]["data"]["ticketChanged"])
        return found


async def history(workspace: Any) -> tuple[str, str, str]:
    """A ticket to which everything happened; its id, its contact's, its admin's."""
    made = await ticket(workspace, await type_id(workspace))
    user = (await workspace.data('{ contact(by: {externalId: "u"}) { id } }'))["contact"]["id"]
    eve = await admin(workspace)
    for document, sent in (
        (REPLY, {"ticketId": made["id"], "body": "secret", "note": True}),
        (ASSIGN, {"id": made["id"], "assigneeId": eve}),
        (SET_STATE, {"id": made["id"], "state": "WAITING_ON_CUSTOMER", "body": "Which?"}),
        (REPLY, {"ticketId": made["id"], "body": "This", "actor": {"contactId": user}}),
        (UPDATE, {"id": made["id"], "title": "Better"}),
        (SET_STATE, {"id": made["id"], "state": "RESOLVED"}),
        (SET_STATE, {"id": made["id"], "state": "SUBMITTED"}),
    ):
        assert (await asked(workspace, document, **sent))["userErrors"] == []
    return made["id"], user, eve


async def test_every_change_arrives_in_order_and_again_from_a_cursor(workspace: Any) -> None:
    start = (await workspace.data("{ streamCursor }"))["streamCursor"]
    id_, user, eve = await history(workspace)
    await ticket(workspace, await type_id(workspace, "Task", "BACK_OFFICE"), contact={"externalId": "other"})
    found = await told(workspace, len(ALL) + 1, after=start)
    assert [one["kind"] for one in found] == [*ALL, "CREATED"]
    assert [one["part"] and (one["part"]["kind"], one["part"]["body"]) for one in found[:-1]] == [
        None,
        ("NOTE", "secret"),
        ("ASSIGNMENT", None),
        ("STATE", "Which?"),
        ("COMMENT", "This"),
        ("COMMENT", "This"),
        ("UPDATE", "title"),
        ("STATE", None),
        ("STATE", None),
    ]
    again = await told(workspace, 5, after=found[3]["cursor"], f={"ticketId": id_})
    assert [one["kind"] for one in again] == ALL[4:]
    for filter_, expected in (
        ({"contactId": user}, [(kind, True) for kind in ALL]),
        ({"assigneeId": eve}, [(kind, True) for kind in ALL[2:]]),
        ({"kind": ["RESOLVED", "WAITING"]}, [("WAITING", True), ("RESOLVED", True)]),
        ({"state": ["RESOLVED"]}, [("RESOLVED", True), ("SUBMITTED", False)]),
    ):
        rows = await told(workspace, len(expected), after=start, f=filter_)
        assert [(one["kind"], one["matches"]) for one in rows] == expected
        assert {one["ticketId"] for one in rows} == {id_}


async def test_a_contacts_token_hears_what_it_sees(workspace: Any) -> None:
    start = (await workspace.data("{ streamCursor }"))["streamCursor"]
    id_, *_ = await history(workspace)
    hidden = await ticket(workspace, await type_id(workspace, "Other"), isShared=False)
    await asked(workspace, REPLY, ticketId=hidden["id"], body="secret")
    await asked(workspace, UPDATE, id=hidden["id"], isShared=True)
    await asked(workspace, UPDATE, id=hidden["id"], addTags=["a"])
    await asked(workspace, UPDATE, id=hidden["id"], isShared=False)
    token = await workspace.token(externalId="u")
    public = [kind for kind in ALL if kind not in ("NOTED", "ASSIGNED")]
    found = await told(workspace, len(public) + 2, token, after=start)
    assert [(one["kind"], one["ticketId"]) for one in found] == [
        *((kind, id_) for kind in public),
        ("UPDATED", hidden["id"]),
        ("UPDATED", hidden["id"]),
    ]
    assert [one["ticket"] for one in found[-2:]] == [None, None]
    assert {one["part"] and one["part"]["body"] for one in found} == {None, "Which?", "This"}


async def test_who_is_erased_takes_the_tickets_along(workspace: Any) -> None:
    id_, user, _ = await history(workspace)
    start = (await workspace.data("{ streamCursor }"))["streamCursor"]
    await workspace.data("mutation($id: ID!) { deleteContact(input: {id: $id}) { deletedId } }", {"id": user})
    (one,) = await told(workspace, 1, after=start)
    assert (one["kind"], one["ticketId"], one["ticket"], one["matches"]) == ("DELETED", id_, None, False)
    assert await workspace.store.ticket_parts._find({}) == []
    new = await ticket(workspace, await type_id(workspace, "New"), contact={"externalId": "other"})
    assert new["number"] == 2
