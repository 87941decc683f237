"""Whether writes succeed, from this process's own traffic; with a probe when there is none."""

import math
from collections.abc import Awaitable, Callable
from time import monotonic

from gateway.errors import UnavailableError

FRESH_SECONDS = 10.0  # a successful write counts for this long
RETRY_SECONDS = 2.0  # pause before the next probe after a failure


class WriteHealth:
    """When a write last succeeded, and when one last failed because of the database."""

    __slots__ = ("_failed_at", "_now", "_succeeded_at")

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._succeeded_at = self._failed_at = -math.inf

    def succeeded(self) -> None:
        self._succeeded_at = self._now()

    def failed(self) -> None:
        self._failed_at = self._now()

    async def check(self, probe: Callable[[], Awaitable[None]]) -> None:
        """Pass, or raise UnavailableError. `probe` writes; it is called if no recent write decides."""
        now = self._now()
        if self._failed_at > self._succeeded_at:
            if now - self._failed_at < RETRY_SECONDS:
                raise UnavailableError
        elif now - self._succeeded_at < FRESH_SECONDS:
            return
        try:
            await probe()
        except BaseException:  # also if the caller gave up
            self.failed()
            raise
        self.succeeded()
