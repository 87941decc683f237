"""Filters of conversations: what is asked, which lists of the index hold it, and whether a conversation is so."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from gateway.core.full_text import parse_search
from gateway.core.time_ranges import TimeRange, time_range
from gateway.domain.filters.operators import case_folded, number_matches, texts_match, time_matches
from gateway.domain.support.conversations import EVERYTHING, ConversationState, assigned_list, team_list
from gateway.domain.support.inbox_keys import InboxOrder

_TIMES = {"_id": "created_at", "updated_key": "updated_at"}


class ConversationSortKey(StrEnum):
    """What conversations are sorted by."""

    UPDATED_AT = "UPDATED_AT"
    CREATED_AT = "CREATED_AT"
    WAITING_SINCE = "WAITING_SINCE"
    SLA_DUE_AT = "SLA_DUE_AT"


_KEYS = {
    ConversationSortKey.UPDATED_AT: "updated_key",
    ConversationSortKey.CREATED_AT: "_id",
    ConversationSortKey.WAITING_SINCE: "waiting_key",
    ConversationSortKey.SLA_DUE_AT: "due_key",
}


def order_of(key: ConversationSortKey, *, descending: bool) -> InboxOrder:
    """That order of a list."""
    nullable = key in (ConversationSortKey.WAITING_SINCE, ConversationSortKey.SLA_DUE_AT)
    return InboxOrder(_KEYS[key], descending, nullable)


@dataclass(frozen=True, slots=True)
class ConversationFilter:
    """Conditions, ANDed. `asked`: as sent, in snake_case without what was omitted; `words`: of `text`."""

    fields: Mapping[str, Any]
    words: tuple[str, ...] = ()

    @property
    def lists(self) -> list[str]:
        """The lists that together hold every conversation that is asked for, each of them in one of these alone."""
        whose = None
        if "assignee_id" in self.fields or self.fields.get("unassigned"):
            whose = assigned_list(self.fields.get("assignee_id"))
        elif "team_id" in self.fields:
            whose = team_list(self.fields["team_id"])
        if "state" not in self.fields:
            return [whose or EVERYTHING]
        states = [f"state:{state}" for state in ConversationState if state in self.fields["state"]]
        return states if whose is None else [f"{state} {whose}" for state in states]

    @property
    def needs_evaluation(self) -> bool:
        """Whether those lists hold others too."""
        whose = set(self.fields) - {"state"}
        told = len(whose) == 1 and whose <= {"assignee_id", "unassigned", "team_id"}
        return bool(whose) and not (told and self.fields.get("unassigned", True))

    def times(self, key: str, now: datetime) -> TimeRange:
        """The range of the time that a list is sorted by."""
        return time_range(self.fields.get(_TIMES[key]), now) if key in _TIMES else TimeRange()

    def matches(self, row: Mapping[str, Any], now: datetime, *, public: bool = False) -> bool:
        """Whether a conversation is so; `public`: told by what its contact may know."""
        asked = self.fields
        return (
            all(row.get(name) == asked[name] for name in ("assignee_id", "team_id") if name in asked)
            and ("unassigned" not in asked or asked["unassigned"] == (row.get("assignee_id") is None))
            and ("state" not in asked or row["state"] in asked["state"])
            and ("priority" not in asked or row["priority"] in asked["priority"])
            and ("channel" not in asked or row["source"]["channel"] in asked["channel"])
            and ("rating" not in asked or number_matches(asked["rating"], (row.get("rating") or {}).get("score")))
            and ("tag" not in asked or texts_match(asked["tag"], row["tags"]))
            and all(
                time_matches(asked[name], row.get(name), now)
                for name in ("created_at", "updated_at", "waiting_since")
                if name in asked
            )
            and set(self.words) <= set(row["public_words" if public else "words"] if self.words else ())
        )


def parse_conversation_filter(sent: Mapping[str, Any]) -> ConversationFilter:
    """The filter sent; BadRequestError."""
    asked: dict[str, Any] = dict(sent)
    if "tag" in asked:
        asked["tag"] = case_folded(asked["tag"])
    words = tuple(parse_search(asked["text"], "filter.text")) if "text" in asked else ()
    return ConversationFilter(asked, words)
