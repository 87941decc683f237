"""Idempotency keys of every mutation except tracking (an event keeps its own key forever)."""

from datetime import datetime, timedelta
from typing import ClassVar, TypedDict

from pymongo import ASCENDING, IndexModel

from gateway.core.idempotency import Claim
from gateway.store.driver import Document, Session
from gateway.store.repositories import Repository

RETENTION = timedelta(days=7)


class IdempotencyKeyDocument(TypedDict):
    workspace_id: str
    key: str
    fingerprint: str
    result: Document
    at: datetime


class IdempotencyKeys(Repository[IdempotencyKeyDocument]):
    """The keys of one workspace, with the results of their first calls."""

    COLLECTION: ClassVar[str] = "idempotency_keys"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("key", ASCENDING)], unique=True, name="key"),
        IndexModel([("result.contact_id", ASCENDING), ("workspace_id", ASCENDING)], name="contact"),
        IndexModel([("at", ASCENDING)], expireAfterSeconds=int(RETENTION.total_seconds()), name="expiry"),
    )

    async def result_of(self, claim: Claim) -> Document | None:
        """The result of the first call with this key; None if there was none. UserProblem: its input was different."""
        row = next(iter(await self._find({"key": claim.key})), None)
        if row is None:
            return None
        claim.check(row["fingerprint"])
        return dict(row["result"])

    async def keep(self, claim: Claim, result: Document, now: datetime, session: Session) -> None:
        """Store the result of this call; DuplicateError if another call with the key was faster."""
        row: IdempotencyKeyDocument = {
            "workspace_id": self._workspace_id,
            "key": claim.key,
            "fingerprint": claim.fingerprint,
            "result": result,
            "at": now,
        }
        await self._database.insert(self.COLLECTION, [row], session)
