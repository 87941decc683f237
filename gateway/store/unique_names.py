"""Small, rarely written collections whose documents are unique by a lower-case text."""

from collections.abc import Mapping
from typing import Any, ClassVar

from gateway.store.driver import Document
from gateway.store.repositories import Repository


class UniqueNames(Repository):
    """A collection with a unique lower-case text per document."""

    UNIQUE: ClassVar[str]

    async def insert(self, document: Document) -> None:
        await self._database.insert(self.COLLECTION, [document])

    async def change(self, id_: str, values: Mapping[str, Any]) -> Document | None:
        """Set these fields, None removes one. The new document, or None if there is none. DuplicateError."""
        change = {
            "$set": {name: value for name, value in values.items() if value is not None},
            "$unset": dict.fromkeys((name for name, value in values.items() if value is None), ""),
        }
        guard = {"_id": id_, "workspace_id": self._workspace_id}
        operators = {operator: fields for operator, fields in change.items() if fields}
        return await self._database.find_and_update(self.COLLECTION, guard, operators)

    async def with_text(self, text: str) -> Document | None:
        return next(iter(await self._find({self.UNIQUE: text})), None)

    async def all(self) -> list[Document]:
        return sorted(await self._find({}), key=lambda row: str(row[self.UNIQUE]))
