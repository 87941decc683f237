"""Admins and teams in MongoDB."""

from datetime import datetime
from typing import ClassVar

from pymongo import ASCENDING, IndexModel

from gateway.core.ids import Prefix
from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.domain.support.documents import AdminDocument, TeamDocument
from gateway.store.unique_names import UniqueNames


class Admins(UniqueNames[AdminDocument]):
    COLLECTION: ClassVar[str] = "admins"
    UNIQUE: ClassVar[str] = "email_lower"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("email_lower", ASCENDING)], unique=True, name="email"),
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="created"),
    )

    async def page(self, page: Page, now: datetime) -> list[AdminDocument]:
        return await self._page_by_id([{}], Prefix.ADMIN, page, TimeRange(), now)


class Teams(UniqueNames[TeamDocument]):
    COLLECTION: ClassVar[str] = "teams"
    UNIQUE: ClassVar[str] = "name_lower"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("name_lower", ASCENDING)], unique=True, name="name"),
    )
