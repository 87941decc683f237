"""`gateway serve`: several worker processes, one truth; JSON logs without secrets, metrics, a graceful end."""

import asyncio
import signal
import subprocess
import sys
from typing import Any

import httpx
import orjson
import pytest
import websockets
from processes import new_workspace

TRACK = 'mutation Track($n: Int!) { trackEvent(input: {contact: {externalId: "u"}, name: "served", metadata: {n: $n}}) { event { id } } }'
WATCH = "subscription($after: String) { eventTracked(after: $after) { cursor event { id } } }"


@pytest.fixture
def environment(mongo: str, tmp_path: Any) -> dict[str, str]:
    return {"GATEWAY_MONGO_URI": mongo, "GATEWAY_MONGO_DATABASE": f"serve_{tmp_path.name[-20:]}".replace("-", "_")}


def test_it_says_what_to_do_first(program: Any, environment: dict[str, str], free_port: Any) -> None:
    without = program.run("serve", "--port", str(free_port()))
    assert (without.returncode, "Set GATEWAY_MONGO_URI" in without.stderr) == (1, True)
    unmigrated = program.run("serve", "--port", str(free_port()), **environment)
    untraced = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['opentelemetry'] = None; import gateway.cli as c; c.main()",
            "migrate",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env={**program.environment, **environment, "GATEWAY_TRACING": "http://127.0.0.1:1"},
    )
    assert (untraced.returncode, untraced.stderr.strip()) == (
        1,
        "GATEWAY_TRACING needs opentelemetry, which is not installed: run "
        "'pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http', or unset it.",
    )
    assert (unmigrated.returncode, unmigrated.stderr.strip()) == (
        1,
        "The database is not migrated: run 'gateway migrate' first.",
    )


async def test_what_is_tracked_through_one_worker_is_received_through_all(
    program: Any, environment: dict[str, str], free_port: Any, started: Any, collecting: Any
) -> None:
    with collecting() as collector:
        await track_and_receive(program, {**environment, "GATEWAY_TRACING": collector.url}, free_port(), started)
    lines = [orjson.loads(line) for line in program.log.splitlines() if line.startswith("{")]
    tracked = [line for line in lines if line["event"] == "operation" and line["name"] == "Track"]
    assert len(tracked) == 10
    assert [line["loop"] for line in lines if line["event"] == "open"] == ["uvloop", "uvloop"]
    for line in tracked:  # each worker has its spans sent, also at its end
        operation, commands = collector.trace(line["trace_id"])
        assert operation.name == "mutation"
        assert "commitTransaction" in [span.name for span in commands]


async def track_and_receive(program: Any, environment: dict[str, str], port: int, started: Any) -> None:
    key = await new_workspace(environment, "READ", "TRACK")
    url = f"http://127.0.0.1:{port}"
    headers = {"authorization": f"Bearer {key}"}
    async with started(program, port, "serve", "--port", str(port), "--workers", "2", **environment) as process:
        sockets = [
            await websockets.connect(
                f"ws://127.0.0.1:{port}/graphql", subprotocols=["graphql-transport-ws"], additional_headers=headers
            )
            for _ in range(8)
        ]
        for socket in sockets:
            await socket.send('{"type": "connection_init"}')
            assert orjson.loads(await socket.recv()) == {"type": "connection_ack"}
        async with httpx.AsyncClient(headers=headers) as http:
            cursor = (await http.post(f"{url}/graphql", json={"query": "{ streamCursor }"})).json()["data"][
                "streamCursor"
            ]
        for socket in sockets:
            await socket.send(
                orjson.dumps(
                    {"type": "subscribe", "id": "1", "payload": {"query": WATCH, "variables": {"after": cursor}}}
                ).decode()
            )
        sent = []
        for number in range(10):
            async with httpx.AsyncClient(headers=headers) as http:  # a connection each, so that both workers are met
                answer = (await http.post(f"{url}/graphql", json={"query": TRACK, "variables": {"n": number}})).json()
            sent.append(answer["data"]["trackEvent"]["event"]["id"])
        for socket in sockets:
            seen = [
                orjson.loads(await asyncio.wait_for(socket.recv(), 10))["payload"]["data"]["eventTracked"]["event"][
                    "id"
                ]
                for _ in sent
            ]
            assert seen == sent
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(f"{url}/metrics")).text
            assert (await http.get(url)).status_code == 404
            schema = await http.post(f"{url}/graphql", json={"query": "{ __schema { queryType { name } } }"})
            assert schema.status_code == 401
        assert 'gateway_operations_total{operation="Track",outcome="ok"} 10.0' in metrics
        assert 'gateway_tracked_events_total{outcome="added"} 10.0' in metrics
        assert "gateway_subscribers 8.0" in metrics
        assert 'gateway_operations_total{operation="anonymous",outcome="subscribed"} 8.0' in metrics
        await check_refusals(url)
        process.send_signal(signal.SIGTERM)
        closed = [await asyncio.wait_for(_closed(socket), 20) for socket in sockets]
        assert set(closed) == {1012}
        assert await asyncio.to_thread(process.wait, 30) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert key.partition(".")[2] not in program.log
    assert "Traceback" not in program.log


async def check_refusals(url: str) -> None:
    async with httpx.AsyncClient() as http:
        wrong = {"authorization": "Bearer nobody"}
        assert (await http.post(f"{url}/graphql", json={"query": "{ x }"}, headers=wrong)).status_code == 401
        metrics = (await http.get(f"{url}/metrics")).text
    assert 'gateway_refused_operations_total{code="UNAUTHENTICATED"} 2.0' in metrics


async def _closed(socket: Any) -> int | None:
    await socket.wait_closed()
    code: int | None = socket.close_code
    return code
