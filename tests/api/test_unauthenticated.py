"""What callers without a valid credential get: an answer before anything of theirs is read, and little of it."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
import websockets
from gateways import cache_weight
from graphql import get_introspection_query

from gateway.app import create_app
from gateway.auth import Authenticator
from gateway.core.principals import Scope
from gateway.server.uvicorn_websocket import SocketProtocol

ASK = "{ viewer { id } }"
SPREADS = " ".join(f"fragment f{n} on Query {{ ...{{ ...f{n + 1} }} ...{{ ...f{n + 1} }} }}" for n in range(22))
STRANGERS = {
    "a query": {"query": ASK},
    "the name of a type": {"query": "{ __typename }"},
    "the schema": {"query": "{ __schema { queryType { name } } }"},
    "unknown spreads": {"query": SPREADS + " fragment f22 on Query { ...nope } { ...f0 }"},
    "no GraphQL": {"query": "{"},
    "no query": {},
    "an id": {"documentId": "a"},
    "a hash": {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}},
    "a mutation": {"query": 'mutation { trackEvent(input: {contact: {externalId: "u"}, name: "n"}) { duplicate } }'},
    "a subscription": {"query": "subscription { eventTracked { kind } }"},
}


@pytest.fixture(scope="module")
async def open_schema(open_gateway: Any) -> Any:
    """A gateway that answers introspection without a key."""
    async with open_gateway(introspection=True) as gateway:
        yield gateway


async def post(gateway: Any, sent: Any, **headers: str) -> httpx.Response:
    return await gateway.http.post(
        gateway.url, content=orjson.dumps(sent), headers={"content-type": "application/json", **headers}
    )


async def get(gateway: Any, sent: dict[str, Any], **headers: str) -> httpx.Response:
    parameters = {
        name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in sent.items()
    }
    return await gateway.http.get(gateway.url, params=parameters, headers=headers)


def traces(gateway: Any) -> tuple[int, str]:
    """What a request leaves behind: what the caches weigh, and the documents that were read."""
    text = gateway.runtime.services.metrics.text().decode()
    return gateway.runtime.caches.weight, "\n".join(
        line for line in text.splitlines() if "gateway_documents_total{" in line
    )


def code(response: httpx.Response) -> str:
    (error,) = response.json()["errors"]
    assert "data" not in response.json()
    return str(error["extensions"]["code"])


# ---- nothing of theirs is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRANGERS)
async def test_without_a_credential_nothing_is_parsed_and_the_answer_says_how_to_send_one(
    gateway: Any, name: str
) -> None:
    await get(gateway, {})  # the address is counted from now on
    before = traces(gateway)
    for send in (post, get):
        response = await send(gateway, STRANGERS[name])
        assert (response.status_code, code(response)) == (401, "UNAUTHENTICATED")
        assert "'Authorization: Bearer <key>'" in response.json()["errors"][0]["message"]
        assert response.headers["www-authenticate"] == "Bearer"
    assert traces(gateway) == before


async def test_bodies_that_are_no_operations_are_no_exception(gateway: Any) -> None:
    for content, type_ in ((b"[" * 100_000, "application/json"), (b"\xff", "application/json"), (b"a=b", "text/plain")):
        response = await gateway.http.post(gateway.url, content=content, headers={"content-type": type_})
        assert (response.status_code, code(response)) == (401, "UNAUTHENTICATED")


@contextlib.asynccontextmanager
async def raw(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def answered(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


@contextlib.asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[str]:
    """That application on a port of its own."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off", ws=SocketProtocol, **options)
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/graphql"
    server.should_exit = True
    await task


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_the_answer_comes_before_the_body_and_the_connection_goes_on(gateway: Any, http: str) -> None:
    workspace = await gateway.workspace()
    runtime = gateway.runtime
    body = orjson.dumps({"query": ASK})
    head = (
        f"POST /graphql HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    )
    async with serving(create_app(runtime, runtime.authenticator()), http=http) as url, raw(url) as (reader, writer):
        for _ in range(2):
            writer.write(head.encode() + b"\r\n")
            status, _, content = await answered(reader)
            assert (status, b"UNAUTHENTICATED" in content) == (401, True)
            writer.write(body[:5])
            await asyncio.sleep(0)
            writer.write(body[5:])
        writer.write(f"{head}authorization: Bearer {workspace.key}\r\n\r\n".encode() + body)
        status, _, content = await answered(reader)
        assert (status, orjson.loads(content)["data"]["viewer"]["id"]) == (200, workspace.key.partition(".")[0])


async def test_a_client_that_expects_a_100_gets_the_refusal_and_a_closed_connection(gateway: Any) -> None:
    async with raw(gateway.url) as (reader, writer):
        writer.write(b"POST /graphql HTTP/1.1\r\nhost: gateway\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n")
        status, headers, _ = await answered(reader)
        assert (status, headers["connection"]) == (401, "close")
        assert await reader.read() == b""


async def test_a_page_of_an_allowed_origin_may_ask_before_it_sends_its_key(open_gateway: Any) -> None:
    origin = "https://app.example.com"
    async with open_gateway(allowed_origins=(origin,)) as gateway:
        asked = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        }
        preflight = await gateway.http.options(gateway.url, headers={"origin": origin, **asked})
        assert preflight.status_code == 200
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        refused = await post(gateway, {"query": ASK}, origin=origin)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin)


# ---- the schema, where introspection is on -------------------------------------------------------------------------------

ALL = get_introspection_query(
    descriptions=True, specified_by_url=True, directive_is_repeatable=True, schema_description=True, input_value_deprecation=True, one_of=True
)  # fmt: skip
ANSWERED = {
    "graphql-js": {"query": ALL, "operationName": "IntrospectionQuery"},
    "graphql-js, short": {"query": get_introspection_query(descriptions=False)},
    "urql": {"query": "query IntrospectionQuery { __schema { queryType { name } mutationType { name } subscriptionType { name } types { kind name possibleTypes { kind name } enumValues(includeDeprecated: true) { name } fields(includeDeprecated: true) { name args { name type { kind name ofType { kind name } } } type { kind name ofType { kind name ofType { kind name } } } } interfaces { name } } directives { name locations args { name } } } }"},
    "Apollo Federation's check": {"query": "query($name: String!) { __type(name: $name) { name kind } }", "variables": {"name": "Contact"}},
    "a health check": {"query": "{ __typename }"},
    "fragments": {"query": "{ ...A ... on Query { ...B } } fragment A on Query { __typename } fragment B on Query { __schema { queryType { ...T } } } fragment T on __Type { name }"},
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERED)
async def test_where_introspection_is_on_the_schema_needs_no_key(open_schema: Any, name: str) -> None:
    workspace = await open_schema.workspace()
    await get(open_schema, {})
    before = cache_weight(open_schema)
    for send in (post, get):
        answer = await send(open_schema, ANSWERED[name])
        assert answer.status_code == 200, answer.text
        assert "errors" not in answer.json()
        assert cache_weight(open_schema) == before
        assert (
            answer.json() == (await send(open_schema, ANSWERED[name], authorization=f"Bearer {workspace.key}")).json()
        )
        before = cache_weight(open_schema)


HASHED = {"query": "{ __typename }", "extensions": {"persistedQuery": {"version": 1, "sha256Hash": hashlib.sha256(b"{ __typename }").hexdigest()}}}  # fmt: skip
REFUSED: dict[str, dict[str, Any]] = {
    **{name: sent for name, sent in STRANGERS.items() if name not in ("the name of a type", "the schema")},
    "another field": {"query": "{ __typename viewer { id } }"},
    "another field in a fragment": {"query": "{ ...A } fragment A on Query { ... { __typename viewer { id } } }"},
    "another field in a fragment that is met below": {"query": "{ __schema { queryType { name } } ...A } fragment A on Query { viewer { id } }"},
    "another field under that name": {"query": "{ __schema: viewer { id } }"},
    "an alias": {"query": "{ a: __schema { queryType { name } } b: __schema { queryType { name } } }"},
    "a directive": {"query": "{ __typename @include(if: true) }"},
    "another operation": {"query": "query A { __typename } query B { viewer { id } }", "operationName": "A"},
    "a mutation's type": {"query": "mutation { __typename }"},
    "a subscription's type": {"query": "subscription { __typename }"},
    "a type": {"query": "{ __typename } type A { b: Int }"},
    "lists of all types in lists of all types": {"query": "{ __schema { types { fields { type { fields { name } } } } } }"},
    "the same by fragments": {"query": "{ __schema { types { ...A } } } fragment A on __Type { possibleTypes { ...B } } fragment B on __Type { interfaces { name } }"},
    "a field twice": {"query": "{ __typename __typename }"},
    "many tokens": {"query": "{" + " __typename" * 1000 + "}"},
    "a long comment": {"query": "{ __typename } #" + "x" * 8000},
    "a large body": {"query": "{ __typename }", "variables": {"a": "x" * 20_000}},
    "variables that are none": {"query": "{ __typename }", "variables": [1]},
    "two requests": [{"query": "{ __typename }"}],  # type: ignore[dict-item]
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_and_nothing_else(open_schema: Any, name: str) -> None:
    await get(open_schema, {})
    before = traces(open_schema)
    for send in (post, get) if isinstance(REFUSED[name], dict) and name != "a large body" else (post,):
        response = await send(open_schema, REFUSED[name])
        assert (response.status_code, code(response)) == (401, "UNAUTHENTICATED"), response.text
    assert traces(open_schema) == before


async def test_a_document_that_comes_with_its_hash_is_not_kept(open_schema: Any) -> None:
    assert (await post(open_schema, HASHED)).json() == {"data": {"__typename": "Query"}}
    by_hash = {"extensions": HASHED["extensions"]}
    workspace = await open_schema.workspace()
    assert (
        code(await post(open_schema, by_hash, authorization=f"Bearer {workspace.key}")) == "PERSISTED_QUERY_NOT_FOUND"
    )


async def test_mistakes_about_the_schema_come_without_suggestions(open_schema: Any) -> None:
    answer = (await post(open_schema, {"query": "{ __schema { typs { name } } }"})).json()
    assert answer["errors"][0]["message"] == "Cannot query field 'typs' on type '__Schema'."


async def test_where_only_trusted_documents_are_executed_the_schema_is_none_of_them(
    open_gateway: Any, tmp_path: Any
) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(orjson.dumps({hashlib.sha256(ASK.encode()).hexdigest(): ASK}))
    async with open_gateway(introspection=True, trusted_documents=path, only_trusted_documents=True) as gateway:
        assert code(await post(gateway, {"query": "{ __typename }"})) == "UNAUTHENTICATED"


# ---- what an address may try ------------------------------------------------------------------------------------


def unknown_key(number: int) -> str:
    return f"key_{number:026}.secret"


def looked_up(gateway: Any) -> int:
    """How many keys were looked up in the database."""
    return sum(find.get("find") == "keys" for find in gateway.commands.finds)


async def ask(gateway: Any, key: str) -> int:
    return (await post(gateway, {"query": ASK}, authorization=f"Bearer {key}")).status_code


async def test_an_address_is_counted_before_its_keys_are_looked_up(open_gateway: Any) -> None:
    async with open_gateway(rate_limit_anonymous="5/hour") as gateway:
        workspace = await gateway.workspace()
        assert await ask(gateway, workspace.key) == 200
        before = looked_up(gateway)
        assert [await ask(gateway, unknown_key(number)) for number in range(8)] == [401] * 5 + [429] * 3
        assert looked_up(gateway) - before == 5
        assert [await ask(gateway, workspace.key) for _ in range(3)] == [200] * 3
        late = await workspace.key_with(Scope.READ)
        assert await ask(gateway, late) == 429
        assert looked_up(gateway) - before == 5


async def test_a_key_that_is_refused_is_not_looked_up_again_for_a_moment(open_gateway: Any) -> None:
    async with open_gateway(rate_limit_anonymous="100/hour") as gateway:
        workspace = await gateway.workspace()
        before = looked_up(gateway)
        assert [await ask(gateway, unknown_key(1)) for _ in range(5)] == [401] * 5
        assert looked_up(gateway) - before == 1
        assert await ask(gateway, await workspace.key_with(Scope.READ)) == 200
        assert looked_up(gateway) - before == 2


async def test_many_valid_keys_of_one_address_take_nothing_from_each_other(open_gateway: Any) -> None:
    async with open_gateway(rate_limit_anonymous="2/hour") as gateway:
        workspace = await gateway.workspace()
        keys = [await workspace.key_with(Scope.READ) for _ in range(10)]
        tokens = [await workspace.token(externalId=f"u{number}") for number in range(5)]
        for credential in (*keys, *keys, *tokens, *tokens):
            assert await ask(gateway, credential) == 200
        assert [await ask(gateway, unknown_key(number)) for number in range(3)] == [401, 401, 429]
        assert [await ask(gateway, credential) for credential in (*keys, *tokens)] == [200] * 15
        new = await workspace.token(externalId="new")
        assert await ask(gateway, new) == 200
        changed = new[:-2] + ("AA" if new[-2:] != "AA" else "BB")
        assert [await ask(gateway, changed) for _ in range(2)] == [429, 429]


async def test_a_key_that_was_valid_is_looked_up_again_whatever_others_at_its_address_did(open_gateway: Any) -> None:
    async with open_gateway(rate_limit_anonymous="2/hour") as gateway:
        workspace, runtime = await gateway.workspace(), gateway.runtime
        authenticator = Authenticator(runtime.services.store, runtime.clock, runtime.signer, remembered_seconds=0)
        async with serving(create_app(runtime, authenticator)) as gateway.url:
            assert await ask(gateway, workspace.key) == 200
            assert [await ask(gateway, unknown_key(number)) for number in range(3)] == [401, 401, 429]
            before = looked_up(gateway)
            assert [await ask(gateway, workspace.key) for _ in range(3)] == [200] * 3
            assert looked_up(gateway) - before == 3
            await runtime.services.store.keys.revoke(workspace.id, workspace.key.partition(".")[0], runtime.clock())
            before = looked_up(gateway)
            assert [await ask(gateway, workspace.key) for _ in range(3)] == [429] * 3
            assert looked_up(gateway) - before == 1


# ---- the same on sockets ----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def socket(gateway: Any) -> AsyncIterator[Any]:
    url = gateway.url.replace("http:", "ws:")
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"]) as connection:  # type: ignore[list-item]
        yield connection


async def initialised(gateway: Any, payload: dict[str, Any]) -> int | None:
    """The code that a socket is closed with once it says who it is; None where it may stay."""
    async with socket(gateway) as connection:
        await connection.send(orjson.dumps({"type": "connection_init", "payload": payload}).decode())
        try:
            assert orjson.loads(await asyncio.wait_for(connection.recv(), 30))["type"] == "connection_ack"
        except websockets.ConnectionClosed:
            return int(connection.close_code)
    return None


def bearing(credential: str) -> dict[str, Any]:
    return {"authorization": f"Bearer {credential}"}


async def test_an_address_is_counted_before_a_socket_s_key_is_looked_up(open_gateway: Any) -> None:
    async with open_gateway(rate_limit_anonymous="4/hour") as gateway:
        workspace = await gateway.workspace()
        token = await workspace.token(externalId="u")
        for _ in range(6):
            assert [await initialised(gateway, bearing(each)) for each in (workspace.key, token)] == [None, None]
        before = looked_up(gateway)
        tried = [bearing(unknown_key(1)), {}, bearing("a.b.c"), {"authorization": 5}, bearing(unknown_key(2)), {}]
        assert [await initialised(gateway, payload) for payload in tried] == [4403] * 4 + [1013] * 2
        assert looked_up(gateway) - before == 1
        assert await ask(gateway, unknown_key(3)) == 429
        assert [await initialised(gateway, bearing(each)) for each in (workspace.key, token)] == [None, None]


async def test_sockets_that_do_not_say_who_they_are_count_too(open_gateway: Any) -> None:
    async with open_gateway(rate_limit_anonymous="3/hour", socket_init_seconds=60) as gateway:
        workspace = await gateway.workspace()
        assert await ask(gateway, workspace.key) == 200
        async with contextlib.AsyncExitStack() as several:
            for _ in range(3):
                await several.enter_async_context(socket(gateway))
            assert await ask(gateway, unknown_key(1)) == 429
            late = await several.enter_async_context(socket(gateway))
            with pytest.raises(websockets.ConnectionClosed):
                await late.recv()
            assert late.close_code == 4408
            assert await initialised(gateway, bearing(workspace.key)) is None
        assert await ask(gateway, unknown_key(2)) == 429
