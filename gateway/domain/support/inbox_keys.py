"""Inbox keys: sortable text keys for the orders of conversations and tickets, and sparse lists to find a page fast.

A key looks like an id: prefix, time (or a placeholder), and a unique rest. Its order is the order of the list, and a
cursor is a key.

One in 32 rows of a list is also in a sparse list, one in 32 of those in a sparser one, and so on (like a skip list).
So the end of a page is found with a few rows of each level, without reading the whole list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from gateway.core.ids import Prefix, lowest_id
from gateway.core.pagination import Page
from gateway.core.time_ranges import EARLIEST, TimeRange
from gateway.domain.support.documents import ConversationDocument, TicketDocument

R = TypeVar("R", bound=Mapping[str, object])
Row_contra = TypeVar("Row_contra", ConversationDocument, TicketDocument, contravariant=True)
RATIO = 32  # the size of the alphabet of an id's random last characters
LEVELS = 3  # of sparse lists: enough for millions of rows in one list
_CHANCE = "0"
_TIME_START, _TIME_END = 4, 14  # 4 characters of prefix, then 10 of time
_EARLIEST, _LOWEST, _HIGHEST = "0", "!", "~"  # the first character of any time, and bounds below and above all


def sort_key(id_: str, at: datetime | None) -> str:
    """A unique, sortable key for this id at this time; without a time it sorts after all others."""
    if at is None:
        return id_[:_TIME_START] + _HIGHEST + id_[_TIME_START:]
    return lowest_id(Prefix(id_[:_TIME_START]), at)[:_TIME_END] + id_[_TIME_END:]


def key_of_number(prefix: Prefix, number: int) -> str:
    return lowest_id(prefix, EARLIEST + timedelta(seconds=number))


def with_sparse(id_: str, lists: Sequence[str]) -> list[str]:
    """The lists, and those of their sparse lists that hold this id too."""
    levels = min(LEVELS, len(id_) - len(id_.rstrip(_CHANCE)))
    return [sparse(list_, level) for level in range(levels + 1) for list_ in lists]


def sparse(list_: str, level: int) -> str:
    """The name of a list's sparse list of that level; level 0 is the list itself."""
    return f"{list_}^{level}" if level else list_


@dataclass(frozen=True, slots=True)
class InboxOrder:
    """An order; `key`: the field with its key; `nullable`: some rows have no time and come last in both directions."""

    key: str = "_id"
    descending: bool = True
    nullable: bool = False

    def newest_first(self, page: Page) -> Page:
        """The same page in terms of a list with the highest position first."""
        if self.descending:
            return page
        return replace(page, backward=not page.backward, after=page.before, before=page.after)

    def position(self, row: Mapping[str, object]) -> str:
        """The row's position: its key, changed so that rows without a time come last."""
        key = str(row.get(self.key, row["_id"]))  # rows of an older version have no key until they are migrated
        if self._moves_nulls and key[_TIME_START] == _HIGHEST:
            return key[:_TIME_START] + _LOWEST + key[_TIME_START + 1 :]
        return key

    def cut(self, rows: Sequence[R], page: Page) -> list[R]:
        """The rows of a (newest-first) page, sorted, out of rows in any order."""
        between = [
            row
            for row in rows
            if (page.after is None or self.position(row) < page.after)
            and (page.before is None or self.position(row) > page.before)
        ]
        return sorted(between, key=self.position, reverse=not page.backward)[: page.limit]

    def ranges(self, prefix: Prefix, page: Page, times: TimeRange) -> list[tuple[str, str]]:
        """The key ranges of a (newest-first) page, the highest first; each includes its start and not its end."""
        low, high = f"{prefix}{_LOWEST}", f"{prefix}{_HIGHEST}{_HIGHEST}"
        if times != TimeRange():
            low, high = lowest_id(prefix, times.start), lowest_id(prefix, times.end)
        if page.after is not None:
            high = min(high, page.after)
        if page.before is not None:
            low = max(low, beyond(page.before))
        ranges = [(low, high)]
        if self._moves_nulls:
            timed = f"{prefix}{_EARLIEST}"
            ranges = [(max(low, timed), min(high, f"{prefix}{_HIGHEST}")), (_stored(low), _stored(min(high, timed)))]
        return [(start, end) for start, end in ranges if start < end]

    @property
    def _moves_nulls(self) -> bool:
        return self.nullable and self.descending


def beyond(text: str) -> str:
    """The key right above a key: below all greater keys."""
    return text + _LOWEST


class InboxFilter(Protocol[Row_contra]):
    @property
    def lists(self) -> Sequence[str]:
        """Inbox lists that together hold every match; no row is in two of them."""

    @property
    def words(self) -> Sequence[str]:
        """Words that every match contains."""

    @property
    def needs_evaluation(self) -> bool:
        """Whether the lists also hold rows that do not match."""

    def matches(self, row: Row_contra, now: datetime) -> bool: ...

    def times(self, key: str, now: datetime) -> TimeRange: ...


def _stored(position: str) -> str:
    # The stored key of a row without a time, from its position at the end of a list; any other position: above all keys.
    rest = position[_TIME_START + 1 :] if position[_TIME_START] == _LOWEST else _HIGHEST
    return position[:_TIME_START] + _HIGHEST + rest
