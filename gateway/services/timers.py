"""Timers that go off: each once, whatever the number of processes, and also what was due while none was up.

A handler does its work in one transaction, in which it takes the timer (`store.timers.take`): whoever comes second finds
that it is taken, and nothing of what it did is stored.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from gateway.core.clock import Clock
from gateway.domain.contacts.contacts import Document
from gateway.errors import UnavailableError
from gateway.store.deadlines import answered_by, moment_in
from gateway.store.timers import TimerTakenError, bring_forward, claim_timer, timers_due
from gateway.store.workspace_store import Store

Handler = Callable[[Document], Awaitable[None]]
_AGAIN_SECONDS = 0.5
_PATIENCE_SECONDS = 20.0
_AT_ONCE = 8
_MOST_READ = 5000
_LOOK_SECONDS = 30.0


class TimerService:
    """Fires timers; `run` in every process that works in the background."""

    def __init__(self, store: Store, clock: Clock, handlers: Mapping[str, Handler]) -> None:
        """`handlers`, by kind: timers of other kinds are left to processes that know them."""
        self._store = store
        self._clock = clock
        self._handlers = handlers
        self._looked_at = float("-inf")
        self._log = structlog.get_logger("gateway.timers")

    async def run(self) -> None:
        """Fire what is due, until cancelled."""
        while True:
            try:
                await self._bring_forward()
                await self.fire_due()
            except UnavailableError as error:
                self._log.warning("timers wait for the database", reason=str(error))
            except Exception:
                self._log.exception("timers could not be read")
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _bring_forward(self) -> None:
        """Now and then look for timers that a wrong clock put off."""
        if time.monotonic() >= self._looked_at + _LOOK_SECONDS:
            self._looked_at = time.monotonic()
            if count := await bring_forward(self._store.database, self._clock()):
                self._log.warning("timers that a wrong clock put off are tried now", count=count)

    async def fire_due(self) -> int:
        """Fire all that is due now; how many timers this process fired. What fails is tried again later."""
        fired, now_fired, at_once = 0, 1, asyncio.Semaphore(_AT_ONCE)
        while now_fired:
            due = await timers_due(self._store.database, self._handlers.keys(), self._clock(), _MOST_READ)
            groups = [self._fire_in_order(timers, at_once) for timers in _by_subject(due)]
            now_fired = sum(await asyncio.gather(*groups))
            fired += now_fired
        return fired

    async def _fire_in_order(self, timers: Sequence[Document], at_once: asyncio.Semaphore) -> int:
        async with at_once:
            return sum([await self._fire(timer) for timer in timers])

    async def _fire(self, timer: Document) -> bool:
        """Whether this process fired it."""
        told = {name: timer[name] for name in ("kind", "subject_id", "attempts")}
        try:
            if not await claim_timer(self._store.database, timer, self._clock()):
                return False
            async with answered_by(moment_in(_PATIENCE_SECONDS)):
                await self._handlers[timer["kind"]](timer)
        except TimerTakenError:
            return False
        except UnavailableError as error:
            self._log.warning("a timer is tried again later", reason=str(error), **told)
            return False
        except Exception:
            self._log.exception("a timer failed and is tried again later", **told)
            return False
        return True


def _by_subject(timers: Sequence[Document]) -> list[list[Document]]:
    """Those of one subject together, in the order in which they were due."""
    groups: dict[tuple[str, str], list[Document]] = {}
    for timer in timers:
        groups.setdefault((timer["workspace_id"], timer["subject_id"]), []).append(timer)
    return list(groups.values())
