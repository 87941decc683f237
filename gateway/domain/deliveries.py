"""Deliveries: what another system is to hear, frozen when it happened, and told in order for each contact."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.core.ids import Prefix, derived_id, id_time
from gateway.core.leases import is_held
from gateway.domain.contacts.contacts import Document

LEASE = timedelta(seconds=30)  # how long a worker has for the lanes that it took
GIVEN_UP_AFTER = timedelta(hours=72)
KEPT = timedelta(days=30)
MAX_STORED_ATTEMPTS = 20
DEEPEST_READ = 100
SUPERSEDED = "The contact's newer profile was sent in its place."
DISCONNECTED = "Klaviyo was disconnected, and what waited was left out."
_LONGEST_PAUSE = timedelta(minutes=15)


class DeliveryState(StrEnum):
    """What has become of a delivery."""

    PENDING = "PENDING"
    SENDING = "SENDING"
    RETRYING = "RETRYING"
    DELIVERED = "DELIVERED"
    REJECTED = "REJECTED"  # Klaviyo would refuse or silently drop it: never sent
    DEAD = "DEAD"  # Klaviyo refused it, or it was tried for 72 hours: kept until it is replayed


class DeliveryKind(StrEnum):
    """What is delivered."""

    EVENT = "EVENT"
    PROFILE = "PROFILE"
    DELETION = "DELETION"


class Queue(StrEnum):
    """Which deliveries go first: what happens now, or history."""

    LIVE = "LIVE"
    BACKFILL = "BACKFILL"


OPEN = frozenset({DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.RETRYING})


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What is to be delivered of a contact; `refused`: why it cannot be; `not_before`: when it may be sent."""

    kind: DeliveryKind
    contact: Mapping[str, Any]
    payload: Document
    metric: str | None = None
    source: str | None = None
    subject_id: str | None = None
    unique_id: str | None = None
    problem: str | None = None
    note: str | None = None
    not_before: datetime | None = None


def lane_id_of(workspace_id: str, contact_id: str, queue: Queue = Queue.LIVE) -> str:
    """The id of the one lane in which a contact's deliveries keep their order."""
    return derived_id(Prefix.LANE, workspace_id, contact_id, queue)


def new_lane(workspace_id: str, contact_id: str, queue: Queue, now: datetime) -> Document:
    """A lane in which nothing was delivered yet. `seq`: the number of its newest delivery; `head`: of the first that is
    open; `due_at`: when somebody is to look at it, absent where nothing is open; `lease`: whose it is until `due_at`;
    `not_before`: until when nothing new of it is sent, whoever gives it back."""
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


def is_leased(lane: Mapping[str, Any], now: datetime) -> bool:
    """Whether a worker may be sending what is in the lane."""
    return lane.get("lease") is not None and is_held(lane["due_at"], now, LEASE)


def was_delivered(lane: Mapping[str, Any], connected_at: datetime) -> bool:
    """Whether the account that is connected now was told the profile of the contact whose live lane it is: Klaviyo has
    answered with the profile's id, which neither the log nor a refusal gives."""
    id_ = lane.get("profile_delivery_id")
    return id_ is not None and id_time(id_) >= connected_at and lane.get("profile_id") is not None


def delivery_of(
    wanted: NewDelivery,
    delivery_id: str,
    lane: Mapping[str, Any],
    seq: int,
    now: datetime,
    backfill_id: str | None = None,
) -> Document:
    """The delivery as it is stored; without a place in its lane where it is refused."""
    contact = wanted.contact
    row = {
        "_id": delivery_id,
        "workspace_id": lane["workspace_id"],
        "contact_id": contact["_id"],
        "kind": wanted.kind.value,
        "metric": wanted.metric,
        "source": wanted.source,
        "subject_id": wanted.subject_id,
        "unique_id": wanted.unique_id or delivery_id,
        "payload": wanted.payload,
        "attempts": [],
        "attempt_count": 0,
        "created_at": now,
        **({} if backfill_id is None else {"backfill_id": backfill_id}),
    }
    if wanted.problem is not None:
        rejected = {"state": DeliveryState.REJECTED.value, "reason": wanted.problem, "expires_at": now + KEPT}
        return {**row, "lane_id": lane["_id"], **rejected}
    at = max(now, wanted.not_before or now)
    return {**row, **enqueued(lane["_id"], seq, now), "next_attempt_at": at, "reason": wanted.note}


def enqueued(lane_id: str, seq: int, now: datetime) -> Document:
    """What a delivery that is open holds: its place in its lane, and when it is to be tried."""
    state = DeliveryState.PENDING.value
    return {"state": state, "lane_id": lane_id, "open": lane_id, "seq": seq, "next_attempt_at": now}


def replayed(lane_id: str, seq: int, now: datetime) -> Document:
    """What a dead delivery becomes that is sent again, at the end of its lane; its attempts stay."""
    return {**enqueued(lane_id, seq, now), "first_attempt_at": None, "reason": None}


def discarded(reason: str, now: datetime) -> Document:
    """What a delivery becomes that is not to be sent any more."""
    return {"state": DeliveryState.REJECTED.value, "reason": reason, "open": None, "expires_at": now + KEPT}


def attempt(at: datetime, duration_ms: int, status: int | None, error: str | None, retry_after: int | None) -> Document:
    """One try at a delivery, as it is kept."""
    told = {"at": at, "duration_ms": duration_ms, "status": status, "error": error}
    return {**told, "retry_after_seconds": retry_after}


def delivered(row: Mapping[str, Any], tried: Document, note: str | None = None) -> Document:
    """What a delivery that arrived becomes. Of an erasure nothing stays that tells whose it was."""
    at = tried["at"]
    told = {"state": DeliveryState.DELIVERED.value, "delivered_at": at, "expires_at": at + KEPT, "open": None}
    if row["kind"] == DeliveryKind.DELETION:
        return {**_after(row, tried), **told, "attempts": [tried], "payload": None, "reason": None}
    return {**_after(row, tried), **told, "reason": note or row.get("reason")}


def dead(row: Mapping[str, Any], tried: Document, reason: str | None) -> Document:
    """What a delivery that cannot arrive becomes."""
    return {**_after(row, tried), "state": DeliveryState.DEAD.value, "reason": reason, "open": None}


def retried(row: Mapping[str, Any], tried: Document, chance: random.Random, since: datetime | None) -> Document:
    """What a delivery becomes that may arrive later: tried again, or given up 72 hours after the first attempt.

    `since`: when somebody last resumed the sync, from when on the hours count anew."""
    now, first = tried["at"], row.get("first_attempt_at", tried["at"])
    if now - max(first, since or first) >= GIVEN_UP_AFTER:
        return dead(row, tried, f"Given up after 72 hours. {tried['error']}")
    throttled = tried["status"] == 429
    pause = timedelta(seconds=tried["retry_after_seconds"] or 0)
    pause += retry_delay(0 if throttled or pause else row["attempt_count"], chance)
    told = {"state": DeliveryState.RETRYING.value, "next_attempt_at": now + pause, "reason": tried["error"]}
    return {**_after(row, tried), **told}


def requeued(row: Mapping[str, Any], tried: Document | None = None) -> Document:
    """What a delivery becomes that was not sent, or could not be whoever had sent it: it waits as before."""
    waits = DeliveryState.RETRYING if row["attempt_count"] else DeliveryState.PENDING
    return {**(_after(row, tried) if tried else {}), "state": waits.value}


def retry_delay(attempts: int, chance: random.Random) -> timedelta:
    """How long a delivery that failed that often before is left: full jitter under a ceiling that doubles."""
    ceiling = min(_LONGEST_PAUSE, timedelta(seconds=2 ** min(attempts, 20)))
    return ceiling * chance.random()


def claim_limit(lane: Mapping[str, Any]) -> int:
    """Up to which number the deliveries of a lane are read at once."""
    return int(min(lane["seq"], lane["head"] + DEEPEST_READ - 1))


def released_lane(
    lane: Mapping[str, Any], done_to: int, left: Mapping[str, Any] | None, not_before: datetime | None, now: datetime
) -> Document:
    """What a lane becomes that a worker gives back, having looked after it up to that number. `left`: the first of these
    deliveries that is still open."""
    if left is not None:
        at = not_before or left["next_attempt_at"]
        return {"lease": None, "head": left["seq"], "due_at": max(at, lane.get("not_before", at))}
    more = lane["seq"] > done_to
    return {"lease": None, "head": done_to + 1, "due_at": max(now, lane.get("not_before", now)) if more else None}


def delivery_line(change_id: str, row: Mapping[str, Any], before: str | None, now: datetime) -> Document:
    """The line of the journal that tells a delivery's new state, with what streams filter by."""
    matched = {name: row[name] for name in ("metric", "subject_id", "kind")}
    return {
        "_id": change_id,
        "workspace_id": row["workspace_id"],
        "subject": "delivery",
        "kind": "CHANGED",
        "delivery_id": row["_id"],
        "contact_id": row["contact_id"],
        "before": None if before is None else {**matched, "state": before},
        "after": {**matched, "state": row["state"]},
        "at": now,
    }


def _after(row: Mapping[str, Any], tried: Document) -> Document:
    """What any attempt changes; the newest 20 are kept."""
    attempts = [*row["attempts"], tried][-MAX_STORED_ATTEMPTS:]
    first = row.get("first_attempt_at", tried["at"])
    return {"attempts": attempts, "attempt_count": row["attempt_count"] + 1, "first_attempt_at": first}


def in_order(rows: Sequence[Document]) -> list[Document]:
    """The rows of a lane as they are to be sent."""
    return sorted(rows, key=lambda row: int(row["seq"]))


def backfill_tallies(rows: Iterable[Mapping[str, Any]], before: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """What deliveries of backfills, as they are now, add to `settled`, `done` and `failed`, by backfill. `before`: what
    their states were."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        if row.get("backfill_id") is not None:
            tally = found.setdefault(row["backfill_id"], Counter())
            for state, sign in ((row["state"], 1), (before[row["_id"]], -1)):
                if state not in OPEN:
                    tally.update({"settled": sign, "done" if state == DeliveryState.DELIVERED else "failed": sign})
    return {
        id_: {name: more for name, more in tally.items() if more} for id_, tally in found.items() if any(tally.values())
    }
