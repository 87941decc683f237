"""The documents of contacts, as they are stored."""

from datetime import datetime
from typing import NotRequired, TypedDict


class ContactRefFields(TypedDict, total=False):
    """The keys of a contact reference, as a caller gives them."""

    id: str | None
    external_id: str | None
    email: str | None
    anonymous_id: str | None


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
