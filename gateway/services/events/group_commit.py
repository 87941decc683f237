"""Group commit: calls that arrive while a transaction is under way share the next one, each with results of its own.

Without it, calls on one contact or one name would write the same documents at the same time, and all but one would
have to try again; so it is what keeps hot contacts fast, beside saving transactions.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from gateway.errors import UnavailableError
from gateway.store.deadlines import answered_by, context_without_deadline
from gateway.store.driver import ConflictError, FaultError
from gateway.store.retries import BUDGET_SECONDS

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
LARGEST_GROUP = 1000
_MOST_TURNS = 8  # turns may be long, and those who wait want their answer
_QUIET_TURNS = 2  # of the loop in which nobody arrived: so many a request takes from its socket to here
_ASIDE_SECONDS = 0.2  # until what conflicts is tried again
_MOST_FAULTS = 3  # in a row: then it is no call's own fault


@dataclass(slots=True, eq=False)
class _Call(Generic[Item, Outcome]):
    """One caller's items; `tried` once they may have been stored by an attempt whose end nobody saw."""

    items: Sequence[Item]
    answer: asyncio.Future[list[Outcome]]
    deadline: float
    context: Context
    was_attempted: bool = False
    retry_at: float = 0.0


Calls = list[_Call[Item, Outcome]]


class _WorkspaceQueue(Generic[Item, Outcome]):
    """The calls of one workspace: one group at a time is being written, the others wait."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting: Calls[Item, Outcome] = []
        self.aside: Calls[Item, Outcome] = []  # another transaction holds what they write
        self.writer: asyncio.Task[None] | None = None

    async def gather(self) -> None:
        """Let those join who arrive at this moment: small groups cost nearly what large ones do."""
        quiet, before = 0, 0
        for _ in range(_MOST_TURNS):
            if quiet == _QUIET_TURNS or sum(len(call.items) for call in self.waiting) >= LARGEST_GROUP:
                return
            quiet, before = (0 if len(self.waiting) > before else quiet + 1), len(self.waiting)
            await asyncio.sleep(0)

    def next_group(self) -> Calls[Item, Outcome]:
        """The calls that waited longest, up to the size of a group, but at least one."""
        taken = _fitting(self.waiting)
        group, self.waiting = self.waiting[:taken], self.waiting[taken:]
        return group

    def leave(self, call: _Call[Item, Outcome]) -> None:
        """Forget a call: its caller is gone, or answered."""
        for calls in (self.waiting, self.aside):
            if call in calls:
                calls.remove(call)


class GroupCommit(Generic[Item, Outcome]):
    """Calls `write(workspace_id, items, tried)` with the items of many calls; it gives one outcome per item, in order.

    `key`: of what an item writes: where another transaction holds that, items with other keys are written without it.
    A caller waits for `patience` seconds at most, or leaves before: what is being written then is written to its end."""

    def __init__(
        self,
        write: Callable[[str, Sequence[Item], bool], Awaitable[list[Outcome]]],
        key: Callable[[Item], Hashable],
        patience: float = BUDGET_SECONDS,
    ) -> None:
        self._write = write
        self._key = key
        self._patience = patience
        self._lanes: WeakValueDictionary[str, _WorkspaceQueue[Item, Outcome]] = WeakValueDictionary()

    async def submit(self, workspace_id: str, items: Sequence[Item]) -> list[Outcome]:
        """One outcome per item, in order, once they are stored."""
        lane = self._lanes.setdefault(workspace_id, _WorkspaceQueue())
        loop = asyncio.get_running_loop()
        call: _Call[Item, Outcome] = _Call(
            items, loop.create_future(), loop.time() + self._patience, context_without_deadline()
        )
        lane.waiting.append(call)
        self._go_on(workspace_id, lane)
        try:
            return await call.answer
        finally:
            lane.leave(call)
            if not call.answer.cancelled():
                call.answer.exception()  # seen, also where the caller is gone

    @asynccontextmanager
    async def turn(self, workspace_id: str) -> AsyncIterator[None]:
        """A turn of one's own for another kind of write, so that it meets no group of this process."""
        lane = self._lanes.setdefault(workspace_id, _WorkspaceQueue())
        async with lane.turn:
            yield

    def _go_on(self, workspace_id: str, lane: _WorkspaceQueue[Item, Outcome]) -> None:
        """Write what waits, unless that is under way: in a task of its own, which goes on where its first caller leaves.
        Half of a transaction would have to be undone, and the next group would meet its locks."""
        if lane.writer is None and (calls := lane.waiting or lane.aside):
            writing = self._write_next(workspace_id, lane)
            lane.writer = asyncio.get_running_loop().create_task(writing, context=calls[0].context)

    async def _write_next(self, workspace_id: str, lane: _WorkspaceQueue[Item, Outcome]) -> None:
        """Write a group of those that wait, and those aside that are due; then see to it that the others are written."""
        try:
            async with lane.turn:
                await lane.gather()
                if lane.aside:
                    self._set_aside(lane)
                await self._write_group(workspace_id, lane, lane.next_group())
                if lane.aside:
                    now = asyncio.get_running_loop().time()
                    await self._write_apart(workspace_id, lane, [call for call in lane.aside if call.retry_at <= now])
        finally:
            lane.writer = None
        if lane.waiting:
            self._go_on(workspace_id, lane)
        elif lane.aside:
            asyncio.get_running_loop().call_later(_ASIDE_SECONDS, self._go_on, workspace_id, lane)

    async def _write_group(
        self, workspace_id: str, lane: _WorkspaceQueue[Item, Outcome], group: Calls[Item, Outcome]
    ) -> None:
        group = _still_waiting(group)
        if not group:
            return
        try:
            await self._write_calls(workspace_id, group)
        except (ConflictError, FaultError) as error:
            for call in group:
                call.was_attempted = True
            if isinstance(error, FaultError) and len(group) == 1:
                _refuse(group, error)
            else:
                await self._write_apart(workspace_id, lane, group)
        except UnavailableError as error:
            _refuse(group, error)
        except Exception as error:
            if len(group) == 1:
                _refuse(group, error)
            else:
                await self._one_by_one(workspace_id, group)

    async def _write_calls(self, workspace_id: str, group: Calls[Item, Outcome]) -> None:
        items = [item for call in group for item in call.items]
        tried = any(call.was_attempted for call in group)
        async with answered_by(max(call.deadline for call in group)):
            outcomes = iter(await self._write(workspace_id, items, tried))
        for call in group:
            own = [next(outcomes) for _ in call.items]
            if not call.answer.done():
                call.answer.set_result(own)

    async def _write_apart(
        self, workspace_id: str, lane: _WorkspaceQueue[Item, Outcome], calls: Calls[Item, Outcome]
    ) -> None:
        """Write those together that write the same: what the server has against some must not stop the others."""
        faults = 0
        for part in self._parts(_still_waiting(calls)):
            if faults == _MOST_FAULTS:
                _refuse(part, FaultError())
                continue
            try:
                await self._write_calls(workspace_id, part)
                faults = 0
            except ConflictError:
                retry_at = asyncio.get_running_loop().time() + _ASIDE_SECONDS
                for call in part:
                    call.retry_at = retry_at
                lane.aside += [call for call in part if call not in lane.aside and not call.answer.done()]
            except FaultError as error:
                _refuse(part, error)
                faults += 1
            except UnavailableError as error:
                _refuse(part, error)
            except Exception:
                await self._one_by_one(workspace_id, part)

    async def _one_by_one(self, workspace_id: str, group: Calls[Item, Outcome]) -> None:
        """Something in the group cannot be written: its call fails alone, the others are written without it."""
        for call in group:
            call.was_attempted = True
            try:
                await self._write_calls(workspace_id, [call])
            except Exception as error:
                _refuse([call], error)

    def _set_aside(self, lane: _WorkspaceQueue[Item, Outcome]) -> None:
        """Let no call join the next group that writes what another transaction holds, as far as that is known."""
        lane.aside = _still_waiting(lane.aside)
        held = {key for call in lane.aside if len(keys := self._keys(call)) == 1 for key in keys}
        joining = [call for call in lane.waiting if not held.isdisjoint(self._keys(call))]
        for call in joining:
            lane.waiting.remove(call)
            call.retry_at = max(other.retry_at for other in lane.aside)
        lane.aside += joining

    def _parts(self, calls: Calls[Item, Outcome]) -> list[Calls[Item, Outcome]]:
        """The calls, together where they write the same, in parts of the size of a group."""
        alike: dict[frozenset[Hashable], Calls[Item, Outcome]] = {}
        for call in calls:
            alike.setdefault(self._keys(call), []).append(call)
        parts = []
        for left in alike.values():
            while left:
                taken = _fitting(left)
                parts.append(left[:taken])
                del left[:taken]
        return parts

    def _keys(self, call: _Call[Item, Outcome]) -> frozenset[Hashable]:
        return frozenset(self._key(item) for item in call.items)


def _fitting(calls: Calls[Item, Outcome]) -> int:
    """How many of the calls, from the first on, fit into a group: at least one."""
    size, fitting = 0, 0
    for call in calls:
        size += len(call.items)
        if fitting and size > LARGEST_GROUP:
            break
        fitting += 1
    return fitting


def _refuse(calls: Calls[Item, Outcome], error: Exception) -> None:
    for call in calls:
        if not call.answer.done():
            call.answer.set_exception(error)


def _still_waiting(group: Calls[Item, Outcome]) -> Calls[Item, Outcome]:
    """Those that are not answered, and have time left."""
    now = asyncio.get_running_loop().time()
    _refuse([call for call in group if call.deadline < now], UnavailableError())
    return [call for call in group if not call.answer.done()]
