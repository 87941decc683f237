"""Retention: how long events are stored, their tombstones, and which filters reach too far back."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeGuard

from gateway.core.time_ranges import EARLIEST, TimeRange
from gateway.domain.events.definitions import value_of
from gateway.domain.events.documents import EventDocument, StoredEvent, TombstoneDocument
from gateway.domain.filters.conditions import Condition
from gateway.errors import BadRequestError

_FAR = timedelta(days=36_600)  # after that time every absolute date of today is out of range


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days events are stored; None: forever."""

    days: int | None = None

    def since(self, now: datetime) -> datetime:
        """The time from which all events are stored."""
        return EARLIEST if self.days is None else max(EARLIEST, now - timedelta(days=self.days))

    def check_times(self, times: TimeRange, now: datetime, path: str) -> None:
        """Raise BadRequestError, naming the filter at `path`, where the range includes removed events."""
        if not times.empty and times.start < self.since(now):
            raise BadRequestError(
                f"{path} begins before the {self.days} days for which events are stored: "
                f"use a later start, such as lessThanDaysAgo: {self.days}."
            )

    def check_saved(self, condition: Condition, now: datetime) -> None:
        """Raise BadRequestError where a condition would ever count removed events: times must be relative."""
        self.check_condition(condition, now)
        self.check_condition(condition, now + _FAR)

    def check_condition(self, condition: Condition, now: datetime) -> None:
        """Raise BadRequestError where a condition counts events that may be removed. Summaries are kept forever."""
        for event in condition.events():
            if not event.counts_events:
                continue
            if event.within:
                self.check_times(event.bounds(now), now, f"{event.path}.within")
            elif self.since(now) > EARLIEST:
                named = "metadata" if event.metadata else "beforeSignUp"
                raise BadRequestError(
                    f"{event.path}.{named} counts stored events, which are stored for {self.days} days: "
                    f"add within: {{lessThanDaysAgo: {self.days}}}."
                )


def tombstone_of(event: EventDocument, summarize_by: str | None) -> TombstoneDocument:
    """What is left of a removed event: ids, idempotency key, input hash, counted value."""
    counted = [entry for entry in event["metadata"] if entry["key"] == summarize_by]
    values = [(entry["key"], value) for entry in counted if (value := value_of(entry)) is not None]
    tombstone: TombstoneDocument = {
        "_id": event["_id"],
        "workspace_id": event["workspace_id"],
        "contact_id": event["contact_id"],
        "name": event["name"],
        "occurred_at": event["occurred_at"],
        "identity": event["identity"],
        "metadata": [{"key": key, "type": "TextMetadata", "text": value} for key, value in values],
    }
    if "fingerprint" in event:
        tombstone["fingerprint"] = event["fingerprint"]
    return tombstone


def is_kept(event: StoredEvent) -> TypeGuard[EventDocument]:
    """Whether this is the event itself rather than its tombstone."""
    return "received_at" in event
