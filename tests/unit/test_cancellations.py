"""Whoever is cancelled ends, also where the driver forgets it."""

import asyncio
import contextlib

import pytest

from gateway.store.driver import InsertStream, translate_errors


class ForgetfulStream:
    """Like PyMongo Async on Python 3.11, where a write ends at the moment of the cancellation."""

    async def try_next(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


async def read_for_ever() -> None:
    inserts = InsertStream(ForgetfulStream())
    while True:
        await inserts.next()


async def ask_for_ever() -> None:
    while True:
        async with translate_errors():
            await ForgetfulStream().try_next()


@pytest.mark.parametrize("forever", [read_for_ever, ask_for_ever])
async def test_a_forgotten_cancellation_is_told_again(forever: object) -> None:
    task = asyncio.create_task(forever())  # type: ignore[operator]
    await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=10)
    assert done == {task}
    assert task.cancelled()


async def test_a_time_that_is_up_stays_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await ask_for_ever()
    async with translate_errors():
        await asyncio.sleep(0)  # the task goes on
