"""Retention: how long events are kept, what stays of those that are not, and which questions reach further back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.core.time_ranges import EARLIEST, TimeRange
from gateway.domain.contacts.contacts import Document
from gateway.domain.events.definitions import value_of
from gateway.domain.filters.conditions import Condition
from gateway.errors import BadRequestError

_STAYS = ("_id", "workspace_id", "contact_id", "name", "occurred_at", "identity", "fingerprint")
_FAR = timedelta(days=36_600)  # by then every date that is named today lies before what is kept


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days events are kept; None: for ever."""

    days: int | None = None

    def since(self, now: datetime) -> datetime:
        """The moment from which on all events are kept."""
        return EARLIEST if self.days is None else max(EARLIEST, now - timedelta(days=self.days))

    def check_times(self, times: TimeRange, now: datetime, path: str) -> None:
        """Pass where all events of that time are kept; BadRequestError, that names the filter at `path`."""
        if not times.empty and times.start < self.since(now):
            raise BadRequestError(
                f"{path} reaches further back than the {self.days} days that events are kept: "
                f"let it begin later, such as with lessThanDaysAgo: {self.days}."
            )

    def check_saved(self, condition: Condition, now: datetime) -> None:
        """Pass where a condition that is asked for ever never counts events that are no longer kept: its times are relative.
        BadRequestError."""
        self.check_condition(condition, now)
        self.check_condition(condition, now + _FAR)

    def check_condition(self, condition: Condition, now: datetime) -> None:
        """Pass where all events are kept that a condition counts; BadRequestError names the part that counts more of them.

        What only looks at summaries always passes: they are kept for ever."""
        for event in condition.events():
            if not event.counts_events:
                continue
            if event.within:
                self.check_times(event.bounds(now), now, f"{event.path}.within")
            elif self.since(now) > EARLIEST:
                named = "metadata" if event.metadata else "beforeSignUp"
                raise BadRequestError(
                    f"{event.path}.{named} counts the events themselves, which are kept for {self.days} days: "
                    f"add within: {{lessThanDaysAgo: {self.days}}} to it."
                )


def tombstone_of(event: Document, definition: Mapping[str, object]) -> Document:
    """What stays of an event: its ids, its idempotency key, the hash of its content, and the value it was counted under."""
    counted = [entry for entry in event["metadata"] if entry["key"] == definition.get("summarize_by")]
    values = [(entry["key"], value) for entry in counted if (value := value_of(entry)) is not None]
    return {
        **{name: event[name] for name in _STAYS if name in event},
        "metadata": [{"key": key, "type": "TextMetadata", "text": value} for key, value in values],
    }


def is_kept(event: Mapping[str, object]) -> bool:
    """Whether this is the event itself, and not its tombstone."""
    return "received_at" in event
