"""Merging of contacts: who may be merged, and what the survivor takes over.

Events are not rewritten: the survivor lists all ids that events may name it by.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

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
from gateway.domain.events.documents import SummaryDocument
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
    """The contact to delete (`gone`), and the draft of the survivor."""

    gone: Document
    survivor: ContactDraft


def ids_of(contact: Mapping[str, object]) -> list[str]:
    """All ids that events may name the contact by, merged contacts' included."""
    ids = contact.get("contact_ids")
    return [str(id_) for id_ in ids] if isinstance(ids, list) else [str(contact["_id"])]


def pair_of(contacts: Iterable[Document], from_id: str, into_id: str) -> tuple[Document, Document] | Document:
    """The contact to merge and its survivor; the survivor alone if already merged. Raises UserProblem."""
    by_id = {id_: contact for contact in contacts for id_ in all_ids(contact)}
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
    """Fill the survivor's gaps from the other contact. `email_free`: no third contact has its e-mail."""
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
    claims = [text for text in gone["identities"] if text == lead_email(gone["email"])]
    document["identities"] = [*document["identities"], *claims]
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


def merged_summaries(
    gone: Iterable[SummaryDocument], stored: Mapping[str, SummaryDocument], survivor: Document
) -> list[SummaryDocument]:
    """The survivor's new summaries, by the other's event names. `stored`: its own, by name."""
    workspace_id, survivor_id = survivor["workspace_id"], survivor["_id"]
    summaries: list[SummaryDocument] = []
    for row in gone:
        own = stored.get(row["name"])
        summary = row if own is None else _summed(own, row)
        id_ = summary_id_of(workspace_id, survivor_id, row["name"])
        summaries.append({**summary, "_id": id_, "contact_id": survivor_id})
    return summaries


def _summed(left: SummaryDocument, right: SummaryDocument) -> SummaryDocument:
    result: dict[str, object] = {**left, **_added(left, right, ""), **_added(left, right, "tracked_")}
    for part in ("imported", "retained"):
        if both := [row[part] for row in (left, right) if row.get(part)]:
            result[part] = {**both[0], **(_added(both[0], both[1], "") if len(both) > 1 else {})}
    return cast(SummaryDocument, result)


def _added(left: Mapping[str, object], right: Mapping[str, object], kind: str) -> Document:
    rows = [row for row in (left, right) if row.get(f"{kind}count")]
    if not rows:
        return {}
    return {
        f"{kind}count": sum(int(str(row[f"{kind}count"])) for row in rows),
        f"{kind}first_at": min(row[f"{kind}first_at"] for row in rows),  # type: ignore[type-var]
        f"{kind}last_at": max(row[f"{kind}last_at"] for row in rows),  # type: ignore[type-var]
    }


def contacts_merged(change_id: str, merged: MergeResult, now: datetime) -> Document:
    """The change log entry of a merge."""
    line = visible_change(change_id, merged.survivor, now)
    return {**line, "kind": "MERGED", "merged_id": merged.gone["_id"]}


def merged_line(change_id: str, merged: MergeResult, gone: Iterable[SummaryDocument], now: datetime) -> Document:
    """The change log entry that removes the merged contact from definitions' contact counts."""
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
