"""Timers on each server with each driver: once each, whoever races, fails, is killed or comes late."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from gateway.core.clock import system_clock
from gateway.core.ids import Minter, Prefix
from gateway.core.timers import timer_of
from gateway.services.timers import TimerService
from gateway.store.driver import Session
from gateway.store.retries import retry_transaction

HOUR = timedelta(hours=1)


class Ringing:
    """A handler that writes a line of the journal for each timer, in the transaction that takes it."""

    def __init__(self, workspace: Any) -> None:
        self.workspace = workspace
        self.minter = Minter()

    async def __call__(self, timer: dict[str, Any]) -> None:
        store = self.workspace.gateway.runtime.services.store.open(timer["workspace_id"])
        line = {
            "_id": self.minter.mint(Prefix.CHANGE, system_clock()),
            "workspace_id": timer["workspace_id"],
            "subject": "test",
            "kind": "RANG",
            "rang": timer["subject_id"],
            "at": system_clock(),
        }

        async def write(session: Session) -> None:
            await store.changes.write([line], session)
            await store.timers.take(timer, session)

        await retry_transaction(lambda _: store.database.transaction(write))


def service(workspace: Any, clock: Any = system_clock, **handlers: Any) -> TimerService:
    """A process of its own that fires timers of these kinds, by default only those that ring."""
    store = workspace.gateway.runtime.services.store
    return TimerService(store, clock, handlers or {"ring": Ringing(workspace)})


async def set_timers(workspace: Any, *timers: dict[str, Any]) -> None:
    await workspace.store.database.transaction(lambda session: workspace.store.timers.set(timers, session))


def ringing(workspace: Any, subjects: Iterable[str], at: datetime, kind: str = "ring") -> list[dict[str, Any]]:
    return [timer_of(workspace.id, kind, subject, at) for subject in subjects]


async def rung(workspace: Any) -> Counter[str]:
    return Counter(line["rang"] for line in await workspace.store.changes._find({"subject": "test"}))


async def left(workspace: Any) -> list[str]:
    return sorted(timer["subject_id"] for timer in await workspace.store.timers._find({}))


async def test_each_fires_once_when_several_race(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    subjects = [f"s{number}" for number in range(24)]
    await set_timers(workspace, *ringing(workspace, subjects, system_clock()))
    fired = await asyncio.gather(*(service(workspace).fire_due() for _ in range(4)))
    assert sum(fired) == 24
    assert await rung(workspace) == Counter(subjects)
    assert await left(workspace) == []


async def test_it_fires_at_its_time_and_not_before(still_gateway: Any, clock: Any) -> None:
    workspace = await still_gateway.workspace()
    await set_timers(workspace, *ringing(workspace, ["s"], system_clock() + HOUR))
    timers = service(workspace, clock)
    assert await timers.fire_due() == 0
    clock.ahead = HOUR - timedelta(minutes=1)
    assert await timers.fire_due() == 0
    clock.ahead = HOUR
    assert await timers.fire_due() == 1
    assert await rung(workspace) == Counter(["s"])


async def test_what_was_due_while_nobody_ran_fires_in_order(still_gateway: Any, clock: Any) -> None:
    workspace, seen = await still_gateway.workspace(), []
    ring = Ringing(workspace)

    async def noted(timer: dict[str, Any]) -> None:
        seen.append((timer["subject_id"], timer["kind"]))
        await ring(timer)

    now = system_clock()
    for minutes, kind in enumerate(["third", "second", "first"]):
        await set_timers(workspace, timer_of(workspace.id, kind, "s", now + HOUR - timedelta(minutes=minutes)))
    clock.ahead = timedelta(days=30)
    assert await service(workspace, clock, first=noted, second=noted, third=noted).fire_due() == 3
    assert seen == [("s", "first"), ("s", "second"), ("s", "third")]


async def test_one_that_was_moved_fires_at_its_new_time_and_one_that_was_cancelled_never(
    every_gateway: Any, clock: Any
) -> None:
    workspace = await every_gateway.workspace()
    now = system_clock()
    await set_timers(workspace, *ringing(workspace, ["moved", "cancelled"], now + HOUR))
    await set_timers(workspace, *ringing(workspace, ["moved"], now + 3 * HOUR))
    gone = [timer_of(workspace.id, "ring", "cancelled", now)["_id"]]
    await workspace.store.database.transaction(lambda session: workspace.store.timers.cancel(gone, session))
    timers = service(workspace, clock)
    clock.ahead = 2 * HOUR
    assert await timers.fire_due() == 0
    clock.ahead = 3 * HOUR
    assert await timers.fire_due() == 1
    assert await rung(workspace) == Counter(["moved"])
    assert await left(workspace) == []


async def test_one_that_is_moved_while_it_goes_off_stores_nothing(every_gateway: Any, clock: Any) -> None:
    workspace = await every_gateway.workspace()
    now = system_clock()
    await set_timers(workspace, *ringing(workspace, ["s"], now))
    ring = Ringing(workspace)

    async def moved_meanwhile(timer: dict[str, Any]) -> None:
        await set_timers(workspace, *ringing(workspace, ["s"], now + HOUR))
        await ring(timer)

    assert await service(workspace, clock, ring=moved_meanwhile).fire_due() == 0
    assert await rung(workspace) == Counter()
    clock.ahead = HOUR
    assert await service(workspace, clock).fire_due() == 1
    assert await rung(workspace) == Counter(["s"])


async def test_one_that_fails_blocks_no_other_and_is_tried_again_ever_later(still_gateway: Any) -> None:
    workspace, tries = await still_gateway.workspace(), []
    ring, began, ahead = Ringing(workspace), system_clock(), timedelta()

    def clock() -> datetime:
        return began + ahead  # it stands still where nobody moves it, however long a try takes

    async def failing(timer: dict[str, Any]) -> None:
        tries.append(round((clock() - began).total_seconds()))
        raise ValueError("this handler is broken")

    await set_timers(workspace, *ringing(workspace, ["broken"], began, "bad"), *ringing(workspace, ["good"], began))
    timers = service(workspace, clock, bad=failing, ring=ring)
    assert await timers.fire_due() == 1
    assert await rung(workspace) == Counter(["good"])
    pauses = [5, 10, 20, 40, 80, 160, 320, 600, 600]
    for pause in pauses:
        ahead += timedelta(seconds=pause - 1)
        before = len(tries)
        assert await timers.fire_due() == 0
        assert len(tries) == before
        ahead += timedelta(seconds=1)
        assert await timers.fire_due() == 0
        assert len(tries) == before + 1
    assert await left(workspace) == ["broken"]
    ahead += timedelta(minutes=10)
    assert await service(workspace, clock, bad=ring).fire_due() == 1
    assert await rung(workspace) == Counter(["good", "broken"])


async def test_one_whose_process_dies_over_it_is_fired_by_another(every_gateway: Any, clock: Any) -> None:
    workspace = await every_gateway.workspace()
    await set_timers(workspace, *ringing(workspace, ["s"], system_clock()))
    begun = asyncio.Event()

    async def dying(timer: dict[str, Any]) -> None:
        async def write(session: Session) -> None:
            await workspace.store.timers.take(timer, session)
            begun.set()
            await asyncio.Event().wait()

        await workspace.store.database.transaction(write)

    task = asyncio.create_task(service(workspace, clock, ring=dying).fire_due())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    other = service(workspace, clock)
    assert await other.fire_due() == 0
    clock.ahead = timedelta(seconds=5)
    assert await other.fire_due() == 1
    assert await rung(workspace) == Counter(["s"])


async def test_a_commit_whose_answer_was_lost_counts_once(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    await set_timers(workspace, *ringing(workspace, ["s"], system_clock()))
    ring = Ringing(workspace)

    async def again(timer: dict[str, Any]) -> None:
        await ring(timer)
        await ring(timer)

    assert await service(workspace, ring=again).fire_due() == 0
    assert await rung(workspace) == Counter(["s"])
    assert await left(workspace) == []


async def test_kinds_that_nobody_here_knows_wait_for_a_process_that_does(still_gateway: Any) -> None:
    workspace = await still_gateway.workspace()
    await set_timers(workspace, *ringing(workspace, ["new"], system_clock(), "newer kind"))
    assert await service(workspace).fire_due() == 0
    assert await left(workspace) == ["new"]
    assert await service(workspace, **{"newer kind": Ringing(workspace)}).fire_due() == 1


async def test_what_is_not_due_costs_nothing(still_gateway: Any) -> None:
    workspace = await still_gateway.workspace()
    later = [f"later {number}" for number in range(300)]
    await set_timers(workspace, *ringing(workspace, later, system_clock() + HOUR))
    await set_timers(workspace, *ringing(workspace, ["a", "b"], system_clock()))
    commands = still_gateway.commands
    commands.names.clear()
    commands.finds.clear()
    assert await service(workspace).fire_due() == 2
    assert sorted(commands.names) == sorted(
        2 * ["find"] + 2 * ["update"] + 2 * ["insert", "delete", "commitTransaction"]
    )
    (find, _) = commands.finds
    plan = await workspace.store.database._database.command(
        "explain", {"find": "timers", "filter": find["filter"], "sort": find["sort"], "limit": find["limit"]}
    )
    assert "IXSCAN" in str(plan["queryPlanner"]["winningPlan"])
    assert "'next'" in str(plan["queryPlanner"]["winningPlan"])


async def test_workspaces_keep_their_own(still_gateway: Any) -> None:
    one, other = await still_gateway.workspace(), await still_gateway.workspace()
    await set_timers(one, *ringing(one, ["s"], system_clock() + HOUR))
    (timer,) = await one.store.timers._find({})
    await other.store.database.transaction(lambda session: other.store.timers.cancel([timer["_id"]], session))
    assert await left(one) == ["s"]
    assert await left(other) == []
