"""The seam to MongoDB and repositories over a MongoDB in memory, through Motor's interface: quick, and no proof of a server.

Transactions, change streams, bulk writes and find_and_update are not in it, nor a server's own rules: those are tested
on real servers, in tests/integration."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from mongomock_motor import AsyncMongoMockClient
from pymongo import ASCENDING, DESCENDING, IndexModel

from gateway.core.ids import Minter, Prefix
from gateway.core.pagination import Page
from gateway.core.principals import Principal
from gateway.domain.contacts.contacts import ContactRef, IdentityKind, identity
from gateway.settings import MongoDriver, Settings
from gateway.store.contacts.contacts import Contacts
from gateway.store.driver import Database, DuplicateError
from gateway.store.migrations import build_indexes
from gateway.store.support.teammates import Admins
from gateway.store.timers import timers_due
from gateway.store.workspace_store import Store
from gateway.store.workspaces import Keys, Workspaces

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture
async def database(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """A new database in memory."""
    monkeypatch.setattr("gateway.store.driver.AsyncIOMotorClient", AsyncMongoMockClient)
    database = Database("mongodb://nowhere", "test", Settings(mongo_driver=MongoDriver.MOTOR))
    yield database
    await database.close()


# The seam


async def test_documents_come_back_as_they_went_in_with_times_in_utc(database: Database) -> None:
    row = {"_id": "1", "at": NOW, "list": [1, {"a": None}], "text": "Straße"}
    await database.insert("rows", [row])
    assert await database.find_one("rows", {"_id": "1"}) == row
    assert await database.find_one("rows", {"_id": "2"}) is None
    assert await database.collections() == {"rows"}


async def test_find_sorts_limits_and_projects(database: Database) -> None:
    await database.insert("rows", [{"_id": str(n), "n": n, "even": n % 2 == 0} for n in range(10)])
    found = await database.find("rows", {"even": True}, sort={"n": DESCENDING}, limit=2, projection=["n"])
    assert found == [{"_id": "8", "n": 8}, {"_id": "6", "n": 6}]
    assert await database.count("rows", {"even": True}) == 5
    assert await database.count("rows", {}, 3) == 3


async def test_aggregate_gives_what_the_pipeline_gives(database: Database) -> None:
    await database.insert("rows", [{"_id": str(n), "kind": n % 2} for n in range(5)])
    pipeline = [{"$group": {"_id": "$kind", "count": {"$sum": 1}}}, {"$sort": {"_id": ASCENDING}}]
    assert await database.aggregate("rows", pipeline) == [{"_id": 0, "count": 3}, {"_id": 1, "count": 2}]


async def test_update_says_how_many_matched_or_were_inserted(database: Database) -> None:
    assert await database.update("rows", {"_id": "1"}, {"$set": {"a": 1}}) == 0
    assert await database.update("rows", {"_id": "1"}, {"$set": {"a": 1}}, upsert=True) == 1
    assert await database.update("rows", {"_id": "1"}, {"$set": {"a": 1}}) == 1


async def test_more_documents_than_one_call_takes_are_all_inserted(database: Database) -> None:
    await database.insert("rows", [{"_id": str(n), "n": n} for n in range(2500)])
    assert await database.delete("rows", {"n": {"$lt": 2490}}) == 2490
    assert await database.count("rows", {}) == 10


async def test_a_unique_index_refuses_in_the_gateways_words(database: Database) -> None:
    await database.create_indexes("rows", [IndexModel([("w", ASCENDING), ("name", ASCENDING)], unique=True, name="n")])
    await database.insert("rows", [{"_id": "1", "w": "a", "name": "x"}, {"_id": "2", "w": "b", "name": "x"}])
    with pytest.raises(DuplicateError):
        await database.insert("rows", [{"_id": "3", "w": "a", "name": "x"}])
    with pytest.raises(DuplicateError):
        await database.insert("rows", [{"_id": "1", "w": "c", "name": "y"}])


# Repositories


async def test_every_declared_index_can_be_built(database: Database) -> None:
    await build_indexes(database)
    names = set(await database._database["contacts"].index_information())
    assert {index.document["name"] for index in Contacts.INDEXES} <= names


async def test_workspaces_and_keys(database: Database) -> None:
    workspaces, keys = Workspaces(database), Keys(database)
    await build_indexes(database)
    for number, name in enumerate(("first", "second")):
        await workspaces.insert({"_id": f"wsp_{number}", "name": name, "created_at": NOW})
    with pytest.raises(DuplicateError):
        await workspaces.insert({"_id": "wsp_9", "name": "first", "created_at": NOW})
    assert [row["name"] for row in await workspaces.all()] == ["first", "second"]
    assert await workspaces.find("second") == await workspaces.find("wsp_1")
    assert (await workspaces.oldest() or {})["name"] == "first"
    assert await workspaces.salt("wsp_0", "salt") == await workspaces.salt("wsp_0", "other") == "salt"
    await keys.insert({"_id": "key_1", "workspace_id": "wsp_0", "hash": "h"})
    assert not await keys.revoke("wsp_1", "key_1", NOW)
    assert await keys.revoke("wsp_0", "key_1", NOW)
    assert await keys.revoke("wsp_0", "key_1", NOW + timedelta(days=1))
    assert (await keys.find("key_1") or {})["revoked_at"] == NOW  # the first time counts


async def test_a_repository_sees_its_workspace_alone(database: Database) -> None:
    store = Store(database)
    one, other = store.open("wsp_1").contacts, store.open("wsp_2").contacts
    rows = [
        {
            "_id": f"con_{workspace}",
            "workspace_id": workspace,
            "role": "USER",
            "identities": [identity(IdentityKind.EXTERNAL, "u")],
        }
        for workspace in ("wsp_1", "wsp_2")
    ]
    await database.insert("contacts", rows)
    ids = [row["_id"] for row in rows]
    assert await one.by_ids(ids) == {"con_wsp_1": rows[0]}
    assert await other.by_ids(ids) == {"con_wsp_2": rows[1]}
    assert await one.candidates_for([ContactRef(external_id="u")], may_become_users=False) == [rows[0]]


async def test_a_token_sees_its_contacts_rows_alone(database: Database) -> None:
    rows = [{"_id": f"con_{n}", "workspace_id": "wsp_1", "role": "USER", "identities": []} for n in range(3)]
    await database.insert("contacts", rows)
    token = Principal("key_1", "wsp_1", frozenset(), contact_id="con_1")
    own = Store(database).open_for(token)
    assert await own.contacts.by_ids([row["_id"] for row in rows]) == {"con_1": rows[1]}
    assert await own.admins.by_ids(["con_1"]) == {}


@pytest.mark.parametrize("backward", [False, True])
async def test_pages_by_id_show_every_row_once_in_order(database: Database, backward: bool) -> None:
    """Also where rows lie years apart: a page is looked for in windows of time that widen."""
    minter, admins = Minter(), Admins(database, "wsp_1")
    ages = [timedelta(seconds=0), timedelta(seconds=5), timedelta(hours=3), timedelta(days=40), timedelta(days=2000)]
    ids = [minter.mint(Prefix.ADMIN, NOW - age) for age in ages]
    await database.insert(
        "admins", [{"_id": id_, "workspace_id": "wsp_1", "email_lower": str(n)} for n, id_ in enumerate(ids)]
    )
    await database.insert("admins", [{"_id": minter.mint(Prefix.ADMIN, NOW), "workspace_id": "wsp_2"}])
    shown: list[str] = []
    while True:
        cursor = shown[-1] if shown else None
        asked = Page(2, backward, after=None if backward else cursor, before=cursor if backward else None)
        rows = await admins.page(asked, NOW)
        shown += [row["_id"] for row in rows[:2]]
        if len(rows) <= 2:
            break
    assert shown == (ids[::-1] if backward else ids)


async def test_timers_that_are_due_come_in_order_and_unknown_kinds_do_not_stand_in_the_way(database: Database) -> None:
    timers = [
        {
            "_id": f"tmr_{n}",
            "workspace_id": "w",
            "kind": "new" if n < 3 else "known",
            "next_at": NOW - timedelta(hours=9 - n),
            "due_at": NOW - timedelta(hours=9 - n),
        }
        for n in range(6)
    ]
    await database.insert("timers", [*timers, {**timers[5], "_id": "tmr_9", "next_at": NOW + timedelta(seconds=1)}])
    assert [row["_id"] for row in await timers_due(database, {"known"}, NOW, 2)] == ["tmr_3", "tmr_4"]
    assert [row["_id"] for row in await timers_due(database, {"known", "new"}, NOW, 9)] == [
        f"tmr_{n}" for n in range(6)
    ]
