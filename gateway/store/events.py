"""Events, their summaries and their definitions as MongoDB keeps them."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.domain.events import definition_id_of
from gateway.domain.ids import Prefix
from gateway.domain.pages import Page
from gateway.domain.times import TimeRange
from gateway.store.contacts import Contacts
from gateway.store.driver import Document, Operation, Session
from gateway.store.repositories import Repository, id_bounds


class Events(Repository):
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

    async def by_identity(self, identities: Sequence[str]) -> dict[str, Document]:
        """The events stored under those identities."""
        if not identities:
            return {}
        return {row["identity"]: row for row in await self._find({"identity": {"$in": list(identities)}})}

    async def insert(self, events: Sequence[Document], session: Session) -> None:
        """Add new events."""
        await self._database.insert(self.COLLECTION, events, session)

    async def page(
        self,
        asked: Page,
        times: TimeRange,
        now: datetime,
        *,
        names: Sequence[str] | None = None,
        contact_id: str | None = None,
    ) -> list[Document]:
        """A page of the workspace's events, or of one contact's, newest first; of those names if any are given."""
        contact = {"contact_id": contact_id} if contact_id is not None else {}
        filters = [contact] if names is None else [{**contact, "name": name} for name in dict.fromkeys(names)]
        return await self._page_by_id(filters, Prefix.EVENT, asked, times, now)

    async def pages_of_contacts(
        self, contact_ids: Sequence[str], asked: Page, times: TimeRange, names: Sequence[str] | None
    ) -> dict[str, list[Document]]:
        """A page of each contact's events, newest first, in one read."""
        match: dict[str, Any] = {"_id": id_bounds(Prefix.EVENT, asked, times)}
        if names is not None:
            match["name"] = {"$in": list(names)}
        sort = {"_id": 1 if asked.backward else -1}
        return await self._pages_of_children(
            contact_ids, match, sort, asked.limit, foreign="contact_id", parent_collection=Contacts.COLLECTION
        )


class EventSummaries(Repository):
    """Count, first and last per contact and name: what was tracked, and beside it what was imported as a number."""

    COLLECTION: ClassVar[str] = "event_summaries"
    OWNER: ClassVar[str | None] = "contact_id"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING), ("name", ASCENDING)], name="contact"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="workspace"),
    )

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

    async def pages_of_contacts(self, contact_ids: Sequence[str], asked: Page) -> dict[str, list[Document]]:
        """A page of each contact's summaries by name, in one read."""
        bounds = {mark: value for mark, value in (("$gt", asked.after), ("$lt", asked.before)) if value is not None}
        match = {"name": bounds} if bounds else {}
        sort = {"name": -1 if asked.backward else 1}
        return await self._pages_of_children(
            contact_ids, match, sort, asked.limit, foreign="contact_id", parent_collection=Contacts.COLLECTION
        )

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


class EventDefinitions(Repository):
    """The event names of one workspace."""

    COLLECTION: ClassVar[str] = "event_definitions"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("name", ASCENDING)], unique=True, name="name"),
        IndexModel([("workspace_id", ASCENDING), ("archived", ASCENDING)], name="archived"),
    )

    async def by_names(self, names: Sequence[str]) -> dict[str, Document]:
        """The definitions of those names, by name."""
        found = await self.by_ids([definition_id_of(self._workspace_id, name) for name in names])
        return {row["name"]: row for row in found.values()}

    async def count_active(self) -> int:
        """How many names are in use and not archived."""
        return await self._database.count(self.COLLECTION, {"workspace_id": self._workspace_id, "archived": False})

    async def insert_names(self, names: Iterable[str], now: datetime, session: Session) -> None:
        """Add names that nobody used before; DuplicateError where somebody just did."""
        await self._database.insert(self.COLLECTION, [self._new(name, now) for name in names], session)

    async def describe(self, name: str, described: Document, now: datetime) -> None:
        """Set what is said of a name, used before or not."""
        new = {
            key: value
            for key, value in self._new(name, now).items()
            if key not in described and key not in ("_id", "workspace_id")
        }
        await self._database.update(
            self.COLLECTION,
            {"_id": definition_id_of(self._workspace_id, name), "workspace_id": self._workspace_id},
            {"$setOnInsert": new} | ({"$set": described} if described else {}),
            upsert=True,
        )

    def _new(self, name: str, now: datetime) -> Document:
        return {
            "_id": definition_id_of(self._workspace_id, name),
            "workspace_id": self._workspace_id,
            "name": name,
            "archived": False,
            "created_at": now,
        }
