"""Contacts: their fields, identities and roles."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

import orjson

from gateway.core.json_values import Json, JsonObject
from gateway.core.text_rules import check_text
from gateway.domain.contacts.documents import ContactDocument, ContactRefFields
from gateway.domain.contacts.fields import CONTACT_FIELDS
from gateway.errors import ErrorCode, UserProblem

Document = dict[str, Any]
MAX_KEY_LENGTH = 255
MAX_ANONYMOUS_IDS = 1000


class ContactRole(StrEnum):
    """How well a contact is identified. It never falls by itself."""

    VISITOR = "VISITOR"
    LEAD = "LEAD"
    USER = "USER"


class IdentityKind(StrEnum):
    """The keys of a contact, the strongest first."""

    ID = "id"
    EXTERNAL = "external_id"
    EMAIL = "email"
    ANONYMOUS = "anonymous_id"


_KINDS = tuple(IdentityKind)  # iterating over an enum is slow


@dataclass(frozen=True, slots=True)
class ContactRef:
    """A reference by one or more keys. The strongest one decides."""

    id: str | None = None
    external_id: str | None = None
    email: str | None = None
    anonymous_id: str | None = None

    def keys(self) -> list[tuple[IdentityKind, str]]:
        given = zip(_KINDS, (self.id, self.external_id, self.email, self.anonymous_id), strict=True)
        return [(kind, value) for kind, value in given if value is not None]


@dataclass(slots=True)
class ContactDraft:
    """A contact to store, beside what is stored (None if new)."""

    document: ContactDocument
    stored: ContactDocument | None

    @property
    def id(self) -> str:
        return str(self.document["_id"])

    def changed_fields(self) -> dict[str, object]:
        """The fields that differ from the stored ones; removed fields as None."""
        before: Mapping[str, object] = self.stored or {}
        changes = {
            name: value
            for name, value in self.document.items()
            if value is not (stored := before.get(name)) and json_differs(value, stored)
        }
        removed = [name for name, value in before.items() if value is not None and name not in self.document]
        return changes | dict.fromkeys(removed)

    def visible_fields(self) -> list[str]:
        """The names of the changed fields without bookkeeping such as `last_seen_at`, sorted."""
        return sorted(name for name in self.changed_fields() if name not in _BOOKKEEPING)


def identity(kind: IdentityKind, value: str) -> str:
    """The text of a key, unique in its workspace."""
    return f"{kind}:{value.lower() if kind is IdentityKind.EMAIL else value}"


def check_ref(fields: ContactRefFields) -> ContactRef:
    """Parse a contact reference. UserProblem names the bad key."""
    keys: dict[str, str] = {}
    values = (fields.get("id"), fields.get("external_id"), fields.get("email"), fields.get("anonymous_id"))
    for kind, value in zip(_KINDS, values, strict=True):
        if value is not None:
            keys[str(kind)] = check_key(kind, value)
    if not keys:
        raise UserProblem(ErrorCode.INVALID, "The contact has no key: give id, externalId, email or anonymousId.")
    return ContactRef(**keys)


def check_key(kind: IdentityKind, value: str) -> str:
    """Return the key if it is valid. Raises UserProblem."""
    name = PUBLIC_NAMES[kind]
    text = check_text(value, (name,), longest=MAX_KEY_LENGTH, named=name)
    if kind is IdentityKind.EMAIL:
        local, at, domain = text.rpartition("@")
        if not (local and at and domain) or any(char.isspace() for char in text):
            raise UserProblem(
                ErrorCode.INVALID, f"'{text}' is not an e-mail address: send one such as ada@example.com.", (name,)
            )
    return text


def unknown_contact(contact_id: str, *path: str) -> UserProblem:
    return UserProblem(
        ErrorCode.NOT_FOUND,
        f"There is no contact with the id '{contact_id}': it was deleted or never existed.",
        path,
    )


def new_contact(contact_id: str, workspace_id: str, now: datetime) -> ContactDocument:
    """An empty VISITOR."""
    document = {
        "_id": contact_id,
        "workspace_id": workspace_id,
        "identities": [identity(IdentityKind.ID, contact_id)],
        "role": ContactRole.VISITOR.value,
        "created_at": now,
        "updated_at": now,
        **{field.name: field.default() for field in CONTACT_FIELDS if field.default is not None},
    }
    return cast("ContactDocument", document)  # the table has the other fields


def by_name(contact: ContactDocument) -> Document:
    """The same contact, whose fields are read and written by the names in CONTACT_FIELDS."""
    return cast(Document, contact)


def known_role(contact: ContactDocument) -> ContactRole:
    """The role implied by the contact's keys alone."""
    if contact.get("external_id") is not None:
        return ContactRole.USER
    return ContactRole.LEAD if contact.get("email") is not None else ContactRole.VISITOR


def raised_role(contact: ContactDocument) -> ContactRole:
    """The higher of the stored role and the role implied by the keys."""
    order = list(ContactRole)
    return max(ContactRole(contact["role"]), known_role(contact), key=order.index)


def lead_email(email: str) -> str:
    """The unique identity of the lead that an e-mail refers to while no USER has it."""
    return f"lead_email:{email.lower()}"


def identities_of(contact: ContactDocument) -> list[str]:
    """The unique keys of a contact.

    A USER owns its e-mail. Of leads with the same e-mail, at most one owns it, as `lead_email`.
    """
    email, is_user = contact.get("email"), contact["role"] == ContactRole.USER
    identities = [text for text in contact["identities"] if text.startswith(f"{IdentityKind.ID}:")]
    if contact.get("external_id") is not None:
        identities.append(identity(IdentityKind.EXTERNAL, contact["external_id"]))
    if email is not None and is_user:
        identities.append(identity(IdentityKind.EMAIL, email))
    if email is not None and not is_user and lead_email(email) in contact["identities"]:
        identities.append(lead_email(email))
    return identities + [identity(IdentityKind.ANONYMOUS, value) for value in contact["anonymous_ids"]]


def other_ids(contact: ContactDocument) -> list[str]:
    """Imported ids from other workspaces."""
    own = contact.get("contact_ids") or [contact["_id"]]
    return [id_ for id_ in all_ids(contact) if id_ not in own]


def all_ids(contact: ContactDocument) -> list[str]:
    """Every id that finds this contact, merged and imported ones included."""
    texts = [text.partition(":") for text in contact["identities"]]
    return [value for kind, _, value in texts if kind == IdentityKind.ID]


def display_name(contact: ContactDocument) -> str:
    """A name to show: the best of its names, keys and role."""
    full = " ".join(part for part in (contact.get("first_name"), contact.get("last_name")) if part)
    return (
        contact.get("name")
        or full
        or contact.get("email")
        or contact.get("external_id")
        or str(contact["role"]).capitalize()
    )


def json_differs(left: object, right: object) -> bool:
    """Whether two values differ as JSON, where `true` is not 1."""
    return left is not right and (left != right or orjson.dumps(left) != orjson.dumps(right))


def logged_values(contact: ContactDocument) -> dict[str, object]:
    """The fields that the change log keeps before and after a change."""
    values = by_name(contact)
    return {field.name: values[field.name] for field in CONTACT_FIELDS if field.logged and field.name in values}


def merged_attributes(stored: Mapping[str, Json], update: Mapping[str, Json]) -> JsonObject:
    """Merge an update into custom attributes or a location; None removes a key."""
    return {key: value for key, value in {**stored, **update}.items() if value is not None}


def distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


PUBLIC_NAMES: dict[str, str] = {
    IdentityKind.ID: "id",
    IdentityKind.EXTERNAL: "externalId",
    IdentityKind.EMAIL: "email",
    IdentityKind.ANONYMOUS: "anonymousId",
}
_DERIVED = {"identities", "email_lower", "terms", "name_lower", "version", "contact_ids"}
_BOOKKEEPING = frozenset(_DERIVED | {field.name for field in CONTACT_FIELDS if not field.visible})
