"""All rows of a collection in the order of their ids, page by page, each at the cost of what it holds."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

from gateway.core.ids import Prefix, id_time, lowest_id
from gateway.store.driver import Document

# Which rows lie from one id to before another one, the lowest ids first, up to so many.
Read = Callable[[str, str, int], Awaitable[list[Document]]]
_FIRST = timedelta(hours=1)
_WIDEST = timedelta(days=40_000)
_NARROWEST = timedelta(milliseconds=1)


async def scan_pages(
    read: Read, prefix: Prefix, low: str, high: str, size: int, field: str = "_id"
) -> AsyncIterator[list[Document]]:
    """Every row whose id lies from `low` to before `high`. The embedded servers read all that a filter finds before they
    cut it off, so each page looks at as much time as the one before it needed: wider where little lies, else narrower."""
    span = _FIRST
    while low < high:
        end = min(high, lowest_id(prefix, id_time(low) + span))
        rows = await read(low, end, size)
        if rows:
            yield rows
        if len(rows) < size:
            low, span = end, min(span * 4, _WIDEST)
            continue
        last = str(rows[-1][field])
        span = max(2 * (id_time(last) - id_time(str(rows[0][field]))), _NARROWEST)
        low = last + "0"  # no id lies between one and itself with a character more
