"""The key of cursors, the same in every process and after a restart."""

from collections.abc import Sequence

from pydantic import SecretStr

from gateway.core.cursors import CursorCipher
from gateway.store.deployment import CURSORS, DeploymentSecrets
from gateway.store.retries import retry_transaction


class CursorKeys:
    """Takes the key from GATEWAY_SECRET_KEY, or else from a secret in the database."""

    def __init__(self, secret_keys: Sequence[SecretStr], stored: DeploymentSecrets) -> None:
        self._stored = stored
        texts = [secret.get_secret_value().encode("utf-8", "surrogateescape") for secret in secret_keys]
        self._cipher = CursorCipher(texts) if texts else None

    async def cipher(self) -> CursorCipher:
        """The cipher of cursors; UnavailableError if its secret must be read and the database is down."""
        if self._cipher is None:
            self._cipher = CursorCipher([await retry_transaction(lambda _: self._stored.get(CURSORS))])
        return self._cipher
