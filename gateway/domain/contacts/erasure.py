"""Erasure of contacts, and refusal of late retries that would recreate the person."""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta

from gateway.domain.contacts.contacts import Document, IdentityKind, all_ids, identity
from gateway.domain.contacts.documents import DeletionDocument
from gateway.domain.contacts.merging import ids_of

REFUSED_FOR = timedelta(days=30)


def identity_hash(salt: str, workspace_id: str, text: str) -> str:
    """A salted hash of an identity; useless without the salt."""
    return "ers_" + hmac.digest(salt.encode(), f"{workspace_id}\0{text}".encode(), hashlib.sha256).hex()


def identities_to_refuse(contact: Mapping[str, object]) -> list[str]:
    """All keys that a late retry could name the contact by."""
    anonymous = contact["anonymous_ids"]
    kinds = [(IdentityKind.EXTERNAL, contact.get("external_id")), (IdentityKind.EMAIL, contact.get("email"))]
    if isinstance(anonymous, list):
        kinds += [(IdentityKind.ANONYMOUS, value) for value in anonymous]
    ids = [identity(IdentityKind.ID, id_) for id_ in all_ids(contact)]  # an import names contacts by them
    return [identity(kind, str(value)) for kind, value in kinds if value is not None] + ids


def new_deletion(contact: Document, now: datetime, until: datetime) -> DeletionDocument:
    """The pending deletion of everything under these ids, held by its creator until `until`."""
    return {
        "_id": contact["_id"],
        "workspace_id": contact["workspace_id"],
        "contact_ids": ids_of(contact),
        "at": now,
        "until": until,
    }
