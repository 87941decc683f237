"""One deadline per call, for everything that it waits for: locks, groups, attempts, the database, rate limits."""

import asyncio
import math
from contextvars import Context, ContextVar, Token, copy_context
from types import TracebackType

import pymongo

from gateway.errors import UnavailableError

# While the driver looks for a server it checks its time twice a second, so it gets up to a second less.
_DRIVER_SHARE, _DRIVER_LAG_SECONDS = 0.8, 1.0
_Call = tuple[float, Context | None]  # the deadline, and the context from before it was set
_CALL: ContextVar[_Call] = ContextVar("gateway_call", default=(math.inf, None))


class answered_by:  # noqa: N801 - used like the context managers of the standard library
    """Set the deadline of a call, a time of the loop's clock. Waits within raise UnavailableError by then.

    What was being written may or may not be stored; a repetition with the same idempotency key finds out. Nothing is
    cancelled: each wait checks the deadline. A task that is cancelled while the driver times out may leave one of
    PyMongo's locks locked forever (asyncio.wait_for loses its holder on Python 3.11)."""

    __slots__ = ("_call", "_driver", "_moment")

    def __init__(self, moment: float) -> None:
        self._moment = moment

    def __enter__(self) -> None:
        seconds = self._moment - asyncio.get_running_loop().time()
        if seconds <= 0:
            raise UnavailableError
        self._call: Token[_Call] = _CALL.set((min(self._moment, call_deadline()), copy_context()))
        self._driver = pymongo.timeout(max(_DRIVER_SHARE * seconds, seconds - _DRIVER_LAG_SECONDS))
        self._driver.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._driver.__exit__(kind, error, traceback)
        _CALL.reset(self._call)


async def acquire(lock: asyncio.Lock, seconds: float = math.inf) -> None:
    """Acquire the lock within these seconds and the deadline of the call, or raise UnavailableError."""
    if not lock.locked():
        await lock.acquire()
        return
    try:
        async with asyncio.timeout_at(min(call_deadline(), moment_in(seconds))):
            await lock.acquire()
    except TimeoutError:
        raise UnavailableError from None


def call_deadline() -> float:
    """The deadline of the running call; infinite without one."""
    return _CALL.get()[0]


def moment_in(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def context_without_deadline() -> Context:
    """The context for a task that continues after the call is answered."""
    return _CALL.get()[1] or copy_context()
