"""`/readyz` says whether requests can be served, writes seldom, and is right while writes fail."""

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.store.embedded import embedded_server

TRACK = 'mutation { trackEvent(input: {contact: {externalId: "u"}, name: "did"}) { event { id } } }'
READ = "{ contacts(first: 1) { nodes { id } } }"


@pytest.fixture
async def quiet(open_gateway: Any, tmp_path: Path) -> AsyncIterator[Any]:
    """A gateway without work of its own, on a server of its own that nobody starts again, and that server's process id."""
    async with embedded_server(tmp_path, "secantusd-py") as uri:
        process = int(orjson.loads((tmp_path / "database.json").read_bytes())["pid"])
        async with open_gateway(uri=uri, rolls_up=False, mongo_timeout_seconds=5) as gateway:
            yield gateway, process


async def ready(gateway: Any) -> tuple[int, str]:
    response = await gateway.http.get(gateway.url.replace("/graphql", "/readyz"))
    return response.status_code, response.json()["status"]


async def test_it_writes_once_however_often_and_by_how_many_it_is_asked(quiet: Any) -> None:
    gateway, _ = quiet
    workspace = await gateway.workspace()
    await workspace.data(TRACK)
    gateway.commands.names.clear()
    for _ in range(20):
        assert await ready(gateway) == (200, "ok")
    assert set(await asyncio.gather(*(ready(gateway) for _ in range(50)))) == {(200, "ok")}
    assert gateway.commands.names.count("update") <= 1
    assert len(gateway.commands.names) < 70, "who asks at the same time shares the answer"


async def test_it_is_unready_and_calls_are_worth_another_try_while_writes_fail(quiet: Any) -> None:
    gateway, process = quiet
    workspace = await gateway.workspace()
    await workspace.data(TRACK)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    for query in (TRACK, TRACK, READ):
        (error,) = (await workspace.ask(query))["errors"]
        assert (error["extensions"]["code"], error["extensions"]["retryable"]) == ("UNAVAILABLE", True)
    status, reason = await ready(gateway)
    assert status == 503
    assert "database" in reason
