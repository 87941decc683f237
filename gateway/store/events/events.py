"""Events and their summaries as MongoDB keeps them."""

import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne

from gateway.core.ids import Prefix, lowest_id
from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.merging import ids_of
from gateway.store.contacts.contacts import IDS_OF_CONTACT, Contacts
from gateway.store.driver import Document, Operation, Session
from gateway.store.repositories import Repository, id_bounds

_ALL = 2**31 - 1
IdRange = tuple[str | None, str | None]  # ids behind the first, up to the second; None: without an end


class Occurrences(Repository):
    """What happened, each once under its identity: events, or what stays of them."""

    async def by_identity(self, identities: Sequence[str]) -> dict[str, Document]:
        """What is stored under those identities."""
        if not identities:
            return {}
        return {row["identity"]: row for row in await self._find({"identity": {"$in": list(identities)}})}

    async def values(self, name: str, key: str, contacts: IdRange, session: Session) -> list[Document]:
        """Each entry of that metadata key that these contacts have with that name: `_id` {contact_id, entry}, count,
        first_at, last_at. A contact that was taken over is told apart from who has it now."""
        low, high = contacts
        # Exclusive bounds: inclusive ones in the middle of an index hide rows from an embedded server.
        bounds = {mark: id_ for mark, id_ in (("$gt", low), ("$lt", high and high + "0")) if id_ is not None}
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
        return await self._database.aggregate(self.COLLECTION, pipeline, session, long=True)


class Events(Occurrences):
    """The events of one workspace. An id encodes when the event occurred, so `_id` is the order of every timeline."""

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

    async def insert(self, events: Sequence[Document], session: Session) -> None:
        """Add new events."""
        await self._database.insert(self.COLLECTION, events, session)

    async def oldest(self, end: datetime, after: str | None, limit: int, now: datetime) -> list[Document]:
        """The oldest events before that moment, behind that id."""
        asked = Page(limit - 1, True, None, after)
        return await self._page_by_id([{}], Prefix.EVENT, asked, TimeRange(end=end), now)

    async def remove(self, ids: Sequence[str], session: Session) -> int:
        """Delete the events with those ids; how many there were."""
        filter_ = {"_id": {"$in": list(ids)}, "workspace_id": self._workspace_id}
        return await self._database.delete(self.COLLECTION, filter_, session)

    async def page(
        self,
        asked: Page,
        times: TimeRange,
        now: datetime,
        *,
        names: Sequence[str] | None = None,
        contact_ids: Sequence[str] | None = None,
        fields: Sequence[str] | None = None,
    ) -> list[Document]:
        """A page of the workspace's events, or of one contact's, newest first; of those names if any are given, and of
        them those fields.

        `contact_ids`: the contact's own id, then those of the contacts that it took over.
        """
        if contact_ids is not None and len(contact_ids) > 1:
            own = contact_ids[0]
            return (await self.pages_of_contacts({own: contact_ids}, asked, times, names, fields)).get(own, [])
        contact = {"contact_id": contact_ids[0]} if contact_ids is not None else {}
        filters = [contact] if names is None else [{**contact, "name": name} for name in dict.fromkeys(names)]
        return await self._page_by_id(filters, Prefix.EVENT, asked, times, now, fields=fields)

    async def pages_of_contacts(
        self,
        contacts: Mapping[str, Sequence[str]],
        asked: Page,
        times: TimeRange,
        names: Sequence[str] | None,
        fields: Sequence[str] | None = None,
    ) -> dict[str, list[Document]]:
        """A page of each contact's events, newest first, in one read; of them those fields, if any are named.

        `contacts`: every id that events may name a contact by, by its own.
        """
        match: dict[str, Any] = {"_id": id_bounds(Prefix.EVENT, asked, times)}
        if names is not None:
            match["name"] = {"$in": list(names)}
        sort = {"_id": 1 if asked.backward else -1}
        return await self._pages_of_children(
            list(contacts),
            match,
            sort,
            asked.limit,
            foreign="contact_id",
            parent_collection=Contacts.COLLECTION,
            parent_ids=IDS_OF_CONTACT,
            known=contacts,
            fields=fields,
        )

    async def of_contacts(
        self, contact_ids: Sequence[str], name: str, times: TimeRange, *, metadata: bool
    ) -> dict[str, list[Document]]:
        """Each contact's events of that name in that time: their times, and what else is needed to look at their metadata."""
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
        """How many events of the workspace, or of one contact, there are in that time, counted up to that many."""
        bounds = {"$gte": lowest_id(Prefix.EVENT, times.start), "$lt": lowest_id(Prefix.EVENT, times.end)}
        if self._token is not None and not (contact_ids and self._token.owns(contact_ids[0])):
            return 0
        whose: list[Document] = [{}] if contact_ids is None else [{"contact_id": id_} for id_ in contact_ids]
        named: list[Document] = [{}] if names is None else [{"name": name} for name in dict.fromkeys(names)]
        total = 0
        for one, name in itertools.product(whose, named):  # each on equality, and one range behind it
            if total < most and not times.empty:
                filter_ = {**one, **name, "_id": bounds, "workspace_id": self._workspace_id}
                total += await self._database.count(self.COLLECTION, filter_, most - total)
        return total

    async def last_of(self, contact: Document, name: str, now: datetime) -> Document | None:
        """The last event of that name of a contact, and of those that it took over."""
        rows = await self.page(Page(1, False, None, None), TimeRange(), now, names=[name], contact_ids=ids_of(contact))
        return next(iter(rows), None)

    async def count_received(self, contact_ids: Sequence[str], name: str, since: datetime) -> int:
        """How many events of that name of these contacts were received since then."""
        whose = {"name": name, "received_at": {"$gte": since}, "workspace_id": self._workspace_id}
        return sum([await self._database.count(self.COLLECTION, {"contact_id": id_, **whose}) for id_ in contact_ids])

    async def metadata_types(self) -> dict[str, dict[str, list[str]]]:
        """The types that each metadata key ever had, by the events' name and the key."""
        entry = {"name": "$name", "key": "$metadata.key", "type": "$metadata.type"}
        pipeline: list[Document] = [
            {"$match": {"workspace_id": self._workspace_id}},
            {"$project": {"name": 1, "metadata.key": 1, "metadata.type": 1}},
            {"$unwind": "$metadata"},
            {"$group": {"_id": entry}},
        ]
        found: dict[str, dict[str, list[str]]] = {}
        for row in await self._database.aggregate(self.COLLECTION, pipeline, long=True):
            kept = row["_id"]
            found.setdefault(kept["name"], {}).setdefault(kept["key"], []).append(kept["type"])
        return found

    async def survivors(self, session: Session) -> dict[str, str]:
        """Who took over each contact that was merged, by every id that events may name them by."""
        pipeline: list[Document] = [
            {"$match": {"workspace_id": self._workspace_id, "contact_ids": {"$exists": True}}},
            {"$project": {"contact_ids": 1}},
        ]
        found = await self._database.aggregate(Contacts.COLLECTION, pipeline, session, long=True)
        return {id_: row["_id"] for row in found for id_ in row["contact_ids"]}


class EventSummaries(Repository):
    """Count, first and last per contact and name: what was tracked, and beside it what was imported as a number."""

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

    async def of_name(self, name: str, asked: Page, times: TimeRange, now: datetime) -> list[Document]:
        """A page of the summaries of that name whose contacts were created in that time, the newest contact first."""
        return await self._page_by_id([{"name": name}], Prefix.CONTACT, asked, times, now, "contact_id")

    async def contacts_of_frequent(self, name: str, least: int, limit: int) -> list[str]:
        """The contacts whose summary of that name counts at least so many, the highest count first."""
        # One exclusive bound: an inclusive one in the middle of an index hides rows from an embedded server.
        filter_ = {"name": name, "count": {"$gt": least - 1}}
        rows = await self._find(filter_, sort={"count": -1, "contact_id": 1}, limit=limit)
        return [row["contact_id"] for row in rows]

    async def most_frequent(self, name: str, limit: int, fields: Sequence[str] | None = None) -> list[Document]:
        """The summaries of that name with the highest counts, the highest first; of equal ones that of the oldest contact.
        Of each its contact, count and last time, and those fields, if any are named."""
        wanted = None if fields is None else ["contact_id", "count", "last_at", *fields]
        return await self._find({"name": name}, sort={"count": -1, "contact_id": 1}, limit=limit, fields=wanted)

    async def add(self, tallies: Iterable[Document], session: Session) -> None:
        """Add what was counted; a summary that is not there yet begins with it."""
        await self._database.bulk(self.COLLECTION, [self._add(line) for line in tallies], session)

    async def replace(self, summaries: Iterable[Document], session: Session) -> None:
        """Put these summaries in the place of those with their ids."""
        operations = [
            UpdateOne(
                {"_id": row["_id"], "workspace_id": self._workspace_id},
                {"$set": {k: v for k, v in row.items() if k != "_id"}},
                upsert=True,
            )
            for row in summaries
        ]
        await self._database.bulk(self.COLLECTION, operations, session)

    async def imported_of(self, contact_ids: Sequence[str]) -> dict[str, list[Document]]:
        """Those summaries of each contact of which a part was brought as a number, by name."""
        brought = [{"imported": {"$exists": True}}, {"retained": {"$exists": True}}]
        filter_ = {"contact_id": {"$in": list(contact_ids)}, "$or": brought}
        found: dict[str, list[Document]] = {}
        for row in await self._find(filter_, projection=["contact_id", "name", "imported", "retained"]):
            found.setdefault(row["contact_id"], []).append(row)
        return {id_: sorted(rows, key=operator.itemgetter("name")) for id_, rows in found.items()}

    async def of_contact(self, contact_id: str, session: Session) -> list[Document]:
        """Every summary of a contact."""
        return await self._find({"contact_id": contact_id}, session=session)

    async def remove(self, ids: Sequence[str], session: Session) -> None:
        """Delete the summaries with those ids."""
        await self._database.delete(
            self.COLLECTION, {"_id": {"$in": list(ids)}, "workspace_id": self._workspace_id}, session
        )

    async def pages_of_contacts(
        self, contact_ids: Sequence[str], asked: Page, fields: Sequence[str] | None = None
    ) -> dict[str, list[Document]]:
        """A page of each contact's summaries by name, in one read; of each its name, and those fields, if any are named."""
        bounds = {mark: value for mark, value in (("$gt", asked.after), ("$lt", asked.before)) if value is not None}
        match = {"name": bounds} if bounds else {}
        sort = {"name": -1 if asked.backward else 1}
        return await self._pages_of_children(
            contact_ids,
            match,
            sort,
            asked.limit,
            foreign="contact_id",
            parent_collection=Contacts.COLLECTION,
            fields=fields,
        )

    async def totals(self, names: Sequence[str] | None = None, session: Session = None) -> dict[str, Document]:
        """Count, contact_count, first_at and last_at of all summaries of each name, by name; of every name without `names`."""
        match: dict[str, Any] = {"workspace_id": self._workspace_id}
        if names is not None:
            match["name"] = {"$in": list(names)}
        group = {
            "_id": "$name",
            "count": {"$sum": "$count"},
            "contact_count": {"$sum": 1},
            "first_at": {"$min": "$first_at"},
            "last_at": {"$max": "$last_at"},
        }
        found = await self._database.aggregate(
            self.COLLECTION, [{"$match": match}, {"$group": group}], session, long=True
        )
        nothing = {"count": 0, "contact_count": 0, "first_at": None, "last_at": None}
        return {name: dict(nothing) for name in names or ()} | {row.pop("_id"): row for row in found}

    def _add(self, line: Document) -> Operation:
        first, last = line["first_at"], line["last_at"]
        return UpdateOne(
            {"_id": line["_id"], "workspace_id": self._workspace_id},
            {
                "$inc": {"count": line["count"], "tracked_count": line["count"]},
                "$min": {"first_at": first, "tracked_first_at": first},
                "$max": {"last_at": last, "tracked_last_at": last},
                "$setOnInsert": {"contact_id": line["contact_id"], "name": line["name"]},
            },
            upsert=True,
        )
