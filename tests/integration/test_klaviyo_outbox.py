"""What Klaviyo is to hear is written with the change, sent once, in order, and never lost."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from klaviyo_stand_in import KEY, Fault, Kind, Klaviyo, listening

from gateway.core.ids import Minter
from gateway.destinations.klaviyo.repository import KlaviyoDeliveries, KlaviyoStore
from gateway.outbox.deliveries import Queue
from gateway.outbox.dispatcher import OutboxDispatcher
from gateway.settings import KlaviyoMode

UPSERT = """mutation($i: UpsertContactInput!) { upsertContact(input: $i) { contact { id } userErrors { code message path } } }"""


@dataclass
class Shop:
    """A workspace that is connected to a stand-in, and what delivers for it."""

    workspace: Any
    account: Klaviyo
    clock: Any
    deliveries: OutboxDispatcher

    async def upsert(self, **sent: Any) -> str:
        payload = (await self.workspace.data(UPSERT, {"i": sent}))["upsertContact"]
        assert payload["userErrors"] == []
        return str(payload["contact"]["id"])

    async def track(self, name: str, email: str, **more: Any) -> None:
        await self.workspace.track({"name": name, "contact": {"email": email}, **more})

    async def deliver(self) -> None:
        await self.deliveries.deliver_due(self.workspace.id)

    async def rows(self, **filter_: Any) -> list[dict[str, Any]]:
        found = await self.workspace.store.database.find(
            KlaviyoDeliveries.COLLECTION, {"workspace_id": self.workspace.id, **filter_}, sort={"_id": 1}
        )
        return sorted(found, key=lambda row: row.get("seq", 0))

    async def told(self) -> list[tuple[str, str | None, str]]:
        """Each delivery: kind, metric and state."""
        return [(row["kind"], row["metric"], row["state"]) for row in await self.rows()]

    async def lines(self) -> list[tuple[str | None, str]]:
        """What the journal tells of deliveries: states before and after."""
        rows = await self.workspace.store.database.find(
            "changes", {"workspace_id": self.workspace.id, "subject": "delivery"}, sort={"_id": 1}
        )
        return [(row["before"] and row["before"]["state"], row["after"]["state"]) for row in rows]


@contextlib.asynccontextmanager
async def open_shop(open_gateway: Any, clock: Any, **more: Any) -> AsyncIterator[Shop]:
    account = Klaviyo()
    async with listening(account) as url, open_gateway(rolls_up=False, clock=clock, **more) as gateway:
        workspace = await gateway.workspace()
        runtime = gateway.runtime
        await runtime.klaviyo.connections.connect(workspace.id, KEY, url, forward_all=True)
        destinations = [runtime.klaviyo.destination]
        deliveries = OutboxDispatcher(runtime.services.store, destinations, clock, Minter(), random.Random(7))
        yield Shop(workspace, account, clock, deliveries)


@pytest.fixture
async def shop(open_gateway: Any, clock: Any) -> AsyncIterator[Shop]:
    async with open_shop(open_gateway, clock) as opened:
        yield opened


@pytest.fixture
async def quick_shop(open_gateway: Any, clock: Any, mongo: str, rust_mongo: str) -> AsyncIterator[Shop]:
    """One on the faster of the servers at hand."""
    async with open_shop(open_gateway, clock, uri=rust_mongo or mongo) as opened:
        yield opened


async def test_a_profile_goes_before_the_first_event_and_events_keep_their_order(shop: Shop) -> None:
    await shop.upsert(email="ada@shop.example", phone="+1 500 555 0006", name="Ada King Lovelace", tags=["vip"])
    for number in range(3):
        metadata = {"number": number, "price": {"amount": 999, "currency": "usd"}}
        await shop.track("placed order", "ada@shop.example", metadata=metadata)
    assert await shop.told() == [("PROFILE", None, "PENDING"), *[("EVENT", "placed order", "PENDING")] * 3]
    await shop.deliver()
    assert [one.operation for one in shop.account.asked] == ["create_or_update_profile", *["create_event"] * 3]
    assert [event.properties.get("number") for event in shop.account.of("ada@shop.example")] == [None, 1, 2]
    assert [(event.value, event.value_currency) for event in shop.account.events] == [(9.99, "USD")] * 3
    (profile,) = shop.account.profiles.values()
    told = {name: profile[name] for name in ("email", "phone_number", "first_name", "last_name")}
    assert told == {
        "email": "ada@shop.example",
        "phone_number": "+15005550006",
        "first_name": "Ada",
        "last_name": "King Lovelace",
    }
    assert {state for _, _, state in await shop.told()} == {"DELIVERED"}
    assert await shop.lines() == [(None, "PENDING")] * 4 + [("PENDING", "DELIVERED")] * 4
    lanes = await shop.workspace.store.database.find("delivery_lanes", {"workspace_id": shop.workspace.id})
    assert [(lane.get("due_at"), lane["head"], lane["seq"]) for lane in lanes] == [(None, 5, 4)]
    assert lanes[0]["profile_id"] == next(iter(shop.account.profiles))


async def test_only_the_current_profile_goes_out_and_only_when_something_of_it_changed(shop: Shop) -> None:
    await shop.upsert(email="ada@shop.example", firstName="Ada", customAttributes={"plan": "free", "seats": 2})
    await shop.upsert(email="ada@shop.example", firstName="Augusta", customAttributes={"plan": "pro", "seats": None})
    assert await shop.told() == [("PROFILE", None, "PENDING")]
    await shop.deliver()
    (profile,) = shop.account.profiles.values()
    assert (profile["first_name"], profile["properties"]["Intercom_custom_attributes"]) == ("Augusta", {"plan": "pro"})
    assert profile["properties"]["Intercom_custom_attributes_plan"] == "pro"
    (row,) = await shop.rows()
    assert row["payload"]["data"]["meta"] == {"patch_properties": {"unset": ["Intercom_custom_attributes_seats"]}}
    await shop.upsert(email="ada@shop.example", lastSeenAt=shop.clock().isoformat())
    assert len(await shop.rows()) == 1
    await shop.upsert(email="ada@shop.example", firstName=None)
    await shop.deliver()
    assert await shop.told() == [("PROFILE", None, "DELIVERED")] * 2
    assert next(iter(shop.account.profiles.values()))["first_name"] is None


async def test_what_klaviyo_would_drop_is_rejected_up_front_with_the_reason(shop: Shop) -> None:
    await shop.upsert(email="ada@example.com")
    await shop.upsert(externalId="7", phone="12")
    await shop.workspace.track({"name": "looked", "contact": {"anonymousId": "visitor"}})
    await shop.track("Created Ticket", "eve@shop.example")
    await shop.track("x" * 150, "eve@shop.example")
    rows = await shop.rows(state="REJECTED")
    assert [row["reason"] for row in rows] == [
        "Klaviyo silently drops what is sent for addresses at example.com.",
        "The contact has no e-mail and no phone that Klaviyo accepts.",
        "'Created Ticket' is the name of a support metric: Klaviyo would mix them up.",
        "A metric's name has at most 127 characters.",
    ]
    await shop.deliver()
    assert {one.operation for one in shop.account.asked} == {"create_or_update_profile"}
    assert [row["state"] for row in await shop.rows(metric="looked")] == ["REJECTED"]


async def test_a_phone_that_is_none_is_left_out_with_a_note(shop: Shop) -> None:
    await shop.upsert(email="ada@shop.example", phone="call me")
    (row,) = await shop.rows()
    assert row["reason"] == "The phone 'call me' is left out: it is not a valid number in E.164 with its country."
    assert "phone_number" not in row["payload"]["data"]["attributes"]
    await shop.deliver()
    assert await shop.told() == [("PROFILE", None, "DELIVERED")]


async def test_a_queue_goes_out_in_bulk_and_each_contacts_order_is_kept(shop: Shop) -> None:
    for number in range(4):
        for place in range(6):
            await shop.track(f"step {place}", f"person{number}@shop.example")
    await shop.deliver()
    assert len(shop.account.requests("bulk_create_events")) == 1
    assert len(shop.account.requests("create_event")) == 0
    for number in range(4):
        assert [event.metric for event in shop.account.of(f"person{number}@shop.example")] == [
            f"step {place}" for place in range(6)
        ]


async def test_what_may_pass_is_tried_again_and_never_before_it_may(shop: Shop) -> None:
    await shop.upsert(email="ada@shop.example")
    shop.account.faults = [Fault(Kind.RATE_LIMIT, seconds=600)]
    await shop.deliver()
    (row,) = await shop.rows()
    assert (row["state"], row["attempt_count"], row["attempts"][0]["retry_after_seconds"]) == ("RETRYING", 1, 600)
    assert row["next_attempt_at"] - row["attempts"][0]["at"] >= timedelta(seconds=600)
    shop.clock.ahead = timedelta(seconds=590)
    await shop.upsert(email="bob@shop.example")
    await shop.deliver()
    assert len(shop.account.asked) == 1
    shop.account._closed_until.clear()
    shop.clock.ahead = timedelta(seconds=602)
    await shop.deliver()
    assert [row["state"] for row in await shop.rows()] == ["DELIVERED", "DELIVERED"]
    assert sorted(await shop.lines(), key=str) == [
        ("PENDING", "DELIVERED"),
        ("PENDING", "RETRYING"),
        ("RETRYING", "DELIVERED"),
        (None, "PENDING"),
        (None, "PENDING"),
    ]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Kind.ERROR, 500),
        Fault(Kind.ERROR, 503),
        Fault(Kind.HTML, 502),
        Fault(Kind.HTML, 403),
        Fault(Kind.RESET_BEFORE),
        Fault(Kind.RESET_AFTER),
    ],
)
async def test_every_failure_of_the_way_is_tried_again_and_recorded_once(shop: Shop, fault: Fault) -> None:
    await shop.upsert(email="ada@shop.example")
    await shop.deliver()
    await shop.track("ordered", "ada@shop.example")
    shop.account.faults = [fault]
    await shop.deliver()
    (row,) = await shop.rows(kind="EVENT")
    assert (row["state"], row["attempt_count"]) == ("RETRYING", 1)
    assert row["reason"].startswith("Klaviyo ")
    shop.clock.ahead += timedelta(seconds=30)
    await shop.deliver()
    (row,) = await shop.rows(kind="EVENT")
    assert (row["state"], row["attempt_count"], row["attempts"][1]["status"]) == ("DELIVERED", 2, 202)
    assert [event.unique_id for event in shop.account.events] == [row["unique_id"]]


async def test_a_retry_holds_up_its_own_contact_alone(shop: Shop) -> None:
    for email in ("ada@shop.example", "bob@shop.example"):
        await shop.upsert(email=email)
        await shop.deliver()
        await shop.track("first", email)
        await shop.track("second", email)
    shop.account.faults = [Fault(Kind.ERROR)]
    await shop.deliver()
    states = {row["contact_id"]: [] for row in await shop.rows(kind="EVENT")}
    for row in await shop.rows(kind="EVENT"):
        states[row["contact_id"]].append(row["state"])
    assert sorted(states.values()) == [["DELIVERED", "DELIVERED"], ["RETRYING", "PENDING"]]
    shop.clock.ahead += timedelta(seconds=30)
    await shop.deliver()
    for email in ("ada@shop.example", "bob@shop.example"):
        assert [event.metric for event in shop.account.of(email)] == ["first", "second"]


async def test_what_is_refused_is_dead_and_its_followers_arrive(shop: Shop) -> None:
    shop.account.poison = lambda event: "poison" if event["properties"].get("bad") else None
    await shop.track("one", "ada@shop.example")
    await shop.track("two", "ada@shop.example", metadata={"bad": True})
    await shop.track("three", "ada@shop.example")
    await shop.deliver()
    assert [(row["metric"], row["state"], row.get("reason")) for row in await shop.rows(kind="EVENT")] == [
        ("one", "DELIVERED", None),
        ("two", "DEAD", "Klaviyo responded 400: poison"),
        ("three", "DELIVERED", None),
    ]
    metrics = {row["name"]: row for row in await KlaviyoStore(shop.workspace.store).metrics.all()}
    assert {name: (row["delivered"], row["failed"]) for name, row in metrics.items()} == {
        "one": (1, 0),
        "two": (0, 1),
        "three": (1, 0),
    }


async def test_72_hours_and_no_longer(shop: Shop) -> None:
    await shop.upsert(email="ada@shop.example")
    shop.account.misbehave = lambda _: Fault(Kind.ERROR)
    await shop.deliver()
    for hours, state in ((71, "RETRYING"), (73, "DEAD")):
        shop.clock.ahead = timedelta(hours=hours)
        await shop.deliver()
        (row,) = await shop.rows()
        assert row["state"] == state
    assert row["attempt_count"] >= 3  # more where a retry became due while it was delivered
    assert row["reason"].startswith("Given up after 72 hours. Klaviyo responded 503")


@pytest.mark.parametrize(
    ("break_it", "mend"),
    [
        (lambda account: setattr(account, "revoked", True), lambda account: setattr(account, "revoked", False)),
        (lambda account: setattr(account, "retired", True), lambda account: setattr(account, "retired", False)),
        (
            lambda account: setattr(account, "scopes_missing", frozenset({"create_or_update_profile"})),
            lambda account: setattr(account, "scopes_missing", frozenset()),
        ),
    ],
)
async def test_a_wrong_key_scope_or_revision_pauses_and_loses_nothing(
    shop: Shop, break_it: Callable[[Any], None], mend: Callable[[Any], None]
) -> None:
    break_it(shop.account)
    await shop.upsert(email="ada@shop.example")
    await shop.deliver()
    syncs = shop.workspace.gateway.runtime.klaviyo.connections
    sync = await syncs.read(shop.workspace.id)
    assert (sync.state(shop.clock()), sync.paused_reason[:16]) == ("PAUSED", "Klaviyo responde")
    await shop.track("ordered", "ada@shop.example")
    await shop.deliver()
    assert len(shop.account.asked) == 1
    mend(shop.account)
    shop.clock.ahead = timedelta(days=5)
    await syncs.resume(shop.workspace.id)
    await shop.deliver()
    assert {state for _, _, state in await shop.told()} == {"DELIVERED"}
    assert len(shop.account.events) == 1


async def test_one_who_is_away_for_long_is_backed_off_from_and_probed(shop: Shop) -> None:
    shop.account.misbehave = lambda _: Fault(Kind.ERROR)
    syncs = shop.workspace.gateway.runtime.klaviyo.connections
    for number in range(30):
        await shop.upsert(email=f"person{number}@shop.example")
    await shop.deliver()
    for _ in range(4):
        shop.clock.ahead += timedelta(minutes=20)
        await shop.deliver()
    asked = len(shop.account.asked)
    assert asked < 5 * 30
    assert (await syncs.read(shop.workspace.id)).failures >= 3
    shop.account.misbehave = lambda _: None
    shop.clock.ahead += timedelta(minutes=20)
    await shop.deliver()
    assert {state for _, _, state in await shop.told()} == {"DELIVERED"}
    assert (await syncs.read(shop.workspace.id)).failures == 0


async def test_in_the_mode_log_nothing_is_sent_and_all_is_shown(
    open_gateway: Any, clock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_gateway(rolls_up=False, clock=clock, klaviyo_mode=KlaviyoMode.LOG) as gateway:
        workspace = await gateway.workspace()
        shop = Shop(workspace, Klaviyo(), clock, gateway.runtime.deliveries)
        await shop.upsert(email="ada@shop.example")
        await shop.deliver()
        (row,) = await shop.rows()
        assert (row["state"], row["reason"]) == ("DELIVERED", "Written to the log, not sent: the mode is LOG.")
        assert "delivery to Klaviyo in log mode" in capsys.readouterr().out
        other = await gateway.workspace()  # the younger one is not the default
        await Shop(other, Klaviyo(), clock, gateway.runtime.deliveries).upsert(email="ada@shop.example")
        assert await other.store.database.count(KlaviyoDeliveries.COLLECTION, {"workspace_id": other.id}) == 0


async def test_the_key_is_kept_encrypted_and_opens_after_a_rotation(open_gateway: Any, clock: Any) -> None:
    first, second = "the first secret which is long enough", "the second secret which is long enough"
    account = Klaviyo()
    async with listening(account) as url:
        async with open_gateway(rolls_up=False, clock=clock, secret_key=first) as gateway:
            workspace = await gateway.workspace()
            await gateway.runtime.klaviyo.connections.connect(workspace.id, KEY, url)
            (stored,) = await workspace.store.database.find("klaviyo_syncs", {})
            assert KEY not in str(stored)
            database = gateway.runtime.database._database.name
        third = "a third secret which is long enough too"
        for secrets, mode in ((f"{second},{first}", "RUNNING"), (second, "RUNNING"), (third, "PAUSED")):
            async with open_gateway(database=database, rolls_up=False, clock=clock, secret_key=secrets) as gateway:
                syncs, deliveries = gateway.runtime.klaviyo.connections, gateway.runtime.deliveries
                await gateway.http.post(
                    gateway.url,
                    json={"query": UPSERT, "variables": {"i": {"email": "ada@shop.example", "name": secrets}}},
                    headers={"authorization": f"Bearer {workspace.key}"},
                )
                await deliveries.deliver_due(workspace.id)
                assert (await syncs.read(workspace.id)).state(clock()) == mode
    assert len(account.profile_writes) == 2


async def test_a_contact_that_is_erased_is_erased_in_klaviyo_too(shop: Shop) -> None:
    delete = "mutation($id: ID!) { deleteContact(input: {id: $id}) { userErrors { code } } }"
    known = await shop.upsert(email="ada@shop.example")
    await shop.track("ordered", "ada@shop.example")
    unknown = await shop.upsert(externalId="7")
    await shop.deliver()
    await shop.track("never sent", "ada@shop.example")
    for id_ in (known, unknown):
        await shop.workspace.data(delete, {"id": id_})
    assert await shop.told() == [("DELETION", None, "PENDING")]
    await shop.deliver()
    assert (shop.account.deletions, shop.account.profiles) == ([{"email": "ada@shop.example"}], {})
    (row,) = await shop.rows()
    assert (row["state"], row.get("payload"), row["contact_id"]) == ("DELIVERED", None, known)
    assert await shop.workspace.store.database.find("delivery_lanes", {"workspace_id": shop.workspace.id}) == []
    assert "ada@shop" not in str(await shop.workspace.store.database.find("deliveries", {}))


@pytest.mark.parametrize("points", [True, False])
async def test_a_poison_event_among_999_costs_few_requests(quick_shop: Shop, points: bool) -> None:
    shop = quick_shop
    shop.account.points = points
    shop.account.poison = lambda event: "poison" if event["properties"].get("bad") else None
    for start in range(0, 1000, 500):
        await shop.workspace.track(
            *(
                {"name": "seen", "contact": {"email": f"p{n % 100}@shop.example"}, "metadata": {"bad": n == 377}}
                for n in range(start, start + 500)
            )
        )
    await shop.deliver()
    if len(shop.account.events) < 999:  # where the machine was busy, what failed meanwhile waits for another try
        shop.clock.ahead += timedelta(minutes=5)
        await shop.deliver()
    assert len(shop.account.events) == 999
    assert [row["state"] for row in await shop.rows(state="DEAD")] == ["DEAD"]
    assert await shop.rows(kind="EVENT", state="DELIVERED", metric="seen") != []
    events = shop.account.requests("bulk_create_events") + shop.account.requests("create_event")
    assert len(events) <= 1 + 20


async def test_two_workers_share_the_work_and_a_dead_ones_lanes_are_taken_over(shop: Shop) -> None:
    runtime = shop.workspace.gateway.runtime
    store, destination = runtime.services.store, runtime.klaviyo.destination
    for number in range(30):
        await shop.track("ordered", f"person{number}@shop.example")
    due = await KlaviyoStore(shop.workspace.store).lanes.due(Queue.LIVE, shop.clock(), 100)
    assert len((await shop.deliveries.worker(destination, shop.workspace.id).claim("of one that dies", due))[1]) == 60
    await shop.deliver()
    assert shop.account.asked == []
    shop.clock.ahead = timedelta(seconds=31)
    others = [OutboxDispatcher(store, [destination], shop.clock, Minter()) for _ in range(2)]
    await asyncio.gather(*(other.deliver_due(shop.workspace.id) for other in others))
    assert len(shop.account.events) == 30
    assert {state for _, _, state in await shop.told()} == {"DELIVERED"}


async def test_who_is_told_to_end_hears_what_is_under_way_and_gives_its_lanes_back(shop: Shop) -> None:
    for number in range(30):
        await shop.upsert(email=f"person{number}@shop.example")
    shop.account.misbehave = lambda _: Fault(Kind.SLOW, seconds=1)
    ending = asyncio.create_task(shop.deliver())
    while not await shop.rows(state="SENDING"):
        await asyncio.sleep(0.02)
    ending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ending
    states = Counter(state for _, _, state in await shop.told())
    assert states["PENDING"] == 30 - len(shop.account.asked) >= 20
    assert set(states) <= {"PENDING", "DELIVERED"}
    shop.account.misbehave = lambda _: None
    await shop.deliver()
    assert {state for _, _, state in await shop.told()} == {"DELIVERED"}
    assert len(shop.account.asked) == len(shop.account.profiles) == 30


async def test_who_lost_its_lease_writes_nothing(shop: Shop) -> None:
    await shop.upsert(email="ada@shop.example")
    shop.account.misbehave = lambda _: Fault(Kind.SLOW, seconds=1)
    slow = asyncio.create_task(shop.deliver())
    while not await shop.rows(state="SENDING"):
        await asyncio.sleep(0.02)
    shop.account.misbehave = lambda _: None
    shop.clock.ahead = timedelta(seconds=31)
    await shop.deliver()
    (row,) = await shop.rows()
    await slow
    assert await shop.rows() == [row]
    assert (row["state"], row["attempt_count"]) == ("DELIVERED", 1)
