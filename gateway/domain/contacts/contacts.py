"""Contacts: what they are made of, how their keys are compared, and which changes they tell."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from gateway.core.text_rules import check_text
from gateway.errors import ErrorCode, UserProblem

Document = dict[str, Any]
MAX_KEY_LENGTH = 255
MAX_ANONYMOUS_IDS = 1000


class ContactRole(StrEnum):
    """How well a contact is known; it rises with the keys that become known, and never falls by itself."""

    VISITOR = "VISITOR"
    LEAD = "LEAD"
    USER = "USER"


class IdentityKind(StrEnum):
    """The keys that a contact is known by, the strongest first."""

    ID = "id"
    EXTERNAL = "external_id"
    EMAIL = "email"
    ANONYMOUS = "anonymous_id"


_KINDS = tuple(IdentityKind)  # an enumeration is slow to walk through


@dataclass(frozen=True, slots=True)
class ContactRef:
    """Who is meant: at least one key; the strongest one given decides."""

    id: str | None = None
    external_id: str | None = None
    email: str | None = None
    anonymous_id: str | None = None

    def keys(self) -> list[tuple[IdentityKind, str]]:
        """The keys given, the strongest first."""
        given = zip(_KINDS, (self.id, self.external_id, self.email, self.anonymous_id), strict=True)
        return [(kind, value) for kind, value in given if value is not None]


@dataclass(slots=True)
class ContactDraft:
    """A contact as this transaction would leave it, beside what is stored (None: it is new)."""

    document: Document
    stored: Document | None

    @property
    def id(self) -> str:
        """The contact's id."""
        return str(self.document["_id"])

    def is_changed(self) -> Document:
        """The fields that differ from what is stored, cleared ones as None."""
        before = self.stored or {}
        found = {
            name: value
            for name, value in self.document.items()
            if value is not (stored := before.get(name)) and json_differs(value, stored)
        }
        gone = [name for name, value in before.items() if value is not None and name not in self.document]
        return found | dict.fromkeys(gone)


def identity(kind: IdentityKind, value: str) -> str:
    """The text under which a key is unique in its workspace."""
    return f"{kind}:{value.lower() if kind is IdentityKind.EMAIL else value}"


def check_ref(sent: Mapping[str, Any]) -> ContactRef:
    """The reference sent; UserProblem names the key that cannot be one."""
    found: dict[str, str] = {}
    for kind in _KINDS:
        if (value := sent.get(kind)) is not None:
            found[str(kind)] = check_key(kind, value)
    if not found:
        raise UserProblem(ErrorCode.INVALID, "Say which contact is meant: give id, externalId, email or anonymousId.")
    return ContactRef(**found)


def check_key(kind: IdentityKind, value: str) -> str:
    """The key itself; UserProblem where it cannot be stored or is no e-mail address."""
    name = PUBLIC_NAMES[kind]
    text = check_text(value, (name,), longest=MAX_KEY_LENGTH, named=name)
    if kind is IdentityKind.EMAIL:
        local, at, domain = text.rpartition("@")
        if not (local and at and domain) or any(mark.isspace() for mark in text):
            raise UserProblem(
                ErrorCode.INVALID, f"'{text}' is not an e-mail address: send one such as ada@example.com.", (name,)
            )
    return text


def unknown_contact(contact_id: str, *path: str) -> UserProblem:
    """That no contact has that id."""
    return UserProblem(
        ErrorCode.NOT_FOUND,
        f"There is no contact with the id '{contact_id}': it was deleted, or never was there.",
        path,
    )


def new_contact(contact_id: str, workspace_id: str, now: datetime) -> Document:
    """A contact of whom nothing is known yet."""
    return {
        "_id": contact_id,
        "workspace_id": workspace_id,
        "identities": [identity(IdentityKind.ID, contact_id)],
        "role": ContactRole.VISITOR.value,
        "anonymous_ids": [],
        "tags": [],
        "custom_attributes": {},
        "created_at": now,
        "updated_at": now,
        "unsubscribed_from_emails": False,
        "has_hard_bounced": False,
        "marked_email_as_spam": False,
        "opted_out_subscription_types_count": 0,
    }


def known_role(contact: Document) -> ContactRole:
    """The role that a contact's keys alone give it."""
    if contact.get("external_id") is not None:
        return ContactRole.USER
    return ContactRole.LEAD if contact.get("email") is not None else ContactRole.VISITOR


def raised_role(contact: Document) -> ContactRole:
    """The contact's role, or the one its keys give it, whichever is higher."""
    order = list(ContactRole)
    return max(ContactRole(contact["role"]), known_role(contact), key=order.index)


def lead_email(email: str) -> str:
    """The identity of the lead who is meant by an e-mail that no USER has: two that are created at once cannot both have it."""
    return f"lead_email:{email.lower()}"


def identities_of(contact: Document) -> list[str]:
    """What is unique of this contact: its id, external id, anonymous ids, as a USER its e-mail, as the lead whom an
    e-mail means that e-mail (leads of whom it is merely stated may share one)."""
    email, user = contact.get("email"), contact["role"] == ContactRole.USER
    kept = [text for text in contact["identities"] if text.startswith(f"{IdentityKind.ID}:")]
    if contact.get("external_id") is not None:
        kept.append(identity(IdentityKind.EXTERNAL, contact["external_id"]))
    if email is not None and user:
        kept.append(identity(IdentityKind.EMAIL, email))
    if email is not None and not user and lead_email(email) in contact["identities"]:
        kept.append(lead_email(email))
    return kept + [identity(IdentityKind.ANONYMOUS, value) for value in contact["anonymous_ids"]]


def other_ids(contact: Mapping[str, Any]) -> list[str]:
    """The ids of other workspaces that a contact had there, and was brought with by files."""
    own = contact.get("contact_ids") or [contact["_id"]]
    return [id_ for id_ in all_ids(contact) if id_ not in own]


def all_ids(contact: Mapping[str, Any]) -> list[str]:
    """Every id that a contact is found by: its own, those of contacts that it took over, and those of other workspaces."""
    texts = [text.partition(":") for text in contact["identities"]]
    return [value for kind, _, value in texts if kind == IdentityKind.ID]


def display_name(contact: Mapping[str, Any]) -> str:
    """What people call this contact: the best of its names, keys and role."""
    full = " ".join(part for part in (contact.get("first_name"), contact.get("last_name")) if part)
    return (
        contact.get("name")
        or full
        or contact.get("email")
        or contact.get("external_id")
        or str(contact["role"]).capitalize()
    )


LOGGED_FIELDS = (
    "role",
    "external_id",
    "email",
    "phone",
    "name",
    "tags",
    "location",
    "custom_attributes",
    "signed_up_at",
)


def visible_change(change_id: str, draft: ContactDraft, now: datetime) -> Document:
    """The line of the `changes` journal that tells this change: kind, ids, and what filters match, before and after."""
    return {
        "_id": change_id,
        "workspace_id": draft.document["workspace_id"],
        "subject": "contact",
        "kind": "CREATED" if draft.stored is None else "UPDATED",
        "contact_id": draft.id,
        "fields": sorted(name for name in draft.is_changed() if name not in _UNLOGGED_FIELDS),
        "before": None if draft.stored is None else _logged_values(draft.stored),
        "after": _logged_values(draft.document),
        "at": now,
    }


def contact_changed(change_id: str, draft: ContactDraft, now: datetime) -> Document | None:
    """The line of the journal that tells this change; of a new `last_seen_at` alone one that segments, and nobody else,
    hear. None: there is nothing to tell."""
    if is_visible_change(draft):
        return visible_change(change_id, draft, now)
    if "last_seen_at" not in draft.is_changed():
        return None
    ids = {"_id": change_id, "workspace_id": draft.document["workspace_id"], "contact_id": draft.id}
    return {**ids, "subject": "seen", "kind": "SEEN", "at": now}


def is_visible_change(draft: ContactDraft) -> bool:
    """Whether a change is one of the contact's own: a new `last_seen_at` alone is not."""
    return any(name not in _UNLOGGED_FIELDS for name in draft.is_changed())


def json_differs(one: Any, other: Any) -> bool:
    """Whether two values are written differently: to Python true and 1 are equal, to whoever reads them they are not."""
    return one is not other and (one != other or orjson.dumps(one) != orjson.dumps(other))


def _logged_values(contact: Mapping[str, Any]) -> Document:
    return {name: contact[name] for name in LOGGED_FIELDS if name in contact}


def merged_attributes(stored: Mapping[str, Any], sent: Mapping[str, Any]) -> Document:
    """Custom attributes (or the parts of a location) after an update: a key with None is removed, the others stay."""
    return {key: value for key, value in {**stored, **sent}.items() if value is not None}


def distinct(values: Iterable[str]) -> list[str]:
    """The values in their order, each once."""
    return list(dict.fromkeys(values))


PUBLIC_NAMES: dict[str, str] = {
    IdentityKind.ID: "id",
    IdentityKind.EXTERNAL: "externalId",
    IdentityKind.EMAIL: "email",
    IdentityKind.ANONYMOUS: "anonymousId",
}
_UNLOGGED_FIELDS = frozenset(
    {"last_seen_at", "updated_at", "identities", "email_lower", "terms", "name_lower", "version", "contact_ids"}
)
