"""The outbox dispatcher: finds the connections with deliveries to send, and has a worker send each one's."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack

import structlog

from gateway.core.clock import Clock
from gateway.core.ids import Minter
from gateway.errors import UnavailableError
from gateway.outbox.destinations import AnyDestination, Connection, Senders
from gateway.outbox.worker import LaneWorker
from gateway.store.workspace_store import Store

_POLL_SECONDS = 0.5


class OutboxDispatcher:
    """Sends queued deliveries; `run` runs in every background worker."""

    def __init__(
        self,
        store: Store,
        destinations: Sequence[AnyDestination],
        clock: Clock,
        minter: Minter,
        chance: random.Random | None = None,
    ) -> None:
        self._store = store
        self._destinations = destinations
        self._clock = clock
        self._minter = minter
        self._chance = chance or random.Random()  # noqa: S311 - jitter
        self._log = structlog.get_logger("gateway.outbox")

    async def run(self) -> None:
        """Deliver until cancelled, one task per connection, so that a slow one delays no other."""
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            senders = [await stack.enter_async_context(destination.open()) for destination in self._destinations]
            under_way: dict[tuple[str, str], asyncio.Task[None]] = {}
            while True:
                for destination, open_sender in zip(self._destinations, senders, strict=True):
                    for connection in await self._active(destination):
                        key = (destination.name, connection.workspace_id)
                        if key not in under_way or under_way[key].done():
                            job = self._dispatch(destination, connection, open_sender)
                            under_way[key] = group.create_task(job)
                await asyncio.sleep(_POLL_SECONDS)

    async def deliver_due(self, workspace_id: str) -> int:
        """Send what is due in one workspace now; returns the number of lanes processed."""
        done = 0
        for destination in self._destinations:
            async with destination.open() as open_sender:
                connection = await destination.read(workspace_id)
                done += await self.worker(destination, workspace_id).drain(connection, open_sender)
        return done

    def worker(self, destination: AnyDestination, workspace_id: str) -> LaneWorker:
        """What sends the deliveries of one workspace to a destination."""
        store = self._store.open(workspace_id)
        return LaneWorker(store, destination, self._clock, self._minter, self._chance)

    async def _active(self, destination: AnyDestination) -> Sequence[Connection]:
        try:
            return await destination.active()
        except UnavailableError as error:
            self._log.warning("deliveries wait for the database", destination=destination.name, reason=str(error))
        except Exception:
            self._log.exception("connections could not be read", destination=destination.name)
        return ()

    async def _dispatch(
        self, destination: AnyDestination, connection: Connection, open_sender: Senders[Connection]
    ) -> None:
        workspace_id = connection.workspace_id
        try:
            await self.worker(destination, workspace_id).drain(connection, open_sender)
        except UnavailableError as error:
            self._log.warning("deliveries wait for the database", destination=destination.name, reason=str(error))
        except Exception:
            self._log.exception("deliveries failed; retrying", destination=destination.name, workspace=workspace_id)
