"""Cursors reveal nothing and cannot be made up; any process of a deployment takes them, also after a restart."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import websockets
from tickets import ticket, type_id
from ulid import ULID

from gateway.bus.change_events import Position, cursor_to
from gateway.settings import MongoDriver

FOLLOW = "subscription($after: String) { eventTracked(after: $after) { cursor kind event { id } } }"
OTHER_SECRET, OLD_SECRET = "another secret that is long enough for it", "an old secret that is long enough for this too"
NO_SECRET: tuple[str, ...] = ()


def raw(cursor: str) -> bytes:
    return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)


@contextlib.asynccontextmanager
async def connected(workspace: Any, gateway: Any = None) -> AsyncIterator[Any]:
    url = (gateway or workspace.gateway).url.replace("http:", "ws:")
    headers = {"authorization": f"Bearer {workspace.key}"}
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"], additional_headers=headers) as connection:  # type: ignore[list-item]
        await connection.send('{"type": "connection_init"}')
        assert orjson.loads(await connection.recv()) == {"type": "connection_ack"}
        yield connection


async def followed(workspace: Any, after: str, count: int, gateway: Any = None) -> list[Any]:
    """What a subscription gives after a cursor: so many payloads, or the code of the error that ends it."""
    async with connected(workspace, gateway) as connection, asyncio.timeout(60):
        payload = {"query": FOLLOW, "variables": {"after": after}}
        await connection.send(orjson.dumps({"type": "subscribe", "id": "1", "payload": payload}).decode())
        payloads: list[Any] = []
        while len(payloads) < count:
            message = orjson.loads(await connection.recv())
            if message["type"] == "error":
                return [error["extensions"]["code"] for error in message["payload"]]
            payloads.append(message["payload"]["data"]["eventTracked"])
        return payloads


async def now(workspace: Any) -> str:
    return str((await workspace.data("{ streamCursor }"))["streamCursor"])


async def tracked(workspace: Any, count: int) -> list[str]:
    """The ids of so many events, which are stored in one transaction."""
    found = await workspace.track(*({"contact": {"externalId": "u"}, "name": "did"} for _ in range(count)))
    return [result["eventId"] for result in found["results"]]


# ---- what a cursor says -----------------------------------------------------------------------------------------------

EDGES = "{ edges { cursor node { id } } pageInfo { startCursor endCursor } }"
LISTS = f"""{{
  events(first: 5) {EDGES}
  contacts(first: 5, sort: {{key: LAST_SEEN_AT, direction: ASC}}) {EDGES}
  named: contacts(first: 5, sort: {{key: NAME, direction: ASC}}) {EDGES}
  conversations(sort: {{key: SLA_DUE_AT, direction: ASC}}) {EDGES}
  waiting: conversations(sort: {{key: WAITING_SINCE, direction: DESC}}) {EDGES}
  tickets(sort: {{key: NUMBER, direction: DESC}}) {EDGES}
  contact(by: {{externalId: "u"}}) {{ events(first: 5) {EDGES} eventSummaries {EDGES} tickets {EDGES} }}
}}"""


def connections(data: Any) -> list[Any]:
    if not isinstance(data, dict):
        return []
    return [data] if "edges" in data else [one for value in data.values() for one in connections(value)]


async def test_no_part_of_a_position_stands_in_the_cursor_of_a_list(workspace: Any) -> None:
    await tracked(workspace, 3)
    upsert = 'mutation { upsertContact(input: {externalId: "u", name: "Ada Lovelace"}) { userErrors { code } } }'
    await workspace.data(upsert)
    begin = 'mutation { createConversation(input: {contact: {externalId: "u"}, body: "Hi"}) { conversation { id } } }'
    talk = (await workspace.data(begin))["createConversation"]["conversation"]["id"]
    promise = "mutation($i: ApplySlaInput!) { applySla(input: $i) { conversation { sla { dueAt } } } }"
    await workspace.data(promise, {"i": {"id": talk, "name": "Gold", "firstReplyMinutes": 5}})
    await ticket(workspace, await type_id(workspace))
    found = connections(await workspace.data(LISTS))
    assert len(found) == 9
    cursors = set()
    for one in found:
        assert one["edges"]
        assert one["pageInfo"]["startCursor"] == one["edges"][0]["cursor"]
        for edge in one["edges"]:
            says, ulid = raw(edge["cursor"]), edge["node"]["id"][4:]
            binary = ULID.from_str(ulid).bytes
            hidden = [ulid.encode(), ulid[:10].encode(), ulid[10:].encode(), binary[:6], binary[6:], b"Ada", b"did"]
            assert not [text for text in hidden if text in says]
            cursors.add(edge["cursor"])
    assert len(cursors) == sum(len(one["edges"]) for one in found)  # an event's in two lists are two


async def test_no_part_of_a_position_stands_in_the_cursor_of_a_stream(workspace: Any) -> None:
    neighbour = await workspace.gateway.workspace()
    start = await now(workspace)
    (theirs,), (ours,) = await tracked(neighbour, 1), await tracked(workspace, 1)
    bus = workspace.gateway.runtime.services.bus
    (payload,) = await followed(workspace, start, 1)
    here = await bus.position()
    for cursor in (start, payload["cursor"], await now(workspace)):
        says = raw(cursor)
        assert len(cursor) < 100
        for id_ in (theirs, ours, here.id, workspace.id, neighbour.id):
            assert id_[4:].encode() not in says
            assert ULID.from_str(id_[4:]).bytes[6:] not in says
        assert here.at[0].to_bytes(4, "big")[:3] not in says
        assert b"evt_" not in says
        assert b"chg_" not in says


# ---- what is no cursor ------------------------------------------------------------------------------------------------

NEXT = "query($a: String) { events(first: 1, after: $a) { nodes { id } } }"


async def code_of(workspace: Any, after: str) -> list[str]:
    return [error["extensions"]["code"] for error in (await workspace.ask(NEXT, {"a": after})).get("errors", [])]


def changed(cursor: str) -> list[str]:
    """The cursor with one bit another one, cut off, and longer."""
    says = raw(cursor)
    flipped = [says[:place] + bytes([says[place] ^ 1]) + says[place + 1 :] for place in range(2, len(says))]
    others = [*flipped, *(says[:length] for length in range(2, len(says))), says + b"\0"]
    return [base64.urlsafe_b64encode(one).decode().rstrip("=") for one in others]


async def test_what_was_changed_or_cut_off_is_refused(workspace: Any) -> None:
    start = await now(workspace)
    await tracked(workspace, 2)
    page = await workspace.data("{ events(first: 1) { pageInfo { endCursor } } }")
    cursor = page["events"]["pageInfo"]["endCursor"]
    assert await code_of(workspace, cursor) == []
    for one in changed(cursor):
        assert await code_of(workspace, one) == ["BAD_REQUEST"]
    for one in changed(start)[::9]:
        assert await followed(workspace, one, 1) == ["BAD_REQUEST"]


async def test_cursors_of_lists_and_of_streams_are_not_exchanged(workspace: Any) -> None:
    start = await now(workspace)
    await tracked(workspace, 2)
    lists = await workspace.data(
        '{ events(first: 1) { pageInfo { endCursor } } contact(by: {externalId: "u"}) { events(first: 1) { pageInfo { endCursor } } } }'
    )
    of_events, of_contact = lists["events"]["pageInfo"], lists["contact"]["events"]["pageInfo"]
    assert await code_of(workspace, of_events["endCursor"]) == []
    for other in (start, of_contact["endCursor"]):
        assert await code_of(workspace, other) == ["BAD_REQUEST"]
    for other in (of_events["endCursor"], of_contact["endCursor"]):
        assert await followed(workspace, other, 1) == ["BAD_REQUEST"]


async def test_cursors_from_before_they_were_encrypted(workspace: Any) -> None:
    """Those of streams, which clients keep, say what every client knows how to answer; those of lists are refused."""
    (event,) = await tracked(workspace, 1)
    old = json.dumps([event, "8269" * 40, 1_700_000_000, 1]).encode()
    assert await followed(workspace, base64.urlsafe_b64encode(old).decode().rstrip("="), 1) == ["CURSOR_EXPIRED"]
    sealed = b"12345678" + event.encode()
    assert await code_of(workspace, base64.urlsafe_b64encode(sealed).decode().rstrip("=")) == ["BAD_REQUEST"]


async def test_a_position_that_this_history_does_not_have_has_expired(open_gateway: Any) -> None:
    """As after a restored backup: the time is there, and the document is not."""
    async with open_gateway(rolls_up=False, stream_ring=100) as gateway:
        workspace = await gateway.workspace()
        bus, cipher = gateway.runtime.services.bus, await gateway.runtime.services.cursors.cipher()
        await tracked(workspace, 1)
        here = await bus.position()
        await tracked(workspace, 1)
        for at in (here.at, (here.at[0] - 1000, 1)):
            forged = cursor_to(Position("evt_00000000000000000000000000", None, at), cipher)
            assert await followed(workspace, forged, 2) == ["CURSOR_EXPIRED"]


# ---- other processes, restarts, other keys ----------------------------------------------------------------------------


@pytest.mark.parametrize("driver", MongoDriver)
@pytest.mark.parametrize("server", ["secantusd-py", "secantusd-rs"])
async def test_a_stream_goes_on_within_a_transaction_at_another_process(
    open_gateway: Any, mongo: str, rust_mongo: str, server: str, driver: MongoDriver
) -> None:
    uri = mongo if server == "secantusd-py" else rust_mongo
    if not uri:
        pytest.skip("left out: the Rust server is not beside this checkout")
    async with open_gateway(uri=uri, mongo_driver=driver, rolls_up=False) as first:
        workspace = await first.workspace()
        start = await now(workspace)
        ids = await tracked(workspace, 5) + await tracked(workspace, 1)
        payloads = await followed(workspace, start, 6)
        assert [one["event"]["id"] for one in payloads] == ids
        assert len({one["cursor"] for one in payloads}) == 6
        name = first.runtime.database._database.name
        # Its own ring begins behind all this: it reads from the time of each cursor on.
        async with open_gateway(uri=uri, database=name, mongo_driver=driver, rolls_up=False) as second:
            for place, cursor in enumerate([start, *(one["cursor"] for one in payloads[:-1])]):
                again = await followed(workspace, cursor, 6 - place, second)
                assert [one["event"]["id"] for one in again] == ids[place:]
                assert [one["cursor"] for one in again] == [one["cursor"] for one in payloads[place:]]


@pytest.mark.parametrize(
    ("before", "after", "works"),
    [
        ((OLD_SECRET,), (OLD_SECRET,), True),
        (NO_SECRET, NO_SECRET, True),
        ((OLD_SECRET,), (OTHER_SECRET, OLD_SECRET), True),
        ((OLD_SECRET,), (OTHER_SECRET,), False),
        (NO_SECRET, (OTHER_SECRET,), False),
    ],
    ids=["secret", "none", "rotated", "exchanged", "set"],
)
async def test_cursors_outlive_the_process_that_gave_them_as_long_as_their_key(
    open_gateway: Any, before: tuple[str, ...], after: tuple[str, ...], works: bool
) -> None:
    async with open_gateway(rolls_up=False, secret_key=before) as first:
        name, workspace = first.runtime.database._database.name, await first.workspace()
        start, ids = await now(workspace), await tracked(workspace, 2)
        (newest,) = connections(await workspace.data("{ events(first: 1) { edges { cursor node { id } } } }"))
        (payload,) = await followed(workspace, start, 1)
        shown = newest["edges"][0]
    async with open_gateway(rolls_up=False, secret_key=after, database=name) as second:
        workspace.gateway = second
        page = await workspace.ask(NEXT, {"a": shown["cursor"]})
        if works:
            assert page["data"]["events"]["nodes"] == [{"id": id_} for id_ in ids if id_ != shown["node"]["id"]]
            assert [one["event"]["id"] for one in await followed(workspace, start, 2)] == ids
            assert [one["event"]["id"] for one in await followed(workspace, payload["cursor"], 1)] == ids[1:]
        else:
            assert [error["extensions"]["code"] for error in page["errors"]] == ["BAD_REQUEST"]
            assert await followed(workspace, start, 1) == ["CURSOR_EXPIRED"]


async def test_gateways_that_start_together_without_a_secret_agree(open_gateway: Any) -> None:
    async with open_gateway(rolls_up=False, secret_key=NO_SECRET) as first:
        name = first.runtime.database._database.name
        await first.runtime.database.delete("deployment", {})  # as if none of them had needed it before
        async with contextlib.AsyncExitStack() as stack:
            settings: dict[str, Any] = {"rolls_up": False, "secret_key": NO_SECRET, "database": name}
            others = [await stack.enter_async_context(open_gateway(**settings)) for _ in range(2)]
            await first.runtime.database.delete("deployment", {})
            gateways = [first, *others]
            ciphers = await asyncio.gather(*(one.runtime.services.cursors.cipher() for one in gateways))
        assert len({cipher.encrypt(b"position", [b"list"]) for cipher in ciphers}) == 1
        assert len(await first.runtime.database.find("deployment", {})) == 1
