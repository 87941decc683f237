"""Filters of deliveries: which of their places an index finds, and what is looked at in each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.core.time_ranges import TimeRange, time_range
from gateway.domain.contacts.contacts import Document


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Conditions on a delivery, ANDed; None: any. `contact_ids`: what deliveries may name the contact by."""

    states: frozenset[str] | None = None
    kind: str | None = None
    metric: str | None = None
    contact_ids: Sequence[str] | None = None
    subject_id: str | None = None
    times: TimeRange = field(default_factory=TimeRange)

    @property
    def places(self) -> list[Document]:
        """Filters on equality, each with an index, that find whatever is wanted once."""
        if self.subject_id is not None:
            return [{"subject_id": self.subject_id}]
        if self.contact_ids is not None:
            return [{"contact_id": id_} for id_ in self.contact_ids]
        if self.states is not None:
            return [{"state": state} for state in sorted(self.states)]
        return [{}] if self.metric is None else [{"metric": self.metric}]

    @property
    def is_exact(self) -> bool:
        """Whether its places hold nothing else."""
        others = (self.states, self.kind, self.metric, self.contact_ids, self.subject_id)
        given = sum(one is not None for one in others)
        return given <= 1 and self.kind is None

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether the delivery is wanted; its time is asked of the index."""
        return (
            (self.states is None or row["state"] in self.states)
            and (self.kind is None or row["kind"] == self.kind)
            and (self.metric is None or row["metric"] == self.metric)
            and (self.contact_ids is None or row["contact_id"] in self.contact_ids)
            and (self.subject_id is None or row["subject_id"] == self.subject_id)
        )


def delivery_filter(sent: Mapping[str, Any], contact_ids: Sequence[str] | None, now: datetime) -> DeliveryFilter:
    """The filter as it was sent."""
    states = sent.get("state")
    return DeliveryFilter(
        None if states is None else frozenset(states),
        sent.get("kind"),
        sent.get("metric"),
        contact_ids,
        sent.get("subject_id"),
        time_range(sent.get("created_at"), now),
    )
