"""Idempotency keys: the same key with the same input is the same call, with another input an error."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import orjson

from gateway.errors import ErrorCode, UserProblem

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_KEY_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Claim:
    """A caller's key with the fingerprint of its input. `key` is unique in a workspace."""

    key: str
    fingerprint: str

    def check(self, stored_fingerprint: str) -> None:
        """Raise IDEMPOTENCY_KEY_REUSED where the first call had another input."""
        if stored_fingerprint != self.fingerprint:
            raise UserProblem(
                ErrorCode.IDEMPOTENCY_KEY_REUSED,
                "This idempotencyKey was used before with a different input: send the same input, or a new key.",
                ("idempotencyKey",),
            )


def claim(mutation: str, key: str | None, input_: Mapping[str, object], namespace: str = "") -> Claim | None:
    """The claim of a call, or None without a key. `input_` has no omitted or null fields.

    Scopes cannot collide: neither mutation names nor namespaces contain `@` or `:`.
    """
    scope = f"{mutation}@{namespace}" if namespace else mutation
    return None if key is None else Claim(f"{scope}:{key}", fingerprint(input_))


def request_of(command: "DataclassInstance") -> dict[str, object]:
    """The fields of a command, without those that are None and without the key: what a repeated call must repeat."""
    values = {field.name: getattr(command, field.name) for field in fields(command)}
    return {name: value for name, value in values.items() if value is not None and name != "idempotency_key"}


def fingerprint(input_: Mapping[str, object]) -> str:
    """A hash of the input that ignores the order of keys."""
    canonical = orjson.dumps(input_, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()
