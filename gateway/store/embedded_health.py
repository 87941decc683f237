"""Checks by small writes whether the embedded server still takes writes."""

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
_MAX_REFUSED = 3  # failed writes in a row
_MAX_UNANSWERED = 10  # about a minute: a suspended server may continue by itself
_PROBE_BYTES = 8 * 1024 * 1024  # with less, a restarted server cannot write either
_log = structlog.get_logger("gateway.embedded")


async def wait_until_unhealthy(
    uri: str, folder: Path, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> str:
    """Wait until the server needs a restart and return the reason: it does not answer, or it refuses writes although
    the disk has space. After a failed write WiredTiger refuses all others, even once there is space again."""
    refused = unanswered = 0
    while True:
        await sleep(_RETRY_SECONDS if refused or unanswered else _INTERVAL_SECONDS)
        error = await asyncio.to_thread(_write_error, uri)
        refused = refused + 1 if error is not None and not error.timeout else 0
        unanswered = unanswered + 1 if error is not None and error.timeout else 0
        if unanswered >= _MAX_UNANSWERED:
            return "it does not respond"
        if refused == _MAX_REFUSED:
            _log.error("the embedded database refuses writes", reason=str(error)[:200], folder=str(folder))
        if refused >= _MAX_REFUSED and await asyncio.to_thread(_has_disk_space, folder):
            return "it refuses writes although its disk has space"


def _write_error(uri: str) -> PyMongoError | None:
    """The error of a small write; None if it succeeds."""
    milliseconds = int(_TIMEOUT_SECONDS * 1000)
    # A new client for each write, in a thread: it is independent of the gateway's own connections.
    with MongoClient[dict[str, object]](
        uri, appname="gateway owner", timeoutMS=milliseconds, serverSelectionTimeoutMS=milliseconds, retryWrites=False
    ) as client:
        try:
            client["gateway_owner"]["probes"].update_one({"_id": "owner"}, {"$inc": {"writes": 1}}, upsert=True)
        except PyMongoError as error:
            return error
    return None


def _has_disk_space(folder: Path) -> bool:
    """Whether the disk takes some megabytes. Its reported free space may not be available to this user."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True
