"""The documents of contacts, as they are stored."""

from datetime import datetime
from typing import NotRequired, TypedDict

from gateway.core.json_values import JsonObject


class ContactRefFields(TypedDict, total=False):
    """The keys of a contact reference, as a caller gives them."""

    id: str | None
    external_id: str | None
    email: str | None
    anonymous_id: str | None


class LocationFields(TypedDict, total=False):
    """Where a contact is, as a caller gives it; None removes a part."""

    city: str | None
    region: str | None
    country: str | None


class LocationDocument(TypedDict, total=False):
    city: str
    region: str
    country: str


class ContactDocument(TypedDict):
    """A contact. `identities`: its unique keys; `terms`: what filters find it by; `contact_ids`: all ids that events may
    name it by, once others were merged into it."""

    _id: str
    workspace_id: str
    identities: list[str]
    role: str
    anonymous_ids: list[str]
    tags: list[str]
    custom_attributes: JsonObject
    created_at: datetime
    updated_at: datetime
    unsubscribed_from_emails: bool
    has_hard_bounced: bool
    marked_email_as_spam: bool
    opted_out_subscription_types_count: int
    external_id: NotRequired[str]
    email: NotRequired[str]
    phone: NotRequired[str]
    name: NotRequired[str]
    first_name: NotRequired[str]
    last_name: NotRequired[str]
    avatar_url: NotRequired[str]
    location: NotRequired[LocationDocument]
    signed_up_at: NotRequired[datetime]
    last_seen_at: NotRequired[datetime]
    email_lower: NotRequired[str]
    name_lower: NotRequired[str]
    terms: NotRequired[list[str]]
    contact_ids: NotRequired[list[str]]
    version: NotRequired[int]


class DeletionDocument(TypedDict):
    """The data of a deleted contact that is still to erase, under these ids; `until`: the end of the lease."""

    _id: str
    workspace_id: str
    contact_ids: list[str]
    at: NotRequired[datetime]
    until: datetime


class ErasureDocument(TypedDict):
    """The salted hash of an erased identity (`_id`), and when it was erased."""

    _id: str
    workspace_id: str
    at: datetime
