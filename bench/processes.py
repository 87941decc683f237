"""Programs under measurement: started, waited for, and asked how much of a processor and of memory they took."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
SERVERS = Path(__file__).parent / "servers"
PEERS = Path(__file__).parent / "peers"
_PATIENCE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Server:
    """A program that listens on a port of this machine."""

    name: str
    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """How much of a processor it took so far, in its own code and in the kernel's."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def megabytes(self) -> float:
        """What it keeps in memory of its own (without what it shares with other programs)."""
        return float(self.process.memory_full_info().uss) / 2**20


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def started(name: str, command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Server]:
    """The program while the context is open; its command gets the port as its last argument."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *command,
        str(port),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await _listening(port, process, name)
        yield Server(name, port, psutil.Process(process.pid))
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()


async def most_megabytes(arguments: Sequence[str], environment: Mapping[str, str]) -> float:
    """The most that the program `gateway` keeps in memory of its own until it ends; SystemExit where it fails."""
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).parent / "gateway"), *arguments),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    most, seen = 0.0, psutil.Process(process.pid)
    while process.returncode is None:
        try:
            most = max(most, seen.memory_full_info().uss / 2**20)
        except psutil.Error:
            break
        await asyncio.sleep(0.2)
    if await process.wait():
        raise SystemExit(f"'gateway {' '.join(arguments)}' ended with {process.returncode}.")
    return most


def python(script: str, *arguments: str) -> list[str]:
    """The command that runs one of our servers."""
    return [sys.executable, str(SERVERS / script), *arguments]


async def _listening(port: int, process: asyncio.subprocess.Process, name: str) -> None:
    for _ in range(_PATIENCE_SECONDS * 20):
        if process.returncode is not None:
            raise SystemExit(f"{name} ended with {process.returncode} before it listened.")
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise SystemExit(f"{name} does not listen on port {port}.")
