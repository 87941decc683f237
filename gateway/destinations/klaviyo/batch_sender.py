"""Sends a batch of deliveries: in order per lane, many lanes at once, and an invalid event on its own."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateway.core.clock import Clock
from gateway.destinations.klaviyo.bulk_payloads import bulk_body, chunks, groups, index_of_pointer
from gateway.destinations.klaviyo.client import (
    BULK_CREATE_EVENTS,
    CREATE_EVENT,
    DELETE_PROFILE,
    UPSERT_PROFILE,
    Operation,
)
from gateway.destinations.klaviyo.limiter import Limiter
from gateway.destinations.klaviyo.responses import Outcome, Response
from gateway.domain.contacts.contacts import Document
from gateway.outbox.deliveries import DeliveryKind, Queue, in_order
from gateway.outbox.documents import DeliveryDocument

BULK_FROM = 10
_MOST_CONCURRENT = 10
_OPERATIONS = {
    DeliveryKind.EVENT: CREATE_EVENT,
    DeliveryKind.PROFILE: UPSERT_PROFILE,
    DeliveryKind.DELETION: DELETE_PROFILE,
}
Send = Callable[[Operation, Document], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class DeliveryResponse:
    """Klaviyo's response to a delivery, and when it came."""

    row: DeliveryDocument
    response: Response
    at: datetime


@dataclass(slots=True)
class Batch:
    """What is still to send, per lane, and the responses. `stopped_by`: the response that ended the batch."""

    payloads: dict[str, deque[DeliveryDocument]]
    queue: Queue
    responses: list[DeliveryResponse] = field(default_factory=list)
    not_before: dict[str, datetime] = field(default_factory=dict)
    stopped_by: Response | None = None

    @classmethod
    def of(cls, rows: Iterable[DeliveryDocument], queue: Queue) -> "Batch":
        """A batch of these rows."""
        lanes: dict[str, deque[DeliveryDocument]] = {}
        for row in in_order(list(rows)):
            lanes.setdefault(row["lane_id"], deque()).append(row)
        return cls(lanes, queue)

    def hold(self, lane_id: str, until: datetime | None = None) -> None:
        """Send nothing more of a lane in this batch."""
        self.payloads.pop(lane_id, None)
        if until is not None:
            self.not_before[lane_id] = until


class BatchSender:
    def __init__(self, send: Send, limiter: Limiter, clock: Clock) -> None:
        self._send = send
        self._limiter = limiter
        self._clock = clock

    async def run(self, batch: Batch, more_time: Callable[[], bool]) -> None:
        """Send until the lanes are empty, time is up, or Klaviyo refuses every request."""
        while batch.payloads and batch.stopped_by is None and more_time():
            heads = [(lane_id, lane[0]) for lane_id, lane in batch.payloads.items()]
            non_events = [head for head in heads if head[1]["kind"] != DeliveryKind.EVENT]
            await self._send_singles(batch, [row for _, row in non_events], more_time)
            runs = [run for lane_id in list(batch.payloads) if (run := _events_first(batch.payloads[lane_id]))]
            events = [row for run in runs for row in run]
            if len(events) >= BULK_FROM:
                await self._send_bulks(batch, events, more_time)
            else:
                await self._send_singles(batch, [run[0] for run in runs], more_time)
            batch.payloads = {lane_id: lane for lane_id, lane in batch.payloads.items() if lane}

    async def _send_singles(
        self, batch: Batch, rows: Sequence[DeliveryDocument], more_time: Callable[[], bool]
    ) -> None:
        """Send each row in a request of its own; at most one row per lane."""
        for kind in DeliveryKind:
            waiting = deque(row for row in rows if row["kind"] == kind)
            while waiting and batch.stopped_by is None and more_time():
                count = min(_MOST_CONCURRENT, len(waiting))
                granted, retry_at = await self._limiter.take(_OPERATIONS[kind], count, batch.queue)
                if not granted:
                    for row in waiting:
                        batch.hold(row["lane_id"], retry_at)
                    break
                now = [waiting.popleft() for _ in range(granted)]
                await asyncio.gather(*(self._send_single(batch, row) for row in now))

    async def _send_single(self, batch: Batch, row: DeliveryDocument) -> None:
        operation = _OPERATIONS[DeliveryKind(row["kind"])]
        response = await self._send(operation, row["payload"])
        await self._limiter.record_response(operation, response)
        self._settle(batch, [row], response)

    async def _send_bulks(
        self, batch: Batch, events: Sequence[DeliveryDocument], more_time: Callable[[], bool]
    ) -> None:
        for rows in chunks(events):
            await self._send_bulk(batch, rows, more_time)

    async def _send_bulk(
        self,
        batch: Batch,
        rows: Sequence[DeliveryDocument],
        more_time: Callable[[], bool],
        *,
        has_bad_event: bool = False,
    ) -> bool:
        """Send the events in one request, split if one is refused (`has_bad_event`: as before); returns whether all
        arrived."""
        rows = [row for row in rows if row["lane_id"] in batch.payloads]
        if not rows or batch.stopped_by is not None or not more_time():
            return False
        if has_bad_event and len(rows) > 1:
            return await self._send_halves(batch, rows, more_time)
        operation = BULK_CREATE_EVENTS if len(rows) > 1 else CREATE_EVENT
        granted, retry_at = await self._limiter.take(operation, 1, batch.queue)
        if not granted:
            for row in rows:
                batch.hold(row["lane_id"], retry_at)
            return False
        grouped = groups(rows)
        response = await self._send(operation, bulk_body(grouped) if len(rows) > 1 else rows[0]["payload"])
        await self._limiter.record_response(operation, response)
        if len(rows) == 1 or response.outcome not in (Outcome.BAD, Outcome.TOO_LARGE):
            self._settle(batch, rows, response)
            return response.outcome is Outcome.DONE
        bad = index_of_pointer(grouped, response.item) if response.outcome is Outcome.BAD else None
        if bad is None:
            return await self._send_halves(batch, rows, more_time)
        return await self._send_around(batch, rows, bad, more_time)

    async def _send_around(
        self, batch: Batch, rows: Sequence[DeliveryDocument], bad: DeliveryDocument, more_time: Callable[[], bool]
    ) -> bool:
        """Send the refused event on its own, so that it gets its own response, and the others without it."""
        before = [row for row in rows if row["lane_id"] == bad["lane_id"] and row["seq"] < bad["seq"]]
        await self._send_bulk(batch, [row for row in rows if row["lane_id"] != bad["lane_id"]] + before, more_time)
        await self._send_bulk(batch, [bad], more_time)
        rest = [row for row in rows if row["lane_id"] == bad["lane_id"] and row["seq"] > bad["seq"]]
        await self._send_bulk(batch, rest, more_time)
        return False

    async def _send_halves(self, batch: Batch, rows: Sequence[DeliveryDocument], more_time: Callable[[], bool]) -> bool:
        half = len(rows) // 2
        first_arrived = await self._send_bulk(batch, rows[:half], more_time)
        await self._send_bulk(batch, rows[half:], more_time, has_bad_event=first_arrived)
        return False

    def _settle(self, batch: Batch, rows: Sequence[DeliveryDocument], response: Response) -> None:
        at = self._clock()
        batch.responses += [DeliveryResponse(row, response, at) for row in rows]
        if response.outcome is Outcome.PAUSE:
            batch.stopped_by = response
        for row in rows:
            if response.outcome in (Outcome.RETRY, Outcome.PAUSE):
                batch.hold(row["lane_id"])
            elif lane := batch.payloads.get(row["lane_id"]):
                lane.popleft()


def _events_first(lane: Sequence[DeliveryDocument]) -> list[DeliveryDocument]:
    events = []
    for row in lane:
        if row["kind"] != DeliveryKind.EVENT:
            break
        events.append(row)
    return events
