"""Inboxes: the orders in which conversations and tickets are listed, each by one text that an index can hold.

Such a text is written like an id: a prefix, a time, and what makes it unique. So the order of texts is the order of the
list, a cursor is a text, and a page of any order is read as a page by ids is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from gateway.domain.ids import Prefix, lowest_id
from gateway.domain.pages import Page
from gateway.domain.times import EARLIEST, TimeRange

_TIME_ENDS = 14  # a prefix of 4 characters, and 10 of time


def key_at(id_: str, at: datetime) -> str:
    """The text by which what has that id lies at that time, and nothing else does."""
    return lowest_id(Prefix(id_[:4]), at)[:_TIME_ENDS] + id_[_TIME_ENDS:]


def key_of_number(prefix: Prefix, number: int) -> str:
    """The text by which a number lies among others: each counts as a second, so that windows of time hold few."""
    return lowest_id(prefix, _second(number))


def numbers_up_to(number: int) -> TimeRange:
    """The range in which the texts of all numbers up to that one lie."""
    return TimeRange(end=_second(number + 1))


@dataclass(frozen=True, slots=True)
class InboxOrder:
    """One order; `key`: the field that holds its text; `within`: where every text of it lies."""

    key: str = "_id"
    descending: bool = True
    within: TimeRange = field(default_factory=TimeRange)

    def newest_first(self, asked: Page) -> Page:
        """The page as it is in a list whose highest text comes first."""
        if self.descending:
            return asked
        return replace(asked, backward=not asked.backward, after=asked.before, before=asked.after)

    def position(self, row: Mapping[str, Any]) -> str:
        """Where a row lies."""
        return str(row[self.key])


class InboxFilter(Protocol):
    """What a list shows."""

    @property
    def lists(self) -> Sequence[str]:
        """Those of which each row that is shown stands in one, and none in two."""

    @property
    def words(self) -> Sequence[str]:
        """Those of which each row that is shown has every one."""

    @property
    def judges(self) -> bool:
        """Whether of the rows in these lists only some are shown."""

    def holds(self, row: Mapping[str, Any], now: datetime) -> bool:
        """Whether a row is shown."""

    def times(self, key: str, now: datetime) -> TimeRange:
        """The range in which the texts of that order lie of all that is shown."""


def _second(number: int) -> datetime:
    return EARLIEST + timedelta(seconds=number)
