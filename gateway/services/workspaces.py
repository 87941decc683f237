"""Workspaces and the keys that open them."""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterable

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.core.principals import Scope
from gateway.core.text_rules import check_text
from gateway.domain.contacts.contacts import Document
from gateway.errors import ErrorCode, UserProblem
from gateway.store.driver import DuplicateError
from gateway.store.workspace_store import Store

REMEMBERED_SECONDS = 10  # how long a gateway trusts a key that it has looked up


class WorkspaceService:
    """What can be done to workspaces and keys."""

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

    async def create(self, name: str, **fields: object) -> Document:
        """A new workspace; UserProblem CONFLICT where one has that name."""
        now = self._clock()
        check_text(name, ("name",), longest=100, named="The name")
        workspace = {"_id": self._minter.mint(Prefix.WORKSPACE, now), "name": name, "created_at": now, **fields}
        try:
            await self._store.workspaces.insert(workspace)
        except DuplicateError:
            raise UserProblem(
                ErrorCode.CONFLICT, f"There is a workspace '{name}' already: choose another name.", ("name",)
            ) from None
        return workspace

    async def find(self, id_or_name: str) -> Document:
        """The workspace with that id or name; UserProblem NOT_FOUND names those there are."""
        found = await self._store.workspaces.find(id_or_name)
        if found is None:
            names = ", ".join(row["name"] for row in await self.all()) or "none yet"
            raise UserProblem(
                ErrorCode.NOT_FOUND, f"There is no workspace '{id_or_name}': there are {names}.", ("workspace",)
            )
        return found

    async def only(self) -> Document:
        """The one workspace there is; UserProblem where there are more, or none."""
        found = await self.all()
        if len(found) != 1:
            names = ", ".join(row["name"] for row in found)
            fix = (
                f"say which with --workspace: {names}."
                if found
                else "make one with 'gateway workspaces create NAME', or run 'gateway dev'."
            )
            raise UserProblem(ErrorCode.INVALID, f"There are {len(found)} workspaces: {fix}", ("workspace",))
        return found[0]

    async def all(self) -> list[Document]:
        """Every workspace, the oldest first."""
        return await self._store.workspaces.all()

    async def delete(self, workspace_id: str) -> int:
        """Delete a workspace with all that is in it; how many documents went. It takes as long as keys are remembered:
        what a gateway that still knows one writes meanwhile is deleted too."""
        await self._store.workspaces.update(workspace_id, {"deleted_at": self._clock()})
        gone = await self._store.empty_workspace(workspace_id)
        await self._sleep(REMEMBERED_SECONDS + 1)
        gone += await self._store.empty_workspace(workspace_id)
        return gone + await self._store.workspaces.delete(workspace_id)

    async def create_key(
        self, workspace_id: str, scopes: Iterable[Scope], name: str | None = None
    ) -> tuple[Document, str]:
        """A new key and its text, which is not kept: only a hash of its secret part is."""
        now = self._clock()
        secret = secrets.token_urlsafe(32)
        key = {
            "_id": self._minter.mint(Prefix.KEY, now),
            "workspace_id": workspace_id,
            "name": name,
            "scopes": sorted({scope.value for scope in scopes}),
            "hash": secret_hash(secret),
            "created_at": now,
        }
        await self._store.keys.insert(key)
        return key, f"{key['_id']}.{secret}"

    async def keys(self, workspace_id: str) -> list[Document]:
        """The keys of a workspace, the oldest first."""
        return await self._store.keys.of(workspace_id)

    async def revoke_key(self, workspace_id: str, key_id: str) -> None:
        """Make a key worthless, within seconds everywhere; UserProblem NOT_FOUND where the workspace has none such."""
        if not await self._store.keys.revoke(workspace_id, key_id, self._clock()):
            raise UserProblem(
                ErrorCode.NOT_FOUND,
                f"There is no key '{key_id}' in this workspace: 'gateway keys list' shows them.",
                ("key",),
            )


def secret_hash(secret: str) -> str:
    """What is kept of a key's secret: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
