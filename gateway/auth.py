"""Authentication of keys and tokens, and the check whether a browser page sent a request."""

import hmac
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from strawberry.http.websocket_origin import is_same_origin, normalize_allowed_origins, normalize_origin

from gateway.caches import Cache, CacheBudget
from gateway.core.clock import Clock
from gateway.core.ids import Prefix, prefix_of
from gateway.core.principals import Principal, Scope
from gateway.domain.contacts.contacts import IdentityKind, identity
from gateway.domain.contacts.merging import ids_of
from gateway.domain.tokens import LEEWAY, Grant, MadeFrom, TokenKind, TokenSigner, bearer_id, is_token
from gateway.domain.workspaces import KeyDocument
from gateway.errors import UnauthenticatedError
from gateway.services.rate_limits import Allowance
from gateway.services.workspaces import REMEMBERED_SECONDS, secret_hash
from gateway.store.workspace_store import Store

_MAX_ENTRIES = 10_000
_REFUSED_SECONDS = 5.0
_KEY_BYTES, _REFUSED_BYTES = 1500, 400  # estimates: a principal; a hash with the reason for refusal
_LONGEST_CREDENTIAL = 4000
_SCOPES_OF_ADMINS = frozenset({Scope.READ, Scope.SUPPORT})


class _Credential(NamedTuple):
    """A parsed credential; `grant` is set if it is a signed token."""

    text: str
    digest: str
    grant: Grant | None


class _Remembered(NamedTuple):
    """A principal that is cached by its key. After `fresh_until` it is looked up again, but still counts as valid lately."""

    principal: Principal
    fresh_until: float


class Authenticator:
    """Turns credentials into principals. `local_keys`: principals by keys that exist in this process alone."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        signer: TokenSigner,
        local_keys: Mapping[str, Principal] | None = None,
        remembered_seconds: float = REMEMBERED_SECONDS,
        caches: CacheBudget | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._signer = signer
        self._local_keys = {secret_hash(text): principal for text, principal in (local_keys or {}).items()}
        self._remembered_seconds = remembered_seconds
        caches = caches or CacheBudget()
        self._remembered: Cache[str, _Remembered] = Cache(caches, lambda *_: _KEY_BYTES, _MAX_ENTRIES)
        self._refused: Cache[str, str] = Cache(caches, lambda *_: _REFUSED_BYTES, _MAX_ENTRIES, _REFUSED_SECONDS)
        self._open_workspaces: Cache[str, bool] = Cache(
            caches, lambda *_: _REFUSED_BYTES, _MAX_ENTRIES, remembered_seconds
        )

    def remembered(self, authorization: str | None) -> Principal | None:
        """Return the principal if its key was looked up recently, else None."""
        text = None if authorization is None else _bearer_text(authorization)
        remembered = None if text is None else self._remembered.get(secret_hash(text))
        return remembered.principal if remembered is not None and time.monotonic() < remembered.fresh_until else None

    async def admit(self, authorization: str, address: Allowance) -> Principal:
        """Return the principal. An invalid credential costs the address one request.

        An unknown key takes a request before its lookup, and gets it back if it is valid. A signed token, or a key that was valid
        lately, is looked up even if the address has no requests left. Raises RateLimitedError, UnauthenticatedError."""
        try:
            credential = self._credential(authorization)
            if credential.grant is not None or self._was_valid(credential.digest):
                return await self._bearer(credential)
        except UnauthenticatedError:
            await address.take_request()
            raise
        await address.take_request()
        try:
            bearer = await self._bearer(credential)
        except UnauthenticatedError:
            raise
        except BaseException:
            await address.give_back_request()
            raise
        await address.give_back_request()
        return bearer

    async def principal(self, authorization: str | None) -> Principal | None:
        """Return the principal, or None without a header. Raises UnauthenticatedError."""
        if authorization is None:
            return None
        return self.remembered(authorization) or await self._bearer(self._credential(authorization))

    def _credential(self, authorization: str) -> "_Credential":
        """Parse the header. Raises UnauthenticatedError if it is malformed or was refused recently."""
        text = _bearer_text(authorization)
        if text is None:
            raise UnauthenticatedError("The Authorization header must be 'Bearer <key>'.")
        if len(text) > _LONGEST_CREDENTIAL:
            raise UnauthenticatedError("The credential after 'Bearer' is too long: send an API key or a token.")
        digest = secret_hash(text)
        refused = self._refused.get(digest)
        if refused is not None:
            raise UnauthenticatedError(refused)
        signed = is_token(text) and digest not in self._local_keys
        return _Credential(text, digest, self._signer.read(text, self._clock()) if signed else None)

    def _was_valid(self, digest: str) -> bool:
        return digest in self._remembered or digest in self._local_keys

    async def _bearer(self, credential: "_Credential") -> Principal:
        try:
            if credential.grant is not None:
                return await self._bearer_of_token(credential.grant)
            bearer = self._local_keys.get(credential.digest) or await self._look_up(credential.text)
            await self._check_workspace(bearer.workspace_id)
        except UnauthenticatedError as error:
            self._remembered.pop(credential.digest)
            self._refused.put(credential.digest, error.message)
            raise
        fresh_until = time.monotonic() + self._remembered_seconds
        self._remembered.put(credential.digest, _Remembered(bearer, fresh_until))
        return bearer

    async def _bearer_of_token(self, grant: Grant) -> Principal:
        if grant.workspace_id not in self._open_workspaces:
            await self._check_workspace(grant.workspace_id)
            self._open_workspaces.put(grant.workspace_id, True)
        return await (self._admin(grant) if grant.kind is TokenKind.ADMIN else self._contact(grant))

    async def _admin(self, grant: Grant) -> Principal:
        admins = await self._store.open(grant.workspace_id).admins.by_ids([grant.subject_id])
        if not admins or admins[grant.subject_id]["archived"]:
            raise UnauthenticatedError(
                "The admin of this token does not exist or is archived: ask your server for a new token."
            )
        return Principal(
            bearer_id(grant.subject_id),
            grant.workspace_id,
            _SCOPES_OF_ADMINS,
            admin_id=grant.subject_id,
            expires_at=grant.expires_at + LEEWAY,
        )

    async def _contact(self, grant: Grant) -> Principal:
        """Load a contact, or the survivor it was merged into."""
        contacts = self._store.open(grant.workspace_id).contacts
        contacts_by_identity = await contacts.with_identities([identity(IdentityKind.ID, grant.subject_id)])
        if not contacts_by_identity:
            raise UnauthenticatedError("The contact of this token was deleted: ask your server for a new token.")
        (contact,) = contacts_by_identity.values()
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
            raise UnauthenticatedError(
                "The workspace of this API key or token was deleted: use one of another workspace."
            )

    async def _look_up(self, text: str) -> Principal:
        key_id, _, secret = text.partition(".")
        key = await self._store.keys.find(key_id) if prefix_of(key_id) is Prefix.KEY else None
        if not _valid(key, secret):
            raise UnauthenticatedError(
                "This API key is unknown or was revoked: 'gateway keys create' creates a new one."
            )
        await self._store.keys.used(key_id, self._clock())
        assert key is not None  # noqa: S101 - a valid key exists
        return Principal(key["_id"], key["workspace_id"], frozenset(Scope(scope) for scope in key["scopes"]))


def from_allowed_page(headers: Mapping[str, str], allowed_origins: Sequence[str]) -> bool:
    """Whether the request has an Origin that is allowed or the gateway's own."""
    origin = headers.get("origin")
    normalized = normalize_origin(origin) if origin else None
    if origin is None or normalized is None:
        return False
    return is_same_origin(origin, headers.get("host")) or not normalize_allowed_origins(allowed_origins).isdisjoint(
        {"*", normalized}
    )


def _bearer_text(authorization: str) -> str | None:
    scheme, _, text = authorization.partition(" ")
    return (text.strip() or None) if scheme.lower() == "bearer" else None


def _valid(key: KeyDocument | None, secret: str) -> bool:
    stored = key["hash"] if key else secret_hash("")
    return hmac.compare_digest(stored, secret_hash(secret)) and key is not None and key.get("revoked_at") is None
