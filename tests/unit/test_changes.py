"""The change log: every kind with its fields, and nothing that writes it but the constructors."""

import ast
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.domain import changes
from gateway.domain.change_kinds import ERASURE_KIND, SHAPES, ChangeKind, kind_of, kinds_of
from gateway.domain.contacts.contacts import ContactDraft, new_contact
from gateway.domain.contacts.merging import MergeResult
from gateway.domain.support.threads import Changeset, DomainEvent, ThreadKind

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
CONTACT = new_contact("con_1", "wsp_1", NOW)
SURVIVOR = new_contact("con_2", "wsp_1", NOW)
MERGE = MergeResult(CONTACT, ContactDraft({**SURVIVOR, "name": "Ada"}, SURVIVOR))
SUMMARY = {"name": "did", "count": 3, "first_at": NOW, "last_at": NOW}
MEMBER = {"workspace_id": "wsp_1", "segment_id": "seg_1", "contact_id": "con_1"}
SEGMENT = {"_id": "seg_1", "workspace_id": "wsp_1", "revision": 2}
THREAD = {"_id": "x_1", "workspace_id": "wsp_1", "contact_id": "con_1", "state": "OPEN"}
DELIVERY = {
    "_id": "dlv_1",
    "workspace_id": "wsp_1",
    "contact_id": "con_1",
    "metric": None,
    "subject_id": None,
    "kind": "PROFILE",
    "state": "PENDING",
}


def thread_change(kind: ChangeKind) -> Any:
    """As a command writes it, or as an erasure does."""
    thread = ThreadKind(kind.subject)
    if kind.stored_kind == "DELETED":
        return changes.thread_deleted("chg_1", thread, THREAD, NOW)
    changeset = Changeset(thread, None, THREAD, [{"_id": "prt_1"}], [DomainEvent(kind, "prt_1")], part_id="prt_1")
    return changes.thread_changes(changeset, lambda: "chg_1", NOW)[0]


def built() -> dict[ChangeKind, Any]:
    """One change event of every kind in the log."""
    created, updated = ContactDraft(CONTACT, None), ContactDraft({**CONTACT, "name": "Ada"}, CONTACT)
    line: Any = {"name": "did", "count": 1, "first_at": NOW, "last_at": NOW, "again": False}
    entered, left = ChangeKind.CONTACT_ENTERED_SEGMENT, ChangeKind.CONTACT_LEFT_SEGMENT
    saved, deleted = ChangeKind.SEGMENT_SAVED, ChangeKind.SEGMENT_DELETED
    return {
        ChangeKind.CONTACT_CREATED: changes.contact_saved("chg_1", created, NOW),
        ChangeKind.CONTACT_UPDATED: changes.contact_saved("chg_1", updated, NOW),
        ChangeKind.CONTACT_MERGED: changes.contacts_merged("chg_1", MERGE, 3, ["seg_1"], NOW),
        ChangeKind.CONTACT_DELETED: changes.contact_deleted("chg_1", CONTACT, NOW),
        entered: changes.membership_changed("chg_1", entered, MEMBER, NOW),
        left: changes.membership_changed("chg_1", left, MEMBER, NOW, imported=True),
        ChangeKind.CONTACT_SEEN: changes.contact_seen("chg_1", updated, NOW),
        ChangeKind.SUMMARIES_IMPORTED: changes.summaries_imported("chg_1", created, [line], NOW),
        ChangeKind.SUMMARIES_MERGED: changes.summaries_merged("chg_1", MERGE, [SUMMARY], NOW),
        ChangeKind.SUMMARIES_DELETED: changes.summaries_deleted("chg_1", CONTACT, [SUMMARY], NOW),
        ChangeKind.DEFINITIONS_REBUILD: changes.rebuild_requested("chg_1", "wsp_1", None, NOW),
        saved: changes.segment_changed("chg_1", saved, [SEGMENT], NOW),
        deleted: changes.segment_changed("chg_1", deleted, [SEGMENT], NOW),
        **{kind: thread_change(kind) for kind in sorted(kinds_of("conversation") | kinds_of("ticket"))},
        ChangeKind.DELIVERY_CHANGED: changes.delivery_changed("chg_1", "klaviyo", DELIVERY, None, NOW),
        ChangeKind.BACKFILL_CHANGED: changes.backfill_changed("chg_1", "wsp_1", "bkf_1", NOW),
        ChangeKind.HEARTBEAT: changes.heartbeat("chg_1", NOW),
    }


BUILT = built()
HEAD = {"_id", "workspace_id", "subject", "kind", "at"}
CONTACT_FIELDS = HEAD | {"contact_id", "fields", "before", "after"}
MEMBERSHIP_FIELDS = HEAD | {"contact_id", "segment_id", "imported", "before", "after"}
SUMMARY_FIELDS = HEAD | {"contact_id", "lines"}
SEGMENT_FIELDS = HEAD | {"segment_id", "segments"}
THREAD_FIELDS = HEAD | {"contact_id", "part_id", "public", "before", "after"}
# As databases in use have them.
FIELDS = {
    "contact.CREATED": CONTACT_FIELDS,
    "contact.UPDATED": CONTACT_FIELDS,
    "contact.MERGED": CONTACT_FIELDS | {"merged_id", "moved_events", "segment_ids"},
    "contact.DELETED": CONTACT_FIELDS,
    "contact.ENTERED_SEGMENT": MEMBERSHIP_FIELDS,
    "contact.LEFT_SEGMENT": MEMBERSHIP_FIELDS,
    "seen.SEEN": HEAD | {"contact_id"},
    "summaries.IMPORTED": SUMMARY_FIELDS,
    "summaries.MERGED": SUMMARY_FIELDS | {"merged_id"},
    "summaries.DELETED": SUMMARY_FIELDS | {"contact_ids"},
    "definitions.REBUILD": HEAD | {"name"},
    "segment.SAVED": SEGMENT_FIELDS,
    "segment.DELETED": SEGMENT_FIELDS,
    **{kind.value: THREAD_FIELDS | {"conversation_id", "act_part_id"} for kind in kinds_of("conversation")},
    **{kind.value: THREAD_FIELDS | {"ticket_id", "act_part_id"} for kind in kinds_of("ticket")},
    "conversation.DELETED": THREAD_FIELDS | {"conversation_id"},
    "ticket.DELETED": THREAD_FIELDS | {"ticket_id"},
    "delivery.CHANGED": HEAD | {"destination", "delivery_id", "contact_id", "before", "after"},
    "backfill.CHANGED": HEAD | {"backfill_id"},
    "bus.MARK": HEAD,
}


def test_every_kind_of_the_log_is_listed_and_built() -> None:
    in_the_log = {kind for kind in ChangeKind if kind is not ChangeKind.EVENT_TRACKED}
    assert set(SHAPES) == set(BUILT) == in_the_log == set(FIELDS)


@pytest.mark.parametrize("kind", BUILT)
def test_a_constructor_gives_the_documented_fields_and_its_kind(kind: ChangeKind) -> None:
    change, shape = BUILT[kind], SHAPES[kind]
    assert change.keys() == FIELDS[kind]
    assert shape.__required_keys__ <= change.keys() <= shape.__required_keys__ | shape.__optional_keys__
    assert (change["subject"], change["kind"]) == tuple(kind.split("."))
    assert kind_of(change) is kind


@pytest.mark.parametrize("kind", BUILT)
def test_a_change_without_a_field_of_its_kind_has_no_kind(kind: ChangeKind) -> None:
    required = SHAPES[kind].__required_keys__
    for name in required:
        assert kind_of({field: value for field, value in BUILT[kind].items() if field != name}) is None, name


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"subject": "contact"},
        {**BUILT[ChangeKind.CONTACT_UPDATED], "kind": "RENAMED"},
        {**BUILT[ChangeKind.CONTACT_UPDATED], "kind": None},
        {**BUILT[ChangeKind.CONTACT_UPDATED], "subject": "person"},
        {**BUILT[ChangeKind.HEARTBEAT], "subject": "event", "kind": "TRACKED"},
        {**BUILT[ChangeKind.SUMMARIES_IMPORTED], "lines": [{"name": "did"}]},
        {**BUILT[ChangeKind.SEGMENT_SAVED], "segments": [{"id": "seg_1"}]},
    ],
)
def test_an_unknown_or_incomplete_change_has_no_kind(change: dict[str, Any]) -> None:
    assert kind_of(change) is None


def test_the_first_change_of_a_command_names_the_part_of_the_command() -> None:
    events = [DomainEvent(ChangeKind.TICKET_REPLIED, "tpt_1", is_public=True), DomainEvent(ChangeKind.TICKET_UPDATED)]
    changeset = Changeset(ThreadKind.TICKET, None, THREAD, [{"_id": "tpt_1"}], events, part_id="tpt_1")
    ids = iter(["chg_1", "chg_2"])
    first, second = changes.thread_changes(changeset, lambda: next(ids), NOW)
    assert (first["_id"], first["act_part_id"], first["part_id"], first["public"]) == ("chg_1", "tpt_1", "tpt_1", True)
    assert (second["_id"], second["part_id"], second["public"], "act_part_id" in second) == (
        "chg_2",
        None,
        False,
        False,
    )


def test_what_a_merge_and_an_erasure_take_from_definitions() -> None:
    merged, deleted = BUILT[ChangeKind.SUMMARIES_MERGED], BUILT[ChangeKind.SUMMARIES_DELETED]
    times = {"first_at": NOW, "last_at": NOW}
    assert merged["lines"] == [{"name": "did", "count": 0, "contacts": -1, **times, "again": False}]
    assert deleted["lines"] == [{"name": "did", "count": -3, "contacts": -1, **times, "again": True}]


# Nothing else writes into the change log


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            yield name, node


def test_no_other_module_makes_a_change_event() -> None:
    literals = {
        name
        for name, node in nodes()
        if isinstance(node, ast.Dict)
        and {"subject", "kind"} <= {key.value for key in node.keys if isinstance(key, ast.Constant)}
    }
    assert literals == {"gateway/domain/changes.py"}


def test_the_collection_is_written_by_the_change_log_alone() -> None:
    """`ChangeLog.write` and `append` take change events, which `mypy` holds: a dict is none."""
    writes = {
        name
        for name, node in nodes()
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("insert", "bulk")
        and "ChangeLog.COLLECTION" in ast.unparse(node)
    }
    assert writes == {"gateway/store/change_log.py"}


def test_one_function_mints_the_ids_of_changes() -> None:
    mints = {name for name, node in nodes() if isinstance(node, ast.Attribute) and ast.unparse(node) == "Prefix.CHANGE"}
    assert mints == {"gateway/domain/changes.py"}


def test_what_stays_of_an_erased_contact_has_ids_alone() -> None:
    stays = {kind for kind in BUILT if kind.stored_kind == ERASURE_KIND}
    assert {kind.subject for kind in stays} == {"contact", "summaries", "segment", "conversation", "ticket"}
    for change in (BUILT[kind] for kind in stays):
        assert (change.get("after"), change.get("fields", [])) == (None, [])
