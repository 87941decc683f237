"""Secrets that all processes of a deployment share."""

import secrets
from contextlib import suppress
from typing import ClassVar

from gateway.store.driver import Database, DuplicateError, TransientError

CURSORS = "cursors"  # the name of the secret under which cursors are encrypted
_SECRET_BYTES = 32


class DeploymentSecrets:
    """Random secrets, each created by the first process that needs it."""

    COLLECTION: ClassVar[str] = "deployment"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> bytes:
        """The secret of that name; created if missing. TransientError: try again."""
        if (secret := await self._find(name)) is None:
            change = {"$setOnInsert": {"secret": secrets.token_bytes(_SECRET_BYTES)}}
            with suppress(DuplicateError):  # another process was faster: use its secret
                await self._database.update(self.COLLECTION, {"_id": name}, change, upsert=True)
            secret = await self._find(name)
        if secret is None:
            raise TransientError
        return secret

    async def _find(self, name: str) -> bytes | None:
        row = await self._database.find_one(self.COLLECTION, {"_id": name})
        return None if row is None else bytes(row["secret"])
