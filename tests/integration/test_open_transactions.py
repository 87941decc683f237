"""A transaction whose end does not arrive holds no lock for longer than the server is away, on each server and driver."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from pymongo import UpdateOne

from gateway.errors import UnavailableError
from gateway.settings import MongoDriver, Settings
from gateway.store.driver import ConflictError, Database
from gateway.store.embedded import embedded_server

ROOT = Path(__file__).parents[2]
RUST_SERVER = ROOT.parent / "shared" / "bin" / "secantusd-rs"
_LIFETIME_SECONDS = 60  # after which the server would have ended the transaction by itself


@pytest.fixture(params=["secantusd-py", str(RUST_SERVER)], ids=["secantusd-py", "secantusd-rs"])
async def frozen_at_will(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, psutil.Process]]:
    """A server of the test's own: its URI and its process."""
    if request.param == str(RUST_SERVER) and not RUST_SERVER.exists():
        pytest.skip("left out: the Rust server is not beside this checkout")
    async with embedded_server(tmp_path, request.param) as uri:
        yield uri, psutil.Process(orjson.loads((tmp_path / "database.json").read_bytes())["pid"])


@pytest.fixture(params=list(MongoDriver))
async def database(
    request: pytest.FixtureRequest, frozen_at_will: tuple[str, psutil.Process]
) -> AsyncIterator[Database]:
    """A database that waits half a second, with one document."""
    opened = Database(frozen_at_will[0], "test", Settings(mongo_driver=request.param, mongo_timeout_seconds=0.5))
    while True:  # a busy machine may need longer than that for the first connection
        try:
            await opened.bulk("rows", [UpdateOne({"_id": 1}, {"$setOnInsert": {"count": 0}}, upsert=True)])
            break
        except UnavailableError:
            continue
    yield opened
    await opened.close()


async def count_up(database: Database, session: Any) -> None:
    await database.bulk("rows", [UpdateOne({"_id": 1}, {"$inc": {"count": 1}})], session)


async def counted(database: Database) -> int:
    (row,) = await database.find("rows", {"_id": 1})
    return int(row["count"])


async def stop(process: psutil.Process) -> None:
    """Stop all of its threads, which takes a moment."""
    process.send_signal(signal.SIGSTOP)
    while process.status() != psutil.STATUS_STOPPED:
        await asyncio.sleep(0)


@asynccontextmanager
async def stopped(process: psutil.Process) -> AsyncIterator[None]:
    await stop(process)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


async def can_write_again(database: Database) -> bool:
    """Whether another transaction gets the lock well before the server ends the older one by itself."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _LIFETIME_SECONDS / 3
    while loop.time() < deadline:
        try:
            await database.transaction(lambda session: count_up(database, session))
        except UnavailableError:
            await asyncio.sleep(0.05)
        else:
            return True
    return False


async def test_an_abort_that_does_not_arrive(database: Database, frozen_at_will: tuple[str, psutil.Process]) -> None:
    """The statement is answered, then the server stands still."""

    async def body(session: Any) -> None:
        await count_up(database, session)
        await stop(frozen_at_will[1])
        await count_up(database, session)

    with pytest.raises(UnavailableError):
        await database.transaction(body)
    await asyncio.sleep(2)
    frozen_at_will[1].send_signal(signal.SIGCONT)
    assert await can_write_again(database)
    assert await counted(database) == 1


async def test_a_refusal_of_ours_while_the_server_stands_still(
    database: Database, frozen_at_will: tuple[str, psutil.Process]
) -> None:
    """The body ends by an error that is not the server's, so the abort is the first that is not answered."""

    async def body(session: Any) -> None:
        await count_up(database, session)
        await stop(frozen_at_will[1])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.transaction(body)
    await asyncio.sleep(2)
    frozen_at_will[1].send_signal(signal.SIGCONT)
    assert await can_write_again(database)
    assert await counted(database) == 1


async def test_a_caller_who_leaves_while_the_server_stands_still(
    database: Database, frozen_at_will: tuple[str, psutil.Process]
) -> None:
    at_it = asyncio.Event()

    async def body(session: Any) -> None:
        await count_up(database, session)
        await stop(frozen_at_will[1])
        at_it.set()
        await count_up(database, session)

    task = asyncio.create_task(database.transaction(body))
    await at_it.wait()
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled(), "who leaves does not wait for the server"
    await asyncio.sleep(1)
    frozen_at_will[1].send_signal(signal.SIGCONT)
    assert await can_write_again(database)
    assert await counted(database) == 1


async def test_a_commit_that_does_not_arrive_is_stored_or_not_and_holds_nothing(
    database: Database, frozen_at_will: tuple[str, psutil.Process]
) -> None:
    async def body(session: Any) -> None:
        await count_up(database, session)
        await stop(frozen_at_will[1])

    with pytest.raises(UnavailableError):
        await database.transaction(body)
    frozen_at_will[1].send_signal(signal.SIGCONT)
    assert await can_write_again(database)
    assert await counted(database) in (1, 2)


async def test_a_first_statement_that_arrives_when_its_caller_is_long_gone(
    database: Database, frozen_at_will: tuple[str, psutil.Process]
) -> None:
    """Many begin while the server stands still; it reads all of that once it goes on."""
    async with stopped(frozen_at_will[1]):
        calls = [
            asyncio.create_task(database.transaction(lambda session: count_up(database, session))) for _ in range(20)
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, UnavailableError) for result in results), results
    assert await can_write_again(database)
    before = await counted(database)
    for _ in range(10):
        try:
            await database.transaction(lambda session: count_up(database, session))
        except ConflictError:
            raise AssertionError("a lock came back") from None
    assert await counted(database) == before + 10
