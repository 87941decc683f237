"""Encryption of stored third-party secrets under GATEWAY_SECRET_KEY; its older values still decrypt them."""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from gateway.errors import NotConfiguredError


class SecretBox:
    """Encrypts with the first secret; decrypts with any of them."""

    def __init__(self, secrets: Sequence[SecretStr]) -> None:
        keys = [Fernet(_derive_key(secret)) for secret in secrets]
        self._newest = keys[0] if keys else None
        self._fernet = MultiFernet(keys) if keys else None

    def encrypt(self, text: str) -> str:
        """Encrypt a text. Raises NotConfiguredError where no secret is set."""
        if self._fernet is None:
            raise NotConfiguredError(
                "The gateway cannot store an API key of another system without encryption: set GATEWAY_SECRET_KEY."
            )
        return self._fernet.encrypt(text.encode()).decode()

    def decrypt(self, sealed: str) -> str | None:
        """The plain text, or None where no configured secret decrypts it."""
        try:
            return None if self._fernet is None else self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            return None

    def is_outdated(self, sealed: str) -> bool:
        """Whether only an older secret decrypts it."""
        try:
            return self._newest is not None and not self._newest.decrypt(sealed)
        except InvalidToken:
            return self.decrypt(sealed) is not None


def _derive_key(secret: SecretStr) -> bytes:
    raw = secret.get_secret_value().encode("utf-8", "surrogateescape")
    key = HKDF(SHA256(), 32, salt=None, info=b"gateway: keys of other systems").derive(raw)
    return base64.urlsafe_b64encode(key)
