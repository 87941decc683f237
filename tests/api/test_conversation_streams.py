"""Conversations live: every change in order, from any cursor on, and to a contact what concerns it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import websockets

CHANGED = """subscription($f: ConversationStreamFilter, $after: String) { conversationChanged(filter: $f, after: $after) {
  cursor kind matches conversationId conversation { id state } part { kind body } } }"""
BEGIN = """mutation($who: String!) { createConversation(input: {contact: {externalId: $who}, body: "Hello"}) {
  conversation { id contact { id } } } }"""


class Socket:
    """A client of graphql-transport-ws."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def next(self) -> Any:
        message = orjson.loads(await asyncio.wait_for(self.connection.recv(), 30))
        assert message["type"] == "next", message
        return message["payload"]["data"]["conversationChanged"]

    async def kinds(self, count: int) -> list[tuple[str, bool]]:
        return [(found["kind"], found["matches"]) for found in [await self.next() for _ in range(count)]]


@contextlib.asynccontextmanager
async def subscribed(workspace: Any, key: str | None = None, **variables: Any) -> AsyncIterator[Socket]:
    url = workspace.gateway.url.replace("http:", "ws:")
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"], compression=None) as connection:  # type: ignore[list-item]
        init = {"type": "connection_init", "payload": {"authorization": f"Bearer {key or workspace.key}"}}
        await connection.send(orjson.dumps(init).decode())
        assert orjson.loads(await connection.recv())["type"] == "connection_ack"
        message = {"type": "subscribe", "id": "1", "payload": {"query": CHANGED, "variables": variables}}
        await connection.send(orjson.dumps(message).decode())
        yield Socket(connection)


async def cursor(workspace: Any) -> str:
    return str((await workspace.data("{ streamCursor }"))["streamCursor"])


async def begin(workspace: Any, who: str = "ada") -> tuple[str, str]:
    made = (await workspace.data(BEGIN, {"who": who}))["createConversation"]["conversation"]
    return made["id"], made["contact"]["id"]


async def change(workspace: Any, id_: str, contact: str) -> None:
    """A note, tags, an SLA, a close, a reply that reopens, a rating."""
    await workspace.data(
        """mutation($id: ID!, $c: ID!) {
          a: replyToConversation(input: {conversationId: $id, body: "secret", note: true}) { part { id } }
          b: updateConversation(input: {id: $id, addTags: ["vip"]}) { part { id } }
          c: applySla(input: {id: $id, name: "Gold", firstReplyMinutes: 5}) { part { id } }
          d: closeConversation(input: {id: $id}) { part { id } }
          e: replyToConversation(input: {conversationId: $id, body: "Wait", actor: {contactId: $c}}) { part { id } }
          f: rateConversation(input: {id: $id, score: 3}) { part { id } } }""",
        {"id": id_, "c": contact},
    )


ALL = ["CREATED", "NOTED", "UPDATED", "SLA_CHANGED", "CLOSED", "SLA_CHANGED", "REPLIED", "REOPENED", "RATED"]
PUBLIC = ["CREATED", "CLOSED", "REPLIED", "REOPENED", "RATED"]


async def test_every_change_arrives_in_order_and_again_from_a_cursor(workspace: Any) -> None:
    start = await cursor(workspace)
    async with subscribed(workspace, after=start) as live:
        id_, contact = await begin(workspace)
        await change(workspace, id_, contact)
        told = [await live.next() for _ in ALL]
    assert [found["kind"] for found in told] == ALL
    assert {found["conversationId"] for found in told} == {id_}
    assert all(found["matches"] and found["conversation"]["id"] == id_ for found in told)
    assert [found["part"] and (found["part"]["kind"], found["part"]["body"]) for found in told] == [
        None,
        ("NOTE", "secret"),
        ("TAG", "+vip"),
        ("SLA", "Gold: ACTIVE"),
        ("CLOSE", None),
        ("SLA", "Gold: CANCELLED"),
        ("COMMENT", "Wait"),
        ("OPEN", None),
        ("RATING", None),
    ]
    async with subscribed(workspace, after=told[3]["cursor"]) as again:
        assert [kind for kind, _ in await again.kinds(5)] == ALL[4:]


async def test_filters_match_before_or_after_and_say_which(workspace: Any) -> None:
    start = await cursor(workspace)
    id_, contact = await begin(workspace)
    other, _ = await begin(workspace, "bob")
    await change(workspace, id_, contact)
    closed = {"state": ["CLOSED"]}
    async with subscribed(workspace, after=start, f=closed) as live:
        assert await live.kinds(4) == [("CLOSED", True), ("SLA_CHANGED", True), ("REPLIED", False), ("REOPENED", False)]
    async with subscribed(workspace, after=start, f={"kind": ["REPLIED", "RATED"]}) as live:
        assert await live.kinds(2) == [("REPLIED", True), ("RATED", True)]
    async with subscribed(workspace, after=start, f={"conversationId": other}) as live:
        assert (await live.next())["conversationId"] == other
    async with subscribed(workspace, after=start, f={"contactId": contact}) as live:
        assert [kind for kind, _ in await live.kinds(9)] == ALL


async def test_a_contacts_token_hears_what_is_public_of_its_own(workspace: Any) -> None:
    start = await cursor(workspace)
    token = await workspace.token(externalId="ada")
    await begin(workspace, "bob")
    id_, contact = await begin(workspace)
    await change(workspace, id_, contact)
    async with subscribed(workspace, token, after=start) as live:
        told = [await live.next() for _ in PUBLIC]
    assert [found["kind"] for found in told] == PUBLIC
    assert {found["conversationId"] for found in told} == {id_}
    assert [found["part"] and found["part"]["kind"] for found in told] == [None, "CLOSE", "COMMENT", "OPEN", "RATING"]


async def test_whoever_listens_hears_that_a_contact_was_erased(workspace: Any) -> None:
    id_, contact = await begin(workspace)
    start = await cursor(workspace)
    await workspace.data("mutation($c: ID!) { deleteContact(input: {id: $c}) { deletedId } }", {"c": contact})
    async with subscribed(workspace, after=start, f={"state": ["OPEN"]}) as live:
        found = await live.next()
    assert (found["kind"], found["conversationId"], found["conversation"], found["matches"]) == (
        "DELETED",
        id_,
        None,
        False,
    )
