"""Resolves which document a request names: its own text, or a stored one by id or hash."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from graphql import GraphQLSchema

from gateway.caches import Cache, CacheBudget, text_bytes
from gateway.errors import (
    BadRequestError,
    ForbiddenError,
    GatewayError,
    LimitExceededError,
    PersistedQueryNotFoundError,
    PersistedQueryNotSupportedError,
    StartupError,
)
from gateway.server.trusted_manifest import SHA256_PREFIX, read_manifest, sha256
from gateway.settings import Settings
from schema.limits import OperationLimits

_SLOT_BYTES = 16_000
_ONLY_TRUSTED = "This gateway executes only the documents of its manifest, and this document is not in it: deploy the manifest of this client's build."


class PersistedDocuments:
    """Trusted and registered documents. Raises StartupError if the settings or the manifest are invalid.

    `is_valid`: whether a text within the limits can be executed."""

    def __init__(
        self,
        settings: Settings,
        schema: GraphQLSchema,
        limits: OperationLimits,
        caches: CacheBudget | None = None,
        is_valid: Callable[[str], bool] = bool,
    ) -> None:
        path = settings.trusted_documents
        if path is None and settings.only_trusted_documents:
            raise StartupError("GATEWAY_ONLY_TRUSTED_DOCUMENTS needs a manifest: set GATEWAY_TRUSTED_DOCUMENTS.")
        self._only_trusted = settings.only_trusted_documents
        self._trusted = {} if path is None else read_manifest(path, schema, limits)
        self._trusted_texts = frozenset(self._trusted.values())
        self._most_bytes = settings.max_document_bytes
        self._most_registered = settings.persisted_queries
        self._is_valid = is_valid
        self._registered: Cache[str, str] = Cache(
            caches or CacheBudget(),
            lambda id_, text: text_bytes(id_) + text_bytes(text),
            settings.persisted_queries,
            places_of=_slots,
        )

    def text(self, request: Mapping[str, Any]) -> str:
        """Return the text that `query`, `documentId` or `extensions.persistedQuery` name.

        Raises BadRequestError; LimitExceededError; ForbiddenError if only trusted documents are allowed;
        PersistedQueryNotFoundError or PersistedQueryNotSupportedError if the client must send the text."""
        query, name = request.get("query"), _name(request)
        if query is not None and not isinstance(query, str):
            raise BadRequestError("'query' must be a string with a GraphQL document.")
        if query is not None:
            self._check_length(query)
        text = self._own(query) if name is None else self._named(name, query or None)
        if self._only_trusted and text not in self._trusted_texts:
            raise ForbiddenError(_ONLY_TRUSTED)
        return text

    def register(self, request: Mapping[str, Any]) -> None:
        """Store a text that came with its hash, for requests with the hash alone. Call it after the limits are checked."""
        query, name = request.get("query"), _name(request)
        if not query or name is None or self._only_trusted or self._stored_text(name) is not None:
            return
        if _slots(query) <= self._most_registered and self._is_valid(query):
            self._registered.put(name.id, query)

    def _check_length(self, query: str) -> None:
        most = self._most_bytes
        if len(query) <= most and (query.isascii() or len(query.encode("utf-8", "surrogatepass")) <= most):
            return
        if query not in self._trusted_texts:
            raise LimitExceededError(
                f"The document is longer than {most} bytes (GATEWAY_MAX_DOCUMENT_BYTES): "
                "send values as variables, or request less at once."
            )

    def _stored_text(self, name: "_Name") -> str | None:
        return self._trusted.get(name.id) or self._registered.get(name.id)

    def _own(self, query: str | None) -> str:
        if query is None or not query.strip():
            raise BadRequestError("'query' must be a string with a GraphQL document.")
        return query

    def _named(self, name: "_Name", query: str | None) -> str:
        text = self._stored_text(name)
        if text is not None and query in (None, text):
            return text
        if query is None:
            raise self._not_found(name)
        if sha256(query) != name.id:
            raise BadRequestError(
                "The id is not the SHA-256 hash of 'query': send only one of them, or the matching hash."
            )
        return query

    def _not_found(self, name: "_Name") -> GatewayError:
        if self._only_trusted:
            return ForbiddenError(_ONLY_TRUSTED)
        if not name.automatic:
            return BadRequestError("The gateway has no document with this 'documentId': send its text as 'query'.")
        return PersistedQueryNotFoundError() if self._most_registered else PersistedQueryNotSupportedError()


class _Name(NamedTuple):
    """How a request names a document; `automatic`: the client sends the text if the id is unknown."""

    id: str
    automatic: bool


def _slots(text: str) -> int:
    """How many slots of the cache a text takes: long texts take more, so the total size is bounded."""
    return 1 + len(text) // _SLOT_BYTES


def _name(request: Mapping[str, Any]) -> _Name | None:
    id_ = request.get("documentId")
    if id_ is None:
        hash_ = _persisted(request.get("extensions") or {})
        return None if hash_ is None else _Name(hash_, automatic=True)
    if not isinstance(id_, str) or not id_:
        raise BadRequestError("'documentId' must be a non-empty string.")
    return _Name(id_.removeprefix(SHA256_PREFIX), automatic=False)


def _persisted(extensions: Mapping[str, Any]) -> str | None:
    persisted = extensions.get("persistedQuery")
    if persisted is None:
        return None
    if (
        not isinstance(persisted, dict)
        or persisted.get("version") != 1
        or not isinstance(persisted.get("sha256Hash"), str)
    ):
        raise BadRequestError('\'extensions.persistedQuery\' must be {"version": 1, "sha256Hash": "..."}.')
    return str(persisted["sha256Hash"])
