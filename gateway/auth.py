"""Who is asking: a bearer's key, looked up once and remembered for a moment."""

import hmac
from collections.abc import Mapping
from typing import Any

from cachetools import TTLCache

from gateway.domain.access import Principal, Scope
from gateway.domain.clocks import Clock
from gateway.domain.ids import Prefix, prefix_of
from gateway.errors import UnauthenticatedError
from gateway.services.workspaces import REMEMBERED_SECONDS, secret_hash
from gateway.store.stores import Store

_REMEMBERED_KEYS = 10_000


class Authenticator:
    """Turns credentials into principals. `known` are keys that live in this process alone, by their text."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        known: Mapping[str, Principal] | None = None,
        remembered_seconds: float = REMEMBERED_SECONDS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._known = {secret_hash(text): principal for text, principal in (known or {}).items()}
        self._remembered: TTLCache[str, Principal] = TTLCache(_REMEMBERED_KEYS, remembered_seconds)

    async def principal(self, authorization: str | None) -> Principal | None:
        """The bearer of that header; None without one, UnauthenticatedError where it is worth nothing."""
        if authorization is None:
            return None
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise UnauthenticatedError("The Authorization header must be 'Bearer <key>'.")
        digest = secret_hash(text.strip())
        found = self._remembered.get(digest)
        if found is None:
            found = self._known.get(digest) or await self._look_up(text.strip())
            await self._check_workspace(found.workspace_id)
            self._remembered[digest] = found
        return found

    async def _check_workspace(self, workspace_id: str) -> None:
        workspace = await self._store.workspaces.find(workspace_id)
        if workspace is None or "deleted_at" in workspace:
            raise UnauthenticatedError("The workspace of this key was deleted.")

    async def _look_up(self, text: str) -> Principal:
        key_id, _, secret = text.partition(".")
        key = await self._store.keys.find(key_id) if prefix_of(key_id) is Prefix.KEY else None
        if not _valid(key, secret):
            raise UnauthenticatedError("This key is unknown or was revoked: 'gateway keys create' makes one.")
        await self._store.keys.used(key_id, self._clock())
        assert key is not None  # noqa: S101 - a key that is valid is there
        return Principal(key["_id"], key["workspace_id"], frozenset(Scope(scope) for scope in key["scopes"]))


def _valid(key: Mapping[str, Any] | None, secret: str) -> bool:
    stored = key["hash"] if key else secret_hash("")
    return hmac.compare_digest(stored, secret_hash(secret)) and key is not None and key.get("revoked_at") is None
