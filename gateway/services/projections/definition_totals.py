"""What a batch of the stream adds to definitions, and to the values that their summaries tell apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateway.domain.contacts.contacts import Document
from gateway.domain.events.definitions import MAX_VALUES, Totals, ValueCount, ValueGeneration, merged, value_of
from gateway.domain.events.events import summary_id_of
from gateway.store.change_log import ChangeLog
from gateway.store.driver import Insert, Operation, Session
from gateway.store.events.events import Events, EventSummaries
from gateway.store.workspace_store import WorkspaceStore

SUBJECT = "definitions"


@dataclass(slots=True)
class EventBatch:
    """What the stream told: inserts in order, and for each whether its values count too."""

    inserts: list[Insert] = field(default_factory=list)
    contained: set[str] = field(default_factory=set)  # ids whose counting a snapshot has done already
    only_values: str | None = None  # the snapshot did so for the values of this name alone

    @property
    def position(self) -> str:
        """The token of the last insert."""
        return self.inserts[-1].token

    @property
    def workspaces(self) -> set[str]:
        """Whose documents there are."""
        return {one.document["workspace_id"] for one in self.inserts if one.document["workspace_id"]}

    def all_of(self, collection: str, workspace_id: str) -> list[Document]:
        """The documents of one collection of a workspace."""
        rows = [one.document for one in self.inserts if one.collection == collection]
        return [row for row in rows if row["workspace_id"] == workspace_id]

    def of(self, collection: str, workspace_id: str) -> list[Document]:
        """Those whose totals no snapshot counted."""
        rows = self.all_of(collection, workspace_id)
        return rows if self.only_values else [row for row in rows if row["_id"] not in self.contained]

    def counts_value(self, event: Document) -> bool:
        """Whether that event's value is still to be counted."""
        return event["_id"] not in self.contained or self.only_values not in (None, event["name"])


def rebuild_line(line_id: str, workspace_id: str, name: str | None, now: datetime) -> Document:
    """The line of the journal that asks to count anew: a workspace's definitions, or the values of one name."""
    return {
        "_id": line_id,
        "workspace_id": workspace_id,
        "subject": SUBJECT,
        "kind": "REBUILD",
        "name": name,
        "at": now,
    }


def job(workspace_id: str, name: str | None = None, request: str | None = None) -> Document:
    """What is to be counted anew: all definitions, or the values of that name; `request`: what the workspace is told then."""
    return {"workspace_id": workspace_id, "name": name, "request": request}


def totals_of(workspace_id: str, batch: EventBatch) -> dict[str, Totals]:
    """What a batch adds to each name of a workspace."""
    totals: dict[str, Totals] = {}
    for event in batch.of(Events.COLLECTION, workspace_id):
        totals.setdefault(event["name"], Totals()).add_event(event)
    for summary in batch.of(EventSummaries.COLLECTION, workspace_id):
        totals.setdefault(summary["name"], Totals()).contact_count += 1
    for change in batch.of(ChangeLog.COLLECTION, workspace_id):
        for line in change["lines"] if change["subject"] == "summaries" else ():
            totals.setdefault(line["name"], Totals()).add_line(line)
    return totals


def jobs_of(batch: EventBatch) -> list[Document]:
    """What a batch asks to be counted anew."""
    rows = [one.document for one in batch.inserts if one.collection == ChangeLog.COLLECTION]
    asked = [row for row in rows if row["subject"] == SUBJECT]
    return [job(row["workspace_id"], row["name"], None if row["name"] else row["_id"]) for row in asked]


async def contained_in(store: WorkspaceStore, batch: EventBatch, session: Session) -> set[str]:
    """Which of a batch's documents the snapshot has."""
    found: set[str] = set()
    for repository in (store.events, store.summaries, store.changes):
        rows = batch.all_of(repository.COLLECTION, store.workspace_id)
        found |= (await repository.by_ids([row["_id"] for row in rows], session)).keys()
    events = batch.all_of(Events.COLLECTION, store.workspace_id)
    found |= (await store.tombstones.by_ids([row["_id"] for row in events], session)).keys()
    return found | _outlived(store.workspace_id, batch, found)


def _outlived(workspace_id: str, batch: EventBatch, found: set[str]) -> set[str]:
    """What the snapshot lacks because something that it has took it away: a merge the summaries of the contact that
    went, a deletion all that named the contact."""
    ends = [line for line in _ends(workspace_id, batch) if line["_id"] in found]
    merged_ids = {line["merged_id"] for line in ends if line["kind"] == "MERGED"}
    deleted_ids = {id_ for line in ends if line["kind"] == "DELETED" for id_ in line["contact_ids"]}
    everything = [
        row
        for collection in (EventSummaries.COLLECTION, Events.COLLECTION, ChangeLog.COLLECTION)
        for row in batch.all_of(collection, workspace_id)
    ]
    gone = {row["_id"] for row in everything if row.get("contact_id") in deleted_ids}
    summaries = batch.all_of(EventSummaries.COLLECTION, workspace_id)
    return gone | {row["_id"] for row in summaries if row["contact_id"] in merged_ids}


def _ends(workspace_id: str, batch: EventBatch) -> list[Document]:
    """The lines that tell how contacts ended, merged or deleted."""
    rows = batch.all_of(ChangeLog.COLLECTION, workspace_id)
    return [row for row in rows if row["subject"] == "summaries" and row["kind"] in ("MERGED", "DELETED")]


@dataclass(frozen=True, slots=True)
class MergedContacts:
    """Whose summaries are whose after a batch: by the id of each contact that went, who has them now, or nobody."""

    workspace_id: str
    survivors: dict[str, str | None]

    @classmethod
    def of(cls, workspace_id: str, batch: EventBatch) -> "MergedContacts":
        """What the batch tells, in its order: who took over one that was then taken over itself has nothing."""
        survivors: dict[str, str | None] = {}
        for line in _ends(workspace_id, batch):
            merged = line["kind"] == "MERGED"
            gone = [line["merged_id"]] if merged else line["contact_ids"]
            survivor = line["contact_id"] if merged else None
            survivors = {id_: survivor if now in gone else now for id_, now in survivors.items()}
            survivors |= dict.fromkeys(gone, survivor)
        return cls(workspace_id, survivors)

    def counted(self, row: Document) -> tuple[str, str] | None:
        """The summary that counts an event, or a value that was counted, now, and whose it is; None: it counts no longer."""
        now = self.survivors.get(row["contact_id"], row["contact_id"])
        return None if now is None else (summary_id_of(self.workspace_id, now, row["name"]), now)

    def emptied(self, name: str) -> list[str]:
        """The summaries of that name whose values go to others."""
        return [summary_id_of(self.workspace_id, id_, name) for id_ in self.survivors]


def counted_values(workspace_id: str, name: str, found: Iterable[Document]) -> list[ValueCount]:
    """The counts of what `Occurrences.values` gave."""
    counted = []
    for row in found:
        contact_id, value = row["_id"]["contact_id"], value_of(row["_id"]["entry"])
        if value is not None:
            summary_id = summary_id_of(workspace_id, contact_id, name)
            counted.append(ValueCount(summary_id, contact_id, value, row["count"], row["first_at"], row["last_at"]))
    return counted


async def value_operations(
    store: WorkspaceStore, batch: EventBatch, builds: Iterable[ValueGeneration]
) -> list[Operation]:
    """What a batch adds to the counted values of the names that have a build."""
    operations: list[Operation] = []
    moves = MergedContacts.of(store.workspace_id, batch)
    for build in builds:
        rows = batch.all_of(Events.COLLECTION, store.workspace_id)
        mine = [row for row in rows if row["name"] == build.name and batch.counts_value(row)]
        told = [_unreported(row, build, moves) for row in mine if _value(row, build.key) is not None]
        moving = await store.values.of_summaries(moves.emptied(build.name), build.id)
        lines = merged(line for line in (*told, *(_moved(row, moves) for row in moving)) if line is not None)
        operations += [store.values.adding(build, line) for line in await _with_room(store, build, lines)]
        if moving:
            operations.append(store.values.removing([row["_id"] for row in moving]))
    return operations


def _unreported(event: Document, build: ValueGeneration, moves: MergedContacts) -> ValueCount | None:
    counted, at = moves.counted(event), event["occurred_at"]
    return None if counted is None else ValueCount(*counted, _value(event, build.key), 1, at, at)


def _moved(row: Document, moves: MergedContacts) -> ValueCount | None:
    counted = moves.counted(row)
    if counted is None:
        return None
    return ValueCount(*counted, row.get("value"), row["count"], row["first_at"], row["last_at"])


def _value(event: Document, key: str) -> str | None:
    return next((value_of(entry) for entry in event["metadata"] if entry["key"] == key), None)


async def _with_room(store: WorkspaceStore, build: ValueGeneration, lines: Sequence[ValueCount]) -> list[ValueCount]:
    """The lines, those for which a summary has no room left as one that tells no value."""
    stored = await store.values.by_ids([build.id_of(line.summary_id, line.value) for line in lines])
    new = [line for line in lines if build.id_of(line.summary_id, line.value) not in stored]
    if not new:
        return list(lines)
    taken = await store.values.distinct_values([line.summary_id for line in new], build.id)
    return merged(_fitted(lines, set(stored), taken, build))


def _fitted(
    lines: Iterable[ValueCount], stored: set[str], taken: dict[str, int], build: ValueGeneration
) -> list[ValueCount]:
    fitted = []
    for line in lines:
        used = taken.get(line.summary_id, 0)
        if build.id_of(line.summary_id, line.value) not in stored:
            if used >= MAX_VALUES:
                line = ValueCount(line.summary_id, line.contact_id, None, line.count, line.first_at, line.last_at)  # noqa: PLW2901
            taken[line.summary_id] = used + 1
        fitted.append(line)
    return fitted
