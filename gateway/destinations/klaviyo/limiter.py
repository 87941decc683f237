"""Klaviyo's rate windows, shared by all processes: nine tenths of them are used, of history's deliveries half."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from gateway.core.clock import Clock
from gateway.destinations.klaviyo.client import Operation
from gateway.destinations.klaviyo.responses import Response
from gateway.domain.deliveries import Queue
from gateway.store.quotas import Quotas

_SHARES = {Queue.LIVE: 0.9, Queue.BACKFILL: 0.5}
_SOON = timedelta(seconds=1.2)
_RECHECK_SECONDS = timedelta(seconds=1)
_UNREPORTED_SECONDS = 10  # how long to wait after a 429 that does not say


class Limiter:
    """What one workspace may ask Klaviyo for."""

    def __init__(self, quotas: Quotas, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._quotas = quotas
        self._clock = clock
        self._sleep = sleep
        self._steady: dict[str, int] = {}
        self._heard_at: dict[str, datetime] = {}

    async def take(self, operation: Operation, wanted: int, queue: Queue) -> tuple[int, datetime]:
        """How many of these requests may be sent now, and when more may be: what is free within a second is waited for."""
        while True:
            granted, again_at = await self._take(operation, wanted, queue)
            waits = again_at - self._clock()
            if granted or waits > _SOON:
                return granted, again_at
            await self._sleep(max(0.02, waits.total_seconds()))

    async def record_response(self, operation: Operation, answer: Response) -> None:
        """Believe what an answer tells of the windows."""
        now = self._clock()
        if answer.status == 429 or answer.retry_after is not None:
            seconds = answer.retry_after or _UNREPORTED_SECONDS
            await self._quotas.close(operation.name, now + timedelta(seconds=seconds))
        quota, heard_at = answer.quota, self._heard_at.get(operation.name)
        if quota is not None and (heard_at is None or abs(now - heard_at) > _RECHECK_SECONDS):
            self._heard_at[operation.name] = now
            self._steady[operation.name] = quota.limit
            until = now + timedelta(seconds=min(60, max(1, quota.reset_seconds)))
            await self._quotas.correct(operation.name, quota.limit - quota.remaining, quota.limit, until, now)

    async def _take(self, operation: Operation, wanted: int, queue: Queue) -> tuple[int, datetime]:
        now, share = self._clock(), _SHARES[queue]
        steady = self._steady.get(operation.name, operation.steady)
        limits = (max(1, int(operation.burst * share)), max(1, int(steady * share)))
        row = await self._quotas.take(operation.name, wanted, limits, now)
        if row["granted"]:
            return row["granted"], now
        if row["closed_until"] > now:
            return 0, row["closed_until"]
        return 0, row["steady_until"] if row["steady"] >= limits[1] else row["burst_until"]
