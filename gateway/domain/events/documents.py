"""The documents of events, their summaries and definitions, as they are stored."""

from datetime import datetime
from typing import NotRequired, TypedDict

from gateway.core.json_values import JsonObject
from gateway.core.typed_values import Entry


class EventDocument(TypedDict):
    """`metadata` has the typed entries of `metadata_json`, in the order sent."""

    _id: str
    workspace_id: str
    contact_id: str
    name: str
    occurred_at: datetime
    received_at: datetime
    metadata: list[Entry]
    metadata_json: JsonObject
    identity: str
    fingerprint: NotRequired[str]
    imported: NotRequired[bool]


class TombstoneDocument(TypedDict):
    """What is left of a removed event. `metadata` has the counted value alone, as text."""

    _id: str
    workspace_id: str
    contact_id: str
    name: str
    occurred_at: datetime
    metadata: list[Entry]
    identity: str
    fingerprint: NotRequired[str]


StoredEvent = EventDocument | TombstoneDocument


class Counts(TypedDict):
    """How often something happened, when first and when last."""

    count: int
    first_at: datetime
    last_at: datetime


class NamedCounts(Counts):
    """Counts of one event name; `retained`: of events that were tracked elsewhere and are no longer stored."""

    name: str
    retained: NotRequired[bool]


class ImportedCounts(Counts):
    """Counts that were imported, and when."""

    at: NotRequired[datetime]


class SummaryKey(TypedDict):
    _id: str
    workspace_id: str
    contact_id: str
    name: str


class SummaryDocument(Counts):
    """One contact's events of one name: tracked, imported and retained ones together, and each apart."""

    _id: str
    workspace_id: str
    contact_id: str
    name: str
    tracked_count: NotRequired[int]
    tracked_first_at: NotRequired[datetime]
    tracked_last_at: NotRequired[datetime]
    imported: NotRequired[ImportedCounts]
    retained: NotRequired[Counts]


class SummaryIncrement(Counts):
    _id: str
    contact_id: str
    name: str


class SummaryChange(Counts):
    """What an import adds to the totals of a name; `again`: first or last moved inwards."""

    name: str
    again: bool
    contacts: NotRequired[int]


class MetadataKey(TypedDict):
    key: str
    types: list[str]


class DefinitionDocument(TypedDict):
    """An event name. `build`: the generation of its counted values; `origin`: "page" if a web page added it."""

    _id: str
    workspace_id: str
    name: str
    archived: bool
    created_at: datetime
    origin: NotRequired[str]
    description: NotRequired[str | None]
    summarize_by: NotRequired[str | None]
    build: NotRequired[str | None]
    count: NotRequired[int]
    contact_count: NotRequired[int]
    first_at: NotRequired[datetime | None]
    last_at: NotRequired[datetime | None]
    metadata_keys: NotRequired[list[MetadataKey]]


class NameTotals(TypedDict):
    count: int
    contact_count: int
    first_at: datetime | None
    last_at: datetime | None


NO_TOTALS: NameTotals = {"count": 0, "contact_count": 0, "first_at": None, "last_at": None}


class ValueDocument(Counts):
    """How often a summary's events had one value. Without `value`: all that came after the most frequent ones."""

    _id: str
    workspace_id: str
    summary_id: str
    contact_id: str
    name: str
    build: str
    value: NotRequired[str]


class EntryOfContact(TypedDict):
    contact_id: str
    entry: Entry


class EntryCounts(Counts):
    _id: EntryOfContact
