"""Builds deliveries: profiles, support metrics and forwarded events as Klaviyo takes them."""

from dataclasses import replace
from datetime import datetime, timedelta

from gateway.core.json_values import JsonObject
from gateway.destinations.klaviyo import mapping
from gateway.destinations.klaviyo.identifiers import identifiers_of
from gateway.destinations.klaviyo.metric_events import MetricEvent
from gateway.destinations.klaviyo.validation import problem_of_event, problem_of_profile
from gateway.domain.contacts.contacts import ContactDraft, Document
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.events.documents import EventDocument
from gateway.outbox.deliveries import DeliveryKind, NewDelivery

_HISTORY = timedelta(days=1)


def changed_profile(draft: ContactDraft) -> list[NewDelivery]:
    """A changed contact's profile; empty if no attribute changed, or if Klaviyo cannot identify the contact."""
    before, after = draft.stored, draft.document
    if not identifiers_of(after).any:
        return []
    attributes = mapping.profile_attributes(after)
    if before and attributes == mapping.profile_attributes(before):
        return []
    unset = mapping.unset_properties(before, after) if before else []
    return [_profile(after, mapping.profile_payload(attributes, unset))]


def full_profile(contact: ContactDocument) -> NewDelivery:
    return _profile(contact, mapping.profile_payload(mapping.profile_attributes(contact), ()))


def support_event(
    event: MetricEvent, subject: mapping.MetricSubject, now: datetime, *, history: bool = False
) -> NewDelivery:
    """One of the nine metric events of conversations and tickets. With `history` it triggers no flow."""
    properties = mapping.properties_of(event.metric, subject)
    return _event(
        event.metric,
        mapping.MetricSource.SUPPORT,
        subject.contact,
        properties,
        event.at,
        event.unique_id,
        now,
        subject_id=subject.document["_id"],
        history=history,
    )


def tracked_event(event: EventDocument, contact: ContactDocument, now: datetime) -> NewDelivery:
    name = event["name"]
    delivery = _event(
        name,
        mapping.MetricSource.TRACKED,
        contact,
        event["metadata_json"],
        event["occurred_at"],
        event["_id"],
        now,
        subject_id=event["_id"],
        money=mapping.money_of(event["metadata"]),
    )
    return replace(delivery, problem=delivery.problem or mapping.problem_of_metric_name(name))


def _event(
    metric: str,
    source: mapping.MetricSource,
    contact: ContactDocument,
    properties: JsonObject,
    at: datetime,
    unique_id: str,
    now: datetime,
    *,
    subject_id: str,
    money: tuple[float, str] | None = None,
    history: bool = False,
) -> NewDelivery:
    """An event delivery. History, and anything older than a day, is marked as backfill and triggers no flow."""
    backfill = history or at < now - _HISTORY
    payload = mapping.event_payload(metric, contact, properties, at, unique_id, money=money, backfill=backfill)
    return NewDelivery(
        DeliveryKind.EVENT,
        contact,
        payload,
        metric=str(metric),
        source=source.value,
        subject_id=subject_id,
        unique_id=unique_id,
        problem=problem_of_event(payload, contact, at, now),
        note=identifiers_of(contact).note,
    )


def _profile(contact: ContactDocument, payload: Document) -> NewDelivery:
    problem = problem_of_profile(payload, contact)
    return NewDelivery(DeliveryKind.PROFILE, contact, payload, problem=problem, note=identifiers_of(contact).note)


def merged_profile(waiting: Document, newer: Document) -> Document:
    """The payload of the newer profile. It also unsets what the earlier one was to unset."""
    unset = {*_unset_properties(waiting), *_unset_properties(newer)}
    return mapping.profile_payload(newer["data"]["attributes"], sorted(unset))


def _unset_properties(payload: Document) -> list[str]:
    names: list[str] = payload["data"].get("meta", {}).get("patch_properties", {}).get("unset", [])
    return names
