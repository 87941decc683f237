"""The sync with Klaviyo as the API shows it: figures, deliveries with their attempts, what became of each contact's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
import websockets
from klaviyo_stand_in import KEY, Fault, Kind, Klaviyo, listening

from gateway.core.principals import Scope
from gateway.destinations.klaviyo.repository import KlaviyoStore

DELIVERIES = "deliveries(first: 10) { totalCount nodes { kind metric state } }"
SUBJECT = f"klaviyo {{ profileId state lastSyncedAt lastError {DELIVERIES} }}"


class Shop:
    """A workspace that is connected to a stand-in, and delivers when a test says so."""

    def __init__(self, workspace: Any, account: Klaviyo, clock: Any, url: str) -> None:
        self.workspace, self.account, self.clock, self.url = workspace, account, clock, url

    async def deliver(self) -> None:
        await self.workspace.gateway.runtime.deliveries.deliver_due(self.workspace.id)

    async def sync(self, fields: str, key: str | None = None, **variables: Any) -> Any:
        declared = "($f: DeliveryFilter)" if "$f" in fields else ""
        found = await self.workspace.data(f"query{declared} {{ klaviyo {{ {fields} }} }}", variables, key=key)
        return found["klaviyo"]

    async def act(self, mutation: str, result: str, sent: dict[str, Any], key: str | None = None) -> Any:
        kind = mutation[0].upper() + mutation[1:] + "Input"
        query = f"mutation($i: {kind}!) {{ {mutation}(input: $i) {{ {result} userErrors {{ code message path }} }} }}"
        return (await self.workspace.data(query, {"i": sent}, key=key))[mutation]


@pytest.fixture
async def shop(open_gateway: Any, clock: Any) -> AsyncIterator[Shop]:
    account = Klaviyo()
    async with listening(account) as url, open_gateway(rolls_up=False, clock=clock) as gateway:
        workspace = await gateway.workspace()
        await gateway.runtime.klaviyo.connections.connect(workspace.id, KEY, url, forward_all=True)
        yield Shop(workspace, account, clock, url)


async def track(shop: Shop, *names: str, email: str = "ada@shop.example") -> None:
    await shop.workspace.track(*({"name": name, "contact": {"email": email}} for name in names))


async def test_a_workspace_without_klaviyo_shows_the_nine_metrics_and_nothing_else(workspace: Any) -> None:
    found = await workspace.data(
        "{ klaviyo { mode state pausedReason oldestPendingAt lagSeconds counts { pending sending retrying delivered rejected dead } "
        "metrics { name source delivered failed lastDeliveredAt } deliveries { totalCount nodes { id } } } }"
    )
    zero = dict.fromkeys(("pending", "sending", "retrying", "delivered", "rejected", "dead"), 0)
    assert [metric["name"] for metric in found["klaviyo"].pop("metrics")] == [
        "Created Conversation",
        "Created Ticket",
        "Marked Ticket On Hold",
        "Rated Conversation",
        "Read Conversation",
        "Replied to Conversation",
        "Replied to Ticket",
        "Resolved Ticket",
        "Submitted Ticket",
    ]
    assert found["klaviyo"] == {
        "mode": "OFF",
        "state": "OFF",
        "pausedReason": None,
        "oldestPendingAt": None,
        "lagSeconds": 0.0,
        "counts": zero,
        "deliveries": {"totalCount": 0, "nodes": []},
    }


async def test_counts_lag_and_metrics_follow_what_is_delivered(shop: Shop) -> None:
    await track(shop, "placed order", "looked")
    shop.clock.ahead += timedelta(seconds=90)
    before = await shop.sync("mode state counts { pending delivered } lagSeconds oldestPendingAt")
    assert (before["mode"], before["state"], before["counts"]) == ("LIVE", "RUNNING", {"pending": 3, "delivered": 0})
    assert 90 <= before["lagSeconds"] < 120
    await shop.deliver()
    after = await shop.sync("counts { pending delivered } lagSeconds oldestPendingAt")
    assert after == {"counts": {"pending": 0, "delivered": 3}, "lagSeconds": 0.0, "oldestPendingAt": None}
    tracked = await shop.sync(
        'metrics(source: TRACKED, search: "ORDER") { name source delivered failed lastDeliveredAt }'
    )
    (metric,) = tracked["metrics"]
    assert metric.pop("lastDeliveredAt") is not None
    assert metric == {"name": "placed order", "source": "TRACKED", "delivered": 1, "failed": 0}
    assert len((await shop.sync("metrics(source: SUPPORT) { name }"))["metrics"]) == 9


async def test_a_delivery_shows_its_attempts_its_payload_and_what_it_tells_of(shop: Shop) -> None:
    await track(shop, "placed order")
    shop.account.misbehave = lambda operation: Fault(Kind.ERROR) if operation == "create_event" else None
    await shop.deliver()
    shop.account.misbehave = lambda _: None
    fields = (
        "deliveries(first: 1, filter: {kind: EVENT}) { nodes { id kind metric uniqueId state attemptCount nextAttemptAt reason payload deliveredAt "
        "attempts { status error durationMs retryAfterSeconds } subject { __typename id } contact { email } } }"
    )
    (row,) = (await shop.sync(fields))["deliveries"]["nodes"]
    (event,) = (await shop.workspace.data("{ events { nodes { id klaviyo { id state } } } }"))["events"]["nodes"]
    assert event["klaviyo"] == {"id": row["id"], "state": "RETRYING"}
    assert (row["kind"], row["metric"], row["uniqueId"]) == ("EVENT", "placed order", event["id"])
    assert (row["state"], row["attemptCount"], row["deliveredAt"]) == ("RETRYING", 1, None)
    assert row["nextAttemptAt"] is not None
    assert row["payload"]["data"]["attributes"]["unique_id"] == event["id"]
    assert [(one["status"], one["retryAfterSeconds"]) for one in row["attempts"]] == [(503, None)]
    assert row["attempts"][0]["error"] == row["reason"]
    assert (row["subject"], row["contact"]) == (
        {"__typename": "Event", "id": event["id"]},
        {"email": "ada@shop.example"},
    )
    shop.clock.ahead += timedelta(minutes=20)
    await shop.deliver()
    node = await shop.workspace.data(
        "query($id: ID!) { node(id: $id) { ... on KlaviyoDelivery { state attemptCount nextAttemptAt } } }",
        {"id": row["id"]},
    )
    assert node == {"node": {"state": "DELIVERED", "attemptCount": 2, "nextAttemptAt": None}}


async def test_deliveries_are_filtered_and_paged(shop: Shop) -> None:
    for email in ("ada@shop.example", "eve@shop.example"):
        await track(shop, "a", "b", "a", email=email)
    await track(shop, "x" * 150)
    found = await shop.workspace.data('{ contact(by: {email: "eve@shop.example"}) { id } }')
    eve = found["contact"]["id"]
    for filter_, total in (
        ({"metric": "a"}, 4),
        ({"contactId": eve}, 4),
        ({"contactId": eve, "metric": "a"}, 2),
        ({"kind": "PROFILE"}, 2),
        ({"state": ["REJECTED"]}, 1),
        ({"state": ["REJECTED", "PENDING"], "metric": "b"}, 2),
        ({"state": ["DEAD"]}, 0),
        ({"createdAt": {"moreThanDaysAgo": 1}}, 0),
    ):
        list_ = (await shop.sync("deliveries(first: 100, filter: $f) { totalCount nodes { id } }", f=filter_))[
            "deliveries"
        ]
        assert (list_["totalCount"], len(list_["nodes"])) == (total, total), filter_
    whole = (await shop.sync("deliveries(first: 100) { nodes { id } }"))["deliveries"]["nodes"]
    paged: list[Any] = []
    after = None
    while True:
        asked = f"deliveries(first: 4{'' if after is None else f', after: {chr(34)}{after}{chr(34)}'})"
        one = (await shop.sync(f"{asked} {{ nodes {{ id }} pageInfo {{ hasNextPage endCursor }} }}"))["deliveries"]
        paged += one["nodes"]
        after = one["pageInfo"]["endCursor"]
        if not one["pageInfo"]["hasNextPage"]:
            break
    assert paged == whole
    assert len(whole) == 9


async def test_contacts_conversations_and_tickets_show_what_klaviyo_heard_of_them(shop: Shop) -> None:
    ada = {"email": "ada@shop.example"}
    await shop.act("createConversation", "conversation { id }", {"contact": ada, "body": "Help"})
    type_ = await shop.act("saveTicketType", "ticketType { id }", {"name": "Bug", "category": "CUSTOMER"})
    await shop.act("createTicket", "ticket { id }", {"contact": ada, "typeId": type_["ticketType"]["id"], "title": "T"})
    await shop.deliver()
    query = f"{{ contacts {{ nodes {{ {SUBJECT} }} }} conversations {{ nodes {{ {SUBJECT} }} }} tickets {{ nodes {{ {SUBJECT} }} }} }}"
    shop.workspace.gateway.commands.names.clear()
    found = await shop.workspace.data(query)
    (contact,), (conversation,), (ticket,) = (
        [node["klaviyo"] for node in found[name]["nodes"]] for name in ("contacts", "conversations", "tickets")
    )
    (profile_id,) = shop.account.profiles
    for one in (contact, conversation, ticket):
        assert (one["profileId"], one["state"], one["lastError"]) == (profile_id, "DELIVERED", None)
        assert one["lastSyncedAt"] is not None
    created = [
        {"kind": "EVENT", "metric": metric, "state": "DELIVERED"}
        for metric in ("Created Ticket", "Created Conversation")
    ]
    profile = {"kind": "PROFILE", "metric": None, "state": "DELIVERED"}
    assert contact["deliveries"]["totalCount"] == 3
    assert sorted(contact["deliveries"]["nodes"], key=str) == sorted([*created, profile], key=str)
    assert conversation["deliveries"] == {"totalCount": 1, "nodes": created[1:]}
    assert ticket["deliveries"] == {"totalCount": 1, "nodes": created[:1]}


async def test_a_level_of_subjects_costs_as_many_reads_whatever_its_length(shop: Shop) -> None:
    query = f"{{ contacts(first: 50) {{ nodes {{ {SUBJECT.replace('totalCount ', '')} }} }} }}"
    reads = []
    for number in range(6):
        await track(shop, "a", email=f"p{number}@shop.example")
        if number in (1, 5):
            shop.workspace.gateway.commands.names.clear()
            await shop.workspace.data(query)
            reads.append(len(shop.workspace.gateway.commands.reads))
    assert reads[0] == reads[1]


async def test_what_failed_says_why_at_its_contact(shop: Shop) -> None:
    await shop.workspace.track({"name": "looked", "contact": {"email": "ada@example.com"}})
    found = await shop.workspace.data(f"{{ contacts {{ nodes {{ {SUBJECT} }} }} }}")
    (contact,) = (node["klaviyo"] for node in found["contacts"]["nodes"])
    assert (contact["profileId"], contact["state"], contact["lastSyncedAt"]) == (None, "REJECTED", None)
    assert contact["lastError"] == "Klaviyo silently drops what is sent for addresses at example.com."


async def test_klaviyo_is_for_keys_that_may_and_they_read_nothing_else(shop: Shop) -> None:
    await track(shop, "placed order")
    klaviyo, reader = await shop.workspace.key_with(Scope.KLAVIYO), await shop.workspace.key_with(Scope.READ)
    list_ = await shop.sync("deliveries { totalCount nodes { id payload } }", key=klaviyo)
    assert list_["deliveries"]["totalCount"] == 2
    delivery = list_["deliveries"]["nodes"][0]["id"]
    answer = await shop.workspace.ask("{ klaviyo { deliveries { nodes { contact { id } } } } }", key=klaviyo)
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"FORBIDDEN"}
    token = await shop.workspace.token(email="ada@shop.example")
    for key in (reader, token):
        answer = await shop.workspace.ask("{ klaviyo { mode } }", key=key)
        assert (answer["data"]["klaviyo"], answer["errors"][0]["extensions"]["code"]) == (None, "FORBIDDEN")
        found = await shop.workspace.data("query($id: ID!) { node(id: $id) { id } }", {"id": delivery}, key=key)
        assert found == {"node": None}
    answer = await shop.workspace.ask("{ contacts { nodes { email klaviyo { state } } } }", key=reader)
    assert answer["data"]["contacts"]["nodes"] == [{"email": "ada@shop.example", "klaviyo": None}]
    answer = await shop.workspace.ask("{ viewer { contact { email klaviyo { state } } } }", key=token)
    assert answer["data"]["viewer"]["contact"] == {"email": "ada@shop.example", "klaviyo": None}


class Socket:
    """A client of graphql-transport-ws."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def next(self) -> Any:
        return orjson.loads(await asyncio.wait_for(self.connection.recv(), 30))

    async def subscribe(self, id_: str, query: str, **variables: Any) -> None:
        message = {"type": "subscribe", "id": id_, "payload": {"query": query, "variables": variables}}
        await self.connection.send(orjson.dumps(message).decode())


@contextlib.asynccontextmanager
async def opened(workspace: Any, key: str) -> AsyncIterator[Socket]:
    url = workspace.gateway.url.replace("http:", "ws:")
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"]) as connection:  # type: ignore[list-item]
        start = {"type": "connection_init", "payload": {"authorization": f"Bearer {key}"}}
        await connection.send(orjson.dumps(start).decode())
        assert orjson.loads(await connection.recv()) == {"type": "connection_ack"}
        yield Socket(connection)


@pytest.fixture
async def apart(open_gateway: Any, clock: Any) -> AsyncIterator[Shop]:
    """A workspace that is not connected; the stand-in's address is the settings'."""
    account = Klaviyo()
    async with (
        listening(account) as url,
        open_gateway(rolls_up=False, clock=clock, klaviyo_base_url=url) as gateway,
    ):
        yield Shop(await gateway.workspace(), account, clock, url)


async def test_klaviyo_is_connected_paused_resumed_and_disconnected(apart: Shop) -> None:
    fields = "klaviyo { mode state pausedReason }"
    made = await apart.act("connectKlaviyo", fields, {"apiKey": KEY, "forwardEvents": ["placed order"]})
    assert made == {"klaviyo": {"mode": "LIVE", "state": "RUNNING", "pausedReason": None}, "userErrors": []}
    stored = await KlaviyoStore(apart.workspace.store).connections.find()
    assert KEY not in str(stored)
    assert apart.account.events == []
    await track(apart, "placed order", "looked")
    paused = await apart.act("pauseKlaviyo", fields, {"reason": "holiday"})
    assert paused["klaviyo"] == {"mode": "LIVE", "state": "PAUSED", "pausedReason": "holiday"}
    await apart.deliver()
    assert apart.account.events == []
    assert (await apart.act("resumeKlaviyo", fields, {}))["klaviyo"]["state"] == "RUNNING"
    await apart.deliver()
    assert [event.metric for event in apart.account.events] == ["placed order"]
    await track(apart, "placed order")
    gone = await apart.act("disconnectKlaviyo", fields, {"keepPending": False})
    assert gone == {"klaviyo": {"mode": "OFF", "state": "OFF", "pausedReason": None}, "userErrors": []}
    found = await apart.sync("counts { pending rejected delivered } deliveries(first: 1) { nodes { state reason } }")
    assert found["counts"] == {"pending": 0, "rejected": 1, "delivered": 2}
    assert found["deliveries"]["nodes"] == [
        {"state": "REJECTED", "reason": "Klaviyo was disconnected, and waiting deliveries were discarded."}
    ]


@pytest.mark.parametrize(
    ("mutation", "sent", "code", "path"),
    [
        ("connectKlaviyo", {"apiKey": "pk_of_somebody_else"}, "INVALID", ["apiKey"]),
        ("connectKlaviyo", {"apiKey": "short"}, "INVALID", ["apiKey"]),
        ("connectKlaviyo", {"apiKey": KEY, "baseUrl": "http://169.254.169.254/"}, "INVALID", ["baseUrl"]),
        ("connectKlaviyo", {"apiKey": KEY, "forwardEvents": ["a", "x" * 128]}, "INVALID", ["forwardEvents", "1"]),
        ("pauseKlaviyo", {"reason": " "}, "INVALID", ["reason"]),
        ("pauseKlaviyo", {"reason": "holiday"}, "ILLEGAL_TRANSITION", []),
        ("resumeKlaviyo", {}, "ILLEGAL_TRANSITION", []),
        ("syncContact", {"id": "con_00000000000000000000000000"}, "ILLEGAL_TRANSITION", []),
    ],
)
async def test_what_cannot_be_done_says_why_and_writes_nothing(
    apart: Shop, mutation: str, sent: dict[str, Any], code: str, path: list[str]
) -> None:
    payload = await apart.act(mutation, "klaviyo { state }", sent)
    (problem,) = payload["userErrors"]
    assert (payload["klaviyo"], problem["code"], problem["path"]) == (None, code, ["input", *path])
    assert await KlaviyoStore(apart.workspace.store).connections.find() is None


async def test_a_key_without_the_scope_is_refused_by_name(apart: Shop) -> None:
    apart.account.scopes_missing = frozenset({"create_event"})
    payload = await apart.act("connectKlaviyo", "klaviyo { state }", {"apiKey": KEY})
    assert payload["userErrors"][0]["message"].startswith("The API key does not have the scope events:write: ")


async def test_what_is_dead_is_replayed_in_its_order_and_a_profile_as_it_is_now(shop: Shop) -> None:
    await track(shop, "a", "b")
    shop.account.scopes_missing = frozenset()
    shop.account.misbehave = lambda _: Fault(Kind.ERROR, status=404)
    await kill_all(shop)
    assert (await shop.sync("counts { dead }"))["counts"] == {"dead": 3}
    shop.account.misbehave = lambda _: None
    await shop.workspace.data('mutation { upsertContact(input: {email: "ada@shop.example", name: "Ada"}) { created } }')
    ids = [row["id"] for row in (await shop.sync("deliveries { nodes { id state } }"))["deliveries"]["nodes"]]
    refused = await shop.act("replayDeliveries", "replayed", {"ids": ids})
    assert (refused["replayed"], refused["userErrors"][0]["code"]) == (0, "ILLEGAL_TRANSITION")
    both = await shop.act("replayDeliveries", "replayed", {"ids": ids, "allDead": True})
    assert both["userErrors"][0]["message"] == "Give exactly one of ids, filter and allDead."
    one = await shop.act("replayDeliveries", "replayed", {"filter": {"metric": "b"}})
    assert one == {"replayed": 1, "userErrors": []}
    assert (await shop.act("replayDeliveries", "replayed", {"allDead": True}))["replayed"] == 2
    assert (await shop.act("replayDeliveries", "replayed", {"allDead": True}))["replayed"] == 0
    await shop.deliver()
    assert [event.metric for event in shop.account.events] == ["b", "a"]
    assert [profile["first_name"] for profile in shop.account.profiles.values()] == ["Ada"]
    found = await shop.sync('counts { dead delivered } metrics(source: TRACKED, search: "a") { delivered failed }')
    assert found == {"counts": {"dead": 0, "delivered": 4}, "metrics": [{"delivered": 1, "failed": 1}]}


async def kill_all(shop: Shop) -> None:
    """Let whatever is sent be refused."""
    for _ in range(3):
        await shop.deliver()


async def test_one_contact_is_synced_anew(shop: Shop) -> None:
    await track(shop, "a")
    await shop.deliver()
    contact = (await shop.workspace.data("{ contacts { nodes { id } } }"))["contacts"]["nodes"][0]["id"]
    payload = await shop.act("syncContact", "klaviyo { state deliveries { totalCount } }", {"id": contact})
    assert payload == {"klaviyo": {"state": "PENDING", "deliveries": {"totalCount": 3}}, "userErrors": []}
    await shop.deliver()
    asked = [one.operation for one in shop.account.asked]
    assert asked == ["create_or_update_profile", "create_event", "create_or_update_profile"]
    nobody = await shop.act("syncContact", "klaviyo { state }", {"id": "con_00000000000000000000000000"})
    assert [(one["code"], one["path"]) for one in nobody["userErrors"]] == [("NOT_FOUND", ["input", "id"])]


async def test_deliveries_are_told_as_they_change_and_again_from_a_cursor(open_gateway: Any, clock: Any) -> None:
    account = Klaviyo()
    query = (
        "subscription($a: String, $f: DeliveryStreamFilter) { klaviyoDelivery(after: $a, filter: $f) "
        "{ cursor kind delivery { metric state } } }"
    )
    async with listening(account) as url, open_gateway(clock=clock) as gateway:
        workspace = await gateway.workspace()
        await gateway.runtime.klaviyo.connections.connect(workspace.id, KEY, url, forward_all=True)
        shop = Shop(workspace, account, clock, url)
        cursor = (await workspace.data("{ streamCursor }"))["streamCursor"]
        await track(shop, "a", "b")
        await shop.deliver()
        key = await workspace.key_with(Scope.KLAVIYO)
        async with opened(workspace, key) as socket:
            await socket.subscribe("1", query, a=cursor, f={"metric": "a"})
            told = [(await socket.next())["payload"]["data"]["klaviyoDelivery"] for _ in range(2)]
            assert [(one["kind"], one["delivery"]) for one in told] == [
                ("CHANGED", {"metric": "a", "state": "DELIVERED"})
            ] * 2
            await socket.subscribe("2", query, a=told[0]["cursor"], f={"metric": "a", "state": ["DELIVERED"]})
            again = (await socket.next())["payload"]["data"]["klaviyoDelivery"]
            assert again == told[1]
        reader = await workspace.key_with(Scope.READ)
        async with opened(workspace, reader) as socket:
            await socket.subscribe("1", query)
            assert (await socket.next())["payload"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_a_backfill_is_told_as_it_goes_to_its_exact_end(shop: Shop) -> None:
    for number in range(5):
        sent = {"contact": {"email": f"p{number}@shop.example"}, "body": "Help"}
        await shop.act("createConversation", "conversation { id }", sent)
    await shop.act("createConversation", "conversation { id }", {"contact": {"email": "p@example.com"}, "body": "Help"})
    made = await shop.act("startKlaviyoBackfill", "backfill { id }", {"metrics": ["Created Conversation"]})
    query = (
        "subscription($id: ID!, $a: String) { klaviyoBackfill(id: $id, after: $a) "
        "{ cursor kind backfill { state total done failed finishedAt } } }"
    )
    id_, klaviyo = made["backfill"]["id"], shop.workspace.gateway.runtime.klaviyo
    told: list[Any] = []
    async with opened(shop.workspace, await shop.workspace.key_with(Scope.KLAVIYO)) as socket:
        cursor = (await shop.workspace.data("{ streamCursor }"))["streamCursor"]
        await socket.subscribe("1", query, id=id_, a=cursor)

        async def hear() -> None:
            told.append((await socket.next())["payload"]["data"]["klaviyoBackfill"])

        assert await klaviyo.backfill_runner.step(shop.workspace.id, id_)
        await hear()
        assert told[0]["backfill"] == {"state": "RUNNING", "total": 12, "done": 0, "failed": 0, "finishedAt": None}
        while await klaviyo.backfill_runner.step(shop.workspace.id, id_):
            await hear()
        assert (told[-1]["backfill"]["done"], told[-1]["backfill"]["failed"]) == (5, 2)
        await shop.deliver()
        assert await klaviyo.backfill_runner.step(shop.workspace.id, id_)
        while told[-1]["backfill"]["state"] == "RUNNING":
            await hear()
        assert [one["kind"] for one in told] == ["CHANGED"] * len(told)
        counts = [(one["backfill"]["done"], one["backfill"]["failed"]) for one in told]
        assert counts == sorted(counts)
        assert told[-1]["backfill"].pop("finishedAt") is not None
        assert told[-1]["backfill"] == {"state": "DONE", "total": 12, "done": 10, "failed": 2}
        await socket.subscribe("2", query, id=id_, a=told[-2]["cursor"])
        again = (await socket.next())["payload"]["data"]["klaviyoBackfill"]
        assert (again["cursor"], again["backfill"]["state"]) == (told[-1]["cursor"], "DONE")


async def test_the_erasure_of_a_contact_in_klaviyo_is_shown(shop: Shop) -> None:
    await track(shop, "placed order")
    await shop.deliver()
    (contact,) = (await shop.workspace.data("{ contacts { nodes { id } } }"))["contacts"]["nodes"]
    await shop.act("deleteContact", "deletedId", {"id": contact["id"]})
    fields = (
        "counts { pending delivered } deliveries { nodes { kind state payload contact { id } attempts { status } } }"
    )
    found = await shop.sync(fields)
    (row,) = found["deliveries"]["nodes"]
    profile = {"data": {"type": "profile", "attributes": {"email": "ada@shop.example"}}}
    assert row.pop("payload")["data"]["attributes"] == {"profile": profile}
    assert row == {"kind": "DELETION", "state": "PENDING", "contact": None, "attempts": []}
    await shop.deliver()
    found = await shop.sync(fields)
    assert found["counts"] == {"pending": 0, "delivered": 1}
    assert found["deliveries"]["nodes"] == [
        {"kind": "DELETION", "state": "DELIVERED", "payload": None, "contact": None, "attempts": [{"status": 202}]}
    ]
    assert (shop.account.deletions, shop.account.profiles) == ([{"email": "ada@shop.example"}], {})
