"""How a transaction is tried until it is known to be stored or known to be impossible."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import tenacity

from gateway.errors import UnavailableError
from gateway.store.driver import TransientError

BUDGET_SECONDS = 10.0
Result = TypeVar("Result")


async def until_stored(attempt: Callable[[int], Awaitable[Result]]) -> Result:
    """The result of the first attempt that goes through; each is told its number, from 1, and from the second on looks
    first for what an earlier one may have stored. UnavailableError once the time for it is up."""
    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=tenacity.wait_random_exponential(multiplier=0.01, max=0.5),
        stop=tenacity.stop_after_delay(BUDGET_SECONDS),
    )
    try:
        async for turn in retrying:
            with turn:
                return await attempt(turn.retry_state.attempt_number)
    except tenacity.RetryError as error:
        raise UnavailableError from error
    raise AssertionError("unreachable")  # pragma: no cover
