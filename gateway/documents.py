"""Which document a request means: its own text, or one that the gateway knows by an id or a hash."""

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLSchema

from gateway.errors import BadRequestError, ForbiddenError, StartupError
from gateway.manifests import SHA256_PREFIX, read_manifest, sha256
from gateway.settings import Settings
from schema.limits import OperationLimits


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

    def text(self, sent: Mapping[str, Any]) -> str:
        """The text that is meant by a request's `query`, `documentId` and `extensions.persistedQuery`.

        BadRequestError; ForbiddenError where only trusted documents are executed, and it is none."""
        query, named = sent.get("query"), _id_of(sent)
        if query is not None and not isinstance(query, str):
            raise BadRequestError("'query' must be a text with a GraphQL document.")
        text = self._own(query) if named is None else self._named(named, query or None)
        if self._only_trusted and text not in self._trusted_texts:
            raise ForbiddenError(_ONLY_TRUSTED)
        return text

    def _own(self, query: str | None) -> str:
        if query is None or not query.strip():
            raise BadRequestError("'query' must be a text with a GraphQL document.")
        return query

    def _named(self, id_: str, query: str | None) -> str:
        known = self._trusted.get(id_)
        if known is not None and query in (None, known):
            return known
        if query is not None:
            if sha256(query) != id_:
                raise BadRequestError("The id is not the SHA-256 of 'query': send one of them, or both as they belong.")
            return query
        if self._only_trusted:
            raise ForbiddenError(_ONLY_TRUSTED)
        raise BadRequestError("The gateway has no document with this id: send the text of the document as 'query'.")


_ONLY_TRUSTED = "Only the documents of this gateway's manifest are executed, and this is none of them: deploy the manifest of this client's build."


def _id_of(sent: Mapping[str, Any]) -> str | None:
    """The id without its prefix; None where the request names none."""
    id_ = sent.get("documentId")
    if id_ is None:
        id_ = _persisted(sent.get("extensions") or {})
    if id_ is not None and not (isinstance(id_, str) and id_):
        raise BadRequestError("'documentId' must be a text that is not empty.")
    return id_ and str(id_).removeprefix(SHA256_PREFIX)


def _persisted(extensions: Mapping[str, Any]) -> str | None:
    found = extensions.get("persistedQuery")
    if found is None:
        return None
    if not isinstance(found, dict) or found.get("version") != 1 or not isinstance(found.get("sha256Hash"), str):
        raise BadRequestError('\'extensions.persistedQuery\' must be {"version": 1, "sha256Hash": "..."}.')
    return str(found["sha256Hash"])
