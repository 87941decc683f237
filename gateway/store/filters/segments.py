"""Segments, their members and scheduled reviews in MongoDB."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar, cast

from pymongo import ASCENDING, DeleteOne, IndexModel, UpdateOne

from gateway.core.ids import Prefix
from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.domain.filters.documents import MemberDocument, ReviewDocument, SegmentDocument
from gateway.domain.filters.segments import member_id_of, member_of
from gateway.store.contacts.contacts import Contacts
from gateway.store.driver import Database, Document, Operation, Session, TransientError
from gateway.store.repositories import Repository
from gateway.store.workspaces import Workspaces

_IDS_AT_ONCE = 5000


class Segments(Repository[SegmentDocument]):
    """The segments of one workspace.

    A row has a name, a filter in snake_case, a revision, and `complete` once all its members are stored."""

    COLLECTION: ClassVar[str] = "segments"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="workspace"),
    )

    async def all(self) -> list[SegmentDocument]:
        """All segments, at most 100, the oldest first."""
        return await self._find({}, sort={"_id": 1})

    async def hidden(self) -> list[SegmentDocument]:
        """Deleted segments that still have members."""
        rows = await self._database.find(self.COLLECTION, {"workspace_id": self._workspace_id})
        return super()._typed([row for row in rows if row.get("hidden")])

    def _typed(self, rows: list[Document]) -> list[SegmentDocument]:
        # Not in the query: with one more field the embedded servers use no index.
        return super()._typed([row for row in rows if not row.get("hidden")])

    async def turn(self, number: int, session: Session) -> None:
        """Take the next turn to save a segment of the workspace; TransientError if another transaction took it.

        References between segments are checked one save at a time."""
        guard = {"_id": self._workspace_id, "segments_turn": number or None}
        increment = UpdateOne(guard, {"$set": {"segments_turn": number + 1}})
        if await self._database.bulk(Workspaces.COLLECTION, [increment], session) != 1:
            raise TransientError("another segment of the workspace is being saved")

    async def next_turn(self) -> int:
        """The number to pass to `turn`."""
        row = await self._database.find_one(Workspaces.COLLECTION, {"_id": self._workspace_id})
        return int((row or {}).get("segments_turn") or 0)

    async def save(self, rows: Sequence[SegmentDocument], session: Session) -> None:
        """Insert these segments, or set their fields on those stored under the same ids."""
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
        """Mark the segment as complete, unless it has another revision by now."""
        guard = {"_id": segment_id, "workspace_id": self._workspace_id, "revision": revision}
        await self._database.bulk(self.COLLECTION, [UpdateOne(guard, {"$set": {"complete": True}})], session)

    async def hide(self, segment_id: str, session: Session) -> None:
        """Hide a deleted segment from all reads until its members are deleted."""
        guard = {"_id": segment_id, "workspace_id": self._workspace_id}
        await self._database.bulk(self.COLLECTION, [UpdateOne(guard, {"$set": {"hidden": True}})], session)

    async def remove(self, segment_id: str, session: Session) -> None:
        await self._database.delete(self.COLLECTION, {"_id": segment_id, "workspace_id": self._workspace_id}, session)


class SegmentMembers(Repository[MemberDocument]):
    COLLECTION: ClassVar[str] = "segment_members"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("segment_id", ASCENDING), ("workspace_id", ASCENDING), ("contact_id", ASCENDING)], name="segment"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING)], name="contact"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="workspace"),
    )

    async def page(self, segment_id: str, page: Page, times: TimeRange, now: datetime) -> list[MemberDocument]:
        """A page of a segment's members whose contacts were created in `times`, the newest contact first."""
        return await self._page_by_id([{"segment_id": segment_id}], Prefix.CONTACT, page, times, now, "contact_id")

    async def pages_of_segments(self, segment_ids: Sequence[str], page: Page) -> dict[str, list[MemberDocument]]:
        """A page of members by segment id, the newest contact first, in one read."""
        bounds = {
            operator: value for operator, value in (("$lt", page.after), ("$gt", page.before)) if value is not None
        }
        match = {"contact_id": bounds} if bounds else {}
        sort = {"contact_id": 1 if page.backward else -1}
        return await self._pages_of_children(
            segment_ids, match, sort, page.limit, foreign="segment_id", parent_collection=Segments.COLLECTION
        )

    async def of_contacts(self, contact_ids: Sequence[str], most: int) -> dict[str, list[MemberDocument]]:
        """Memberships by contact id, at most `most` of each contact, in one read."""
        return await self._pages_of_children(
            contact_ids, {}, {"_id": 1}, most, foreign="contact_id", parent_collection=Contacts.COLLECTION
        )

    async def of_contact(self, contact_id: str, session: Session = None) -> list[MemberDocument]:
        """All memberships of a contact id, even if the contact no longer exists."""
        return await self._find({"contact_id": contact_id}, session=session)

    async def among(
        self, segment_ids: Sequence[str], contact_ids: Sequence[str]
    ) -> dict[tuple[str, str], MemberDocument]:
        """The memberships of these contacts in these segments, by (segment id, contact id)."""
        ids = [member_id_of(segment_id, contact_id) for segment_id in segment_ids for contact_id in contact_ids]
        rows: list[MemberDocument] = []
        for start in range(0, len(ids), _IDS_AT_ONCE):
            rows += (await self.by_ids(ids[start : start + _IDS_AT_ONCE])).values()
        return {(row["segment_id"], row["contact_id"]): row for row in rows}

    async def some(self, segment_id: str, most: int) -> list[MemberDocument]:
        """Up to `most` members of a segment, in no particular order."""
        return await self._find({"segment_id": segment_id}, limit=most)

    async def count(self, segment_id: str, most: int) -> int:
        filter_ = {"segment_id": segment_id, "workspace_id": self._workspace_id}
        return await self._database.count(self.COLLECTION, filter_, most)

    async def add(self, rows: Sequence[MemberDocument], session: Session) -> None:
        await self._database.insert(self.COLLECTION, rows, session)

    async def carry_over(self, merged_id: str, survivor_id: str, session: Session) -> list[str]:
        """Move the memberships of a merged contact to the survivor; returns their segment ids, sorted."""
        rows = await self.of_contact(merged_id, session)
        own = {row["segment_id"] for row in await self.of_contact(survivor_id, session)} if rows else set()
        missing = [row for row in rows if row["segment_id"] not in own]
        await self.remove([row["_id"] for row in rows], session)
        await self.add(
            [member_of(self._workspace_id, row["segment_id"], survivor_id, row["since"]) for row in missing], session
        )
        return sorted(row["segment_id"] for row in rows)

    async def remove(self, ids: Sequence[str], session: Session) -> None:
        """Delete these memberships; TransientError if one no longer exists."""
        for start in range(0, len(ids), _IDS_AT_ONCE):
            batch = list(ids[start : start + _IDS_AT_ONCE])
            filter_ = {"_id": {"$in": batch}, "workspace_id": self._workspace_id}
            if await self._database.delete(self.COLLECTION, filter_, session) != len(batch):
                raise TransientError("a member of a segment was removed meanwhile")


class SegmentReviews(Repository[ReviewDocument]):
    """When to evaluate a contact again because time alone can change its segments; `_id` is the contact's id."""

    COLLECTION: ClassVar[str] = "segment_reviews"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("due_at", ASCENDING)], name="due"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="workspace"),
    )

    async def write(self, due: Mapping[str, datetime | None], session: Session) -> None:
        """Set the review times by contact id; None deletes a review."""
        operations: list[Operation] = []
        for contact_id, at in due.items():
            guard = {"_id": contact_id, "workspace_id": self._workspace_id}
            operations.append(
                DeleteOne(guard) if at is None else UpdateOne(guard, {"$set": {"due_at": at}}, upsert=True)
            )
        await self._database.bulk(self.COLLECTION, operations, session)


async def any_segment(database: Database) -> bool:
    """Whether any workspace has a segment, including deleted ones that still have members."""
    return await database.find_one(Segments.COLLECTION, {"_id": {"$gt": ""}}) is not None


async def workspaces_with_segments(database: Database) -> list[str]:
    """The ids of workspaces with segments, including deleted ones that still have members."""
    return sorted(
        {row["workspace_id"] for row in await database.find(Segments.COLLECTION, {}, projection=["workspace_id"])}
    )


async def reviews_due(database: Database, now: datetime, most: int) -> list[ReviewDocument]:
    """Reviews of all workspaces that are due, the longest overdue first."""
    due = {"due_at": {"$lte": now}}
    rows = await database.find(SegmentReviews.COLLECTION, due, sort={"due_at": 1}, limit=most)
    return cast(list[ReviewDocument], rows)
