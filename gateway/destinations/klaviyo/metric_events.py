"""Derives metric events from changes of conversations and tickets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.destinations.klaviyo.mapping import Metric
from gateway.domain.change_kinds import ChangeKind
from gateway.domain.support.actors import ActorKind
from gateway.domain.support.documents import PartDocument
from gateway.domain.support.threads import Changeset, DomainEvent
from gateway.domain.support.ticket_states import TICKET_STATES


@dataclass(frozen=True, slots=True)
class MetricEvent:
    """A metric with its time. History read again yields the same `unique_id`."""

    metric: Metric
    at: datetime
    unique_id: str


_BY_CONTACT = {
    ChangeKind.CONVERSATION_CREATED: Metric.CREATED_CONVERSATION,
    ChangeKind.CONVERSATION_REPLIED: Metric.REPLIED_TO_CONVERSATION,
    ChangeKind.CONVERSATION_READ: Metric.READ_CONVERSATION,
    ChangeKind.CONVERSATION_RATED: Metric.RATED_CONVERSATION,
    ChangeKind.TICKET_REPLIED: Metric.REPLIED_TO_TICKET,
}
_BY_ANYBODY = {
    ChangeKind.TICKET_CREATED: Metric.CREATED_TICKET,
    **{rules.change: Metric(rules.metric) for rules in TICKET_STATES.values() if rules.metric is not None},
}
_CREATED = (ChangeKind.CONVERSATION_CREATED, ChangeKind.TICKET_CREATED)


def metric_events_of(change: Changeset[Any]) -> Iterator[MetricEvent]:
    parts = {part["_id"]: part for part in change.parts}
    for event in change.events:
        part = parts.get(event.part_id or "")
        metric = _BY_ANYBODY.get(event.kind)
        if metric is None and _is_by_contact(change, event, part):
            metric = _BY_CONTACT.get(event.kind)
        if metric is not None:
            yield _metric_event(metric, change, event, part)


def _is_by_contact(change: Changeset[Any], event: DomainEvent, part: PartDocument | None) -> bool:
    if event.kind in _CREATED:
        return bool(change.after["source"]["author"]["kind"] == ActorKind.CONTACT)
    if event.kind is ChangeKind.CONVERSATION_READ:
        return event.is_public  # reads by teammates are not public
    return part is not None and part["author"]["kind"] == ActorKind.CONTACT


def _metric_event(metric: Metric, change: Changeset[Any], event: DomainEvent, part: PartDocument | None) -> MetricEvent:
    if event.kind in _CREATED:
        return MetricEvent(metric, change.after["created_at"], created_id(change.after))
    if part is None:
        at = change.after["contact_reads"][-1]
        return MetricEvent(metric, at, read_id(change.after, at))
    return MetricEvent(metric, part["created_at"], part["_id"])


def created_id(document: Mapping[str, object]) -> str:
    """The unique id of a thread's creation."""
    return f"{document['_id']}:created"


def read_id(document: Mapping[str, object], at: datetime) -> str:
    """The unique id of a conversation read at that time."""
    return f"{document['_id']}:read:{at.isoformat()}"
