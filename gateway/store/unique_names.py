"""Catalogues: documents that are few, written seldom, and unique by one text in lower case."""

from collections.abc import Mapping
from typing import Any, ClassVar

from gateway.store.driver import Document
from gateway.store.repositories import Repository


class UniqueNames(Repository):
    """One kind of them."""

    UNIQUE: ClassVar[str]

    async def insert(self, document: Document) -> None:
        """Add one; DuplicateError where its text is taken."""
        await self._database.insert(self.COLLECTION, [document])

    async def change(self, id_: str, values: Mapping[str, Any]) -> Document | None:
        """Set these fields (None clears), and give what is there then; None where nothing is. DuplicateError."""
        change = {
            "$set": {name: value for name, value in values.items() if value is not None},
            "$unset": dict.fromkeys((name for name, value in values.items() if value is None), ""),
        }
        guard = {"_id": id_, "workspace_id": self._workspace_id}
        given = {operator: fields for operator, fields in change.items() if fields}
        return await self._database.find_and_update(self.COLLECTION, guard, given)

    async def with_text(self, lower: str) -> Document | None:
        """Whatever has that text."""
        return next(iter(await self._find({self.UNIQUE: lower})), None)

    async def all(self) -> list[Document]:
        """Every one, by its text."""
        return sorted(await self._find({}), key=lambda row: str(row[self.UNIQUE]))
