"""Merging of contacts: who may be merged, and what the survivor takes over.

Events are not rewritten: the survivor lists all ids that events may name it by.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from gateway.core.text_rules import MAX_TAGS
from gateway.domain.contacts.contacts import (
    MAX_ANONYMOUS_IDS,
    ContactDraft,
    ContactRole,
    IdentityKind,
    all_ids,
    by_name,
    distinct,
    identity,
    lead_email,
    unknown_contact,
)
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.fields import CONTACT_FIELDS, ContactField, FieldKind, MergeRule
from gateway.domain.events.documents import SummaryDocument
from gateway.domain.events.events import summary_id_of
from gateway.errors import ErrorCode, UserProblem

MAX_IDS = 1000
_JOINABLE = {
    ContactRole.USER: (ContactRole.VISITOR, ContactRole.LEAD),
    ContactRole.LEAD: (ContactRole.VISITOR,),
    ContactRole.VISITOR: (),
}


@dataclass(frozen=True, slots=True)
class MergeResult:
    """The contact to delete (`gone`), and the draft of the survivor."""

    gone: ContactDocument
    survivor: ContactDraft


def ids_of(contact: ContactDocument) -> list[str]:
    """All ids that events may name the contact by, merged contacts' included."""
    ids = contact.get("contact_ids")
    return [contact["_id"]] if ids is None else ids


def pair_of(
    contacts: Iterable[ContactDocument], from_id: str, into_id: str
) -> tuple[ContactDocument, ContactDocument] | ContactDocument:
    """The contact to merge and its survivor; the survivor alone if already merged. Raises UserProblem."""
    by_id = {id_: contact for contact in contacts for id_ in all_ids(contact)}
    if from_id == into_id:
        raise UserProblem(
            ErrorCode.INVALID, "A contact cannot be merged into itself: 'from' and 'into' are the same.", ("into",)
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
            f"'{into_id}' was merged into '{from_id}' before, and a merge cannot be reversed.",
            ("into",),
        )
    return survivor


def _may_join(gone: ContactDocument, survivor: ContactDocument) -> bool:
    return gone["role"] in _JOINABLE[ContactRole(survivor["role"])]


def _check_roles(gone: ContactDocument, survivor: ContactDocument) -> None:
    if not _may_join(gone, survivor):
        raise UserProblem(
            ErrorCode.ILLEGAL_TRANSITION,
            f"A {gone['role']} cannot be merged into a {survivor['role']}: merge a VISITOR or LEAD into a USER, "
            "or a VISITOR into a LEAD.",
            ("from",),
        )


def merge(
    gone: ContactDocument, survivor: ContactDraft, now: datetime, *, email_free: bool, max_attributes: int
) -> MergeResult:
    """Fill the survivor's gaps from the other contact. `email_free`: no third contact has its e-mail."""
    document = survivor.document
    own, others = by_name(document), by_name(gone)
    ids = distinct([*ids_of(document), *ids_of(gone)])
    if len(ids) > MAX_IDS:
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED,
            f"The survivor would have more than {MAX_IDS} ids, which is the limit of merges.",
            ("from",),
        )
    takes_email = email_free and document.get("email") is None and gone.get("email") is not None
    limits = {FieldKind.TAGS: MAX_TAGS, FieldKind.KEYS: MAX_ANONYMOUS_IDS, FieldKind.ATTRIBUTES: max_attributes}
    for field in CONTACT_FIELDS:
        value = _merged_value(field, own.get(field.name), others.get(field.name), takes_email, limits)
        if value is not None:
            own[field.name] = value
    if takes_email:
        claims = [text for text in gone["identities"] if text == lead_email(gone.get("email", ""))]
        document["identities"] = [*document["identities"], *claims]
    document |= {"contact_ids": ids, "updated_at": now}
    id_texts = [identity(IdentityKind.ID, id_) for id_ in all_ids(gone)]
    document["identities"] = distinct([*document["identities"], *id_texts])
    return MergeResult(gone, survivor)


def _merged_value(
    field: ContactField, own: Any, other: Any, takes_email: bool, limits: Mapping[FieldKind, int]
) -> object:
    """The survivor's value after a merge; None if it has none."""
    match field.merge:
        case MergeRule.FILL:
            return other if own is None else own
        case MergeRule.EITHER:
            return own or other
        case MergeRule.GREATEST:
            return max((value for value in (own, other) if value is not None), default=None)
        case MergeRule.EMAIL | MergeRule.WITH_EMAIL:
            return other if takes_email else own
        case MergeRule.UNION:
            return _union(field.kind, own, other, limits[field.kind])
    return own


def _union(kind: FieldKind, own: Any, other: Any, limit: int) -> object:
    match kind:
        case FieldKind.TAGS:
            return distinct([*own, *other])[:limit]
        case FieldKind.KEYS:
            return distinct([*other, *own])[-limit:]
    added = {key: value for key, value in other.items() if key not in own}
    return {**own, **dict(list(added.items())[: max(0, limit - len(own))])}


def merged_summaries(
    gone: Iterable[SummaryDocument], stored: Mapping[str, SummaryDocument], survivor: ContactDocument
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


def _added(left: Mapping[str, object], right: Mapping[str, object], kind: str) -> dict[str, object]:
    rows = [row for row in (left, right) if row.get(f"{kind}count")]
    if not rows:
        return {}
    return {
        f"{kind}count": sum(int(str(row[f"{kind}count"])) for row in rows),
        f"{kind}first_at": min(row[f"{kind}first_at"] for row in rows),  # type: ignore[type-var]
        f"{kind}last_at": max(row[f"{kind}last_at"] for row in rows),  # type: ignore[type-var]
    }
