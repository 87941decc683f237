"""Deliveries and the lanes that keep their order, as MongoDB keeps them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from pymongo import ASCENDING, IndexModel, InsertOne, UpdateOne

from gateway.core.ids import Prefix
from gateway.core.leases import latest_end
from gateway.core.pagination import Page
from gateway.core.time_ranges import EARLIEST, TimeRange
from gateway.domain.deliveries import LEASE, OPEN, DeliveryState, Queue, claim_limit
from gateway.domain.syncs import connection_id_of, metric_id_of
from gateway.store.contacts.contacts import IDS_OF_CONTACT, Contacts
from gateway.store.driver import Document, DuplicateError, Operation, Session, TransientError
from gateway.store.repositories import Repository, with_fields


class Deliveries(Repository):
    """What is, was or cannot be delivered. Delivered and rejected ones are kept for 30 days, dead ones until replayed."""

    COLLECTION: ClassVar[str] = "deliveries"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("open", ASCENDING), ("seq", ASCENDING)], name="open"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="order"),
        IndexModel([("workspace_id", ASCENDING), ("state", ASCENDING), ("_id", ASCENDING)], name="state"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING), ("_id", ASCENDING)], name="contact"),
        IndexModel([("subject_id", ASCENDING), ("workspace_id", ASCENDING), ("_id", ASCENDING)], name="subject"),
        IndexModel([("workspace_id", ASCENDING), ("metric", ASCENDING), ("_id", ASCENDING)], name="metric"),
        IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0, name="expiry"),
    )

    async def insert(self, rows: Sequence[Document], session: Session) -> None:
        """Add deliveries."""
        await self._database.insert(self.COLLECTION, rows, session)

    async def open_in(self, lanes: Sequence[Document], session: Session) -> list[Document]:
        """The first open deliveries of those lanes."""
        shallow = [lane["_id"] for lane in lanes if claim_limit(lane) == lane["seq"]]
        rows = await self._find({"open": {"$in": shallow}}, session=session) if shallow else []
        for lane in lanes:
            if claim_limit(lane) < lane["seq"]:
                filter_ = {"open": lane["_id"], "seq": {"$lte": claim_limit(lane)}}
                rows += await self._find(filter_, session=session)
        return rows

    async def existing(self, ids: Sequence[str], session: Session) -> set[str]:
        """Which of these are still there: with their contact they are erased."""
        rows = await self._find({"_id": {"$in": list(ids)}}, projection=["_id"], session=session) if ids else []
        return {row["_id"] for row in rows}

    async def mark_sending(self, ids: Sequence[str], session: Session) -> None:
        """Say of these that a worker has them."""
        sending = {"$set": {"state": DeliveryState.SENDING.value}}
        filters = [{"_id": id_, "workspace_id": self._workspace_id} for id_ in ids]
        await self._database.bulk(self.COLLECTION, [UpdateOne(filter_, sending) for filter_ in filters], session)

    async def change(self, changes: Mapping[str, Mapping[str, Any]], session: Session) -> None:
        """Set these fields of those deliveries, by id; None clears. What was erased meanwhile stays so."""
        operations = [
            UpdateOne({"_id": id_, "workspace_id": self._workspace_id}, _setting(values))
            for id_, values in changes.items()
        ]
        await self._database.bulk(self.COLLECTION, operations, session)

    async def page(
        self,
        filters: Sequence[Mapping[str, Any]],
        asked: Page,
        times: TimeRange,
        now: datetime,
        fields: Sequence[str] | None = None,
    ) -> list[Document]:
        """A page of those of any of the filters (each on equality, with an index), the newest first; of them those
        fields, if any are named."""
        return await self._page_by_id(filters, Prefix.DELIVERY, asked, times, now, fields=fields)

    async def count(self, filter_: Mapping[str, Any], most: int) -> int:
        """How many a filter finds, counted up to that many."""
        return await self._database.count(self.COLLECTION, {**filter_, "workspace_id": self._workspace_id}, most)

    async def oldest_open(self, now: datetime) -> Document | None:
        """The oldest delivery of what happens now that did not arrive yet: its id, and since when it waits."""
        filters = [{"state": state.value, "backfill_id": None} for state in sorted(OPEN)]
        oldest_first = Page(0, True, None, None)
        return next(iter(await self.page(filters, oldest_first, TimeRange(), now, ["created_at"])), None)

    async def of_subjects(self, subject_ids: Sequence[str], fields: Sequence[str] | None = None) -> dict[str, Document]:
        """The newest delivery of each of those subjects that have few; of it its subject, and those fields, if any are
        named."""
        filter_ = {"subject_id": {"$in": list(subject_ids)}}
        wanted = None if fields is None else with_fields(fields, "subject_id")
        rows = await self._find(filter_, sort={"_id": ASCENDING}, fields=wanted)
        return {row["subject_id"]: row for row in rows}

    async def pages_of_parents(
        self,
        parents: Repository,
        ids: Sequence[str],
        bounds: Mapping[str, Any],
        limit: int,
        *,
        oldest_first: bool,
        fields: Sequence[str] | None = None,
    ) -> dict[str, list[Document]]:
        """The newest (or oldest) deliveries within these bounds of each contact, those of contacts that it took over
        included, or of each conversation or ticket, in one read; of them those fields, if any are named."""
        by_contact = parents.COLLECTION == Contacts.COLLECTION
        return await self._pages_of_children(
            ids,
            bounds,
            {"_id": 1 if oldest_first else -1},
            limit,
            foreign="contact_id" if by_contact else "subject_id",
            parent_collection=parents.COLLECTION,
            parent_ids=IDS_OF_CONTACT if by_contact else "$_id",
            fields=fields,
        )


class Lanes(Repository):
    """One lane for each contact and queue: where its deliveries are, and who works at them."""

    COLLECTION: ClassVar[str] = "delivery_lanes"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("queue", ASCENDING), ("due_at", ASCENDING)], name="due"),
    )

    async def due(self, queue: Queue, now: datetime, limit: int) -> list[Document]:
        """The lanes of a queue that somebody is to look at, the longest due first."""
        filter_: Document = {"queue": queue.value, "due_at": {"$lte": now}}
        lanes = await self._find(filter_, sort={"due_at": ASCENDING}, limit=limit)
        return lanes or await self._find(self._held_too_long(queue, now), limit=limit)

    @staticmethod
    def _held_too_long(queue: Queue, now: datetime) -> Document:
        """Lanes whose lease a wrong clock wrote. (Lanes without one may have to wait for a day, if Klaviyo says so.)"""
        return {"queue": queue.value, "due_at": {"$gt": latest_end(now, LEASE)}, "lease": {"$exists": True}}

    async def claim(self, lanes: Sequence[Document], lease: str, until: datetime, session: Session) -> list[Document]:
        """Those of the lanes that are now this lease's, until that moment: nobody changed them since they were read."""
        claimed = {"$set": {"lease": lease, "due_at": until}, "$inc": {"version": 1}}
        await self._database.bulk(self.COLLECTION, [UpdateOne(self._guard(lane), claimed) for lane in lanes], session)
        found = await self.by_ids([lane["_id"] for lane in lanes], session)
        return [lane for lane in found.values() if lane.get("lease") == lease]

    async def save(self, changes: Sequence[tuple[Document, Mapping[str, Any]]], session: Session) -> None:
        """Set these fields of the lanes, None clears; insert those whose version is 0. TransientError where one is no
        longer as it was read."""
        new = [{**lane, **values, "version": 1} for lane, values in changes if not lane["version"]]
        await self._database.insert(self.COLLECTION, new, session)
        operations = [
            UpdateOne(self._guard(lane), {**_setting(values), "$inc": {"version": 1}})
            for lane, values in changes
            if lane["version"]
        ]
        if await self._database.bulk(self.COLLECTION, operations, session) != len(operations):
            raise TransientError("a lane of deliveries changed meanwhile")

    async def remove(self, lanes: Sequence[Document], session: Session) -> None:
        """Delete lanes of contacts that are erased."""
        for lane in lanes:
            if await self._database.delete(self.COLLECTION, self._guard(lane), session) != 1:
                raise TransientError("a lane of deliveries changed meanwhile")

    def _guard(self, lane: Mapping[str, Any]) -> Document:
        return {"_id": lane["_id"], "workspace_id": self._workspace_id, "version": lane["version"]}


class Syncs(Repository):
    """How the workspace is connected to Klaviyo, and how that goes: one document."""

    COLLECTION: ClassVar[str] = "klaviyo_syncs"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (IndexModel([("workspace_id", ASCENDING)], name="workspace"),)

    async def find(self) -> Document | None:
        """What is kept of the sync."""
        id_ = connection_id_of(self._workspace_id)
        return (await self.by_ids([id_])).get(id_)

    async def connected_at(self) -> datetime:
        """Since when the account that is connected now hears something."""
        at: datetime = (await self.find() or {}).get("connected_at", EARLIEST)
        return at

    async def update(self, values: Mapping[str, Any], **guard: Any) -> bool:
        """Set these fields, None clears; whether the guard held."""
        id_ = connection_id_of(self._workspace_id)
        filter_ = {"_id": id_, "workspace_id": self._workspace_id, **guard}
        if await self._database.update(self.COLLECTION, filter_, _setting(values)):
            return True
        if guard:
            return False
        given = {name: value for name, value in values.items() if value is not None}
        try:
            await self._database.insert(self.COLLECTION, [{"_id": id_, "workspace_id": self._workspace_id, **given}])
        except DuplicateError:
            return await self._database.update(self.COLLECTION, filter_, _setting(values)) == 1
        return True


class DeliveryMetrics(Repository):
    """How many deliveries of each metric arrived or failed, counted as they are settled."""

    COLLECTION: ClassVar[str] = "klaviyo_metrics"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (IndexModel([("workspace_id", ASCENDING)], name="workspace"),)

    async def all(self) -> list[Document]:
        """Every metric of which something was settled."""
        return await self._find({})

    async def add(self, tallies: Iterable[Document], session: Session) -> None:
        """Add to the metrics' figures: `name`, `source`, `delivered`, `failed`, and `last_delivered_at` or None."""
        lines = {metric_id_of(self._workspace_id, line["name"]): line for line in tallies}
        known = await self.by_ids(list(lines), session)
        operations: list[Operation] = [
            self._first(id_, line) if id_ not in known else self._more(id_, line) for id_, line in lines.items()
        ]
        await self._database.bulk(self.COLLECTION, operations, session)

    def _first(self, id_: str, line: Document) -> Operation:
        return InsertOne({"_id": id_, "workspace_id": self._workspace_id, **line})

    def _more(self, id_: str, line: Document) -> Operation:
        change: Document = {"$inc": {name: line[name] for name in ("delivered", "failed")}}
        if line["last_delivered_at"] is not None:
            change["$max"] = {"last_delivered_at": line["last_delivered_at"]}
        return UpdateOne({"_id": id_, "workspace_id": self._workspace_id}, change)


def _setting(values: Mapping[str, Any]) -> Document:
    kept = {name: value for name, value in values.items() if value is not None}
    cleared = {name: "" for name, value in values.items() if value is None}
    return ({"$set": kept} if kept else {}) | ({"$unset": cleared} if cleared else {})
