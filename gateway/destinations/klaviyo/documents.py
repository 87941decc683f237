"""The documents of Klaviyo's connection, backfills, metrics and rate windows, as they are stored."""

from datetime import datetime
from typing import NotRequired, TypedDict


class ConnectionDocument(TypedDict):
    _id: str
    workspace_id: str
    mode: NotRequired[str]
    sealed_key: NotRequired[str]
    base_url: NotRequired[str]
    forwarded: NotRequired[list[str]]
    forward_all: NotRequired[bool]
    connected_at: NotRequired[datetime]
    paused_reason: NotRequired[str]
    paused_at: NotRequired[datetime]
    resumed_at: NotRequired[datetime]
    failures: NotRequired[int]
    backing_off_until: NotRequired[datetime]


class ConnectionChanges(TypedDict, total=False):
    """Fields of a connection to set; None removes one."""

    mode: str
    sealed_key: str | None
    base_url: str | None
    forwarded: list[str] | None
    forward_all: bool | None
    connected_at: datetime
    paused_reason: str | None
    paused_at: datetime | None
    resumed_at: datetime
    failures: int | None
    backing_off_until: datetime | None


class BackfillDocument(TypedDict):
    """A backfill. `active` is unique, so that a workspace has one unfinished backfill; `place`: the id to continue from;
    `counted`: whether `total` has been counted; `settled_before`: what was done before it was resumed."""

    _id: str
    workspace_id: str
    active: str
    version: int
    state: str
    since: datetime
    until: datetime
    metrics: list[str] | None
    stages: list[str]
    place: str | None
    total: int
    queued: int
    settled: int
    done: int
    failed: int
    started_at: datetime
    resumed_at: datetime
    settled_before: int
    counted: NotRequired[bool]
    finished_at: NotRequired[datetime]


class BackfillChanges(TypedDict, total=False):
    active: str
    state: str
    stages: list[str]
    place: str | None
    total: int
    counted: bool
    resumed_at: datetime
    settled_before: int
    finished_at: datetime


class MetricCounts(TypedDict):
    name: str
    source: str | None
    delivered: int
    failed: int
    last_delivered_at: datetime | None


class MetricDocument(MetricCounts):
    _id: str
    workspace_id: str


class RateWindowsDocument(TypedDict):
    """The rate windows of an operation: what is used, until when, and what the last call was granted."""

    _id: str
    workspace_id: str
    burst: int
    steady: int
    granted: int
    burst_until: datetime
    steady_until: datetime
    closed_until: datetime
    limit: NotRequired[int]
