"""Migrations: an empty database takes them all at once, an older one takes each; one process at a time."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from gateways import Commands

from gateway.core.clock import system_clock
from gateway.errors import StartupError
from gateway.settings import MongoDriver, Settings
from gateway.store.driver import Database
from gateway.store.migrations import MIGRATIONS, migrate, pending_migrations

NUMBERS = [step.number for step in MIGRATIONS]
Opened = Callable[[], AbstractAsyncContextManager[tuple[Database, Commands]]]


@pytest.fixture
def opened(server_and_driver: tuple[str, MongoDriver]) -> Opened:
    """Opens a connection to one new database, whose commands are counted."""
    uri, driver = server_and_driver
    name = f"test_{uuid.uuid4().hex[:12]}"

    @asynccontextmanager
    async def connection() -> AsyncIterator[tuple[Database, Commands]]:
        commands = Commands()
        database = Database(uri, name, Settings(mongo_driver=driver), [commands])
        yield database, commands
        await database.close()

    return connection


async def recorded(database: Database) -> list[Any]:
    return sorted(row["_id"] for row in await database.find("migrations", {}))


async def indexes(database: Database) -> dict[str, set[str]]:
    names = await database.collections() - {"migrations"}
    return {name: set(await database._database[name].index_information()) for name in sorted(names)}


async def test_an_empty_database_gets_each_index_once_and_every_number(opened: Opened) -> None:
    async with opened() as (database, commands):
        assert [step.number for step in await migrate(database, system_clock, owner="a")] == NUMBERS
        assert await recorded(database) == NUMBERS
        assert await pending_migrations(database) == []
        built = Counter(commands.names)["createIndexes"]
        assert built == len([names for names in (await indexes(database)).values() if len(names) > 1])
        commands.names.clear()
        assert await migrate(database, system_clock, owner="a") == []
        assert commands.names.count("update") <= 1  # the lock alone


async def test_a_database_with_documents_takes_each_step_and_has_the_same_indexes_in_the_end(opened: Opened) -> None:
    async with opened() as (database, commands):
        await migrate(database, system_clock, owner="a")
        new = await indexes(database)
        for collection in new:
            await database._database.drop_collection(collection)
        await database.delete("migrations", {})
        await database.insert("workspaces", [{"_id": "wsp_1", "name": "old", "created_at": system_clock()}])
        await database.insert(
            "contacts", [{"_id": "con_1", "workspace_id": "wsp_1", "identities": [], "role": "USER", "version": 1}]
        )
        commands.names.clear()
        assert [step.number for step in await migrate(database, system_clock, owner="a")] == NUMBERS
        assert commands.names.count("createIndexes") > len(new)
        assert await recorded(database) == NUMBERS
        assert await indexes(database) == new
        (contact,) = await database.find("contacts", {})
        assert "terms" in contact  # the third step looked at it


async def test_a_database_that_has_taken_some_takes_the_others(opened: Opened) -> None:
    async with opened() as (database, _):
        await migrate(database, system_clock, owner="a")
        await database.delete("migrations", {"_id": {"$in": NUMBERS[2:]}})
        assert [step.number for step in await migrate(database, system_clock, owner="a")] == NUMBERS[2:]
        assert await recorded(database) == NUMBERS


async def test_one_of_four_at_once_migrates_and_the_others_find_it_done(opened: Opened) -> None:
    async with contextlib.AsyncExitStack() as stack:
        four = [(await stack.enter_async_context(opened()))[0] for _ in range(4)]
        done = await asyncio.gather(
            *(migrate(database, system_clock, owner=f"host {number}:1") for number, database in enumerate(four))
        )
        assert sorted(len(steps) for steps in done) == [0, 0, 0, len(MIGRATIONS)]
        assert await recorded(four[0]) == NUMBERS


async def test_the_lock_of_a_killed_process_is_taken_at_once_and_that_of_a_living_one_waited_for(
    opened: Opened,
) -> None:
    lock = {"_id": "lock", "until": system_clock() + timedelta(seconds=20)}
    host = socket.gethostname()
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    async with opened() as (database, _):
        await database.insert("migrations", [{**lock, "owner": f"{host}:{dead.pid}"}])
        assert len(await migrate(database, system_clock, owner="a", patience=0.1)) == len(MIGRATIONS)
        await database.insert("migrations", [{**lock, "owner": f"{host}:{os.getpid()}"}])
        with pytest.raises(StartupError, match="has been migrating"):
            await migrate(database, system_clock, owner="b", patience=0.3)
