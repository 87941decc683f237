"""Small, rarely written collections whose documents are unique by a lower-case text."""

from collections.abc import Mapping
from typing import ClassVar, Generic, TypeVar, cast

from gateway.domain.support.documents import NamedDocument
from gateway.store.repositories import Repository

N = TypeVar("N", bound=NamedDocument)


class UniqueNames(Repository[N], Generic[N]):
    """A collection with a unique lower-case text per document."""

    UNIQUE: ClassVar[str]

    async def insert(self, document: N) -> None:
        await self._database.insert(self.COLLECTION, [document])

    async def change(self, id_: str, values: Mapping[str, object]) -> N | None:
        """Set these fields, None removes one. The new document, or None if there is none. DuplicateError."""
        change = {
            "$set": {name: value for name, value in values.items() if value is not None},
            "$unset": dict.fromkeys((name for name, value in values.items() if value is None), ""),
        }
        guard = {"_id": id_, "workspace_id": self._workspace_id}
        operators = {operator: fields for operator, fields in change.items() if fields}
        document = await self._database.find_and_update(self.COLLECTION, guard, operators)
        return None if document is None else self._typed([document])[0]

    async def with_text(self, text: str) -> N | None:
        return next(iter(await self._find({self.UNIQUE: text})), None)

    async def all(self) -> list[N]:
        return sorted(await self._find({}), key=lambda row: str(cast(Mapping[str, object], row)[self.UNIQUE]))
