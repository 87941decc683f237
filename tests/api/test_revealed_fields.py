"""Filters and sorts name the fields that they reveal, and are refused where one of these may not be read."""

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import websockets
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLNonNull,
    GraphQLObjectType,
    get_named_type,
    get_nullable_type,
)
from tickets import UPDATE, asked, ticket, type_id

from gateway.core.principals import Scope
from gateway.store.migrations import migrate
from resolvers.reveals import Reveals
from schema.access import Access
from schema.root import build_schema

SCHEMA = build_schema().core
ROOTS = ("Query", "Subscription")
# Conditions on a value: what they reveal is declared by the field that has them.
OPERATORS = {"TimeFilter", "StringFilter", "IntFilter", "FloatFilter", "MoneyFilter", "AttributeFilter"}
VALUES: dict[str, Any] = {
    "ID": "con_00000000000000000000000000",
    "String": "words",
    "Boolean": True,
    "TimeFilter": {"known": True},
    "StringFilter": {"eq": "vip"},
    "IntFilter": {"gte": 1},
    "AttributeFilter": {"key": "plan"},
}


@pytest.fixture
def gateway(still_gateway: Any) -> Any:
    return still_gateway


def directive_of(member: Any, kind: type) -> Any:
    definition = member.extensions.get("strawberry-definition")
    return next((one for one in definition.directives if isinstance(one, kind)), None) if definition else None


def filters() -> list[GraphQLInputObjectType]:
    return [
        type_
        for name, type_ in SCHEMA.type_map.items()
        if isinstance(type_, GraphQLInputObjectType)
        and name.endswith(("Filter", "Condition"))
        and name not in OPERATORS
    ]


def sort_keys() -> list[GraphQLEnumType]:
    sorts = [type_ for name, type_ in SCHEMA.type_map.items() if name.endswith(("Sort", "OrderBy"))]
    return [
        get_named_type(field.type)
        for sort in sorts
        for name, field in sort.fields.items()  # type: ignore[union-attr]
        if isinstance(get_named_type(field.type), GraphQLEnumType) and name != "direction"
    ]


def test_every_condition_and_every_sort_key_says_what_it_reveals() -> None:
    for type_ in filters():
        for name, field in type_.fields.items():
            nested = get_named_type(field.type)
            if nested not in filters():
                assert directive_of(field, Reveals) is not None, f"{type_.name}.{name} does not say what it reveals"
    assert sort_keys()
    for enum in sort_keys():
        for name, value in enum.values.items():
            assert directive_of(value, Reveals) is not None, f"{enum.name}.{name} does not say what it reveals"


def test_every_input_with_conditions_is_found_by_its_name() -> None:
    """An input of a query that is neither a filter, a sort nor a key would pass this test by unseen."""
    for path, field in readable():
        for name, argument in field.args.items():
            type_ = get_named_type(argument.type)
            if isinstance(type_, GraphQLInputObjectType):
                is_filter = type_ in filters() or type_.name.endswith(("Sort", "OrderBy", "Key"))
                assert is_filter, f"{path}({name}: {type_.name})"


def readable() -> Iterator[tuple[str, GraphQLField]]:
    for type_ in SCHEMA.type_map.values():
        if isinstance(type_, GraphQLObjectType) and type_.name != "Mutation" and not type_.name.startswith("__"):
            for name, field in type_.fields.items():
                yield f"{type_.name}.{name}", field


def access_of(field: str) -> Access | None:
    type_name, name = field.split(".")
    return directive_of(SCHEMA.type_map[type_name].fields[name], Access)  # type: ignore[union-attr, no-any-return]


# ---- each condition and key, by each kind of credential -----------------------------------------------------------------


def value_of(field: Any) -> Any:
    """Some value of an input's field."""
    type_ = get_named_type(field.type)
    inner = get_nullable_type(field.type)
    if isinstance(type_, GraphQLEnumType):
        value: Any = next(iter(type_.values))
    elif isinstance(type_, GraphQLInputObjectType) and type_.name not in VALUES:
        value = {
            name: value_of(one) for name, one in type_.fields.items() if isinstance(one.type, GraphQLNonNull)
        } or next({name: value_of(one)} for name, one in type_.fields.items())
    else:
        value = VALUES[type_.name]
    return [value] if hasattr(inner, "of_type") else value


def arguments_of(type_: GraphQLInputObjectType) -> Iterator[tuple[Any, list[str]]]:
    """A value of a filter or sort for each of its conditions or keys, and what it reveals."""
    for name, field in type_.fields.items():
        reveals, nested = directive_of(field, Reveals), get_named_type(field.type)
        if reveals is not None:
            yield {name: value_of(field)}, reveals.fields
        elif isinstance(nested, GraphQLEnumType) and name == "key":
            for key, value in nested.values.items():
                yield {"key": key, "direction": "ASC"}, directive_of(value, Reveals).fields
        elif isinstance(nested, GraphQLInputObjectType) and nested is not type_:
            for inner_name, inner in nested.fields.items():
                required = {one: value_of(two) for one, two in nested.fields.items() if one == "name"}
                inner_value = {**required, inner_name: value_of(inner)}
                revealed = [*directive_of(inner, Reveals).fields]
                yield {name: inner_value}, revealed


def lists() -> Iterator[tuple[str, str, str, str, GraphQLInputObjectType]]:
    """Each list that is filtered or sorted, as an operation: its kind, a selection with a hole for the argument."""
    shapes = {
        "Query.contacts": ("query", "contacts(%s) { nodes { id } }"),
        "Query.events": ("query", "events(%s) { nodes { id } }"),
        "Query.conversations": ("query", "conversations(%s) { nodes { id } }"),
        "Query.tickets": ("query", "tickets(%s) { nodes { id } }"),
        "Contact.events": ("query", "contact(by: {id: $own}) { events(%s) { nodes { id } } }"),
        "Contact.conversations": ("query", "contact(by: {id: $own}) { conversations(%s) { nodes { id } } }"),
        "Contact.tickets": ("query", "contact(by: {id: $own}) { tickets(%s) { nodes { id } } }"),
        "KlaviyoSync.deliveries": ("query", "klaviyo { deliveries(%s) { nodes { id } } }"),
        "Subscription.eventTracked": ("subscription", "eventTracked(%s) { kind }"),
        "Subscription.contactChanged": ("subscription", "contactChanged(%s) { kind }"),
        "Subscription.conversationChanged": ("subscription", "conversationChanged(%s) { kind }"),
        "Subscription.ticketChanged": ("subscription", "ticketChanged(%s) { kind }"),
        "Subscription.klaviyoDelivery": ("subscription", "klaviyoDelivery(%s) { kind }"),
    }
    inputs = {
        (path, name): get_named_type(argument.type)
        for path, field in readable()
        for name, argument in field.args.items()
        if isinstance(get_named_type(argument.type), GraphQLInputObjectType)
        and not get_named_type(argument.type).name.endswith("Key")
    }
    assert {path for path, _ in inputs} == set(shapes)
    for (path, name), type_ in inputs.items():
        yield path, name, *shapes[path], type_


LISTS = list(lists())


async def refusals(
    workspace: Any, key: str, kind: str, query: str, several: list[dict[str, Any]]
) -> list[list[dict[str, Any]]]:
    """For each of these variables the errors that say that something may not be done."""
    if kind == "query":
        answers = [await workspace.ask(query, variables, key=key) for variables in several]
        return [[one for one in answer.get("errors", ()) if is_refusal(one)] for answer in answers]
    async with websockets.connect(
        workspace.gateway.url.replace("http:", "ws:"),
        subprotocols=["graphql-transport-ws"],
        additional_headers={"authorization": f"Bearer {key}"},
    ) as connection:  # type: ignore[list-item]
        await connection.send('{"type": "connection_init"}')
        refusals_: list[list[dict[str, Any]]] = [[] for _ in several]
        for number, variables in enumerate(several):
            operation = {"query": query, "variables": variables}
            await connection.send(orjson.dumps({"type": "subscribe", "id": f"{number}", "payload": operation}).decode())
        last = {"type": "subscribe", "id": "last", "payload": {"query": "{ viewer { workspace { name } } }"}}
        await connection.send(orjson.dumps(last).decode())  # refusals come at once, and this asks the database first
        async with asyncio.timeout(60):
            while (message := orjson.loads(await connection.recv())).get("id") != "last":
                if message["type"] == "error":
                    refusals_[int(message["id"])] += [one for one in message["payload"] if is_refusal(one)]
        return refusals_


def is_refusal(error: dict[str, Any]) -> bool:
    return bool(error["extensions"]["code"] == "FORBIDDEN")


@pytest.mark.parametrize("credential", ["contact's token", "READ", "KLAVIYO", "READ and KLAVIYO"])
@pytest.mark.parametrize(("path", "argument", "kind", "shape", "type_"), LISTS, ids=lambda one: str(one)[:40])
async def test_a_condition_is_refused_exactly_where_what_it_reveals_is(
    workspace: Any, path: str, argument: str, kind: str, shape: str, type_: Any, credential: str
) -> None:
    await workspace.track({"contact": {"externalId": "u"}, "name": "did"})
    own = (await workspace.data('{ contact(by: {externalId: "u"}) { id } }'))["contact"]["id"]
    scopes = frozenset(Scope(name) for name in credential.split(" and ")) if "token" not in credential else frozenset()
    key = await (workspace.key_with(*scopes) if scopes else workspace.token(externalId="u"))

    def may(access: Access | None) -> bool:
        return access is None or (bool(scopes & set(access.scopes)) if scopes else access.contact_token)

    selected, declared = shape % f"{argument}: $a", "$own: ID!, " if "$own" in shape else ""
    query = f"{kind}({declared}$a: {type_.name}!) {{ {selected} }}"
    own_id = {"own": own} if declared else {}
    root = shape.partition("(")[0].partition(" ")[0]
    if not may(access_of(f"{'Query' if kind == 'query' else 'Subscription'}.{root}")) or not may(access_of(path)):
        return  # the list itself is refused: test_isolation.py, test_tokens.py
    cases = list(arguments_of(type_))
    errors_of_each = await refusals(workspace, key, kind, query, [{"a": value, **own_id} for value, _ in cases])
    for (value, fields), errors in zip(cases, errors_of_each, strict=True):
        refused = not all(may(access_of(field)) for field in fields)
        assert len(errors) == refused, (value, fields, errors)
        if refused:
            name = value.get("key") or next(iter(value))
            assert f"'{name}'" in errors[0]["message"]


async def test_conditions_are_refused_wherever_they_stand(workspace: Any) -> None:
    """In literals as in variables, in each of several aliases, beside what is allowed, and by graphql-core's own way."""
    token = await workspace.token(externalId="u")
    query = """{ viewer { contact {
      good: tickets(filter: {state: [SUBMITTED]}) { nodes { id } }
      team: tickets(filter: {state: [SUBMITTED], teamId: "tea_00000000000000000000000000"}) { nodes { id } }
      shared: tickets(filter: {isShared: false}) { nodes { id } }
      due: conversations(sort: {key: SLA_DUE_AT, direction: ASC}) { nodes { id } edges { cursor } }
      tag: conversations(filter: {tag: {eq: "vip"}}) { nodes { id } } none: conversations(filter: {tag: null}) { nodes { id } }
    } } }"""
    answer = await workspace.ask(query, key=token)
    assert answer["data"]["viewer"]["contact"] == {
        "good": {"nodes": []}, "team": None, "shared": None, "due": None, "tag": None, "none": {"nodes": []},
    }  # fmt: skip
    messages = {error["path"][-1]: error["message"] for error in answer["errors"]}
    assert messages == {
        alias: f"A contact token may not filter or sort by '{name}', because it reveals '{field}': leave it out."
        for alias, name, field in (
            ("team", "teamId", "Ticket.team"),
            ("shared", "isShared", "Ticket.isShared"),
            ("due", "SLA_DUE_AT", "Conversation.sla"),
            ("tag", "tag", "Conversation.tags"),
        )
    }


async def test_conditions_are_refused_without_compiled_execution_too(open_gateway: Any) -> None:
    async with open_gateway(rolls_up=False, compiled_execution=False) as gateway:
        workspace = await gateway.workspace()
        token = await workspace.token(externalId="u")
        due = "conversations(sort: {key: SLA_DUE_AT, direction: DESC}) { nodes { id } }"
        answer = await workspace.ask(f"{{ viewer {{ contact {{ id {due} }} }} }}", key=token)
        assert answer["data"]["viewer"]["contact"]["conversations"] is None
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]


# ---- words ------------------------------------------------------------------------------------------------------------


FOUND = """query($t: String!) { viewer { contact { tickets(filter: {text: $t}) { nodes { id } }
  conversations(filter: {text: $t}) { nodes { id } } } } }"""


async def matches(workspace: Any, token: str, text: str) -> tuple[int, int]:
    """How many tickets and conversations the token finds by those words."""
    contact = (await workspace.data(FOUND, {"t": text}, key=token))["viewer"]["contact"]
    return len(contact["tickets"]["nodes"]), len(contact["conversations"]["nodes"])


async def test_a_token_finds_by_the_words_that_it_sees_and_by_no_others(workspace: Any) -> None:
    token = await workspace.token(externalId="u")
    bug = await type_id(workspace, attributes=[{"name": "Cause", "kind": "STRING", "visibleToContacts": False}])
    one = await ticket(workspace, bug, title="alpha", description="beta", isShared=False, attributes={"Cause": "psi"})
    await asked(workspace, UPDATE, id=one["id"], title="gamma", description="delta")
    await say(workspace, "Ticket", one["id"], "epsilon")
    await say(workspace, "Ticket", one["id"], "omega", note=True)
    await asked(workspace, UPDATE, id=one["id"], title="zeta", description="eta", addTags=["theta"])
    for word in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "omega", "psi", "theta"):
        assert await matches(workspace, token, word) == (0, 0)
    await asked(workspace, UPDATE, id=one["id"], isShared=True)
    for word in ("alpha", "beta", "epsilon", "zeta", "eta"):
        assert await matches(workspace, token, word) == (1, 0), word
    for word in ("gamma", "delta", "omega", "psi", "theta", "zeta gamma"):
        assert await matches(workspace, token, word) == (0, 0), word
    await say(workspace, "Ticket", one["id"], "gamma after all")
    assert await matches(workspace, token, "gamma") == (1, 0)
    everything = await workspace.data('{ tickets(filter: {text: "delta omega"}) { nodes { id } } }')
    assert everything["tickets"]["nodes"] == [{"id": one["id"]}]


async def test_a_conversation_is_not_found_by_a_title_that_it_has_no_more(workspace: Any) -> None:
    token = await workspace.token(externalId="u")
    begin = 'mutation { createConversation(input: {contact: {}, body: "alpha"}) { conversation { id } } }'
    id_ = (await workspace.data(begin, key=token))["createConversation"]["conversation"]["id"]
    update = "mutation($i: UpdateConversationInput!) { updateConversation(input: $i) { userErrors { code } } }"
    await say(workspace, "Conversation", id_, "beta")
    await say(workspace, "Conversation", id_, "gamma", note=True)
    for title in ("suspected fraud", "your order"):
        await asked(workspace, update, id=id_, title=title)
        assert await matches(workspace, token, title) == (0, 1)
    for word, count in (("alpha", 1), ("beta", 1), ("gamma", 0), ("fraud", 0), ("order alpha beta", 1)):
        assert await matches(workspace, token, word) == (0, count), word


async def say(workspace: Any, kind: str, id_: str, body: str, *, note: bool = False) -> None:
    name = f"replyTo{kind}"
    document = f"mutation($i: ReplyTo{kind}Input!) {{ {name}(input: $i) {{ userErrors {{ code }} }} }}"
    payload = await asked(workspace, document, **{f"{kind.lower()}Id": id_, "body": body, "note": note})
    assert payload["userErrors"] == []


async def test_what_was_stored_before_is_found_by_the_words_that_are_seen_once_it_is_migrated(
    open_gateway: Any,
) -> None:
    async with open_gateway(rolls_up=False) as gateway:
        workspace, database = await gateway.workspace(), gateway.runtime.database
        token = await workspace.token(externalId="u")
        one = await ticket(workspace, await type_id(workspace), title="alpha")
        begin = 'mutation { createConversation(input: {contact: {}, body: "beta"}) { conversation { id } } }'
        talk = (await workspace.data(begin, key=token))["createConversation"]["conversation"]["id"]
        for kind, id_ in (("Ticket", one["id"]), ("Conversation", talk)):
            await say(workspace, kind, id_, "epsilon")
            await say(workspace, kind, id_, "omega", note=True)
        await asked(workspace, UPDATE, id=one["id"], title="zeta")
        for collection in ("tickets", "conversations"):
            (row,) = await database.find(collection, {})
            polluted = {"$set": {"public_words": [*row["public_words"], "gamma"]}, "$unset": {"said_words": ""}}
            await database.update(collection, {"_id": row["_id"]}, polluted)
        assert await matches(workspace, token, "gamma") == (1, 1)
        await database.delete("migrations", {"_id": 8})
        assert [step.number for step in await migrate(database, gateway.runtime.clock, owner="tests")] == [8]
        for word, counts in (
            ("gamma", (0, 0)),
            ("omega", (0, 0)),
            ("epsilon", (1, 1)),
            ("zeta", (1, 0)),
            ("beta", (0, 1)),
        ):
            assert await matches(workspace, token, word) == counts, word
        await asked(workspace, UPDATE, id=one["id"], title="eta")
        for word, counts in (("zeta", (0, 0)), ("epsilon", (1, 1)), ("eta alpha", (1, 0))):
            assert await matches(workspace, token, word) == counts, word
