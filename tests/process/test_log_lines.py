"""Log lines of `gateway serve`: JSON without exception, one for each request, and nothing of what callers write in them."""

import asyncio
import subprocess
import sys
from typing import Any

import httpx
import orjson
import pytest
import websockets
from processes import new_workspace

SECRET = "key_supersecretvalue"
PROVOKE = """
import asyncio, logging, sys, threading, warnings
from gateway.observability import configure_logs, log_uncaught_exceptions
import structlog
configure_logs("INFO", json=True)
log_uncaught_exceptions()
logging.getLogger("uvicorn.error").error("two\\nlines \\x1b[31m")
try:
    raise ValueError("first\\nsecond")
except ValueError:
    logging.getLogger("websockets").exception("failed")
    structlog.get_logger("ours").exception("failed\\nhere", name="a\\n{\\"event\\": \\"forged\\"}")
warnings.warn("old\\nthing")
async def main():
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    del task
async def fail():
    raise RuntimeError("never retrieved")
asyncio.run(main())
class Broken:
    def __del__(self):
        raise RuntimeError("unraisable")
Broken()
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise SystemError("uncaught\\nat the end")
"""


def json_lines(text: str) -> list[Any]:
    """Every line, each of which is an object of JSON with an event."""
    lines = [orjson.loads(line) for line in text.splitlines()]
    assert all(isinstance(line, dict) and line["event"] and line["level"] and line["timestamp"] for line in lines)
    return lines


async def test_whatever_is_said_is_json() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROVOKE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert out == b""
    events = [line["event"].partition("\n")[0] for line in json_lines(err.decode())]
    assert "forged" not in events
    for event in (
        "two",
        "failed",
        "Task exception was never retrieved",
        "uncaught exception in a thread",
        "uncaught exception",
    ):
        assert event in events, events
    assert any("old" in line["event"] for line in json_lines(err.decode()))


@pytest.mark.parametrize("json", [True, False])
def test_no_text_looks_like_another_line(json: bool) -> None:
    program = f"""
import logging, structlog
from gateway.observability import configure_logs
configure_logs("INFO", json={json})
structlog.get_logger("a").info("operation", name="x\\n2026-01-01 [info] forged\\r\\x1b[2J\\u2028")
logging.getLogger("b").error("first\\nforged %s", "\\x1b[31m")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={"NO_COLOR": "1"})
    assert len(done.stderr.splitlines()) == 2, done.stderr
    assert "\x1b[2J" not in done.stderr


@pytest.fixture
def environment(mongo: str, tmp_path: Any) -> dict[str, str]:
    return {"GATEWAY_MONGO_URI": mongo, "GATEWAY_MONGO_DATABASE": f"logs_{tmp_path.name[-20:]}".replace("-", "_")}


async def test_each_request_has_one_line(
    program: Any, environment: dict[str, str], free_port: Any, started: Any
) -> None:
    key, port = await new_workspace(environment, "READ", "TRACK"), free_port()
    authorization = {"authorization": f"Bearer {key}"}
    url = f"http://127.0.0.1:{port}/graphql"
    cases: list[tuple[dict[str, str], bytes, str | None]] = [
        (authorization, b'{"query": "query Ok { viewer { id } }"}', None),
        (authorization, b'{"query": "{ nothing }"}', "BAD_REQUEST"),
        (authorization, b'{"query": "{ contacts(first: 0) { nodes { id } } }"}', "BAD_REQUEST"),
        (authorization, b"{", "BAD_REQUEST"),
        (authorization, b'{"query": "{"}', "BAD_REQUEST"),
        (authorization, b'{"query": "query ' + b"A" * 90_000 + b' { viewer { id } }"}', None),
        (authorization, b'{"query": "{ __schema { queryType { name } } }"}', "FORBIDDEN"),
        ({"authorization": f"Bearer {SECRET}"}, b'{"query": "{ viewer { id } }"}', "UNAUTHENTICATED"),
        ({}, b'{"query": "{ viewer { id } }"}', "UNAUTHENTICATED"),
        (
            authorization,
            b'{"query": "{ viewer { id } }", "operationName": "\\n{\\"event\\": \\"forged\\"}"}',
            "BAD_REQUEST",
        ),
    ]
    ids = []
    async with started(program, port, "serve", "--port", str(port), **environment):
        async with httpx.AsyncClient() as http:
            for headers, body, _ in cases:
                response = await http.post(
                    url, content=body, headers={**headers, "content-type": "application/json", "x-evil": "a"}
                )
                ids.append(response.headers["x-request-id"])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"NONSENSE \x00\r\n\r\n")
        await reader.read()
        writer.close()
        async with websockets.connect(
            url.replace("http", "ws"), subprotocols=["graphql-transport-ws"], additional_headers=authorization
        ) as socket:
            await socket.send('{"type": "connection_init"}')
            await socket.recv()
            for id_, query in (("1", "query Socket { viewer { id } }"), ("2", "{"), ("3", "{ nothing }")):
                await socket.send(orjson.dumps({"type": "subscribe", "id": id_, "payload": {"query": query}}).decode())
                while orjson.loads(await socket.recv())["type"] not in ("complete", "error"):
                    pass
    log = program.log
    lines = json_lines(log)
    for request_id, (*_, code) in zip(ids, cases, strict=True):
        (line,) = [line for line in lines if line.get("request_id") == request_id]
        assert (line["event"], line.get("code"), line["outcome"] == "ok") == ("operation", code, code is None)
    others = [line for line in lines if line["event"] == "operation" and line["request_id"] not in ids]
    assert [(line["name"], line.get("code")) for line in others] == [
        ("Socket", None),
        (None, "BAD_REQUEST"),
        (None, "BAD_REQUEST"),
    ]
    assert SECRET not in log
    assert key.partition(".")[2] not in log
    assert "forged" not in log
    assert max(map(len, log.splitlines())) < 5000


async def test_a_worker_that_cannot_start_says_so_in_json(environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from gateway.serving import application; application()",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, "GATEWAY_MAX_COST": "lots"},
    )
    _, err = await process.communicate()
    (line,) = json_lines(err.decode())
    assert process.returncode == 1
    assert "GATEWAY_MAX_COST" in line["reason"]
