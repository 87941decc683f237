"""Answers that many subscribers ask for alike: each payload is executed once, and written once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

from cachetools import TTLCache

# Those who keep up ask within moments; what comes later is answered anew, as things are then.
_KEPT_SECONDS = 1.0
_MOST_KEPT = 4096


class SharedAnswers:
    """The answers of the last moments, by what was asked and by whom."""

    def __init__(self) -> None:
        self._kept: TTLCache[Hashable, asyncio.Task[Any]] = TTLCache(_MOST_KEPT, _KEPT_SECONDS, timer=time.monotonic)

    async def get(self, key: Hashable, execute: Callable[[], Awaitable[Any]]) -> Any:
        """The answer under that key, executed by whoever asks first; nobody's leaving spoils it for the others."""
        task = self._kept.get(key)
        if task is None:
            task = self._kept[key] = asyncio.ensure_future(_called(execute))
        return await asyncio.shield(task)


async def _called(execute: Callable[[], Awaitable[Any]]) -> Any:
    return await execute()
