"""Two contacts that are one person: which may become one, and what the one that stays takes over.

Events stay where they are: a contact that took others over lists all ids that events may name it by.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.contacts.contacts import (
    MAX_ANONYMOUS_IDS,
    ContactDraft,
    ContactRole,
    Document,
    IdentityKind,
    all_ids,
    distinct,
    identity,
    lead_email,
    unknown_contact,
    visible_change,
)
from gateway.domain.events.events import summary_id_of
from gateway.errors import ErrorCode, UserProblem

MAX_IDS = 1000
MAX_TAGS = 100
_MERGED_FIELDS = ("phone", "name", "first_name", "last_name", "avatar_url", "location", "signed_up_at")
_EMAIL_FIELDS = ("has_hard_bounced", "marked_email_as_spam")
_JOINABLE = {
    ContactRole.USER: (ContactRole.VISITOR, ContactRole.LEAD),
    ContactRole.LEAD: (ContactRole.VISITOR,),
    ContactRole.VISITOR: (),
}


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What is to become of two contacts: `gone` is deleted, and the survivor's draft is what it then is."""

    gone: Document
    survivor: ContactDraft


def ids_of(contact: Mapping[str, object]) -> list[str]:
    """Every id that events may name a contact by: its own, and those of the contacts that it took over."""
    found = contact.get("contact_ids")
    return [str(id_) for id_ in found] if isinstance(found, list) else [str(contact["_id"])]


def pair_of(found: Iterable[Document], from_id: str, into_id: str) -> tuple[Document, Document] | Document:
    """The contact to be taken over and the one that takes it over; that one alone where it has done so before."""
    by_id = {id_: row for row in found for id_ in all_ids(row)}
    if from_id == into_id:
        raise UserProblem(
            ErrorCode.INVALID, "A contact is not merged into itself: 'from' and 'into' are one.", ("into",)
        )
    for id_, name in ((from_id, "from"), (into_id, "into")):
        if id_ not in by_id:
            raise unknown_contact(id_, name)
    gone, survivor = by_id[from_id], by_id[into_id]
    if gone["_id"] != survivor["_id"]:
        _check_roles(gone, survivor)
        return gone, survivor
    if survivor["_id"] == from_id:
        raise UserProblem(
            ErrorCode.ILLEGAL_TRANSITION,
            f"'{into_id}' was merged into '{from_id}' before, and a merge cannot be turned round.",
            ("into",),
        )
    return survivor


def _may_join(gone: Mapping[str, object], survivor: Mapping[str, object]) -> bool:
    """Whether the one may be taken over by the other: a visitor or lead by a user, a visitor by a lead."""
    return gone["role"] in _JOINABLE[ContactRole(str(survivor["role"]))]


def _check_roles(gone: Document, survivor: Document) -> None:
    if not _may_join(gone, survivor):
        raise UserProblem(
            ErrorCode.ILLEGAL_TRANSITION,
            f"A {gone['role']} is not merged into a {survivor['role']}: a VISITOR or LEAD is merged into a USER, "
            "a VISITOR into a LEAD.",
            ("from",),
        )


def merge(
    gone: Document, survivor: ContactDraft, now: datetime, *, email_free: bool, max_attributes: int
) -> MergeResult:
    """The survivor with all that it lacks of the other. `email_free`: nobody else has the e-mail of the one that goes."""
    document = survivor.document
    ids = distinct([*ids_of(document), *ids_of(gone)])
    if len(ids) > MAX_IDS:
        raise UserProblem(ErrorCode.LIMIT_EXCEEDED, f"More than {MAX_IDS} contacts are not merged into one.", ("from",))
    for name in _MERGED_FIELDS:
        if document.get(name) is None and gone.get(name) is not None:
            document[name] = gone[name]
    _take_email(document, gone, email_free)
    _take_sets(document, gone, max_attributes)
    seen = [at for at in (document.get("last_seen_at"), gone.get("last_seen_at")) if at is not None]
    if seen:
        document["last_seen_at"] = max(seen)
    document |= {"contact_ids": ids, "updated_at": now}
    id_texts = [identity(IdentityKind.ID, id_) for id_ in all_ids(gone)]
    document["identities"] = distinct([*document["identities"], *id_texts])
    return MergeResult(gone, survivor)


def _take_email(document: Document, gone: Document, email_free: bool) -> None:
    if gone.get("email") is None or document.get("email") is not None or not email_free:
        return
    document["email"] = gone["email"]
    meant = [text for text in gone["identities"] if text == lead_email(gone["email"])]
    document["identities"] = [*document["identities"], *meant]
    document |= {name: gone[name] for name in _EMAIL_FIELDS}


def _take_sets(document: Document, gone: Document, max_attributes: int) -> None:
    attributes = {**document["custom_attributes"]}
    for key, value in gone["custom_attributes"].items():
        if key in attributes or len(attributes) < max_attributes:
            attributes.setdefault(key, value)
    opted_out = "opted_out_subscription_types_count"
    document |= {
        "custom_attributes": attributes,
        "tags": distinct([*document["tags"], *gone["tags"]])[:MAX_TAGS],
        "anonymous_ids": distinct([*gone["anonymous_ids"], *document["anonymous_ids"]])[-MAX_ANONYMOUS_IDS:],
        "unsubscribed_from_emails": document["unsubscribed_from_emails"] or gone["unsubscribed_from_emails"],
        opted_out: max(document[opted_out], gone[opted_out]),
    }


def merged_summaries(gone: Iterable[Document], stored: Mapping[str, Document], survivor: Document) -> list[Document]:
    """The survivor's summaries after a merge: of each name that the other had, both together. `stored`: the survivor's, by name."""
    workspace_id, survivor_id = survivor["workspace_id"], survivor["_id"]
    found = []
    for row in gone:
        own = stored.get(row["name"])
        ids = {"_id": summary_id_of(workspace_id, survivor_id, row["name"]), "contact_id": survivor_id}
        found.append({**row, **ids} if own is None else {**_summed(own, row), **ids})
    return found


def _summed(one: Document, other: Document) -> Document:
    counted = {**one, **_added(one, other, ""), **_added(one, other, "tracked_")}
    for part in ("imported", "retained"):
        if both := [row[part] for row in (one, other) if row.get(part)]:
            counted[part] = {**both[0], **(_added(both[0], both[1], "") if len(both) > 1 else {})}
    return counted


def _added(one: Mapping[str, object], other: Mapping[str, object], kind: str) -> Document:
    """Count, first and last of both together; nothing where neither counts that kind."""
    rows = [row for row in (one, other) if row.get(f"{kind}count")]
    if not rows:
        return {}
    return {
        f"{kind}count": sum(int(str(row[f"{kind}count"])) for row in rows),
        f"{kind}first_at": min(row[f"{kind}first_at"] for row in rows),  # type: ignore[type-var]
        f"{kind}last_at": max(row[f"{kind}last_at"] for row in rows),  # type: ignore[type-var]
    }


def contacts_merged(change_id: str, merged: MergeResult, now: datetime) -> Document:
    """The line of the journal that tells a merge: the survivor's, with the id that it took over."""
    line = visible_change(change_id, merged.survivor, now)
    return {**line, "kind": "MERGED", "merged_id": merged.gone["_id"]}


def merged_line(change_id: str, merged: MergeResult, gone: Iterable[Document], now: datetime) -> Document:
    """The line of the journal that tells definitions of a merge: each summary of the contact that went is one less."""
    lines = [
        {"name": row["name"], "count": 0, "contacts": -1, "first_at": row["first_at"], "last_at": row["last_at"]}
        for row in gone
    ]
    return {
        "_id": change_id,
        "workspace_id": merged.gone["workspace_id"],
        "subject": "summaries",
        "kind": "MERGED",
        "contact_id": merged.survivor.id,
        "merged_id": merged.gone["_id"],
        "lines": [{**line, "again": False} for line in lines],
        "at": now,
    }
