"""What conversations and tickets share as MongoDB keeps them: subjects that change by versions, and their parts."""

from collections.abc import Sequence
from typing import Any, ClassVar

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.core.full_text import with_words
from gateway.core.pagination import Page
from gateway.core.principals import Principal
from gateway.domain.support.threads import MATCHED_FIELDS, PUBLIC_PARTS, Changeset
from gateway.store.driver import Document, Session, TransientError
from gateway.store.repositories import Repository


class Threads(Repository):
    """Conversations or tickets of one workspace."""

    OWNER: ClassVar[str | None] = "contact_id"

    async def save(self, change: Changeset, session: Session) -> None:
        """Insert what is new, or set what changed; TransientError where it changed since it was read."""
        if change.before is None:
            await self._database.insert(self.COLLECTION, [{**change.after, "version": 1}], session)
            return
        fields = change.fields()
        guard = {"_id": change.after["_id"], "workspace_id": self._workspace_id, "version": change.before["version"]}
        update = {
            "$inc": {"version": 1},
            "$set": {name: value for name, value in fields.items() if value is not None},
            "$unset": dict.fromkeys((name for name, value in fields.items() if value is None), ""),
        }
        given = {operator: values for operator, values in update.items() if values}
        if await self._database.bulk(self.COLLECTION, [UpdateOne(guard, given)], session) != 1:
            raise TransientError("somebody else acted on it meanwhile")

    async def of_contact(self, contact_id: str, limit: int) -> list[Document]:
        """Some of what belongs to that contact."""
        return await self._find(
            {"contact_id": contact_id}, limit=limit, projection=["workspace_id", "contact_id", *MATCHED_FIELDS]
        )

    async def remove(self, ids: Sequence[str], session: Session) -> None:
        """Delete those: nobody can act on them any more, so that no part of theirs is added."""
        filter_ = {"_id": {"$in": list(ids)}, "workspace_id": self._workspace_id}
        await self._database.delete(self.COLLECTION, filter_, session)


class Parts(Repository):
    """The parts of the histories of one workspace's subjects: an id encodes when its part happened."""

    OWNER: ClassVar[str | None] = "contact_id"
    SHOWN_BY: ClassVar[tuple[str, ...]] = ("kind",)
    THREADS: ClassVar[type[Threads]]
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        # A subject belongs to one workspace; its id comes first so that a lookup by subject can use this on every server.
        IndexModel([("subject_id", ASCENDING), ("workspace_id", ASCENDING), ("_id", ASCENDING)], name="subject"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING)], name="contact"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="order"),
    )

    async def insert(self, parts: Sequence[Document], session: Session) -> None:
        """Add parts."""
        await self._database.insert(self.COLLECTION, parts, session)

    async def pages_of_subjects(
        self, subject_ids: Sequence[str], asked: Page, *, oldest_first: bool, fields: Sequence[str] | None = None
    ) -> dict[str, list[Document]]:
        """A page of each subject's parts, in one read; of them those fields, if any are named."""
        lower, upper = (asked.after, asked.before) if oldest_first else (asked.before, asked.after)
        bounds = {"$gt": lower or "", **({} if upper is None else {"$lt": upper})}
        match: dict[str, Any] = {"_id": bounds}
        if self._token is not None:
            match |= {"kind": {"$in": sorted(PUBLIC_PARTS)}, "contact_id": {"$in": self._token.own_ids}}
        sort = {"_id": 1 if oldest_first != asked.backward else -1}
        return await self._pages_of_children(
            subject_ids,
            match,
            sort,
            asked.limit,
            foreign="subject_id",
            parent_collection=self.THREADS.COLLECTION,
            fields=fields,
        )

    async def said_words(self, subject_ids: Sequence[str]) -> dict[str, list[str]]:
        """The words of each subject's public parts."""
        filter_ = {"subject_id": {"$in": list(subject_ids)}, "kind": {"$in": sorted(PUBLIC_PARTS)}}
        rows = await self._find(filter_, projection=["subject_id", "body"])
        words: dict[str, list[str]] = {id_: [] for id_ in subject_ids}
        for row in sorted(rows, key=lambda row: str(row["_id"])):
            words[row["subject_id"]] = with_words(words[row["subject_id"]], [row.get("body")])
        return words

    def _shows(self, row: Document, token: Principal) -> bool:
        return super()._shows(row, token) and row["kind"] in PUBLIC_PARTS

    def _parents_of_token(self, parents: Sequence[str], token: Principal) -> Sequence[str]:
        return parents  # whose they are is asked of each part
