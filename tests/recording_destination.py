"""A destination of the outbox that records what it was sent, and fails when told to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from gateway.core.clock import Clock
from gateway.outbox.deliveries import DeliveryKind, NewDelivery, Queue, attempt
from gateway.outbox.destinations import Changes, Destination, Outcome, Result, Senders, SentBatch
from gateway.outbox.repository import Deliveries, Lanes
from gateway.store.workspace_store import WorkspaceStore

Document = dict[str, Any]


class RecordedDeliveries(Deliveries):
    COLLECTION: ClassVar[str] = "recorded_deliveries"


class RecordedLanes(Lanes):
    COLLECTION: ClassVar[str] = "recorded_lanes"


@dataclass(frozen=True)
class RecordingConnection:
    """On and well, until a destination says otherwise."""

    workspace_id: str
    is_paused: bool = False
    resumed_at: datetime | None = None
    is_probing: bool = False

    def is_sending(self, now: datetime) -> bool:
        return not self.is_paused


@dataclass
class RecordingDestination(Destination[RecordingConnection]):
    """Records contacts (their latest state alone), events and erasures. `outcome_of` decides what becomes of each."""

    clock: Clock
    active_ids: set[str] = field(default_factory=set)
    paused_ids: set[str] = field(default_factory=set)
    sent: list[Document] = field(default_factory=list)
    outcome_of: Callable[[Document], Outcome] = lambda _: Outcome.DELIVERED
    before_sending: Callable[[], Any] | None = None
    most_at_once: int = 0
    retry_after: int | None = None
    _under_way: int = 0

    name = "recorder"
    deliveries = RecordedDeliveries
    lanes = RecordedLanes

    async def is_active(self, workspace_id: str) -> bool:
        return workspace_id in self.active_ids

    async def active(self) -> Sequence[RecordingConnection]:
        return [await self.read(id_) for id_ in sorted(self.active_ids)]

    async def read(self, workspace_id: str) -> RecordingConnection:
        is_paused = workspace_id in self.paused_ids or workspace_id not in self.active_ids
        return RecordingConnection(workspace_id, is_paused)

    async def deliveries_for(self, store: WorkspaceStore, changes: Changes, now: datetime) -> Sequence[NewDelivery]:
        deliveries = [
            NewDelivery(DeliveryKind.PROFILE, draft.document, {"name": draft.document.get("name"), "versions": 1})
            for draft in changes.contacts
            if draft.stored is None or draft.stored.get("name") != draft.document.get("name")
        ]
        deliveries += [
            NewDelivery(
                DeliveryKind.EVENT,
                changes.contacts_by_id[event["contact_id"]],
                {"event": event["name"]},
                metric=event["name"],
                subject_id=event["_id"],
                unique_id=event["_id"],
            )
            for event in changes.events
        ]
        if changes.erasure is not None:
            contact = changes.erasure.contact
            deliveries.append(NewDelivery(DeliveryKind.DELETION, contact, {"erased": contact["_id"]}))
        return deliveries

    def merge(self, waiting: Document, newer: Document) -> Document:
        return {**newer, "versions": waiting["versions"] + newer["versions"]}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Senders[RecordingConnection]]:
        async def sender(_: WorkspaceStore, connection: RecordingConnection) -> "RecordingDestination":
            return self

        yield sender

    async def send(self, rows: Sequence[Document], queue: Queue, has_time: Callable[[], bool]) -> SentBatch:
        """Send lanes at once, and the deliveries of a lane one after the other."""
        lanes: dict[str, list[Document]] = {}
        for row in sorted(rows, key=lambda row: int(row["seq"])):
            lanes.setdefault(row["lane_id"], []).append(row)
        results = await asyncio.gather(*(self._send_lane(lane, has_time) for lane in lanes.values()))
        return SentBatch([result for lane in results for result in lane])

    async def _send_lane(self, rows: Sequence[Document], has_time: Callable[[], bool]) -> list[Result]:
        results: list[Result] = []
        for row in rows:
            if not has_time():
                break
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            if self.before_sending is not None:
                await self.before_sending()
            self._under_way -= 1
            self.sent.append(row["payload"])
            outcome = self.outcome_of(row)
            error = None if outcome is Outcome.DELIVERED else f"The recorder says {outcome}."
            tried = attempt(self.clock(), 1, None, error, self.retry_after)
            results.append(Result(row, outcome, tried, lane_fields={"last_sent": row["_id"]}))
            if outcome in (Outcome.RETRY, Outcome.PAUSE):
                break
        return results

    async def update_health(self, connection: RecordingConnection, results: Sequence[Result]) -> None:
        if any(result.outcome is Outcome.PAUSE for result in results):
            self.paused_ids.add(connection.workspace_id)
