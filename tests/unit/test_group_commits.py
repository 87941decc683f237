"""Group commit: who shares a write, and what becomes of the others when one call is poisoned or its caller leaves."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.errors import UnavailableError
from gateway.services.group_commits import LARGEST_GROUP, GroupCommits


class Writer:
    """Writes numbers: even ones double, 13 cannot be written, and the gate says when a write goes on."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.tried: list[bool] = []
        self.gate = asyncio.Event()
        self.away = False

    async def __call__(self, workspace_id: str, items: Sequence[int], tried: bool) -> list[int]:
        self.groups.append(list(items))
        self.tried.append(tried)
        await self.gate.wait()
        if self.away:
            raise UnavailableError
        if 13 in items:
            raise ValueError("13")
        return [item * 2 for item in items]


async def submitted(commits: GroupCommits[int, int], *calls: list[int]) -> list[asyncio.Task[list[int]]]:
    tasks = [asyncio.create_task(commits.submit("w", items)) for items in calls]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_calls_that_wait_share_the_next_write() -> None:
    writer = Writer()
    tasks = await submitted(GroupCommits(writer), [1], [2, 3], [4])
    writer.gate.set()
    assert await asyncio.gather(*tasks) == [[2], [4, 6], [8]]
    assert writer.groups == [[1], [2, 3, 4]] or writer.groups == [[1, 2, 3, 4]]
    assert writer.tried == [False] * len(writer.groups)


async def test_a_poisoned_call_fails_alone() -> None:
    writer = Writer()
    tasks = await submitted(GroupCommits(writer), [1], [2], [13, 3], [4])
    writer.gate.set()
    results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    assert [results[0], results[1], results[3]] == [[2], [4], [8]]
    assert isinstance(results[2], ValueError)
    assert writer.tried[-1] is True


async def test_everyone_hears_that_the_database_is_away() -> None:
    writer = Writer()
    writer.away = True
    tasks = await submitted(GroupCommits(writer), [1], [2], [4])
    writer.gate.set()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, UnavailableError)


async def test_a_caller_who_leaves_hands_its_group_on() -> None:
    writer = Writer()
    commits: GroupCommits[int, int] = GroupCommits(writer)
    first, second, third = await submitted(commits, [1], [2], [3])
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    writer.gate.set()
    assert await third == [6]
    assert writer.groups[-1] == [3]
    assert (await commits.submit("w", [7])) == [14]


async def test_a_group_is_bounded_but_a_call_is_never_split() -> None:
    writer = Writer()
    calls = [[1], list(range(LARGEST_GROUP)), [2], [3]]
    calls[1].remove(13)
    tasks = await submitted(GroupCommits(writer), *calls)
    writer.gate.set()
    await asyncio.gather(*tasks)
    assert max(len(group) for group in writer.groups) <= LARGEST_GROUP
    assert sum(len(group) for group in writer.groups) == LARGEST_GROUP + 2
