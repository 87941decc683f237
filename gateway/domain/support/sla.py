"""SLAs of conversations: until when a reply is due, and whether it came in time.

`due_at` is set while a reply is due. MISSED and CANCELLED are final until another SLA is applied.
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
    ACTIVE = "ACTIVE"
    HIT = "HIT"
    MISSED = "MISSED"
    CANCELLED = "CANCELLED"


_FINAL = frozenset({SlaStatus.MISSED, SlaStatus.CANCELLED})


def check_sla(fields: Mapping[str, Any]) -> Document:
    """A new, active SLA; UserProblem if a target is invalid or none is given."""
    sla: Document = {"name": check_text(fields["name"], ("name",), longest=255, named="The name")}
    for name, public in _TARGETS.items():
        minutes = fields.get(name)
        if minutes is None:
            continue
        if not 1 <= minutes <= MAX_MINUTES:
            message = f"{public} must be from 1 to {MAX_MINUTES} (a year), not {minutes}."
            raise UserProblem(ErrorCode.INVALID, message, (public,))
        sla[name] = minutes
    if len(sla) == 1:
        message = "The SLA has no target: give firstReplyMinutes, nextReplyMinutes or both."
        raise UserProblem(ErrorCode.INVALID, message, ("firstReplyMinutes",))
    return {**sla, "status": SlaStatus.ACTIVE.value}


def waiting(sla: Document, since: datetime, *, answered: bool) -> Document:
    """The SLA when the contact starts to wait; `answered`: there was a first reply. A running target stays."""
    minutes = sla.get("next_reply_minutes" if answered else "first_reply_minutes")
    if minutes is None or sla["status"] in _FINAL or sla.get("due_at") is not None:
        return sla
    return {**sla, "status": SlaStatus.ACTIVE.value, "due_at": since + timedelta(minutes=minutes)}


def replied(sla: Document) -> Document:
    """The SLA after a teammate's reply: HIT if a target was running, unless it is final."""
    return sla if sla.get("due_at") is None else _ended(sla, SlaStatus.HIT)


def closed(sla: Document) -> Document:
    """The SLA after the conversation was closed: CANCELLED if a target was running, unless it is final."""
    return sla if sla.get("due_at") is None else _ended(sla, SlaStatus.CANCELLED)


def missed(sla: Document) -> Document:
    """The SLA after its target passed; `due_at` stays until a reply."""
    return {**sla, "status": SlaStatus.MISSED.value}


def target_of(sla: Mapping[str, Any] | None) -> datetime | None:
    """When an active SLA will be missed; None if nothing is due."""
    return sla.get("due_at") if sla is not None and sla["status"] == SlaStatus.ACTIVE else None


def _ended(sla: Document, status: SlaStatus) -> Document:
    ended = {name: value for name, value in sla.items() if name != "due_at"}
    return ended if sla["status"] in _FINAL else {**ended, "status": status.value}
