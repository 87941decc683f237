"""Klaviyo's rate limits, shared by all processes: live deliveries use nine tenths of them, backfills half."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from gateway.core.clock import Clock
from gateway.destinations.klaviyo.client import Operation
from gateway.destinations.klaviyo.rate_window_repository import RateWindows
from gateway.destinations.klaviyo.responses import Response
from gateway.outbox.deliveries import Queue

_SHARES = {Queue.LIVE: 0.9, Queue.BACKFILL: 0.5}
_SOON = timedelta(seconds=1.2)
_RECHECK_SECONDS = timedelta(seconds=1)
_UNREPORTED_SECONDS = 10  # after a 429 without Retry-After


class Limiter:
    def __init__(
        self, windows: RateWindows, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._windows = windows
        self._clock = clock
        self._sleep = sleep
        self._steady: dict[str, int] = {}
        self._reported_at: dict[str, datetime] = {}

    async def take(self, operation: Operation, count: int, queue: Queue) -> tuple[int, datetime]:
        """How many requests may be sent now (0 to `count`), and when more may be. Waits for up to about a second."""
        while True:
            granted, retry_at = await self._take(operation, count, queue)
            wait = retry_at - self._clock()
            if granted or wait > _SOON:
                return granted, retry_at
            await self._sleep(max(0.02, wait.total_seconds()))

    async def record_response(self, operation: Operation, response: Response) -> None:
        """Adjust the limits to what a response reports."""
        now = self._clock()
        if response.status == 429 or response.retry_after is not None:
            seconds = response.retry_after or _UNREPORTED_SECONDS
            await self._windows.close(operation.name, now + timedelta(seconds=seconds))
        quota, reported_at = response.quota, self._reported_at.get(operation.name)
        if quota is not None and (reported_at is None or abs(now - reported_at) > _RECHECK_SECONDS):
            self._reported_at[operation.name] = now
            self._steady[operation.name] = quota.limit
            until = now + timedelta(seconds=min(60, max(1, quota.reset_seconds)))
            await self._windows.correct(operation.name, quota.limit - quota.remaining, quota.limit, until, now)

    async def _take(self, operation: Operation, count: int, queue: Queue) -> tuple[int, datetime]:
        now, share = self._clock(), _SHARES[queue]
        steady = self._steady.get(operation.name, operation.steady)
        limits = (max(1, int(operation.burst * share)), max(1, int(steady * share)))
        row = await self._windows.take(operation.name, count, limits, now)
        if row["granted"]:
            return row["granted"], now
        if row["closed_until"] > now:
            return 0, row["closed_until"]
        return 0, row["steady_until"] if row["steady"] >= limits[1] else row["burst_until"]
