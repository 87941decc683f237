"""Idempotency keys: the same key with the same input is the same call, with another input an error."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.errors import ErrorCode, UserProblem

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


def claim(mutation: str, key: str | None, input_: Mapping[str, Any], namespace: str = "") -> Claim | None:
    """The claim of a call, or None without a key. `input_` has no omitted or null fields.

    Scopes cannot collide: neither mutation names nor namespaces contain `@` or `:`.
    """
    scope = f"{mutation}@{namespace}" if namespace else mutation
    return None if key is None else Claim(f"{scope}:{key}", fingerprint(input_))


def fingerprint(input_: Mapping[str, Any]) -> str:
    """A hash of the input that ignores the order of keys."""
    canonical = orjson.dumps(input_, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()
