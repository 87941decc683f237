"""Totals: how many rows a list has, counted only on request."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from gateway.core.pagination import Connection, R
from gateway.errors import BadRequestError
from resolvers.context import Context

LARGEST_TOTAL = 10_000
Counter = Callable[[int], Awaitable[int | None]]


def counted(connection: Connection[R], counter: Counter) -> Connection[R]:
    """A connection with a `counter` that counts its rows up to a number."""
    return {**connection, "counter": counter}


async def total_count(parents: Sequence[Connection[R]], up_to: int, context: Context) -> list[int | None]:
    """None if counting would take too long."""
    if not 1 <= up_to <= LARGEST_TOTAL:
        raise BadRequestError(f"'upTo' must be from 1 to {LARGEST_TOTAL}, not {up_to}.")
    return list(await asyncio.gather(*(parent["counter"](up_to) for parent in parents)))
