"""Manifests of trusted documents, as clients' builds write them: read, and checked against the schema, at the start."""

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
_FIX = "have the clients' build write the manifest anew, against the schema of this version"


class _ApolloOperation(BaseModel):
    id: str = Field(min_length=1)
    body: str


class _ApolloManifest(BaseModel):
    format: Literal["apollo-persisted-query-manifest"]
    version: Literal[1]
    operations: list[_ApolloOperation]


_BY_ID = TypeAdapter(dict[str, str])


def sha256(text: str) -> str:
    """The hash that documents are named by."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_manifest(path: Path, schema: GraphQLSchema, limits: OperationLimits) -> dict[str, str]:
    """The documents by their ids, without the prefix `sha256:`; StartupError names the entry that is wrong, and the fix."""
    found: dict[str, str] = {}
    for id_, text in _entries(path):
        try:
            _check(id_, text, schema, limits)
            bare = id_.removeprefix(SHA256_PREFIX)
            if found.setdefault(bare, text) != text:
                raise ValueError("two documents have this id")
        except (ValueError, RecursionError, GraphQLError, GatewayError) as error:
            reason = error.message if isinstance(error, GraphQLError) else str(error)
            raise StartupError(
                f"The document '{id_}' in {path} cannot be trusted: {reason.rstrip('.')}: {_FIX}."
            ) from None
    return found


def _entries(path: Path) -> Iterable[tuple[str, str]]:
    """Each id with its text: of an object of documents by their ids (Relay, GraphQL Code Generator), or of Apollo's manifest."""
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found, dict) and "format" in found:
            return [(each.id, each.body) for each in _ApolloManifest.model_validate(found, strict=True).operations]
        return _BY_ID.validate_python(found, strict=True).items()
    except OSError as error:
        raise StartupError(
            f"The manifest {path} cannot be read ({error.strerror}): set GATEWAY_TRUSTED_DOCUMENTS to a file that the gateway may read."
        ) from None
    except ValidationError as error:
        raise StartupError(f"The manifest {path} is not usable{_place(error.errors()[0])}: {_FIX}.") from None
    except (ValueError, RecursionError):
        raise StartupError(f"The manifest {path} is not JSON: {_FIX}.") from None


def _place(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    return f" at '{place}' ({problem['msg']})" if place else f" ({problem['msg']})"


def _check(id_: str, text: str, schema: GraphQLSchema, limits: OperationLimits) -> None:
    bare = id_.removeprefix(SHA256_PREFIX)
    if (id_ != bare or _SHA256.fullmatch(bare)) and sha256(text) != bare:
        raise ValueError(f"the SHA-256 of its text is {sha256(text)}")
    document = parse(text)
    problems = validate(schema, document)
    if problems:
        raise problems[0]
    for each in document.definitions:
        if isinstance(each, OperationDefinitionNode):
            limits.check(text, None, each.name.value if each.name else None)
