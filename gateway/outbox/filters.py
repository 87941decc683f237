"""Filters of deliveries: which part an index answers, and what is checked on each row."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateway.core.time_ranges import TimeRange, time_range
from gateway.domain.contacts.contacts import Document
from gateway.outbox.documents import DeliveryDocument


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Conditions on a delivery, ANDed; None matches all. `contact_ids`: all ids of the one contact."""

    states: frozenset[str] | None = None
    kind: str | None = None
    metric: str | None = None
    contact_ids: Sequence[str] | None = None
    subject_id: str | None = None
    times: TimeRange = field(default_factory=TimeRange)

    @property
    def places(self) -> list[Document]:
        """Disjoint equality filters, each with an index, that together cover every match."""
        if self.subject_id is not None:
            return [{"subject_id": self.subject_id}]
        if self.contact_ids is not None:
            return [{"contact_id": id_} for id_ in self.contact_ids]
        if self.states is not None:
            return [{"state": state} for state in sorted(self.states)]
        return [{}] if self.metric is None else [{"metric": self.metric}]

    @property
    def is_exact(self) -> bool:
        """Whether `places` contain matches only, so that rows need no check."""
        values = (self.states, self.kind, self.metric, self.contact_ids, self.subject_id)
        set_count = sum(value is not None for value in values)
        return set_count <= 1 and self.kind is None

    def matches(self, row: DeliveryDocument) -> bool:
        """Whether the delivery matches. `times` is left to the index."""
        return (
            (self.states is None or row["state"] in self.states)
            and (self.kind is None or row["kind"] == self.kind)
            and (self.metric is None or row["metric"] == self.metric)
            and (self.contact_ids is None or row["contact_id"] in self.contact_ids)
            and (self.subject_id is None or row["subject_id"] == self.subject_id)
        )


def delivery_filter(input_: Document, contact_ids: Sequence[str] | None, now: datetime) -> DeliveryFilter:
    """Parse a filter input. `contact_ids` replace its contact."""
    states = input_.get("state")
    return DeliveryFilter(
        None if states is None else frozenset(states),
        input_.get("kind"),
        input_.get("metric"),
        contact_ids,
        input_.get("subject_id"),
        time_range(input_.get("created_at"), now),
    )
