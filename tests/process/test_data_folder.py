"""The folder of the embedded server: one owner at a time, others beside it, and whatever a killed one has left."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import psutil
import pytest
from processes import Folder, own_environment, until

SCRIPT = Path(__file__).parents[1] / "folder_user.py"
ENDED_BY = {signal.SIGINT: (130, -signal.SIGINT), signal.SIGTERM: (143, -signal.SIGTERM)}


@dataclass
class User:
    """A process that uses the folder."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait_until_open(self) -> "User":
        until(lambda: "mongodb://" in self.text or self.process.poll() is not None)
        assert self.process.poll() is None, self.text
        return self

    def end(self) -> int:
        """Let it end by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(60)

    def signal(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Users(Folder):
    """Starts processes that use the folder; `constants` are set in the module of the embedded server."""

    server: str
    started: list[User] = field(default_factory=list)

    def __call__(self, *, share: bool = False, **constants: float) -> User:
        """One that may not have it yet."""
        output = self.data.parent / f"user{len(self.started)}.log"
        arguments = orjson.dumps([str(self.data), self.server, share, constants]).decode()
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, str(SCRIPT), arguments],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                env=own_environment(),
            )
        self.started.append(User(process, output))
        return self.started[-1]

    def open(self, *, share: bool = False, **constants: float) -> User:
        """One that has it."""
        return self(share=share, **constants).wait_until_open()

    def visits(self) -> list[int]:
        """The processes that had it, as the database knows them."""
        with self.database() as database:
            return [row["pid"] for row in database["visits"].find()]


@pytest.fixture
def users(tmp_path: Path, request: pytest.FixtureRequest, fast_server: str) -> Iterator[Users]:
    """Processes on a folder of their own; all is ended with the test. The faster server starts in a tenth of the time."""
    folder = Users(tmp_path / "data", getattr(request, "param", fast_server))
    folder.data.mkdir(mode=0o700)
    yield folder
    for user in folder.started:
        if user.process.poll() is None:
            user.kill()
    folder.end()


def pids(*users: User) -> list[int]:
    return [user.process.pid for user in users]


# One owner at a time


def test_a_second_one_hears_which_process_holds_it(users: Users) -> None:
    first = users.open()
    second = users(_OWNER_PATIENCE_SECONDS=0.3)
    assert second.process.wait(60) == 1
    assert second.text.strip() == (
        f"The data folder {users.data} is in use by process {first.process.pid}: stop it, or choose another folder with --data."
    )
    assert users.visits() == pids(first)


@pytest.mark.parametrize("number", ENDED_BY)
def test_one_that_waits_for_it_can_be_interrupted(users: Users, number: signal.Signals) -> None:
    first, second = users.open(), users()
    until(lambda: users.opened_by(second.process.pid, "lock"))
    assert second.signal(number) in (1, *ENDED_BY[number])
    assert first.process.poll() is None
    assert users.visits() == pids(first)


@pytest.mark.parametrize("share", [False, True])
def test_one_that_waits_for_it_gets_it_when_the_first_one_ends(users: Users, share: bool) -> None:
    """Also after a command, which shares what a gateway wants alone."""
    first, second = users.open(share=share), users()
    until(lambda: users.opened_by(second.process.pid, "lock"))
    assert second.process.poll() is None
    assert first.end() == 0
    second.wait_until_open()
    assert users.visits() == pids(first, second)
    assert users.record()["owner"] == second.process.pid


# Several that share it


def test_four_at_once_share_one_server_and_leave_none(users: Users) -> None:
    four = [users(share=True) for _ in range(4)]
    for user in four:
        user.wait_until_open()
    assert len(users.databases()) == 1
    assert sorted(users.visits()) == sorted(pids(*four))
    for user in four:
        assert user.process.stdin is not None
        user.process.stdin.close()
    assert [user.process.wait(60) for user in four] == [0] * 4
    assert users.databases() == []


def test_those_that_follow_each_other_closely_never_meet_a_server_that_ends(users: Users) -> None:
    """Each begins when the one before is about to end: the owner ends the server while the next one looks for it."""
    before = users.open(share=True)
    for _ in range(6):
        after = users(share=True)
        until(lambda user=after: users.opened_by(user.process.pid, "users"))  # type: ignore[misc]
        assert before.process.stdin is not None
        before.process.stdin.close()
        before = after.wait_until_open()
    before.end()
    assert [user.process.wait(60) for user in users.started] == [0] * 7
    assert users.databases() == []


def test_one_that_found_the_server_there_outlives_its_owner(users: Users) -> None:
    owner, other = users.open(share=True), users.open(share=True)
    (running,) = users.databases()
    assert owner.process.stdin is not None
    owner.process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        owner.process.wait(1)
    assert users.visits() == pids(owner, other)
    assert [process.pid for process in users.databases()] == [running.pid]
    assert other.end() == 0
    assert owner.process.wait(60) == 0
    assert users.databases() == []


# After anything


@pytest.mark.parametrize("share", [False, True])
def test_the_server_of_a_killed_owner_is_taken_over(users: Users, share: bool) -> None:
    first = users.open()
    (orphan,), port = users.databases(), users.record()["port"]
    first.kill()
    second = users.open(share=share)
    (taken,) = users.databases()
    assert taken.pid != orphan.pid
    assert users.record() == {"port": port, "pid": taken.pid, "owner": second.process.pid}
    assert users.visits() == pids(first, second)
    assert second.end() == 0
    assert users.databases() == []


def test_a_frozen_orphan_is_taken_over(users: Users) -> None:
    first = users.open()
    pid = users.database_pid()
    first.kill()
    os.kill(pid, signal.SIGSTOP)
    second = users.open(_STOP_SECONDS=3)
    assert [process.pid for process in users.databases()] == [users.database_pid()] != [pid]
    assert users.visits() == pids(first, second)


def test_an_orphan_that_no_record_names_is_taken_over(users: Users) -> None:
    """What an owner leaves that was killed between starting the server and writing that down."""
    first = users.open()
    first.kill()
    (users.data / "database.json").unlink()
    second = users.open()
    assert [process.pid for process in users.databases()] == [users.database_pid()]
    assert users.visits() == pids(first, second)


def test_a_server_that_dies_is_started_again_on_its_port(users: Users) -> None:
    user = users.open()
    before = users.record()
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: users.record()["pid"] != before["pid"])
    assert users.record()["port"] == before["port"]
    assert users.visits() == pids(user)
    assert user.end() == 0
    assert "ended unexpectedly; restarting it" in user.text


def test_a_port_that_somebody_else_has_taken_is_given_up(users: Users) -> None:
    first = users.open()
    first.end()
    taken = users.record()["port"]
    with socket.socket() as occupant:
        occupant.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        until(lambda: _bound(occupant, taken))
        occupant.listen()
        second = users.open()
        assert users.record()["port"] != taken
        assert users.visits() == pids(first, second)


def _bound(occupant: socket.socket, port: int) -> bool:
    with contextlib.suppress(OSError):
        occupant.bind(("127.0.0.1", port))
        return True
    return False


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x00\xff not JSON",
        b"[1, 2]",
        b"null",
        b'{"port": 1, "pid": 1, "owner": 1}',
        b'{"port": "many", "pid": "all", "owner": []}',
        b'{"port": 70000, "pid": -1}',
        b'{"port": -1, "pid": 99999999999999999999}',
        b'{"port": true, "pid": null}',
        b'{"port": 27.5, "pid": 0.5}',
    ],
    ids=lambda garbage: garbage.decode(errors="replace")[:20] or "empty",
)
def test_a_damaged_record_does_no_harm(users: Users, garbage: bytes) -> None:
    (users.data / "database.json").write_bytes(garbage)
    (users.data / "lock").write_text("12345 stale")
    (users.data / "users").write_text("stale")
    (users.data / "database.json.new").write_bytes(garbage)
    user = users.open()
    assert users.visits() == pids(user)
    assert "Traceback" not in user.text


def test_a_record_that_names_another_living_process_does_it_no_harm(users: Users) -> None:
    bystander = subprocess.Popen(["/bin/sleep", "600"])
    try:
        (users.data / "database.json").write_bytes(orjson.dumps({"port": 1, "pid": bystander.pid, "owner": 1}))
        users.open().end()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


# How it ends: the Python server waits for one more connection before it does


@pytest.mark.parametrize("users", ["secantusd-py"], indirect=True)
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("number", ENDED_BY)
def test_a_signal_ends_it_cleanly(users: Users, number: signal.Signals, share: bool) -> None:
    user = users.open(share=share)
    (server,) = users.databases()
    assert user.signal(number) in (1, *ENDED_BY[number])
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    assert users.databases() == []
    assert "pid" not in users.record()
    assert "died" not in user.text


@pytest.mark.parametrize("users", ["secantusd-py"], indirect=True)
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("number", ENDED_BY)
def test_a_signal_while_it_starts_leaves_no_server(users: Users, number: signal.Signals, share: bool) -> None:
    user = users(share=share)
    until(lambda: users.databases())
    assert user.signal(number) in (0, 1, *ENDED_BY[number])
    assert users.databases() == []
