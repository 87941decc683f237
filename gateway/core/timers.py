"""Timers: what is to be done at a moment, once, whichever process is up then."""

from datetime import datetime, timedelta
from typing import Any

from gateway.core.ids import Prefix, derived_id

Document = dict[str, Any]
_FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=10)


def timer_id_of(workspace_id: str, kind: str, subject_id: str, discriminator: str = "") -> str:
    """The id of the one timer of that kind and subject; `discriminator` tells apart those of which it has several."""
    return derived_id(Prefix.TIMER, workspace_id, kind, subject_id, discriminator)


def timer_of(
    workspace_id: str, kind: str, subject_id: str, due_at: datetime, discriminator: str = "", **data: Any
) -> Document:
    """The timer as it is stored: due at that moment, with what its handler is to know beside the subject's id."""
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
    """How long after it began an attempt is left alone before somebody else begins the next one: ever longer."""
    return min(_FIRST_PAUSE * (1 << min(attempts, 10)), LONGEST_PAUSE)
