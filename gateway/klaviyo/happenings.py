"""Which changes of conversations and tickets are metrics, when each happened, and what makes it one."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.actors import ActorKind
from gateway.domain.acts import Change, Told
from gateway.domain.acts import Subject as Kind
from gateway.domain.contacts import Document
from gateway.klaviyo.mapping import Metric


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that Klaviyo hears of; history found again has the same unique id."""

    metric: Metric
    at: datetime
    unique_id: str


_BY_CONTACT = {
    Kind.CONVERSATION: {
        "CREATED": Metric.CREATED_CONVERSATION,
        "REPLIED": Metric.REPLIED_TO_CONVERSATION,
        "READ": Metric.READ_CONVERSATION,
        "RATED": Metric.RATED_CONVERSATION,
    },
    Kind.TICKET: {"REPLIED": Metric.REPLIED_TO_TICKET},
}
_BY_ANYBODY = {
    Kind.CONVERSATION: {},
    Kind.TICKET: {
        "CREATED": Metric.CREATED_TICKET,
        "SUBMITTED": Metric.SUBMITTED_TICKET,
        "WAITING": Metric.MARKED_TICKET_ON_HOLD,
        "RESOLVED": Metric.RESOLVED_TICKET,
    },
}


def happenings_of(change: Change) -> Iterator[Happening]:
    """What of a change Klaviyo hears, in order."""
    parts = {part["_id"]: part for part in change.parts}
    for told in change.told:
        part = parts.get(told.part_id or "")
        metric = _BY_ANYBODY[change.subject].get(told.kind)
        if metric is None and _is_contacts(change, told, part):
            metric = _BY_CONTACT[change.subject].get(told.kind)
        if metric is not None:
            yield _happening(metric, change, told, part)


def _is_contacts(change: Change, told: Told, part: Document | None) -> bool:
    """Whether the contact itself did it."""
    if told.kind == "CREATED":
        return bool(change.after["source"]["author"]["kind"] == ActorKind.CONTACT)
    if told.kind == "READ":
        return told.public  # those who answer read in silence
    return part is not None and part["author"]["kind"] == ActorKind.CONTACT


def _happening(metric: Metric, change: Change, told: Told, part: Document | None) -> Happening:
    id_ = change.after["_id"]
    if told.kind == "CREATED":
        return Happening(metric, change.after["created_at"], f"{id_}:created")
    if part is None:  # read: again only after something new
        return Happening(metric, change.after["updated_at"], f"{id_}:read:{change.after['last_part_at'].isoformat()}")
    return Happening(metric, part["created_at"], part["_id"])
