"""Erasure of contacts, and refusal of late retries that would recreate the person."""

import hashlib
import hmac
from datetime import datetime, timedelta

from gateway.domain.contacts.contacts import IdentityKind, all_ids, identity
from gateway.domain.contacts.documents import ContactDocument, DeletionDocument
from gateway.domain.contacts.merging import ids_of

REFUSED_FOR = timedelta(days=30)


def identity_hash(salt: str, workspace_id: str, text: str) -> str:
    """A salted hash of an identity; useless without the salt."""
    return "ers_" + hmac.digest(salt.encode(), f"{workspace_id}\0{text}".encode(), hashlib.sha256).hex()


def identities_to_refuse(contact: ContactDocument) -> list[str]:
    """All keys that a late retry could name the contact by."""
    kinds = [(IdentityKind.EXTERNAL, contact.get("external_id")), (IdentityKind.EMAIL, contact.get("email"))]
    kinds += [(IdentityKind.ANONYMOUS, value) for value in contact["anonymous_ids"]]
    ids = [identity(IdentityKind.ID, id_) for id_ in all_ids(contact)]  # an import names contacts by them
    return [identity(kind, value) for kind, value in kinds if value is not None] + ids


def new_deletion(contact: ContactDocument, now: datetime, until: datetime) -> DeletionDocument:
    """The pending deletion of everything under these ids, held by its creator until `until`."""
    return {
        "_id": contact["_id"],
        "workspace_id": contact["workspace_id"],
        "contact_ids": ids_of(contact),
        "at": now,
        "until": until,
    }
