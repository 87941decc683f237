"""Reads a collection in id order, page by page; the cost of a page depends only on its rows."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

from gateway.core.ids import Prefix, id_time, lowest_id
from gateway.store.repositories import D

# read(low, high, limit): the rows with low <= id < high, lowest first.
Read = Callable[[str, str, int], Awaitable[list[D]]]
_FIRST_SPAN = timedelta(hours=1)
_MAX_SPAN = timedelta(days=40_000)
_MIN_SPAN = timedelta(milliseconds=1)


async def scan_pages(
    read: Read[D], prefix: Prefix, low: str, high: str, size: int, field: str = "_id"
) -> AsyncIterator[list[D]]:
    """Yield the rows with ids from `low` to before `high`. The embedded servers read every match before they apply a
    limit, so each page covers a time span that adapts: wider where rows are few, narrower where they are many."""
    span = _FIRST_SPAN
    while low < high:
        end = min(high, lowest_id(prefix, id_time(low) + span))
        rows = await read(low, end, size)
        if rows:
            yield rows
        if len(rows) < size:
            low, span = end, min(span * 4, _MAX_SPAN)
            continue
        last = str(rows[-1][field])
        span = max(2 * (id_time(last) - id_time(str(rows[0][field]))), _MIN_SPAN)
        low = last + "0"  # no id sorts between the two
