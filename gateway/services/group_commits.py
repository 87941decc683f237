"""Group commit: calls that arrive while a transaction is under way share the next one, each with results of its own.

Without it, calls on one contact or one name would write the same documents at the same time, and all but one would
have to try again; so it is what keeps hot contacts fast, beside saving transactions.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from gateway.errors import UnavailableError
from gateway.services.attempts import BUDGET_SECONDS

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
LARGEST_GROUP = 1000
_MOST_TURNS = 8  # turns may be long, and those who wait want their answer
_QUIET_TURNS = 2  # of the loop in which nobody arrived: so many a request takes from its socket to here


@dataclass(slots=True, eq=False)
class _Call(Generic[Item, Outcome]):
    """One caller's items; `tried` once they may have been stored by an attempt whose end nobody saw."""

    items: Sequence[Item]
    answer: asyncio.Future[list[Outcome]]
    deadline: float
    tried: bool = False


class _Lane(Generic[Item, Outcome]):
    """The calls of one workspace: one group at a time is being written, the others wait."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting: list[_Call[Item, Outcome]] = []

    async def gather(self) -> None:
        """Let those join who arrive at this moment: small groups cost nearly what large ones do."""
        quiet, before = 0, 0
        for _ in range(_MOST_TURNS):
            if quiet == _QUIET_TURNS or sum(len(call.items) for call in self.waiting) >= LARGEST_GROUP:
                return
            quiet, before = (0 if len(self.waiting) > before else quiet + 1), len(self.waiting)
            await asyncio.sleep(0)

    def next_group(self) -> list[_Call[Item, Outcome]]:
        """The calls that waited longest, up to the size of a group, but at least one."""
        size, taken = 0, 0
        for call in self.waiting:
            size += len(call.items)
            if taken and size > LARGEST_GROUP:
                break
            taken += 1
        group, self.waiting = self.waiting[:taken], self.waiting[taken:]
        return group


class GroupCommits(Generic[Item, Outcome]):
    """Calls `write(workspace_id, items, tried)` with the items of many calls; it gives one outcome per item, in order."""

    def __init__(
        self, write: Callable[[str, Sequence[Item], bool], Awaitable[list[Outcome]]], patience: float = BUDGET_SECONDS
    ) -> None:
        self._write = write
        self._patience = patience
        self._lanes: WeakValueDictionary[str, _Lane[Item, Outcome]] = WeakValueDictionary()

    async def submit(self, workspace_id: str, items: Sequence[Item]) -> list[Outcome]:
        """One outcome per item, in order, once they are stored."""
        lane = self._lanes.setdefault(workspace_id, _Lane())
        loop = asyncio.get_running_loop()
        call: _Call[Item, Outcome] = _Call(items, loop.create_future(), loop.time() + self._patience)
        lane.waiting.append(call)
        try:
            async with lane.turn:
                while not call.answer.done():
                    await lane.gather()
                    await self._write_group(workspace_id, lane)
            return call.answer.result()
        finally:
            if call in lane.waiting:
                lane.waiting.remove(call)
            if call.answer.done():
                call.answer.exception()  # seen, also where the caller is gone

    @asynccontextmanager
    async def turn(self, workspace_id: str) -> AsyncIterator[None]:
        """A turn of one's own for another kind of write, so that it meets no group of this process."""
        lane = self._lanes.setdefault(workspace_id, _Lane())
        async with lane.turn:
            yield

    async def _write_group(self, workspace_id: str, lane: _Lane[Item, Outcome]) -> None:
        group = _still_waiting(lane.next_group())
        if not group:
            return
        try:
            await self._answer(workspace_id, group)
        except UnavailableError as error:
            for call in group:
                call.answer.set_exception(error)
        except asyncio.CancelledError:
            self._hand_on(lane, group)
            raise
        except Exception as error:
            if len(group) == 1:
                group[0].answer.set_exception(error)
            else:
                await self._one_by_one(workspace_id, lane, group)

    async def _answer(self, workspace_id: str, group: Sequence[_Call[Item, Outcome]]) -> None:
        items = [item for call in group for item in call.items]
        outcomes = iter(await self._write(workspace_id, items, any(call.tried for call in group)))
        for call in group:
            call.answer.set_result([next(outcomes) for _ in call.items])

    async def _one_by_one(
        self, workspace_id: str, lane: _Lane[Item, Outcome], group: Sequence[_Call[Item, Outcome]]
    ) -> None:
        """Something in the group cannot be written: its call fails alone, the others are written without it."""
        for place, call in enumerate(group):
            call.tried = True
            try:
                await self._answer(workspace_id, [call])
            except asyncio.CancelledError:
                self._hand_on(lane, group[place:])
                raise
            except Exception as error:
                call.answer.set_exception(error)

    @staticmethod
    def _hand_on(lane: _Lane[Item, Outcome], group: Sequence[_Call[Item, Outcome]]) -> None:
        """The caller whose turn it was is gone: whoever waits next writes the group, looking first for what is stored."""
        for call in group:
            call.tried = True
        lane.waiting[:0] = group


def _still_waiting(group: Sequence[_Call[Item, Outcome]]) -> list[_Call[Item, Outcome]]:
    """Those whose time is not up: where the database was away for long, whoever queued behind that hears it at once."""
    now = asyncio.get_running_loop().time()
    for call in group:
        if call.deadline < now:
            call.answer.set_exception(UnavailableError())
    return [call for call in group if not call.answer.done()]
