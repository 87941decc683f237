"""Processes whose clocks are hours ahead or behind: what they leave stands in nobody's way for longer than by a right clock."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from processes import becomes_true

from gateway.core.clock import system_clock
from gateway.core.ids import Minter
from gateway.core.timers import timer_of
from gateway.destinations.klaviyo.repository import KlaviyoStore
from gateway.domain.contacts.erasure import new_deletion
from gateway.domain.events.retention import Retention
from gateway.outbox.deliveries import Queue, lane_id_of, new_lane
from gateway.services.events.retention import RetentionService
from gateway.services.projections.event_definitions import EventDefinitionProjection
from gateway.services.timers import TimerService
from gateway.store.contacts.erasure import deletions_due
from gateway.store.driver import Session
from gateway.store.migrations import migrate
from gateway.store.rate_limits import RateLimitCounters

HOURS = [timedelta(hours=3), timedelta(hours=-3)]
LEASE, MOMENT = timedelta(seconds=6), timedelta(milliseconds=200)


@pytest.fixture(params=["secantusd-py", "secantusd-rs"])
async def gateway(request: pytest.FixtureRequest, open_gateway: Any, mongo: str, rust_mongo: str) -> AsyncIterator[Any]:
    """One on each server that does nothing by itself."""
    uri = mongo if request.param == "secantusd-py" else rust_mongo
    if not uri:
        pytest.skip("left out: the Rust server is not beside this checkout")
    async with open_gateway(uri=uri, rolls_up=False) as opened:
        yield opened


@pytest.mark.parametrize("wrong", HOURS)
async def test_a_lease_ends_when_it_would_by_the_databases_clock(gateway: Any, wrong: timedelta) -> None:
    roll_ups, name = gateway.runtime.services.store.roll_ups, uuid.uuid4().hex
    database = gateway.runtime.database
    assert await roll_ups.take(name, "first", LEASE) is not None
    assert await roll_ups.take(name, "second", LEASE) is None
    assert await roll_ups.renew(name, "first", MOMENT)
    await asyncio.sleep(0.3)
    assert await roll_ups.take(name, "second", LEASE) is not None
    assert not await roll_ups.renew(name, "first", LEASE)
    # What an older version, or a server of the database whose clock is wrong, left behind.
    left = {"owner": "gone", "until": system_clock() + wrong}
    await database.update("roll_ups", {"_id": name}, {"$set": left})
    assert await roll_ups.take(name, "third", LEASE) is not None
    await roll_ups.release(name, "third")
    assert await roll_ups.take(name, "fourth", LEASE) is not None


@pytest.mark.parametrize("wrong", HOURS)
async def test_who_follows_the_stream_by_a_wrong_clock_is_followed_by_others_when_it_dies(
    open_gateway: Any, wrong: timedelta
) -> None:
    database = f"clock_{uuid.uuid4().hex[:8]}"
    async with open_gateway(database=database, rolls_up=False, clock=lambda: system_clock() + wrong) as shifted:
        workspace = await shifted.workspace()
        store, runtime = shifted.runtime.services.store, shifted.runtime
        dying = EventDefinitionProjection(store, runtime.clock, Minter())
        running = asyncio.create_task(dying.run())
        await workspace.track({"contact": {"externalId": "u"}, "name": "did"})

        async def counted() -> bool:
            return [row.get("count") for row in await workspace.store.definitions.all()] == [1]

        await becomes_true(counted)
        (row,) = [row for row in await store.roll_ups.all() if row["_id"] == "definitions"]
        assert timedelta(0) < row["until"] - system_clock() <= LEASE
        store.roll_ups = Gone()  # as if killed: it gives nothing back
        running.cancel()
        await asyncio.wait([running])
        async with open_gateway(database=database):
            await workspace.track({"contact": {"externalId": "u"}, "name": "did"})

            async def followed() -> bool:
                return [row.get("count") for row in await workspace.store.definitions.all()] == [2]

            await becomes_true(followed)


class Gone:
    """The database, for a process that was killed."""

    async def release(self, *_: Any) -> None:
        raise RuntimeError("nobody hears it")


async def test_a_sweep_and_an_erasure_of_a_wrong_clock_are_taken_over(gateway: Any) -> None:
    workspace = await gateway.workspace()
    database, ahead = gateway.runtime.database, system_clock() + HOURS[0]
    sweep = RetentionService(gateway.runtime.services.store, Retention(30), system_clock)
    await database.update("roll_ups", {"_id": "retention"}, {"$set": {"owner": "x", "until": ahead}}, upsert=True)
    assert await sweep.sweep()
    contact = {"_id": f"con_{uuid.uuid4().hex}", "workspace_id": workspace.id}
    deletion = new_deletion({**contact, "merged_ids": []}, system_clock(), ahead)

    async def write(session: Session) -> None:
        await workspace.store.deletions.insert(deletion, session)

    await database.transaction(write)
    due = await deletions_due(database, LEASE)
    assert deletion["_id"] in [row["_id"] for row in due]
    assert await workspace.store.deletions.hold(deletion, LEASE)
    assert deletion["_id"] not in [row["_id"] for row in await deletions_due(database, LEASE)]


async def test_the_lock_of_migrations_of_a_wrong_clock_is_taken_over(gateway: Any) -> None:
    database = gateway.runtime.database
    lock = {"owner": "another-host:1", "until": system_clock() + HOURS[0]}
    await database.update("migrations", {"_id": "lock"}, {"$set": lock}, upsert=True)
    assert await migrate(database, system_clock, owner="tests", patience=5) == []


async def test_a_timer_that_a_wrong_clock_put_off_is_tried_at_once(gateway: Any) -> None:
    workspace, rung = await gateway.workspace(), asyncio.Event()
    subject = uuid.uuid4().hex
    timers = [timer_of(workspace.id, "ring", f"{subject}{end}", system_clock() + HOURS[0]) for end in "ab"]
    timers[0] |= {"attempts": 1, "due_at": system_clock()}
    await workspace.store.database.transaction(lambda session: workspace.store.timers.set(timers, session))

    async def ring(timer: dict[str, Any]) -> None:
        assert timer["subject_id"] == f"{subject}a"
        await workspace.store.database.transaction(lambda session: workspace.store.timers.take(timer, session))
        rung.set()

    running = asyncio.create_task(TimerService(gateway.runtime.services.store, system_clock, {"ring": ring}).run())
    await asyncio.wait_for(rung.wait(), 60)
    running.cancel()
    await asyncio.wait([running])
    assert [timer["subject_id"] for timer in await workspace.store.timers._find({})] == [f"{subject}b"]


async def test_a_lane_of_deliveries_that_a_wrong_clock_leased_is_taken_over(gateway: Any) -> None:
    workspace, runtime = await gateway.workspace(), gateway.runtime
    store, now = KlaviyoStore(workspace.store), system_clock()
    lane = {**new_lane(workspace.id, "con_1", Queue.LIVE, now), "lease": "x", "due_at": now + HOURS[0]}
    waiting = {**new_lane(workspace.id, "con_2", Queue.LIVE, now), "due_at": now + HOURS[0]}
    await store.database.transaction(lambda session: store.lanes.save([(lane, {}), (waiting, {})], session))
    due = await store.lanes.due(Queue.LIVE, system_clock(), 10)
    assert [row["_id"] for row in due] == [lane_id_of(workspace.id, "con_1")]
    worker = runtime.deliveries.worker(runtime.klaviyo.destination, workspace.id)
    assert [row["lease"] for row in (await worker.claim("mine", due))[0]] == ["mine"]
    assert await store.lanes.due(Queue.LIVE, system_clock(), 10) == []


async def test_windows_that_a_wrong_clock_began_are_over(gateway: Any) -> None:
    workspace, now = await gateway.workspace(), system_clock()
    windows, limits, minute = KlaviyoStore(workspace.store).rate_windows, (10, 10), timedelta(minutes=1)
    assert (await windows.take("create_event", 10, limits, now + HOURS[0]))["granted"] == 10
    assert (await windows.take("create_event", 10, limits, now))["granted"] == 10
    assert (await windows.take("create_event", 10, limits, now))["granted"] == 0
    counters, key = RateLimitCounters(gateway.runtime.database, 60), uuid.uuid4().hex
    assert (await counters.add(key, 5, now + HOURS[0], minute))[0] == 5
    assert await counters.add(key, 1, now, minute) == (1, now + minute)
    assert await counters.add(key, 1, now, minute) == (2, now + minute)


async def test_leases_of_one_process_are_not_robbed_by_another_with_a_wrong_clock(open_gateway: Any) -> None:
    database = f"clock_{uuid.uuid4().hex[:8]}"
    async with open_gateway(database=database) as right:
        workspace = await right.workspace()
        rows = right.runtime.services.store.roll_ups

        async def owner() -> Any:
            return {row["_id"]: row["owner"] for row in await rows.all()}.get("definitions")

        await becomes_true(owner)
        first = await owner()
        async with (
            open_gateway(database=database, clock=lambda: system_clock() + HOURS[0]),
            open_gateway(database=database, clock=lambda: system_clock() + HOURS[1]),
        ):
            for number in range(20):
                await workspace.track({"contact": {"externalId": f"u{number}"}, "name": "did"})
                await asyncio.sleep(0.1)
                assert await owner() == first
