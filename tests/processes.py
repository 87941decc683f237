"""Processes that tests start: the program `gateway`, and scripts around the folder of an embedded server."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import orjson
import psutil
import pymongo
import structlog
from pymongo.database import Database
from typer.testing import CliRunner

from gateway.cli import main

Done = subprocess.CompletedProcess[str]
Environment = dict[str, str]


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Wait until this holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"this did not come true within {seconds} seconds"
        time.sleep(0.02)


async def becomes_true(condition: Callable[[], Awaitable[Any] | Any], seconds: float = 60) -> None:
    """Wait until this holds, while the event loop goes on."""
    async with asyncio.timeout(seconds):
        while not (await found if isinstance(found := condition(), Awaitable) else found):
            await asyncio.sleep(0.02)


def own_environment(**more: str) -> Environment:
    """The environment of a process without the settings of whoever runs the tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a command starts twice as fast with compiled modules
    return {**environment, "COLUMNS": "200", "NO_COLOR": "1", "GATEWAY_DEMO_SECONDS": "0", **more}


def command_of(*arguments: str) -> list[str]:
    """The words that run the program."""
    return [str(Path(sys.executable).parent / "gateway"), *arguments]


@dataclass
class Folder:
    """The data folder of an embedded server, as it is seen from outside."""

    data: Path

    def record(self) -> dict[str, Any]:
        """What the owner wrote about itself."""
        found = orjson.loads((self.data / "database.json").read_bytes())
        assert isinstance(found, dict)
        return found

    def database_pid(self) -> int:
        """The process of the embedded database."""
        return int(self.record()["pid"])

    def databases(self) -> list[psutil.Process]:
        """Every process that has the data folder as its database."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.data / "database") in process.cmdline():
                    found.append(process)
        return found

    def opened_by(self, pid: int, name: str) -> bool:
        """Whether that process has opened that file of the folder."""
        return str(self.data / name) in [file.path for file in psutil.Process(pid).open_files()]

    @property
    def uri(self) -> str:
        """Where the server listens."""
        return f"mongodb://127.0.0.1:{self.record()['port']}/?directConnection=true"

    @contextlib.contextmanager
    def database(self) -> Iterator[Database[dict[str, Any]]]:
        """The gateway's database there, without the gateway in between."""
        with pymongo.MongoClient[dict[str, Any]](self.uri) as client:
            yield client["gateway"]

    def end(self) -> None:
        """End what something left running on it."""
        for process in self.databases():
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(10)


@dataclass
class Program(Folder):
    """The program `gateway`, run as people run it."""

    environment: Environment

    def run(self, *arguments: str, **environment: str) -> Done:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=120,
            env={**self.environment, **environment},
            cwd=self.data.parent,
        )

    def run_here(self, *arguments: str, **environment: str) -> Done:
        """Run a command to its end in this process, which spares a second of CPU."""
        return CommandLine(self.environment).run(*arguments, "--data", str(self.data), **environment)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command that stays; its output goes to gateway.log beside the data folder."""
        with (self.data.parent / "gateway.log").open("ab") as log:
            return subprocess.Popen(
                self.command(*arguments),
                stdout=log,
                stderr=log,
                env={**self.environment, **environment},
                cwd=self.data.parent,
            )

    def command(self, *arguments: str) -> list[str]:
        """The words of a command on this folder."""
        data = [] if arguments[0] in ("export-schema", "serve") else ["--data", str(self.data)]
        return command_of(*arguments, *data)

    @property
    def log(self) -> str:
        """What the commands that stayed have written."""
        return (self.data.parent / "gateway.log").read_text()


class OwnOutput:
    """An output that takes what one thread writes; what others write, such as the logs of gateways, goes where it went before."""

    def __init__(self, own: TextIO, others: TextIO) -> None:
        self._own, self._others, self._thread = own, others, threading.get_ident()

    def write(self, text: str) -> int:
        return (self._own if threading.get_ident() == self._thread else self._others).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


@dataclass
class CommandLine:
    """The commands of `gateway`, run in this process: a process for each would take a second of CPU to import its modules."""

    environment: Environment

    def run(self, *arguments: str, input: str | None = None, **environment: str) -> Done:
        """Run a command to its end: its exit code, and all that it printed."""
        config, argv, stderr, code = structlog.get_config(), sys.argv, sys.stderr, 0
        with CliRunner().isolation(input=input, env={**self.environment, **environment}) as (out, err, _):
            sys.stderr = cast(TextIO, OwnOutput(sys.stderr, stderr))
            try:
                sys.argv = ["gateway", *arguments]
                main()
            except SystemExit as ended:
                code = int(ended.code or 0)
            finally:
                sys.argv = argv
                structlog.configure(**config)  # the command's logs go to an output that is closed soon
            sys.stdout.flush()
            sys.stderr.flush()
            return Done(list(arguments), code, out.getvalue().decode(), err.getvalue().decode())

    async def run_beside(self, *arguments: str, **environment: str) -> Done:
        """Run a command in a thread, while the event loop goes on."""
        return await asyncio.to_thread(self.run, *arguments, **environment)


async def new_workspace(environment: Environment, *scopes: str) -> str:
    """A key with these scopes of a new workspace `w`, in the database that the environment names, which is migrated."""
    commands = CommandLine(own_environment(GATEWAY_LOG_LEVEL="WARNING", **environment))
    granted = [word for scope in scopes for word in ("-s", scope)]
    for arguments in (("migrate",), ("workspaces", "create", "w"), ("keys", "create", "-w", "w", *granted)):
        done = await commands.run_beside(*arguments)
        assert done.returncode == 0, done.stderr
    return done.stdout.strip()
