"""The documents of contacts, as they are stored."""

from typing import TypedDict


class ContactRefFields(TypedDict, total=False):
    """The keys of a contact reference, as a caller gives them."""

    id: str | None
    external_id: str | None
    email: str | None
    anonymous_id: str | None
