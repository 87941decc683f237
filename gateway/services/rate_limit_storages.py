"""Where the windows of rate limits are counted: storages for the strategies of the library `limits`.

Its own storages do not fit: the one in memory looks at every key at every hit, and the one on MongoDB is bound to
Motor, asks three times a request, and fails where two make a counter at once on the embedded server."""

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
_AWAY_SECONDS = 5
_log = structlog.get_logger("gateway.rate_limits")


@dataclass(slots=True)
class Window:
    """What was counted since the window began, when it ends (in unix seconds), and how long it is."""

    count: int
    ends_at: float
    seconds: float


class LocalStorage(Storage):
    """The windows of this process, without a background task; the longest unused are forgotten first."""

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
        """The window that is under way: not one that began later than now, before the clock was put right."""
        window, now = self._windows.get(key), self._now()
        if window is None or now < window.ends_at <= now + window.seconds + CLOCK_TOLERANCE.total_seconds():
            return window
        self._windows.pop(key)
        return None

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the library may wrap."""
        return UnavailableError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count up in the window that is under way, or in one of `expiry` seconds that begins now; the count."""
        window = self._current(key)
        if window is None:
            window = Window(0, self._now() + expiry, expiry)
            self._windows.put(key, window)
        window.count += amount
        return window.count

    async def get(self, key: str) -> int:
        """The count of the window that is under way."""
        window = self._current(key)
        return window.count if window else 0

    async def get_expiry(self, key: str) -> float:
        """When the window that is under way ends; now where there is none."""
        window = self._current(key)
        return window.ends_at if window else self._now()

    async def check(self) -> bool:
        """Memory is there."""
        return True

    async def reset(self) -> int:
        """Forget every window; how many there were."""
        count = len(self._windows)
        self._windows.clear()
        return count

    async def clear(self, key: str) -> None:
        """Forget one window."""
        self._windows.pop(key)


class SharedStorage(LocalStorage):
    """Windows that all processes share; while the database does not answer, each goes on with what it knows."""

    def __init__(self, clock: Clock, counters: RateLimitCounters, caches: CacheBudget | None = None) -> None:
        super().__init__(clock, caches)
        self._counters = counters
        self._away_until: float | None = None

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count up for all processes, in one call to the database, or for this one alone."""
        now = self._clock()
        away = self._away_until
        if away is not None and now.timestamp() < away <= now.timestamp() + _AWAY_SECONDS:
            return await super().incr(key, expiry, amount)
        if away is not None:
            self._away_until = now.timestamp() + _AWAY_SECONDS  # this call alone tries again
        try:
            count, ends_at = await self._counters.add(key, amount, now, timedelta(seconds=expiry))
        except UnavailableError as error:
            self._lost(now, error)
            return await super().incr(key, expiry, amount)
        if away is not None:
            self._found()
        self._windows.put(key, Window(count, ends_at.timestamp(), expiry))
        return count

    def _lost(self, now: datetime, error: UnavailableError) -> None:
        if self._away_until is None:
            reason = repr(error.__cause__)
            _log.warning("rate limits are counted by each process: the database does not answer", reason=reason)
        self._away_until = now.timestamp() + _AWAY_SECONDS

    def _found(self) -> None:
        _log.info("rate limits are counted together again")
        self._away_until = None
