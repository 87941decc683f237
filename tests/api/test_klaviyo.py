"""The sync with Klaviyo as the API shows it: figures, deliveries with their attempts, what became of each contact's."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from klaviyo_stand_in import KEY, Fault, Kind, Klaviyo, listening

from gateway.domain.access import Scope

DELIVERIES = "deliveries(first: 10) { totalCount nodes { kind metric state } }"
SUBJECT = f"klaviyo {{ profileId state lastSyncedAt lastError {DELIVERIES} }}"


class Shop:
    """A workspace that is connected to a stand-in, and delivers when a test says so."""

    def __init__(self, workspace: Any, account: Klaviyo, clock: Any, url: str) -> None:
        self.workspace, self.account, self.clock, self.url = workspace, account, clock, url

    async def deliver(self) -> None:
        await self.workspace.gateway.runtime.services.deliveries.deliver_due(self.workspace.id)

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
        await gateway.runtime.services.syncs.connect(workspace.id, KEY, url, forward_all=True)
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
