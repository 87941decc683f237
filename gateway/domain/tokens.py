"""Tokens of contacts and admins: claims, signing, key rotation and verification."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import jwt
from jwt.types import Options
from pydantic import SecretStr

from gateway.core.ids import Prefix, prefix_of
from gateway.errors import ErrorCode, NotConfiguredError, UnauthenticatedError, UserProblem

LEEWAY = timedelta(seconds=5)  # tolerated clock difference between machines
DEFAULT_LIFETIME = 3600
LONGEST_TOKEN = 1000  # characters; one of ours has about 430
_SHORTEST_LIFETIME, _LONGEST_LIFETIME = 60, 86_400
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_ALGORITHM = "HS256"
_ISSUER = "events-gateway"
_AUDIENCE = "events-gateway/graphql"
_NOT_OURS = "This token is not from this gateway, or its secret was replaced: ask your server for a new one."
_STRICTLY: Options = {
    "require": ["iss", "aud", "sub", "workspace", "kind", "made_from", "iat", "exp", "jti"],
    "strict_aud": True,
    "verify_exp": False,  # times are checked here, by the gateway's own clock
    "verify_iat": False,
    "verify_nbf": False,
}


class TokenKind(StrEnum):
    CONTACT = "contact"
    ADMIN = "admin"


_SUBJECTS = {TokenKind.CONTACT: Prefix.CONTACT, TokenKind.ADMIN: Prefix.ADMIN}


class MadeFrom(StrEnum):
    """How the subject was identified when the token was made."""

    KNOWN = "id"  # by an id, external id or e-mail, which only a service has
    ANONYMOUS = "anonymous_id"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token grants: to act as that contact or admin until `expires_at`."""

    workspace_id: str
    subject_id: str
    made_from: MadeFrom
    expires_at: datetime

    @property
    def kind(self) -> TokenKind:
        return TokenKind.ADMIN if prefix_of(self.subject_id) is Prefix.ADMIN else TokenKind.CONTACT


class TokenSigner:
    """Signs with the first secret and accepts tokens of any, for rotation without downtime."""

    def __init__(self, secret_keys: Sequence[SecretStr]) -> None:
        self._keys = dict(_derived(secret.get_secret_value()) for secret in secret_keys)

    def check_configured(self) -> None:
        """Raise NotConfiguredError without a secret to sign with."""
        if not self._keys:
            raise NotConfiguredError(
                "This gateway has no secret to sign tokens with: set GATEWAY_SECRET_KEY to a random text of at least 32 bytes, the same for every process."
            )

    def sign(self, grant: Grant, now: datetime) -> str:
        self.check_configured()
        key_id, key = next(iter(self._keys.items()))
        claims = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "sub": grant.subject_id,
            "workspace": grant.workspace_id,
            "kind": grant.kind.value,
            "made_from": grant.made_from.value,
            "iat": int(now.timestamp()),
            "exp": int(grant.expires_at.timestamp()),
            "jti": secrets.token_urlsafe(12),
        }
        return jwt.encode(claims, key, _ALGORITHM, headers={"kid": key_id})

    def read(self, text: str, now: datetime) -> Grant:
        """Verify a token. Raises UnauthenticatedError where it is foreign, changed or expired."""
        if len(text) > LONGEST_TOKEN or not _FORM.fullmatch(text):
            raise UnauthenticatedError(_NOT_OURS)
        try:
            key = self._keys.get(jwt.get_unverified_header(text).get("kid", ""))
            if key is None:
                raise UnauthenticatedError(_NOT_OURS)
            claims = jwt.decode(
                text, key, algorithms=[_ALGORITHM], audience=_AUDIENCE, issuer=_ISSUER, options=_STRICTLY
            )
        except jwt.PyJWTError:
            raise UnauthenticatedError(_NOT_OURS) from None
        _check_times(claims, now)
        return _granted(claims)


def is_token(text: str) -> bool:
    """Whether a credential has the form of a token, not of a key."""
    return text.count(".") == 2


def check_lifetime(seconds: int) -> timedelta:
    """The lifetime. Raises UserProblem where it is too short or too long."""
    if not _SHORTEST_LIFETIME <= seconds <= _LONGEST_LIFETIME:
        raise UserProblem(
            ErrorCode.INVALID,
            f"expiresInSeconds must be from {_SHORTEST_LIFETIME} (a minute) to {_LONGEST_LIFETIME} (a day), not {seconds}.",
            ("expiresInSeconds",),
        )
    return timedelta(seconds=seconds)


def bearer_id(subject_id: str) -> str:
    """The principal id of a contact or admin, the same for all its tokens."""
    return Prefix.BEARER + subject_id[len(Prefix.CONTACT) :]


def _derived(secret: str) -> tuple[str, bytes]:
    """Key id and key. The key is hex, as PyJWT rejects texts that look like a public key."""
    text = secret.encode("utf-8", "surrogateescape")
    key = hmac.digest(text, b"gateway token key", hashlib.sha256).hex().encode()
    return hmac.digest(text, b"gateway token key id", hashlib.sha256).hex()[:16], key


def _check_times(claims: Mapping[str, object], now: datetime) -> None:
    issued, expires = (_moment(claims[name]) for name in ("iat", "exp"))
    if issued > now + LEEWAY:
        raise UnauthenticatedError("This token was created in the future: check the clocks of the gateway's machines.")
    if expires + LEEWAY <= now:
        raise UnauthenticatedError("This token has expired: ask your server for a new one.")


def _moment(value: object) -> datetime:
    if type(value) is not int or not 0 <= value < 2**33:
        raise UnauthenticatedError("This token has an invalid time: ask your server for a new one.")
    return datetime.fromtimestamp(value, UTC)


def _granted(claims: Mapping[str, Any]) -> Grant:
    try:
        kind = TokenKind(claims["kind"])
        made_from = MadeFrom(claims["made_from"])
    except ValueError:
        raise UnauthenticatedError(
            "This token has a kind that this version does not support: ask your server for a new one."
        ) from None
    workspace_id, subject_id = claims["workspace"], claims["sub"]
    if not isinstance(workspace_id, str) or prefix_of(subject_id) is not _SUBJECTS[kind]:
        raise UnauthenticatedError("This token names no contact or admin: ask your server for a new one.")
    return Grant(workspace_id, subject_id, made_from, _moment(claims["exp"]))
