"""Deliveries, and the lanes that keep their order. Each destination has collections of its own."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.core.ids import Prefix
from gateway.core.leases import latest_end
from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.outbox.deliveries import LEASE, OPEN, DeliveryKind, DeliveryState, Queue, claim_limit
from gateway.outbox.documents import DeliveryChanges, DeliveryDocument, LaneChanges, LaneDocument
from gateway.store.contacts.contacts import IDS_OF_CONTACT, Contacts
from gateway.store.driver import Document, Filter, Session, TransientError
from gateway.store.repositories import Repository, with_fields


class Deliveries(Repository[DeliveryDocument]):
    """The deliveries of a workspace to one destination, which names the collection. Delivered and rejected ones are kept
    for 30 days, dead letters until replayed."""

    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("open", ASCENDING), ("seq", ASCENDING)], name="open"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="order"),
        IndexModel([("workspace_id", ASCENDING), ("state", ASCENDING), ("_id", ASCENDING)], name="state"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING), ("_id", ASCENDING)], name="contact"),
        IndexModel([("subject_id", ASCENDING), ("workspace_id", ASCENDING), ("_id", ASCENDING)], name="subject"),
        IndexModel([("workspace_id", ASCENDING), ("metric", ASCENDING), ("_id", ASCENDING)], name="metric"),
        IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0, name="expiry"),
    )

    async def insert(self, rows: Sequence[DeliveryDocument], session: Session) -> None:
        await self._database.insert(self.COLLECTION, rows, session)

    async def open_in(self, lanes: Sequence[LaneDocument], session: Session) -> list[DeliveryDocument]:
        """The first open deliveries of each lane, up to its claim limit."""
        shallow = [lane["_id"] for lane in lanes if claim_limit(lane) == lane["seq"]]
        rows = await self._find({"open": {"$in": shallow}}, session=session) if shallow else []
        for lane in lanes:
            if claim_limit(lane) < lane["seq"]:
                filter_ = {"open": lane["_id"], "seq": {"$lte": claim_limit(lane)}}
                rows += await self._find(filter_, session=session)
        return rows

    async def existing(self, ids: Sequence[str], session: Session) -> set[str]:
        """Which of these still exist: an erasure deletes those of its contact."""
        rows = await self._find({"_id": {"$in": list(ids)}}, projection=["_id"], session=session) if ids else []
        return {row["_id"] for row in rows}

    async def erase_some(self, contact_id: str, most: int) -> bool:
        """Delete deliveries of an erased contact, up to `most`, but those that request its deletion; whether there may
        be more."""
        filter_ = {"contact_id": contact_id, "kind": {"$ne": DeliveryKind.DELETION.value}}
        rows = await self._find(filter_, limit=most, projection=["_id"])
        if rows:
            await self._database.delete(self.COLLECTION, {"_id": {"$in": [row["_id"] for row in rows]}})
        return bool(rows)

    async def mark_sending(self, ids: Sequence[str], session: Session) -> None:
        """Set the state SENDING: a worker has claimed them."""
        change = {"$set": {"state": DeliveryState.SENDING.value}}
        filters = [{"_id": id_, "workspace_id": self._workspace_id} for id_ in ids]
        await self._database.bulk(self.COLLECTION, [UpdateOne(filter_, change) for filter_ in filters], session)

    async def change(self, changes: Mapping[str, DeliveryChanges], session: Session) -> None:
        """Set these fields by delivery id; None removes one. Deliveries erased meanwhile stay erased."""
        operations = [
            UpdateOne({"_id": id_, "workspace_id": self._workspace_id}, set_or_unset(values))
            for id_, values in changes.items()
        ]
        await self._database.bulk(self.COLLECTION, operations, session)

    async def page(
        self,
        filters: Sequence[Filter],
        page: Page,
        times: TimeRange,
        now: datetime,
        fields: Sequence[str] | None = None,
    ) -> list[DeliveryDocument]:
        """A page of the deliveries that match any filter (an equality with an index), newest first."""
        return await self._page_by_id(filters, Prefix.DELIVERY, page, times, now, fields=fields)

    async def count(self, filter_: Filter, most: int) -> int:
        """The number of matches, counted up to `most`."""
        return await self._database.count(self.COLLECTION, {**filter_, "workspace_id": self._workspace_id}, most)

    async def oldest_open(self, now: datetime) -> DeliveryDocument | None:
        """Id and created_at of the oldest open delivery that is not part of a backfill."""
        filters = [{"state": state.value, "backfill_id": None} for state in sorted(OPEN)]
        oldest_first = Page(0, True, None, None)
        return next(iter(await self.page(filters, oldest_first, TimeRange(), now, ["created_at"])), None)

    async def of_subjects(
        self, subject_ids: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, DeliveryDocument]:
        """The newest delivery by subject id, for subjects with few deliveries. `fields` are read beside the subject."""
        filter_ = {"subject_id": {"$in": list(subject_ids)}}
        delivery_fields = None if fields is None else with_fields(fields, "subject_id")
        rows = await self._find(filter_, sort={"_id": ASCENDING}, fields=delivery_fields)
        return {str(row["subject_id"]): row for row in rows}

    async def pages_of_parents(
        self,
        parents: str,
        ids: Sequence[str],
        bounds: Filter,
        limit: int,
        *,
        oldest_first: bool,
        fields: Sequence[str] | None = None,
    ) -> dict[str, list[DeliveryDocument]]:
        """The newest (or oldest) deliveries of each parent within these bounds, in one read. `parents`: the collection. A parent is a contact
        (with the contacts merged into it), a conversation or a ticket. `fields` limits what is read."""
        by_contact = parents == Contacts.COLLECTION
        return await self._pages_of_children(
            ids,
            bounds,
            {"_id": 1 if oldest_first else -1},
            limit,
            foreign="contact_id" if by_contact else "subject_id",
            parent_collection=parents,
            parent_ids=IDS_OF_CONTACT if by_contact else "$_id",
            fields=fields,
        )


class Lanes(Repository[LaneDocument]):
    """One lane per contact and queue: its deliveries and its lease. The destination names the collection."""

    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("queue", ASCENDING), ("due_at", ASCENDING)], name="due"),
    )

    async def due(self, queue: Queue, now: datetime, limit: int) -> list[LaneDocument]:
        """The due lanes of a queue, longest due first; if none, those with a lease by a wrong clock."""
        filter_: Document = {"queue": queue.value, "due_at": {"$lte": now}}
        lanes = await self._find(filter_, sort={"due_at": ASCENDING}, limit=limit)
        return lanes or await self._find(self._lease_too_long(queue, now), limit=limit)

    @staticmethod
    def _lease_too_long(queue: Queue, now: datetime) -> Document:
        """Lanes whose lease ends too late. (Lanes without a lease may wait for a day, if the destination says so.)"""
        return {"queue": queue.value, "due_at": {"$gt": latest_end(now, LEASE)}, "lease": {"$exists": True}}

    async def claim(
        self, lanes: Sequence[LaneDocument], lease: str, until: datetime, session: Session
    ) -> list[LaneDocument]:
        """Lease the lanes until that moment; returns those that did not change since they were read."""
        claim = {"$set": {"lease": lease, "due_at": until}, "$inc": {"version": 1}}
        await self._database.bulk(self.COLLECTION, [UpdateOne(self._guard(lane), claim) for lane in lanes], session)
        claimed_lanes = await self.by_ids([lane["_id"] for lane in lanes], session)
        return [lane for lane in claimed_lanes.values() if lane.get("lease") == lease]

    async def save(self, changes: Sequence[tuple[LaneDocument, LaneChanges]], session: Session) -> None:
        """Set these fields (None removes one); insert at version 0. TransientError if a lane changed since."""
        new = [{**lane, **values, "version": 1} for lane, values in changes if not lane["version"]]
        await self._database.insert(self.COLLECTION, new, session)
        operations = [
            UpdateOne(self._guard(lane), {**set_or_unset(values), "$inc": {"version": 1}})
            for lane, values in changes
            if lane["version"]
        ]
        if await self._database.bulk(self.COLLECTION, operations, session) != len(operations):
            raise TransientError("a lane of deliveries changed meanwhile")

    async def remove(self, lanes: Sequence[LaneDocument], session: Session) -> None:
        """Delete lanes of erased contacts; TransientError if one changed since it was read."""
        for lane in lanes:
            if await self._database.delete(self.COLLECTION, self._guard(lane), session) != 1:
                raise TransientError("a lane of deliveries changed meanwhile")

    def _guard(self, lane: LaneDocument) -> Document:
        return {"_id": lane["_id"], "workspace_id": self._workspace_id, "version": lane["version"]}


def set_or_unset(values: Mapping[str, object]) -> Document:
    """The update that sets these fields and removes those that are None."""
    set_fields = {name: value for name, value in values.items() if value is not None}
    unset_fields = {name: "" for name, value in values.items() if value is None}
    return ({"$set": set_fields} if set_fields else {}) | ({"$unset": unset_fields} if unset_fields else {})
