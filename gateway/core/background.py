"""Background work: a step that is repeated until it is cancelled, whatever fails meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable

from structlog.typing import FilteringBoundLogger

from gateway.errors import UnavailableError


async def run_forever(
    step: Callable[[], Awaitable[float | None]],
    pause: float,
    log: FilteringBoundLogger,
    *,
    unavailable: str,
    failed: str,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Call `step` again and again; it may return how many seconds to wait, instead of `pause`.

    `unavailable`: what to log while the database is away; `failed`: what to log with any other error."""
    while True:
        seconds = None
        try:
            seconds = await step()
        except UnavailableError as error:
            log.warning(unavailable, reason=str(error))
        except Exception:
            log.exception(failed)
        await sleep(pause if seconds is None else seconds)
