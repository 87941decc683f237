"""Ticket filters: the inbox lists to read, and whether a ticket matches."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from gateway.core.time_ranges import TimeRange, time_range
from gateway.domain.filters.operators import Operators, time_matches
from gateway.domain.support.documents import TicketDocument
from gateway.domain.support.inbox_keys import InboxOrder
from gateway.domain.support.tickets import FACETS, list_key

_TIMES = {"_id": "created_at", "updated_key": "updated_at"}


class TicketSortKey(StrEnum):
    UPDATED_AT = "UPDATED_AT"
    CREATED_AT = "CREATED_AT"
    NUMBER = "NUMBER"


_KEYS = {
    TicketSortKey.UPDATED_AT: "updated_key",
    TicketSortKey.CREATED_AT: "_id",
    TicketSortKey.NUMBER: "number_key",
}


def order_of(key: TicketSortKey, *, descending: bool) -> InboxOrder:
    return InboxOrder(_KEYS[key], descending)


@dataclass(frozen=True, slots=True)
class TicketCondition:
    """The conditions of a TicketFilter, without the contact: one contact's tickets are few and read in another way.

    `words_in`: the field to match words with; contacts and teammates have different ones."""

    state: Sequence[str] | None = None
    category: Sequence[str] | None = None
    type_id: str | None = None
    assignee_id: str | None = None
    team_id: str | None = None
    unassigned: bool | None = None
    is_shared: bool | None = None
    created_at: Operators = field(default_factory=dict)
    updated_at: Operators = field(default_factory=dict)
    words: Sequence[str] = ()
    words_in: Literal["words", "public_words"] = "words"

    @property
    def lists(self) -> list[str]:
        """Inbox lists that together hold every match; no ticket is in two of them."""
        facet, values = self._facets()[0]
        states = [""] if self.state is None else sorted(set(self.state))
        return [list_key(facet, value, state) for value in values for state in states]

    @property
    def needs_evaluation(self) -> bool:
        unlisted = (self.is_shared is not None, self.unassigned is False, self.words, self.created_at, self.updated_at)
        return len(self._facets()) > 2 or any(unlisted)

    def matches(self, row: TicketDocument, now: datetime) -> bool:
        named = ("type_id", "assignee_id", "team_id", "is_shared")
        return (
            (self.state is None or row["state"] in self.state)
            and (self.category is None or row["category"] in self.category)
            and all(getattr(self, name) in (None, row.get(name)) for name in named)
            and self.unassigned in (None, row.get("assignee_id") is None)
            and time_matches(self.created_at, row["created_at"], now)
            and time_matches(self.updated_at, row["updated_at"], now)
            and set(self.words) <= set(row[self.words_in])
        )

    def times(self, key: str, now: datetime) -> TimeRange:
        return time_range(getattr(self, _TIMES[key]), now) if key in _TIMES else TimeRange()

    def match(self, now: datetime) -> dict[str, dict[str, object]]:
        """The same conditions as a MongoDB query, for use when another index selects the tickets."""
        match: dict[str, dict[str, object]] = {}
        for name in ("state", "category"):
            if getattr(self, name) is not None:
                match[name] = {"$in": sorted(set(getattr(self, name)))}
        for name in ("type_id", "assignee_id", "team_id", "is_shared"):
            if getattr(self, name) is not None:
                match[name] = {"$eq": getattr(self, name)}
        if self.unassigned is not None:
            match.setdefault("assignee_id", {})["$exists"] = not self.unassigned
        for name in ("created_at", "updated_at"):
            if getattr(self, name):
                times = time_range(getattr(self, name), now)
                match[name] = {"$gte": times.start, "$lt": times.end}
        if self.words:
            match[self.words_in] = {"$all": list(self.words)}
        return match

    def _facets(self) -> list[tuple[str, Sequence[str]]]:
        # The facets that the filter uses, with their values; the most selective first.
        values: dict[str, Sequence[str]] = {"any": [""]}
        for name in ("assignee_id", "team_id", "type_id"):
            if getattr(self, name) is not None:
                values[name] = [getattr(self, name)]
        if self.unassigned:
            values["unassigned"] = [""]
        if self.category is not None:
            values["category"] = sorted(set(self.category))
        return [(name, values[name]) for name in FACETS if name in values]
