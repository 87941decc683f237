"""Timers: stored work that is done once, at a given time, by any running process."""

from datetime import datetime, timedelta
from typing import TypedDict, Unpack

from gateway.core.ids import Prefix, derived_id

_FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=10)


class EventData(TypedDict, total=False):
    """The event that sets a message off. `jumped`: the count passed the rule's number before the rule was in force."""

    event_id: str
    count: int
    jumped: bool
    last_at: datetime


class TimerData(EventData, total=False):
    """What the handlers of messages and campaigns need. `after`: the last contact that a campaign has reached."""

    rule_id: str
    since: datetime | None
    contact_id: str
    after: str | None


class TimerDocument(TimerData):
    """A timer. `next_at`: when it is tried next, which is later than `due_at` after a failure."""

    _id: str
    workspace_id: str
    kind: str
    subject_id: str
    due_at: datetime
    next_at: datetime
    attempts: int


def timer_id_of(workspace_id: str, kind: str, subject_id: str, discriminator: str = "") -> str:
    """The id of a timer. `discriminator` separates timers of one kind and subject."""
    return derived_id(Prefix.TIMER, workspace_id, kind, subject_id, discriminator)


def timer_of(
    workspace_id: str,
    kind: str,
    subject_id: str,
    due_at: datetime,
    discriminator: str = "",
    **data: Unpack[TimerData],
) -> TimerDocument:
    """A timer as it is stored, with the `data` of its handler."""
    return {
        "_id": timer_id_of(workspace_id, kind, subject_id, discriminator),
        "workspace_id": workspace_id,
        "kind": kind,
        "subject_id": subject_id,
        "due_at": due_at,
        "next_at": due_at,
        "attempts": 0,
        **data,
    }


def backoff_after(attempts: int) -> timedelta:
    """The time between the starts of two attempts: from 5 s, doubling up to 10 minutes."""
    return min(_FIRST_PAUSE * (1 << min(attempts, 10)), LONGEST_PAUSE)
