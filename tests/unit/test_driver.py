"""What the seam to MongoDB makes of a driver that fails, and of one that forgets that it was cancelled."""

import asyncio
from collections.abc import Callable

import pytest
from pymongo.errors import AutoReconnect, DuplicateKeyError, OperationFailure, ServerSelectionTimeoutError

from gateway.errors import BadRequestError, UnavailableError
from gateway.store.driver import DuplicateError, TransientError, translated


@pytest.mark.parametrize("ending", [lambda: None, lambda: AutoReconnect("gone"), lambda: OperationFailure("no", 2)])
async def test_a_cancellation_that_the_driver_forgets_ends_the_task(ending: Callable[[], Exception | None]) -> None:
    begun = asyncio.Event()

    async def call() -> None:
        async with translated():
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
        (OperationFailure("conflict", 112), TransientError),
        (OperationFailure("a mistake of ours", 2), OperationFailure),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), BadRequestError),
        (ZeroDivisionError(), ZeroDivisionError),
    ],
)
async def test_errors_of_the_driver_are_told_in_the_gateways_words(error: Exception, meant: type[Exception]) -> None:
    with pytest.raises(Exception) as raised:
        async with translated():
            raise error
    assert type(raised.value) is meant
    assert raised.value is error or raised.value.__cause__ is error
