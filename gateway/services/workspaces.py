"""Workspaces and their API keys."""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Unpack

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.core.principals import Scope
from gateway.core.text_rules import check_text
from gateway.domain.workspaces import KeyDocument, WorkspaceDocument, WorkspaceFields
from gateway.errors import ErrorCode, UserProblem
from gateway.store.driver import DuplicateError
from gateway.store.workspace_store import Store

REMEMBERED_SECONDS = 10  # how long a process trusts a key that it has read


class WorkspaceService:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        minter: Minter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter
        self._sleep = sleep

    async def create(self, name: str, **fields: Unpack[WorkspaceFields]) -> WorkspaceDocument:
        """Create a workspace; UserProblem CONFLICT if the name is taken."""
        now = self._clock()
        check_text(name, ("name",), longest=100, named="The name")
        id_ = self._minter.mint(Prefix.WORKSPACE, now)
        workspace: WorkspaceDocument = {**fields, "_id": id_, "name": name, "created_at": now}
        try:
            await self._store.workspaces.insert(workspace)
        except DuplicateError:
            raise UserProblem(
                ErrorCode.CONFLICT, f"A workspace '{name}' already exists: choose another name.", ("name",)
            ) from None
        return workspace

    async def find(self, id_or_name: str) -> WorkspaceDocument:
        """The workspace with that id or name; UserProblem NOT_FOUND."""
        workspace = await self._store.workspaces.find(id_or_name)
        if workspace is None:
            names = ", ".join(row["name"] for row in await self.all()) or "none yet"
            raise UserProblem(
                ErrorCode.NOT_FOUND, f"There is no workspace '{id_or_name}'. Workspaces: {names}.", ("workspace",)
            )
        return workspace

    async def only(self) -> WorkspaceDocument:
        """The only workspace; UserProblem if there are more, or none."""
        workspaces = await self.all()
        if len(workspaces) != 1:
            names = ", ".join(row["name"] for row in workspaces)
            fix = (
                f"choose one with --workspace: {names}."
                if workspaces
                else "create one with 'gateway workspaces create NAME', or run 'gateway dev'."
            )
            raise UserProblem(ErrorCode.INVALID, f"There are {len(workspaces)} workspaces: {fix}", ("workspace",))
        return workspaces[0]

    async def all(self) -> list[WorkspaceDocument]:
        return await self._store.workspaces.all()

    async def delete(self, workspace_id: str) -> int:
        """Delete a workspace; returns how many documents went. Cached keys may write meanwhile, so it empties twice."""
        await self._store.workspaces.update(workspace_id, {"deleted_at": self._clock()})
        deleted = await self._store.empty_workspace(workspace_id)
        await self._sleep(REMEMBERED_SECONDS + 1)
        deleted += await self._store.empty_workspace(workspace_id)
        return deleted + await self._store.workspaces.delete(workspace_id)

    async def create_key(
        self, workspace_id: str, scopes: Iterable[Scope], name: str | None = None
    ) -> tuple[KeyDocument, str]:
        """Create a key; returns it with its text, of which only a hash is stored."""
        now = self._clock()
        secret = secrets.token_urlsafe(32)
        key: KeyDocument = {
            "_id": self._minter.mint(Prefix.KEY, now),
            "workspace_id": workspace_id,
            "name": name,
            "scopes": sorted({scope.value for scope in scopes}),
            "hash": secret_hash(secret),
            "created_at": now,
        }
        await self._store.keys.insert(key)
        return key, f"{key['_id']}.{secret}"

    async def keys(self, workspace_id: str) -> list[KeyDocument]:
        return await self._store.keys.of(workspace_id)

    async def revoke_key(self, workspace_id: str, key_id: str) -> None:
        """Revoke a key, everywhere within REMEMBERED_SECONDS; UserProblem NOT_FOUND."""
        if not await self._store.keys.revoke(workspace_id, key_id, self._clock()):
            raise UserProblem(
                ErrorCode.NOT_FOUND,
                f"There is no API key '{key_id}' in this workspace: 'gateway keys list' shows them.",
                ("key",),
            )


def secret_hash(secret: str) -> str:
    """The stored hash of a key's secret: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
