"""Opaque cursors: a position, encrypted and bound to the list or stream that it belongs to."""

import binascii
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

# The associated data of a cursor: a digest of its list, or the name of a stream.
Bound = list[bytes | bytearray | memoryview]
_KEY_BYTES = 64
_KEY_ID_BYTES = 2
_TAG_BYTES = 16
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class InvalidCursorError(Exception):
    """Not a cursor of this scope."""


class UnknownKeyError(InvalidCursorError):
    """No current key encrypted this cursor."""


class CursorCipher:
    """Encrypts with the first secret; decrypts with any. Deterministic (AES-SIV): one cursor per position and scope."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        derived = [_derived(secret) for secret in secrets]
        self._key_id, newest = derived[0]
        self._encrypt = newest.encrypt
        self._by_key_id = dict(reversed(derived))

    def encrypt(self, position: bytes, scope: Bound) -> str:
        raw = self._key_id + self._encrypt(position, scope)
        return binascii.b2a_base64(raw, newline=False).translate(_TO_URL_SAFE).decode().rstrip("=")

    def decrypt(self, cursor: str, scope: Bound) -> bytes:
        """The position of a cursor. Raises InvalidCursorError or UnknownKeyError."""
        raw = _decoded(cursor)
        cipher = self._by_key_id.get(raw[:_KEY_ID_BYTES])
        if cipher is None:
            raise UnknownKeyError
        try:
            return cipher.decrypt(raw[_KEY_ID_BYTES:], scope)
        except InvalidTag:
            raise InvalidCursorError from None


def _decoded(cursor: str) -> bytes:
    try:
        text = cursor.encode("ascii").translate(_FROM_URL_SAFE)
        raw = binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except (UnicodeError, binascii.Error):
        raise InvalidCursorError from None
    canonical = binascii.b2a_base64(raw, newline=False).translate(_TO_URL_SAFE).decode().rstrip("=")
    if canonical != cursor or len(raw) < _KEY_ID_BYTES + _TAG_BYTES:
        raise InvalidCursorError
    return raw


def _derived(secret: bytes) -> tuple[bytes, AESSIV]:
    derived = HKDF(SHA256(), _KEY_BYTES + _KEY_ID_BYTES, salt=None, info=b"gateway: cursors").derive(secret)
    return derived[_KEY_BYTES:], AESSIV(derived[:_KEY_BYTES])
