"""What documents leave in a process: those that are refused nothing, all others no more than the budget of the caches."""

import gc
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import psutil
import pytest
import websockets
from gateways import cache_weight

EVENT = {"contact": {"externalId": "u"}, "name": "did"}
LEAVES = "id externalId displayName email phone name firstName lastName role createdAt updatedAt lastSeenAt signedUpAt"
REFUSED: dict[str, dict[str, Any]] = {
    "no GraphQL": {"query": "{ viewer { "},
    "unknown fields": {"query": "{" + " ".join(f"unknownField{n}" for n in range(1500)) + "}"},
    "unknown types": {"query": "{ viewer { id } }" + " ".join(f"fragment f{n} on Unknwn{n} {{ id }}" for n in range(500))},
    "too many aliases": {"query": "{" + " ".join(f"a{n}: viewer {{ id }}" for n in range(300)) + "}"},
    "too many rows": {"query": "{ contacts(first: 100) { nodes { events(first: 100) { nodes { contact { events(first: 100) { nodes { id } } } } } } } }"},
    "no such operation": {"query": "query A { viewer { id } }", "operationName": "B"},
    "too long": {"query": "{ viewer { id } } #" + "x" * 200_000},
    "too long in bytes": {"query": "{ viewer { id } } #" + "\N{SNOWMAN}" * 40_000},
    "unused variables": {"query": f"query({' '.join(f'$v{n}: Int' for n in range(1200))}) {{ viewer {{ id }} }}"},
}  # fmt: skip


async def post(workspace: Any, sent: dict[str, Any]) -> Any:
    return await workspace.post("", raw=orjson.dumps(sent))


def by_hash(sent: dict[str, Any]) -> dict[str, Any]:
    digest = hashlib.sha256(sent["query"].encode()).hexdigest()
    return {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_refused_leaves_nothing_behind(workspace: Any, name: str) -> None:
    sent = REFUSED[name]
    await workspace.data("{ contacts(first: 1) { nodes { id } } }")  # its store is kept, too
    before = cache_weight(workspace.gateway)
    for _ in range(2):
        answers = [await post(workspace, sent), await post(workspace, {**sent, **by_hash(sent)})]
        headers = {"authorization": f"Bearer {workspace.key}"}
        if len(sent["query"]) < 8000:
            answers.append(await workspace.gateway.http.get(workspace.gateway.url, params=sent, headers=headers))
        assert all(answer.json()["errors"] and "data" not in answer.json() for answer in answers)
        assert (await by_socket(workspace, {**sent, **by_hash(sent)}))[0]["type"] == "error"
    assert cache_weight(workspace.gateway) == before
    (error,) = (await post(workspace, by_hash(sent))).json()["errors"]
    assert error["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND"


async def by_socket(workspace: Any, payload: dict[str, Any]) -> list[Any]:
    url, headers = workspace.gateway.url.replace("http:", "ws:"), {"authorization": f"Bearer {workspace.key}"}
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"], additional_headers=headers) as socket:  # type: ignore[list-item]
        await socket.send('{"type": "connection_init"}')
        await socket.recv()
        await socket.send(orjson.dumps({"type": "subscribe", "id": "1", "payload": payload}).decode())
        return [orjson.loads(await socket.recv())]


async def test_a_document_is_as_long_as_the_setting_allows(open_gateway: Any) -> None:
    async with open_gateway(max_document_bytes=1000) as gateway:
        workspace = await gateway.workspace()
        fits = "{ viewer { id } } #".ljust(1000, "x")
        assert "errors" not in (await post(workspace, {"query": fits})).json()
        for text in (fits + "x", "{ viewer { id } } #" + "\N{SNOWMAN}" * 330):
            refused = await post(workspace, {"query": text})
            (error,) = refused.json()["errors"]
            assert (refused.status_code, error["extensions"]["code"]) == (413, "LIMIT_EXCEEDED")
            assert "longer than 1000 bytes" in error["message"]
            assert "GATEWAY_MAX_DOCUMENT_BYTES" in error["message"]
            (message,) = await by_socket(workspace, {"query": text})
            assert message["payload"][0]["extensions"]["code"] == "LIMIT_EXCEEDED"


# ---- floods -----------------------------------------------------------------------------------------------------


def floods(copy: int) -> Iterator[dict[str, Any]]:
    """Documents that are as heavy as they may be, each in another way."""
    by = '(by: {externalId: "u"})'
    fragment = f"fragment F on Contact {{ {LEAVES} }}"
    many = " ".join(f"a{n}: contact{by} {{ ...F x{n}: id }}" for n in range(100))
    yield {"query": f"{{ {many} }} {fragment} #{copy}"}
    spelled = " ".join(f"a{n}: contact{by} {{ {LEAVES} }}" for n in range(150))
    yield {"query": f"{{ {spelled} }} #{copy}"}
    yield {
        "query": " ".join(f"query q{n} {{ contact{by} {{ {LEAVES} }} }}" for n in range(150)) + f"#{copy}",
        "operationName": "q1",
    }
    yield {"query": '{ node(id: "' + "x" * 90_000 + f'{copy}") {{ id }} }}'}
    yield {"query": "#\n" * 4000 + f"{{ viewer {{ id }} }} #{copy}"}
    conditions = " ".join(f"$v{n}: Boolean!" for n in range(5))
    tests = " ".join(f"v{n}: __typename @include(if: $v{n})" for n in range(5))
    few = " ".join(f"a{n}: contact{by} {{ {LEAVES} }}" for n in range(20))
    for number in range(8):
        variables = {f"v{n}": bool(number & 1 << n) for n in range(5)}
        yield {"query": f"query({conditions}) {{ {few} {tests} }} #{copy}", "variables": variables}


async def test_no_flood_of_documents_takes_more_than_the_budget(open_gateway: Any) -> None:
    budget = 8_000_000
    async with open_gateway(cache_bytes=budget, rate_limit="0") as gateway:
        workspace = await gateway.workspace()
        await workspace.track(EVENT)
        process, caches = psutil.Process(), gateway.runtime.caches

        async def flood(copies: range) -> None:
            for copy in copies:
                for sent in floods(copy):
                    for registered in ({}, by_hash(sent)):
                        answer = (await post(workspace, sent | registered)).json()
                        assert "errors" not in answer, str(answer)[:300]
                assert caches.weight <= budget

        await flood(range(1))  # 23 MB of what would be kept without a budget
        gc.collect()
        before = process.memory_info().rss
        await flood(range(1, 4))
        gc.collect()
        assert caches.weight > budget / 4
        assert process.memory_info().rss - before < 3 * budget


# ---- suggestions ------------------------------------------------------------------------------------------------


@contextmanager
def counted(name: str) -> Iterator[list[int]]:
    """How often functions of that name are called in this thread, the server's included."""
    calls = [0]

    def called(frame: Any, event: str, _: Any) -> None:
        calls[0] += event == "call" and frame.f_code.co_name == name

    sys.setprofile(called)
    try:
        yield calls
    finally:
        sys.setprofile(None)


FILTER = "query($f: ContactFilter) { contacts(filter: $f) { nodes { id } } }"
MISTAKES: dict[str, tuple[str, dict[str, Any]]] = {
    "fields": ("{" + " ".join(f"viewr{n}" for n in range(300)) + "}", {}),
    "fields below": ("{ viewer {" + " ".join(f"workspac{n} {{ id }}" for n in range(300)) + "} }", {}),
    "arguments": ("{ viewer { id } " + " ".join(f"a{n}: node(idd{n}: 1) {{ id }}" for n in range(150)) + "}", {}),
    "directives' arguments": ("{ " + " ".join(f"a{n}: viewer {{ id @skip(iff: true) }}" for n in range(90)) + "}", {}),
    "types": ("{ viewer { id } } " + " ".join(f"fragment f{n} on Contct{n} {{ id }}" for n in range(200)), {}),
    "types of variables": (f"query({' '.join(f'$v{n}: Strng{n}' for n in range(300))}) {{ viewer {{ id }} }}", {}),
    "input fields": ('{ contacts(filter: {and: [' + "{emial: 1} " * 200 + "]}) { nodes { id } } }", {}),
    "values": ("mutation { " + " ".join(f'a{n}: upsertContact(input: {{externalId: "u", role: USR{n}}}) {{ created }}' for n in range(150)) + " }", {}),
    "input fields in variables": (FILTER, {"f": {"and": [{f"emial{n}": 1} for n in range(300)]}}),
    "values in variables": ("mutation($i: UpsertContactInput!) { upsertContact(input: $i) { created } }", {"i": {"externalId": "u", "role": "USR"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
async def test_suggestions_are_not_computed_where_they_are_off(workspace: Any, name: str) -> None:
    query, variables = MISTAKES[name]
    with counted("suggestion_list") as calls:
        answer = await workspace.ask(query, variables)
    assert 1 <= len(answer["errors"]) <= 11
    assert calls == [0]


async def test_suggestions_are_computed_for_few_errors_where_they_are_on(open_gateway: Any) -> None:
    async with open_gateway(introspection=True) as gateway:
        workspace = await gateway.workspace()
        for query, variables in MISTAKES.values():
            with counted("suggestion_list") as calls:
                answer = await workspace.ask(query, variables)
            assert 1 <= len(answer["errors"]) <= 11
            assert calls[0] <= 11
