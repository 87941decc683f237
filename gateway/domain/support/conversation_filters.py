"""Conversation filters: parsing, the inbox lists to read, and whether a conversation matches."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, TypedDict

from gateway.core.full_text import parse_search
from gateway.core.time_ranges import TimeRange, time_range
from gateway.domain.filters.operators import Operators, case_folded, number_matches, texts_match, time_matches
from gateway.domain.support.conversations import EVERYTHING, ConversationState, assigned_list, team_list
from gateway.domain.support.documents import ConversationDocument
from gateway.domain.support.inbox_keys import InboxOrder

_TIMES: dict[str, Literal["created_at", "updated_at"]] = {"_id": "created_at", "updated_key": "updated_at"}
_EQUAL: tuple[Literal["assignee_id", "team_id"], ...] = ("assignee_id", "team_id")
_TIME_FIELDS: tuple[Literal["created_at", "updated_at", "waiting_since"], ...] = (
    "created_at",
    "updated_at",
    "waiting_since",
)


class ConversationSortKey(StrEnum):
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
    nullable = key in (ConversationSortKey.WAITING_SINCE, ConversationSortKey.SLA_DUE_AT)
    return InboxOrder(_KEYS[key], descending, nullable)


class ConversationFilterFields(TypedDict, total=False):
    """The conditions as a caller gives them; omitted ones are absent."""

    contact_id: str
    state: list[str]
    assignee_id: str
    unassigned: bool
    team_id: str
    tag: Operators
    priority: list[str]
    channel: list[str]
    rating: Operators
    created_at: Operators
    updated_at: Operators
    waiting_since: Operators
    text: str


@dataclass(frozen=True, slots=True)
class ConversationFilter:
    """Conditions, combined with AND; `words`: those of `text`."""

    fields: ConversationFilterFields
    words: tuple[str, ...] = ()

    @property
    def lists(self) -> list[str]:
        """Inbox lists that together hold every match; no conversation is in two of them."""
        assignment = None
        if "assignee_id" in self.fields or self.fields.get("unassigned"):
            assignment = assigned_list(self.fields.get("assignee_id"))
        elif "team_id" in self.fields:
            assignment = team_list(self.fields["team_id"])
        if "state" not in self.fields:
            return [assignment or EVERYTHING]
        states = [f"state:{state}" for state in ConversationState if state in self.fields["state"]]
        return states if assignment is None else [f"{state} {assignment}" for state in states]

    @property
    def needs_evaluation(self) -> bool:
        names = set(self.fields) - {"state"}
        is_in_list = len(names) == 1 and names <= {"assignee_id", "unassigned", "team_id"}
        return bool(names) and not (is_in_list and self.fields.get("unassigned", True))

    def times(self, key: str, now: datetime) -> TimeRange:
        return time_range(self.fields.get(_TIMES[key]), now) if key in _TIMES else TimeRange()

    def matches(self, row: ConversationDocument, now: datetime, *, public: bool = False) -> bool:
        """Whether a conversation matches; with `public`, only the words that its contact may see count."""
        fields = self.fields
        return (
            all(row.get(name) == fields[name] for name in _EQUAL if name in fields)
            and ("unassigned" not in fields or fields["unassigned"] == (row.get("assignee_id") is None))
            and ("state" not in fields or row["state"] in fields["state"])
            and ("priority" not in fields or row["priority"] in fields["priority"])
            and ("channel" not in fields or row["source"]["channel"] in fields["channel"])
            and (
                "rating" not in fields
                or number_matches(fields["rating"], row["rating"]["score"] if "rating" in row else None)
            )
            and ("tag" not in fields or texts_match(fields["tag"], row["tags"]))
            and all(time_matches(fields[name], row.get(name), now) for name in _TIME_FIELDS if name in fields)
            and set(self.words) <= set((row["public_words"] if public else row["words"]) if self.words else ())
        )


def parse_conversation_filter(filter_: ConversationFilterFields) -> ConversationFilter:
    """Parse a ConversationFilter; BadRequestError."""
    fields = filter_.copy()
    if "tag" in fields:
        fields["tag"] = case_folded(fields["tag"])
    words = tuple(parse_search(fields["text"], "filter.text")) if "text" in fields else ()
    return ConversationFilter(fields, words)
