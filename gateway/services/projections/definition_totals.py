"""What a batch of the stream adds to event definitions and counted values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateway.bus.change_events import kind_of_insert
from gateway.domain.change_kinds import ChangeKind, kind_of, kinds_of
from gateway.domain.contacts.contacts import Document
from gateway.domain.events.definitions import MAX_VALUES, Totals, ValueCount, ValueGeneration, merged, value_of
from gateway.domain.events.events import summary_id_of
from gateway.store.change_log import ChangeLog
from gateway.store.driver import Insert, Operation, Session
from gateway.store.events.events import Events, EventSummaries
from gateway.store.workspace_store import WorkspaceStore

SUMMARY_KINDS = kinds_of("summaries")


@dataclass(slots=True)
class EventBatch:
    """Inserts in order, and which of them a snapshot has counted."""

    inserts: list[Insert] = field(default_factory=list)
    contained: set[str] = field(default_factory=set)  # ids that the snapshot has counted
    only_values: str | None = None  # if set, the snapshot counted only the values of this name

    @property
    def position(self) -> str:
        """The token of the last insert."""
        return self.inserts[-1].token

    @property
    def workspaces(self) -> set[str]:
        """The ids of all workspaces in the batch."""
        return {insert.document["workspace_id"] for insert in self.inserts if insert.document["workspace_id"]}

    def all_of(self, collection: str, workspace_id: str) -> list[Document]:
        """The documents of one collection of a workspace."""
        rows = [insert.document for insert in self.inserts if insert.collection == collection]
        return [row for row in rows if row["workspace_id"] == workspace_id]

    def of(self, collection: str, workspace_id: str) -> list[Document]:
        """The documents whose totals no snapshot counted."""
        rows = self.all_of(collection, workspace_id)
        return rows if self.only_values else [row for row in rows if row["_id"] not in self.contained]

    def counts_value(self, event: Document) -> bool:
        """Whether that event's value still needs counting."""
        return event["_id"] not in self.contained or self.only_values not in (None, event["name"])


def rebuild_job(workspace_id: str, name: str | None = None, request: str | None = None) -> Document:
    """`name`: rebuild only its values. `request`: the id to store in the workspace once the job is done."""
    return {"workspace_id": workspace_id, "name": name, "request": request}


def totals_of(workspace_id: str, batch: EventBatch) -> dict[str, Totals]:
    """What a batch adds to each event name of a workspace."""
    totals: dict[str, Totals] = {}
    for event in batch.of(Events.COLLECTION, workspace_id):
        totals.setdefault(event["name"], Totals()).add_event(event)
    for summary in batch.of(EventSummaries.COLLECTION, workspace_id):
        totals.setdefault(summary["name"], Totals()).contact_count += 1
    for change in batch.of(ChangeLog.COLLECTION, workspace_id):
        for line in change["lines"] if kind_of(change) in SUMMARY_KINDS else ():
            totals.setdefault(line["name"], Totals()).add_line(line)
    return totals


def jobs_of(batch: EventBatch) -> list[Document]:
    """The rebuild jobs that a batch requests."""
    requests = [insert.document for insert in batch.inserts if kind_of_insert(insert) is ChangeKind.DEFINITIONS_REBUILD]
    return [rebuild_job(row["workspace_id"], row["name"], None if row["name"] else row["_id"]) for row in requests]


async def contained_in(store: WorkspaceStore, batch: EventBatch, session: Session) -> set[str]:
    """The ids in the batch that the snapshot contains or has removed."""
    contained_ids: set[str] = set()
    for repository in (store.events, store.summaries, store.changes):
        rows = batch.all_of(repository.COLLECTION, store.workspace_id)
        contained_ids |= (await repository.by_ids([row["_id"] for row in rows], session)).keys()
    events = batch.all_of(Events.COLLECTION, store.workspace_id)
    contained_ids |= (await store.tombstones.by_ids([row["_id"] for row in events], session)).keys()
    return contained_ids | _removed_with_contacts(store.workspace_id, batch, contained_ids)


def _removed_with_contacts(workspace_id: str, batch: EventBatch, contained_ids: set[str]) -> set[str]:
    """Ids that a merge or an erasure in the snapshot removed: of summaries of merged contacts, and of everything with
    an erased contact."""
    removals = [removal for removal in _merges_and_erasures(workspace_id, batch) if removal["_id"] in contained_ids]
    merged_ids = {removal["merged_id"] for removal in removals if "merged_id" in removal}
    deleted_ids = {id_ for removal in removals for id_ in removal.get("contact_ids", ())}
    rows = [
        row
        for collection in (EventSummaries.COLLECTION, Events.COLLECTION, ChangeLog.COLLECTION)
        for row in batch.all_of(collection, workspace_id)
    ]
    erased_ids = {row["_id"] for row in rows if row.get("contact_id") in deleted_ids}
    summaries = batch.all_of(EventSummaries.COLLECTION, workspace_id)
    return erased_ids | {row["_id"] for row in summaries if row["contact_id"] in merged_ids}


def _merges_and_erasures(workspace_id: str, batch: EventBatch) -> list[Document]:
    rows = batch.all_of(ChangeLog.COLLECTION, workspace_id)
    return [row for row in rows if kind_of(row) in (ChangeKind.SUMMARIES_MERGED, ChangeKind.SUMMARIES_DELETED)]


@dataclass(frozen=True, slots=True)
class MergedContacts:
    """The survivor by the id of each merged contact; None for an erased one."""

    workspace_id: str
    survivors: dict[str, str | None]

    @classmethod
    def of(cls, workspace_id: str, batch: EventBatch) -> "MergedContacts":
        """Read the batch in order, since a survivor may be merged later."""
        survivors: dict[str, str | None] = {}
        for removal in _merges_and_erasures(workspace_id, batch):
            is_merge = kind_of(removal) is ChangeKind.SUMMARIES_MERGED
            removed_ids = [removal["merged_id"]] if is_merge else removal["contact_ids"]
            survivor = removal["contact_id"] if is_merge else None
            survivors = {id_: survivor if owner_id in removed_ids else owner_id for id_, owner_id in survivors.items()}
            survivors |= dict.fromkeys(removed_ids, survivor)
        return cls(workspace_id, survivors)

    def owner_of(self, row: Document) -> tuple[str, str] | None:
        """Return the summary id and contact id that count this row now; None if the contact was erased."""
        contact_id = self.survivors.get(row["contact_id"], row["contact_id"])
        return None if contact_id is None else (summary_id_of(self.workspace_id, contact_id, row["name"]), contact_id)

    def emptied_summaries(self, name: str) -> list[str]:
        """The summaries of that name whose contacts are gone."""
        return [summary_id_of(self.workspace_id, id_, name) for id_ in self.survivors]


def counted_values(workspace_id: str, name: str, rows: Iterable[Document]) -> list[ValueCount]:
    """Convert the rows of `Events.values` to counts."""
    counts = []
    for row in rows:
        contact_id, value = row["_id"]["contact_id"], value_of(row["_id"]["entry"])
        if value is not None:
            summary_id = summary_id_of(workspace_id, contact_id, name)
            counts.append(ValueCount(summary_id, contact_id, value, row["count"], row["first_at"], row["last_at"]))
    return counts


async def value_operations(
    store: WorkspaceStore, batch: EventBatch, generations: Iterable[ValueGeneration]
) -> list[Operation]:
    """What a batch adds to the counted values of these generations."""
    operations: list[Operation] = []
    merges = MergedContacts.of(store.workspace_id, batch)
    for generation in generations:
        rows = batch.all_of(Events.COLLECTION, store.workspace_id)
        events = [row for row in rows if row["name"] == generation.name and batch.counts_value(row)]
        event_counts = [
            _event_count(row, generation, merges) for row in events if _value(row, generation.key) is not None
        ]
        moved_rows = await store.values.of_summaries(merges.emptied_summaries(generation.name), generation.id)
        counts = merged(
            count for count in (*event_counts, *(_moved_count(row, merges) for row in moved_rows)) if count is not None
        )
        operations += [store.values.adding(generation, count) for count in await _with_room(store, generation, counts)]
        if moved_rows:
            operations.append(store.values.removing([row["_id"] for row in moved_rows]))
    return operations


def _event_count(event: Document, generation: ValueGeneration, merges: MergedContacts) -> ValueCount | None:
    owner, at = merges.owner_of(event), event["occurred_at"]
    return None if owner is None else ValueCount(*owner, _value(event, generation.key), 1, at, at)


def _moved_count(row: Document, merges: MergedContacts) -> ValueCount | None:
    owner = merges.owner_of(row)
    if owner is None:
        return None
    return ValueCount(*owner, row.get("value"), row["count"], row["first_at"], row["last_at"])


def _value(event: Document, key: str) -> str | None:
    return next((value_of(entry) for entry in event["metadata"] if entry["key"] == key), None)


async def _with_room(
    store: WorkspaceStore, generation: ValueGeneration, counts: Sequence[ValueCount]
) -> list[ValueCount]:
    """New values count as no value where a summary has too many."""
    stored = await store.values.by_ids([generation.id_of(count.summary_id, count.value) for count in counts])
    new = [count for count in counts if generation.id_of(count.summary_id, count.value) not in stored]
    if not new:
        return list(counts)
    values_used = await store.values.distinct_values([count.summary_id for count in new], generation.id)
    return merged(_fitted(counts, set(stored), values_used, generation))


def _fitted(
    counts: Iterable[ValueCount], stored: set[str], values_used: dict[str, int], generation: ValueGeneration
) -> list[ValueCount]:
    fitted = []
    for count in counts:
        used = values_used.get(count.summary_id, 0)
        if generation.id_of(count.summary_id, count.value) not in stored:
            if used >= MAX_VALUES:
                count = ValueCount(count.summary_id, count.contact_id, None, count.count, count.first_at, count.last_at)  # noqa: PLW2901
            values_used[count.summary_id] = used + 1
        fitted.append(count)
    return fitted
