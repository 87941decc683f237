"""Ends transactions that may still be open on the server and hold locks there."""

import asyncio
from contextlib import suppress
from contextvars import Context
from typing import Any

import structlog
from pymongo.errors import InvalidOperation, PyMongoError

_MAX_TASKS = 1000  # beyond these, the server ends each transaction after a minute
_AT_ONCE = 10  # leaves connections for requests
_LIFETIME_SECONDS = 60.0  # after this the server has ended it
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 0.25
_CLOSING_SECONDS = 1.0
_log = structlog.get_logger("gateway.database")


class OpenTransactions:
    """Ends transactions whose commit or abort may not have arrived, as soon as the server answers.

    A newer transaction of the same session makes the server abort the older one and refuse its late statements.
    killSessions does not: a first statement that arrives late opens the transaction again."""

    def __init__(self, database: Any, *, motor: bool) -> None:
        self._database = database
        self._motor = motor
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def end(self, session: Any) -> None:
        """End the session's transaction in the background, then the session."""
        if len(self._tasks) >= _MAX_TASKS:
            _log.warning("transaction abandoned; the server ends it after a minute", open=len(self._tasks))
            return
        # An empty context: without the caller's deadline and trace.
        task = asyncio.get_running_loop().create_task(self._end(session), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=_CLOSING_SECONDS)
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.wait(unfinished)

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
        """Send any statement in a newer transaction."""
        if session.in_transaction:
            await session.abort_transaction()  # this hides whether it arrived
        starting = session.start_transaction()
        if not self._motor:
            await starting
        try:
            await self._database["migrations"].find_one({"_id": 0}, session=session)
        finally:
            with suppress(PyMongoError):
                await session.abort_transaction()
