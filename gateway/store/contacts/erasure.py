"""Contacts that are being erased, and the salted hashes of erased identities."""

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import ClassVar, cast

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.caches import Cache, CacheBudget
from gateway.core.leases import latest_end
from gateway.core.principals import Principal
from gateway.domain.change_kinds import ERASURE_KIND
from gateway.domain.contacts.documents import DeletionDocument, ErasureDocument
from gateway.domain.contacts.erasure import REFUSED_FOR, identity_hash
from gateway.store.change_log import ChangeLog
from gateway.store.driver import Database, Session
from gateway.store.events.events import Events
from gateway.store.events.tombstones import Tombstones
from gateway.store.idempotency_keys import IdempotencyKeys
from gateway.store.messages import RuleStates
from gateway.store.repositories import Repository
from gateway.store.support.conversations import ConversationParts
from gateway.store.support.tickets import TicketParts
from gateway.store.timers import Timers
from gateway.store.workspaces import Workspaces

_BATCH = 1000
_REMEMBERED_SALTS = 10_000
_SALT_BYTES = 250


class Salts:
    """The secret salt of each workspace: created at its first use, then constant."""

    def __init__(self, workspaces: Workspaces, caches: CacheBudget | None = None) -> None:
        self._workspaces = workspaces
        self._remembered: Cache[str, str] = Cache(caches or CacheBudget(), lambda *_: _SALT_BYTES, _REMEMBERED_SALTS)

    async def of(self, workspace_id: str) -> str:
        salt = self._remembered.get(workspace_id)
        if salt is None:
            salt = await self._workspaces.salt(workspace_id, secrets.token_hex(32))
            self._remembered.put(workspace_id, salt)
        return salt


class Erasures(Repository[ErasureDocument]):
    """Salted hashes of erased identities, kept for 30 days."""

    COLLECTION: ClassVar[str] = "erasures"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("at", ASCENDING)], expireAfterSeconds=int(REFUSED_FOR.total_seconds()), name="expiry"),
    )

    def __init__(self, database: Database, workspace_id: str, salts: Salts, token: Principal | None = None) -> None:
        super().__init__(database, workspace_id, token)
        self._salts = salts

    async def among(self, identities: Iterable[str], now: datetime) -> frozenset[str]:
        """Which of these identities belonged to a contact that was erased in the last 30 days."""
        texts = list(identities)
        if not texts:
            return frozenset()
        hashed = await self._hashed(texts)
        erasures = await self.by_ids(sorted(set(hashed.values())))
        return frozenset(
            text for text, hash_ in hashed.items() if hash_ in erasures and erasures[hash_]["at"] > now - REFUSED_FOR
        )

    async def keep(self, identities: Iterable[str], now: datetime, session: Session) -> None:
        hashes = sorted(set((await self._hashed(identities)).values()))
        key = {"workspace_id": self._workspace_id}
        upserts = [UpdateOne({"_id": hash_, **key}, {"$set": {"at": now}}, upsert=True) for hash_ in hashes]
        await self._database.bulk(self.COLLECTION, upserts, session)

    async def _hashed(self, identities: Iterable[str]) -> dict[str, str]:
        salt = await self._salts.of(self._workspace_id)
        return {text: identity_hash(salt, self._workspace_id, text) for text in identities}


class Deletions(Repository[DeletionDocument]):
    """The contacts with data still to erase; the contact itself is already deleted."""

    COLLECTION: ClassVar[str] = "deletions"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (IndexModel([("until", ASCENDING)], name="due"),)

    async def insert(self, deletion: DeletionDocument, session: Session) -> None:
        await self._database.insert(self.COLLECTION, [deletion], session)

    async def hold(self, deletion: DeletionDocument, length: timedelta) -> bool:
        """Take or extend the lease, by the server's time; False if another process has it. Updates `deletion`."""
        until = await self._database.now() + length
        guard = {"_id": deletion["_id"], "until": deletion["until"]}
        is_held = await self._database.update(self.COLLECTION, guard, {"$set": {"until": until}}) == 1
        deletion["until"] = until
        return is_held

    async def erase_some(self, contact_id: str) -> bool:
        """Erase one batch of the contact's data; whether there may be more."""
        for collection, condition in (
            (Events.COLLECTION, {"contact_id": contact_id}),
            # After events: retention may turn an event into a tombstone meanwhile.
            (Tombstones.COLLECTION, {"contact_id": contact_id}),
            (ChangeLog.COLLECTION, {"contact_id": contact_id, "kind": {"$ne": ERASURE_KIND}}),
            (ConversationParts.COLLECTION, {"contact_id": contact_id}),
            (TicketParts.COLLECTION, {"contact_id": contact_id}),
            (IdempotencyKeys.COLLECTION, {"result.contact_id": contact_id}),
            (Timers.COLLECTION, {"contact_id": contact_id}),
            (RuleStates.COLLECTION, {"contact_id": contact_id}),
        ):
            filter_ = {**condition, "workspace_id": self._workspace_id}
            rows = await self._database.find(collection, filter_, limit=_BATCH, projection=["_id"])
            if rows:
                await self._database.delete(collection, {"_id": {"$in": [row["_id"] for row in rows]}})
                return True
        return False

    async def end(self, deletion: DeletionDocument) -> None:
        await self._database.delete(self.COLLECTION, {"_id": deletion["_id"], "workspace_id": self._workspace_id})


async def deletions_due(database: Database, length: timedelta) -> list[DeletionDocument]:
    """The deletions of every workspace that no process leases. `length`: the longest possible lease."""
    now = await database.now()
    rows = await database.find(Deletions.COLLECTION, {"until": {"$lte": now}})
    rows += await database.find(Deletions.COLLECTION, {"until": {"$gt": latest_end(now, length)}})
    return cast(list[DeletionDocument], rows)
