"""One deadline for a call, whatever it waits for: a turn, a group, attempts, the database, its limits, its credential."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar, copy_context

import pymongo

from gateway.errors import UnavailableError

# Of the time that is left. The driver must have given up when its task is cancelled: where both meet, PyMongo's pool of
# connections may keep its lock for ever (asyncio.wait_for forgets who holds it, on Python 3.11).
_DRIVERS_SHARE = 0.8
_OUTER: ContextVar[Context | None] = ContextVar("gateway_outer_context", default=None)


@asynccontextmanager
async def answered_by(moment: float) -> AsyncIterator[None]:
    """End what is done within at that moment of the loop's clock: UnavailableError. What was being written is stored or
    not; the call finds out that is sent again with the same idempotency key."""
    left = moment - asyncio.get_running_loop().time()
    if left <= 0:
        raise UnavailableError
    outer = _OUTER.set(copy_context())
    try:
        async with asyncio.timeout_at(moment) as deadline:
            with pymongo.timeout(_DRIVERS_SHARE * left):
                yield
    except TimeoutError:
        if deadline.expired():
            raise UnavailableError from None
        raise
    finally:
        _OUTER.reset(outer)


def moment_in(seconds: float) -> float:
    """The moment of the loop's clock that is so far away."""
    return asyncio.get_running_loop().time() + seconds


def context_without_deadline() -> Context:
    """The context for a task that goes on when the call is answered."""
    return _OUTER.get() or copy_context()
