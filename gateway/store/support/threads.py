"""What conversations and tickets share in MongoDB: versioned thread documents, and their parts."""

import operator
from collections.abc import Sequence
from typing import ClassVar, Generic

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.core.full_text import with_words
from gateway.core.pagination import Page
from gateway.core.principals import Principal
from gateway.domain.support.documents import PartDocument, T
from gateway.domain.support.threads import MATCHED_FIELDS, PUBLIC_PARTS, Changeset
from gateway.store.driver import Session, TransientError
from gateway.store.repositories import Repository


class Threads(Repository[T], Generic[T]):
    OWNER: ClassVar[str | None] = "contact_id"

    async def save(self, changeset: Changeset[T], session: Session) -> None:
        """Insert a new thread or set the changed fields; TransientError if another command changed it since it was read."""
        if changeset.before is None:
            await self._database.insert(self.COLLECTION, [{**changeset.after, "version": 1}], session)
            return
        fields = changeset.fields()
        guard = {
            "_id": changeset.after["_id"],
            "workspace_id": self._workspace_id,
            "version": changeset.before["version"],
        }
        update = {
            "$inc": {"version": 1},
            "$set": {name: value for name, value in fields.items() if value is not None},
            "$unset": dict.fromkeys((name for name, value in fields.items() if value is None), ""),
        }
        operations = {operator: values for operator, values in update.items() if values}
        if await self._database.bulk(self.COLLECTION, [UpdateOne(guard, operations)], session) != 1:
            raise TransientError("another command changed the thread meanwhile")

    async def of_contact(self, contact_id: str, limit: int) -> list[T]:
        """Up to `limit` threads of a contact, with the fields that a deletion event needs."""
        return await self._find(
            {"contact_id": contact_id}, limit=limit, projection=["workspace_id", "contact_id", *MATCHED_FIELDS]
        )

    async def remove(self, ids: Sequence[str], session: Session) -> None:
        """Delete threads. Delete their parts afterwards: without its thread no command can add one."""
        filter_ = {"_id": {"$in": list(ids)}, "workspace_id": self._workspace_id}
        await self._database.delete(self.COLLECTION, filter_, session)


class Parts(Repository[PartDocument]):
    """The parts of one workspace's threads; ids sort by the time of the part."""

    OWNER: ClassVar[str | None] = "contact_id"
    SHOWN_BY: ClassVar[tuple[str, ...]] = ("kind",)
    PARENTS: ClassVar[str]  # the collection of the threads
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        # The thread's id comes first, so that a lookup by thread uses this index on every server.
        IndexModel([("subject_id", ASCENDING), ("workspace_id", ASCENDING), ("_id", ASCENDING)], name="subject"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING)], name="contact"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="order"),
    )

    async def insert(self, parts: Sequence[PartDocument], session: Session) -> None:
        await self._database.insert(self.COLLECTION, parts, session)

    async def pages_of_subjects(
        self, subject_ids: Sequence[str], page: Page, *, oldest_first: bool, fields: Sequence[str] | None = None
    ) -> dict[str, list[PartDocument]]:
        """A page of parts by thread id, in one read; a contact token gets only its own public parts."""
        lower, upper = (page.after, page.before) if oldest_first else (page.before, page.after)
        bounds = {"$gt": lower or "", **({} if upper is None else {"$lt": upper})}
        match: dict[str, object] = {"_id": bounds}
        if self._token is not None:
            match |= {"kind": {"$in": sorted(PUBLIC_PARTS)}, "contact_id": {"$in": self._token.own_ids}}
        sort = {"_id": 1 if oldest_first != page.backward else -1}
        return await self._pages_of_children(
            subject_ids,
            match,
            sort,
            page.limit,
            foreign="subject_id",
            parent_collection=self.PARENTS,
            fields=fields,
        )

    async def said_words(self, subject_ids: Sequence[str]) -> dict[str, list[str]]:
        filter_ = {"subject_id": {"$in": list(subject_ids)}, "kind": {"$in": sorted(PUBLIC_PARTS)}}
        rows = await self._find(filter_, projection=["subject_id", "body"])
        words: dict[str, list[str]] = {id_: [] for id_ in subject_ids}
        for row in sorted(rows, key=operator.itemgetter("_id")):
            words[row["subject_id"]] = with_words(words[row["subject_id"]], [row.get("body")])
        return words

    def _shows(self, row: PartDocument, token: Principal) -> bool:
        return super()._shows(row, token) and row["kind"] in PUBLIC_PARTS

    def _parents_of_token(self, parents: Sequence[str], token: Principal) -> Sequence[str]:
        return parents  # the query for the parts checks the contact
