"""The constructor of each change event. Nothing else makes one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, cast

from gateway.core.ids import Minter, Prefix
from gateway.domain.change_kinds import (
    BackfillChanged,
    ChangeEvent,
    ChangeKind,
    ContactChanged,
    ContactSeen,
    ContactsMerged,
    DeliveryChanged,
    MembershipChanged,
    RebuildRequested,
    SegmentChanged,
    SummariesChanged,
    SummariesDeleted,
    SummariesMerged,
    ThreadChanged,
)
from gateway.domain.contacts.contacts import ContactDraft, Document, logged_values
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.merging import MergeResult, ids_of
from gateway.domain.events.documents import SummaryChange, SummaryDocument
from gateway.domain.filters.documents import SegmentDocument
from gateway.domain.support.threads import MATCHED_FIELDS, Changeset, DomainEvent, ThreadKind


def new_change_id(minter: Minter, at: datetime) -> str:
    """A new id of a change event."""
    return minter.mint(Prefix.CHANGE, at)


class _Head(TypedDict):
    _id: str
    workspace_id: str
    subject: str
    kind: str


def _head(kind: ChangeKind, id_: str, workspace_id: str) -> _Head:
    return {"_id": id_, "workspace_id": workspace_id, "subject": kind.subject, "kind": kind.stored_kind}


# Contacts


def contact_saved(id_: str, draft: ContactDraft, at: datetime) -> ContactChanged:
    """A contact was created or updated, with its logged fields before and after."""
    return {
        **_head(
            ChangeKind.CONTACT_CREATED if draft.stored is None else ChangeKind.CONTACT_UPDATED,
            id_,
            draft.document["workspace_id"],
        ),
        "contact_id": draft.id,
        "fields": draft.visible_fields(),
        "before": None if draft.stored is None else logged_values(draft.stored),
        "after": logged_values(draft.document),
        "at": at,
    }


def contact_seen(id_: str, draft: ContactDraft, at: datetime) -> ContactSeen:
    """Only `last_seen_at` of a contact changed."""
    head = _head(ChangeKind.CONTACT_SEEN, id_, draft.document["workspace_id"])
    return {**head, "contact_id": draft.id, "at": at}


def contacts_merged(
    id_: str, merged: MergeResult, moved_events: int, segment_ids: Sequence[str], at: datetime
) -> ContactsMerged:
    return {
        **contact_saved(id_, merged.survivor, at),
        "kind": ChangeKind.CONTACT_MERGED.stored_kind,
        "merged_id": merged.gone["_id"],
        "moved_events": moved_events,
        "segment_ids": list(segment_ids),
    }


def contact_deleted(id_: str, contact: ContactDocument, at: datetime) -> ContactChanged:
    """A contact was erased: ids only."""
    return {
        **_head(ChangeKind.CONTACT_DELETED, id_, contact["workspace_id"]),
        "contact_id": contact["_id"],
        "fields": [],
        "before": None,
        "after": None,
        "at": at,
    }


def membership_changed(
    id_: str, kind: ChangeKind, member: Mapping[str, Any], at: datetime, *, imported: bool = False
) -> MembershipChanged:
    return {
        **_head(kind, id_, member["workspace_id"]),
        "contact_id": member["contact_id"],
        "segment_id": member["segment_id"],
        "imported": imported,
        "before": None,
        "after": None,
        "at": at,
    }


# Event summaries and definitions


def summaries_imported(id_: str, contact: ContactDraft, lines: list[SummaryChange], at: datetime) -> SummariesChanged:
    head = _head(ChangeKind.SUMMARIES_IMPORTED, id_, contact.document["workspace_id"])
    return {**head, "contact_id": contact.id, "lines": lines, "at": at}


def summaries_merged(
    id_: str, merged: MergeResult, summaries: Iterable[SummaryDocument], at: datetime
) -> SummariesMerged:
    """The merged contact no longer counts in event definitions; its events count with the survivor."""
    return {
        **_head(ChangeKind.SUMMARIES_MERGED, id_, merged.gone["workspace_id"]),
        "contact_id": merged.survivor.id,
        "merged_id": merged.gone["_id"],
        "lines": [_removal(row, count=0, again=False) for row in summaries],
        "at": at,
    }


def summaries_deleted(
    id_: str, contact: ContactDocument, summaries: Iterable[SummaryDocument], at: datetime
) -> SummariesDeleted:
    """The erased contact and its events no longer count in event definitions."""
    return {
        **_head(ChangeKind.SUMMARIES_DELETED, id_, contact["workspace_id"]),
        "contact_id": contact["_id"],
        "contact_ids": ids_of(contact),
        "lines": [_removal(row, count=-row["count"], again=True) for row in summaries],
        "at": at,
    }


def _removal(summary: SummaryDocument, *, count: int, again: bool) -> SummaryChange:
    return {
        "name": summary["name"],
        "count": count,
        "contacts": -1,
        "first_at": summary["first_at"],
        "last_at": summary["last_at"],
        "again": again,
    }


def rebuild_requested(id_: str, workspace_id: str, name: str | None, at: datetime) -> RebuildRequested:
    """All definitions are to be rebuilt, or the values of one name."""
    return {**_head(ChangeKind.DEFINITIONS_REBUILD, id_, workspace_id), "name": name, "at": at}


# Segments


def segment_changed(id_: str, kind: ChangeKind, segments: Sequence[SegmentDocument], at: datetime) -> SegmentChanged:
    """The first segment was saved or deleted; the others depend on it and must be filled again too."""
    return {
        **_head(kind, id_, segments[0]["workspace_id"]),
        "segment_id": segments[0]["_id"],
        "segments": [{"id": row["_id"], "revision": row["revision"]} for row in segments],
        "at": at,
    }


# Conversations and tickets


def thread_changes(changeset: Changeset[Any], new_id: Callable[[], str], at: datetime) -> list[ThreadChanged]:
    """The change events of a command, in order. The first one names the part that the command added."""
    before, after = _matched_fields(changeset.before), _matched_fields(changeset.after)
    changes = [_thread_changed(new_id(), event, changeset.after, before, after, at) for event in changeset.events]
    if changes:
        changes[0]["act_part_id"] = None if changeset.part is None else changeset.part["_id"]
    return changes


def thread_deleted(id_: str, kind: ThreadKind, document: Any, at: datetime) -> ThreadChanged:
    """A thread was erased with its contact: only ids, no `after`."""
    deleted = {
        ThreadKind.CONVERSATION: ChangeKind.CONVERSATION_DELETED,
        ThreadKind.TICKET: ChangeKind.TICKET_DELETED,
    }[kind]
    return _thread_changed(id_, DomainEvent(deleted, is_public=True), document, _matched_fields(document), None, at)


def _thread_changed(
    id_: str, event: DomainEvent, document: Any, before: Document | None, after: Document | None, at: datetime
) -> ThreadChanged:
    change = {
        **_head(event.kind, id_, document["workspace_id"]),
        f"{event.kind.subject}_id": document["_id"],
        "contact_id": document["contact_id"],
        "part_id": event.part_id,
        "public": event.is_public,
        "before": before,
        "after": after,
        "at": at,
    }
    return cast("ThreadChanged", change)


def _matched_fields(document: Mapping[str, object] | None) -> Document | None:
    return None if document is None else {name: document.get(name) for name in MATCHED_FIELDS}


# Deliveries


class ChangedDelivery(TypedDict):
    _id: str
    workspace_id: str
    contact_id: str
    kind: str
    metric: str | None
    subject_id: str | None
    state: str


def delivery_changed(
    id_: str, destination: str, delivery: ChangedDelivery, state_before: str | None, at: datetime
) -> DeliveryChanged:
    """A delivery was queued (no state before), or has another state."""
    filterable: Document = {
        "metric": delivery["metric"],
        "subject_id": delivery["subject_id"],
        "kind": delivery["kind"],
    }
    return {
        **_head(ChangeKind.DELIVERY_CHANGED, id_, delivery["workspace_id"]),
        "destination": destination,
        "delivery_id": delivery["_id"],
        "contact_id": delivery["contact_id"],
        "before": None if state_before is None else {**filterable, "state": state_before},
        "after": {**filterable, "state": delivery["state"]},
        "at": at,
    }


def backfill_changed(id_: str, workspace_id: str, backfill_id: str, at: datetime) -> BackfillChanged:
    return {**_head(ChangeKind.BACKFILL_CHANGED, id_, workspace_id), "backfill_id": backfill_id, "at": at}


# The bus


def heartbeat(id_: str, at: datetime) -> ChangeEvent:
    """A change of no workspace: a position in the change stream that every process sees."""
    return {**_head(ChangeKind.HEARTBEAT, id_, ""), "at": at}
