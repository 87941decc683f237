"""Workspaces and their keys: the collections that are read before the workspace of a request is known."""

from datetime import datetime
from typing import ClassVar, cast

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.domain.workspaces import KeyDocument, WorkspaceDocument, WorkspaceFields
from gateway.store.driver import Database, Filter, Operation


class Workspaces:
    COLLECTION: ClassVar[str] = "workspaces"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (IndexModel([("name", ASCENDING)], unique=True, name="name"),)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, workspace: WorkspaceDocument) -> None:
        await self._database.insert(self.COLLECTION, [workspace])

    async def find(self, id_or_name: str) -> WorkspaceDocument | None:
        """The workspace with that id or, if there is none, that name."""
        row = await self._database.find_one(self.COLLECTION, {"_id": id_or_name})
        row = row or await self._database.find_one(self.COLLECTION, {"name": id_or_name})
        return cast(WorkspaceDocument | None, row)

    async def all(self) -> list[WorkspaceDocument]:
        return cast(list[WorkspaceDocument], await self._database.find(self.COLLECTION, {}, sort={"_id": 1}))

    async def oldest(self) -> WorkspaceDocument | None:
        """The first workspace, which is the default one."""
        rows = await self._database.find(self.COLLECTION, {}, sort={"_id": 1}, limit=1)
        return cast(WorkspaceDocument | None, next(iter(rows), None))

    async def update(self, workspace_id: str, values: WorkspaceFields) -> None:
        await self._database.update(self.COLLECTION, {"_id": workspace_id}, {"$set": values})

    async def salt(self, workspace_id: str, new: str) -> str:
        """The workspace's secret salt; set to `new` if there is none."""
        await self._database.update(self.COLLECTION, {"_id": workspace_id, "salt": None}, {"$set": {"salt": new}})
        row = await self._database.find_one(self.COLLECTION, {"_id": workspace_id})
        return new if row is None else str(row["salt"])

    def setting(self, workspace_id: str, values: WorkspaceFields) -> Operation:
        return UpdateOne({"_id": workspace_id}, {"$set": values})

    async def delete(self, workspace_id: str) -> int:
        return await self._database.delete(self.COLLECTION, {"_id": workspace_id})


class Keys:
    """Every API key of this deployment. The id is part of the key, so a key is found without its workspace."""

    COLLECTION: ClassVar[str] = "keys"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="workspace"),
    )

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, key: KeyDocument) -> None:
        await self._database.insert(self.COLLECTION, [key])

    async def find(self, key_id: str) -> KeyDocument | None:
        return cast(KeyDocument | None, await self._database.find_one(self.COLLECTION, {"_id": key_id}))

    async def of(self, workspace_id: str) -> list[KeyDocument]:
        rows = await self._database.find(self.COLLECTION, {"workspace_id": workspace_id}, sort={"_id": 1})
        return cast(list[KeyDocument], rows)

    async def used(self, key_id: str, now: datetime) -> None:
        await self._update(key_id, {"$max": {"last_used_at": now}})

    async def revoke(self, workspace_id: str, key_id: str, now: datetime) -> bool:
        """Revoke a key; False if the workspace does not have it."""
        return await self._update(key_id, {"$min": {"revoked_at": now}}, workspace_id=workspace_id)

    async def _update(self, key_id: str, change: Filter, **guard: str) -> bool:
        return await self._database.update(self.COLLECTION, {"_id": key_id, **guard}, change) == 1
