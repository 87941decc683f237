"""Idempotency keys: the same key with the same input is the same call, with another input a mistake."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.errors import ErrorCode, UserProblem

MAX_KEY_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Claim:
    """A caller's key, with the fingerprint of the input that it was sent with.

    `key` is unique in a workspace: it begins with the name of the mutation, and with who speaks where that matters.
    """

    key: str
    fingerprint: str

    def check(self, stored_fingerprint: str) -> None:
        """Pass where the first call had the same input; else IDEMPOTENCY_KEY_REUSED."""
        if stored_fingerprint != self.fingerprint:
            raise UserProblem(
                ErrorCode.IDEMPOTENCY_KEY_REUSED,
                "This idempotencyKey was used before with another input: send the same input again, or a new key.",
                ("idempotencyKey",),
            )


def claim(mutation: str, key: str | None, sent: Mapping[str, Any], namespace: str = "") -> Claim | None:
    """The claim of a call; None where no key was sent. `sent` is the input without what was omitted or null.

    Keys of different namespaces never meet: neither names of mutations nor namespaces have an `@` or a `:`.
    """
    scope = f"{mutation}@{namespace}" if namespace else mutation
    return None if key is None else Claim(f"{scope}:{key}", fingerprint(sent))


def fingerprint(sent: Mapping[str, Any]) -> str:
    """A short text that differs where inputs differ."""
    canonical = orjson.dumps(sent, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()
