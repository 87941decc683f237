"""The embedded server: a MongoDB-compatible child process for a machine without MongoDB, its data in one folder.

One process owns it (by a lock in the folder); others can use it. A server that a killed owner left is stopped and
started again. It syncs every commit, so acknowledged writes survive."""

import asyncio
import contextlib
import fcntl
import os
import random
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import orjson
import psutil
import structlog

from gateway.errors import StartupError
from gateway.store.embedded_health import wait_until_unhealthy

HOST = "127.0.0.1"
# Subscriptions can resume within this history: a day, or a million changes.
_HISTORY = ("--oplog-retention-seconds", "86400", "--oplog-max-entries", "1000000")
_START_SECONDS = 60.0
_NUDGE_SECONDS = 0.1
_STOP_SECONDS = 20.0
_OWNER_PATIENCE_SECONDS = 30.0
# The pause before a restart grows while the server dies soon after each start.
_SETTLED_SECONDS = 30.0
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 10.0
# Below the range of outgoing connections on Linux and macOS, which could take a port after the check.
_PORTS = range(20_000, 32_000)
_PORT_ATTEMPTS = 3


@asynccontextmanager
async def embedded_server(data: Path, executable: str, *, share: bool = False) -> AsyncIterator[str]:
    """The URI of the folder's embedded server, while the context is open.

    With `share`, another process's server will do; else this process becomes the owner, or StartupError names the
    owner."""
    async with _is_port_taken(data, share=share) as owner:
        if not owner:
            yield uri_of(_read_record(data)["port"])
            return
        server = _Server(data, executable)
        try:
            await server.start()
            guard = asyncio.create_task(server.keep_alive())
            try:
                yield uri_of(server.port)
            finally:
                guard.cancel()
                await asyncio.wait([guard])
        finally:
            with (data / "users").open("a+") as users:
                if share:  # wait for other users, and keep new ones out while it stops
                    await asyncio.to_thread(fcntl.flock, users, fcntl.LOCK_EX)
                await asyncio.shield(server.stop())


def uri_of(port: int) -> str:
    return f"mongodb://{HOST}:{port}/?directConnection=true"


class _Server:
    def __init__(self, data: Path, executable: str) -> None:
        self._data = data
        self._program = _find_program(executable)
        self._process: asyncio.subprocess.Process | None = None
        self._spawning: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("gateway.embedded")
        self.port = 0

    async def start(self) -> None:
        """Start it on the port it had before, or another one if that is taken."""
        await asyncio.to_thread(_end_orphan, self._data)
        before = _read_record(self._data).get("port", 0)
        self.port = before if before and _is_free(before) else _any_free_port()
        for _ in range(_PORT_ATTEMPTS - 1):
            try:
                await self._spawn()
            except StartupError:
                if _is_free(self.port):
                    raise
                self.port = _any_free_port()  # taken between the check and the server's start
            else:
                return
        await self._spawn()

    async def stop(self) -> None:
        if self._spawning is not None:
            await asyncio.wait([self._spawning])
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            if not await self._wait_for_exit(self._process):
                self._process.kill()
                await self._process.wait()
        if self.port:
            _write_record(self._data, {"port": self.port})

    async def _wait_for_exit(self, process: asyncio.subprocess.Process) -> bool:
        """Whether it ends in time. The Python server waits two seconds for a connection, so it gets some."""
        ended = asyncio.ensure_future(process.wait())
        for _ in range(round(_STOP_SECONDS / _NUDGE_SECONDS)):
            if (await asyncio.wait([ended], timeout=_NUDGE_SECONDS))[0]:
                return True
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_NUDGE_SECONDS):
                    _, writer = await asyncio.open_connection(HOST, self.port)
                writer.close()
        return False

    async def keep_alive(self) -> None:
        """Start it again, on the same port, when it dies, hangs, or refuses writes although its disk has space."""
        loop, pause = asyncio.get_running_loop(), _SHORTEST_PAUSE_SECONDS
        while self._process is not None:
            began = loop.time()
            await self._wait_for_failure(self._process)
            if loop.time() - began < _SETTLED_SECONDS:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                pause = _SHORTEST_PAUSE_SECONDS
            try:
                await self._spawn()
            except (StartupError, OSError) as error:
                self._log.error("the embedded database does not start", reason=str(error))
                if self._process.returncode is None:
                    self._process.kill()

    async def _wait_for_failure(self, process: asyncio.subprocess.Process) -> None:
        """Wait until the process ends; kill it if it is unhealthy."""
        died = asyncio.ensure_future(process.wait())
        unhealthy = asyncio.ensure_future(wait_until_unhealthy(uri_of(self.port), self._data))
        try:
            await asyncio.wait({died, unhealthy}, return_when=asyncio.FIRST_COMPLETED)
            if not died.done():
                reason = unhealthy.result()
                self._log.error("restarting the embedded database", reason=reason, port=self.port)
                process.kill()
                await died
            else:
                code = died.result()
                self._log.error(
                    "the embedded database ended unexpectedly; restarting it", exit_code=code, port=self.port
                )
        finally:
            died.cancel()
            unhealthy.cancel()
            await asyncio.wait({died, unhealthy})

    async def _spawn(self) -> None:
        with (self._data / "database.log").open("ab") as log:
            spawning = asyncio.create_subprocess_exec(
                self._program, "--host", HOST, "--port", str(self.port), "--storage-path", str(_storage(self._data)),
                "--sync-on-commit", "--log-level", "WARNING", *_HISTORY,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self._data,
            )  # fmt: skip
            self._spawning = asyncio.create_task(self._record_process(spawning))
            await asyncio.shield(self._spawning)  # a signal meanwhile must not leave an unrecorded child
        assert self._process is not None  # noqa: S101 - spawned above
        await self._wait_until_up(self._process)

    async def _record_process(self, spawning: Coroutine[Any, Any, asyncio.subprocess.Process]) -> None:
        self._process = await spawning
        _write_record(self._data, {"port": self.port, "pid": self._process.pid, "owner": os.getpid()})

    async def _wait_until_up(self, process: asyncio.subprocess.Process) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if process.returncode is not None:
                raise StartupError(
                    f"The embedded database ended with exit code {process.returncode} at startup: see {self._data / 'database.log'}. "
                    "If its data is damaged, move that folder away, or choose another with --data."
                )
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, self.port)
                writer.close()
                return
            await asyncio.sleep(0.05)
        raise StartupError(
            f"The embedded database did not respond within {_START_SECONDS:g} seconds: see {self._data / 'database.log'}."
        )


@asynccontextmanager
async def _is_port_taken(data: Path, *, share: bool) -> AsyncIterator[bool]:
    """Take the folder's lock and yield True; yield False to use the running server of another owner."""
    deadline = time.monotonic() + _OWNER_PATIENCE_SECONDS
    with (data / "lock").open("a+") as lock, (data / "users").open("a+") as users:
        while not _lock(lock, fcntl.LOCK_EX):
            # A stopping owner waits for an exclusive lock of `users`, so our share keeps its server running.
            if share and _lock(users, fcntl.LOCK_SH):
                if _is_running(data):
                    yield False
                    return
                fcntl.flock(users, fcntl.LOCK_UN)
            if time.monotonic() > deadline:
                owner = _read_record(data).get("owner", "unknown")
                raise StartupError(
                    f"The data folder {data} is in use by process {owner}: stop it, or choose another folder with --data."
                )
            await asyncio.sleep(0.1)
        yield True


def _lock(file: IO[str], mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_orphan(data: Path) -> None:
    """Stop the server that a killed owner left. The caller holds the lock, so it has no other owner."""
    for process in psutil.process_iter():
        if _is_server_of(process, data):
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(_STOP_SECONDS)


def _is_server_of(process: psutil.Process, data: Path) -> bool:
    """Whether that process is the server of this folder (process ids are reused)."""
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return "--storage-path" in command and str(_storage(data)) in command


def _is_running(data: Path) -> bool:
    record = _read_record(data)
    if "port" not in record or "pid" not in record or _is_free(record["port"]):
        return False
    try:
        return _is_server_of(psutil.Process(record["pid"]), data)
    except psutil.Error:
        return False


def _read_record(data: Path) -> dict[str, int]:
    """The valid numbers of the record that the last owner wrote."""
    try:
        record = orjson.loads((data / "database.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    largest = {"port": 65_535, "pid": 2**31 - 1, "owner": 2**31 - 1}
    numbers = record.items() if isinstance(record, dict) else ()
    return {name: value for name, value in numbers if type(value) is int and 0 < value <= largest.get(name, 0)}


def _write_record(data: Path, record: Mapping[str, object]) -> None:
    temporary = data / "database.json.new"
    temporary.write_bytes(orjson.dumps(record))
    temporary.replace(data / "database.json")


def _storage(data: Path) -> Path:
    return data / "database"


def _find_program(executable: str) -> str:
    path = shutil.which(executable) or shutil.which(executable, path=str(Path(sys.executable).parent))
    if path is None:
        raise StartupError(
            f"The executable of the embedded database, '{executable}', was not found: run 'make install', "
            "set GATEWAY_EMBEDDED_SERVER, or set GATEWAY_MONGO_URI to a MongoDB replica set."
        )
    return str(Path(path).absolute())


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _any_free_port() -> int:
    for port in random.sample(_PORTS, len(_PORTS)):
        if _is_free(port):
            return port
    raise StartupError(f"No port from {_PORTS.start} to {_PORTS.stop - 1} is free for the embedded database.")
