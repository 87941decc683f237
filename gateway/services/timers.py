"""Fires stored timers: each once, whatever the number of processes, and overdue ones after a restart.

A handler works in one transaction, in which it takes the timer (`store.timers.take`). A second process finds the
timer taken, and its transaction is rolled back.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from gateway.core.background import run_forever
from gateway.core.clock import Clock
from gateway.core.timers import TimerDocument
from gateway.errors import UnavailableError
from gateway.store.deadlines import answered_by, moment_in
from gateway.store.timers import TimerTakenError, claim_timer, reset_postponed_timers, timers_due
from gateway.store.workspace_store import Store

Handler = Callable[[TimerDocument], Awaitable[None]]
_POLL_SECONDS = 0.5
_TIMEOUT_SECONDS = 20.0
_AT_ONCE = 8
_MAX_READ = 5000
_LOOK_SECONDS = 30.0


class TimerService:
    """Fires timers; `run` runs in every background worker."""

    def __init__(self, store: Store, clock: Clock, handlers: Mapping[str, Handler]) -> None:
        """`handlers` are by kind; timers of other kinds are left alone."""
        self._store = store
        self._clock = clock
        self._handlers = handlers
        self._looked_at = float("-inf")
        self._log = structlog.get_logger("gateway.timers")

    async def run(self) -> None:
        await run_forever(
            self._step,
            _POLL_SECONDS,
            self._log,
            unavailable="timers wait for the database",
            failed="timers could not be read",
        )

    async def _step(self) -> None:
        await self._fix_postponed()
        await self.fire_due()

    async def _fix_postponed(self) -> None:
        if time.monotonic() >= self._looked_at + _LOOK_SECONDS:
            self._looked_at = time.monotonic()
            if count := await reset_postponed_timers(self._store.database, self._clock()):
                self._log.warning("timers postponed by a wrong clock are fired now", count=count)

    async def fire_due(self) -> int:
        """Fire all timers that are due; returns how many this process fired. A timer that fails is retried later."""
        fired, now_fired, at_once = 0, 1, asyncio.Semaphore(_AT_ONCE)
        while now_fired:
            due = await timers_due(self._store.database, self._handlers.keys(), self._clock(), _MAX_READ)
            groups = [self._fire_in_order(timers, at_once) for timers in _by_subject(due)]
            now_fired = sum(await asyncio.gather(*groups))
            fired += now_fired
        return fired

    async def _fire_in_order(self, timers: Sequence[TimerDocument], at_once: asyncio.Semaphore) -> int:
        async with at_once:
            return sum([await self._fire(timer) for timer in timers])

    async def _fire(self, timer: TimerDocument) -> bool:
        log_fields = {"kind": timer["kind"], "subject_id": timer["subject_id"], "attempts": timer["attempts"]}
        try:
            if not await claim_timer(self._store.database, timer, self._clock()):
                return False
            with answered_by(moment_in(_TIMEOUT_SECONDS)):
                await self._handlers[timer["kind"]](timer)
        except TimerTakenError:
            return False
        except UnavailableError as error:
            self._log.warning("timer will be retried", reason=str(error), **log_fields)
            return False
        except Exception:
            self._log.exception("timer failed and will be retried", **log_fields)
            return False
        return True


def _by_subject(timers: Sequence[TimerDocument]) -> list[list[TimerDocument]]:
    groups: dict[tuple[str, str], list[TimerDocument]] = {}
    for timer in timers:
        groups.setdefault((timer["workspace_id"], timer["subject_id"]), []).append(timer)
    return list(groups.values())
