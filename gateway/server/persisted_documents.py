"""Which document a request means: its own text, or one that the gateway knows by an id or a hash."""

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

_PLACE = 16_000
_ONLY_TRUSTED = "Only the documents of this gateway's manifest are executed, and this is none of them: deploy the manifest of this client's build."


class PersistedDocuments:
    """The documents of this gateway; StartupError where its settings or its manifest do not make sense.

    `is_valid`: whether a text that passed the limits can be executed."""

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
            raise StartupError(
                "GATEWAY_ONLY_TRUSTED_DOCUMENTS needs a manifest: name it with GATEWAY_TRUSTED_DOCUMENTS."
            )
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
            places_of=_places,
        )

    def text(self, sent: Mapping[str, Any]) -> str:
        """The text that is meant by a request's `query`, `documentId` and `extensions.persistedQuery`.

        BadRequestError; LimitExceededError; ForbiddenError where only trusted documents are executed, and it is none;
        PersistedQueryNotFoundError or PersistedQueryNotSupportedError where the text must be sent along."""
        query, name = sent.get("query"), _name(sent)
        if query is not None and not isinstance(query, str):
            raise BadRequestError("'query' must be a text with a GraphQL document.")
        if query is not None:
            self._check_length(query)
        text = self._own(query) if name is None else self._named(name, query or None)
        if self._only_trusted and text not in self._trusted_texts:
            raise ForbiddenError(_ONLY_TRUSTED)
        return text

    def register(self, sent: Mapping[str, Any]) -> None:
        """Keep a text that came with its hash, and that passed the limits, for requests that send the hash alone."""
        query, name = sent.get("query"), _name(sent)
        if not query or name is None or self._only_trusted or self._known(name) is not None:
            return
        if _places(query) <= self._most_registered and self._is_valid(query):
            self._registered.put(name.id, query)

    def _check_length(self, query: str) -> None:
        most = self._most_bytes
        if len(query) <= most and (query.isascii() or len(query.encode("utf-8", "surrogatepass")) <= most):
            return
        if query not in self._trusted_texts:
            raise LimitExceededError(
                f"The document is longer than the {most} bytes that are allowed (GATEWAY_MAX_DOCUMENT_BYTES): "
                "send its values as variables, or send less of it at once."
            )

    def _known(self, name: "_Name") -> str | None:
        return self._trusted.get(name.id) or self._registered.get(name.id)

    def _own(self, query: str | None) -> str:
        if query is None or not query.strip():
            raise BadRequestError("'query' must be a text with a GraphQL document.")
        return query

    def _named(self, name: "_Name", query: str | None) -> str:
        known = self._known(name)
        if known is not None and query in (None, known):
            return known
        if query is None:
            raise self._unknown(name)
        if sha256(query) != name.id:
            raise BadRequestError("The id is not the SHA-256 of 'query': send one of them, or both as they belong.")
        return query

    def _unknown(self, name: "_Name") -> GatewayError:
        if self._only_trusted:
            return ForbiddenError(_ONLY_TRUSTED)
        if not name.automatic:
            return BadRequestError("The gateway has no document with this 'documentId': send its text as 'query'.")
        return PersistedQueryNotFoundError() if self._most_registered else PersistedQueryNotSupportedError()


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
