"""Cursors as callers see them: a position, encrypted together with the list or stream that it belongs to."""

import binascii
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

# What a cursor is bound to: a digest of its list, or the name of a stream, as the cipher wants it.
Bound = list[bytes | bytearray | memoryview]
_KEY_BYTES = 64
_KEY_ID_BYTES = 2
_TAG_BYTES = 16
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class InvalidCursorError(Exception):
    """This text is no cursor of that scope: it was changed, cut off, or belongs to another list."""


class UnknownKeyError(InvalidCursorError):
    """No key that is in use encrypted this text."""


class CursorCipher:
    """Encrypts positions with the key of the first secret, and decrypts what the key of any of them encrypted.

    AES-SIV is deterministic: a position has one cursor in each scope, in every process and after every restart."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        derived = [_derived(secret) for secret in secrets]
        self._key_id, newest = derived[0]
        self._encrypt = newest.encrypt
        self._by_key_id = dict(reversed(derived))

    def encrypt(self, position: bytes, scope: Bound) -> str:
        """The cursor of that position."""
        raw = self._key_id + self._encrypt(position, scope)
        return binascii.b2a_base64(raw, newline=False).translate(_TO_URL_SAFE).decode().rstrip("=")

    def decrypt(self, cursor: str, scope: Bound) -> bytes:
        """The position of a cursor that was given for this scope; InvalidCursorError, UnknownKeyError."""
        raw = _decoded(cursor)
        cipher = self._by_key_id.get(raw[:_KEY_ID_BYTES])
        if cipher is None:
            raise UnknownKeyError
        try:
            return cipher.decrypt(raw[_KEY_ID_BYTES:], scope)
        except InvalidTag:
            raise InvalidCursorError from None


def _decoded(cursor: str) -> bytes:
    """The bytes of the one text that spells them."""
    try:
        text = cursor.encode("ascii").translate(_FROM_URL_SAFE)
        raw = binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except (UnicodeError, binascii.Error):
        raise InvalidCursorError from None
    spelled = binascii.b2a_base64(raw, newline=False).translate(_TO_URL_SAFE).decode().rstrip("=")
    if spelled != cursor or len(raw) < _KEY_ID_BYTES + _TAG_BYTES:
        raise InvalidCursorError
    return raw


def _derived(secret: bytes) -> tuple[bytes, AESSIV]:
    """The id and the key for cursors of a secret that may have other uses."""
    derived = HKDF(SHA256(), _KEY_BYTES + _KEY_ID_BYTES, salt=None, info=b"gateway: cursors").derive(secret)
    return derived[_KEY_BYTES:], AESSIV(derived[:_KEY_BYTES])
