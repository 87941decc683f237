"""Deliveries to another system: payloads frozen at the time of the change, sent in order for each contact."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import cast

from gateway.core.ids import Prefix, derived_id
from gateway.core.leases import is_held
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.documents import ContactDocument
from gateway.outbox.documents import (
    AttemptDocument,
    DeliveryChanges,
    DeliveryDocument,
    LaneChanges,
    LaneDocument,
)

LEASE = timedelta(seconds=30)  # how long a worker may hold the lanes it claimed
GIVEN_UP_AFTER = timedelta(hours=72)
KEPT = timedelta(days=30)
MAX_STORED_ATTEMPTS = 20
DEEPEST_READ = 100
SUPERSEDED = "The contact's newer profile was sent instead."
_LONGEST_PAUSE = timedelta(minutes=15)


class DeliveryState(StrEnum):
    PENDING = "PENDING"
    SENDING = "SENDING"
    RETRYING = "RETRYING"
    DELIVERED = "DELIVERED"
    REJECTED = "REJECTED"  # the destination would refuse or silently drop it: never sent
    DEAD = "DEAD"  # it was refused, or retries went on for 72 hours: stored until replayed


class DeliveryKind(StrEnum):
    EVENT = "EVENT"
    PROFILE = "PROFILE"
    DELETION = "DELETION"


class Queue(StrEnum):
    """Live deliveries go before backfilled ones."""

    LIVE = "LIVE"
    BACKFILL = "BACKFILL"


OPEN = frozenset({DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.RETRYING})


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery to enqueue. `problem`: why it must not be sent. `not_before`: the earliest time to send it."""

    kind: DeliveryKind
    contact: ContactDocument
    payload: Document
    metric: str | None = None
    source: str | None = None
    subject_id: str | None = None
    unique_id: str | None = None
    problem: str | None = None
    note: str | None = None
    not_before: datetime | None = None


def lane_id_of(workspace_id: str, contact_id: str, queue: Queue = Queue.LIVE) -> str:
    """The id of the lane that keeps a contact's deliveries in order."""
    return derived_id(Prefix.LANE, workspace_id, contact_id, queue)


def new_lane(workspace_id: str, contact_id: str, queue: Queue, now: datetime) -> LaneDocument:
    """An empty lane."""
    return {
        "_id": lane_id_of(workspace_id, contact_id, queue),
        "workspace_id": workspace_id,
        "contact_id": contact_id,
        "queue": queue.value,
        "seq": 0,
        "head": 1,
        "version": 0,
        "due_at": now,
    }


def is_leased(lane: LaneDocument, now: datetime) -> bool:
    """Whether a worker may be sending from this lane."""
    return lane.get("lease") is not None and is_held(lane["due_at"], now, LEASE)


def delivery_of(
    new: NewDelivery,
    delivery_id: str,
    lane: LaneDocument,
    seq: int,
    now: datetime,
    backfill_id: str | None = None,
) -> DeliveryDocument:
    """A delivery as it is stored. A rejected one gets no number in its lane."""
    row: DeliveryDocument = {
        "_id": delivery_id,
        "workspace_id": lane["workspace_id"],
        "contact_id": new.contact["_id"],
        "lane_id": lane["_id"],
        "kind": new.kind.value,
        "metric": new.metric,
        "source": new.source,
        "subject_id": new.subject_id,
        "unique_id": new.unique_id or delivery_id,
        "payload": new.payload,
        "attempts": [],
        "attempt_count": 0,
        "created_at": now,
        "state": DeliveryState.REJECTED.value,
        "reason": new.problem,
    }
    if backfill_id is not None:
        row["backfill_id"] = backfill_id
    if new.problem is not None:
        return {**row, "expires_at": now + KEPT}
    at = max(now, new.not_before or now)
    return changed(row, {**enqueued(lane["_id"], seq, now), "next_attempt_at": at, "reason": new.note})


def changed(row: DeliveryDocument, changes: DeliveryChanges) -> DeliveryDocument:
    """The delivery with these changes; what they remove is None."""
    return cast(DeliveryDocument, {**row, **changes})


def enqueued(lane_id: str, seq: int, now: datetime) -> DeliveryChanges:
    state = DeliveryState.PENDING.value
    return {"state": state, "lane_id": lane_id, "open": lane_id, "seq": seq, "next_attempt_at": now}


def replayed(lane_id: str, seq: int, now: datetime) -> DeliveryChanges:
    """The fields to set on replay, at the end of the lane. Attempts stay."""
    return {**enqueued(lane_id, seq, now), "first_attempt_at": None, "reason": None}


def discarded(reason: str, now: datetime) -> DeliveryChanges:
    """The fields to set when a delivery will not be sent."""
    return {"state": DeliveryState.REJECTED.value, "reason": reason, "open": None, "expires_at": now + KEPT}


def attempt(
    at: datetime, duration_ms: int, status: int | None, error: str | None, retry_after: int | None
) -> AttemptDocument:
    """One attempt at a delivery, as it is stored."""
    return {
        "at": at,
        "duration_ms": duration_ms,
        "status": status,
        "error": error,
        "retry_after_seconds": retry_after,
    }


def delivered(row: DeliveryDocument, tried: AttemptDocument, note: str | None = None) -> DeliveryChanges:
    """The fields to set after success. A deletion loses its payload, which identifies the person."""
    at = tried["at"]
    fields: DeliveryChanges = {
        "state": DeliveryState.DELIVERED.value,
        "delivered_at": at,
        "expires_at": at + KEPT,
        "open": None,
    }
    if row["kind"] == DeliveryKind.DELETION:
        return {**_after(row, tried), **fields, "attempts": [tried], "payload": None, "reason": None}
    return {**_after(row, tried), **fields, "reason": note or row.get("reason")}


def dead(row: DeliveryDocument, tried: AttemptDocument, reason: str | None) -> DeliveryChanges:
    """The fields to set when a delivery is given up."""
    return {**_after(row, tried), "state": DeliveryState.DEAD.value, "reason": reason, "open": None}


def retried(
    row: DeliveryDocument, tried: AttemptDocument, chance: random.Random, since: datetime | None
) -> DeliveryChanges:
    """The fields to set after a temporary failure: retry, or give up after 72 hours.

    `since`: when the connection was last resumed; the 72 hours restart then.
    """
    now, first = tried["at"], row.get("first_attempt_at") or tried["at"]
    if now - max(first, since or first) >= GIVEN_UP_AFTER:
        return dead(row, tried, f"Given up after 72 hours. {tried['error']}")
    throttled = tried["status"] == 429
    pause = timedelta(seconds=tried["retry_after_seconds"] or 0)
    pause += retry_delay(0 if throttled or pause else row["attempt_count"], chance)
    state = DeliveryState.RETRYING.value
    return {**_after(row, tried), "state": state, "next_attempt_at": now + pause, "reason": tried["error"]}


def requeued(row: DeliveryDocument, tried: AttemptDocument | None = None) -> DeliveryChanges:
    """The fields to set when a delivery was not sent, or failed for a reason of the whole connection."""
    state = DeliveryState.RETRYING if row["attempt_count"] else DeliveryState.PENDING
    return {"state": state.value} if tried is None else {**_after(row, tried), "state": state.value}


def retry_delay(attempts: int, chance: random.Random) -> timedelta:
    """Full jitter under a ceiling that doubles with each failure."""
    ceiling = min(_LONGEST_PAUSE, timedelta(seconds=2 ** min(attempts, 20)))
    return ceiling * chance.random()


def claim_limit(lane: LaneDocument) -> int:
    """The highest number to read from a lane at once."""
    return min(lane["seq"], lane["head"] + DEEPEST_READ - 1)


def released_lane(
    lane: LaneDocument,
    done_to: int,
    first_open: DeliveryDocument | None,
    not_before: datetime | None,
    now: datetime,
) -> LaneChanges:
    """The fields to set when a worker releases a lane after handling it up to `done_to`.

    `first_open`: the first of those deliveries that is still open.
    """
    if first_open is not None:
        at = not_before or first_open["next_attempt_at"]
        return {"lease": None, "head": first_open["seq"], "due_at": max(at, lane.get("not_before", at))}
    more = lane["seq"] > done_to
    return {"lease": None, "head": done_to + 1, "due_at": max(now, lane.get("not_before", now)) if more else None}


def _after(row: DeliveryDocument, tried: AttemptDocument) -> DeliveryChanges:
    attempts = [*row["attempts"], tried][-MAX_STORED_ATTEMPTS:]
    first = row.get("first_attempt_at") or tried["at"]
    return {"attempts": attempts, "attempt_count": row["attempt_count"] + 1, "first_attempt_at": first}


def in_order(rows: Sequence[DeliveryDocument]) -> list[DeliveryDocument]:
    """The rows of a lane in sending order."""
    return sorted(rows, key=lambda row: row["seq"])
