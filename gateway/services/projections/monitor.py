"""Monitors how late projections are, by their stored offsets and the newest changes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from gateway.bus.bus import Bus
from gateway.core.background import run_forever
from gateway.observability import Metrics
from gateway.store.filters.segments import any_segment
from gateway.store.projection_offsets import OffsetDocument
from gateway.store.workspace_store import Store

DEFINITIONS, SEGMENTS = "definitions", "segments"
_CHECK_SECONDS = 2.0
_REMEMBERED_SECONDS = 1.0
_REBUILDING_FACTOR = 10  # one step of a rebuild may read a whole workspace
_REPEAT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How late a projection is, and how long it has not moved although changes wait."""

    lag_seconds: float
    stalled_seconds: float
    rebuilding: bool


class ProjectionMonitor:
    """Watches all projections, in every process. `stall_seconds`: until one is reported; 0: never."""

    def __init__(self, store: Store, bus: Bus, metrics: Metrics, stall_seconds: float) -> None:
        self._store = store
        self._bus = bus
        self._metrics = metrics
        self._stall_seconds = stall_seconds
        self._checked_at = float("-inf")
        self._checking = asyncio.Lock()
        self._progress: dict[str, Progress] = {}
        self._reported_at: dict[str, float] = {}
        self._log = structlog.get_logger("gateway.projections")

    async def run(self) -> None:
        problem = "projections cannot be checked"
        await run_forever(self.check, _CHECK_SECONDS, self._log, unavailable=problem, failed=problem)

    async def check(self) -> None:
        """Update the progress of all projections, at most once a second."""
        async with self._checking:
            if time.monotonic() < self._checked_at + _REMEMBERED_SECONDS:
                return
            now = await self._store.database.now()
            rows = {row["_id"]: row for row in await self._store.roll_ups.all()}
            needed: dict[str, Callable[[], Awaitable[bool]]] = {DEFINITIONS: _always, SEGMENTS: self._any_segment}
            for name, is_needed in needed.items():
                progress = self._progress_of(rows.get(name), now)
                if progress.lag_seconds and not await is_needed():
                    progress = Progress(0, 0, rebuilding=False)
                self._progress[name] = progress
                self._report(name, progress)
            self._metrics.clock_ahead.set(self._store.database.server_clock.seconds_ahead)
            self._checked_at = time.monotonic()

    def problem(self) -> str | None:
        for name, progress in self._progress.items():
            if self._is_stalled(progress):
                return (
                    f"the projection '{name}' has not advanced for {progress.stalled_seconds:.0f} s while changes wait"
                )
        return None

    def _progress_of(self, row: OffsetDocument | None, now: datetime) -> Progress:
        seconds, number = (row and row.get("position_at")) or (0, 0)
        waiting_since = self._bus.oldest_after((seconds, number))
        if waiting_since is None:
            return Progress(0, 0, rebuilding=False)
        lag = max(0.0, now.timestamp() - waiting_since)
        moved_at = row and row.get("moved_at")
        idle = lag if moved_at is None else max(0.0, (now - moved_at).total_seconds())
        return Progress(lag, min(lag, idle), bool(row and row.get("rebuilding")))

    def _is_stalled(self, progress: Progress) -> bool:
        allowed = self._stall_seconds * (_REBUILDING_FACTOR if progress.rebuilding else 1)
        return bool(self._stall_seconds) and progress.stalled_seconds >= allowed

    def _report(self, name: str, progress: Progress) -> None:
        """Set the metrics. Log a stall once a minute, and its end."""
        lags = {DEFINITIONS: self._metrics.roll_up_lag, SEGMENTS: self._metrics.segment_lag}
        lags[name].set(progress.lag_seconds)
        self._metrics.projection_stalled.labels(name).set(progress.stalled_seconds)
        reported_at = self._reported_at.get(name)
        if self._is_stalled(progress):
            if reported_at is None or time.monotonic() >= reported_at + _REPEAT_SECONDS:
                self._reported_at[name] = time.monotonic()
                seconds = round(progress.stalled_seconds)
                self._log.error("projection stalled", projection=name, seconds=seconds)
        elif reported_at is not None:
            del self._reported_at[name]
            self._log.info("projection advances again", projection=name)

    async def _any_segment(self) -> bool:
        return await any_segment(self._store.database)


async def _always() -> bool:
    return True
