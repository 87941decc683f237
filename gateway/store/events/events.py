"""Events and their summaries."""

import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Generic, TypeVar, cast

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne

from gateway.core.ids import Prefix, lowest_id
from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.merging import ids_of
from gateway.domain.events.documents import (
    NO_TOTALS,
    EntryCounts,
    EventDocument,
    NameTotals,
    StoredEvent,
    SummaryDocument,
    SummaryIncrement,
)
from gateway.store.contacts.contacts import IDS_OF_CONTACT, Contacts
from gateway.store.driver import Document, Operation, Session
from gateway.store.repositories import Repository, id_bounds

E = TypeVar("E", bound=StoredEvent)
_ALL = 2**31 - 1
IdRange = tuple[str | None, str | None]  # ids behind the first, up to the second; None: without an end


class Occurrences(Repository[E], Generic[E]):
    """Events or tombstones: each is stored once under its identity."""

    async def by_identity(self, identities: Sequence[str]) -> dict[str, E]:
        if not identities:
            return {}
        return {row["identity"]: row for row in await self._find({"identity": {"$in": list(identities)}})}

    async def values(self, name: str, key: str, contacts: IdRange, session: Session) -> list[EntryCounts]:
        """Each entry of that metadata key, for events of that name and contacts in that id range: `_id` {contact_id,
        entry}, count, first_at, last_at. Ids of merged contacts are separate from their survivors."""
        low, high = contacts
        # Exclusive bounds: inclusive ones in the middle of an index hide rows from an embedded server.
        bounds = {bound: id_ for bound, id_ in (("$gt", low), ("$lt", high and high + "0")) if id_ is not None}
        pipeline: list[Document] = [
            {
                "$match": {
                    **({"contact_id": bounds} if bounds else {}),
                    "workspace_id": self._workspace_id,
                    "name": name,
                }
            },
            {"$project": {"contact_id": 1, "occurred_at": 1, "metadata": 1}},
            {"$unwind": "$metadata"},
            {"$match": {"metadata.key": key}},
            {
                "$group": {
                    "_id": {"contact_id": "$contact_id", "entry": "$metadata"},
                    "count": {"$sum": 1},
                    "first_at": {"$min": "$occurred_at"},
                    "last_at": {"$max": "$occurred_at"},
                }
            },
        ]
        rows = await self._database.aggregate(self.COLLECTION, pipeline, session, long=True)
        return cast(list[EntryCounts], rows)


class Events(Occurrences[EventDocument]):
    """The events of one workspace. An id encodes when the event occurred, so `_id` sorts every timeline."""

    COLLECTION: ClassVar[str] = "events"
    OWNER: ClassVar[str | None] = "contact_id"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("identity", ASCENDING)], unique=True, name="identity"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="timeline"),
        IndexModel([("workspace_id", ASCENDING), ("name", ASCENDING), ("_id", ASCENDING)], name="name"),
        # A contact belongs to one workspace; its id comes first so that a lookup by contact can use these on every server.
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING), ("_id", ASCENDING)], name="contact"),
        IndexModel(
            [("contact_id", ASCENDING), ("workspace_id", ASCENDING), ("name", ASCENDING), ("_id", ASCENDING)],
            name="contact_name",
        ),
    )

    async def insert(self, events: Sequence[EventDocument], session: Session) -> None:
        await self._database.insert(self.COLLECTION, events, session)

    async def oldest(self, end: datetime, after: str | None, limit: int, now: datetime) -> list[EventDocument]:
        """The oldest events before `end`, after that id."""
        page = Page(limit - 1, True, None, after)
        return await self._page_by_id([{}], Prefix.EVENT, page, TimeRange(end=end), now)

    async def remove(self, ids: Sequence[str], session: Session) -> int:
        filter_ = {"_id": {"$in": list(ids)}, "workspace_id": self._workspace_id}
        return await self._database.delete(self.COLLECTION, filter_, session)

    async def page(
        self,
        page: Page,
        times: TimeRange,
        now: datetime,
        *,
        names: Sequence[str] | None = None,
        contact_ids: Sequence[str] | None = None,
        fields: Sequence[str] | None = None,
    ) -> list[EventDocument]:
        """A page of the workspace's or one contact's events, newest first; `names` and `fields` limit what is read.

        `contact_ids`: the contact's id, then the ids of the contacts merged into it."""
        if contact_ids is not None and len(contact_ids) > 1:
            contact_id = contact_ids[0]
            pages = await self.pages_of_contacts({contact_id: contact_ids}, page, times, names, fields)
            return pages.get(contact_id, [])
        contact = {"contact_id": contact_ids[0]} if contact_ids is not None else {}
        filters = [contact] if names is None else [{**contact, "name": name} for name in dict.fromkeys(names)]
        return await self._page_by_id(filters, Prefix.EVENT, page, times, now, fields=fields)

    async def pages_of_contacts(
        self,
        contacts: Mapping[str, Sequence[str]],
        page: Page,
        times: TimeRange,
        names: Sequence[str] | None,
        fields: Sequence[str] | None = None,
    ) -> dict[str, list[EventDocument]]:
        """A page of each contact's events, newest first, in one read. `contacts`: by contact, every id that its events
        may have. `fields` limits what is read."""
        match: dict[str, object] = {"_id": id_bounds(Prefix.EVENT, page, times)}
        if names is not None:
            match["name"] = {"$in": list(names)}
        sort = {"_id": 1 if page.backward else -1}
        return await self._pages_of_children(
            list(contacts),
            match,
            sort,
            page.limit,
            foreign="contact_id",
            parent_collection=Contacts.COLLECTION,
            parent_ids=IDS_OF_CONTACT,
            known=contacts,
            fields=fields,
        )

    async def of_contacts(
        self, contact_ids: Sequence[str], name: str, times: TimeRange, *, metadata: bool
    ) -> dict[str, list[EventDocument]]:
        """Each contact's events of that name in that time, oldest first: their times and, if wanted, their metadata."""
        match = {"_id": id_bounds(Prefix.EVENT, Page(1, False, None, None), times), "name": name}
        return await self._pages_of_children(
            contact_ids,
            match,
            {"_id": 1},
            _ALL,
            foreign="contact_id",
            parent_collection=Contacts.COLLECTION,
            parent_ids=IDS_OF_CONTACT,
            fields=["contact_id", "occurred_at", *(("metadata", "metadata_json") if metadata else ())],
        )

    async def count(
        self,
        times: TimeRange,
        most: int,
        *,
        names: Sequence[str] | None = None,
        contact_ids: Sequence[str] | None = None,
    ) -> int:
        """The number of the workspace's or one contact's events in that time, counted up to `most`."""
        bounds = {"$gte": lowest_id(Prefix.EVENT, times.start), "$lt": lowest_id(Prefix.EVENT, times.end)}
        if self._token is not None and not (contact_ids and self._token.owns(contact_ids[0])):
            return 0
        contact_filters: list[Document] = [{}] if contact_ids is None else [{"contact_id": id_} for id_ in contact_ids]
        name_filters: list[Document] = [{}] if names is None else [{"name": name} for name in dict.fromkeys(names)]
        total = 0
        # One count per pair: equalities and one range use an index.
        for contact_filter, name_filter in itertools.product(contact_filters, name_filters):
            if total < most and not times.empty:
                filter_ = {**contact_filter, **name_filter, "_id": bounds, "workspace_id": self._workspace_id}
                total += await self._database.count(self.COLLECTION, filter_, most - total)
        return total

    async def last_of(self, contact: ContactDocument, name: str, now: datetime) -> EventDocument | None:
        """The newest event of that name of a contact, including the contacts merged into it."""
        rows = await self.page(Page(1, False, None, None), TimeRange(), now, names=[name], contact_ids=ids_of(contact))
        return next(iter(rows), None)

    async def count_received(self, contact_ids: Sequence[str], name: str, since: datetime) -> int:
        """The number of events of that name that were received for these contacts since then."""
        filter_ = {"name": name, "received_at": {"$gte": since}, "workspace_id": self._workspace_id}
        return sum([await self._database.count(self.COLLECTION, {"contact_id": id_, **filter_}) for id_ in contact_ids])

    async def metadata_types(self) -> dict[str, dict[str, list[str]]]:
        """Every type that a metadata key ever had, by event name and key."""
        entry = {"name": "$name", "key": "$metadata.key", "type": "$metadata.type"}
        pipeline: list[Document] = [
            {"$match": {"workspace_id": self._workspace_id}},
            {"$project": {"name": 1, "metadata.key": 1, "metadata.type": 1}},
            {"$unwind": "$metadata"},
            {"$group": {"_id": entry}},
        ]
        types: dict[str, dict[str, list[str]]] = {}
        for row in await self._database.aggregate(self.COLLECTION, pipeline, long=True):
            group = row["_id"]
            types.setdefault(group["name"], {}).setdefault(group["key"], []).append(group["type"])
        return types

    async def survivors(self, session: Session) -> dict[str, str]:
        """The current contact by every id that events of merged contacts may have."""
        pipeline: list[Document] = [
            {"$match": {"workspace_id": self._workspace_id, "contact_ids": {"$exists": True}}},
            {"$project": {"contact_ids": 1}},
        ]
        rows = await self._database.aggregate(Contacts.COLLECTION, pipeline, session, long=True)
        return {id_: row["_id"] for row in rows for id_ in row["contact_ids"]}


class EventSummaries(Repository[SummaryDocument]):
    """Count, first and last time per contact and name; `imported` holds the part that was imported as numbers."""

    COLLECTION: ClassVar[str] = "event_summaries"
    OWNER: ClassVar[str | None] = "contact_id"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING), ("name", ASCENDING)], name="contact"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="workspace"),
        IndexModel([("workspace_id", ASCENDING), ("name", ASCENDING), ("contact_id", ASCENDING)], name="name_contact"),
        IndexModel(
            [
                ("workspace_id", ASCENDING),
                ("name", ASCENDING),
                ("count", DESCENDING),
                ("contact_id", ASCENDING),
            ],
            name="name_count",
        ),
    )

    async def of_name(self, name: str, page: Page, times: TimeRange, now: datetime) -> list[SummaryDocument]:
        """A page of the summaries of that name for contacts created in that time, newest contact first."""
        return await self._page_by_id([{"name": name}], Prefix.CONTACT, page, times, now, "contact_id")

    async def contacts_of_frequent(self, name: str, least: int, limit: int) -> list[str]:
        """The contacts with at least that count of that name, highest count first."""
        # One exclusive bound: an inclusive one in the middle of an index hides rows from an embedded server.
        filter_ = {"name": name, "count": {"$gt": least - 1}}
        rows = await self._find(filter_, sort={"count": -1, "contact_id": 1}, limit=limit)
        return [row["contact_id"] for row in rows]

    async def most_frequent(self, name: str, limit: int, fields: Sequence[str] | None = None) -> list[SummaryDocument]:
        """The summaries of that name, highest count first, then oldest contact first."""
        summary_fields = None if fields is None else ["contact_id", "count", "last_at", *fields]
        return await self._find({"name": name}, sort={"count": -1, "contact_id": 1}, limit=limit, fields=summary_fields)

    async def add(self, summaries: Iterable[SummaryIncrement], session: Session) -> None:
        await self._database.bulk(self.COLLECTION, [self._add(summary) for summary in summaries], session)

    async def replace(self, summaries: Iterable[SummaryDocument], session: Session) -> None:
        """Write these summaries, replacing those with the same ids."""
        operations = [
            UpdateOne(
                {"_id": row["_id"], "workspace_id": self._workspace_id},
                {"$set": {k: v for k, v in row.items() if k != "_id"}},
                upsert=True,
            )
            for row in summaries
        ]
        await self._database.bulk(self.COLLECTION, operations, session)

    async def imported_of(self, contact_ids: Sequence[str]) -> dict[str, list[SummaryDocument]]:
        """By contact, the summaries with imported or retained counts, sorted by name."""
        has_import = [{"imported": {"$exists": True}}, {"retained": {"$exists": True}}]
        filter_ = {"contact_id": {"$in": list(contact_ids)}, "$or": has_import}
        summaries: dict[str, list[SummaryDocument]] = {}
        for row in await self._find(filter_, projection=["contact_id", "name", "imported", "retained"]):
            summaries.setdefault(row["contact_id"], []).append(row)
        return {id_: sorted(rows, key=operator.itemgetter("name")) for id_, rows in summaries.items()}

    async def of_contact(self, contact_id: str, session: Session) -> list[SummaryDocument]:
        return await self._find({"contact_id": contact_id}, session=session)

    async def remove(self, ids: Sequence[str], session: Session) -> None:
        await self._database.delete(
            self.COLLECTION, {"_id": {"$in": list(ids)}, "workspace_id": self._workspace_id}, session
        )

    async def pages_of_contacts(
        self, contact_ids: Sequence[str], page: Page, fields: Sequence[str] | None = None
    ) -> dict[str, list[SummaryDocument]]:
        """A page of each contact's summaries by name, in one read. `fields` limits what is read beside the name."""
        bounds = {bound: value for bound, value in (("$gt", page.after), ("$lt", page.before)) if value is not None}
        match = {"name": bounds} if bounds else {}
        sort = {"name": -1 if page.backward else 1}
        return await self._pages_of_children(
            contact_ids,
            match,
            sort,
            page.limit,
            foreign="contact_id",
            parent_collection=Contacts.COLLECTION,
            fields=fields,
        )

    async def totals(self, names: Sequence[str] | None = None, session: Session = None) -> dict[str, NameTotals]:
        """Count, contact_count, first_at and last_at by name, over all summaries; without `names`, of every name."""
        match: dict[str, object] = {"workspace_id": self._workspace_id}
        if names is not None:
            match["name"] = {"$in": list(names)}
        group = {
            "_id": "$name",
            "count": {"$sum": "$count"},
            "contact_count": {"$sum": 1},
            "first_at": {"$min": "$first_at"},
            "last_at": {"$max": "$last_at"},
        }
        rows = await self._database.aggregate(
            self.COLLECTION, [{"$match": match}, {"$group": group}], session, long=True
        )
        totals = dict.fromkeys(names or (), NO_TOTALS)
        return totals | {row.pop("_id"): cast(NameTotals, row) for row in rows}

    def _add(self, summary: SummaryIncrement) -> Operation:
        first, last = summary["first_at"], summary["last_at"]
        return UpdateOne(
            {"_id": summary["_id"], "workspace_id": self._workspace_id},
            {
                "$inc": {"count": summary["count"], "tracked_count": summary["count"]},
                "$min": {"first_at": first, "tracked_first_at": first},
                "$max": {"last_at": last, "tracked_last_at": last},
                "$setOnInsert": {"contact_id": summary["contact_id"], "name": summary["name"]},
            },
            upsert=True,
        )
