"""How late projections are, by a process that does not hold their leases: metrics, the log, and /readyz."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

from structlog.testing import capture_logs

SOON = timedelta(seconds=3)
SAVED = 'mutation { saveSegment(input: {name: "s", filter: {externalId: {known: true}}}) { segment { id } } }'


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.1)


async def get(gateway: Any, path: str) -> Any:
    return await gateway.http.get(gateway.url.removesuffix("/graphql") + path)


async def metric(gateway: Any, name: str) -> float:
    lines = (await get(gateway, "/metrics")).text.splitlines()
    return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name)))


async def test_who_does_not_read_the_stream_sees_that_nobody_does_and_that_somebody_does_again(
    open_gateway: Any,
) -> None:
    database = f"late_{uuid.uuid4().hex[:8]}"
    async with open_gateway(database=database, rolls_up=False, projection_stall_seconds=2) as watching:
        workspace = await watching.workspace()
        assert (await get(watching, "/readyz")).status_code == 200
        with capture_logs() as logs:
            await workspace.track({"contact": {"externalId": "u"}, "name": "did"})

            async def unready() -> bool:
                return (await get(watching, "/readyz")).status_code == 503

            await until(unready)
        answer = (await get(watching, "/readyz")).json()["status"]
        assert answer.startswith("the projection 'definitions' has stood still for ")
        assert await metric(watching, "gateway_roll_up_lag_seconds") >= 2
        assert await metric(watching, 'gateway_projection_stalled_seconds{projection="definitions"}') >= 2
        assert await metric(watching, "gateway_segment_lag_seconds") == 0  # there is no segment
        stood = [log for log in logs if log["event"] == "a projection stands still"]
        assert [(log["log_level"], log["projection"]) for log in stood] == [("error", "definitions")]
        with capture_logs() as logs:
            async with open_gateway(database=database):

                async def ready() -> bool:
                    return (await get(watching, "/readyz")).status_code == 200

                await until(ready)
                assert await metric(watching, "gateway_roll_up_lag_seconds") < 2
                assert await metric(watching, 'gateway_projection_stalled_seconds{projection="definitions"}') < 2
        assert [log["event"] for log in logs if log.get("projection")] == ["a projection goes on again"]


async def test_a_quiet_hour_is_no_standstill(open_gateway: Any) -> None:
    async with open_gateway(projection_stall_seconds=0.5) as gateway:
        workspace = await gateway.workspace()
        await workspace.data(SAVED)
        await workspace.track({"contact": {"externalId": "u"}, "name": "did"})

        async def caught_up() -> bool:
            rows = {row["_id"]: row for row in await gateway.runtime.services.store.roll_ups.all()}
            places = [rows.get(name, {}).get("position_at") for name in ("definitions", "segments")]
            return all(place and gateway.runtime.services.bus.oldest_after(tuple(place)) is None for place in places)

        await until(caught_up)
        for _ in range(4):
            await asyncio.sleep(1.1)
            lags = [await metric(gateway, f"gateway_{name}_lag_seconds") for name in ("roll_up", "segment")]
            assert lags == [0, 0]
            assert (await get(gateway, "/readyz")).json() == {"status": "ok"}


async def test_a_lease_that_is_held_by_who_does_nothing_is_seen(open_gateway: Any) -> None:
    async with open_gateway(projection_stall_seconds=1) as gateway:
        workspace = await gateway.workspace()
        await workspace.data(SAVED)
        store = gateway.runtime.services.store

        async def held() -> bool:
            return {"definitions", "segments"} <= {row["_id"] for row in await store.roll_ups.all() if row["owner"]}

        await until(held)
        names = ["definitions", "segments"]

        async def steal() -> None:
            while True:  # somebody who renews, and never reads
                for name in names:
                    change = {"$set": {"owner": "idle", "until": await store.database.now() + SOON}}
                    await store.database.update("roll_ups", {"_id": name}, change)
                await asyncio.sleep(0.2)

        stealing = asyncio.create_task(steal())
        try:
            for number in range(3):
                await workspace.track({"contact": {"externalId": f"u{number}"}, "name": "did"})
                await asyncio.sleep(1)

            async def reported() -> bool:
                stalled = [
                    await metric(gateway, f'gateway_projection_stalled_seconds{{projection="{name}"}}')
                    for name in names
                ]
                return min(stalled) >= 1

            await until(reported)
            assert (await get(gateway, "/readyz")).status_code == 503
        finally:
            stealing.cancel()
            await asyncio.wait([stealing])


async def test_a_change_that_is_unknown_or_incomplete_is_skipped_with_a_warning(open_gateway: Any) -> None:
    async with open_gateway() as gateway:
        workspace = await gateway.workspace()
        segment = (await workspace.data(SAVED))["saveSegment"]["segment"]["id"]
        store = workspace.store
        spoiled = [
            {"_id": "chg_spoiled_1"},
            {"_id": "chg_spoiled_2", "workspace_id": workspace.id, "subject": "contact", "contact_id": "con_1"},
            {"_id": "chg_spoiled_3", "workspace_id": workspace.id, "subject": "contact", "kind": "RENAMED"},
            {"_id": "chg_spoiled_4", "workspace_id": workspace.id, "subject": "summaries", "kind": "MERGED"},
        ]

        async def reading() -> bool:
            rows = await gateway.runtime.services.store.roll_ups.all()
            return {"definitions", "segments"} <= {row["_id"] for row in rows if row.get("position_at")}

        await until(reading)
        with capture_logs() as logs:
            await store.database.insert("changes", spoiled)
            await workspace.track({"contact": {"externalId": "u"}, "name": "did"})

            async def caught_up() -> bool:
                (definition,) = (await store.definitions.by_names(["did"])).values()
                return definition.get("count") == 1 and len(await store.members.some(segment, 2)) == 1

            await until(caught_up)
        skipped = [(log["reader"], log["change_id"]) for log in logs if log["log_level"] == "warning"]
        assert sorted(skipped) == [(reader, row["_id"]) for reader in ("definitions", "segments") for row in spoiled]
        assert {log["event"] for log in logs if log["log_level"] == "warning"} == {
            "change is unknown or incomplete; skipped"
        }
