"""Storages that count the windows of rate limits, for the strategies of the library `limits`.

Its own storages do not fit: the one in memory scans every key at each hit; the one for MongoDB needs Motor, makes
three calls per request, and fails on the embedded server when two processes create a counter at once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from limits.aio.storage import Storage

from gateway.caches import Cache, CacheBudget, text_bytes
from gateway.core.clock import Clock
from gateway.core.leases import CLOCK_TOLERANCE
from gateway.errors import UnavailableError
from gateway.store.rate_limits import RateLimitCounters

_MOST_WINDOWS = 100_000
_WINDOW_BYTES = 150
_LOCAL_SECONDS = 5
_log = structlog.get_logger("gateway.rate_limits")


@dataclass(slots=True)
class Window:
    """A counter, its end in unix seconds, and its length in seconds."""

    count: int
    ends_at: float
    seconds: float


class LocalStorage(Storage):
    """The windows of this process, without a background task. The least recently used are dropped first."""

    STORAGE_SCHEME = None

    def __init__(self, clock: Clock, caches: CacheBudget | None = None) -> None:
        super().__init__()
        self._clock = clock
        self._windows: Cache[str, Window] = Cache(
            caches or CacheBudget(), lambda key, _: _WINDOW_BYTES + text_bytes(key), _MOST_WINDOWS
        )

    def _now(self) -> float:
        return self._clock().timestamp()

    def _current(self, key: str) -> Window | None:
        """The current window; None if it ended, or if the clock was set back since it began."""
        window, now = self._windows.get(key), self._now()
        if window is None or now < window.ends_at <= now + window.seconds + CLOCK_TOLERANCE.total_seconds():
            return window
        self._windows.pop(key)
        return None

    @property
    def base_exceptions(self) -> type[Exception]:
        """The errors that the library may wrap."""
        return UnavailableError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to the current window, or start one of `expiry` seconds; returns the count."""
        window = self._current(key)
        if window is None:
            window = Window(0, self._now() + expiry, expiry)
            self._windows.put(key, window)
        window.count += amount
        return window.count

    def state(self, key: str) -> tuple[int, float]:
        """The count of the current window, and its end in unix seconds; 0 and now if there is none."""
        window = self._current(key)
        return (window.count, window.ends_at) if window else (0, self._now())

    async def get(self, key: str) -> int:
        return self.state(key)[0]

    async def get_expiry(self, key: str) -> float:
        """The end of the current window in unix seconds; now if there is none."""
        return self.state(key)[1]

    async def check(self) -> bool:
        """Memory is always available."""
        return True

    async def reset(self) -> int:
        """Drop every window; returns how many there were."""
        count = len(self._windows)
        self._windows.clear()
        return count

    async def clear(self, key: str) -> None:
        self._windows.pop(key)


class SharedStorage(LocalStorage):
    """Windows that all processes share; while the database is unavailable each process counts alone."""

    def __init__(self, clock: Clock, counters: RateLimitCounters, caches: CacheBudget | None = None) -> None:
        super().__init__(clock, caches)
        self._counters = counters
        self._local_until: float | None = None

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count for all processes in one database call, or locally while the database is unavailable."""
        now = self._clock()
        local_until = self._local_until
        if local_until is not None and now.timestamp() < local_until <= now.timestamp() + _LOCAL_SECONDS:
            return await super().incr(key, expiry, amount)
        if local_until is not None:
            self._local_until = now.timestamp() + _LOCAL_SECONDS  # only this call tries the database
        try:
            count, ends_at = await self._counters.add(key, amount, now, timedelta(seconds=expiry))
        except UnavailableError as error:
            self._switch_to_local(now, error)
            return await super().incr(key, expiry, amount)
        if local_until is not None:
            self._switch_to_shared()
        self._windows.put(key, Window(count, ends_at.timestamp(), expiry))
        return count

    def _switch_to_local(self, now: datetime, error: UnavailableError) -> None:
        if self._local_until is None:
            reason = repr(error.__cause__)
            _log.warning("rate limits are counted per process: the database does not respond", reason=reason)
        self._local_until = now.timestamp() + _LOCAL_SECONDS

    def _switch_to_shared(self) -> None:
        _log.info("rate limits are shared again")
        self._local_until = None
