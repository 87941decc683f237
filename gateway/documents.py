"""Which document a request means: its own text, or one that the gateway knows by an id or a hash."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cachetools import LRUCache
from graphql import GraphQLSchema

from gateway.errors import (
    BadRequestError,
    ForbiddenError,
    GatewayError,
    PersistedQueryNotFoundError,
    PersistedQueryNotSupportedError,
    StartupError,
)
from gateway.manifests import SHA256_PREFIX, read_manifest, sha256
from gateway.settings import Settings
from schema.limits import OperationLimits

_PLACE = 16_000
_ONLY_TRUSTED = "Only the documents of this gateway's manifest are executed, and this is none of them: deploy the manifest of this client's build."


class Documents:
    """The documents of this gateway; StartupError where its settings or its manifest do not make sense."""

    def __init__(self, settings: Settings, schema: GraphQLSchema, limits: OperationLimits) -> None:
        path = settings.trusted_documents
        if path is None and settings.only_trusted_documents:
            raise StartupError(
                "GATEWAY_ONLY_TRUSTED_DOCUMENTS needs a manifest: name it with GATEWAY_TRUSTED_DOCUMENTS."
            )
        self._only_trusted = settings.only_trusted_documents
        self._trusted = {} if path is None else read_manifest(path, schema, limits)
        self._trusted_texts = frozenset(self._trusted.values())
        self._registered: LRUCache[str, str] = LRUCache(settings.persisted_queries, getsizeof=_places)

    def text(self, sent: Mapping[str, Any], *, register: bool) -> str:
        """The text that is meant by a request's `query`, `documentId` and `extensions.persistedQuery`.

        `register`: whether a text that comes with its hash is kept for requests that send the hash alone.
        BadRequestError; ForbiddenError where only trusted documents are executed, and it is none;
        PersistedQueryNotFoundError or PersistedQueryNotSupportedError where the text must be sent along."""
        query, name = sent.get("query"), _name(sent)
        if query is not None and not isinstance(query, str):
            raise BadRequestError("'query' must be a text with a GraphQL document.")
        text = self._own(query) if name is None else self._named(name, query or None, register)
        if self._only_trusted and text not in self._trusted_texts:
            raise ForbiddenError(_ONLY_TRUSTED)
        return text

    def _own(self, query: str | None) -> str:
        if query is None or not query.strip():
            raise BadRequestError("'query' must be a text with a GraphQL document.")
        return query

    def _named(self, name: "_Name", query: str | None, register: bool) -> str:
        known = self._trusted.get(name.id) or self._registered.get(name.id)
        if known is not None and query in (None, known):
            return known
        if query is None:
            raise self._unknown(name)
        if sha256(query) != name.id:
            raise BadRequestError("The id is not the SHA-256 of 'query': send one of them, or both as they belong.")
        if register and not self._only_trusted and _places(query) <= self._registered.maxsize:
            self._registered[name.id] = query
        return query

    def _unknown(self, name: "_Name") -> GatewayError:
        if self._only_trusted:
            return ForbiddenError(_ONLY_TRUSTED)
        if not name.automatic:
            return BadRequestError("The gateway has no document with this 'documentId': send its text as 'query'.")
        return PersistedQueryNotFoundError() if self._registered.maxsize else PersistedQueryNotSupportedError()


class _Name(NamedTuple):
    """What a document is asked for by; `automatic` where the client sends the text if nobody knows the name."""

    id: str
    automatic: bool


def _places(text: str) -> int:
    """How many places a text takes among those that are kept, so that their bytes are bounded too."""
    return 1 + len(text) // _PLACE


def _name(sent: Mapping[str, Any]) -> _Name | None:
    id_ = sent.get("documentId")
    if id_ is None:
        hash_ = _persisted(sent.get("extensions") or {})
        return None if hash_ is None else _Name(hash_, automatic=True)
    if not isinstance(id_, str) or not id_:
        raise BadRequestError("'documentId' must be a text that is not empty.")
    return _Name(id_.removeprefix(SHA256_PREFIX), automatic=False)


def _persisted(extensions: Mapping[str, Any]) -> str | None:
    found = extensions.get("persistedQuery")
    if found is None:
        return None
    if not isinstance(found, dict) or found.get("version") != 1 or not isinstance(found.get("sha256Hash"), str):
        raise BadRequestError('\'extensions.persistedQuery\' must be {"version": 1, "sha256Hash": "..."}.')
    return str(found["sha256Hash"])
