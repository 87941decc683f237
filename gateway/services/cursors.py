"""The key of cursors: every process of a deployment has the same, also after a restart."""

from collections.abc import Sequence

from pydantic import SecretStr

from gateway.core.cursors import CursorCipher
from gateway.store.deployment import CURSORS, DeploymentSecrets
from gateway.store.retries import retry_transaction


class CursorKeys:
    """Cursors are encrypted under GATEWAY_SECRET_KEY where it is set, else under a secret that the database keeps."""

    def __init__(self, secret_keys: Sequence[SecretStr], stored: DeploymentSecrets) -> None:
        self._stored = stored
        texts = [secret.get_secret_value().encode("utf-8", "surrogateescape") for secret in secret_keys]
        self._cipher = CursorCipher(texts) if texts else None

    async def cipher(self) -> CursorCipher:
        """What encrypts and decrypts cursors; UnavailableError where its secret must be read first and the database does not answer."""
        if self._cipher is None:
            self._cipher = CursorCipher([await retry_transaction(lambda _: self._stored.get(CURSORS))])
        return self._cipher
