"""Admins and teams as MongoDB keeps them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from pymongo import ASCENDING, IndexModel

from gateway.domain.ids import Prefix
from gateway.domain.pages import Page
from gateway.domain.times import TimeRange
from gateway.store.driver import Document
from gateway.store.repositories import Repository


class People(Repository):
    """What admins and teams share: they are few, written seldom, and unique by one text in lower case."""

    UNIQUE: ClassVar[str]

    async def insert(self, document: Document) -> None:
        """Add one; DuplicateError where its text is taken."""
        await self._database.insert(self.COLLECTION, [document])

    async def change(self, id_: str, values: Mapping[str, Any]) -> Document | None:
        """Set these fields (None clears), and give what is there then; None where nobody is. DuplicateError."""
        change = {
            "$set": {name: value for name, value in values.items() if value is not None},
            "$unset": dict.fromkeys((name for name, value in values.items() if value is None), ""),
        }
        guard = {"_id": id_, "workspace_id": self._workspace_id}
        given = {operator: fields for operator, fields in change.items() if fields}
        return await self._database.find_and_update(self.COLLECTION, guard, given)

    async def with_text(self, lower: str) -> Document | None:
        """Whoever has that text."""
        return next(iter(await self._find({self.UNIQUE: lower})), None)


class Admins(People):
    """Those of one workspace who answer."""

    COLLECTION: ClassVar[str] = "admins"
    UNIQUE: ClassVar[str] = "email_lower"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("email_lower", ASCENDING)], unique=True, name="email"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="created"),
    )

    async def page(self, asked: Page, now: datetime) -> list[Document]:
        """A page of all admins, the newest first."""
        return await self._page_by_id([{}], Prefix.ADMIN, asked, TimeRange(), now)


class Teams(People):
    """The teams of one workspace."""

    COLLECTION: ClassVar[str] = "teams"
    UNIQUE: ClassVar[str] = "name_lower"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("name_lower", ASCENDING)], unique=True, name="name"),
    )

    async def all(self) -> list[Document]:
        """Every team, by name."""
        return sorted(await self._find({}), key=lambda team: str(team["name_lower"]))
