"""The outbox dispatcher: finds the connections with deliveries to send, and has a worker send each one's."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

import structlog

from gateway.core.background import run_forever
from gateway.core.clock import Clock
from gateway.core.ids import Minter
from gateway.errors import UnavailableError
from gateway.outbox.destinations import AnyDestination, Connection, Senders
from gateway.outbox.worker import LaneWorker
from gateway.store.workspace_store import Store

_POLL_SECONDS = 0.5
_WAITING = "deliveries wait for the database"


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
            for destination in self._destinations:
                open_sender = await stack.enter_async_context(destination.open())
                dispatch = partial(self._dispatch_active, destination, open_sender, group, {})
                log = self._log.bind(destination=destination.name)
                group.create_task(
                    run_forever(
                        dispatch, _POLL_SECONDS, log, unavailable=_WAITING, failed="connections could not be read"
                    )
                )

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

    async def _dispatch_active(
        self,
        destination: AnyDestination,
        open_sender: Senders[Connection],
        group: asyncio.TaskGroup,
        under_way: dict[str, asyncio.Task[None]],
    ) -> None:
        """Start a task for each active connection that has none. `under_way`: the tasks, by workspace."""
        for connection in await destination.active():
            task = under_way.get(connection.workspace_id)
            if task is None or task.done():
                job = self._dispatch(destination, connection, open_sender)
                under_way[connection.workspace_id] = group.create_task(job)

    async def _dispatch(
        self, destination: AnyDestination, connection: Connection, open_sender: Senders[Connection]
    ) -> None:
        workspace_id = connection.workspace_id
        try:
            await self.worker(destination, workspace_id).drain(connection, open_sender)
        except UnavailableError as error:
            self._log.warning(_WAITING, destination=destination.name, reason=str(error))
        except Exception:
            self._log.exception("deliveries failed; retrying", destination=destination.name, workspace=workspace_id)
