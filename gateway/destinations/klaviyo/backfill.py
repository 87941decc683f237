"""Backfills: history sent to Klaviyo in windows, from a position that is stored with the queued deliveries."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.core.ids import Prefix, lowest_id
from gateway.core.time_ranges import EARLIEST
from gateway.destinations.klaviyo.commands import StartBackfill
from gateway.destinations.klaviyo.documents import BackfillChanges, BackfillDocument

WINDOW = 2000  # backfilled deliveries that are open at once
_CLOCK_SKEW = timedelta(minutes=1)  # more than an id's time can precede its row


class BackfillState(StrEnum):
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ACTIVE = (BackfillState.RUNNING, BackfillState.PAUSED)


class Stage(StrEnum):
    """The collections that a backfill reads, in this order."""

    CONTACTS = "CONTACTS"
    CONVERSATIONS = "CONVERSATIONS"
    CONVERSATION_PARTS = "CONVERSATION_PARTS"
    TICKETS = "TICKETS"
    TICKET_PARTS = "TICKET_PARTS"


PREFIXES = {
    Stage.CONTACTS: Prefix.CONTACT,
    Stage.CONVERSATIONS: Prefix.CONVERSATION,
    Stage.CONVERSATION_PARTS: Prefix.CONVERSATION_PART,
    Stage.TICKETS: Prefix.TICKET,
    Stage.TICKET_PARTS: Prefix.TICKET_PART,
}


def new_backfill(
    id_: str, workspace_id: str, command: StartBackfill, stages: Sequence[Stage], now: datetime
) -> BackfillDocument:
    """A backfill as it starts. `active` is unique, so that a workspace has one unfinished backfill."""
    return {
        "_id": id_,
        "workspace_id": workspace_id,
        "active": workspace_id,
        "version": 1,
        "state": BackfillState.RUNNING.value,
        "since": command.since or EARLIEST,
        "until": min(command.until or now, now),
        "metrics": command.metrics,
        "stages": [stage.value for stage in stages],
        "place": None,
        "total": 0,
        "queued": 0,
        "settled": 0,
        "done": 0,
        "failed": 0,
        "started_at": now,
        "resumed_at": now,
        "settled_before": 0,
    }


def bounds_of(backfill: BackfillDocument, stage: Stage) -> tuple[str, str]:
    """The id range [start, end) of a stage.

    Contacts and conversations of any age are read: a conversation may have been read since.
    """
    prefix = PREFIXES[stage]
    reads_all = stage in (Stage.CONTACTS, Stage.CONVERSATIONS)
    since = EARLIEST if reads_all else max(EARLIEST + _CLOCK_SKEW, backfill["since"]) - _CLOCK_SKEW
    return lowest_id(prefix, since), lowest_id(prefix, backfill["until"])


def advanced(backfill: BackfillDocument, last_id: str | None) -> BackfillChanges:
    """The fields to set after a batch. None for `last_id` ends the stage."""
    if last_id is not None:
        return {"place": last_id + "0"}
    return {"place": None, "stages": backfill["stages"][1:]}


def finished(backfill: BackfillDocument, state: BackfillState, now: datetime) -> BackfillChanges:
    """The fields to set when a backfill ends in that state."""
    settled = backfill["done"] + backfill["failed"]
    values: BackfillChanges = {"state": state.value, "active": backfill["_id"], "finished_at": now}
    if state is BackfillState.DONE:
        values["total"] = settled
    return values


def resumed(backfill: BackfillDocument, now: datetime) -> BackfillChanges:
    """The fields to set on resume. The rate is measured from now."""
    settled = backfill["done"] + backfill["failed"]
    return {"state": BackfillState.RUNNING.value, "resumed_at": now, "settled_before": settled}


def rate_of(backfill: BackfillDocument, now: datetime) -> float:
    """Deliveries settled per second since the start or last resume; 0 while paused."""
    if backfill["state"] == BackfillState.PAUSED:
        return 0.0
    settled = backfill["done"] + backfill["failed"] - backfill["settled_before"]
    seconds = ((backfill.get("finished_at") or now) - backfill["resumed_at"]).total_seconds()
    return settled / seconds if seconds > 0 else 0.0


def eta_of(backfill: BackfillDocument, now: datetime) -> int | None:
    """Seconds until the end; None if unknown."""
    rate = rate_of(backfill, now)
    if backfill["state"] != BackfillState.RUNNING or not backfill.get("counted") or rate <= 0:
        return None
    remaining = backfill["total"] - backfill["done"] - backfill["failed"]
    return round(max(0, remaining) / rate)
