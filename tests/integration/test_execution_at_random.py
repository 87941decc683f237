"""Random operations over the whole schema, on sound and on spoiled data: compiled they answer as graphql-core does."""

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from examples import examples
from gateways import OpenGateway
from graphql import parse, print_ast, visit
from graphql.language import (
    IntValueNode,
    ListValueNode,
    ObjectValueNode,
    StringValueNode,
    ValueNode,
    Visitor,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis_graphql import queries

from gateway.core.principals import Principal, Scope
from gateway.execution.executor import Operations, Result
from gateway.execution.plans import Planner
from gateway.json_codec import encode_json
from gateway.observability import Metrics
from resolvers.context import Context
from schema.errors import formatted
from schema.nodes import document_key
from schema.root import build_schema

SCHEMA = build_schema(suggestions=True)
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
NAMES = ["viewed page", "placed order", "came"]
METADATA: list[dict[str, Any]] = [
    {"plan": "pro", "price": {"amount": 499, "currency": "EUR"}, "size": 2},
    {"order": {"url": "https://shop.example/1", "value": "No. 1"}, "paid": True, "renewal_date": 1767225600},
    {"stripe_invoice": "in_1", "list": [1, {"a": None}], "half": 0.5, "large": 2**60},
    {},
]
# What depends on the moment, or on what else goes on.
PASSING = {"streamCursor", "limits"}

texts = st.sampled_from(["Ada", "plan", "u1", "", "ü"]).map(lambda text: StringValueNode(value=text))
times = st.sampled_from(["2026-10-01T00:00:00Z", "2026-11-01T12:00:00Z"]).map(lambda text: StringValueNode(value=text))
integers = st.integers(-1, 3).map(lambda number: IntValueNode(value=str(number)))
objects = st.just(ObjectValueNode(fields=()))
operations = queries(
    SCHEMA.core, custom_scalars={"DateTime": times, "SafeInt": integers, "JSON": texts, "JSONObject": objects}
)


class Sensible(Visitor):
    """Gives arguments values that find something, so that operations reach what lies below."""

    def __init__(self, chance: random.Random, ids: list[str]) -> None:
        super().__init__()
        self.chance, self.ids = chance, ids

    def leave_argument(self, node: Any, *_: Any) -> Any:
        value = self._value(node.name.value)
        if node.name.value in ("filter", "sort", "after", "before", "last", "search") and self.chance.random() < 0.8:
            return None if node.name.value != "search" else node
        return node if value is None else type(node)(name=node.name, value=value)

    def leave_object_field(self, node: Any, *_: Any) -> Any:
        value = self._value(node.name.value) if isinstance(node.value, StringValueNode) else None
        return node if value is None else type(node)(name=node.name, value=value)

    def _value(self, name: str) -> ValueNode | None:
        if name == "id":
            return StringValueNode(value=self.chance.choice(self.ids))
        if name == "ids":
            some = self.chance.choices(self.ids, k=4)
            return ListValueNode(values=tuple(StringValueNode(value=one) for one in some))
        if name == "first" and self.chance.random() < 0.9:
            return IntValueNode(value=str(self.chance.randint(1, 4)))
        if name in ("externalId", "name", "event"):
            return StringValueNode(value=self.chance.choice(["u1", "u2", *NAMES]))
        return None


@dataclass
class World:
    """A workspace with a little of everything, and the two ways to ask about it."""

    context: Any
    ids: list[str]
    core: Operations
    compiled: Operations
    principals: list[Principal]
    spoil: Any

    def both(self, text: str, chance: random.Random, seed: int | None) -> tuple[bytes, bytes]:
        principal = chance.choice(self.principals)
        return self._answer(self.core, text, principal, seed), self._answer(self.compiled, text, principal, seed)

    def _answer(self, operations: Operations, text: str, principal: Principal, seed: int | None) -> bytes:
        self.spoil["seed"] = seed
        answer = self.spoil["loop"](operations.execute(text, None, None, self.context(principal)))
        self.spoil["seed"] = None
        return written(answer)


def written(answer: Result) -> bytes:
    """The answer as the gateway writes it, the errors in one order."""
    errors = sorted((encode_json(formatted(error, "-")) for error in answer.errors or ()), key=repr)
    return encode_json({"errors": [orjson.Fragment(error) for error in errors], "data": answer.data})


def spoiled(row: Any, seed: int) -> Any:
    """A document with fields that are wrong, or are not there; the same ones whenever it is read, in whole or in part."""
    if not isinstance(row, dict) or not isinstance(row.get("_id"), str):
        return row
    found = dict(row)
    for name in set(row) - {"_id", "workspace_id", "contact_id", "identities", "role"}:
        chance = random.Random(f"{seed} {row['_id']} {name}")
        wrong = chance.choice([None, "wrong", 2**40, [], {}, float("inf"), ["x"], True, ...])
        if chance.random() < 0.95:
            continue
        if wrong is ...:
            del found[name]
        else:
            found[name] = wrong
    return found


@pytest.fixture(scope="module")
async def world(open_gateway: OpenGateway, fast_mongo: str) -> Any:
    async with open_gateway(uri=fast_mongo, rolls_up=False, clock=lambda: NOW, introspection=True) as gateway:
        workspace = await gateway.workspace()
        await fill(workspace)
        state: dict[str, Any] = {"seed": None}
        database = gateway.runtime.database
        find = database.find

        async def found(collection: str, *given: Any, **options: Any) -> Any:
            rows = await find(collection, *given, **options)
            seed = state["seed"]
            return rows if seed is None or collection == "workspaces" else [spoiled(row, seed) for row in rows]

        database.find = found
        loop = asyncio.get_running_loop()
        state["loop"] = lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)
        contacts = await gateway.runtime.database.find("contacts", {"workspace_id": workspace.id})
        ids = [row["_id"] for row in contacts]
        for collection in ("events", "event_summaries", "event_definitions"):
            ids += [row["_id"] for row in await database.find(collection, {"workspace_id": workspace.id}, limit=3)]
        yield World(
            lambda principal: Context(gateway.runtime.services, "-", principal),
            [*ids, workspace.id, "con_nobody", ""],
            Operations(SCHEMA.core, SCHEMA.report_errors, Metrics()),
            Operations(
                SCHEMA.core,
                SCHEMA.report_errors,
                Metrics(),
                Planner(SCHEMA.core, document_key),
                reading=Context.set_projection,
            ),
            [
                *[Principal("key_1", workspace.id, frozenset(Scope))] * 4,
                Principal("key_2", workspace.id, frozenset({Scope.TRACK})),
                Principal("key_3", workspace.id, frozenset(), contact_id=ids[0]),
            ],
            state,
        )
        database.find = find


async def fill(workspace: Any) -> None:
    for number, name in enumerate(NAMES):
        await workspace.track(
            *(
                {
                    "contact": {"externalId": f"u{person}"},
                    "name": name,
                    "metadata": METADATA[(number + person) % 4],
                    "occurredAt": (NOW - timedelta(hours=number * 7 + person)).isoformat(),
                }
                for person in range(5)
            )
        )
    await workspace.data(
        "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { contact { id } userErrors { message } } }",
        {
            "i": {
                "externalId": "u1",
                "email": "ada@example.com",
                "name": "Ada",
                "tags": ["a", "b"],
                "location": {"city": "Bonn"},
                "customAttributes": {"plan": "pro"},
            }
        },
    )


def trimmed(text: str, chance: random.Random, ids: list[str]) -> str:
    return print_ast(visit(parse(text), Sensible(chance, ids)))


@pytest.mark.parametrize("seed", [None, *range(20)])
async def test_a_time_that_says_no_zone_is_answered_alike(world: World, seed: int | None) -> None:
    """Most random operations read no time alone, so that this one is asked for by name."""
    for id_ in [id_ for id_ in world.ids if id_.startswith("evt_")]:
        asked = f'{{ event(id: "{id_}") {{ receivedAt }} }}'
        expected, compiled = await asyncio.to_thread(world.both, asked, random.Random(1), seed)
        assert compiled == expected
        assert b'Z"' in expected or seed is not None


@pytest.mark.parametrize("spoils", [False, True], ids=["sound", "spoiled"])
async def test_any_operation_is_answered_alike(world: World, spoils: bool) -> None:
    seen = {"data": 0, "errors": 0}

    @examples(60)
    @given(operations.filter(lambda text: not any(name in text for name in PASSING)), st.randoms(use_true_random=False))
    def check(text: str, chance: random.Random) -> None:
        asked = trimmed(text, chance, world.ids)
        expected, compiled = world.both(asked, chance, chance.randint(0, 99) if spoils else None)
        seen["data"] += b'"nodes":[{' in expected
        seen["errors"] += not expected.startswith(b'{"errors":[]')
        assert compiled == expected, asked

    await asyncio.to_thread(check)
    assert min(seen.values()) > 0, seen
