"""Retries a transaction until it is stored or cannot be."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeVar

import tenacity

from gateway.errors import UnavailableError
from gateway.store.deadlines import call_deadline, moment_in
from gateway.store.driver import ConflictError, FaultError, TransientError

BUDGET_SECONDS = 10.0
Result = TypeVar("Result")


async def retry_transaction(
    attempt: Callable[[int], Awaitable[Result]],
    turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    *,
    refusals: int | None = None,
) -> Result:
    """Retry on TransientError for up to BUDGET_SECONDS or the deadline of the call, then raise UnavailableError. `attempt` gets its number; from 2
    on it must check whether an earlier attempt was stored.

    `turn` is entered for each attempt, so others can run between two. `refusals`: after that many attempts the last
    ConflictError or FaultError is raised."""
    attempts = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=tenacity.wait_random_exponential(multiplier=0.01, max=0.5),
        stop=_is_over,
    )
    try:
        async for attempt_context in attempts:
            with attempt_context:
                async with turn():
                    return await attempt(attempt_context.retry_state.attempt_number)
            if refusals is not None:
                _check_refused(attempt_context.retry_state, refusals)
    except tenacity.RetryError as error:
        raise UnavailableError from error
    raise AssertionError("unreachable")  # pragma: no cover


def _is_over(state: tenacity.RetryCallState) -> bool:
    is_late = moment_in(state.upcoming_sleep) >= call_deadline()
    return is_late or (state.seconds_since_start or 0) >= BUDGET_SECONDS


def _check_refused(state: tenacity.RetryCallState, most: int) -> None:
    """Raise the error of the last attempt if the server refused it."""
    error = state.outcome.exception() if state.outcome is not None else None
    if state.attempt_number >= most and isinstance(error, ConflictError | FaultError):
        raise error
