"""Sends deliveries over the connection of a workspace, or writes them to the log."""

from collections.abc import Callable, Sequence

import httpx
import structlog

from gateway.core.clock import Clock
from gateway.destinations.klaviyo.batch_sender import Batch, BatchSender, DeliveryResponse
from gateway.destinations.klaviyo.client import KlaviyoClient, Operation
from gateway.destinations.klaviyo.connection import KlaviyoConnection
from gateway.destinations.klaviyo.connections import KlaviyoConnections
from gateway.destinations.klaviyo.limiter import Limiter
from gateway.destinations.klaviyo.rate_window_repository import RateWindows
from gateway.destinations.klaviyo.responses import Outcome as ResponseOutcome
from gateway.destinations.klaviyo.responses import Response
from gateway.domain.contacts.contacts import Document
from gateway.outbox.deliveries import Queue, attempt
from gateway.outbox.destinations import Outcome, Result, Senders, SentBatch
from gateway.outbox.documents import DeliveryDocument, LaneChanges
from gateway.settings import KlaviyoMode
from gateway.store.workspace_store import WorkspaceStore

_LOGGED = "Written to the log, not sent: the mode is LOG."
_UNREADABLE_KEY = "The stored API key cannot be decrypted with GATEWAY_SECRET_KEY: connect Klaviyo again."
_OUTCOMES = {
    ResponseOutcome.DONE: Outcome.DELIVERED,
    ResponseOutcome.RETRY: Outcome.RETRY,
    ResponseOutcome.PAUSE: Outcome.PAUSE,
    ResponseOutcome.BAD: Outcome.REFUSED,
    ResponseOutcome.TOO_LARGE: Outcome.REFUSED,
}


class KlaviyoSender:
    """Sends deliveries to one account. `note`: what to say of each that is delivered."""

    def __init__(self, batches: BatchSender, note: str | None = None) -> None:
        self._batches = batches
        self._note = note

    async def send(self, rows: Sequence[DeliveryDocument], queue: Queue, has_time: Callable[[], bool]) -> SentBatch:
        """Send deliveries, those of a lane in order, for as long as there is time."""
        batch = Batch.of(rows, queue)
        await self._batches.run(batch, has_time)
        return SentBatch([_result(received, self._note) for received in batch.responses], batch.not_before)


class KlaviyoSenders:
    """Gives the sender of each connection. The limits of a workspace are shared by all its senders."""

    def __init__(self, connections: KlaviyoConnections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock
        self._limiters: dict[str, Limiter] = {}
        self._log = structlog.get_logger("gateway.klaviyo")

    def over(self, http: httpx.AsyncClient) -> Senders[KlaviyoConnection]:
        async def sender_of(store: WorkspaceStore, connection: KlaviyoConnection) -> KlaviyoSender | None:
            return await self._sender(store, connection, http)

        return sender_of

    async def _sender(
        self, store: WorkspaceStore, connection: KlaviyoConnection, http: httpx.AsyncClient
    ) -> KlaviyoSender | None:
        """The sender of a connection. A connection with an unreadable key is paused."""
        limiter = self._limiters.setdefault(store.workspace_id, Limiter(store.repository(RateWindows), self._clock))
        if connection.mode is KlaviyoMode.LOG:
            return KlaviyoSender(BatchSender(self._log_delivery, limiter, self._clock), _LOGGED)
        if (key := await self._connections.api_key(connection)) is None:
            await self._connections.pause(connection.workspace_id, _UNREADABLE_KEY)
            return None
        client = KlaviyoClient(http, connection.base_url, key, self._clock)
        return KlaviyoSender(BatchSender(client.send, limiter, self._clock))

    async def _log_delivery(self, operation: Operation, body: Document) -> Response:
        self._log.info("delivery to Klaviyo in log mode", operation=operation.name, body=body)
        return Response(ResponseOutcome.DONE)


def is_outage(result: Result) -> bool:
    """Whether the request failed as if Klaviyo were down; a 429 does not count as that."""
    return result.outcome is Outcome.RETRY and result.attempt["status"] != 429


def _result(received: DeliveryResponse, note: str | None) -> Result:
    response = received.response
    tried = attempt(received.at, response.duration_ms, response.status, response.error, response.retry_after)
    profile: LaneChanges = {} if response.profile_id is None else {"profile_id": response.profile_id}
    return Result(received.row, _OUTCOMES[response.outcome], tried, note, profile)
