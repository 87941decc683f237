"""Tokens: what is signed can be read until it expires, with any secret that is still accepted, and nothing else can."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import orjson
import pytest
from pydantic import SecretStr

from gateway.domain.tokens import (
    LEEWAY,
    LONGEST_TOKEN,
    Grant,
    MadeFrom,
    TokenKind,
    TokenSigner,
    bearer_id,
    check_lifetime,
    is_token,
)
from gateway.errors import NotConfiguredError, UnauthenticatedError, UserProblem

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
OLD, NEW = SecretStr("the old secret" * 3), SecretStr("the new secret" * 3)
CONTACT = "con_01JZ0000000000000000000000"
GRANT = Grant("wsp_01JZ0000000000000000000000", CONTACT, MadeFrom.KNOWN, NOW + timedelta(hours=1))
SIGNER = TokenSigner([OLD])
CLAIMS = {
    "iss": "events-gateway",
    "aud": "events-gateway/graphql",
    "sub": CONTACT,
    "workspace": GRANT.workspace_id,
    "kind": "contact",
    "made_from": "id",
    "iat": int(NOW.timestamp()),
    "exp": int(GRANT.expires_at.timestamp()),
    "jti": "j",
}


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def keys_of(signer: TokenSigner) -> dict[str, bytes]:
    return signer._keys


def signed(claims: Any = CLAIMS, key: bytes | None = None, digest: str = "sha256", **header: Any) -> str:
    """A token as somebody would make it who has the key, for whatever the gateway itself would never sign."""
    ((key_id, own),) = keys_of(SIGNER).items()
    named = {"alg": "HS256", "typ": "JWT", "kid": key_id, **header}
    text = f"{part({k: v for k, v in named.items() if v is not None})}.{part(claims)}"
    mac = hmac.digest(own if key is None else key, text.encode(), digest)
    return f"{text}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def test_a_token_says_whether_it_speaks_for_a_contact_or_an_admin() -> None:
    admin = Grant(GRANT.workspace_id, "adm_01JZ0000000000000000000000", MadeFrom.KNOWN, GRANT.expires_at)
    assert (SIGNER.read(SIGNER.sign(admin, NOW), NOW), admin.kind) == (admin, TokenKind.ADMIN)
    assert GRANT.kind is TokenKind.CONTACT
    for claims in (CLAIMS | {"kind": "admin"}, CLAIMS | {"sub": admin.subject_id}):
        with pytest.raises(UnauthenticatedError, match="names no contact or admin"):
            SIGNER.read(signed(claims), NOW)


@pytest.mark.parametrize("made_from", MadeFrom)
def test_what_was_signed_is_read(made_from: MadeFrom) -> None:
    grant = Grant(GRANT.workspace_id, CONTACT, made_from, GRANT.expires_at)
    token = SIGNER.sign(grant, NOW)
    assert is_token(token)
    assert len(token) < LONGEST_TOKEN / 2
    assert SIGNER.read(token, NOW) == grant
    claims = orjson.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims.pop("jti")
    assert claims == {**{k: v for k, v in CLAIMS.items() if k != "jti"}, "made_from": made_from.value}
    assert SIGNER.sign(grant, NOW) != token


def test_the_claims_of_these_tests_are_good_ones() -> None:
    assert SIGNER.read(signed(), NOW) == GRANT


def test_secrets_are_exchanged_without_a_pause() -> None:
    by_old = TokenSigner([OLD]).sign(GRANT, NOW)
    by_new = TokenSigner([NEW, OLD]).sign(GRANT, NOW)
    for token in (by_old, by_new):
        assert TokenSigner([NEW, OLD]).read(token, NOW) == GRANT
        assert TokenSigner([OLD, NEW]).read(token, NOW) == GRANT
    assert TokenSigner([NEW]).read(by_new, NOW) == GRANT
    for signer, token in ((TokenSigner([NEW]), by_old), (TokenSigner([OLD]), by_new), (TokenSigner([]), by_old)):
        with pytest.raises(UnauthenticatedError, match="not from this gateway"):
            signer.read(token, NOW)


def test_a_key_id_tells_the_secret_apart_and_nothing_of_it() -> None:
    key_ids = [next(iter(keys_of(TokenSigner([secret])))) for secret in (OLD, NEW)]
    assert key_ids[0] != key_ids[1]
    assert jwt.get_unverified_header(TokenSigner([NEW, OLD]).sign(GRANT, NOW)) == {
        "alg": "HS256",
        "typ": "JWT",
        "kid": key_ids[1],
    }
    for secret, key_id in zip((OLD, NEW), key_ids, strict=True):
        assert key_id not in hashlib.sha256(secret.get_secret_value().encode()).hexdigest()
        assert not keys_of(TokenSigner([secret]))[key_id].decode().startswith(key_id)
    assert "secret" not in repr(TokenSigner([OLD])) + repr(vars(TokenSigner([OLD])))


@pytest.mark.parametrize(
    ("after", "good"),
    [
        (timedelta(), True),
        (timedelta(hours=1), True),
        (timedelta(hours=1) + LEEWAY - timedelta(seconds=1), True),
        (timedelta(hours=1) + LEEWAY, False),
        (timedelta(days=400), False),
        (-LEEWAY, True),
        (-LEEWAY - timedelta(seconds=1), False),
    ],
)
def test_a_token_holds_from_when_it_was_made_until_it_expires(after: timedelta, good: bool) -> None:
    token = SIGNER.sign(GRANT, NOW)
    if good:
        assert SIGNER.read(token, NOW + after) == GRANT
    else:
        with pytest.raises(UnauthenticatedError, match="expired" if after > LEEWAY else "in the future"):
            SIGNER.read(token, NOW + after)


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_must_be_there(name: str) -> None:
    for value in ({}, {name: None}):
        with pytest.raises(UnauthenticatedError):
            SIGNER.read(signed({k: v for k, v in CLAIMS.items() if k != name} | value), NOW)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iss", "another"),
        ("iss", ["events-gateway"]),
        ("aud", "another"),
        ("aud", ["events-gateway/graphql"]),
        ("sub", "wsp_01JZ0000000000000000000000"),
        ("sub", 5),
        ("sub", ""),
        ("workspace", ["wsp_01JZ0000000000000000000000"]),
        ("workspace", {"$ne": ""}),
        ("kind", "admin"),
        ("kind", ["contact"]),
        ("made_from", "email"),
        ("made_from", {}),
        ("iat", "now"),
        ("iat", True),
        ("iat", 1e3),
        ("exp", str(CLAIMS["exp"])),
        ("exp", float("1e300")),
        ("exp", 10**30),
        ("exp", -5),
        ("exp", [CLAIMS["exp"]]),
        ("jti", 5),
    ],
)
def test_a_claim_that_is_another_is_refused_also_where_it_is_signed(name: str, value: Any) -> None:
    with pytest.raises(UnauthenticatedError):
        SIGNER.read(signed({**CLAIMS, name: value}), NOW)


def changed(token: str, **claims: Any) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{part({**CLAIMS, **claims})}.{signature}"


def forgeries() -> dict[str, str]:
    ((key_id, _),) = keys_of(SIGNER).items()
    good = SIGNER.sign(GRANT, NOW)
    return {
        "another contact": changed(good, sub="con_01JZ0000000000000000000001"),
        "another workspace": changed(good, workspace="wsp_01JZ0000000000000000000001"),
        "a later end": changed(good, exp=CLAIMS["exp"] + 1),
        "no signature": good.rpartition(".")[0] + ".",
        "half a signature": good[:-10],
        "alg none": signed(alg="none").rpartition(".")[0] + ".",
        "alg none with a signature": signed(alg="none"),
        "alg HS512": signed(alg="HS512", digest="sha512"),
        "alg RS256": signed(alg="RS256"),
        "no alg": signed(alg=None),
        "a list as alg": signed(alg=["HS256"]),
        "the secret itself as key": signed(key=OLD.get_secret_value().encode()),
        "an empty key": signed(key=b""),
        "an empty key under an empty kid": signed(key=b"", kid=""),
        "another kid": signed(kid="0" * 16),
        "no kid": signed(kid=None),
        "a number as kid": signed(kid=5),
        "a list as kid": signed(kid=[key_id]),
        "an object as kid": signed(kid={}),
        "a detached payload": signed(b64=False, crit=["b64"]),
        "an unknown extension": signed(crit=["exp"]),
        "claims that are a list": signed([1]),
        "claims that are nothing": signed(None),
        "four parts": good + ".x",
        "two parts": good.rpartition(".")[0],
        "nothing between": "..",
        "no base64": "e!.e!.e!",
        "padding": good + "=",
        "a space": good[:30] + " " + good[30:],
        "a NUL": good + "\0",
        "a letter with an accent": good + "\u00e9",
        "half a surrogate pair": good + "\ud800",
        "deep": f"{base64.urlsafe_b64encode(b'[' * 600).decode().rstrip('=')}..",
        "huge": f"{good.split('.')[0]}.{'A' * 1_000_000}.x",
        "a huge header": signed(x="y" * 1000),
    }


@pytest.mark.parametrize("name", forgeries())
def test_what_was_not_signed_here_is_refused(name: str) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        SIGNER.read(forgeries()[name], NOW)
    assert "ask your server for a new one" in caught.value.message


def test_without_a_secret_it_says_which_setting_to_set() -> None:
    with pytest.raises(NotConfiguredError, match="set GATEWAY_SECRET_KEY"):
        TokenSigner([]).sign(GRANT, NOW)


def test_a_bearer_has_one_id_for_all_tokens_of_a_contact() -> None:
    assert bearer_id(CONTACT) == "tok_01JZ0000000000000000000000"


@pytest.mark.parametrize("seconds", [60, 3600, 86_400])
def test_a_lifetime_that_may_be(seconds: int) -> None:
    assert check_lifetime(seconds) == timedelta(seconds=seconds)


@pytest.mark.parametrize("seconds", [-1, 0, 59, 86_401, 2**31 - 1])
def test_a_lifetime_that_may_not_be(seconds: int) -> None:
    with pytest.raises(UserProblem) as caught:
        check_lifetime(seconds)
    assert (caught.value.code, caught.value.path) == ("INVALID", ("expiresInSeconds",))
