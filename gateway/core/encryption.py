"""Secrets of others that are kept: encrypted under GATEWAY_SECRET_KEY, whose older values still open them."""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from gateway.errors import NotConfiguredError


class SecretBox:
    """Seals texts with the first secret, and opens what any of them sealed."""

    def __init__(self, secrets: Sequence[SecretStr]) -> None:
        keys = [Fernet(_derive_key(secret)) for secret in secrets]
        self._newest = keys[0] if keys else None
        self._fernet = MultiFernet(keys) if keys else None

    def encrypt(self, text: str) -> str:
        """The text, encrypted; NotConfiguredError where no secret is set."""
        if self._fernet is None:
            raise NotConfiguredError("A key cannot be kept: set GATEWAY_SECRET_KEY, under which it is encrypted.")
        return self._fernet.encrypt(text.encode()).decode()

    def decrypt(self, sealed: str) -> str | None:
        """The text that was sealed; None where no secret that is set opens it."""
        try:
            return None if self._fernet is None else self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            return None

    def is_outdated(self, sealed: str) -> bool:
        """Whether only a secret that is on its way out opens it."""
        try:
            return self._newest is not None and not self._newest.decrypt(sealed)
        except InvalidToken:
            return self.decrypt(sealed) is not None


def _derive_key(secret: SecretStr) -> bytes:
    raw = secret.get_secret_value().encode("utf-8", "surrogateescape")
    key = HKDF(SHA256(), 32, salt=None, info=b"gateway: keys of other systems").derive(raw)
    return base64.urlsafe_b64encode(key)
