"""Message rules with their per-contact state and counts, and campaigns."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.core.ids import Prefix, derived_id
from gateway.domain.messages.documents import (
    CampaignDocument,
    MessageRuleDocument,
    RuleStateDocument,
    SentCountDocument,
)
from gateway.store.driver import Operation, Session, TransientError
from gateway.store.repositories import Repository

_SHARDS = 8
_BATCH = 1000
_TRIGGER_FIELDS = ("workspace_id", "enabled", "trigger", "n", "event", "segment_id", "metadata", "since")


class MessageRules(Repository[MessageRuleDocument]):
    COLLECTION: ClassVar[str] = "message_rules"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="workspace"),
    )

    async def all(self) -> list[MessageRuleDocument]:
        """Every rule, oldest first: at most 100."""
        return await self._find({}, sort={"_id": 1})

    async def in_force(self) -> list[MessageRuleDocument]:
        return [row for row in await self._find({}, projection=_TRIGGER_FIELDS) if row["enabled"]]

    async def insert(self, rule: MessageRuleDocument, session: Session) -> None:
        await self._database.insert(self.COLLECTION, [rule], session)

    async def replace(self, rule: MessageRuleDocument, before: MessageRuleDocument, session: Session) -> None:
        """Save a rule; TransientError if its version is no longer that of `before`."""
        guard = {"_id": rule["_id"], "workspace_id": self._workspace_id, "version": before["version"]}
        change = {"$set": {name: value for name, value in rule.items() if name != "_id"}}
        if await self._database.bulk(self.COLLECTION, [UpdateOne(guard, change)], session) != 1:
            raise TransientError("the rule was saved or deleted meanwhile")

    async def remove(self, rule_id: str, session: Session) -> int:
        return await self._database.delete(
            self.COLLECTION, {"_id": rule_id, "workspace_id": self._workspace_id}, session
        )


class OvertakenError(Exception):
    """Another message of the rule was sent to the contact meanwhile: read the state again."""


class RuleStates(Repository[RuleStateDocument]):
    """State per rule and contact: how far the contact has come, and what was sent to it."""

    COLLECTION: ClassVar[str] = "rule_memories"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("rule_id", ASCENDING), ("workspace_id", ASCENDING)], name="rule"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING)], name="contact"),
    )

    async def save(self, rows: Iterable[RuleStateDocument], session: Session) -> None:
        """Write these states, replacing those with the same ids."""
        await self._database.bulk(self.COLLECTION, [self._upsert(row) for row in rows], session)

    async def replace(self, row: RuleStateDocument, before: RuleStateDocument | None, session: Session) -> None:
        """Write a state; OvertakenError if its count is no longer that of `before`."""
        stored = await self.get(row["_id"], session)
        if (stored and stored.get("count")) != (before and before.get("count")):
            raise OvertakenError
        await self.save([row], session)

    async def delete_some(self, rule_id: str) -> bool:
        """Delete a batch of a rule's states; whether there may be more."""
        rows = await self._find({"rule_id": rule_id}, limit=_BATCH, projection=["_id", "workspace_id"])
        if rows:
            await self._database.delete(self.COLLECTION, {"_id": {"$in": [row["_id"] for row in rows]}})
        return bool(rows)

    def _upsert(self, row: RuleStateDocument) -> Operation:
        values = {name: value for name, value in row.items() if name != "_id"}
        return UpdateOne({"_id": row["_id"], "workspace_id": self._workspace_id}, {"$set": values}, upsert=True)


class SentCounts(Repository[SentCountDocument]):
    """Messages sent per rule, in several documents per rule so that concurrent senders rarely conflict."""

    COLLECTION: ClassVar[str] = "sent_counts"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("_id", ASCENDING)], name="workspace"),
    )

    async def add(self, rule_id: str, contact_id: str, session: Session) -> None:
        shard = _shard_ids(rule_id)[sum(contact_id.encode()) % _SHARDS]
        increment = UpdateOne({"_id": shard, "workspace_id": self._workspace_id}, {"$inc": {"count": 1}}, upsert=True)
        await self._database.bulk(self.COLLECTION, [increment], session)

    async def of_rules(self, rule_ids: Sequence[str]) -> dict[str, int]:
        shards = await self.by_ids([shard for rule_id in rule_ids for shard in _shard_ids(rule_id)])
        return {
            rule_id: sum(shards[shard]["count"] for shard in _shard_ids(rule_id) if shard in shards)
            for rule_id in rule_ids
        }

    async def remove(self, rule_id: str) -> None:
        filter_ = {"_id": {"$in": _shard_ids(rule_id)}, "workspace_id": self._workspace_id}
        await self._database.delete(self.COLLECTION, filter_)


class Campaigns(Repository[CampaignDocument]):
    """Campaigns: their messages, and how far through the segment each has come."""

    COLLECTION: ClassVar[str] = "mailings"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("segment_id", ASCENDING), ("workspace_id", ASCENDING)], name="segment"),
    )

    async def of_segment(self, segment_id: str) -> list[str]:
        return [row["_id"] for row in await self._find({"segment_id": segment_id}, projection=["_id"])]

    async def insert(self, campaign: CampaignDocument, session: Session) -> None:
        await self._database.insert(self.COLLECTION, [campaign], session)


def _shard_ids(rule_id: str) -> list[str]:
    return [derived_id(Prefix.FIRING, rule_id, "count", str(shard)) for shard in range(_SHARDS)]
