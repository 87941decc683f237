"""Inboxes: the orders in which conversations and tickets are listed, each by one text that an index can hold.

Such a text is written like an id: a prefix, a time or what stands for none, and what makes it unique. So the order of
texts is the order of the list, and a cursor is a text.

Of what stands in a list one in 32 stands in a second, sparse one too, of these again one in 32 in a third, and so on:
whoever looks for one end of a list, wherever it lies, finds it by few rows of each, and never reads the whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from gateway.core.ids import Prefix, lowest_id
from gateway.core.pagination import Page
from gateway.core.time_ranges import EARLIEST, TimeRange
from gateway.domain.contacts.contacts import Document

RATIO = 32  # an id ends in one of so many characters, by chance
LEVELS = 3  # of sparse lists: enough for some millions in one list
_CHANCE = "0"
_TIME_BEGINS, _TIME_ENDS = 4, 14  # a prefix of 4 characters, and 10 of time
_EARLIEST, _LOWEST, _HIGHEST = "0", "!", "~"  # the first that a time begins with, and what lies around them all


def sort_key(id_: str, at: datetime | None) -> str:
    """The text by which what has that id lies at that time, and nothing else does; without one above all others."""
    if at is None:
        return id_[:_TIME_BEGINS] + _HIGHEST + id_[_TIME_BEGINS:]
    return lowest_id(Prefix(id_[:_TIME_BEGINS]), at)[:_TIME_ENDS] + id_[_TIME_ENDS:]


def key_of_number(prefix: Prefix, number: int) -> str:
    """The text by which a number lies among others."""
    return lowest_id(prefix, EARLIEST + timedelta(seconds=number))


def with_sparse(id_: str, lists: Sequence[str]) -> list[str]:
    """These lists, and the sparse ones of them in which what has that id stands too."""
    levels = min(LEVELS, len(id_) - len(id_.rstrip(_CHANCE)))
    return [sparse(one, level) for level in range(levels + 1) for one in lists]


def sparse(list_: str, level: int) -> str:
    """The sparse list of that level; 0: the list itself."""
    return f"{list_}^{level}" if level else list_


@dataclass(frozen=True, slots=True)
class InboxOrder:
    """One order; `key`: the field that holds its text; `nullable`: some have no time there, and come last either way."""

    key: str = "_id"
    descending: bool = True
    nullable: bool = False

    def newest_first(self, asked: Page) -> Page:
        """The page as it is in a list whose highest position comes first."""
        if self.descending:
            return asked
        return replace(asked, backward=not asked.backward, after=asked.before, before=asked.after)

    def position(self, row: Mapping[str, Any]) -> str:
        """Where a row lies: by its text, but for what has no time and comes last."""
        text = str(row.get(self.key, row["_id"]))  # what an older version wrote has none until it is migrated
        if self._reversed and text[_TIME_BEGINS] == _HIGHEST:
            return text[:_TIME_BEGINS] + _LOWEST + text[_TIME_BEGINS + 1 :]
        return text

    def cut(self, rows: Sequence[Document], place: Page) -> list[Document]:
        """The rows of a page, of which the highest position comes first, among those in hand."""
        kept = [
            row
            for row in rows
            if (place.after is None or self.position(row) < place.after)
            and (place.before is None or self.position(row) > place.before)
        ]
        return sorted(kept, key=self.position, reverse=not place.backward)[: place.limit]

    def ranges(self, prefix: Prefix, place: Page, times: TimeRange) -> list[tuple[str, str]]:
        """Where the rows of a page lie whose highest position comes first: each from one text to before another."""
        low, high = f"{prefix}{_LOWEST}", f"{prefix}{_HIGHEST}{_HIGHEST}"
        if times != TimeRange():
            low, high = lowest_id(prefix, times.start), lowest_id(prefix, times.end)
        if place.after is not None:
            high = min(high, place.after)
        if place.before is not None:
            low = max(low, beyond(place.before))
        found = [(low, high)]
        if self._reversed:
            timed = f"{prefix}{_EARLIEST}"
            found = [(max(low, timed), min(high, f"{prefix}{_HIGHEST}")), (_stored(low), _stored(min(high, timed)))]
        return [(start, end) for start, end in found if start < end]

    @property
    def _reversed(self) -> bool:
        return self.nullable and self.descending


def beyond(text: str) -> str:
    """What lies right above a text, and below all others that lie above it."""
    return text + _LOWEST


class InboxFilter(Protocol):
    """What a list shows."""

    @property
    def lists(self) -> Sequence[str]:
        """Those of which each row that is shown stands in one, and none in two."""

    @property
    def words(self) -> Sequence[str]:
        """Those of which each row that is shown has every one."""

    @property
    def needs_evaluation(self) -> bool:
        """Whether of the rows in these lists only some are shown."""

    def matches(self, row: Mapping[str, Any], now: datetime) -> bool:
        """Whether a row is shown."""

    def times(self, key: str, now: datetime) -> TimeRange:
        """The range in which the texts of that order lie of all that is shown."""


def _stored(position: str) -> str:
    """The text of what has no time, by its position at the end of a list; above them all for any other position."""
    after = position[_TIME_BEGINS + 1 :] if position[_TIME_BEGINS] == _LOWEST else _HIGHEST
    return position[:_TIME_BEGINS] + _HIGHEST + after
