"""One batch of deliveries on its way: each contact's in their order, many contacts at once, a bad one by itself."""

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
from gateway.domain.deliveries import DeliveryKind, Queue, in_order

BULK_FROM = 10
_MOST_CONCURRENT = 10
_OPERATIONS = {
    DeliveryKind.EVENT: CREATE_EVENT,
    DeliveryKind.PROFILE: UPSERT_PROFILE,
    DeliveryKind.DELETION: DELETE_PROFILE,
}
Send = Callable[[Operation, Document], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a delivery, and when."""

    row: Document
    response: Response
    at: datetime


@dataclass(slots=True)
class Batch:
    """What is to be sent, in a line for each lane; what was sent; and why the rest was not."""

    payloads: dict[str, deque[Document]]
    queue: Queue
    results: list[Result] = field(default_factory=list)
    not_before: dict[str, datetime] = field(default_factory=dict)
    stopped_by: Response | None = None

    @classmethod
    def of(cls, rows: Iterable[Document], queue: Queue) -> "Batch":
        """A batch of these rows."""
        lines: dict[str, deque[Document]] = {}
        for row in in_order(list(rows)):
            lines.setdefault(row["lane_id"], deque()).append(row)
        return cls(lines, queue)

    def hold(self, lane_id: str, until: datetime | None = None) -> None:
        """Send nothing more of a lane in this batch."""
        self.payloads.pop(lane_id, None)
        if until is not None:
            self.not_before[lane_id] = until

    @property
    def all_failed(self) -> bool:
        """Whether Klaviyo answered nothing that was sent as a server in order would."""
        return bool(self.results) and all(
            one.response.outcome is Outcome.RETRY and one.response.status != 429 for one in self.results
        )


class Sender:
    """Sends batches of one workspace."""

    def __init__(self, send: Send, limiter: Limiter, clock: Clock) -> None:
        self._send = send
        self._limiter = limiter
        self._clock = clock

    async def run(self, batch: Batch, more_time: Callable[[], bool]) -> None:
        """Send what the lanes hold until nothing is left, or no more time, or Klaviyo says that all is in vain."""
        while batch.payloads and batch.stopped_by is None and more_time():
            heads = [(lane_id, line[0]) for lane_id, line in batch.payloads.items()]
            others = [head for head in heads if head[1]["kind"] != DeliveryKind.EVENT]
            await self._singles(batch, [row for _, row in others], more_time)
            runs = [run for lane_id in list(batch.payloads) if (run := _events_first(batch.payloads[lane_id]))]
            events = [row for run in runs for row in run]
            if len(events) >= BULK_FROM:
                await self._bulks(batch, events, more_time)
            else:
                await self._singles(batch, [run[0] for run in runs], more_time)
            batch.payloads = {lane_id: line for lane_id, line in batch.payloads.items() if line}

    async def _singles(self, batch: Batch, rows: Sequence[Document], more_time: Callable[[], bool]) -> None:
        """Send each by itself, of each lane at most one."""
        for kind in DeliveryKind:
            waiting = deque(row for row in rows if row["kind"] == kind)
            while waiting and batch.stopped_by is None and more_time():
                wanted = min(_MOST_CONCURRENT, len(waiting))
                granted, again_at = await self._limiter.take(_OPERATIONS[kind], wanted, batch.queue)
                if not granted:
                    for row in waiting:
                        batch.hold(row["lane_id"], again_at)
                    break
                now = [waiting.popleft() for _ in range(granted)]
                await asyncio.gather(*(self._single(batch, row) for row in now))

    async def _single(self, batch: Batch, row: Document) -> None:
        operation = _OPERATIONS[DeliveryKind(row["kind"])]
        answer = await self._send(operation, row["payload"])
        await self._limiter.record_response(operation, answer)
        self._settle(batch, [row], answer)

    async def _bulks(self, batch: Batch, events: Sequence[Document], more_time: Callable[[], bool]) -> None:
        for rows in chunks(events):
            await self._bulk(batch, rows, more_time)

    async def _bulk(
        self, batch: Batch, rows: Sequence[Document], more_time: Callable[[], bool], *, known_bad: bool = False
    ) -> bool:
        """Send these events in one request, and where one of them is refused the others; whether all arrived.

        `known_bad`: one of them was refused before, nobody knows which."""
        rows = [row for row in rows if row["lane_id"] in batch.payloads]
        if not rows or batch.stopped_by is not None or not more_time():
            return False
        if known_bad and len(rows) > 1:
            return await self._halves(batch, rows, more_time)
        operation = BULK_CREATE_EVENTS if len(rows) > 1 else CREATE_EVENT
        granted, again_at = await self._limiter.take(operation, 1, batch.queue)
        if not granted:
            for row in rows:
                batch.hold(row["lane_id"], again_at)
            return False
        grouped = groups(rows)
        answer = await self._send(operation, bulk_body(grouped) if len(rows) > 1 else rows[0]["payload"])
        await self._limiter.record_response(operation, answer)
        if len(rows) == 1 or answer.outcome not in (Outcome.BAD, Outcome.TOO_LARGE):
            self._settle(batch, rows, answer)
            return answer.outcome is Outcome.DONE
        bad = index_of_pointer(grouped, answer.item) if answer.outcome is Outcome.BAD else None
        if bad is None:
            return await self._halves(batch, rows, more_time)
        return await self._without(batch, rows, bad, more_time)

    async def _without(
        self, batch: Batch, rows: Sequence[Document], bad: Document, more_time: Callable[[], bool]
    ) -> bool:
        """Send the one that was pointed at by itself, so that it has an answer of its own, and then the others."""
        before = [row for row in rows if row["lane_id"] == bad["lane_id"] and row["seq"] < bad["seq"]]
        await self._bulk(batch, [row for row in rows if row["lane_id"] != bad["lane_id"]] + before, more_time)
        await self._bulk(batch, [bad], more_time)
        rest = [row for row in rows if row["lane_id"] == bad["lane_id"] and row["seq"] > bad["seq"]]
        await self._bulk(batch, rest, more_time)
        return False

    async def _halves(self, batch: Batch, rows: Sequence[Document], more_time: Callable[[], bool]) -> bool:
        half = len(rows) // 2
        fine = await self._bulk(batch, rows[:half], more_time)
        await self._bulk(batch, rows[half:], more_time, known_bad=fine)
        return False

    def _settle(self, batch: Batch, rows: Sequence[Document], answer: Response) -> None:
        at = self._clock()
        batch.results += [Result(row, answer, at) for row in rows]
        if answer.outcome is Outcome.PAUSE:
            batch.stopped_by = answer
        for row in rows:
            if answer.outcome in (Outcome.RETRY, Outcome.PAUSE):
                batch.hold(row["lane_id"])
            elif line := batch.payloads.get(row["lane_id"]):
                line.popleft()


def _events_first(line: Sequence[Document]) -> list[Document]:
    """The events at the head of a line."""
    found = []
    for row in line:
        if row["kind"] != DeliveryKind.EVENT:
            break
        found.append(row)
    return found
