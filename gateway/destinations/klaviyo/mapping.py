"""Maps support metrics, profiles and tracked events to Klaviyo's payloads, from one table.

Klaviyo ignores 0, null and empty texts in event properties, so each count has a companion `... Is Zero`. It cannot
segment by objects, so custom attributes are also flattened into one property each.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from gateway.core.json_values import JsonObject
from gateway.core.typed_values import Entry, in_units
from gateway.destinations.klaviyo.identifiers import identifiers_of
from gateway.domain.contacts.contacts import Document, by_name
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.fields import CONTACT_FIELDS, FieldKind
from gateway.domain.support.documents import (
    AdminDocument,
    ConversationDocument,
    TeamDocument,
    TicketDocument,
    TicketTypeDocument,
)

_MOST_FLATTENED = 200


class Metric(StrEnum):
    """The metrics of support, named as Klaviyo's own integration of Intercom names them."""

    CREATED_CONVERSATION = "Created Conversation"
    RATED_CONVERSATION = "Rated Conversation"
    READ_CONVERSATION = "Read Conversation"
    REPLIED_TO_CONVERSATION = "Replied to Conversation"
    CREATED_TICKET = "Created Ticket"
    SUBMITTED_TICKET = "Submitted Ticket"
    REPLIED_TO_TICKET = "Replied to Ticket"
    MARKED_TICKET_ON_HOLD = "Marked Ticket On Hold"
    RESOLVED_TICKET = "Resolved Ticket"


class MetricSource(StrEnum):
    SUPPORT = "SUPPORT"
    TRACKED = "TRACKED"


@dataclass(frozen=True, slots=True)
class MetricSubject:
    """A conversation or ticket with the documents that it names, as of the event."""

    document: ConversationDocument | TicketDocument
    contact: ContactDocument
    admin: AdminDocument | None
    team: TeamDocument | None
    type: TicketTypeDocument | None

    def get(self, *path: str) -> Any:
        """The value at that path of the document; None if there is none."""
        value: Any = self.document
        for name in path:
            value = (value or {}).get(name)
        return value

    def phone(self) -> str | None:
        return identifiers_of(self.contact).phone


Property = Callable[[MetricSubject], object]


def _field(*path: str) -> Property:
    return lambda subject: _plain(subject.get(*path))


def _word(*path: str) -> Property:
    """An enumeration value in lower case, as Intercom writes it."""
    return lambda subject: str(value).lower() if (value := subject.get(*path)) is not None else None


def _count(*path: str) -> Property:
    return lambda subject: int(subject.get(*path) or 0)


_CONVERSATION: dict[str, Property] = {
    "email": lambda subject: subject.contact.get("email"),
    "phone_number": MetricSubject.phone,
    "Title": _field("title"),
    "Snoozed Until": _field("snoozed_until"),
    "Waiting Since": _field("waiting_since"),
    "Priority": _word("priority"),
    "Assigned Team": lambda subject: subject.team and subject.team["name"],
    "Assigned Admin Name": lambda subject: subject.admin and subject.admin["name"],
    "Assigned Admin Email": lambda subject: subject.admin and subject.admin["email"],
    "Tags": lambda subject: list(subject.get("tags") or ()),
    "Conversation Rating": _field("rating", "score"),
    "Conversation Source": _word("source", "channel"),
    "Conversation Delivered As": _word("source", "delivered_as"),
    "Conversation Parts Count": _count("statistics", "part_count"),
    "SLA Status": _word("sla", "status"),
    "Count Reopens": _count("statistics", "reopen_count"),
    "Count Assignments": _count("statistics", "assignment_count"),
    "Custom Attributes": lambda subject: dict(subject.get("custom_attributes") or {}),
}
_TICKET: dict[str, Property] = {
    "email": lambda subject: subject.contact.get("email"),
    "phone_number": MetricSubject.phone,
    "Category": _word("category"),
    "Assigned Team": lambda subject: subject.team and subject.team["name"],
    "Assigned Admin Name": lambda subject: subject.admin and subject.admin["name"],
    "Assigned Admin Email": lambda subject: subject.admin and subject.admin["email"],
    "Snoozed Until": _field("snoozed_until"),
    "Ticket Parts Count": _count("statistics", "part_count"),
    "Ticket ID": _field("number"),
    "Ticket Type": lambda subject: subject.type and subject.type["name"],
    "Ticket Name": _field("submitted_title"),
    "Ticket Description": _field("submitted_description"),
    "Shared": lambda subject: bool(subject.get("is_shared")),
}
_RESOLVED_TICKET: dict[str, Property] = {
    "Contact Email": _TICKET["email"],
    "Contact Phone": _TICKET["phone_number"],
    "Category": _TICKET["Category"],
    "Team Name": _TICKET["Assigned Team"],
    "Admin Name": _TICKET["Assigned Admin Name"],
    "Admin Email": _TICKET["Assigned Admin Email"],
    "Ticket ID": _TICKET["Ticket ID"],
    "Ticket Name": _TICKET["Ticket Name"],
    "Ticket Description": _TICKET["Ticket Description"],
    "Is Shared": _TICKET["Shared"],
}
TABLE: dict[Metric, dict[str, Property]] = {
    Metric.CREATED_CONVERSATION: _CONVERSATION,
    Metric.RATED_CONVERSATION: _CONVERSATION,
    Metric.READ_CONVERSATION: _CONVERSATION,
    Metric.REPLIED_TO_CONVERSATION: _CONVERSATION,
    Metric.CREATED_TICKET: _TICKET,
    Metric.SUBMITTED_TICKET: _TICKET,
    Metric.REPLIED_TO_TICKET: _TICKET,
    Metric.MARKED_TICKET_ON_HOLD: _TICKET,
    Metric.RESOLVED_TICKET: _RESOLVED_TICKET,
}
_COUNTS = ("Conversation Parts Count", "Count Reopens", "Count Assignments", "Ticket Parts Count")


def properties_of(metric: Metric, subject: MetricSubject) -> Document:
    """The properties of a support metric. Every name is present."""
    properties: Document = {name: property_of(subject) for name, property_of in TABLE[metric].items()}
    zero = {f"{name} Is Zero": properties[name] == 0 for name in _COUNTS if name in properties}
    return properties | zero | _flattened("Custom Attributes ", properties.get("Custom Attributes") or {})


def profile_attributes(contact: ContactDocument) -> Document:
    """A contact as a profile with its identifiers. Missing values are null, which clears them in Klaviyo."""
    identifiers = identifiers_of(contact)
    location = contact.get("location") or {}
    first, last = _names(contact)
    attributes = {
        "first_name": first,
        "last_name": last,
        "image": contact.get("avatar_url"),
        "location": {part: location.get(part) for part in ("city", "country", "region")},
        "properties": _profile_properties(contact),
    }
    return {
        **({"email": identifiers.email} if identifiers.email else {}),
        **({"phone_number": identifiers.phone} if identifiers.phone else {}),
        **attributes,
    }


def unset_properties(before: ContactDocument, after: ContactDocument) -> list[str]:
    """The profile properties that a contact no longer has."""
    return sorted(_profile_properties(before).keys() - _profile_properties(after).keys())


def profile_payload(attributes: Document, unset: Iterable[str]) -> Document:
    unset_names = [name for name in unset if name not in attributes["properties"]]
    meta = {"meta": {"patch_properties": {"unset": unset_names}}} if unset_names else {}
    return {"data": {"type": "profile", "attributes": dict(attributes), **meta}}


def event_payload(
    metric: str,
    contact: ContactDocument,
    properties: JsonObject,
    at: datetime,
    unique_id: str,
    *,
    money: tuple[float, str] | None = None,
    backfill: bool = False,
) -> Document:
    """The body that creates an event. It names the contact by e-mail, or else by phone: with both, Klaviyo would
    join two profiles that share a phone."""
    identifiers = identifiers_of(contact)
    profile = (
        {"email": identifiers.email}
        if identifiers.email
        else {"phone_number": identifiers.phone}
        if identifiers.phone
        else {}
    )
    attributes: Document = {
        "properties": dict(properties),
        "time": at.isoformat(),
        "unique_id": unique_id,
        "backfill": backfill,
        "metric": {"data": {"type": "metric", "attributes": {"name": str(metric)}}},
        "profile": {"data": {"type": "profile", "attributes": profile}},
    }
    if money is not None:
        attributes |= {"value": money[0], "value_currency": money[1]}
    return {"data": {"type": "event", "attributes": attributes}}


def deletion_payload(contact: ContactDocument) -> Document:
    """The body that requests the erasure of a contact's profile."""
    identifiers = identifiers_of(contact)
    attributes = {"email": identifiers.email} if identifiers.email else {"phone_number": identifiers.phone}
    profile = {"data": {"type": "profile", "attributes": attributes}}
    return {"data": {"type": "data-privacy-deletion-job", "attributes": {"profile": profile}}}


def _profile_properties(contact: ContactDocument) -> Document:
    properties: Document = {"Intercom contact ID": contact["_id"]}
    for field in CONTACT_FIELDS:
        if field.profile_property is not None:
            value = _profile_value(field.kind, by_name(contact).get(field.name))
            properties |= {} if value is None else {field.profile_property: value}
    return properties | _flattened("Intercom_custom_attributes_", contact.get("custom_attributes") or {})


def _profile_value(kind: FieldKind, value: Any) -> object:
    match kind:
        case FieldKind.ROLE:
            return str(value).lower()
        case FieldKind.FLAG:
            return bool(value)
        case FieldKind.COUNT:
            return int(value or 0)
        case FieldKind.TAGS | FieldKind.KEYS:
            return list(value or ())
        case FieldKind.ATTRIBUTES | FieldKind.LOCATION:
            return dict(value or {})
    return _plain(value)


def _flattened(prefix: str, attributes: JsonObject) -> Document:
    flat = [(name, value) for name, value in attributes.items() if not isinstance(value, dict)]
    return {prefix + name: _plain(value) for name, value in flat[:_MOST_FLATTENED]}


def _names(contact: ContactDocument) -> tuple[str | None, str | None]:
    first, last = contact.get("first_name"), contact.get("last_name")
    if first is None and last is None and contact.get("name"):
        first, _, rest = str(contact["name"]).strip().partition(" ")
        last = rest.strip() or None
    return first, last


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def money_of(metadata: Iterable[Entry]) -> tuple[float, str] | None:
    """The first amount of money in an event's metadata, in units of its currency."""
    for entry in metadata:
        if entry["type"] == "MoneyMetadata":
            return in_units(entry["amount_minor"], entry["currency"]), entry["currency"]
    return None


def problem_of_metric_name(name: str) -> str | None:
    """Why an event of this name cannot be forwarded; None if it can."""
    if name in set(Metric):
        return f"'{name}' is the name of a support metric: Klaviyo would mix them up."
    return None
