"""Definitions of event names, and the values that their summaries tell apart, as MongoDB keeps them."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from pymongo import ASCENDING, DESCENDING, DeleteMany, IndexModel, UpdateOne

from gateway.core.pagination import Page
from gateway.domain.events.definitions import Totals, ValueCount, ValueGeneration
from gateway.domain.events.events import definition_id_of
from gateway.store.driver import Document, Operation, Session
from gateway.store.events.events import EventSummaries
from gateway.store.repositories import Repository


class EventDefinitions(Repository):
    """The event names of one workspace."""

    COLLECTION: ClassVar[str] = "event_definitions"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("name", ASCENDING)], unique=True, name="name"),
        IndexModel([("workspace_id", ASCENDING), ("archived", ASCENDING)], name="archived"),
    )
    _FROM_PAGE: ClassVar[Document] = {"origin": "page"}

    async def by_names(
        self, names: Sequence[str], session: Session = None, fields: Iterable[str] | None = None
    ) -> dict[str, Document]:
        """The definitions of those names, by name; of each its name, and those fields, if any are named."""
        ids = [definition_id_of(self._workspace_id, name) for name in names]
        found = await self.by_ids(ids, session, None if fields is None else ["name", *fields])
        return {row["name"]: row for row in found.values()}

    async def count_active(self) -> int:
        """How many names are in use and not archived."""
        return await self._database.count(self.COLLECTION, {"workspace_id": self._workspace_id, "archived": False})

    async def count_active_of_pages(self, session: Session = None) -> int:
        """How many of them pages added."""
        active = {"workspace_id": self._workspace_id, "archived": False}
        return await self._database.count(self.COLLECTION, active | self._FROM_PAGE, session=session)

    async def insert_names(
        self, names: Iterable[str], now: datetime, session: Session, from_page: Collection[str] = ()
    ) -> None:
        """Add names that nobody used before, of which pages sent some; DuplicateError where somebody just did."""
        rows = [self._new(name, now) | (self._FROM_PAGE if name in from_page else {}) for name in names]
        await self._database.insert(self.COLLECTION, rows, session)

    async def describe(self, name: str, described: Document, now: datetime, session: Session) -> None:
        """Set what is said of a name, used before or not; it counts as the workspace's own from then on."""
        new = {
            key: value
            for key, value in self._new(name, now).items()
            if key not in described and key not in ("_id", "workspace_id")
        }
        update = UpdateOne(
            {"_id": definition_id_of(self._workspace_id, name), "workspace_id": self._workspace_id},
            {"$setOnInsert": new, "$unset": dict.fromkeys(self._FROM_PAGE, "")}
            | ({"$set": described} if described else {}),
            upsert=True,
        )
        await self._database.bulk(self.COLLECTION, [update], session)

    async def page(self, asked: Page, search: str | None, fields: Iterable[str] | None = None) -> list[Document]:
        """A page of the definitions by name, of those that contain a text if one is given; of each its name, and those
        fields, if any are named."""
        conditions: Document = {}
        if search:
            conditions = {"$regex": re.escape(search), "$options": "i"}
        if asked.after is not None:
            conditions["$gt"] = asked.after
        if asked.before is not None:
            conditions["$lt"] = asked.before
        match = {"name": conditions} if conditions else {}
        order, wanted = {"name": -1 if asked.backward else 1}, None if fields is None else ["name", *fields]
        return await self._find(match, sort=order, limit=asked.limit, fields=wanted)

    async def all(self, session: Session = None) -> list[Document]:
        """Every definition."""
        return await self._find({}, session=session)

    def adding(self, name: str, totals: Totals, keys: Sequence[Document] | None) -> Operation:
        """Adds what was counted; `keys` in the place of the stored ones, if there are new ones."""
        change: Document = {"$inc": {"count": totals.count, "contact_count": totals.contact_count}}
        if totals.first_at is not None:
            change |= {"$min": {"first_at": totals.first_at}, "$max": {"last_at": totals.last_at}}
        if keys is not None:
            change["$set"] = {"metadata_keys": list(keys)}
        return self._operation(name, change)

    def setting(self, name: str, values: Mapping[str, Any]) -> Operation:
        """Sets these fields; None removes one."""
        change: Document = {"$set": {field: value for field, value in values.items() if value is not None}}
        if removed := [field for field, value in values.items() if value is None]:
            change["$unset"] = dict.fromkeys(removed, "")
        return self._operation(name, change)

    def _operation(self, name: str, change: Document) -> Operation:
        filter_ = {"_id": definition_id_of(self._workspace_id, name), "workspace_id": self._workspace_id}
        return UpdateOne(filter_, {action: fields for action, fields in change.items() if fields})

    def _new(self, name: str, now: datetime) -> Document:
        return {
            "_id": definition_id_of(self._workspace_id, name),
            "workspace_id": self._workspace_id,
            "name": name,
            "archived": False,
            "created_at": now,
        }


class EventValues(Repository):
    """How often each summary had each value of its definition's `summarize_by` key. A build is a set of them that began
    with one reading of all events; the definition names the one that holds."""

    COLLECTION: ClassVar[str] = "event_values"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel(
            [("summary_id", ASCENDING), ("workspace_id", ASCENDING), ("build", ASCENDING), ("count", DESCENDING)],
            name="summary",
        ),
        IndexModel([("workspace_id", ASCENDING), ("name", ASCENDING)], name="name"),
    )

    async def insert(self, build: ValueGeneration, counted: Iterable[ValueCount]) -> None:
        """Add the first counts of a build."""
        rows = [
            {
                **self._key(build, line),
                "count": line.count,
                "first_at": line.first_at,
                "last_at": line.last_at,
            }
            for line in counted
        ]
        await self._database.insert(self.COLLECTION, rows)

    async def delete_other_builds(self, name: str, build: str | None) -> None:
        """Delete what belongs to another build of that name."""
        await self._database.delete(
            self.COLLECTION, {"workspace_id": self._workspace_id, "name": name, "build": {"$ne": build}}
        )

    async def of_summaries(self, summary_ids: Sequence[str], build: str) -> list[Document]:
        """Every value of those summaries in that build."""
        return await self._find({"summary_id": {"$in": list(summary_ids)}, "build": build}) if summary_ids else []

    def removing(self, ids: Sequence[str]) -> Operation:
        """Deletes those values."""
        return DeleteMany({"_id": {"$in": list(ids)}, "workspace_id": self._workspace_id})

    async def distinct_values(self, summary_ids: Sequence[str], build: str) -> dict[str, int]:
        """How many values each of these summaries has."""
        match = {"summary_id": {"$in": list(summary_ids)}, "workspace_id": self._workspace_id, "build": build}
        group = {"_id": "$summary_id", "values": {"$sum": 1}}
        found = await self._database.aggregate(self.COLLECTION, [{"$match": match}, {"$group": group}])
        return {row["_id"]: row["values"] for row in found}

    async def pages_of_summaries(
        self, summary_ids: Sequence[str], builds: Sequence[str], limit: int
    ) -> dict[str, list[Document]]:
        """The most frequent values of each summary, in one read."""
        return await self._pages_of_children(
            summary_ids,
            {"build": {"$in": list(builds)}},
            {"count": -1, "value": 1},
            limit,
            foreign="summary_id",
            parent_collection=EventSummaries.COLLECTION,
        )

    def adding(self, build: ValueGeneration, line: ValueCount) -> Operation:
        """Adds what was counted; a value that is not there yet begins with it."""
        key = self._key(build, line)
        return UpdateOne(
            {"_id": key.pop("_id"), "workspace_id": key.pop("workspace_id")},
            {
                "$inc": {"count": line.count},
                "$min": {"first_at": line.first_at},
                "$max": {"last_at": line.last_at},
                "$setOnInsert": key,
            },
            upsert=True,
        )

    def _key(self, build: ValueGeneration, line: ValueCount) -> Document:
        key: Document = {
            "_id": build.id_of(line.summary_id, line.value),
            "workspace_id": self._workspace_id,
            "summary_id": line.summary_id,
            "contact_id": line.contact_id,
            "name": build.name,
            "build": build.id,
        }
        return key if line.value is None else {**key, "value": line.value}
