"""Timers: stored work that is done once, at a given time, by any running process."""

from datetime import datetime, timedelta
from typing import Any

from gateway.core.ids import Prefix, derived_id

Document = dict[str, Any]
_FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=10)


def timer_id_of(workspace_id: str, kind: str, subject_id: str, discriminator: str = "") -> str:
    """The id of a timer. `discriminator` separates timers of one kind and subject."""
    return derived_id(Prefix.TIMER, workspace_id, kind, subject_id, discriminator)


def timer_of(
    workspace_id: str, kind: str, subject_id: str, due_at: datetime, discriminator: str = "", **data: Any
) -> Document:
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
