"""Syncs with Klaviyo: how each workspace is connected, whether it is paused, and what of it changes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.caches import Cache, CacheBudget, data_bytes
from gateway.core.clock import Clock
from gateway.core.encryption import SecretBox
from gateway.domain.contacts.contacts import Document
from gateway.domain.syncs import KlaviyoConnection, connection_of
from gateway.settings import KlaviyoMode, Settings
from gateway.store.deliveries import Syncs
from gateway.store.workspace_store import Store

REMEMBERED_SECONDS = 1.0  # how long a process goes by what it has read: who switches a sync on waits for as long
_MOST_REMEMBERED = 10_000
_SYNC_BYTES = 2000


class KlaviyoConnections:
    """What is known of syncs, and what can be done to them."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        vault: SecretBox,
        caches: CacheBudget | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._vault = vault
        self._sleep = sleep
        self._default: str | None = None
        self._remembered: Cache[str, KlaviyoConnection] = Cache(
            caches or CacheBudget(),
            lambda _, sync: _SYNC_BYTES + data_bytes(list(sync.forwarded)),
            _MOST_REMEMBERED,
            REMEMBERED_SECONDS,
            time.monotonic,
        )

    async def current(self, workspace_id: str) -> KlaviyoConnection:
        """The sync of a workspace, as it was a second ago at most."""
        found = self._remembered.get(workspace_id)
        if found is None:
            found = await self.read(workspace_id)
            self._remembered.put(workspace_id, found)
        return found

    async def read(self, workspace_id: str) -> KlaviyoConnection:
        """The sync of a workspace as it is now."""
        stored = await self._store.open(workspace_id).syncs.find()
        return await self._notify(workspace_id, stored)

    async def active(self) -> list[KlaviyoConnection]:
        """Every sync that is on."""
        stored = {row["workspace_id"]: row for row in await self._store.database.find(Syncs.COLLECTION, {})}
        default = await self._default_workspace()
        ids = stored.keys() | ({default} if default is not None else set())
        found = [await self._notify(id_, stored.get(id_)) for id_ in sorted(ids)]
        return [sync for sync in found if sync.is_active]

    async def api_key(self, sync: KlaviyoConnection) -> str | None:
        """The key of a sync; None where what is kept cannot be opened. What an older secret sealed is sealed anew."""
        if sync.sealed_key is None:
            return sync.key
        key = self._vault.decrypt(sync.sealed_key)
        if key is not None and self._vault.is_outdated(sync.sealed_key):
            syncs = self._store.open(sync.workspace_id).syncs
            await syncs.update({"sealed_key": self._vault.encrypt(key)}, sealed_key=sync.sealed_key)
        return key

    def check_secret(self) -> None:
        """Pass where a key can be kept; NotConfiguredError."""
        self._vault.encrypt("")

    async def connect(
        self,
        workspace_id: str,
        key: str,
        base_url: str | None,
        *,
        forwarded: Sequence[str] = (),
        forward_all: bool = False,
    ) -> None:
        """Let the workspace be live from now on, in every process; the key was checked."""
        values = {
            "mode": KlaviyoMode.LIVE.value,
            "sealed_key": self._vault.encrypt(key),
            "base_url": base_url,
            "forwarded": list(forwarded),
            "forward_all": forward_all,
            "connected_at": self._clock(),
        }
        await self._update(workspace_id, {**values, **_resumed(self._clock())})
        await self._sleep(REMEMBERED_SECONDS)

    async def disconnect(self, workspace_id: str) -> None:
        """Let nothing more be queued or sent; the key is forgotten, what is queued stays."""
        off: dict[str, Any] = {"mode": KlaviyoMode.OFF.value, "sealed_key": None, "base_url": None}
        await self._update(workspace_id, off | {"forwarded": None, "forward_all": None})
        await self._sleep(REMEMBERED_SECONDS)

    async def pause(self, workspace_id: str, reason: str) -> None:
        """Send nothing until it is resumed; what happens meanwhile is queued."""
        await self._update(workspace_id, {"paused_reason": reason, "paused_at": self._clock()})

    async def resume(self, workspace_id: str) -> None:
        """Go on; what was tried before it was paused has its 72 hours anew."""
        await self._update(workspace_id, _resumed(self._clock()))

    async def back_off(self, workspace_id: str, failures: int, until: datetime | None) -> None:
        """Send nothing until that moment, because so many batches in a row had no answer."""
        await self._update(workspace_id, {"failures": failures, "backing_off_until": until})

    async def _update(self, workspace_id: str, values: Mapping[str, Any]) -> None:
        await self._store.open(workspace_id).syncs.update(values)
        self._remembered.pop(workspace_id)

    async def _notify(self, workspace_id: str, stored: Document | None) -> KlaviyoConnection:
        default = self._settings.klaviyo_mode not in (None, KlaviyoMode.OFF) and (
            workspace_id == await self._default_workspace()
        )
        return connection_of(workspace_id, stored, self._settings, default=default)

    async def _default_workspace(self) -> str | None:
        """The oldest workspace: the one that the environment's settings are for."""
        if self._default is None and self._settings.klaviyo_mode not in (None, KlaviyoMode.OFF):
            oldest = await self._store.workspaces.oldest()
            self._default = None if oldest is None else str(oldest["_id"])
        return self._default


def _resumed(now: datetime) -> dict[str, Any]:
    return {"paused_reason": None, "paused_at": None, "resumed_at": now, "failures": None, "backing_off_until": None}
