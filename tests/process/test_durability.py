"""Nothing acknowledged is lost or counted twice, whatever is killed meanwhile: the gateway, or its database."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil
import pytest
from durability import (
    Dev,
    Traffic,
    check_acknowledged,
    check_all,
    modelled,
    stored,
    told,
    under,
)
from processes import becomes_true


@pytest.fixture
async def dev(program: Any, free_port: Callable[[], int]) -> AsyncIterator[Dev]:
    """A gateway without demo data, that listens."""
    opened = Dev(program, free_port())
    try:
        await opened.start()
        yield opened
    finally:
        if opened.process is not None and opened.process.poll() is None:
            await opened.kill()


async def test_the_gateway_is_killed_twice_and_its_database_taken_over(dev: Dev) -> None:
    traffic = Traffic(dev.url, keyed=True)
    async with under(traffic):
        for _ in range(2):
            orphan = dev.program.database_pid()
            await dev.kill()
            assert psutil.pid_exists(orphan)
            await dev.start()
            assert dev.program.database_pid() != orphan
            await traffic.grows_by(50)
    assert traffic.unanswered > 0
    await check_all(traffic, dev.url)


async def test_the_database_is_killed_twice_and_started_again_on_its_port(dev: Dev) -> None:
    traffic = Traffic(dev.url, keyed=True)
    async with under(traffic):
        for _ in range(2):
            await dev.kill_database()
            await traffic.grows_by(50)
    assert dev.process is not None
    assert dev.process.poll() is None
    await check_all(traffic, dev.url)


async def test_clients_without_keys_that_never_try_again(dev: Dev) -> None:
    traffic = Traffic(dev.url, keyed=False)
    async with under(traffic):
        await dev.kill_database()
    events, summaries = await stored(dev.url)
    check_acknowledged(traffic, events)
    assert summaries == modelled([told(event) for event in events])


async def test_a_database_that_is_asked_to_end_loses_nothing_either(dev: Dev) -> None:
    traffic = Traffic(dev.url, keyed=True)
    async with under(traffic):
        before = dev.program.database_pid()
        os.kill(before, signal.SIGTERM)
        await becomes_true(lambda: dev.program.record().get("pid") not in (None, before))
    await check_all(traffic, dev.url)


async def test_both_are_killed_at_once(dev: Dev) -> None:
    traffic = Traffic(dev.url, keyed=True)
    async with under(traffic):
        os.kill(dev.program.database_pid(), signal.SIGKILL)
        await dev.kill()
        await dev.start()
    await check_all(traffic, dev.url)
