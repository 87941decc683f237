"""Definitions of event names, and the value counts of their summaries."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from pymongo import ASCENDING, DESCENDING, DeleteMany, IndexModel, UpdateOne

from gateway.core.pagination import Page
from gateway.domain.events.definitions import Totals, ValueCount, ValueGeneration
from gateway.domain.events.documents import DefinitionDocument, MetadataKey, ValueDocument
from gateway.domain.events.events import definition_id_of
from gateway.store.driver import Document, Operation, Session
from gateway.store.events.events import EventSummaries
from gateway.store.repositories import Repository


class EventDefinitions(Repository[DefinitionDocument]):
    COLLECTION: ClassVar[str] = "event_definitions"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("name", ASCENDING)], unique=True, name="name"),
        IndexModel([("workspace_id", ASCENDING), ("archived", ASCENDING)], name="archived"),
    )
    _FROM_PAGE: ClassVar[Document] = {"origin": "page"}

    async def by_names(
        self, names: Sequence[str], session: Session = None, fields: Iterable[str] | None = None
    ) -> dict[str, DefinitionDocument]:
        """The definitions of those names, by name. `fields` limits what is read."""
        ids = [definition_id_of(self._workspace_id, name) for name in names]
        definitions = await self.by_ids(ids, session, None if fields is None else ["name", *fields])
        return {row["name"]: row for row in definitions.values()}

    async def count_active(self) -> int:
        return await self._database.count(self.COLLECTION, {"workspace_id": self._workspace_id, "archived": False})

    async def count_active_of_pages(self, session: Session = None) -> int:
        active = {"workspace_id": self._workspace_id, "archived": False}
        return await self._database.count(self.COLLECTION, active | self._FROM_PAGE, session=session)

    async def insert_names(
        self, names: Iterable[str], now: datetime, session: Session, from_page: Collection[str] = ()
    ) -> None:
        """Add names; `from_page`: those that web pages sent. DuplicateError if one was added meanwhile."""
        rows = [self._new(name, now) | (self._FROM_PAGE if name in from_page else {}) for name in names]
        await self._database.insert(self.COLLECTION, rows, session)

    async def describe(self, name: str, description: Mapping[str, object], now: datetime, session: Session) -> None:
        """Describe a name, and create it if needed. From then on it is the workspace's own."""
        new = {
            key: value
            for key, value in self._new(name, now).items()
            if key not in description and key not in ("_id", "workspace_id")
        }
        update = UpdateOne(
            {"_id": definition_id_of(self._workspace_id, name), "workspace_id": self._workspace_id},
            {"$setOnInsert": new, "$unset": dict.fromkeys(self._FROM_PAGE, "")}
            | ({"$set": description} if description else {}),
            upsert=True,
        )
        await self._database.bulk(self.COLLECTION, [update], session)

    async def page(
        self, page: Page, search: str | None, fields: Iterable[str] | None = None
    ) -> list[DefinitionDocument]:
        """A page of the definitions by name; with `search`, those that contain it. `fields` limits what is read."""
        conditions: Document = {}
        if search:
            conditions = {"$regex": re.escape(search), "$options": "i"}
        if page.after is not None:
            conditions["$gt"] = page.after
        if page.before is not None:
            conditions["$lt"] = page.before
        match = {"name": conditions} if conditions else {}
        sort, page_fields = {"name": -1 if page.backward else 1}, None if fields is None else ["name", *fields]
        return await self._find(match, sort=sort, limit=page.limit, fields=page_fields)

    async def all(self, session: Session = None) -> list[DefinitionDocument]:
        return await self._find({}, session=session)

    def adding(self, name: str, totals: Totals, keys: Sequence[MetadataKey] | None) -> Operation:
        """An operation that adds counts. `keys` replace the stored metadata keys unless None."""
        change: Document = {"$inc": {"count": totals.count, "contact_count": totals.contact_count}}
        if totals.first_at is not None:
            change |= {"$min": {"first_at": totals.first_at}, "$max": {"last_at": totals.last_at}}
        if keys is not None:
            change["$set"] = {"metadata_keys": list(keys)}
        return self._operation(name, change)

    def setting(self, name: str, values: Mapping[str, object]) -> Operation:
        change: Document = {"$set": {field: value for field, value in values.items() if value is not None}}
        if unset_fields := [field for field, value in values.items() if value is None]:
            change["$unset"] = dict.fromkeys(unset_fields, "")
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


class EventValues(Repository[ValueDocument]):
    """Counts per summary and value of the definition's `summarize_by` key. A generation is one rebuild from all events;
    the definition names the generation in use."""

    COLLECTION: ClassVar[str] = "event_values"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel(
            [("summary_id", ASCENDING), ("workspace_id", ASCENDING), ("build", ASCENDING), ("count", DESCENDING)],
            name="summary",
        ),
        IndexModel([("workspace_id", ASCENDING), ("name", ASCENDING)], name="name"),
    )

    async def insert(self, generation: ValueGeneration, value_counts: Iterable[ValueCount]) -> None:
        rows = [
            {
                **self._key(generation, value_count),
                "count": value_count.count,
                "first_at": value_count.first_at,
                "last_at": value_count.last_at,
            }
            for value_count in value_counts
        ]
        await self._database.insert(self.COLLECTION, rows)

    async def delete_other_builds(self, name: str, generation_id: str | None) -> None:
        await self._database.delete(
            self.COLLECTION, {"workspace_id": self._workspace_id, "name": name, "build": {"$ne": generation_id}}
        )

    async def of_summaries(self, summary_ids: Sequence[str], generation_id: str) -> list[ValueDocument]:
        if not summary_ids:
            return []
        return await self._find({"summary_id": {"$in": list(summary_ids)}, "build": generation_id})

    def removing(self, ids: Sequence[str]) -> Operation:
        return DeleteMany({"_id": {"$in": list(ids)}, "workspace_id": self._workspace_id})

    async def distinct_values(self, summary_ids: Sequence[str], generation_id: str) -> dict[str, int]:
        match = {"summary_id": {"$in": list(summary_ids)}, "workspace_id": self._workspace_id, "build": generation_id}
        group = {"_id": "$summary_id", "values": {"$sum": 1}}
        rows = await self._database.aggregate(self.COLLECTION, [{"$match": match}, {"$group": group}])
        return {row["_id"]: row["values"] for row in rows}

    async def pages_of_summaries(
        self, summary_ids: Sequence[str], generation_ids: Sequence[str], limit: int
    ) -> dict[str, list[ValueDocument]]:
        return await self._pages_of_children(
            summary_ids,
            {"build": {"$in": list(generation_ids)}},
            {"count": -1, "value": 1},
            limit,
            foreign="summary_id",
            parent_collection=EventSummaries.COLLECTION,
        )

    def adding(self, generation: ValueGeneration, value_count: ValueCount) -> Operation:
        """An operation that adds counts; it creates the value if needed."""
        key = self._key(generation, value_count)
        return UpdateOne(
            {"_id": key.pop("_id"), "workspace_id": key.pop("workspace_id")},
            {
                "$inc": {"count": value_count.count},
                "$min": {"first_at": value_count.first_at},
                "$max": {"last_at": value_count.last_at},
                "$setOnInsert": key,
            },
            upsert=True,
        )

    def _key(self, generation: ValueGeneration, value_count: ValueCount) -> Document:
        key: Document = {
            "_id": generation.id_of(value_count.summary_id, value_count.value),
            "workspace_id": self._workspace_id,
            "summary_id": value_count.summary_id,
            "contact_id": value_count.contact_id,
            "name": generation.name,
            "build": generation.id,
        }
        return key if value_count.value is None else {**key, "value": value_count.value}
