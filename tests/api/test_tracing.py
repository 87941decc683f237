"""Tracing, as a collector receives it: one span for each operation, below it one for each command to the database."""

import asyncio
import secrets
import threading
from typing import Any

import orjson
import pytest
import structlog
import websockets
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from gateway.settings import MongoDriver

SECRET = "hidden-from-collectors"
TRACK = f"""mutation Track($input: TrackEventInput!) {{
  {SECRET.replace("-", "_")}: trackEvent(input: $input) {{ event {{ id name }} summary {{ count }} userErrors {{ code }} }}
}}"""
NESTED = "query Nested { contacts(first: 2) { nodes { id events(first: 2) { nodes { name } } eventSummaries(first: 2) { nodes { count } } } } }"
WATCH = "subscription Watch { eventTracked { kind event { contact { externalId } } } }"
WELL, WRONG = Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR


def told(one: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in one.attributes}


def caller() -> tuple[dict[str, str], str, bytes]:
    """The header of a caller that traces; its trace, and its span."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return {"traceparent": f"00-{trace}-{span}-01"}, trace, bytes.fromhex(span)


async def asked(workspace: Any, query: str, headers: dict[str, str], **variables: Any) -> Any:
    response = await workspace.gateway.http.post(
        workspace.gateway.url,
        content=orjson.dumps({"query": query, "variables": variables}),
        headers={"content-type": "application/json", "authorization": f"Bearer {workspace.key}", **headers},
    )
    return response.json()


def an_event(number: int) -> dict[str, Any]:
    return {"contact": {"externalId": f"{SECRET}-{number}"}, "name": f"{SECRET}-event", "metadata": {"secret": SECRET}}


@pytest.mark.parametrize("driver", list(MongoDriver))
async def test_the_spans_of_a_mutation_and_of_a_nested_query(
    open_gateway: Any, collecting: Any, driver: MongoDriver
) -> None:
    with (
        collecting() as collector,
        structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs,
    ):
        async with open_gateway(mongo_driver=driver, tracing=collector.url) as gateway:
            workspace = await gateway.workspace()
            await workspace.track(*(an_event(number) for number in range(3)))
            track, nested = caller(), caller()
            answer = await asked(workspace, TRACK, track[0], input=an_event(0))
            assert answer["data"]["hidden_from_collectors"]["summary"] == {"count": 2}
            answer = await asked(workspace, NESTED, nested[0])
            assert len(answer["data"]["contacts"]["nodes"]) == 2

    operation, commands = collector.trace(track[1])
    assert (operation.name, operation.parent_span_id, operation.status.code) == ("mutation", track[2], WELL)
    (line,) = [line for line in logs if line["event"] == "operation" and line["name"] == "Track"]
    assert line["trace_id"] == track[1]
    named = {"graphql.operation.type": "mutation", "graphql.operation.name": "Track"}
    assert told(operation) == {"gateway.request_id": line["request_id"], **named}
    assert [span.name for span in commands] == [
        "find contacts",
        "update contacts",
        "insert events",
        "update event_summaries",
        "commitTransaction",
        "find event_summaries",
    ]
    insert = told(commands[2])
    assert (insert.pop("server.address"), type(insert.pop("server.port"))) == ("127.0.0.1", int)
    assert insert.pop("db.namespace").startswith("test_")
    assert insert == {"db.system.name": "mongodb", "db.operation.name": "insert", "db.collection.name": "events"}
    assert "db.collection.name" not in told(commands[4])

    operation, commands = collector.trace(nested[1])
    assert (operation.name, operation.parent_span_id) == ("query", nested[2])
    names = [span.name for span in commands]
    assert names == [*(["find contacts"] * (len(names) - 2)), "aggregate contacts", "aggregate contacts"]
    for span in commands:
        assert operation.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= operation.end_time_unix_nano

    service = told(collector.groups[0].resource)
    assert (service["service.name"], service["service.version"]) == ("gateway", "0.1.0")
    asking = [line["trace_id"] for line in logs if line["event"] == "operation"]
    assert {span.trace_id.hex() for span in collector.spans} == set(asking), "the bus belongs to nobody's trace"
    for hidden in (SECRET, "hidden_from_collectors", workspace.key.partition(".")[2]):
        assert not any(hidden.encode() in body for body in collector.bodies)


async def test_the_spans_of_a_socket(open_gateway: Any, collecting: Any) -> None:
    with collecting() as collector:
        async with open_gateway(tracing=collector.url) as gateway:
            workspace = await gateway.workspace()
            await workspace.track(an_event(0))
            shaken, named = caller(), caller()
            async with websockets.connect(
                gateway.url.replace("http:", "ws:"),
                subprotocols=["graphql-transport-ws"],
                additional_headers={"authorization": f"Bearer {workspace.key}", **shaken[0]},
            ) as socket:

                async def receive(**sent: Any) -> Any:
                    await socket.send(orjson.dumps(sent).decode())
                    return orjson.loads(await asyncio.wait_for(socket.recv(), 30))

                def subscribe(id_: str, query: str, **payload: Any) -> dict[str, Any]:
                    return {"type": "subscribe", "id": id_, "payload": {"query": query, **payload}}

                assert (await receive(type="connection_init"))["type"] == "connection_ack"
                assert (await receive(**subscribe("1", NESTED)))["type"] == "next"
                assert orjson.loads(await socket.recv()) == {"type": "complete", "id": "1"}
                strange = {"traceparent": ["00"], "tracestate": 1}
                refused = await receive(**subscribe("2", "query Wrong { nothing }", extensions=strange))
                assert refused["type"] == "error"
                await socket.send(orjson.dumps(subscribe("3", WATCH, extensions=named[0])).decode())
                while gateway.runtime.services.metrics.subscribers._value.get() < 1:
                    await asyncio.sleep(0.01)
                await workspace.track(an_event(1))
                told_of = orjson.loads(await asyncio.wait_for(socket.recv(), 30))["payload"]["data"]["eventTracked"]
                assert told_of["event"]["contact"] == {"externalId": f"{SECRET}-1"}

    watch, commands = collector.trace(named[1])
    assert (watch.name, watch.parent_span_id, commands) == ("subscription", named[2], [])
    assert told(watch)["graphql.operation.name"] == "Watch"
    below_shaken = [span for span in collector.spans if span.parent_span_id == shaken[2]]
    assert {span.trace_id.hex() for span in below_shaken} == {shaken[1]}
    assert [(told(span)["graphql.operation.name"], told(span).get("error.type")) for span in below_shaken] == [
        ("Nested", None),
        ("Wrong", "BAD_REQUEST"),
    ]


async def test_what_is_refused_and_who_is_not_sampled(open_gateway: Any, collecting: Any) -> None:
    with collecting() as collector:
        async with open_gateway(tracing=collector.url) as gateway:
            workspace = await gateway.workspace()
            no_key, wrong, malformed, unsampled = caller(), caller(), caller()[1], caller()[1]
            await asked(workspace, "{ viewer { id } }", {**no_key[0], "authorization": "Bearer nobody"})
            await asked(workspace, "query Wrong { contact(by: {}) { id } }", wrong[0])
            for header in (f"00-{malformed}-1-01", f"00-{unsampled}-{secrets.token_hex(8)}-00"):
                assert "errors" not in await asked(workspace, NESTED, {"traceparent": header})

    operation, _ = collector.trace(no_key[1])
    assert (operation.name, operation.status.code) == ("GraphQL Operation", WELL)
    assert told(operation)["error.type"] == "UNAUTHENTICATED"
    operation, _ = collector.trace(wrong[1])
    assert (told(operation)["error.type"], operation.status.code) == ("BAD_REQUEST", WELL)
    (malformed_one,) = [span for span in collector.spans if told(span).get("graphql.operation.name") == "Nested"]
    assert malformed_one.parent_span_id == b""
    assert malformed_one.trace_id.hex() not in (malformed, unsampled)


async def test_what_is_the_gateway_s_fault_is_an_error(open_gateway: Any, collecting: Any) -> None:
    with collecting() as collector:
        async with open_gateway(tracing=collector.url) as gateway:
            workspace = await gateway.workspace()
            await workspace.track(an_event(0))
            broken = {"$set": {"external_id": {"no": "text"}}}
            assert await gateway.runtime.database.update("contacts", {"workspace_id": workspace.id}, broken) == 1
            fault = caller()
            answer = await asked(workspace, "{ contacts(first: 1) { nodes { externalId } } }", fault[0])
            assert answer["errors"][0]["extensions"]["code"] == "INTERNAL"
    operation, _ = collector.trace(fault[1])
    assert (told(operation)["error.type"], operation.status.code) == ("INTERNAL", WRONG)


async def test_a_collector_that_refuses_is_told_of_once(
    open_gateway: Any, collecting: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    with collecting(status=400) as collector, structlog.testing.capture_logs() as logs:
        async with open_gateway(tracing=collector.url) as gateway:
            workspace = await gateway.workspace()
            await ask_until(workspace, lambda: len(collector.bodies) >= 3)
            collector.status = 200
            await ask_until(workspace, lambda: any(line["event"] == "traces are exported again" for line in logs))
            assert any(thread.name.startswith("OtelBatch") for thread in threading.enumerate())
        said = [(line["log_level"], line["event"]) for line in logs if line["event"].startswith("traces")]
    assert said == [("warning", "traces cannot be exported and are lost"), ("info", "traces are exported again")]
    assert not any(thread.name.startswith("OtelBatch") for thread in threading.enumerate())
    assert "export" not in capfd.readouterr().err


async def ask_until(workspace: Any, happened: Any) -> None:
    async with asyncio.timeout(60):
        while not happened():
            assert "errors" not in await asked(workspace, "{ viewer { id } }", {})
