"""Reads the rows of history for a backfill, stage by stage."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from gateway.core.ids import Prefix
from gateway.destinations.klaviyo.backfill import Stage, bounds_of
from gateway.destinations.klaviyo.backfill_metrics import KINDS
from gateway.destinations.klaviyo.documents import BackfillDocument
from gateway.destinations.klaviyo.enrichment import subjects_of
from gateway.destinations.klaviyo.mapping import MetricSubject
from gateway.domain.contacts.contacts import Document
from gateway.domain.support.documents import ConversationDocument, TicketDocument
from gateway.store.range_scan import scan_pages
from gateway.store.repositories import Repository
from gateway.store.workspace_store import WorkspaceStore

ROWS_AT_ONCE = 200
_STAGE_FILTERS: Mapping[Stage, Document] = {Stage.CONVERSATIONS: {"lists": "*"}, Stage.TICKETS: {"lists": "any::"}}


async def next_rows(store: WorkspaceStore, stage: Stage, low: str, high: str) -> list[Document]:
    """The first rows of a stage with ids from `low` to before `high`, up to ROWS_AT_ONCE, in id order."""
    read = partial(_repository(store, stage).id_range, filters=(_STAGE_FILTERS.get(stage, {}),))
    rows: list[Document] = []
    async for page in scan_pages(read, Prefix(low[:4]), low, high, ROWS_AT_ONCE):
        rows += page
        if len(rows) >= ROWS_AT_ONCE:
            break
    return rows[:ROWS_AT_ONCE]


def rows_before(rows: Sequence[Document], taken: int) -> str | None:
    """The id to continue after once `taken` of the rows are done; None at the end of the stage."""
    return rows[taken - 1]["_id"] if taken < len(rows) or taken == ROWS_AT_ONCE else None


async def count_rows(store: WorkspaceStore, backfill: BackfillDocument) -> int:
    total = 0
    for name in backfill["stages"]:
        stage = Stage(name)
        low, high = bounds_of(backfill, stage)
        filter_ = {
            **_STAGE_FILTERS.get(stage, {}),
            "_id": {"$gte": low, "$lt": high},
            "workspace_id": store.workspace_id,
        }
        total += await store.database.count(_repository(store, stage).COLLECTION, filter_, long=True)
    return total


async def subjects_by_id(store: WorkspaceStore, stage: Stage, rows: Sequence[Document]) -> dict[str, MetricSubject]:
    """The conversations or tickets of these rows, by id, with all that their properties name. Takes five reads."""
    subjects, _ = store.threads(KINDS[stage])
    ids = list(dict.fromkeys(row["subject_id"] for row in rows if "subject_id" in row))
    threads = list((await subjects.by_ids(ids)).values()) if ids else rows
    documents = cast(Sequence[ConversationDocument | TicketDocument], threads)
    contacts = await store.contacts.of_ids(list({document["contact_id"] for document in documents}))
    return await subjects_of(store, documents, contacts)


def _repository(store: WorkspaceStore, stage: Stage) -> Repository[Any]:
    repositories: dict[Stage, Repository[Any]] = {
        Stage.CONTACTS: store.contacts,
        Stage.CONVERSATIONS: store.conversations,
        Stage.CONVERSATION_PARTS: store.conversation_parts,
        Stage.TICKETS: store.tickets,
        Stage.TICKET_PARTS: store.ticket_parts,
    }
    return repositories[stage]
