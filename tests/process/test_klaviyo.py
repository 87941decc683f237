"""Two workers deliver what is queued, are killed at random, and meet a Klaviyo that misbehaves: all arrives, once, in order."""

import asyncio
import os
import random
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from klaviyo_stand_in import KEY, Fault, Kind, Klaviyo, at_random, listening

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


def start(environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "worker.log").open("ab") as log:
        command = [str(Path(sys.executable).parent / "gateway"), "worker", "--data", str(folder / "data")]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


async def states(workspace: Any) -> Counter[str]:
    rows = await workspace.store.database.find("deliveries", {"workspace_id": workspace.id}, projection=["state"])
    return Counter(row["state"] for row in rows)


async def test_two_workers_that_are_killed_deliver_all_of_it_once_and_in_order(
    open_gateway: Any, mongo: str, rust_mongo: str, tmp_path: Path
) -> None:
    chance, account = random.Random(11), Klaviyo()
    uri, database = rust_mongo or mongo, f"test_{uuid.uuid4().hex[:12]}"
    async with (
        listening(account) as url,
        open_gateway(uri=uri, database=database, rolls_up=False, secret_key=SECRET) as gateway,
    ):
        workspace = await gateway.workspace()
        await gateway.runtime.services.syncs.connect(workspace.id, KEY, url, forward_all=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        environment |= {"GATEWAY_MONGO_URI": uri, "GATEWAY_MONGO_DATABASE": database, "GATEWAY_SECRET_KEY": SECRET}
        account.misbehave = at_random(chance, 0.25, *FAULTS)
        workers = [start(environment, tmp_path) for _ in range(2)]
        try:
            for number in range(EVENTS_EACH):
                await workspace.track(
                    *(
                        {"name": "step", "contact": {"email": f"p{who}@shop.example"}, "metadata": {"n": number + 1}}
                        for who in range(CONTACTS)
                    )
                )
            for _ in range(4):
                await asyncio.sleep(chance.uniform(0.5, 3))
                victim = chance.randrange(2)
                workers[victim].kill()
                workers[victim].wait()
                workers[victim] = start(environment, tmp_path)
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


def backfill(environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "backfill.log").open("ab") as log:
        command = [str(Path(sys.executable).parent / "gateway"), "klaviyo", "backfill", "--data", str(folder / "data")]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


async def test_a_backfill_that_is_killed_half_way_goes_on_and_repeats_nothing(
    open_gateway: Any, mongo: str, rust_mongo: str, tmp_path: Path
) -> None:
    account, people = Klaviyo(), 250
    uri, database = rust_mongo or mongo, f"test_{uuid.uuid4().hex[:12]}"
    begin = 'mutation($c: ContactRef!) { createConversation(input: {contact: $c, body: "Help"}) { userErrors { message } } }'
    async with (
        listening(account) as url,
        open_gateway(uri=uri, database=database, rolls_up=False, secret_key=SECRET) as gateway,
    ):
        workspace = await gateway.workspace()
        for number in range(people):
            await workspace.data(begin, {"c": {"email": f"p{number}@shop.example"}})
        await gateway.runtime.services.syncs.connect(workspace.id, KEY, url)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        environment |= {"GATEWAY_MONGO_URI": uri, "GATEWAY_MONGO_DATABASE": database, "GATEWAY_SECRET_KEY": SECRET}
        checked = await asyncio.to_thread(
            subprocess.run,
            [str(Path(sys.executable).parent / "gateway"), "klaviyo", "check", "--data", str(tmp_path / "data")],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert (checked.returncode, checked.stdout) == (
            0,
            "Klaviyo knows the key, and takes events of revision 2026-10-15. The sync is RUNNING.\n",
        ), checked.stderr
        process = backfill(environment, tmp_path)
        try:
            async with asyncio.timeout(120):
                while len(account.profiles) < people // 2:
                    await asyncio.sleep(0.01)
            process.kill()
            process.wait()
            assert len(account.events) < people
            process = backfill(environment, tmp_path)
            assert await asyncio.to_thread(process.wait, 240) == 0, (tmp_path / "backfill.log").read_text()[-3000:]
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
    assert len(account.profiles) == people
