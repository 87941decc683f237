"""Ranges of ids for pages and scans. Only the embedded servers need them: they read every match before they apply a limit.

MongoDB reads just the page with an indexed sort and a limit; there, one range would do."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import TypeVar

from gateway.core.ids import Prefix, id_time, lowest_id

D = TypeVar("D", bound=Mapping[str, object])
# read(low, high, limit): the rows with low <= id < high, lowest first.
Read = Callable[[str, str, int], Awaitable[list[D]]]
_WINDOWS = (timedelta(minutes=1), timedelta(minutes=30), timedelta(hours=12), timedelta(days=12))
_FIRST_SPAN = timedelta(hours=1)
_MAX_SPAN = timedelta(days=40_000)
_MIN_SPAN = timedelta(milliseconds=1)


async def scan_pages(
    read: Read[D], prefix: Prefix, low: str, high: str, size: int, field: str = "_id"
) -> AsyncIterator[list[D]]:
    """Yield the rows with ids from `low` to before `high`, page by page. Each page covers a time span that adapts: wider
    where rows are few, narrower where they are many, so that its cost depends only on its rows."""
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


def widening_windows(prefix: Prefix, low: str, high: str, oldest_first: bool, now: datetime) -> list[tuple[str, str]]:
    """The range from `low` to `high`, cut into windows that widen from the end that the page starts at."""
    if low >= high:
        return []
    start, end = id_time(low), min(id_time(high), now)  # rows later than now belong to the newest window
    window_edges = [lowest_id(prefix, start + reach if oldest_first else end - reach) for reach in _WINDOWS]
    edges = sorted({low, high, *(edge for edge in window_edges if low < edge < high)})
    pairs = list(itertools.pairwise(edges))
    return pairs if oldest_first else pairs[::-1]
