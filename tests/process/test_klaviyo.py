"""Workers and backfills that are killed, or told to end, and meet a Klaviyo that misbehaves: all arrives, once, in order."""

import asyncio
import contextlib
import csv
import gzip
import os
import random
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from klaviyo_stand_in import KEY, Fault, Kind, Klaviyo, at_random, listening

from gateway.transfer.contact_rows import ContactColumns, Others
from gateway.transfer.imports import ContactImport

SHOP = Path(__file__).parents[3] / "shared" / "data" / "ecom.csv.gz"
GATEWAY = str(Path(sys.executable).parent / "gateway")
CONTACTS = 100
EVENTS_EACH = 20
SECRET = "a secret of the tests which is long enough"
FAULTS = (
    Fault(Kind.RATE_LIMIT, seconds=2),
    Fault(Kind.ERROR, 503),
    Fault(Kind.ERROR, 500),
    Fault(Kind.HTML, 502),
    Fault(Kind.RESET_BEFORE),
    Fault(Kind.RESET_AFTER),
    Fault(Kind.RESET_AFTER),
    Fault(Kind.SLOW, seconds=0.5),
)


def environment_of(uri: str, database: str, **more: str) -> dict[str, str]:
    """The environment of a process on that database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return {**kept, "GATEWAY_MONGO_URI": uri, "GATEWAY_MONGO_DATABASE": database, "GATEWAY_SECRET_KEY": SECRET, **more}


def start(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A command of the program, which writes to a log of its name."""
    with (folder / f"{arguments[-1]}.log").open("ab") as log:
        command = [GATEWAY, *arguments, "--data", str(folder / "data")]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


async def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the program, at its end."""
    command = [GATEWAY, *arguments]
    return await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True)


async def track(workspace: Any, events: list[dict[str, Any]]) -> None:
    """Track events as a client does: what is not acknowledged is sent again, with the same keys."""
    query = "mutation($e: [TrackEventInput!]!) { trackEvents(input: {events: $e}) { rejected } }"
    keyed = [{**event, "idempotencyKey": uuid.uuid4().hex} for event in events]
    for _ in range(10):
        answer = await workspace.ask(query, {"e": keyed})
        if [error["extensions"]["code"] for error in answer.get("errors", ())] != ["UNAVAILABLE"]:
            break
    assert answer == {"data": {"trackEvents": {"rejected": 0}}}


@pytest.fixture
def shop(open_gateway: Any, mongo: str, rust_mongo: str) -> Callable[[Klaviyo], Any]:
    """A workspace that no process works for, beside that Klaviyo: `async with shop(account) as (gateway, workspace, environment, url)`."""

    @contextlib.asynccontextmanager
    async def opened(account: Klaviyo) -> AsyncIterator[tuple[Any, Any, dict[str, str], str]]:
        uri, database = rust_mongo or mongo, f"test_{uuid.uuid4().hex[:12]}"
        async with (
            listening(account) as url,
            open_gateway(uri=uri, database=database, rolls_up=False, secret_key=SECRET) as gateway,
        ):
            yield gateway, await gateway.workspace(), environment_of(uri, database), url

    return opened


async def held(workspace: Any) -> list[dict[str, Any]]:
    """The lanes that some worker holds."""
    lanes = await workspace.store.database.find("delivery_lanes", {"workspace_id": workspace.id})
    return [lane for lane in lanes if lane.get("lease") is not None]


async def states(workspace: Any) -> Counter[str]:
    rows = await workspace.store.database.find("deliveries", {"workspace_id": workspace.id}, projection=["state"])
    return Counter(row["state"] for row in rows)


async def test_two_workers_that_are_killed_deliver_all_of_it_once_and_in_order(shop: Any, tmp_path: Path) -> None:
    chance, account = random.Random(11), Klaviyo()
    async with shop(account) as (gateway, workspace, environment, url):
        await gateway.runtime.klaviyo.connections.connect(workspace.id, KEY, url, forward_all=True)
        account.misbehave = at_random(chance, 0.25, *FAULTS)
        workers = [start(environment, tmp_path, "worker") for _ in range(2)]
        try:
            for number in range(EVENTS_EACH):
                people = [{"email": f"p{who}@shop.example"} for who in range(CONTACTS)]
                step = {"name": "step", "metadata": {"n": number + 1}}
                await track(workspace, [{**step, "contact": contact} for contact in people])
            for _ in range(4):
                await asyncio.sleep(chance.uniform(0.5, 3))
                victim = chance.randrange(2)
                workers[victim].kill()
                workers[victim].wait()
                workers[victim] = start(environment, tmp_path, "worker")
            account.misbehave = at_random(chance, 0.1, *FAULTS)
            async with asyncio.timeout(240):
                while (await states(workspace)).keys() != {"DELIVERED"}:
                    await asyncio.sleep(0.5)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    assert "Traceback" not in (tmp_path / "worker.log").read_text()
    assert len(account.events) == CONTACTS * EVENTS_EACH
    assert set(Counter(event.unique_id for event in account.events).values()) == {1}
    for who in range(CONTACTS):
        steps = [event.properties["n"] for event in account.of(f"p{who}@shop.example")]
        assert steps == list(range(1, EVENTS_EACH + 1))
    assert account.too_early == []
    assert {one.fault for one in account.asked} >= {Kind.RATE_LIMIT, Kind.RESET_AFTER, Kind.HTML}


async def test_a_worker_that_is_told_to_end_gives_back_what_it_holds(shop: Any, tmp_path: Path) -> None:
    account, people = Klaviyo(), 60
    async with shop(account) as (gateway, workspace, environment, url):
        await gateway.runtime.klaviyo.connections.connect(workspace.id, KEY, url, forward_all=True)
        events = [{"name": "step", "contact": {"email": f"p{who}@shop.example"}} for who in range(people)]
        await track(workspace, events)
        account.misbehave = lambda _: Fault(Kind.SLOW, seconds=0.5)
        worker = start(environment, tmp_path, "worker")
        try:
            async with asyncio.timeout(120):
                while not account.profiles:
                    await asyncio.sleep(0.01)
            worker.terminate()
            assert await asyncio.to_thread(worker.wait, 60) == 128 + signal.SIGTERM
        finally:
            worker.kill()
            worker.wait()
        left = await states(workspace)
        assert left == {"PENDING": 2 * people - len(account.profiles), "DELIVERED": len(account.profiles)}
        assert len(account.profiles) < people
        assert await held(workspace) == []
        account.misbehave = lambda _: None
        await gateway.runtime.deliveries.deliver_due(workspace.id)
        assert await states(workspace) == {"DELIVERED": 2 * people}
    assert len(account.profile_writes) == len(account.profiles) == len(account.events) == people


def shoppers(file: Path, most: int) -> int:
    """A file of the first people of the shop's file, as contacts; how many."""
    with gzip.open(SHOP, "rt") as lines:
        people = {row["user_id"]: row for row in reversed(list(csv.DictReader(lines)))}
    chosen = [people[id_] for id_ in sorted(people)[:most]]
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("externalId", "email", "platform", "user_cohort", "page"))
        for row in chosen:
            email = f"{row['user_id']}@shop.example"
            writer.writerow((row["user_id"], email, row["platform"], row["user_cohort"], row["event"]))
    return len(chosen)


@pytest.mark.skipif(not SHOP.exists(), reason="left out: ../shared/data/ecom.csv.gz is not beside this checkout")
async def test_a_backfill_of_a_real_shop_killed_and_interrupted_goes_on_and_repeats_nothing(
    shop: Any, tmp_path: Path
) -> None:
    account, file = Klaviyo(), tmp_path / "contacts.csv"
    people = shoppers(file, 200)
    begin = "mutation($i: CreateConversationInput!) { createConversation(input: $i) { userErrors { message } } }"
    async with shop(account) as (gateway, workspace, environment, url):
        columns = ContactColumns(others=Others.ATTRIBUTES)
        imported = ContactImport(gateway.runtime.contact_batches, workspace.id, file, columns)
        assert (await imported.run(lambda _: None)).added == people
        with file.open() as lines:
            for row in csv.DictReader(lines):
                sent = {"contact": {"externalId": row["externalId"]}, "body": f"I was at {row['page']}."}
                await workspace.data(begin, {"i": sent})
        await gateway.runtime.klaviyo.connections.connect(workspace.id, KEY, url)
        process = start(environment, tmp_path, "klaviyo", "backfill")
        try:
            for share, way, code in ((3, signal.SIGKILL, -signal.SIGKILL), (2, signal.SIGINT, 128 + signal.SIGINT)):
                async with asyncio.timeout(180):
                    while len(account.profiles) < people // share:
                        await asyncio.sleep(0.01)
                process.send_signal(way)
                assert await asyncio.to_thread(process.wait, 60) == code, (tmp_path / "backfill.log").read_text()
                assert len(account.events) < people
                process = start(environment, tmp_path, "klaviyo", "backfill")
            assert await asyncio.to_thread(process.wait, 180) == 0, (tmp_path / "backfill.log").read_text()[-3000:]
        finally:
            process.kill()
            process.wait()
        (found,) = await workspace.store.database.find("klaviyo_backfills", {"workspace_id": workspace.id})
        rows = await workspace.store.database.find("deliveries", {"workspace_id": workspace.id})
    assert (found["state"], found["total"], found["done"], found["failed"]) == ("DONE", 2 * people, 2 * people, 0)
    assert Counter((row["kind"], row["state"]) for row in rows) == {
        ("PROFILE", "DELIVERED"): people,
        ("EVENT", "DELIVERED"): people,
    }
    assert sorted(Counter(event.unique_id for event in account.events).values()) == [1] * people
    assert {event.backfill for event in account.events} == {True}
    assert len(account.profiles) == people
    shown = (tmp_path / "backfill.log").read_text()
    assert "sending history" in shown
    assert f"{found['_id']} is DONE: {2 * people} done, 0 failed.\n" in shown


async def test_check_says_what_is_wrong_with_a_key(open_gateway: Any, mongo: str, tmp_path: Path) -> None:
    account, database = Klaviyo(), f"test_{uuid.uuid4().hex[:12]}"
    async with listening(account) as url:
        live = {"klaviyo_mode": "live", "klaviyo_api_key": KEY, "klaviyo_base_url": url}
        async with open_gateway(database=database, rolls_up=False, **live) as gateway:
            workspace, klaviyo = await gateway.workspace(), gateway.runtime.klaviyo.service
            assert (await klaviyo.problem(workspace.id))[1] is None
            account.scopes_missing = frozenset({"create_event"})
            assert (await klaviyo.problem(workspace.id))[1].startswith(
                "The API key does not have the scope events:write: "
            )
            account.retired, account.scopes_missing = True, frozenset()
            retired = "Klaviyo has retired the revision 2026-10-15 of its API: "
            assert (await klaviyo.problem(workspace.id))[1].startswith(retired)
            account.revoked = True
            named = {f"GATEWAY_{name.upper()}": value for name, value in live.items()}
            checked = await run(environment_of(mongo, database, **named), "klaviyo", "check")
            assert checked.stdout.startswith("Klaviyo does not know this API key: "), (checked.stdout, checked.stderr)
            assert checked.returncode == 1
            assert KEY not in checked.stdout + checked.stderr
            assert [one.operation for one in account.asked] == ["create_event"] * 4
    async with open_gateway(database=database, rolls_up=False, **live) as gateway:
        problem = (await gateway.runtime.klaviyo.service.problem(workspace.id))[1]
        assert problem == "The API key could not be checked: Klaviyo gave no response (ConnectError). Try again."
    assert account.events == []
