"""What a gateway tells of its schema where introspection is off, as it is unless asked for, and where it is on."""

from typing import Any

import orjson
import pytest
import websockets

INTROSPECTING = {
    "__schema": "{ __schema { queryType { name } } }",
    "__type": '{ __type(name: "Contact") { name } }',
    "an alias": "{ viewer: __schema { queryType { name } } }",
    "a fragment": "{ ...F } fragment F on Query { ... { __schema { queryType { name } } } }",
    "beside a field": '{ viewer { id } __type(name: "Contact") { name } }',
    "an operation that is not run": "query A { viewer { id } } query B { __schema { queryType { name } } }",
}
CONTACT = "query($by: ContactKey!) { contact(by: $by) { id } }"
UPSERT = "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { created } }"
MISTAKEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "a field": ("{ viewr { id } }", {}, "Cannot query field 'viewr' on type 'Query'."),
    "a field of another type": ('{ node(id: "x") { displayName } }', {}, "Cannot query field 'displayName' on type 'Node'."),
    "an argument": ('{ node(idd: "x", id: "x") { id } }', {}, "Unknown argument 'idd' on field 'Query.node'."),
    "an argument of a directive": ("{ viewer { id @skip(iff: true, if: false) } }", {}, "Unknown argument 'iff' on directive '@skip'."),
    "a type": ("query($x: Strin) { viewer { id @skip(if: $x) } }", {}, "Unknown type 'Strin'."),
    "a type of a fragment": ("{ viewer { ... on Viewr { id } } }", {}, "Unknown type 'Viewr'."),
    "an input field": ('{ contact(by: {emial: "a"}) { id } }', {}, "'ContactKey' not to include unknown field 'emial', found: {"),
    "an input field in a variable": (CONTACT, {"by": {"emial": "a"}}, "'ContactKey' not to include unknown field 'emial', found: {"),
    "a value": ('mutation { upsertContact(input: {externalId: "u", role: USR}) { created } }', {}, "Value 'USR' does not exist in 'ContactRole' enum."),
    "a value in a variable": (UPSERT, {"i": {"externalId": "u", "role": "USR"}}, "Value 'USR' does not exist in 'ContactRole' enum."),
}  # fmt: skip


@pytest.fixture(scope="module")
async def telling(open_gateway: Any) -> Any:
    """A workspace of a gateway where introspection and GraphiQL are on."""
    async with open_gateway(introspection=True, graphiql=True) as gateway:
        yield await gateway.workspace()


async def by_socket(workspace: Any, query: str, variables: dict[str, Any]) -> Any:
    """The errors that a socket tells."""
    url = workspace.gateway.url.replace("http:", "ws:")
    headers = {"authorization": f"Bearer {workspace.key}"}
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"], additional_headers=headers) as socket:  # type: ignore[list-item]
        payload = {"query": query, "variables": variables}
        for message in ({"type": "connection_init"}, {"type": "subscribe", "id": "1", "payload": payload}):
            await socket.send(orjson.dumps(message).decode())
        messages = [orjson.loads(await socket.recv()) for _ in range(2)]
    assert [message["type"] for message in messages] == ["connection_ack", "error"], messages
    return messages[1]["payload"]


@pytest.mark.parametrize("name", INTROSPECTING)
async def test_introspection_is_refused_by_request_and_by_socket(workspace: Any, name: str) -> None:
    response = await workspace.post(INTROSPECTING[name])
    answer = response.json()
    assert (response.status_code, "data" in answer) == (403, False)
    for (error,) in (answer["errors"], await by_socket(workspace, INTROSPECTING[name], {})):
        assert error["message"].startswith("Introspection is off on this gateway")
        assert error["extensions"]["code"] == "FORBIDDEN"


async def test_the_name_of_a_type_is_always_told(workspace: Any) -> None:
    assert await workspace.data("{ __typename viewer { __typename } }") == {
        "__typename": "Query",
        "viewer": {"__typename": "Viewer"},
    }


@pytest.mark.parametrize("name", MISTAKEN)
async def test_a_mistake_is_named_and_what_was_meant_is_not(workspace: Any, telling: Any, name: str) -> None:
    query, variables, told = MISTAKEN[name]
    suggested = (await telling.ask(query, variables))["errors"]
    assert "Did you mean" in suggested[0]["message"]
    for errors in ((await workspace.ask(query, variables))["errors"], await by_socket(workspace, query, variables)):
        assert len(errors) == len(suggested)
        assert told in errors[0]["message"]
        assert "Did you mean" not in str(errors)


async def test_the_filter_of_a_subscription_is_no_exception(workspace: Any) -> None:
    watch = "subscription($filter: EventStreamFilter) { eventTracked(filter: $filter) { kind } }"
    (error,) = await by_socket(workspace, watch, {"filter": {"nam": ["x"]}})
    assert "not to include unknown field 'nam', found: {" in error["message"]
    assert "Did you mean" not in error["message"]


async def test_what_is_asked_for_is_told(telling: Any) -> None:
    assert await telling.data('{ __schema { queryType { name } } __type(name: "Contact") { name } }') == {
        "__schema": {"queryType": {"name": "Query"}},
        "__type": {"name": "Contact"},
    }


async def test_graphiql_is_shown_where_it_is_asked_for_and_without_a_key(gateway: Any, telling: Any) -> None:
    hidden, shown = (each.url.removesuffix("graphql") for each in (gateway, telling.gateway))
    assert (await gateway.http.get(hidden)).status_code == 404
    for headers in ({}, {"host": "api.example.com"}):
        page = await gateway.http.get(shown, headers=headers)
        assert (page.status_code, 'data-key=""' in page.text) == (200, True)
