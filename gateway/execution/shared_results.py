"""Results that subscribers share: each payload is executed and encoded once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

from gateway.caches import Cache, CacheBudget, data_bytes

# Subscribers that keep up ask within moments. Later ones get a fresh result.
_CACHE_SECONDS = 1.0
_MAX_RESULTS = 4096
_TASK_BYTES = 4000  # of a task and its data


class SharedResults:
    """The results of the last second, by the key that the caller gives."""

    def __init__(self, caches: CacheBudget | None = None) -> None:
        self._tasks: Cache[Hashable, asyncio.Task[Any]] = Cache(
            caches or CacheBudget(),
            lambda key, _: _TASK_BYTES + data_bytes(key),
            _MAX_RESULTS,
            _CACHE_SECONDS,
            time.monotonic,
        )

    async def get(self, key: Hashable, execute: Callable[[], Awaitable[Any]]) -> Any:
        """Return the result for a key; the first caller executes it. Cancelling one caller does not affect the others."""
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.ensure_future(_call(execute))
            entry = self._tasks.put(key, task)
            task.add_done_callback(lambda done: entry.add(_result_bytes(done)))
        return await asyncio.shield(task)


async def _call(execute: Callable[[], Awaitable[Any]]) -> Any:
    return await execute()


def _result_bytes(done: asyncio.Task[Any]) -> int:
    failed = done.cancelled() or done.exception() is not None
    return 0 if failed else 2 * data_bytes(getattr(done.result(), "data", None))
