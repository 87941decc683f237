"""Backfills: history told to Klaviyo a window at a time, from a place that is kept with what was queued."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.core.ids import Prefix, lowest_id
from gateway.core.time_ranges import EARLIEST
from gateway.domain.contacts.contacts import Document

WINDOW = 2000  # deliveries of history that wait at once
_CLOCK_SKEW = timedelta(minutes=1)  # more than any id is older than what it is of


class BackfillState(StrEnum):
    """How a backfill is."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ACTIVE = (BackfillState.RUNNING, BackfillState.PAUSED)


class Stage(StrEnum):
    """What is walked through, in this order."""

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
    id_: str, workspace_id: str, asked: Mapping[str, Any], stages: Sequence[Stage], now: datetime
) -> Document:
    """A backfill that begins; `active`: what no two of a workspace share while they are under way."""
    return {
        "_id": id_,
        "workspace_id": workspace_id,
        "active": workspace_id,
        "version": 1,
        "state": BackfillState.RUNNING.value,
        "since": asked.get("since") or EARLIEST,
        "until": min(asked.get("until") or now, now),
        "metrics": asked.get("metrics"),
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


def bounds_of(backfill: Mapping[str, Any], stage: Stage) -> tuple[str, str]:
    """From which id to before which one its history of that stage lies. Contacts, and what may have been read since, are
    looked at whenever they began; the others from a little earlier on, as an id may be older than its row."""
    prefix = PREFIXES[stage]
    whole = stage in (Stage.CONTACTS, Stage.CONVERSATIONS)
    since = EARLIEST if whole else max(EARLIEST + _CLOCK_SKEW, backfill["since"]) - _CLOCK_SKEW
    return lowest_id(prefix, since), lowest_id(prefix, backfill["until"])


def advanced(backfill: Mapping[str, Any], last_id: str | None) -> Document:
    """Where it goes on: behind that row, or at the beginning of the next stage."""
    if last_id is not None:
        return {"place": last_id + "0"}
    return {"place": None, "stages": backfill["stages"][1:]}


def finished(backfill: Mapping[str, Any], state: BackfillState, now: datetime) -> Document:
    """What a backfill becomes that is over."""
    settled = backfill["done"] + backfill["failed"]
    total = {"total": settled} if state is BackfillState.DONE else {}
    return {"state": state.value, "active": backfill["_id"], "finished_at": now, **total}


def resumed(backfill: Mapping[str, Any], now: datetime) -> Document:
    """What a paused backfill becomes that goes on; its rate counts from now on."""
    settled = backfill["done"] + backfill["failed"]
    return {"state": BackfillState.RUNNING.value, "resumed_at": now, "settled_before": settled}


def rate_of(backfill: Mapping[str, Any], now: datetime) -> float:
    """How many are settled in a second, since it began or was resumed; 0 while it is paused."""
    if backfill["state"] == BackfillState.PAUSED:
        return 0.0
    settled = backfill["done"] + backfill["failed"] - backfill["settled_before"]
    seconds = ((backfill.get("finished_at") or now) - backfill["resumed_at"]).total_seconds()
    return settled / seconds if seconds > 0 else 0.0


def eta_of(backfill: Mapping[str, Any], now: datetime) -> int | None:
    """In how many seconds it will be over; None where nothing tells."""
    rate = rate_of(backfill, now)
    if backfill["state"] != BackfillState.RUNNING or not backfill.get("counted") or rate <= 0:
        return None
    left: int = backfill["total"] - backfill["done"] - backfill["failed"]
    return round(max(0, left) / rate)


def backfill_line(change_id: str, workspace_id: str, backfill_id: str, now: datetime) -> Document:
    """The line of the journal that tells that a backfill changed."""
    told = {"subject": "backfill", "kind": "CHANGED", "backfill_id": backfill_id}
    return {"_id": change_id, "workspace_id": workspace_id, **told, "at": now}
