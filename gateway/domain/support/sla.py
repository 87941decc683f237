"""SLAs of conversations: by when those who answer are to have answered, and whether they did.

`due_at` is there while a reply is due. Missed once is missed for ever; a cancelled SLA stays so until another is applied.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.core.text_rules import check_text
from gateway.domain.contacts.contacts import Document
from gateway.errors import ErrorCode, UserProblem

MAX_MINUTES = 366 * 24 * 60
_TARGETS = {"first_reply_minutes": "firstReplyMinutes", "next_reply_minutes": "nextReplyMinutes"}


class SlaStatus(StrEnum):
    """How it stands with an SLA."""

    ACTIVE = "ACTIVE"
    HIT = "HIT"
    MISSED = "MISSED"
    CANCELLED = "CANCELLED"


_FINAL = frozenset({SlaStatus.MISSED, SlaStatus.CANCELLED})


def check_sla(sent: Mapping[str, Any]) -> Document:
    """A new SLA of that input; UserProblem."""
    sla: Document = {"name": check_text(sent["name"], ("name",), longest=255, named="The name")}
    for name, public in _TARGETS.items():
        minutes = sent.get(name)
        if minutes is None:
            continue
        if not 1 <= minutes <= MAX_MINUTES:
            message = f"{public} must be from 1 to {MAX_MINUTES} (a year), not {minutes}."
            raise UserProblem(ErrorCode.INVALID, message, (public,))
        sla[name] = minutes
    if len(sla) == 1:
        message = "An SLA without a target promises nothing: give firstReplyMinutes, nextReplyMinutes or both."
        raise UserProblem(ErrorCode.INVALID, message, ("firstReplyMinutes",))
    return {**sla, "status": SlaStatus.ACTIVE.value}


def waiting(sla: Document, since: datetime, *, answered: bool) -> Document:
    """The SLA once the contact waits since then; `answered`: there was a first reply before. A target under way goes on."""
    minutes = sla.get("next_reply_minutes" if answered else "first_reply_minutes")
    if minutes is None or sla["status"] in _FINAL or sla.get("due_at") is not None:
        return sla
    return {**sla, "status": SlaStatus.ACTIVE.value, "due_at": since + timedelta(minutes=minutes)}


def replied(sla: Document) -> Document:
    """The SLA once those who answer did: in time, or it is MISSED already."""
    return sla if sla.get("due_at") is None else _ended(sla, SlaStatus.HIT)


def closed(sla: Document) -> Document:
    """The SLA of a conversation that is closed: whoever waited waits no longer."""
    return sla if sla.get("due_at") is None else _ended(sla, SlaStatus.CANCELLED)


def missed(sla: Document) -> Document:
    """The SLA once the time of its target is up."""
    return {**sla, "status": SlaStatus.MISSED.value}


def target_of(sla: Mapping[str, Any] | None) -> datetime | None:
    """When an SLA that is still kept will be missed; None where nothing is due."""
    return sla.get("due_at") if sla is not None and sla["status"] == SlaStatus.ACTIVE else None


def _ended(sla: Document, status: SlaStatus) -> Document:
    kept = {name: value for name, value in sla.items() if name != "due_at"}
    return kept if sla["status"] in _FINAL else {**kept, "status": status.value}
