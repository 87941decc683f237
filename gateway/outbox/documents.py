"""The documents of deliveries and lanes, as they are stored, and the fields that change in them."""

from datetime import datetime
from typing import NotRequired, TypedDict

from gateway.domain.contacts.contacts import Document


class AttemptDocument(TypedDict):
    at: datetime
    duration_ms: int
    status: int | None
    error: str | None
    retry_after_seconds: int | None


class DeliveryDocument(TypedDict):
    """A delivery. `open`: its lane, while it is to be sent; `seq`: its number there; a rejected one has neither. A
    delivered deletion has no payload, which would identify the person."""

    _id: str
    workspace_id: str
    contact_id: str
    lane_id: str
    kind: str
    metric: str | None
    source: str | None
    subject_id: str | None
    unique_id: str
    attempts: list[AttemptDocument]
    attempt_count: int
    created_at: datetime
    state: str
    payload: NotRequired[Document]
    reason: NotRequired[str | None]
    open: NotRequired[str]
    seq: NotRequired[int]
    next_attempt_at: NotRequired[datetime]
    first_attempt_at: NotRequired[datetime]
    delivered_at: NotRequired[datetime]
    expires_at: NotRequired[datetime]
    backfill_id: NotRequired[str]
    replay_id: NotRequired[str]


class DeliveryChanges(TypedDict, total=False):
    """Fields of a delivery to set; None removes one."""

    state: str
    lane_id: str
    open: str | None
    seq: int
    next_attempt_at: datetime
    first_attempt_at: datetime | None
    delivered_at: datetime
    expires_at: datetime
    reason: str | None
    attempts: list[AttemptDocument]
    attempt_count: int
    payload: Document | None
    replay_id: str


class LaneDocument(TypedDict):
    """The lane of a contact. `seq`: number of the newest delivery; `head`: of the first open one. `due_at`: when to work
    on it, absent if nothing is open. `lease`: who holds it until `due_at`. `not_before`: no new delivery is sent before
    it, whichever worker releases the lane. `profile_id`: the destination's id of the contact's profile."""

    _id: str
    workspace_id: str
    contact_id: str
    queue: str
    seq: int
    head: int
    version: int
    due_at: NotRequired[datetime]
    lease: NotRequired[str]
    not_before: NotRequired[datetime]
    profile_delivery_id: NotRequired[str]
    profile_id: NotRequired[str]


class LaneChanges(TypedDict, total=False):
    """Fields of a lane to set; None removes one."""

    seq: int
    head: int
    due_at: datetime | None
    lease: str | None
    not_before: datetime
    profile_delivery_id: str
    profile_id: str
