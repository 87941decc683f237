"""Whether the embedded server takes writes, as its owner finds out by a write now and then."""

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from pymongo import MongoClient
from pymongo.errors import PyMongoError

_INTERVAL_SECONDS = 10.0
_RETRY_SECONDS = 1.0  # after a write that failed
_TIMEOUT_SECONDS = 5.0
_MOST_REFUSED = 3  # writes in a row that the server answers with an error
_MOST_UNANSWERED = 10  # a minute: a server that was only stopped for a while goes on by itself
_ROOM_BYTES = 8 * 1024 * 1024  # less, and a server that is started again cannot write either
_log = structlog.get_logger("gateway.embedded")


async def until_unwell(uri: str, folder: Path, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> str:
    """Why the server should be started again, once it refuses writes although its disk has room, or does not answer.

    What WiredTiger could not write makes it refuse everything from then on, also once there is room again."""
    refused = unanswered = 0
    while True:
        await sleep(_RETRY_SECONDS if refused or unanswered else _INTERVAL_SECONDS)
        error = await asyncio.to_thread(_write_error, uri)
        refused = refused + 1 if error is not None and not error.timeout else 0
        unanswered = unanswered + 1 if error is not None and error.timeout else 0
        if unanswered >= _MOST_UNANSWERED:
            return "it does not answer"
        if refused == _MOST_REFUSED:
            _log.error("the embedded database refuses writes", reason=str(error)[:200], folder=str(folder))
        if refused >= _MOST_REFUSED and await asyncio.to_thread(_has_room, folder):
            return "it refuses writes, and its disk has room"


def _write_error(uri: str) -> PyMongoError | None:
    """What a small write fails with; None where it goes through."""
    milliseconds = int(_TIMEOUT_SECONDS * 1000)
    # A client of its own for each write, in a thread: it stays apart from whatever the gateway's own connections meet.
    with MongoClient[dict[str, object]](
        uri, appname="gateway owner", timeoutMS=milliseconds, serverSelectionTimeoutMS=milliseconds, retryWrites=False
    ) as client:
        try:
            client["gateway_owner"]["probes"].update_one({"_id": "owner"}, {"$inc": {"writes": 1}}, upsert=True)
        except PyMongoError as error:
            return error
    return None


def _has_room(folder: Path) -> bool:
    """Whether the disk takes some megabytes more: what it says of its free space need not be for us."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True
