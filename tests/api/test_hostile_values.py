"""Every place that takes a value, with values that no caller should send: a clear refusal, never an unexpected error."""

import asyncio
import json
import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from typing import Any

import pytest
import websockets
from gateways import OpenGateway
from graphql import (
    GraphQLField,
    get_named_type,
    is_composite_type,
    is_enum_type,
    is_input_object_type,
)
from graphql import is_required_argument as is_required
from hostile_values import HOSTILE, Place, is_deep, parts, places, valid
from tickets import admin, asked, team, ticket, type_id

from schema.root import build_schema

SCHEMA = build_schema().core
MUTATIONS = SCHEMA.mutation_type.fields
QUERIES = SCHEMA.query_type.fields
SUBSCRIPTIONS = SCHEMA.subscription_type.fields
_AT_ONCE = 8
EVENT = {"contact": {"externalId": "u"}, "name": "did"}
_NUMBERS = ("ID", "Int", "SafeInt", "Float")  # which GraphQL reads as such, or refuses
_WRITTEN = ("events", "contacts", "conversations", "tickets", "segments", "admins", "message_rules", "changes")


@pytest.fixture(scope="module")
async def desk(open_gateway: OpenGateway, fast_mongo: str) -> AsyncIterator[Any]:
    """A workspace with one of everything; Klaviyo is nowhere."""
    settings = {"klaviyo_mode": "LOG", "klaviyo_base_url": "http://127.0.0.1:9"}
    async with open_gateway(uri=fast_mongo, rolls_up=False, **settings) as gateway:  # nothing is written by itself
        workspace = await gateway.workspace()
        workspace.known = await _one_of_everything(workspace)
        yield workspace


async def _one_of_everything(workspace: Any) -> dict[str, Any]:
    await workspace.track({"contact": {"externalId": "u"}, "name": "did", "metadata": {"plan": "pro"}})
    contact = (await workspace.data('{ contact(by: {externalId: "u"}) { id } }'))["contact"]["id"]
    admin_id, team_id, type_ = (
        await admin(workspace),
        await team(workspace),
        await type_id(workspace, attributes=[{"name": "plan", "kind": "STRING"}]),
    )
    ticket_id = (await ticket(workspace, type_))["id"]
    segment = await asked(
        workspace,
        "mutation($i: SaveSegmentInput!) { saveSegment(input: $i) { segment { id } } }",
        name="all",
        filter={"externalId": {"known": True}},
    )
    conversation = await asked(
        workspace,
        "mutation($i: CreateConversationInput!) { createConversation(input: $i) { conversation { id } } }",
        contact={"externalId": "u"},
        body="hello",
    )
    segment_id, conversation_id = segment["segment"]["id"], conversation["conversation"]["id"]
    return {
        "contactId": contact,
        "adminId": admin_id,
        "teamId": team_id,
        "typeId": type_,
        "ticketId": ticket_id,
        "segmentId": segment_id,
        "conversationId": conversation_id,
        "email": "ada@example.com",
        "apiKey": "pk_0123456789",
        "externalId": "u",
        "number": 1,
    }


def known_for(root: str, known: dict[str, Any]) -> dict[str, Any]:
    """Valid values of the fields of that mutation: what its `id` names differs."""
    of = {"Conversation": "conversationId", "Ticket": "ticketId", "Segment": "segmentId", "Contact": "contactId"}
    ids = [id_ for noun, id_ in of.items() if root.endswith(noun)]
    own = {"id": known[ids[0]]} if ids else {}
    return {**known, **own}


def json_body(query: str, variables: dict[str, Any]) -> bytes:
    return json.dumps({"query": query, "variables": variables}).encode()


async def all_of(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """What they give, some at a time."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def in_turn(call: Awaitable[Any]) -> Any:
        async with room:
            return await call

    return await asyncio.gather(*map(in_turn, calls))


def codes(answer: dict[str, Any]) -> set[str]:
    """The codes of the top-level errors."""
    return {error["extensions"]["code"] for error in answer.get("errors", ())}


def is_refused(answer: dict[str, Any]) -> bool:
    """Whether the one mutation of an answer, or the one item of it, was refused."""
    if codes(answer):
        return True
    (payload,) = answer["data"].values()
    return bool(payload["userErrors"]) or bool(payload.get("results") and payload["results"][0]["error"])


def storable(value: Any) -> bool:
    """Whether every text, number and key of a value fits into JSON that a database can keep."""
    return all(
        not any("\ud800" <= mark <= "\udfff" for mark in part)
        if isinstance(part, str)
        else part is None or -(2**63) <= part < 2**63 or (isinstance(part, float) and math.isfinite(part))
        for part in parts(value)
    )


async def documents(workspace: Any) -> dict[str, int]:
    """How many documents there are, of what callers write."""
    database = workspace.gateway.runtime.database
    return {name: await database.count(name, {"workspace_id": workspace.id}) for name in _WRITTEN}


def placed_values(type_: Any) -> Iterator[tuple[Place, Any, bool]]:
    """Every place below an input type with every hostile value of its scalar, and whether that could be stored there."""
    for path, scalar in places(type_):
        for value in HOSTILE[scalar]:
            yield path, value, storable(value) or (scalar in _NUMBERS and not isinstance(value, str))


def mutation(name: str) -> str:
    payload = get_named_type(MUTATIONS[name].type)
    results = "results { error { code message path } }" if "results" in payload.fields else ""
    return f"mutation($i: {MUTATIONS[name].args['input'].type}) {{ {name}(input: $i) {{ userErrors {{ code message path }} {results} }} }}"


def takes_key(name: str) -> bool:
    return "idempotencyKey" in get_named_type(MUTATIONS[name].args["input"].type).fields or name == "trackEvents"


@pytest.mark.parametrize(
    ("name", "with_key"),
    [(name, False) for name in MUTATIONS] + [(name, True) for name in MUTATIONS if takes_key(name)],
)
async def test_mutations_refuse_what_cannot_be_stored_and_write_nothing(desk: Any, name: str, with_key: bool) -> None:
    type_ = MUTATIONS[name].args["input"].type
    known, sent = known_for(name, desk.known), []
    for path, value, fits in placed_values(type_):
        if not (with_key and path[-1] == "idempotencyKey"):
            input_ = valid(type_, path, value, known)
            if with_key:
                (input_["events"][0] if name == "trackEvents" else input_)["idempotencyKey"] = uuid.uuid4().hex
            sent.append((path, value, fits, input_))
    unstorable = [case for case in sent if not case[2]]
    others = [case for case in sent if case[2]]
    before = await documents(desk)
    await check(desk, name, unstorable, refused=True)
    assert await documents(desk) == before
    await check(desk, name, others, refused=False)


async def check(desk: Any, name: str, cases: list[Any], *, refused: bool) -> None:
    query = mutation(name)
    responses = await all_of(desk.post("", raw=json_body(query, {"i": input_})) for *_, input_ in cases)
    for (path, value, *_), response in zip(cases, responses, strict=True):
        where, answer = (path, ascii(value)[:80]), response.json()
        assert "INTERNAL" not in codes(answer), (where, answer)
        assert not refused or is_refused(answer), (where, answer)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": {"b": ["\ud800"]}}, ["a", "b", "0"]),
        ({"a": 2**63}, ["a"]),
        ({"a": [float("inf")]}, ["a", "0"]),
        ({"a": {"\udfff": 1}}, ["a", "?"]),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("name", ["createConversation", "createTicket", "upsertContact", "trackEvent"])
async def test_the_path_leads_to_the_value(desk: Any, name: str, value: Any, path: list[str]) -> None:
    field = {"createTicket": "attributes", "trackEvent": "metadata"}.get(name, "customAttributes")
    type_ = MUTATIONS[name].args["input"].type
    input_ = valid(type_, (field,), value, desk.known) | {"idempotencyKey": uuid.uuid4().hex}
    answer = (await desk.post("", raw=json_body(mutation(name), {"i": input_}))).json()
    (problem,) = answer["data"][name]["userErrors"]
    assert (problem["code"], problem["path"]) == ("INVALID", ["input", field, *path])


async def test_a_hostile_event_spoils_no_neighbour(desk: Any) -> None:
    good = {"contact": {"externalId": "u"}, "name": "did", "idempotencyKey": uuid.uuid4().hex}
    hostile = [
        {**good, "metadata": {"a": "\ud800"}, "idempotencyKey": "1"},
        {**good, "metadata": {"a": 2**65}, "idempotencyKey": "2"},
        {**good, "name": "\udfff", "idempotencyKey": "3"},
        {**good, "idempotencyKey": "\ud800"},
    ]
    raw = json_body(mutation("trackEvents"), {"i": {"events": [*hostile, good]}})
    results = (await desk.post("", raw=raw)).json()["data"]["trackEvents"]["results"]
    assert [result["error"] and result["error"]["code"] for result in results] == [*["INVALID"] * 4, None]


@pytest.mark.parametrize("name", MUTATIONS)
async def test_mutations_with_hostile_literals(desk: Any, name: str) -> None:
    type_ = MUTATIONS[name].args["input"].type
    documents = [
        f"mutation {{ {name}(input: {literal(valid(type_, path, value, known_for(name, desk.known)), type_)}) {{ userErrors {{ code }} }} }}"
        for path, scalar in places(type_)
        if scalar not in ("String", "ID")  # the lexer has refused what is no text
        for value in HOSTILE[scalar]
        if not is_deep(value)
    ]
    for document, response in zip(documents, await all_of(desk.post(document) for document in documents), strict=True):
        assert "INTERNAL" not in codes(response.json()), (document[:300], response.text)


@pytest.mark.parametrize("levels", [9, 90, 200, 900, 20_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
async def test_deep_json_is_refused(desk: Any, levels: int, opening: str, closing: str) -> None:
    deep = f"{opening * levels}1{closing * levels}"
    contact = 'contact: {externalId: "u"}'
    responses = [
        await desk.post(
            f'mutation {{ trackEvent(input: {{{contact}, name: "did", metadata: {{a: {deep}}}}}) {{ userErrors {{ code }} }} }}'
        ),
        await desk.post(
            "",
            raw=json_body(mutation("trackEvent"), {"i": {**EVENT, "metadata": "@"}}).replace(
                b'"@"', b'{"a":' + deep.replace("a:", '"a":').encode() + b"}"
            ),
        ),
    ]
    for response in responses:
        answer = response.json()
        assert is_refused(answer)
        assert codes(answer) <= {"BAD_REQUEST", "LIMIT_EXCEEDED"}


def fields_with_arguments() -> Iterator[tuple[str, list[str], str, GraphQLField]]:
    """Every field below Query that takes arguments: how it is reached from the root, with which variables."""
    for name, field in QUERIES.items():
        if field.args:
            yield name, [], name, field
    contact = 'contact(by: {externalId: "u"})'
    reached = {"Contact": [contact], "EventSummary": [contact, "eventSummaries", "nodes"], "Segment": ["segments"]}
    reached |= {"Ticket": ["tickets", "nodes"], "Conversation": ["conversations", "nodes"]}
    reached |= {"EventDefinition": ["eventDefinitions", "nodes"], "KlaviyoSync": ["klaviyo"]}
    for type_name, fields in reached.items():
        for name, field in SCHEMA.type_map[type_name].fields.items():
            if field.args:
                yield f"{type_name}.{name}", fields, name, field


def question(kind: str, reached: list[str], name: str, field: GraphQLField) -> str:
    """An operation that asks for a field with a variable for each argument."""
    declared = ", ".join(f"${argument}: {field.args[argument].type}" for argument in field.args)
    given = ", ".join(f"{argument}: ${argument}" for argument in field.args)
    selection = " { __typename }" if is_composite_type(get_named_type(field.type)) else ""
    return f"{kind}({declared}) {{ {' { '.join([*reached, f'{name}({given}){selection}'])} {'}' * len(reached)} }}"


def asked_cases(field: GraphQLField, known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The variables of a field's arguments: all valid but for one hostile value."""
    needed = {name: valid(each.type, None, None, known, name) for name, each in field.args.items() if is_required(each)}
    for name, argument in field.args.items():
        for path, value, _ in placed_values(argument.type):
            yield {**needed, name: valid(argument.type, path, value, known, name)}


FIELDS = {case[0]: case[1:] for case in fields_with_arguments()}


@pytest.mark.parametrize("case", FIELDS)
async def test_queries_with_hostile_arguments(desk: Any, case: str) -> None:
    reached, name, field = FIELDS[case]
    query = question("query", reached, name, field)
    asked = list(asked_cases(field, desk.known))
    responses = await all_of(desk.post("", raw=json_body(query, variables)) for variables in asked)
    for variables, response in zip(asked, responses, strict=True):
        assert codes(response.json()) <= {"BAD_REQUEST", "LIMIT_EXCEEDED", "CURSOR_EXPIRED"}, (
            ascii(variables)[:200],
            response.text,
        )


@pytest.mark.parametrize("name", SUBSCRIPTIONS)
async def test_subscriptions_with_hostile_arguments(desk: Any, name: str) -> None:
    field = SUBSCRIPTIONS[name]
    query = question("subscription", [], name, field)
    url = desk.gateway.url.replace("http", "ws", 1)
    async with websockets.connect(
        url, subprotocols=["graphql-transport-ws"], additional_headers={"authorization": f"Bearer {desk.key}"}
    ) as socket:
        await socket.send('{"type": "connection_init"}')
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        for number, variables in enumerate(asked_cases(field, desk.known)):
            payload = {"query": query, "variables": variables}
            await socket.send(json.dumps({"type": "subscribe", "id": str(number), "payload": payload}))
            await socket.send(json.dumps({"type": "ping"}))
            await socket.send(json.dumps({"type": "complete", "id": str(number)}))
        # The last one is refused: by then all before it were.
        await socket.send(json.dumps({"type": "subscribe", "id": "last", "payload": {"query": "{ nothing }"}}))
        while (message := json.loads(await socket.recv())).get("id") != "last":
            if message["type"] == "error":
                assert codes({"errors": message["payload"]}) <= {"BAD_REQUEST", "LIMIT_EXCEEDED", "CURSOR_EXPIRED"}


async def test_what_was_stored_meanwhile_is_read(desk: Any) -> None:
    everything = """{ contacts(first: 50) { nodes { displayName avatarUrl customAttributes tags location { city }
        events(first: 50) { nodes { name occurredAt metadataJson metadata { key } } } } }
      conversations(first: 100) { nodes { title customAttributes tags } }
      tickets(first: 100) { nodes { title description attributes tags } }
      segments { name filter } admins(first: 100) { nodes { name avatarUrl } } messageRules { name body } }"""
    assert "errors" not in await desk.ask(everything)


def literal(value: Any, type_: Any = None) -> str:
    """A value as it is written in a document; `type_`: of an input object, whose names of enumerations have no quotes."""
    type_ = get_named_type(type_)
    fields = type_.fields if is_input_object_type(type_) else {}
    if isinstance(value, dict):
        inner = (
            f"{name if name.isidentifier() and name.isascii() else 'a'}: {literal(each, fields[name].type if name in fields else None)}"
            for name, each in value.items()
        )
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(literal(item, type_) for item in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return "-1e999" if value < 0 else "1e999"
    return str(value) if is_enum_type(type_) else json.dumps(value)
