"""What the seam to MongoDB makes of a driver that fails, and of one that forgets that it was cancelled."""

import asyncio
from collections.abc import Callable

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    CursorNotFound,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from gateway.errors import BadRequestError, UnavailableError
from gateway.store.driver import ConflictError, DuplicateError, FaultError, TransientError, translate_errors
from gateway.store.write_health import FRESH_SECONDS, RETRY_SECONDS, WriteHealth


@pytest.mark.parametrize("ending", [lambda: None, lambda: AutoReconnect("gone"), lambda: OperationFailure("no", 2)])
async def test_a_cancellation_that_the_driver_forgets_ends_the_task(ending: Callable[[], Exception | None]) -> None:
    begun = asyncio.Event()

    async def call() -> None:
        async with translate_errors():
            try:
                begun.set()
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if (error := ending()) is not None:
                    raise error from None

    async def keep_calling() -> None:
        while True:
            try:
                await call()
            except (UnavailableError, OperationFailure):
                await asyncio.sleep(0)

    task = asyncio.create_task(keep_calling())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (ServerSelectionTimeoutError("nobody"), UnavailableError),
        (AutoReconnect("gone"), TransientError),
        (DuplicateKeyError("there"), DuplicateError),
        (ConnectionFailure("refused"), TransientError),
        (NotPrimaryError("stepping down"), TransientError),
        (OperationFailure("conflict", 112), ConflictError),
        (BulkWriteError({"writeErrors": [{"code": 112, "index": 0}]}), ConflictError),
        (BulkWriteError({"writeErrors": [{"code": 11000, "index": 0}]}), DuplicateError),
        (OperationFailure("no such transaction", 251), TransientError),
        (OperationFailure("interrupted", 11601), TransientError),
        (ExecutionTimeout("too long", 50), TransientError),
        (CursorNotFound("cursor", 43), TransientError),
        (OperationFailure("WT_PANIC: WiredTiger library panic", 1), FaultError),
        (OperationFailure("28: No space left on device", 8), FaultError),
        (OperationFailure("out of disk space", 14031), FaultError),
        (OperationFailure("too many open files", 264), FaultError),
        (BulkWriteError({"writeErrors": [{"code": 14031, "index": 0}]}), FaultError),
        (WTimeoutError("waiting for replication timed out", 64), FaultError),
        (WriteConcernError("not enough data-bearing nodes", 100), FaultError),
        (BulkWriteError({"writeConcernErrors": [{"code": 79}]}), FaultError),
        (OperationFailure("a mistake of ours", 2), OperationFailure),
        (OperationFailure("the document is larger than 16 MB", 10334), OperationFailure),
        (OperationFailure("exceeded memory limit for $group", 146), OperationFailure),
        (DocumentTooLarge("17 MB"), DocumentTooLarge),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), BadRequestError),
        (ZeroDivisionError(), ZeroDivisionError),
    ],
)
async def test_errors_of_the_driver_are_told_in_the_gateways_words(error: Exception, meant: type[Exception]) -> None:
    with pytest.raises(Exception) as raised:
        async with translate_errors():
            raise error
    assert type(raised.value) is meant
    assert raised.value is error or raised.value.__cause__ is error


class MovableTime:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Probe:
    """A write that fails as long as the disk is full, and is counted."""

    def __init__(self) -> None:
        self.full = False
        self.writes = 0

    async def __call__(self) -> None:
        self.writes += 1
        if self.full:
            raise FaultError


async def is_healthy(writes: WriteHealth, probe: Probe) -> bool:
    try:
        await writes.check(probe)
    except UnavailableError:
        return False
    return True


async def test_writes_are_probed_where_no_traffic_shows_whether_they_go_through() -> None:
    now, probe = MovableTime(), Probe()
    writes = WriteHealth(now)
    assert [await is_healthy(writes, probe) for _ in range(5)] == [True] * 5
    assert probe.writes == 1
    now.seconds += FRESH_SECONDS
    assert await is_healthy(writes, probe)
    assert probe.writes == 2
    now.seconds += FRESH_SECONDS / 2
    writes.succeeded()
    now.seconds += FRESH_SECONDS / 2
    assert await is_healthy(writes, probe)
    assert probe.writes == 2


async def test_a_write_that_failed_makes_unready_until_one_goes_through() -> None:
    now, probe = MovableTime(), Probe()
    writes = WriteHealth(now)
    async with translate_errors(writes):
        pass
    now.seconds += 1
    with pytest.raises(FaultError):
        async with translate_errors(writes):
            raise OperationFailure("disk full", 14031)
    probe.full = True
    assert [await is_healthy(writes, probe) for _ in range(5)] == [False] * 5
    assert probe.writes == 0
    now.seconds += RETRY_SECONDS
    assert not await is_healthy(writes, probe)
    assert not await is_healthy(writes, probe)
    assert probe.writes == 1
    probe.full = False
    now.seconds += RETRY_SECONDS
    assert await is_healthy(writes, probe)
    now.seconds += 1
    for error in (
        OperationFailure("a mistake of ours", 2),
        OperationFailure("conflict", 112),
        DuplicateKeyError("there"),
    ):
        with pytest.raises((OperationFailure, TransientError)):
            async with translate_errors(writes):
                raise error
    assert await is_healthy(writes, probe)
    assert probe.writes == 2
