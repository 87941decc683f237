"""Which rows of history are metric events. Their ids and times are those of live deliveries."""

from collections.abc import Iterator
from typing import cast

from gateway.destinations.klaviyo.backfill import Stage
from gateway.destinations.klaviyo.mapping import Metric
from gateway.destinations.klaviyo.metric_events import MetricEvent, created_id, read_id
from gateway.domain.contacts.contacts import Document
from gateway.domain.support.actors import ActorKind
from gateway.domain.support.documents import PartDocument
from gateway.domain.support.threads import PartKind
from gateway.domain.support.threads import ThreadKind as Kind
from gateway.domain.support.ticket_states import TICKET_STATES

_METRIC_BY_STATE = {
    state.value: Metric(rules.metric) for state, rules in TICKET_STATES.items() if rules.metric is not None
}
METRICS = {
    Stage.CONVERSATIONS: (Metric.CREATED_CONVERSATION, Metric.READ_CONVERSATION),
    Stage.CONVERSATION_PARTS: (Metric.REPLIED_TO_CONVERSATION, Metric.RATED_CONVERSATION),
    Stage.TICKETS: (Metric.CREATED_TICKET,),
    Stage.TICKET_PARTS: (*dict.fromkeys(_METRIC_BY_STATE.values()), Metric.REPLIED_TO_TICKET),
}
KINDS = {
    Stage.CONVERSATIONS: Kind.CONVERSATION,
    Stage.CONVERSATION_PARTS: Kind.CONVERSATION,
    Stage.TICKETS: Kind.TICKET,
    Stage.TICKET_PARTS: Kind.TICKET,
}


def historical_metric_events(stage: Stage, row: Document) -> Iterator[MetricEvent]:
    """The metric events of a conversation, a ticket or a part of either."""
    if stage is Stage.CONVERSATIONS:
        if row["source"]["author"]["kind"] == ActorKind.CONTACT:
            yield MetricEvent(Metric.CREATED_CONVERSATION, row["created_at"], created_id(row))
        for at in row.get("contact_reads", ()):
            yield MetricEvent(Metric.READ_CONVERSATION, at, read_id(row, at))
    elif stage is Stage.TICKETS:
        yield MetricEvent(Metric.CREATED_TICKET, row["created_at"], created_id(row))
    elif (metric := _metric_of(stage, cast(PartDocument, row))) is not None:
        yield MetricEvent(metric, row["created_at"], row["_id"])


def _metric_of(stage: Stage, part: PartDocument) -> Metric | None:
    by_contact = part["author"]["kind"] == ActorKind.CONTACT
    if stage is Stage.TICKET_PARTS:
        if part["kind"] == PartKind.COMMENT:
            return Metric.REPLIED_TO_TICKET if by_contact else None
        return _METRIC_BY_STATE.get(part.get("to_state", ""))
    if not by_contact:
        return None
    if part["kind"] == PartKind.COMMENT:
        return Metric.REPLIED_TO_CONVERSATION
    return Metric.RATED_CONVERSATION if part["kind"] == PartKind.RATING else None
