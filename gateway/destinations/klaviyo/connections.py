"""Reads and changes the Klaviyo connections of workspaces."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import cast

from gateway.caches import Cache, CacheBudget, data_bytes
from gateway.core.clock import Clock
from gateway.core.encryption import SecretBox
from gateway.destinations.klaviyo.connection import KlaviyoConnection, connection_of
from gateway.destinations.klaviyo.documents import ConnectionChanges, ConnectionDocument
from gateway.destinations.klaviyo.repository import Connections
from gateway.settings import KlaviyoMode, Settings
from gateway.store.workspace_store import Store

REMEMBERED_SECONDS = 1.0  # how old a cached connection may be; a switch waits for as long
_MOST_REMEMBERED = 10_000
_CONNECTION_BYTES = 2000


class KlaviyoConnections:
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
            lambda _, connection: _CONNECTION_BYTES + data_bytes(list(connection.forwarded)),
            _MOST_REMEMBERED,
            REMEMBERED_SECONDS,
            time.monotonic,
        )

    async def current(self, workspace_id: str) -> KlaviyoConnection:
        """The connection of a workspace, at most REMEMBERED_SECONDS old."""
        connection = self._remembered.get(workspace_id)
        if connection is None:
            connection = await self.read(workspace_id)
            self._remembered.put(workspace_id, connection)
        return connection

    async def read(self, workspace_id: str) -> KlaviyoConnection:
        """The connection of a workspace as it is stored now."""
        stored = await self._stored(workspace_id).find()
        return await self._connection(workspace_id, stored)

    async def active(self) -> list[KlaviyoConnection]:
        """Every connection that is on, in order of workspace ids."""
        rows = cast(list[ConnectionDocument], await self._store.database.find(Connections.COLLECTION, {}))
        stored = {row["workspace_id"]: row for row in rows}
        default = await self._default_workspace()
        ids = stored.keys() | ({default} if default is not None else set())
        connections = [await self._connection(id_, stored.get(id_)) for id_ in sorted(ids)]
        return [connection for connection in connections if connection.is_active]

    async def api_key(self, connection: KlaviyoConnection) -> str | None:
        """The decrypted key, encrypted again if its secret is outdated; None if it cannot be decrypted."""
        if connection.sealed_key is None:
            return connection.key
        key = self._vault.decrypt(connection.sealed_key)
        if key is not None and self._vault.is_outdated(connection.sealed_key):
            stored = self._stored(connection.workspace_id)
            await stored.update({"sealed_key": self._vault.encrypt(key)}, sealed_key=connection.sealed_key)
        return key

    def check_secret(self) -> None:
        """NotConfiguredError if there is no secret to encrypt a key with."""
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
        """Switch the connection on with a key that was checked; returns when every process has noticed."""
        values: ConnectionChanges = {
            "mode": KlaviyoMode.LIVE.value,
            "sealed_key": self._vault.encrypt(key),
            "base_url": base_url,
            "forwarded": list(forwarded),
            "forward_all": forward_all,
            "connected_at": self._clock(),
        }
        values.update(_resumed(self._clock()))
        await self._update(workspace_id, values)
        await self._sleep(REMEMBERED_SECONDS)

    async def disconnect(self, workspace_id: str) -> None:
        """Switch the connection off and forget the key; queued deliveries stay."""
        off: ConnectionChanges = {
            "mode": KlaviyoMode.OFF.value,
            "sealed_key": None,
            "base_url": None,
            "forwarded": None,
            "forward_all": None,
        }
        await self._update(workspace_id, off)
        await self._sleep(REMEMBERED_SECONDS)

    async def pause(self, workspace_id: str, reason: str) -> None:
        """Stop sending until it is resumed; new deliveries still queue up."""
        await self._update(workspace_id, {"paused_reason": reason, "paused_at": self._clock()})

    async def resume(self, workspace_id: str) -> None:
        """Start sending again; what was tried before the pause gets its 72 hours again."""
        await self._update(workspace_id, _resumed(self._clock()))

    async def back_off(self, workspace_id: str, failures: int, until: datetime | None) -> None:
        """Send nothing until then, after so many failed batches in a row."""
        await self._update(workspace_id, {"failures": failures, "backing_off_until": until})

    def _stored(self, workspace_id: str) -> Connections:
        return self._store.open(workspace_id).repository(Connections)

    async def _update(self, workspace_id: str, values: ConnectionChanges) -> None:
        await self._stored(workspace_id).update(values)
        self._remembered.pop(workspace_id)

    async def _connection(self, workspace_id: str, stored: ConnectionDocument | None) -> KlaviyoConnection:
        default = self._settings.klaviyo_mode not in (None, KlaviyoMode.OFF) and (
            workspace_id == await self._default_workspace()
        )
        return connection_of(workspace_id, stored, self._settings, default=default)

    async def _default_workspace(self) -> str | None:
        """The oldest workspace: the environment's settings are for it."""
        if self._default is None and self._settings.klaviyo_mode not in (None, KlaviyoMode.OFF):
            oldest = await self._store.workspaces.oldest()
            self._default = None if oldest is None else str(oldest["_id"])
        return self._default


def _resumed(now: datetime) -> ConnectionChanges:
    return {"paused_reason": None, "paused_at": None, "resumed_at": now, "failures": None, "backing_off_until": None}
