"""Segments, their members, and when contacts are to be looked at again, as MongoDB keeps them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from pymongo import ASCENDING, DeleteOne, IndexModel, UpdateOne

from gateway.core.ids import Prefix
from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.domain.filters.segments import member_id_of, member_of
from gateway.store.contacts.contacts import Contacts
from gateway.store.driver import Database, Document, Session, TransientError
from gateway.store.repositories import Repository
from gateway.store.workspaces import Workspaces

_IDS_AT_ONCE = 5000


class Segments(Repository):
    """The segments of one workspace: name, filter in snake_case, revision, and whether its members are complete."""

    COLLECTION: ClassVar[str] = "segments"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="workspace"),
    )

    async def all(self) -> list[Document]:
        """Every segment, the oldest first: at most 100."""
        return await self._find({}, sort={"_id": 1})

    async def hidden(self) -> list[Document]:
        """Those that were deleted, as long as they have members."""
        return [row for row in await super()._find({}) if row.get("hidden")]

    async def _find(self, filter_: Mapping[str, Any], **options: Any) -> list[Document]:
        # Not by the filter: a field more, and the embedded servers use no index.
        return [row for row in await super()._find(filter_, **options) if not row.get("hidden")]

    async def turn(self, number: int, session: Session) -> None:
        """Take the turn with that number at the workspace's segments, so that what they name of each other is decided by
        one after the other; TransientError where somebody else took it."""
        guard = {"_id": self._workspace_id, "segments_turn": number or None}
        taken = UpdateOne(guard, {"$set": {"segments_turn": number + 1}})
        if await self._database.bulk(Workspaces.COLLECTION, [taken], session) != 1:
            raise TransientError("another segment of the workspace is saved at this moment")

    async def next_turn(self) -> int:
        """The number of the next turn."""
        row = await self._database.find_one(Workspaces.COLLECTION, {"_id": self._workspace_id})
        return int((row or {}).get("segments_turn") or 0)

    async def save(self, rows: Sequence[Document], session: Session) -> None:
        """Put these segments in the place of those with their ids."""
        operations = [
            UpdateOne(
                {"_id": row["_id"], "workspace_id": self._workspace_id},
                {"$set": {name: value for name, value in row.items() if name != "_id"}},
                upsert=True,
            )
            for row in rows
        ]
        await self._database.bulk(self.COLLECTION, operations, session)

    async def complete(self, segment_id: str, revision: int, session: Session) -> None:
        """All members of that revision are known."""
        guard = {"_id": segment_id, "workspace_id": self._workspace_id, "revision": revision}
        await self._database.bulk(self.COLLECTION, [UpdateOne(guard, {"$set": {"complete": True}})], session)

    async def hide(self, segment_id: str, session: Session) -> None:
        """Let nobody find a segment any more, so that its members can go."""
        guard = {"_id": segment_id, "workspace_id": self._workspace_id}
        await self._database.bulk(self.COLLECTION, [UpdateOne(guard, {"$set": {"hidden": True}})], session)

    async def remove(self, segment_id: str, session: Session) -> None:
        """Delete a segment that has no members."""
        await self._database.delete(self.COLLECTION, {"_id": segment_id, "workspace_id": self._workspace_id}, session)


class SegmentMembers(Repository):
    """Who is in which segment, one document for each."""

    COLLECTION: ClassVar[str] = "segment_members"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("segment_id", ASCENDING), ("workspace_id", ASCENDING), ("contact_id", ASCENDING)], name="segment"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING)], name="contact"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="workspace"),
    )

    async def page(self, segment_id: str, asked: Page, times: TimeRange, now: datetime) -> list[Document]:
        """A page of a segment's members whose contacts were created in that time, the newest contact first."""
        return await self._page_by_id([{"segment_id": segment_id}], Prefix.CONTACT, asked, times, now, "contact_id")

    async def pages_of_segments(self, segment_ids: Sequence[str], asked: Page) -> dict[str, list[Document]]:
        """A page of each segment's members, the newest contact first, in one read."""
        bounds = {mark: value for mark, value in (("$lt", asked.after), ("$gt", asked.before)) if value is not None}
        match = {"contact_id": bounds} if bounds else {}
        sort = {"contact_id": 1 if asked.backward else -1}
        return await self._pages_of_children(
            segment_ids, match, sort, asked.limit, foreign="segment_id", parent_collection=Segments.COLLECTION
        )

    async def of_contacts(self, contact_ids: Sequence[str], most: int) -> dict[str, list[Document]]:
        """Each contact's memberships, in one read."""
        return await self._pages_of_children(
            contact_ids, {}, {"_id": 1}, most, foreign="contact_id", parent_collection=Contacts.COLLECTION
        )

    async def of_contact(self, contact_id: str, session: Session = None) -> list[Document]:
        """Every membership under that id of a contact, whether or not there still is one."""
        return await self._find({"contact_id": contact_id}, session=session)

    async def among(self, segment_ids: Sequence[str], contact_ids: Sequence[str]) -> dict[tuple[str, str], Document]:
        """Which of these contacts are in which of these segments: the memberships by segment and contact."""
        ids = [member_id_of(segment_id, contact_id) for segment_id in segment_ids for contact_id in contact_ids]
        found: list[Document] = []
        for start in range(0, len(ids), _IDS_AT_ONCE):
            found += (await self.by_ids(ids[start : start + _IDS_AT_ONCE])).values()
        return {(row["segment_id"], row["contact_id"]): row for row in found}

    async def some(self, segment_id: str, most: int) -> list[Document]:
        """Some members of a segment."""
        return await self._find({"segment_id": segment_id}, limit=most)

    async def count(self, segment_id: str, most: int) -> int:
        """How many members a segment has, counted up to that many."""
        filter_ = {"segment_id": segment_id, "workspace_id": self._workspace_id}
        return await self._database.count(self.COLLECTION, filter_, most)

    async def add(self, rows: Sequence[Document], session: Session) -> None:
        """Add members; DuplicateError where one is there already."""
        await self._database.insert(self.COLLECTION, rows, session)

    async def carry_over(self, gone_id: str, survivor_id: str, session: Session) -> list[str]:
        """Give a contact the memberships of another one that it takes over; of which segments they are."""
        rows = await self.of_contact(gone_id, session)
        own = {row["segment_id"] for row in await self.of_contact(survivor_id, session)} if rows else set()
        lacking = [row for row in rows if row["segment_id"] not in own]
        await self.remove([row["_id"] for row in rows], session)
        await self.add(
            [member_of(self._workspace_id, row["segment_id"], survivor_id, row["since"]) for row in lacking], session
        )
        return sorted(row["segment_id"] for row in rows)

    async def remove(self, ids: Sequence[str], session: Session) -> None:
        """Delete these memberships; TransientError where one is no longer there."""
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = list(ids[start : start + _IDS_AT_ONCE])
            filter_ = {"_id": {"$in": some}, "workspace_id": self._workspace_id}
            if await self._database.delete(self.COLLECTION, filter_, session) != len(some):
                raise TransientError("a member of a segment went meanwhile")


class SegmentReviews(Repository):
    """When a contact is to be looked at again because time alone may move it in or out of a segment; `_id` is the contact's."""

    COLLECTION: ClassVar[str] = "segment_reviews"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("due_at", ASCENDING)], name="due"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="workspace"),
    )

    async def write(self, due: Mapping[str, datetime | None], session: Session) -> None:
        """When each of these contacts is to be looked at again; None: never."""
        operations: list[Any] = []
        for contact_id, at in due.items():
            guard = {"_id": contact_id, "workspace_id": self._workspace_id}
            operations.append(
                DeleteOne(guard) if at is None else UpdateOne(guard, {"$set": {"due_at": at}}, upsert=True)
            )
        await self._database.bulk(self.COLLECTION, operations, session)


async def any_segment(database: Database) -> bool:
    """Whether any workspace has a segment, or members of one that was deleted."""
    return await database.find_one(Segments.COLLECTION, {"_id": {"$gt": ""}}) is not None


async def workspaces_with_segments(database: Database) -> list[str]:
    """The workspaces that have a segment, or members of one that was deleted."""
    return sorted(
        {row["workspace_id"] for row in await database.find(Segments.COLLECTION, {}, projection=["workspace_id"])}
    )


async def reviews_due(database: Database, now: datetime, most: int) -> list[Document]:
    """The contacts of every workspace that are to be looked at now, the longest due first."""
    return await database.find(SegmentReviews.COLLECTION, {"due_at": {"$lte": now}}, sort={"due_at": 1}, limit=most)
