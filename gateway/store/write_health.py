"""Whether writes go through, as the traffic of this process shows; a write of its own where there is no traffic."""

import math
from collections.abc import Awaitable, Callable
from time import monotonic

from gateway.errors import UnavailableError

FRESH_SECONDS = 10.0  # for so long a write that went through says that the next one will
RETRY_SECONDS = 2.0  # after a write that failed the next probe waits so long


class WriteHealth:
    """When a write of this process last succeeded, and when one last failed through no fault of its own."""

    __slots__ = ("_failed_at", "_now", "_succeeded_at")

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._succeeded_at = self._failed_at = -math.inf

    def succeeded(self) -> None:
        """Record a write that was acknowledged."""
        self._succeeded_at = self._now()

    def failed(self) -> None:
        """Record a write that the database could not take."""
        self._failed_at = self._now()

    async def check(self, probe: Callable[[], Awaitable[None]]) -> None:
        """Pass where writes go through; UnavailableError where they do not. `probe` writes, and is called only where
        nothing that was recorded lately decides."""
        now = self._now()
        if self._failed_at > self._succeeded_at:
            if now - self._failed_at < RETRY_SECONDS:
                raise UnavailableError
        elif now - self._succeeded_at < FRESH_SECONDS:
            return
        try:
            await probe()
        except BaseException:  # also where the caller gave up waiting
            self.failed()
            raise
        self.succeeded()
