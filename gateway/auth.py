"""Who is asking: a bearer's key or token, and whether a page that may asks with it."""

import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from cachetools import TTLCache
from strawberry.http.websocket_origin import is_same_origin, normalize_allowed_origins, normalize_origin

from gateway.domain.access import Principal, Scope
from gateway.domain.clocks import Clock
from gateway.domain.contacts import IdentityKind, identity
from gateway.domain.ids import Prefix, prefix_of
from gateway.domain.merges import ids_of
from gateway.domain.tokens import LEEWAY, Grant, MadeFrom, TokenKind, TokenSigner, bearer_id, is_token
from gateway.errors import UnauthenticatedError
from gateway.services.workspaces import REMEMBERED_SECONDS, secret_hash
from gateway.store.stores import Store

_REMEMBERED_KEYS = 10_000
_LONGEST_CREDENTIAL = 4000
_SCOPES_OF_ADMINS = frozenset({Scope.READ, Scope.SUPPORT})


class Authenticator:
    """Turns credentials into principals. `known` are keys that live in this process alone, by their text."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        signer: TokenSigner,
        known: Mapping[str, Principal] | None = None,
        remembered_seconds: float = REMEMBERED_SECONDS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._signer = signer
        self._known = {secret_hash(text): principal for text, principal in (known or {}).items()}
        self._remembered: TTLCache[str, Principal] = TTLCache(_REMEMBERED_KEYS, remembered_seconds)
        self._open_workspaces: TTLCache[str, bool] = TTLCache(_REMEMBERED_KEYS, remembered_seconds)

    async def principal(self, authorization: str | None) -> Principal | None:
        """The bearer of that header; None without one, UnauthenticatedError where it is worth nothing."""
        if authorization is None:
            return None
        scheme, _, text = authorization.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise UnauthenticatedError("The Authorization header must be 'Bearer <key>'.")
        if len(text) > _LONGEST_CREDENTIAL:
            raise UnauthenticatedError("No key and no token is as long as what follows 'Bearer'.")
        digest = secret_hash(text)
        if is_token(text) and digest not in self._known:
            return await self._bearer_of_token(text)
        found = self._remembered.get(digest)
        if found is None:
            found = self._known.get(digest) or await self._look_up(text)
            await self._check_workspace(found.workspace_id)
            self._remembered[digest] = found
        return found

    async def _bearer_of_token(self, token: str) -> Principal:
        """Whoever speaks by a token, as it is now."""
        grant = self._signer.read(token, self._clock())
        if grant.workspace_id not in self._open_workspaces:
            await self._check_workspace(grant.workspace_id)
            self._open_workspaces[grant.workspace_id] = True
        return await (self._admin(grant) if grant.kind is TokenKind.ADMIN else self._contact(grant))

    async def _admin(self, grant: Grant) -> Principal:
        """An admin who still answers."""
        admins = await self._store.open(grant.workspace_id).admins.by_ids([grant.subject_id])
        if not admins or admins[grant.subject_id]["archived"]:
            raise UnauthenticatedError("The admin of this token is not there or is archived.")
        return Principal(
            bearer_id(grant.subject_id),
            grant.workspace_id,
            _SCOPES_OF_ADMINS,
            admin_id=grant.subject_id,
            expires_at=grant.expires_at + LEEWAY,
        )

    async def _contact(self, grant: Grant) -> Principal:
        """A contact, also where another one took its id over."""
        contacts = self._store.open(grant.workspace_id).contacts
        found = await contacts.with_identities([identity(IdentityKind.ID, grant.subject_id)])
        if not found:
            raise UnauthenticatedError("The contact of this token was deleted.")
        (contact,) = found.values()
        return Principal(
            bearer_id(grant.subject_id),
            grant.workspace_id,
            contact_id=contact["_id"],
            merged_ids=frozenset(ids_of(contact)),
            anonymous=grant.made_from is MadeFrom.ANONYMOUS,
            expires_at=grant.expires_at + LEEWAY,
        )

    async def _check_workspace(self, workspace_id: str) -> None:
        workspace = await self._store.workspaces.find(workspace_id)
        if workspace is None or "deleted_at" in workspace:
            raise UnauthenticatedError("The workspace of this key or token was deleted.")

    async def _look_up(self, text: str) -> Principal:
        key_id, _, secret = text.partition(".")
        key = await self._store.keys.find(key_id) if prefix_of(key_id) is Prefix.KEY else None
        if not _valid(key, secret):
            raise UnauthenticatedError("This key is unknown or was revoked: 'gateway keys create' makes one.")
        await self._store.keys.used(key_id, self._clock())
        assert key is not None  # noqa: S101 - a key that is valid is there
        return Principal(key["_id"], key["workspace_id"], frozenset(Scope(scope) for scope in key["scopes"]))


def from_allowed_page(headers: Mapping[str, str], allowed_origins: Sequence[str]) -> bool:
    """Whether a page asks that is of an allowed origin or of the gateway's own; who sends no Origin is no page."""
    origin = headers.get("origin")
    named = normalize_origin(origin) if origin else None
    if origin is None or named is None:
        return False
    return is_same_origin(origin, headers.get("host")) or not normalize_allowed_origins(allowed_origins).isdisjoint(
        {"*", named}
    )


def _valid(key: Mapping[str, Any] | None, secret: str) -> bool:
    stored = key["hash"] if key else secret_hash("")
    return hmac.compare_digest(stored, secret_hash(secret)) and key is not None and key.get("revoked_at") is None
