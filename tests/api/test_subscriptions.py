"""Live: what is tracked arrives, in order, once, and again from any cursor on."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import websockets
from pymongo.monitoring import CommandListener

from gateway.core.principals import Scope

TRACKED = "subscription($after: String, $filter: EventStreamFilter) { eventTracked(after: $after, filter: $filter) { cursor kind event { id name contact { externalId } } summary { count } } }"


class Socket:
    """A client of graphql-transport-ws that shows every message."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def send(self, **message: Any) -> None:
        await self.connection.send(orjson.dumps(message).decode())

    async def next(self, seconds: float = 10) -> Any:
        return orjson.loads(await asyncio.wait_for(self.connection.recv(), seconds))

    async def closed(self) -> tuple[int, str]:
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await asyncio.wait_for(self.connection.recv(), 20)
        return self.connection.close_code, self.connection.close_reason

    async def init(self, key: str | None) -> None:
        await self.send(type="connection_init", payload={"Authorization": f"Bearer {key}"} if key else {})
        assert await self.next() == {"type": "connection_ack"}

    async def subscribe(self, id_: str, query: str, **variables: Any) -> None:
        await self.send(type="subscribe", id=id_, payload={"query": query, "variables": variables})


@contextlib.asynccontextmanager
async def opened(
    url: str, subprotocols: tuple[str, ...] = ("graphql-transport-ws",), **options: Any
) -> AsyncIterator[Socket]:
    async with websockets.connect(
        url.replace("http:", "ws:"), subprotocols=subprotocols, compression=None, **options
    ) as connection:  # type: ignore[arg-type]
        yield Socket(connection)


async def listened_to(gateway: Any, subscribers: int) -> None:
    """Pass once so many subscriptions are under way."""
    registry = gateway.runtime.services.metrics.registry
    async with asyncio.timeout(30):
        while registry.get_sample_value("gateway_subscribers") != subscribers:
            await asyncio.sleep(0.02)


def event(number: int, name: str = "did it") -> dict[str, Any]:
    return {"contact": {"externalId": f"u{number % 3}"}, "name": name}


async def test_what_is_tracked_arrives_in_order_and_again_from_a_cursor(workspace: Any) -> None:
    stranger = await workspace.gateway.workspace()
    async with opened(workspace.gateway.url) as socket:
        await socket.init(workspace.key)
        cursor = (await workspace.data("{ streamCursor }"))["streamCursor"]
        await socket.subscribe("1", TRACKED, filter={"name": ["did it"]}, after=cursor)
        await stranger.track(event(0))
        ids = []
        for number in range(5):
            ids += [
                item["eventId"]
                for item in (await workspace.track(event(number), event(number, "something else")))["results"][:1]
            ]
        seen = [await socket.next() for _ in ids]
        assert [message["payload"]["data"]["eventTracked"]["event"]["id"] for message in seen] == ids
        assert [message["payload"]["data"]["eventTracked"]["kind"] for message in seen] == ["TRACKED"] * 5
        assert seen[0]["payload"]["data"]["eventTracked"]["event"]["contact"] == {"externalId": "u0"}
        middle = seen[1]["payload"]["data"]["eventTracked"]["cursor"]
        await socket.subscribe("2", TRACKED, after=middle)
        again = [await socket.next() for _ in range(7)]
        assert {message["id"] for message in again} == {"2"}
        assert [
            message["payload"]["data"]["eventTracked"]["event"]["id"]
            for message in again
            if message["payload"]["data"]["eventTracked"]["event"]["name"] == "did it"
        ] == ids[2:]
        await socket.send(type="complete", id="1")
        await socket.send(type="complete", id="2")
        await socket.send(type="ping")
        assert await socket.next() == {"type": "pong"}


async def test_metadata_of_what_is_tracked_can_be_asked_for(workspace: Any) -> None:
    wanted = [{"key": "price", "money": {"amountMinor": {"gt": 100}}}, {"key": "at", "time": {"lessThanDaysAgo": 1}}]
    async with opened(workspace.gateway.url) as socket:
        await socket.init(workspace.key)
        cursor = (await workspace.data("{ streamCursor }"))["streamCursor"]
        await socket.subscribe("1", TRACKED, filter={"metadata": wanted}, after=cursor)
        ids = []
        for amount, at in ((100, "2999-01-01"), (101, "1999-01-01"), (102, "2999-01-01"), (103, "2999-01-01")):
            metadata = {"price": {"amount": amount, "currency": "EUR"}, "at": f"{at}T00:00:00Z"}
            ids += [(await workspace.track({**event(0), "metadata": metadata}))["results"][0]["eventId"]]
        seen = [await socket.next() for _ in ids[2:]]
        assert [message["payload"]["data"]["eventTracked"]["event"]["id"] for message in seen] == ids[2:]
        await socket.subscribe("2", TRACKED, filter={"metadata": [{"key": "k"}] * 51})
        message = await socket.next()
        assert "more than 50 conditions" in str(message["payload"])


async def test_contacts_that_change_are_told_and_a_visit_is_no_change(workspace: Any) -> None:
    query = "subscription { contactChanged { kind matches contactId contact { name } } }"
    async with opened(workspace.gateway.url) as socket:
        await socket.init(workspace.key)
        await socket.subscribe("1", query)
        await socket.send(type="ping")
        assert await socket.next() == {"type": "pong"}
        await asyncio.sleep(0.2)
        await workspace.track(event(1))
        await workspace.track(event(1))
        await workspace.data('mutation { upsertContact(input: {externalId: "u1", name: "Ada"}) { created } }')
        first, second = [(await socket.next())["payload"]["data"]["contactChanged"] for _ in range(2)]
        assert (first["kind"], second["kind"]) == ("CREATED", "UPDATED")
        assert second["contact"] == {"name": "Ada"}
        assert first["contactId"] == second["contactId"]
        assert second["matches"] is True


async def test_a_new_process_serves_a_cursor_from_before_it_began(open_gateway: Any, mongo: str) -> None:
    async with open_gateway(database="test_resume", stream_ring=100) as first:
        workspace = await first.workspace()
        cursor = (await workspace.data("{ streamCursor }"))["streamCursor"]
        ids = [
            item["eventId"] for item in (await workspace.track(*(event(number) for number in range(300))))["results"]
        ]
        async with open_gateway(database="test_resume", stream_ring=100) as second:
            async with opened(second.url) as socket, opened(first.url) as other:
                for one in (socket, other):
                    await one.init(workspace.key)
                    for name in ("1", "2", "3"):
                        await one.subscribe(name, TRACKED, after=cursor)
                seen: dict[str, list[str]] = {"1": [], "2": [], "3": []}
                for one in (socket, other):
                    for _ in range(900):
                        message = await one.next()
                        seen[message["id"]].append(message["payload"]["data"]["eventTracked"]["event"]["id"])
                assert [sorted(found) for found in seen.values()] == [sorted(ids * 2)] * 3
                assert [found[:300] for found in seen.values()] == [ids] * 3
                (late,) = (await workspace.track(event(1)))["results"]
                assert {(await socket.next())["payload"]["data"]["eventTracked"]["event"]["id"] for _ in range(3)} == {
                    late["eventId"]
                }


async def test_checkpoints_come_where_nothing_matches(open_gateway: Any) -> None:
    async with open_gateway(checkpoint_seconds=0.2) as gateway:
        workspace = await gateway.workspace()
        async with opened(gateway.url) as socket:
            await socket.init(workspace.key)
            await socket.subscribe("1", TRACKED, filter={"name": ["never"]})
            for _ in range(2):
                told = (await socket.next())["payload"]["data"]["eventTracked"]
                assert (told["kind"], told["event"], told["summary"]) == ("CHECKPOINT", None, None)
            await workspace.track(event(1, "never"))
            await socket.subscribe("2", TRACKED, after=told["cursor"])
            kinds = {
                (message["id"], message["payload"]["data"]["eventTracked"]["kind"])
                for message in [await socket.next() for _ in range(8)]
            }
            assert ("2", "TRACKED") in kinds


async def test_a_subscriber_that_does_not_keep_up_is_closed_and_others_are_not(open_gateway: Any) -> None:
    async with open_gateway(stream_queue=10) as gateway:
        workspace = await gateway.workspace()
        async with opened(gateway.url, max_queue=1) as slow, opened(gateway.url) as quick:
            for socket in (slow, quick):
                await socket.init(workspace.key)
                await socket.subscribe("1", "subscription { eventTracked { cursor event { id metadataJson } } }")
            await listened_to(gateway, 2)
            big = {"text": "x" * 30_000}
            seen = 0
            for _ in range(100):
                await workspace.track(*({**event(1), "metadata": big} for _ in range(5)))
                for _ in range(5):
                    seen += (await quick.next())["type"] == "next"
            assert seen == 500
            code, reason = await slow.closed()
            assert code == 1013
            assert reason.startswith("This subscriber reads too slowly")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("no json", 4400),
        ("[]", 4400),
        ('{"type": "unknown"}', 4400),
        ('{"type": "subscribe", "id": "", "payload": {"query": "{ __typename }"}}', 4400),
        ('{"type": "subscribe", "id": "1", "payload": {"query": 1}}', 4400),
        ('{"type": "subscribe", "id": "1"}', 4400),
        ('{"type": "connection_init", "payload": 1}', 4400),
        ("[" * 60_000, 4400),
        ("[" * 100_000, 1009),
        ('{"type": "subscribe", "id": "\\ud800", "payload": {"query": "{ __typename }"}}', 4400),
        (f'{{"type": "subscribe", "id": "{"x" * 1001}", "payload": {{"query": "{{ __typename }}"}}}}', 4400),
        ('{"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }"}}', 4401),
        ('{"type": "connection_init"}', 4403),
        ('{"type": "connection_init", "payload": {"authorization": "Bearer nonsense"}}', 4403),
        ('{"type": "connection_init", "payload": {"authorization": 5}}', 4403),
        ('{"type": "connection_init", "payload": {"authorization": "Bearer \\ud800"}}', 4403),
    ],
)
async def test_a_first_message_that_is_wrong_closes_the_socket(workspace: Any, message: str, code: int) -> None:
    async with opened(workspace.gateway.url) as socket:
        await socket.connection.send(message)
        assert (await socket.closed())[0] == code


async def test_a_wrong_operation_is_told_and_the_others_live_on(workspace: Any) -> None:
    async with opened(workspace.gateway.url) as socket:
        await socket.init(workspace.key)
        await socket.subscribe("good", TRACKED)
        for id_, query, variables in (
            ("syntax", "subscription {", {}),
            ("unknown", "subscription { nothing }", {}),
            ("cursor", TRACKED, {"after": "nonsense"}),
            ("names", TRACKED, {"filter": {"name": ["x"] * 51}}),
        ):
            await socket.subscribe(id_, query, **variables)
            answer = await socket.next()
            assert (answer["id"], answer["type"], answer["payload"][0]["extensions"]["code"]) == (
                id_,
                "error",
                "BAD_REQUEST",
            ), answer
        await socket.subscribe("query", "{ viewer { workspace { id } } }")
        assert (await socket.next())["payload"] == {"data": {"viewer": {"workspace": {"id": workspace.id}}}}
        assert await socket.next() == {"id": "query", "type": "complete"}
        await workspace.track(event(1))
        assert (await socket.next())["id"] == "good"
        long = "é" * 1000
        await socket.subscribe(long, TRACKED)
        await socket.subscribe(long, TRACKED)
        code, reason = await socket.closed()
        assert code == 4409
        assert f"Subscriber for {long} already exists".startswith(reason)


async def test_rights_and_limits_hold_on_sockets(open_gateway: Any) -> None:
    async with open_gateway(max_operations_per_socket=2, max_sockets_per_key=1, socket_init_seconds=0.3) as gateway:
        workspace = await gateway.workspace()
        key = await workspace.key_with(Scope.TRACK)
        async with opened(gateway.url, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
            await socket.init(None)
            await socket.subscribe("1", TRACKED)
            answer = await socket.next()
            assert (answer["type"], answer["payload"][0]["extensions"]["code"]) == ("error", "FORBIDDEN")
            async with opened(gateway.url) as second:
                await second.send(type="connection_init", payload={"authorization": f"Bearer {key}"})
                assert (await second.closed())[0] == 4403
        async with opened(gateway.url) as socket:
            await socket.init(workspace.key)
            for name in "123":
                await socket.subscribe(name, TRACKED)
            answer = await socket.next()
            assert (answer["id"], answer["type"]) == ("3", "error")
            await socket.send(type="connection_init")
            assert (await socket.closed())[0] == 4429
        async with opened(gateway.url) as socket:
            assert (await socket.closed())[0] == 4408
        async with opened(gateway.url, ("graphql-ws",)) as socket:
            assert (await socket.closed())[0] == 4406
        with pytest.raises(websockets.InvalidStatus):
            async with opened(gateway.url, origin="https://evil.example"):
                pass


class Reads(CommandListener):
    """Counts the reads of each collection."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def started(self, event: Any) -> None:
        if event.command_name in ("find", "aggregate"):
            self.of[event.command[event.command_name]] += 1

    def succeeded(self, event: Any) -> None:
        """Not counted again."""

    def failed(self, event: Any) -> None:
        """Not counted again."""


async def test_each_payload_is_read_anew_and_once_for_all_who_ask_alike(open_gateway: Any) -> None:
    query = """subscription { eventTracked { event { contact { name eventSummary(name: "did it") { count } } } } }"""
    change = 'mutation($name: String!) { upsertContact(input: {externalId: "u0", name: $name}) { created } }'
    reads, number, contacts, summaries = Reads(), 0, [], []
    async with open_gateway(listener=reads) as gateway, opened(gateway.url) as socket:
        workspace = await gateway.workspace()
        await socket.init(workspace.key)
        for operations in (1, 2):
            cursor = (await workspace.data("{ streamCursor }"))["streamCursor"]
            await socket.subscribe(f"{operations}", query, after=cursor)
            for _ in range(2):
                number += 1
                await workspace.data(change, {"name": f"Name {number}"})
                reads.of.clear()
                await workspace.track(event(0))
                told = [await socket.next() for _ in range(operations)]
                assert sorted(message["id"] for message in told) == ["1", "2"][:operations]
                for message in told:
                    assert message["payload"]["data"]["eventTracked"]["event"] == {
                        "contact": {"name": f"Name {number}", "eventSummary": {"count": number}}
                    }
            contacts.append(reads.of["contacts"])
            summaries.append(reads.of["event_summaries"])
    assert contacts[1] == contacts[0]  # the second operation asks as the first one does, and takes its answer
    assert summaries[1] == summaries[0]
