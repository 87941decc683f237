"""Answers that many subscribers ask for alike: each payload is executed once, and written once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

from gateway.caches import Cache, CacheBudget, data_bytes

# Those who keep up ask within moments; what comes later is answered anew, as things are then.
_KEPT_SECONDS = 1.0
_MOST_KEPT = 4096
_TASK_BYTES = 4000  # of a task with what it works on


class SharedResults:
    """The answers of the last moments, by what was asked and by whom."""

    def __init__(self, caches: CacheBudget | None = None) -> None:
        self._kept: Cache[Hashable, asyncio.Task[Any]] = Cache(
            caches or CacheBudget(),
            lambda key, _: _TASK_BYTES + data_bytes(key),
            _MOST_KEPT,
            _KEPT_SECONDS,
            time.monotonic,
        )

    async def get(self, key: Hashable, execute: Callable[[], Awaitable[Any]]) -> Any:
        """The answer under that key, executed by whoever asks first; nobody's leaving spoils it for the others."""
        task = self._kept.get(key)
        if task is None:
            task = asyncio.ensure_future(_called(execute))
            entry = self._kept.put(key, task)
            task.add_done_callback(lambda done: entry.add(_answer_bytes(done)))
        return await asyncio.shield(task)


async def _called(execute: Callable[[], Awaitable[Any]]) -> Any:
    return await execute()


def _answer_bytes(done: asyncio.Task[Any]) -> int:
    """What an answer takes, as data and once it is written."""
    failed = done.cancelled() or done.exception() is not None
    return 0 if failed else 2 * data_bytes(getattr(done.result(), "data", None))
