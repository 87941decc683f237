"""Exports what is stored as rows that an import restores, in order of ids and in bounded memory."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from gateway.core.clock import Clock
from gateway.core.ids import Prefix, lowest_id
from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.merging import ids_of
from gateway.domain.events.documents import EventDocument
from gateway.domain.filters.documents import MemberDocument, SegmentDocument
from gateway.errors import ErrorCode, UnavailableError, UserProblem
from gateway.store.range_scan import scan_pages
from gateway.store.repositories import D
from gateway.store.workspace_store import WorkspaceStore
from gateway.transfer import contact_rows, event_rows
from gateway.transfer.export_sinks import ExportSink
from gateway.transfer.imports import Progress

PAGE = 500
_AHEAD = timedelta(minutes=10)  # events may be up to 5 minutes ahead
_MOST_COUNTED = 10_000_000
_EVENT_FIELDS = ("contact_id", "name", "occurred_at", "received_at", "metadata_json", "identity", "fingerprint")


class Source(Protocol[D]):
    """What to export: documents in the order of `field`, which become rows."""

    prefix: Prefix
    field: str
    times: TimeRange
    columns: Sequence[str]

    @property
    def options(self) -> Document:
        """What distinguishes this export from others."""

    async def count(self) -> int:
        """The approximate number of rows."""

    async def read(self, low: str, high: str, limit: int) -> list[D]:
        """Up to `limit` documents with ids from `low` to before `high`."""

    async def rows(self, documents: Sequence[D]) -> list[Document]: ...


@dataclass(slots=True)
class ContactSource:
    store: WorkspaceStore
    prefix: Prefix = Prefix.CONTACT
    field: str = "_id"
    times: TimeRange = TimeRange()  # noqa: RUF009 - frozen
    columns: Sequence[str] = contact_rows.EXPORTED

    @property
    def options(self) -> Document:
        return {"what": "contacts", "workspace": self.store.workspace_id}

    async def count(self) -> int:
        return await self.store.contacts.count(_MOST_COUNTED)

    async def read(self, low: str, high: str, limit: int) -> list[ContactDocument]:
        """Up to `limit` contacts with ids from `low` to before `high`."""
        return await self.store.contacts.id_range(low, high, limit)

    async def rows(self, documents: Sequence[ContactDocument]) -> list[Document]:
        return await rows_of_contacts(self.store, documents)


@dataclass(slots=True)
class SegmentSource:
    store: WorkspaceStore
    segment_id: str
    prefix: Prefix = Prefix.CONTACT
    field: str = "contact_id"
    times: TimeRange = TimeRange()  # noqa: RUF009 - frozen
    columns: Sequence[str] = contact_rows.EXPORTED

    @property
    def options(self) -> Document:
        return {"what": "segment", "workspace": self.store.workspace_id, "segment": self.segment_id}

    async def count(self) -> int:
        return await self.store.members.count(self.segment_id, _MOST_COUNTED)

    async def read(self, low: str, high: str, limit: int) -> list[MemberDocument]:
        """Up to `limit` memberships with contact ids from `low` to before `high`."""
        filters = [{"segment_id": self.segment_id}]
        return await self.store.members.id_range(low, high, limit, filters=filters, field=self.field)

    async def rows(self, documents: Sequence[MemberDocument]) -> list[Document]:
        contacts = await self.store.contacts.by_ids([member["contact_id"] for member in documents])
        return await rows_of_contacts(self.store, [contacts[id_] for id_ in sorted(contacts)])


async def find_segment(store: WorkspaceStore, id_or_name: str) -> SegmentDocument:
    """The segment with that id or name; UserProblem if there is none, or if its members are still being computed."""
    segments = await store.segments.all()
    matches = [row for row in segments if id_or_name in (row["_id"], row["name"])]
    if len(matches) != 1:
        names = ", ".join(f"{row['name']} ({row['_id']})" for row in segments) or "none yet"
        what = "no segment" if not matches else "more than one segment"
        raise UserProblem(ErrorCode.NOT_FOUND, f"There is {what} '{id_or_name}'. Segments: {names}.", ("segment",))
    if not matches[0]["complete"]:
        message = f"The members of '{matches[0]['name']}' are still being computed: try again in a moment."
        raise UserProblem(ErrorCode.CONFLICT, message, ("segment",))
    return matches[0]


@dataclass(slots=True)
class EventSource:
    """The events of a workspace, of some names and a time range."""

    store: WorkspaceStore
    times: TimeRange
    names: Sequence[str] = ()
    prefix: Prefix = Prefix.EVENT
    field: str = "_id"
    columns: Sequence[str] = event_rows.EXPORTED

    @property
    def options(self) -> Document:
        times = [self.times.start.isoformat(), self.times.end.isoformat()]
        return {"what": "events", "workspace": self.store.workspace_id, "times": times, "names": sorted(self.names)}

    async def count(self) -> int:
        return await self.store.events.count(self.times, _MOST_COUNTED, names=self.names or None)

    async def read(self, low: str, high: str, limit: int) -> list[EventDocument]:
        """Up to `limit` events with ids from `low` to before `high`."""
        filters: list[dict[str, str]] = [{"name": name} for name in dict.fromkeys(self.names)] or [{}]
        return await self.store.events.id_range(low, high, limit, filters=filters, fields=_EVENT_FIELDS)

    async def rows(self, documents: Sequence[EventDocument]) -> list[Document]:
        contacts = await self.store.contacts.of_ids(sorted({event["contact_id"] for event in documents}))
        events = [event for event in documents if event["contact_id"] in contacts]
        return [event_rows.event_row(event, contacts[event["contact_id"]]) for event in events]


async def rows_of_contacts(store: WorkspaceStore, contacts: Sequence[ContactDocument]) -> list[Document]:
    """Contacts as rows, with the counts of their summaries that no stored event accounts for."""
    summaries = await store.summaries.imported_of([contact["_id"] for contact in contacts])
    swept = await store.tombstones.counts_of({id_: contact["_id"] for contact in contacts for id_ in ids_of(contact)})
    return [
        contact_rows.contact_row(contact, summaries.get(contact["_id"], ()), swept.get(contact["_id"], ()))
        for contact in contacts
    ]


async def export(source: Source[D], output: ExportSink, clock: Clock, report: Callable[[Progress], None]) -> Progress:
    """Write every stored row that is not newer than the export. Calls `report` after each page."""
    progress = Progress("exporting", 0, None)
    with suppress(UnavailableError):  # only the progress bar needs it
        progress.total = await source.count()
    checkpoint = output.start(source.columns, lowest_id(source.prefix, min(source.times.end, clock() + _AHEAD)))
    progress.added = progress.done = checkpoint.rows
    low = lowest_id(source.prefix, source.times.start) if checkpoint.after is None else checkpoint.after + "0"
    async for documents, rows in _rows(source, low, checkpoint.high):
        output.write(rows, str(documents[-1][source.field]))
        progress.added += len(rows)
        progress.done += len(documents)
        report(progress)
    output.finish()
    return progress


async def _rows(source: Source[D], low: str, high: str) -> AsyncIterator[tuple[list[D], list[Document]]]:
    async for documents in scan_pages(source.read, source.prefix, low, high, PAGE, source.field):
        yield documents, await source.rows(documents)
