"""Group commit: calls that arrive during a transaction share the next one; each gets its own results.

Otherwise concurrent calls on one contact or event name would conflict, and all but one would have to retry.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from gateway.errors import UnavailableError
from gateway.store.deadlines import acquire, answered_by, call_deadline, context_without_deadline
from gateway.store.driver import ConflictError, FaultError
from gateway.store.retries import BUDGET_SECONDS

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
LARGEST_GROUP = 1000
_MOST_TURNS = 8  # a turn may be long, and callers wait
_QUIET_TURNS = 2  # turns of the loop without a new call: a request takes this many from its socket to here
_DEFER_SECONDS = 0.2  # until a conflicting call is retried
_MOST_FAULTS = 3  # in a row: then the server is at fault, not a call


@dataclass(slots=True, eq=False)
class _Call(Generic[Item, Outcome]):
    """`was_attempted`: an attempt with an unknown outcome may have stored the items."""

    items: Sequence[Item]
    future: asyncio.Future[list[Outcome]]
    deadline: float
    context: Context
    was_attempted: bool = False
    retry_at: float = 0.0


Calls = list[_Call[Item, Outcome]]


class _WorkspaceQueue(Generic[Item, Outcome]):
    """The calls of one workspace. One group at a time is written."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting: Calls[Item, Outcome] = []
        self.deferred: Calls[Item, Outcome] = []  # another transaction locks what they write
        self.group: Calls[Item, Outcome] = []  # being written
        self.writer: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def gather(self) -> None:
        """Wait a few turns of the loop for more calls: small groups cost nearly what large ones do."""
        quiet, before = 0, 0
        for _ in range(_MOST_TURNS):
            if quiet == _QUIET_TURNS or sum(len(call.items) for call in self.waiting) >= LARGEST_GROUP:
                return
            quiet, before = (0 if len(self.waiting) > before else quiet + 1), len(self.waiting)
            await asyncio.sleep(0)

    def next_group(self) -> Calls[Item, Outcome]:
        """Take the oldest calls: at least one, up to the size of a group."""
        size = _count_fitting(self.waiting)
        self.group, self.waiting = self.waiting[:size], self.waiting[size:]
        return self.group

    def watch(self, deadline: float) -> None:
        """Refuse calls at their deadlines, by one timer for all: hardly any call is late."""
        if self._expiry is not None:
            if self._expiry.when() <= deadline:
                return
            self._expiry.cancel()
        self._expiry = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        if calls := _still_waiting([*self.group, *self.waiting, *self.deferred]):
            self.watch(min(call.deadline for call in calls))

    def leave(self, call: _Call[Item, Outcome]) -> None:
        for calls in (self.waiting, self.deferred):
            if call in calls:
                calls.remove(call)


class GroupCommit(Generic[Item, Outcome]):
    """Calls `write(workspace_id, items, was_attempted)`, which returns one outcome per item, in order.

    `key`: what an item writes; if another transaction locks it, items with other keys go on. A caller waits for
    `patience` seconds at most. A caller that leaves does not stop a running write.
    """

    def __init__(
        self,
        write: Callable[[str, Sequence[Item], bool], Awaitable[list[Outcome]]],
        key: Callable[[Item], Hashable],
        patience: float = BUDGET_SECONDS,
    ) -> None:
        self._write = write
        self._key = key
        self._patience = patience
        self._queues: WeakValueDictionary[str, _WorkspaceQueue[Item, Outcome]] = WeakValueDictionary()

    async def submit(self, workspace_id: str, items: Sequence[Item]) -> list[Outcome]:
        """Return one outcome per item, in order, once they are stored."""
        queue = self._queues.setdefault(workspace_id, _WorkspaceQueue())
        loop = asyncio.get_running_loop()
        deadline = min(loop.time() + self._patience, call_deadline())
        call: _Call[Item, Outcome] = _Call(items, loop.create_future(), deadline, context_without_deadline())
        queue.waiting.append(call)
        self._start_writer(workspace_id, queue)
        queue.watch(deadline)
        try:
            return await call.future
        finally:
            queue.leave(call)
            if not call.future.cancelled():
                call.future.exception()  # retrieved, so that asyncio does not warn if the caller left

    @asynccontextmanager
    async def turn(self, workspace_id: str) -> AsyncIterator[None]:
        """Exclude groups of this workspace in this process while another kind of write runs."""
        queue = self._queues.setdefault(workspace_id, _WorkspaceQueue())
        await acquire(queue.turn)
        try:
            yield
        finally:
            queue.turn.release()

    def _start_writer(self, workspace_id: str, queue: _WorkspaceQueue[Item, Outcome]) -> None:
        """The writer is a task of its own, so that it survives its first caller: an aborted transaction would still
        hold locks."""
        if queue.writer is None and (calls := queue.waiting or queue.deferred):
            writing = self._write_next(workspace_id, queue)
            queue.writer = asyncio.get_running_loop().create_task(writing, context=calls[0].context)

    async def _write_next(self, workspace_id: str, queue: _WorkspaceQueue[Item, Outcome]) -> None:
        """Write a group of waiting calls, and the deferred calls that are due."""
        try:
            async with queue.turn:
                await queue.gather()
                if queue.deferred:
                    self._defer_conflicting(queue)
                await self._write_group(workspace_id, queue, queue.next_group())
                if queue.deferred:
                    now = asyncio.get_running_loop().time()
                    await self._write_by_keys(
                        workspace_id, queue, [call for call in queue.deferred if call.retry_at <= now]
                    )
        finally:
            queue.writer = None
        if queue.waiting:
            self._start_writer(workspace_id, queue)
        elif queue.deferred:
            asyncio.get_running_loop().call_later(_DEFER_SECONDS, self._start_writer, workspace_id, queue)

    async def _write_group(
        self, workspace_id: str, queue: _WorkspaceQueue[Item, Outcome], group: Calls[Item, Outcome]
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
                await self._write_by_keys(workspace_id, queue, group)
        except UnavailableError as error:
            _refuse(group, error)
        except Exception as error:
            if len(group) == 1:
                _refuse(group, error)
            else:
                await self._write_singly(workspace_id, group)

    async def _write_calls(self, workspace_id: str, group: Calls[Item, Outcome]) -> None:
        items = [item for call in group for item in call.items]
        was_attempted = any(call.was_attempted for call in group)
        with answered_by(max(call.deadline for call in group)):
            outcomes = iter(await self._write(workspace_id, items, was_attempted))
        for call in group:
            call_outcomes = [next(outcomes) for _ in call.items]
            if not call.future.done():
                call.future.set_result(call_outcomes)

    async def _write_by_keys(
        self, workspace_id: str, queue: _WorkspaceQueue[Item, Outcome], calls: Calls[Item, Outcome]
    ) -> None:
        """Write calls with equal keys together, so that a failure does not stop the others."""
        faults = 0
        for part in self._parts_by_keys(_still_waiting(calls)):
            if faults == _MOST_FAULTS:
                _refuse(part, FaultError())
                continue
            try:
                await self._write_calls(workspace_id, part)
                faults = 0
            except ConflictError:
                retry_at = asyncio.get_running_loop().time() + _DEFER_SECONDS
                for call in part:
                    call.retry_at = retry_at
                queue.deferred += [call for call in part if call not in queue.deferred and not call.future.done()]
            except FaultError as error:
                _refuse(part, error)
                faults += 1
            except UnavailableError as error:
                _refuse(part, error)
            except Exception:
                await self._write_singly(workspace_id, part)

    async def _write_singly(self, workspace_id: str, group: Calls[Item, Outcome]) -> None:
        for call in group:
            call.was_attempted = True
            try:
                await self._write_calls(workspace_id, [call])
            except Exception as error:
                _refuse([call], error)

    def _defer_conflicting(self, queue: _WorkspaceQueue[Item, Outcome]) -> None:
        queue.deferred = _still_waiting(queue.deferred)
        locked_keys = {key for call in queue.deferred if len(call_keys := self._keys(call)) == 1 for key in call_keys}
        conflicting = [call for call in queue.waiting if not locked_keys.isdisjoint(self._keys(call))]
        for call in conflicting:
            queue.waiting.remove(call)
            call.retry_at = max(deferred_call.retry_at for deferred_call in queue.deferred)
        queue.deferred += conflicting

    def _parts_by_keys(self, calls: Calls[Item, Outcome]) -> list[Calls[Item, Outcome]]:
        calls_by_keys: dict[frozenset[Hashable], Calls[Item, Outcome]] = {}
        for call in calls:
            calls_by_keys.setdefault(self._keys(call), []).append(call)
        parts = []
        for remaining in calls_by_keys.values():
            while remaining:
                size = _count_fitting(remaining)
                parts.append(remaining[:size])
                del remaining[:size]
        return parts

    def _keys(self, call: _Call[Item, Outcome]) -> frozenset[Hashable]:
        return frozenset(self._key(item) for item in call.items)


def _count_fitting(calls: Calls[Item, Outcome]) -> int:
    size, count = 0, 0
    for call in calls:
        size += len(call.items)
        if count and size > LARGEST_GROUP:
            break
        count += 1
    return count


def _refuse(calls: Calls[Item, Outcome], error: Exception) -> None:
    for call in calls:
        if not call.future.done():
            call.future.set_exception(error)


def _still_waiting(group: Calls[Item, Outcome]) -> Calls[Item, Outcome]:
    now = asyncio.get_running_loop().time()
    _refuse([call for call in group if call.deadline <= now], UnavailableError())
    return [call for call in group if not call.future.done()]
