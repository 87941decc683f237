"""Transactions that may be open on the server though nobody goes on with them: each holds its locks until it is ended."""

import asyncio
from contextlib import suppress
from contextvars import Context
from typing import Any

import structlog
from pymongo.errors import InvalidOperation, PyMongoError

_MOST = 1000  # the others are left to the server, which ends each after a minute
_AT_ONCE = 10  # so that connections are left to those who have something to do
_LIFETIME_SECONDS = 60.0  # after so long the server has ended it by itself
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 0.25
_CLOSING_SECONDS = 1.0
_log = structlog.get_logger("gateway.database")


class OpenTransactions:
    """Ends transactions as soon as the server answers, where their commit or abort may not have arrived.

    A newer transaction of the same session makes the server end the older one, and refuse what of it arrives late;
    killSessions would not do: a first statement that arrives after it opens the transaction again."""

    def __init__(self, database: Any, *, motor: bool) -> None:
        self._database = database
        self._motor = motor
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def end(self, session: Any) -> None:
        """End the session's transaction in the background, and then the session."""
        if len(self._tasks) >= _MOST:
            _log.warning("a transaction is left to the server, which ends it after a minute", open=len(self._tasks))
            return
        # An empty context: neither the deadline nor the trace of the call that gave up.
        task = asyncio.get_running_loop().create_task(self._end(session), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give those that are left a moment."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_CLOSING_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _end(self, session: Any) -> None:
        loop = asyncio.get_running_loop()
        given_up, pause = loop.time() + _LIFETIME_SECONDS, _SHORTEST_PAUSE
        while loop.time() < given_up:
            try:
                async with self._turns:
                    await self._begin_newer(session)
                    await session.end_session()
            except InvalidOperation:
                return  # the client is closed
            except PyMongoError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return

    async def _begin_newer(self, session: Any) -> None:
        """Have the server take a statement of a newer transaction: any, such as this."""
        if session.in_transaction:
            await session.abort_transaction()  # it does not say whether that arrived
        begun = session.start_transaction()
        if not self._motor:
            await begun
        try:
            await self._database["migrations"].find_one({"_id": 0}, session=session)
        finally:
            with suppress(PyMongoError):
                await session.abort_transaction()
