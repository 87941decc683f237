"""The documents of message rules, of what they sent, and of campaigns."""

from datetime import datetime
from typing import NotRequired, TypedDict

from gateway.domain.filters.documents import StoredFilter


class CheckedRule(TypedDict):
    """What a save sets of a rule. `n`: the number, days or minutes of the trigger."""

    name: str
    enabled: bool
    trigger: str
    n: int | None
    segment_id: str | None
    event: str | None
    audience: StoredFilter | None
    metadata: list[StoredFilter] | None
    subject: str | None
    body: str
    max_per_contact: int | None


class MessageRuleDocument(CheckedRule):
    """`since`: the contacts' progress counts from then."""

    _id: str
    workspace_id: str
    since: datetime
    created_at: datetime
    updated_at: datetime
    version: int


class RuleStateDocument(TypedDict):
    """How far a contact has come towards a rule (`since`, `count`), or what the rule sent to it (`count`, `last_for`).

    `last_for`: the time of the last event that a message was sent for."""

    _id: str
    rule_id: str
    contact_id: str
    workspace_id: NotRequired[str]
    since: NotRequired[datetime]
    count: NotRequired[int]
    last_for: NotRequired[datetime | None]


class SentCountDocument(TypedDict):
    """A part of the number of messages that a rule sent."""

    _id: str
    workspace_id: str
    count: int


class CampaignDocument(TypedDict):
    _id: str
    workspace_id: str
    segment_id: str
    subject: str | None
    body: str
    recipients: int
    created_at: datetime
