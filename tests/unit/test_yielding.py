"""Long evaluations give the event loop back: others get a turn each time so many conditions were evaluated."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.domain.filters.conditions import ContactFacts, EventCondition, parse_filter
from gateway.store.filters.fact_loader import FactLoader
from gateway.store.yielding import STEPS_OF_A_TURN, filter_rows

NOW = datetime(2026, 5, 10, tzinfo=UTC)
MANY = {
    "and": [{"name": {"contains": f"x{number}"}} for number in range(25)],
    "not": {"or": [{"tag": {"eq": "a"}}] * 20},
}


def contact(number: int) -> dict[str, Any]:
    return {
        "_id": f"con_{number}",
        "role": "USER",
        "name": "x" + " x".join(map(str, range(25))),
        "tags": ["b"],
        "custom_attributes": {},
    }


async def turns_during(work: Callable[[], Awaitable[Any]]) -> int:
    """How many turns another coroutine gets meanwhile."""
    turns, done = 0, False

    async def other() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    before = turns
    await work()
    got = turns - before
    done = True
    await task
    return got


@pytest.mark.parametrize("contacts", [200, 2000])
async def test_others_get_turns_while_a_filter_is_decided(contacts: int) -> None:
    condition = parse_filter(MANY)
    rows = [(f"con_{number}", contact(number)) for number in range(contacts)]
    reader = FactLoader(None, condition, NOW)  # type: ignore[arg-type] # nothing is read: the contacts tell all

    async def work() -> None:
        async for _, facts in reader.load(rows):
            assert facts is not None

    evaluated = contacts * len(list(condition.leaves()))
    assert await turns_during(work) >= evaluated // STEPS_OF_A_TURN


async def test_others_get_turns_while_one_contact_s_events_are_counted() -> None:
    tests = [{"key": f"k{number}", "number": {"gt": number}} for number in range(40)]
    condition = parse_filter({"event": {"name": "n", "metadata": tests}})
    (event,) = condition.events()
    values = {f"k{number}": number + 1 for number in range(40)}
    rows = [{"name": "n", "occurred_at": NOW, "metadata_json": values, "metadata": []} for _ in range(2000)]
    reader = FactLoader(None, condition, NOW)  # type: ignore[arg-type] # see above
    tallies: list[Any] = []

    async def work() -> None:
        tallies.append(await reader._stats_of(event, ContactFacts(contact(1), NOW), rows))

    assert await turns_during(work) >= 2000 * 40 // (2 * STEPS_OF_A_TURN)  # two of its pieces at the most
    assert isinstance(event, EventCondition)
    assert tallies == [event.stats_of(rows, contact(1), NOW)]
    assert tallies[0].count == 2000


async def test_others_get_turns_while_rows_are_filtered() -> None:
    rows = [{"n": number} for number in range(5000)]
    kept: list[Any] = []

    async def work() -> None:
        kept.extend(await filter_rows(rows, lambda row: row["n"] % 2 == 0, 10))

    assert await turns_during(work) == 5000 * 10 // STEPS_OF_A_TURN
    assert len(kept) == 2500
