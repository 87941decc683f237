"""One deadline for a call, whatever it waits for: a turn, a group commit, retries, the database, its rate limit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar, copy_context

import pymongo

from gateway.errors import UnavailableError

# Share of the time left. The driver must give up before its task is cancelled: if both happen at once, PyMongo's
# connection pool may stay locked for ever (asyncio.wait_for loses the lock's holder on Python 3.11).
_DRIVERS_SHARE = 0.8
_OUTER_CONTEXT: ContextVar[Context | None] = ContextVar("gateway_outer_context", default=None)


@asynccontextmanager
async def answered_by(moment: float) -> AsyncIterator[None]:
    """Cancel the body at that moment of the loop's clock: UnavailableError. A write may or may not be stored; a retry
    with the same idempotency key finds out."""
    seconds_left = moment - asyncio.get_running_loop().time()
    if seconds_left <= 0:
        raise UnavailableError
    reset_token = _OUTER_CONTEXT.set(copy_context())
    try:
        async with asyncio.timeout_at(moment) as deadline:
            with pymongo.timeout(_DRIVERS_SHARE * seconds_left):
                yield
    except TimeoutError:
        if deadline.expired():
            raise UnavailableError from None
        raise
    finally:
        _OUTER_CONTEXT.reset(reset_token)


def moment_in(seconds: float) -> float:
    """The moment of the loop's clock in that many seconds."""
    return asyncio.get_running_loop().time() + seconds


def context_without_deadline() -> Context:
    """The context for a task that outlives the call."""
    return _OUTER_CONTEXT.get() or copy_context()
