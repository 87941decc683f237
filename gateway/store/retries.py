"""How a transaction is tried until it is known to be stored or known to be impossible."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeVar

import tenacity

from gateway.errors import UnavailableError
from gateway.store.driver import ConflictError, FaultError, TransientError

BUDGET_SECONDS = 10.0
Result = TypeVar("Result")


async def retry_transaction(
    attempt: Callable[[int], Awaitable[Result]],
    turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    *,
    refusals: int | None = None,
) -> Result:
    """The result of the first attempt that goes through; each is told its number, from 1, and from the second on looks
    first for what an earlier one may have stored. UnavailableError once the time for it is up.

    Each attempt waits for a `turn` of its own: who has to wait for others gives it back meanwhile. `refusals`: after so
    many attempts the ConflictError or FaultError of the last one is raised."""
    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=tenacity.wait_random_exponential(multiplier=0.01, max=0.5),
        stop=tenacity.stop_after_delay(BUDGET_SECONDS),
    )
    try:
        async for number in retrying:
            with number:
                async with turn():
                    return await attempt(number.retry_state.attempt_number)
            if refusals is not None:
                _check_refused(number.retry_state, refusals)
    except tenacity.RetryError as error:
        raise UnavailableError from error
    raise AssertionError("unreachable")  # pragma: no cover


def _check_refused(state: tenacity.RetryCallState, most: int) -> None:
    """Pass unless the server refused the last of that many attempts."""
    error = state.outcome.exception() if state.outcome is not None else None
    if state.attempt_number >= most and isinstance(error, ConflictError | FaultError):
        raise error
