"""Workers and the database are killed, stopped, or without a disk, and a clock differs, all under load.

What was acknowledged is stored once, summaries say what events do, `/readyz` says how it is, and all recovers by itself."""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from durability import Dev, Traffic, check_all, is_status, under
from processes import becomes_true, new_workspace

from gateway.store.embedded import embedded_server

STOPPED_SECONDS = 8
STARTS_SECONDS = 180  # on a busy machine
RECOVERS_SECONDS = 60  # a stopped, killed or full server; what still holds locks then would hold them for a minute
AHEAD = """
import datetime, sys
import gateway.core.clock as clocks
present = clocks.system_clock
clocks.system_clock = lambda: present() + datetime.timedelta(hours=3)
import gateway.cli
gateway.cli.main()
"""


@pytest.fixture
async def dev(program: Any, free_port: Callable[[], int]) -> AsyncIterator[Dev]:
    """A `gateway dev` with the default server."""
    opened = Dev(program, free_port())
    try:
        yield opened
    finally:
        if opened.process is not None and opened.process.poll() is None:
            await opened.kill()


async def test_the_database_stands_still_and_dies_and_everything_dies(dev: Dev) -> None:
    await dev.start()
    traffic = Traffic(dev.url, keyed=True)
    async with under(traffic):
        os.kill(dev.program.database_pid(), signal.SIGSTOP)
        await asyncio.sleep(STOPPED_SECONDS)
        assert await is_status(dev.url, 503)
        os.kill(dev.program.database_pid(), signal.SIGCONT)
        await traffic.grows_by(100)
        assert await is_status(dev.url, 200)
        await dev.kill_database()
        await traffic.grows_by(50)
        os.kill(dev.program.database_pid(), signal.SIGKILL)
        await dev.kill()
        await dev.start()
        await traffic.grows_by(50)
    assert traffic.unanswered > 0
    await check_all(traffic, dev.url)


async def test_workers_die_beside_one_whose_clock_is_ahead(
    program: Any, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port, other = free_port(), free_port()
    (tmp_path / "server").mkdir()
    async with embedded_server(tmp_path / "server", "secantusd-py") as uri:
        environment = {"GATEWAY_MONGO_URI": uri, "GATEWAY_MONGO_DATABASE": "chaos"}
        key = await new_workspace(environment, "READ", "TRACK")
        url = f"http://127.0.0.1:{port}"
        process = program.start("serve", "--port", str(port), "--workers", "2", **environment)
        ahead = subprocess.Popen(
            [sys.executable, "-c", AHEAD, "serve", "--port", str(other)],
            env={**program.environment, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            await becomes_true(lambda: is_status(url, 200), STARTS_SECONDS)
            await becomes_true(lambda: is_status(f"http://127.0.0.1:{other}", 200), STARTS_SECONDS)
            traffic = Traffic(url, keyed=True, key=key)
            async with under(traffic):
                ahead.kill()
                workers_of(process)[-1].kill()
                await becomes_true(lambda: len(workers_of(process)) == 2, STARTS_SECONDS)
                # Its open transaction may hold what it was writing for a minute, until the database ends it.
                await becomes_true(lambda: is_status(url, 200), STARTS_SECONDS)
                await traffic.grows_by(50)
            await becomes_true(lambda: is_status(url, 200), STARTS_SECONDS)
            await check_all(traffic, url)
        finally:
            for each in (ahead, process):
                each.terminate()
                await asyncio.to_thread(each.wait)


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes of `gateway serve` that serve."""
    workers = []
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.Error):  # such as one that was just killed
            if "multiprocessing.spawn" in " ".join(child.cmdline()):
                workers.append(child)
    return workers


async def test_a_database_that_may_not_write_any_more_is_started_again(dev: Dev) -> None:
    """As on a full disk: every write of it fails, and where it goes on from that, it reads nothing either."""
    await dev.start()
    traffic = Traffic(dev.url, keyed=True)
    async with under(traffic):
        before = dev.program.database_pid()
        resource.prlimit(before, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        await becomes_true(lambda: is_status(dev.url, 503))
        await becomes_true(lambda: dev.program.record().get("pid") not in (None, before), RECOVERS_SECONDS)
        await becomes_true(lambda: is_status(dev.url, 200), RECOVERS_SECONDS)
        await traffic.grows_by(50)
    assert traffic.unanswered > 0
    await check_all(traffic, dev.url)
    assert "refuses writes although its disk has space" in dev.program.log


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of 64 MB on that folder; the test is left out where none can be mounted."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"left out: no small disk can be mounted here ({made.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Take what is left of the disk."""
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        while file.write(bytes(64 * 1024)):
            pass


async def test_a_full_disk_is_unavailable_until_there_is_room(dev: Dev) -> None:
    with small_disk(dev.program.data):
        await dev.start()
        traffic = Traffic(dev.url, keyed=True)
        async with under(traffic):
            before, filler = dev.program.database_pid(), dev.program.data / "filler"
            fill(filler)
            await becomes_true(lambda: is_status(dev.url, 503))
            await becomes_true(lambda: "the embedded database refuses writes" in dev.program.log)
            assert dev.program.database_pid() == before, "without room it is of no use to start it again"
            assert await is_status(dev.url, 503)
            filler.unlink()
            await becomes_true(lambda: is_status(dev.url, 200), RECOVERS_SECONDS)
            await traffic.grows_by(50)
        assert traffic.unanswered > 0
        await check_all(traffic, dev.url)
        await dev.kill()
        dev.program.end()
