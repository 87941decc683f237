"""The outbox sends to any destination: what it promises is proved with one that it does not know."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from gateways import Commands, Gateway
from recording_destination import RecordingDestination

from gateway.app import create_app
from gateway.core.ids import Minter
from gateway.outbox.deliveries import Queue
from gateway.outbox.destinations import OutboxStore, Outcome
from gateway.outbox.dispatcher import OutboxDispatcher
from gateway.outbox.replays import ReplayService
from gateway.runtime import background_tasks, open_runtime
from gateway.settings import KlaviyoMode, Settings
from gateway.store.migrations import migrate

UPSERT = "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { contact { id } userErrors { code } } }"
DELETE = "mutation($id: ID!) { deleteContact(input: {id: $id}) { userErrors { code } } }"


async def no_time(_: float) -> None:
    await asyncio.sleep(0)


@dataclass
class Shop:
    """A workspace whose changes the recorder hears, and what delivers for it."""

    workspace: Any
    recorder: RecordingDestination
    clock: Any
    deliveries: OutboxDispatcher

    @property
    def store(self) -> OutboxStore:
        return OutboxStore(self.workspace.store, self.recorder)

    async def upsert(self, **sent: Any) -> str:
        payload = (await self.workspace.data(UPSERT, {"i": sent}))["upsertContact"]
        assert payload["userErrors"] == []
        return str(payload["contact"]["id"])

    async def track(self, *names: str, external_id: str) -> None:
        for name in names:
            await self.workspace.track({"name": name, "contact": {"externalId": external_id}})

    async def deliver(self) -> None:
        await self.deliveries.deliver_due(self.workspace.id)

    async def rows(self, **filter_: Any) -> list[dict[str, Any]]:
        rows = await self.store.deliveries._find(filter_, sort={"_id": 1})
        return sorted(rows, key=lambda row: int(row.get("seq", 0)))

    async def states(self) -> list[tuple[str, str]]:
        return [(row["payload"].get("event") or row["kind"], row["state"]) for row in await self.rows()]

    async def change_log(self) -> list[tuple[str | None, str]]:
        """The states before and after of each change of a delivery."""
        rows = await self.workspace.store.database.find(
            "changes",
            {"workspace_id": self.workspace.id, "subject": "delivery", "destination": "recorder"},
            sort={"_id": 1},
        )
        return [(row["before"] and row["before"]["state"], row["after"]["state"]) for row in rows]


@contextlib.asynccontextmanager
async def open_shop(uri: str, clock: Any, **settings: Any) -> AsyncIterator[Shop]:
    recorder, name = RecordingDestination(clock), f"outbox_{random.getrandbits(48):012x}"
    options: Any = {"clock": clock, "sleep": no_time, "destinations": [recorder]}
    async with open_runtime(Settings(secret_key="x" * 40, **settings), uri, name, **options) as runtime:
        await migrate(runtime.database, runtime.clock, owner="tests")
        transport = httpx.ASGITransport(create_app(runtime, runtime.authenticator()))
        async with (
            background_tasks(runtime, rolls_up=False),
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as http,
        ):
            workspace = await Gateway("http://gateway/graphql", runtime, Commands(), http).workspace()
            recorder.active_ids.add(workspace.id)
            deliveries = OutboxDispatcher(runtime.services.store, [recorder], clock, Minter(), random.Random(7))
            yield Shop(workspace, recorder, clock, deliveries)


@pytest.fixture
async def shop(fast_mongo: str, clock: Any) -> AsyncIterator[Shop]:
    async with open_shop(fast_mongo, clock) as opened:
        yield opened


async def test_each_contact_hears_in_order_and_many_at_once(mongo: str, clock: Any) -> None:
    async with open_shop(mongo, clock) as shop:
        for name in ("first", "second", "third"):
            for number in range(5):
                await shop.track(f"{name} {number}", external_id=str(number))
        shop.recorder.before_sending = lambda: asyncio.sleep(0.01)
        await shop.deliver()
        events = [payload["event"] for payload in shop.recorder.sent if "event" in payload]
        assert len(events) == 15
        assert shop.recorder.most_at_once == 5
        for number in range(5):
            heard = [event for event in events if event.endswith(f" {number}")]
            assert heard == [f"first {number}", f"second {number}", f"third {number}"]
        assert {state for _, state in await shop.states()} == {"DELIVERED"}
        lanes = await shop.store.lanes._find({})
        assert {(lane.get("due_at"), lane["head"], lane["seq"]) for lane in lanes} == {(None, 5, 4)}
        assert all(lane["last_sent"] for lane in lanes)


async def test_a_destination_that_is_not_active_gets_nothing(shop: Shop) -> None:
    other = await shop.workspace.gateway.workspace()
    await other.track({"name": "looked", "contact": {"externalId": "7"}})
    shop.recorder.active_ids.clear()
    contact_id = await shop.upsert(externalId="7")
    await shop.workspace.data(DELETE, {"id": contact_id})
    shop.recorder.active_ids |= {other.id, shop.workspace.id}
    for workspace in (other, shop.workspace):
        assert await OutboxStore(workspace.store, shop.recorder).deliveries._find({}) == []


async def test_a_waiting_profile_is_merged_with_the_newer_one(shop: Shop) -> None:
    for name in ("Ada", "Augusta", "Ada King"):
        await shop.upsert(externalId="7", name=name)
    await shop.deliver()
    await shop.upsert(externalId="7", name="Lady Lovelace")
    await shop.deliver()
    assert shop.recorder.sent == [{"name": "Ada King", "versions": 3}, {"name": "Lady Lovelace", "versions": 1}]


async def test_lanes_of_a_dead_worker_are_taken_over_when_their_lease_is_over(shop: Shop) -> None:
    await shop.track("ordered", external_id="7")
    due = await shop.store.lanes.due(Queue.LIVE, shop.clock(), 10)
    dead = shop.deliveries.worker(shop.recorder, shop.workspace.id)
    assert len((await dead.claim("of one that dies", due))[1]) == 2
    await shop.deliver()
    assert shop.recorder.sent == []
    shop.clock.ahead = timedelta(seconds=31)
    other = OutboxDispatcher(shop.workspace.gateway.runtime.services.store, [shop.recorder], shop.clock, Minter())
    await asyncio.gather(other.deliver_due(shop.workspace.id), shop.deliver())
    assert [payload.get("event") for payload in shop.recorder.sent] == [None, "ordered"]


async def test_who_lost_its_lease_saves_nothing(shop: Shop) -> None:
    await shop.upsert(externalId="7")
    is_sending, may_end = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        shop.recorder.before_sending = None
        is_sending.set()
        await may_end.wait()

    shop.recorder.before_sending = wait
    slow = asyncio.create_task(shop.deliver())
    await is_sending.wait()
    shop.clock.ahead = timedelta(seconds=31)
    await shop.deliver()
    saved = await shop.rows()
    may_end.set()
    await slow
    assert await shop.rows() == saved
    assert [(row["state"], row["attempt_count"]) for row in saved] == [("DELIVERED", 1)]
    assert len(shop.recorder.sent) == 2  # at least once: the unique id tells the destination


async def test_a_cancelled_worker_finishes_what_it_sends_and_releases_the_rest(shop: Shop) -> None:
    await shop.track("first", "second", external_id="7")
    is_sending = asyncio.Event()

    async def notify() -> None:
        is_sending.set()
        await asyncio.sleep(0.1)

    shop.recorder.before_sending = notify
    ending = asyncio.create_task(shop.deliver())
    await is_sending.wait()
    ending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ending
    assert [state for _, state in await shop.states()] == ["DELIVERED", "PENDING", "PENDING"]
    await shop.deliver()
    assert [payload.get("event") for payload in shop.recorder.sent] == [None, "first", "second"]


async def test_a_failure_is_retried_later_and_holds_up_its_own_contact_alone(shop: Shop) -> None:
    await shop.track("first", "second", external_id="7")
    await shop.track("third", external_id="8")
    shop.recorder.retry_after = 600
    shop.recorder.outcome_of = lambda row: Outcome.RETRY if row["metric"] == "first" else Outcome.DELIVERED
    await shop.deliver()
    assert sorted(await shop.states()) == [
        ("PROFILE", "DELIVERED"),
        ("PROFILE", "DELIVERED"),
        ("first", "RETRYING"),
        ("second", "PENDING"),
        ("third", "DELIVERED"),
    ]
    (row,) = await shop.rows(metric="first")
    assert row["next_attempt_at"] - row["attempts"][0]["at"] >= timedelta(seconds=600)
    shop.recorder.outcome_of = lambda _: Outcome.DELIVERED
    shop.clock.ahead = timedelta(seconds=590)
    await shop.deliver()
    assert len(shop.recorder.sent) == 4
    shop.clock.ahead = timedelta(seconds=602)
    await shop.deliver()
    assert [payload.get("event") for payload in shop.recorder.sent[4:]] == ["first", "second"]
    assert {state for _, state in await shop.states()} == {"DELIVERED"}


async def test_retries_end_after_72_hours(shop: Shop) -> None:
    await shop.upsert(externalId="7")
    shop.recorder.outcome_of = lambda _: Outcome.RETRY
    for hours in (0, 71, 73):
        shop.clock.ahead = timedelta(hours=hours)
        await shop.deliver()
    (row,) = await shop.rows()
    assert (row["state"], row["attempt_count"]) == ("DEAD", 3)
    assert row["reason"] == "Given up after 72 hours. The recorder says RETRY."


async def test_a_dead_letter_lets_others_pass_and_is_replayed_behind_them(shop: Shop) -> None:
    await shop.upsert(externalId="7", name="Ada")
    await shop.track("bad", "good", external_id="7")
    shop.recorder.outcome_of = lambda row: Outcome.REFUSED if row["metric"] in (None, "bad") else Outcome.DELIVERED
    await shop.deliver()
    assert await shop.states() == [("PROFILE", "DEAD"), ("bad", "DEAD"), ("good", "DELIVERED")]
    assert [row["reason"] for row in await shop.rows(state="DEAD")] == ["The recorder says REFUSED."] * 2
    shop.recorder.outcome_of = lambda _: Outcome.DELIVERED
    services = shop.workspace.gateway.runtime.services
    replays = ReplayService(services.store, shop.recorder, shop.clock, Minter())
    dead = [row["_id"] for row in await shop.rows(state="DEAD")]
    assert await replays.replay_ids(shop.workspace.id, dead) == 2
    await shop.deliver()
    assert shop.recorder.sent[3:] == [{"name": "Ada", "versions": 1}, {"event": "bad"}]
    assert {state for _, state in await shop.states()} == {"DELIVERED"}
    assert [change for change in await shop.change_log() if "DEAD" in change] == [
        *[("PENDING", "DEAD")] * 2,
        *[("DEAD", "PENDING")] * 2,
    ]


async def test_a_pause_loses_nothing(shop: Shop) -> None:
    await shop.track("first", "second", external_id="7")
    shop.recorder.outcome_of = lambda _: Outcome.PAUSE
    await shop.deliver()
    await shop.deliver()
    assert len(shop.recorder.sent) == 1
    assert [(row["state"], row["attempt_count"]) for row in await shop.rows()] == [
        ("PENDING", 1),
        ("PENDING", 0),
        ("PENDING", 0),
    ]
    shop.recorder.outcome_of = lambda _: Outcome.DELIVERED
    shop.recorder.paused_ids.clear()
    await shop.deliver()
    assert {state for _, state in await shop.states()} == {"DELIVERED"}


async def test_an_erasure_removes_what_waits_and_is_reported(shop: Shop) -> None:
    contact_id = await shop.upsert(externalId="7", name="Ada")
    await shop.deliver()
    await shop.track("never sent", external_id="7")
    await shop.workspace.data(DELETE, {"id": contact_id})
    assert [(row["kind"], row["state"]) for row in await shop.rows()] == [("DELETION", "PENDING")]
    await shop.deliver()
    assert shop.recorder.sent == [{"name": "Ada", "versions": 1}, {"erased": contact_id}]
    (row,) = await shop.rows()
    assert (row["state"], row.get("payload")) == ("DELIVERED", None)
    assert await shop.store.lanes._find({}) == []


async def test_the_lanes_of_an_erased_contact_go_too_where_nothing_is_reported(shop: Shop) -> None:
    contact_id = await shop.upsert(externalId="7", name="Ada")
    shop.recorder.active_ids.clear()
    await shop.workspace.data(DELETE, {"id": contact_id})
    assert (await shop.rows(), await shop.store.lanes._find({})) == ([], [])


async def test_destinations_do_not_wait_for_each_other(fast_mongo: str, clock: Any) -> None:
    async with open_shop(fast_mongo, clock, klaviyo_mode=KlaviyoMode.LOG) as shop:
        runtime = shop.workspace.gateway.runtime
        klaviyo = OutboxStore(shop.workspace.store, runtime.klaviyo.destination).deliveries
        shop.recorder.outcome_of = lambda _: Outcome.RETRY
        contact_id = await shop.upsert(externalId="7", email="ada@shop.example")
        async with background_tasks(runtime, rolls_up=False, delivers=True):
            while not (shop.recorder.sent and await klaviyo._find({"state": "DELIVERED"})):
                await asyncio.sleep(0.05)
        assert {row["state"] for row in await shop.rows()} == {"RETRYING"}
        assert [row["contact_id"] for row in await klaviyo._find({})] == [contact_id]
        assert await shop.change_log() == [(None, "PENDING"), ("PENDING", "RETRYING")]


async def test_a_deleted_workspace_leaves_no_deliveries(shop: Shop) -> None:
    await shop.upsert(externalId="7")
    runtime = shop.workspace.gateway.runtime
    await runtime.workspaces.delete(shop.workspace.id)
    for repository in (shop.recorder.deliveries, shop.recorder.lanes):
        assert await runtime.database.find(repository.COLLECTION, {}) == []
