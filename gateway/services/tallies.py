"""What a batch of the stream adds to definitions, and to the values that their summaries tell apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateway.domain.contacts import Document
from gateway.domain.definitions import MAX_VALUES, Build, Totals, ValueCount, merged, value_of
from gateway.domain.events import summary_id_of
from gateway.store.changes import Changes
from gateway.store.driver import Insert, Operation, Session
from gateway.store.events import Events, EventSummaries
from gateway.store.stores import WorkspaceStore

SUBJECT = "definitions"


@dataclass(slots=True)
class Batch:
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


def totals_of(workspace_id: str, batch: Batch) -> dict[str, Totals]:
    """What a batch adds to each name of a workspace."""
    totals: dict[str, Totals] = {}
    for event in batch.of(Events.COLLECTION, workspace_id):
        totals.setdefault(event["name"], Totals()).add_event(event)
    for summary in batch.of(EventSummaries.COLLECTION, workspace_id):
        totals.setdefault(summary["name"], Totals()).contact_count += 1
    for change in batch.of(Changes.COLLECTION, workspace_id):
        for line in change["lines"] if change["subject"] == "summaries" else ():
            totals.setdefault(line["name"], Totals()).add_line(line)
    return totals


def jobs_of(batch: Batch) -> list[Document]:
    """What a batch asks to be counted anew."""
    rows = [one.document for one in batch.inserts if one.collection == Changes.COLLECTION]
    asked = [row for row in rows if row["subject"] == SUBJECT]
    return [job(row["workspace_id"], row["name"], None if row["name"] else row["_id"]) for row in asked]


async def contained_in(store: WorkspaceStore, batch: Batch, session: Session) -> set[str]:
    """Which of a batch's documents the snapshot has."""
    found: set[str] = set()
    for repository in (store.events, store.summaries, store.changes):
        rows = batch.all_of(repository.COLLECTION, store.workspace_id)
        found |= (await repository.by_ids([row["_id"] for row in rows], session)).keys()
    return found


def counted_values(workspace_id: str, name: str, found: Iterable[Document]) -> list[ValueCount]:
    """The counts of what `Events.values` gave."""
    counted = []
    for row in found:
        contact_id, value = row["_id"]["contact_id"], value_of(row["_id"]["entry"])
        if value is not None:
            summary_id = summary_id_of(workspace_id, contact_id, name)
            counted.append(ValueCount(summary_id, contact_id, value, row["count"], row["first_at"], row["last_at"]))
    return counted


async def value_operations(store: WorkspaceStore, batch: Batch, builds: Iterable[Build]) -> list[Operation]:
    """What a batch adds to the counted values of the names that have a build."""
    operations: list[Operation] = []
    for build in builds:
        rows = batch.all_of(Events.COLLECTION, store.workspace_id)
        mine = [row for row in rows if row["name"] == build.name and batch.counts_value(row)]
        lines = merged(_told(row, build) for row in mine if _value(row, build.key) is not None)
        operations += [store.values.adding(build, line) for line in await _with_room(store, build, lines)]
    return operations


def _told(event: Document, build: Build) -> ValueCount:
    summary_id = summary_id_of(event["workspace_id"], event["contact_id"], event["name"])
    at = event["occurred_at"]
    return ValueCount(summary_id, event["contact_id"], _value(event, build.key), 1, at, at)


def _value(event: Document, key: str) -> str | None:
    return next((value_of(entry) for entry in event["metadata"] if entry["key"] == key), None)


async def _with_room(store: WorkspaceStore, build: Build, lines: Sequence[ValueCount]) -> list[ValueCount]:
    """The lines, those for which a summary has no room left as one that tells no value."""
    stored = await store.values.by_ids([build.id_of(line.summary_id, line.value) for line in lines])
    new = [line for line in lines if build.id_of(line.summary_id, line.value) not in stored]
    if not new:
        return list(lines)
    taken = await store.values.distinct_values([line.summary_id for line in new], build.id)
    return merged(_fitted(lines, set(stored), taken, build))


def _fitted(lines: Iterable[ValueCount], stored: set[str], taken: dict[str, int], build: Build) -> list[ValueCount]:
    fitted = []
    for line in lines:
        used = taken.get(line.summary_id, 0)
        if build.id_of(line.summary_id, line.value) not in stored:
            if used >= MAX_VALUES:
                line = ValueCount(line.summary_id, line.contact_id, None, line.count, line.first_at, line.last_at)  # noqa: PLW2901
            taken[line.summary_id] = used + 1
        fitted.append(line)
    return fitted
