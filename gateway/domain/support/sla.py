"""SLAs of conversations: until when a reply is due, and whether it came in time.

`due_at` is set while a reply is due. MISSED and CANCELLED are final until another SLA is applied.
"""

from datetime import datetime, timedelta
from enum import StrEnum

from gateway.core.text_rules import check_text
from gateway.domain.support.commands import ApplySla
from gateway.domain.support.documents import SlaDocument
from gateway.errors import ErrorCode, UserProblem

MAX_MINUTES = 366 * 24 * 60


class SlaStatus(StrEnum):
    ACTIVE = "ACTIVE"
    HIT = "HIT"
    MISSED = "MISSED"
    CANCELLED = "CANCELLED"


_FINAL = frozenset({SlaStatus.MISSED, SlaStatus.CANCELLED})


def check_sla(command: ApplySla) -> SlaDocument:
    """A new, active SLA; UserProblem if a target is invalid or none is given."""
    name = check_text(command.name, ("name",), longest=255, named="The name")
    sla: SlaDocument = {"name": name, "status": SlaStatus.ACTIVE.value}
    if command.first_reply_minutes is not None:
        sla["first_reply_minutes"] = _check_minutes(command.first_reply_minutes, "firstReplyMinutes")
    if command.next_reply_minutes is not None:
        sla["next_reply_minutes"] = _check_minutes(command.next_reply_minutes, "nextReplyMinutes")
    if len(sla) == 2:
        message = "The SLA has no target: give firstReplyMinutes, nextReplyMinutes or both."
        raise UserProblem(ErrorCode.INVALID, message, ("firstReplyMinutes",))
    return sla


def _check_minutes(minutes: int, public: str) -> int:
    if not 1 <= minutes <= MAX_MINUTES:
        message = f"{public} must be from 1 to {MAX_MINUTES} (a year), not {minutes}."
        raise UserProblem(ErrorCode.INVALID, message, (public,))
    return minutes


def waiting(sla: SlaDocument, since: datetime, *, answered: bool) -> SlaDocument:
    """The SLA when the contact starts to wait; `answered`: there was a first reply. A running target stays."""
    minutes = sla.get("next_reply_minutes") if answered else sla.get("first_reply_minutes")
    if minutes is None or sla["status"] in _FINAL or sla.get("due_at") is not None:
        return sla
    return {**sla, "status": SlaStatus.ACTIVE.value, "due_at": since + timedelta(minutes=minutes)}


def replied(sla: SlaDocument) -> SlaDocument:
    """The SLA after a teammate's reply: HIT if a target was running, unless it is final."""
    return sla if sla.get("due_at") is None else _ended(sla, SlaStatus.HIT)


def closed(sla: SlaDocument) -> SlaDocument:
    """The SLA after the conversation was closed: CANCELLED if a target was running, unless it is final."""
    return sla if sla.get("due_at") is None else _ended(sla, SlaStatus.CANCELLED)


def missed(sla: SlaDocument) -> SlaDocument:
    """The SLA after its target passed; `due_at` stays until a reply."""
    return {**sla, "status": SlaStatus.MISSED.value}


def target_of(sla: SlaDocument | None) -> datetime | None:
    """When an active SLA will be missed; None if nothing is due."""
    return sla.get("due_at") if sla is not None and sla["status"] == SlaStatus.ACTIVE else None


def _ended(sla: SlaDocument, status: SlaStatus) -> SlaDocument:
    ended = sla.copy()
    del ended["due_at"]
    return ended if sla["status"] in _FINAL else {**ended, "status": status.value}
