"""Converts events to rows of exports, and those rows back to the same events."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import cast

from gateway.core.idempotency import Claim
from gateway.core.json_values import Json
from gateway.core.text_rules import check_text
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.documents import ContactDocument, ContactRefFields
from gateway.domain.events.documents import EventDocument
from gateway.domain.events.events import IMPORT_YEARS, EventFields, TrackEvent, check_occurred_at, track_event
from gateway.errors import ErrorCode, UserProblem
from gateway.settings import Settings
from gateway.transfer.csv_values import format_time, read_object, read_text, read_time

EXPORTED = (
    "contactId",
    "externalId",
    "email",
    "anonymousId",
    "name",
    "occurredAt",
    "receivedAt",
    "metadata",
    "identity",
    "fingerprint",
)
NEEDED = ("name", "occurredAt", "identity")
_KEYS = {"contactId": "id", "externalId": "external_id", "email": "email", "anonymousId": "anonymous_id"}
_LONGEST_IDENTITY = 1000


def event_row(event: EventDocument, contact: ContactDocument) -> Document:
    anonymous = contact["anonymous_ids"][-1:]
    row = {
        "contactId": contact["_id"],
        "externalId": contact.get("external_id"),
        "email": contact.get("email"),
        "anonymousId": anonymous[0] if anonymous else None,
        "name": event["name"],
        "occurredAt": format_time(event["occurred_at"]),
        "receivedAt": format_time(event["received_at"]),
        "metadata": event["metadata_json"],
        "identity": event["identity"],
        "fingerprint": event.get("fingerprint"),
    }
    return {name: value for name, value in row.items() if value is not None}


def exported_event(row: Mapping[str, Json], settings: Settings, now: datetime) -> TrackEvent:
    """The event of an exported row, with its former identity. It does not count as seen: the contact's row has that."""
    values = {name: value for name, value in row.items() if value not in (None, "")}
    if missing := [name for name in NEEDED if name not in values]:
        raise UserProblem(
            ErrorCode.INVALID,
            f"'{missing[0]}' is missing, which every row of an export has: for other files name the columns with options.",
            (missing[0],),
        )
    keys = {key: read_text(values[name], name) for name, key in _KEYS.items() if name in values}
    event_input: EventFields = {
        "contact": cast(ContactRefFields, keys),
        "name": read_text(values["name"], "name"),
        "occurred_at": read_time(values["occurredAt"], "occurredAt"),
        "metadata": read_object(values.get("metadata", {}), "metadata"),
    }
    command = track_event(event_input, settings, now, years=IMPORT_YEARS)
    return replace(
        command,
        received_at=_received_at(values, now),
        claim=Claim(_checked(values, "identity"), _checked(values, "fingerprint")),
        counts_as_seen=False,
        imported=True,
    )


def _received_at(values: Mapping[str, Json], now: datetime) -> datetime | None:
    if "receivedAt" not in values:
        return None
    return check_occurred_at(read_time(values["receivedAt"], "receivedAt"), now, IMPORT_YEARS, ("receivedAt",))


def _checked(values: Mapping[str, Json], name: str) -> str:
    if name not in values:
        return ""
    return check_text(read_text(values[name], name), (name,), longest=_LONGEST_IDENTITY, named=name)
