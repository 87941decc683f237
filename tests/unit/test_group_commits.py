"""Group commit: who shares a write, and what becomes of the others when one call is poisoned or its caller leaves."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.errors import UnavailableError
from gateway.services.events.group_commit import LARGEST_GROUP, GroupCommit
from gateway.store.driver import ConflictError, FaultError


class Writer:
    """Writes numbers: each doubles, 13 cannot be written, others are held by somebody or break the server, and the gate
    says when a write goes on."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.tried: list[bool] = []
        self.gate = asyncio.Event()
        self.away = False
        self.held: set[int] = set()
        self.breaking: set[int] = set()

    async def __call__(self, workspace_id: str, items: Sequence[int], tried: bool) -> list[int]:
        self.groups.append(list(items))
        self.tried.append(tried)
        await self.gate.wait()
        if self.away:
            raise UnavailableError
        if not self.held.isdisjoint(items):
            raise ConflictError
        if not self.breaking.isdisjoint(items):
            raise FaultError
        if 13 in items:
            raise ValueError("13")
        return [item * 2 for item in items]


def commits_of(writer: Writer) -> GroupCommit[int, int]:
    """Commits of that writer; numbers that are equal modulo 100 have one key."""
    return GroupCommit(writer, lambda number: number % 100)


async def submitted(commits: GroupCommit[int, int], *calls: list[int]) -> list[asyncio.Task[list[int]]]:
    tasks = [asyncio.create_task(commits.submit("w", items)) for items in calls]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_calls_that_wait_share_the_next_write() -> None:
    writer = Writer()
    tasks = await submitted(commits_of(writer), [1], [2, 3], [4])
    writer.gate.set()
    assert await asyncio.gather(*tasks) == [[2], [4, 6], [8]]
    assert writer.groups == [[1], [2, 3, 4]] or writer.groups == [[1, 2, 3, 4]]
    assert writer.tried == [False] * len(writer.groups)


async def test_a_poisoned_call_fails_alone() -> None:
    writer = Writer()
    tasks = await submitted(commits_of(writer), [1], [2], [13, 3], [4])
    writer.gate.set()
    results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    assert [results[0], results[1], results[3]] == [[2], [4], [8]]
    assert isinstance(results[2], ValueError)
    assert writer.tried[-1] is True


async def test_everyone_hears_that_the_database_is_away() -> None:
    writer = Writer()
    writer.away = True
    tasks = await submitted(commits_of(writer), [1], [2], [4])
    writer.gate.set()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, UnavailableError)


async def test_what_is_being_written_is_written_to_its_end_whoever_leaves() -> None:
    writer = Writer()
    commits = commits_of(writer)
    (first,) = await submitted(commits, [1])
    while not writer.groups:
        await asyncio.sleep(0)
    second, third = await submitted(commits, [2], [3])
    for leaving in (first, second):
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    writer.gate.set()
    assert await third == [6]
    assert writer.groups == [[1], [3]]
    assert writer.tried == [False, False]


async def test_what_somebody_else_holds_stops_neither_those_before_nor_those_after() -> None:
    writer = Writer()
    writer.held = {5}
    writer.gate.set()
    commits = commits_of(writer)
    first = await submitted(commits, [1], [5], [2])
    assert await first[0] == [2]
    assert await first[2] == [4]
    (later,) = await submitted(commits, [105])  # of the same key
    for number in range(20, 40):
        assert await commits.submit("w", [number]) == [2 * number]
    assert not first[1].done()
    assert not later.done()
    groups = [group for group in writer.groups if any(number % 100 == 5 for number in group)]
    assert [group for group in groups if any(number % 100 != 5 for number in group)] == groups[:1], "then it is apart"
    writer.held = set()
    assert (await first[1], await later) == ([10], [210])
    assert writer.tried[-1] is True
    assert await commits.submit("w", [5]) == [10]


async def test_a_batch_that_meets_what_is_held_keeps_nobody_else_who_writes_its_other_items() -> None:
    writer = Writer()
    writer.held = {5}
    writer.gate.set()
    commits = commits_of(writer)
    batch, other = await submitted(commits, [4, 5, 6], [4])
    assert await other == [8]
    assert await commits.submit("w", [6]) == [12]
    assert not batch.done()
    batch.cancel()


async def test_what_is_held_for_too_long_is_unavailable() -> None:
    writer = Writer()
    writer.held = {5}
    writer.gate.set()
    commits: GroupCommit[int, int] = GroupCommit(writer, lambda number: number, patience=0.3)
    with pytest.raises(UnavailableError):
        await commits.submit("w", [5])
    assert await commits.submit("w", [1]) == [2]


async def test_what_breaks_the_server_fails_alone() -> None:
    writer = Writer()
    writer.breaking = {5}
    tasks = await submitted(commits_of(writer), [1], [5], [2])
    writer.gate.set()
    results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    assert [results[0], results[2]] == [[2], [4]]
    assert isinstance(results[1], FaultError)


async def test_a_server_that_refuses_everything_is_not_asked_for_each_call() -> None:
    writer = Writer()
    writer.breaking = set(range(50))
    tasks = await submitted(commits_of(writer), *([number] for number in range(50)))
    writer.gate.set()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, FaultError)
    assert len(writer.groups) < 10


async def test_a_group_is_bounded_but_a_call_is_never_split() -> None:
    writer = Writer()
    calls = [[1], list(range(LARGEST_GROUP)), [2], [3]]
    calls[1].remove(13)
    tasks = await submitted(commits_of(writer), *calls)
    writer.gate.set()
    await asyncio.gather(*tasks)
    assert max(len(group) for group in writer.groups) <= LARGEST_GROUP
    assert sum(len(group) for group in writer.groups) == LARGEST_GROUP + 2
