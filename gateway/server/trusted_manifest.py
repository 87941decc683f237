"""Reads manifests of trusted documents at startup and checks them against the schema."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from graphql import GraphQLError, GraphQLSchema, OperationDefinitionNode, parse, validate
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from gateway.errors import GatewayError, StartupError
from schema.limits import OperationLimits

SHA256_PREFIX = "sha256:"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIX = "let the clients' build write the manifest again with the schema of this version"


class _ApolloOperation(BaseModel):
    id: str = Field(min_length=1)
    body: str


class _ApolloManifest(BaseModel):
    format: Literal["apollo-persisted-query-manifest"]
    version: Literal[1]
    operations: list[_ApolloOperation]


_BY_ID = TypeAdapter(dict[str, str])


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_manifest(path: Path, schema: GraphQLSchema, limits: OperationLimits) -> dict[str, str]:
    """Return texts by id, without the prefix `sha256:`. Raises StartupError that names the invalid entry."""
    documents: dict[str, str] = {}
    for id_, text in _entries(path):
        try:
            _check(id_, text, schema, limits)
            bare = id_.removeprefix(SHA256_PREFIX)
            if documents.setdefault(bare, text) != text:
                raise ValueError("two documents have this id")
        except (ValueError, RecursionError, GraphQLError, GatewayError) as error:
            reason = error.message if isinstance(error, GraphQLError) else str(error)
            raise StartupError(
                f"The document '{id_}' in {path} cannot be trusted: {reason.rstrip('.')}: {_FIX}."
            ) from None
    return documents


def _entries(path: Path) -> Iterable[tuple[str, str]]:
    """Read ids and texts: a JSON object (Relay, GraphQL Code Generator) or Apollo's manifest."""
    try:
        manifest = json.loads(path.read_bytes())
        if isinstance(manifest, dict) and "format" in manifest:
            return [
                (operation.id, operation.body)
                for operation in _ApolloManifest.model_validate(manifest, strict=True).operations
            ]
        return _BY_ID.validate_python(manifest, strict=True).items()
    except OSError as error:
        raise StartupError(
            f"The manifest {path} cannot be read ({error.strerror}): set GATEWAY_TRUSTED_DOCUMENTS to a readable file."
        ) from None
    except ValidationError as error:
        raise StartupError(f"The manifest {path} is invalid{_location(error.errors()[0])}: {_FIX}.") from None
    except (ValueError, RecursionError):
        raise StartupError(f"The manifest {path} is not JSON: {_FIX}.") from None


def _location(problem: Any) -> str:
    location = ".".join(str(part) for part in problem["loc"])
    return f" at '{location}' ({problem['msg']})" if location else f" ({problem['msg']})"


def _check(id_: str, text: str, schema: GraphQLSchema, limits: OperationLimits) -> None:
    bare = id_.removeprefix(SHA256_PREFIX)
    if (id_ != bare or _SHA256.fullmatch(bare)) and sha256(text) != bare:
        raise ValueError(f"the SHA-256 of its text is {sha256(text)}")
    document = parse(text)
    problems = validate(schema, document)
    if problems:
        raise problems[0]
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            limits.check(text, None, definition.name.value if definition.name else None)
