"""Compiled execution gives what graphql-core gives, to the byte: values of every kind, errors, nulls, and who may not see."""

import asyncio
import enum
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import pytest
import strawberry
from graphql import GraphQLError
from strawberry import Info, Parent
from strawberry.dataloader import DataLoader
from strawberry.schema.config import StrawberryConfig

from gateway.execution.executor import Operations, Result
from gateway.execution.fields import BATCHED, GUARDED, Batched, Guarded
from gateway.execution.plans import Planner
from gateway.execution.shared_results import SharedResults
from gateway.observability import Metrics
from resolvers.scalars import SCALARS, JSONObject, SafeInt
from schema.batching import batched
from schema.nodes import document_key, read_field

AT = datetime(2026, 1, 5, 9, 12, 44, 123000, tzinfo=UTC)


class Asker:
    """A context: what was loaded, and what may not be seen."""

    def __init__(self, may_see: bool = True) -> None:
        self.may_see = may_see
        self.calls: list[tuple[str, int, Any]] = []
        self.done: list[str] = []
        self.loaders: dict[Any, DataLoader[Any, Any]] = {}

    async def load(self, batch: Any, parent: Any, arguments: Any = None) -> Any:
        async def called(parents: list[Any]) -> list[Any]:
            return list(await batch(parents, arguments, self))

        key = (batch, repr(arguments))
        loader = self.loaders.setdefault(key, DataLoader(load_fn=called, cache=False))
        return await loader.load(parent)


async def later(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


async def toys(parents: Sequence[Any], arguments: Any, context: Asker) -> list[Any]:
    context.calls.append(("toys", len(parents), arguments))
    if arguments == "all fail":
        raise RuntimeError("no toys at all")
    found: list[Any] = []
    for parent in parents:
        given = parent.get("toys")
        found.append(ValueError("broken") if given == "broken" else given)
    return found


async def owners(parents: Sequence[Any], _: None, context: Asker) -> list[Any]:
    context.calls.append(("owners", len(parents), None))
    return [{"_id": "o" + str(parent.get("_id")), "name": "Ada", "toys": [parent]} for parent in parents]


async def short(parents: Sequence[Any], _: None, context: Asker) -> list[Any]:
    return list(parents)[1:]


@strawberry.enum
class Kind(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Anything:
    @classmethod
    def is_type_of(cls, _value: Any, _info: Any) -> bool:
        return True


@strawberry.interface
class Named(Anything):
    name: str | None

    @classmethod
    def resolve_type(cls, value: Any, _info: Any, _abstract: Any) -> Any:
        return value["is"]


@strawberry.type
class Owner(Anything):
    id: strawberry.ID
    name: str

    @batched(toys)
    def toys(self, filter: str | None = None) -> list[Annotated["Toy", strawberry.lazy(__name__)]] | None:
        return filter


@strawberry.type
class Toy(Named):
    id: strawberry.ID
    size: Kind | None
    price: float
    weight: float | None
    pieces: int | None
    made_at: datetime
    sold_at: datetime | None
    sounds: bool | None
    tags: list[str] | None
    codes: list[int | None]
    grid: list[list[int]] | None
    details: JSONObject | None
    stock: SafeInt | None
    same: Annotated["Toy", strawberry.lazy(__name__)] | None
    must: Annotated["Toy", strawberry.lazy(__name__)]
    secret: str | None
    secret_must: str

    @strawberry.field
    def loud(parent: Parent[Any]) -> str:
        return str(parent["name"]).upper()

    @strawberry.field
    def loud_or_not(parent: Parent[Any]) -> str | None:
        if parent["name"] is None:
            raise ValueError("it has no name")
        return parent["name"].upper()

    @strawberry.field
    def place(parent: Parent[Any], info: Info, times: int = 1) -> str | None:
        return "/".join(map(str, info.path.as_list())) * times

    @strawberry.field
    async def slow(parent: Parent[Any], fails: bool = False) -> str | None:
        return await later(ValueError("slow") if fails else "slow")

    @strawberry.field
    async def slow_must(parent: Parent[Any], fails: bool = False) -> str:
        return await later(None if fails else "slow")

    @batched(owners)
    def owner(self) -> Owner | None: ...

    @batched(owners)
    def owner_must(self) -> Owner: ...

    @batched(toys)
    def parts(self, filter: str | None = None) -> list[Annotated["Toy", strawberry.lazy(__name__)]]:
        if filter == "wrong":
            raise ValueError("a wrong filter")
        return filter

    @batched(short)
    def short(self) -> Owner | None: ...


@strawberry.type
class Ball(Named):
    round: bool


Thing = Annotated[Toy | Ball, strawberry.union("Thing")]


def toy(number: int, **others: Any) -> dict[str, Any]:
    made = {
        "is": "Toy",
        "_id": f"t{number}",
        "name": f"toy {number}",
        "size": "small",
        "price": 1.5,
        "weight": 2,
        "pieces": 3,
        "made_at": AT,
        "sounds": True,
        "tags": ["a", "b"],
        "codes": [1, None, 3],
        "grid": [[1, 2], []],
        "details": {"a": [1, {"b": None}]},
        "stock": 2**52,
        "must": {"is": "Toy", "_id": "m", "name": "inner", "codes": []},
        "secret": "hidden",
        "secret_must": "hidden too",
        "toys": [],
    }
    return made | others


PART = toy(7, toys="broken")
SHELF: dict[str, list[Any]] = {
    "good": [toy(1), toy(2, toys=[toy(3), PART], size="large", weight=None)],
    "wrong": [
        toy(1, price=None),
        toy(2, price="x", pieces=2**40, sounds="yes", weight=float("nan"), stock=None),
        toy(3, made_at="yesterday", sold_at=5, size="huge", tags=[1, None, {}], codes="abc", grid=[[1, "x"], None]),
        toy(4, name=None, must=None, same=toy(5, price=None)),
        toy(5, tags=5, codes=[None, 2**40, "7"], details=ValueError("a value that is an error"), same="no document"),
        toy(6, size=[], pieces=1.0, weight=True, price=2, made_at=None),
        None,
        ValueError("an item that is an error"),
        "a text",
        toy(7, secret_must=None, secret=3, size=Kind.LARGE, toys="broken"),
    ],
    "empty": [],
}


@strawberry.type
class Query:
    @strawberry.field
    def shelf(self, name: str) -> list[Toy | None] | None:
        return SHELF[name]

    @strawberry.field
    def full_shelf(self, name: str) -> list[Toy]:
        return SHELF[name]

    @strawberry.field
    async def slow_shelf(self, name: str) -> list[Toy] | None:
        return await later(SHELF[name])

    @strawberry.field
    def awaited(self) -> list[Toy | None] | None:
        return [later(toy(1)), toy(2), later(None), later(ValueError("late")), later(toy(3, price=None))]

    @strawberry.field
    def awaited_inside(self) -> Toy | None:
        return toy(1, name=later("late"), price=later(2.5), tags=[later("x"), "y"], must=later(toy(2)))

    @strawberry.field
    def awaited_wrong(self) -> Toy | None:
        return toy(1, price=later(None))

    @strawberry.field
    def one_by_one(self) -> list[int] | None:
        async def numbers() -> Any:
            for number in range(3):
                yield number

        return numbers()

    @strawberry.field
    def named(self) -> list[Named | None]:
        return [
            toy(1),
            {"is": "Ball", "name": "ball", "round": True},
            {"is": "Nothing"},
            {"is": 5},
            {"is": "Owner"},
            {},
        ]

    @strawberry.field
    def thing(self, ball: bool = False) -> Named | None:
        return {"is": "Ball", "name": "ball", "round": "maybe"} if ball else toy(1)

    @strawberry.field
    def toy(self, number: int = 1) -> Toy | None:
        return toy(number)

    @strawberry.field
    def toy_must(self) -> Toy:
        return toy(1, price=None)

    @strawberry.field
    def echo(self, words: list[str] | None = None, number: int | None = 3) -> str | None:
        return f"{words} {number}"

    @strawberry.field
    def fails(self, how: str = "plainly") -> str | None:
        raise GraphQLError("it failed", extensions={"how": how}) if how == "by itself" else KeyError(how)

    @strawberry.field
    def returns_error(self) -> str | None:
        return ValueError("returned")


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def do(self, info: Info, name: str, fails: bool = False) -> str | None:
        info.context.done.append(f"begin {name}")
        await later(ValueError("cannot") if fails else None)
        info.context.done.append(f"end {name}")
        return name

    @strawberry.mutation
    async def do_must(self, info: Info, name: str) -> str:
        info.context.done.append(name)
        return await later(None)

    @strawberry.mutation
    async def make(self, info: Info) -> Toy | None:
        info.context.done.append("make")
        return toy(9, toys=[toy(1)])


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def made(self, info: Info, first: int = 1, fails: bool = False) -> AsyncGenerator[Toy, None]:
        for number in (first, first + 1):
            yield toy(number, toys=[toy(3)], price=None if fails else 1.5)


def check(context: Asker, name: str, type_name: str) -> None:
    if not context.may_see:
        raise PermissionError(f"{type_name}.{name} is not for you")


@pytest.fixture(scope="module")
def schema() -> Any:
    made = strawberry.Schema(
        Query,
        Mutation,
        Subscription,
        types=[Toy, Ball],
        config=StrawberryConfig(default_resolver=read_field, scalar_map=SCALARS),
    )
    for name in ("secret", "secretMust", "owner"):
        guard(made._schema.type_map["Toy"].fields[name])
    return made


def guard(field: Any) -> None:
    resolve = field.resolve

    def guarded(source: Any, info: Any, **arguments: Any) -> Any:
        check(info.context, info.field_name, info.parent_type.name)
        return resolve(source, info, **arguments)

    field.resolve = guarded
    field.extensions[GUARDED] = Guarded(check, resolve)


@pytest.fixture(scope="module")
def both(schema: Any) -> tuple[Operations, Operations]:
    """The same schema executed by graphql-core, and compiled."""
    made = schema._schema
    core = Operations(made, lambda errors, context: None, Metrics())
    return core, Operations(made, lambda errors, context: None, Metrics(), Planner(made, document_key))


def written(answer: Result) -> bytes:
    """The answer as it is sent; several errors by their paths, as they come in whatever order they happen."""
    errors = sorted((orjson.dumps(error.formatted) for error in answer.errors or ()), key=repr)
    return orjson.dumps({"errors": [orjson.Fragment(error) for error in errors], "data": answer.data})


ALL = "id name size price weight pieces madeAt soldAt sounds tags codes grid details stock loud loudOrNot"
DEEP = f"{ALL} place(times: 2) slow slowMust same {{ {ALL} }} owner {{ id name toys {{ id }} }} parts {{ id parts {{ id }} }}"
OPERATIONS: list[tuple[str, dict[str, Any]]] = [
    ("{ __typename }", {}),
    ('{ shelf(name: "good") { ' + DEEP + " } }", {}),
    ('{ fullShelf(name: "good") { ' + ALL + " } }", {}),
    ('{ slowShelf(name: "good") { ' + ALL + " must { id name } } }", {}),
    *(
        (f'{{ {root}(name: "wrong") {{ id {field} }} }}', {})
        for root in ("shelf", "fullShelf", "slowShelf")
        for field in [
            *ALL.split()[1:],
            "must { id }",
            "same { id price }",
            "secretMust",
            "ownerMust { id toys { id } }",
        ]
    ),
    ('{ shelf(name: "wrong") { ' + ALL.replace("price", "") + " same { price } must { id } } }", {}),
    ('{ shelf(name: "good") { parts(filter: "wrong") { id } } }', {}),
    ('{ shelf(name: "good") { owner { id toys(filter: "all fail") { id } } } }', {}),
    ('{ shelf(name: "good") { id parts { id name parts { id } } } }', {}),
    ('{ fullShelf(name: "good") { parts { parts { id } } } }', {}),
    ('{ shelf(name: "good") { short { id } } }', {}),
    ('{ shelf(name: "good") { slow(fails: true) a: slow } }', {}),
    ('{ shelf(name: "good") { slowMust(fails: true) } }', {}),
    ('{ fullShelf(name: "good") { slowMust(fails: true) } }', {}),
    ('{ shelf(name: "empty") { id } } ', {}),
    ('{ shelf(name: "none") { id } echo }', {}),
    ("{ awaited { id name } }", {}),
    ("{ awaited { id price } echo }", {}),
    ("{ awaitedInside { name price tags must { id } } }", {}),
    ("{ awaitedWrong { name price } }", {}),
    ("{ oneByOne }", {}),
    ("{ named { name __typename ... on Toy { id } ... on Ball { round } } }", {}),
    (
        "{ thing { name ...F } b: thing(ball: true) { ...F } } fragment F on Named { n: name ... on Ball { round } ... on Toy { size } }",
        {},
    ),
    ("query($b: Boolean) { thing(ball: $b) { __typename } }", {"b": True}),
    ("query($b: Boolean!) { thing(ball: $b) { __typename } }", {}),
    ("query($b: Boolean!) { thing(ball: $b) { __typename } }", {"b": "x"}),
    ("{ toyMust { id price } }", {}),
    ("{ toyMust { id price } fails }", {}),
    (
        "query($s: Boolean!, $i: Boolean = true) { toy { id @skip(if: $s) name @include(if: $i) a: size b: size } }",
        {"s": True},
    ),
    (
        "query($s: Boolean!, $i: Boolean = true) { toy { id @skip(if: $s) name @include(if: $i) a: size b: size } }",
        {"s": False, "i": False},
    ),
    (
        "query($s: Boolean!) { toy { ... @skip(if: $s) { id ...F } ...F @include(if: $s) } } fragment F on Toy { name }",
        {"s": True},
    ),
    ("query($s: Boolean) { toy { id @include(if: $s) } }", {}),
    ('query($x: Int) { echo(number: $x) a: echo b: echo(number: 1, words: ["x"]) c: echo(number: null) }', {"x": 9}),
    ("query($x: Int, $w: [String!]) { echo(number: $x, words: $w) }", {"w": ["p", "q"]}),
    ("query($n: Int = 4) { toy(number: $n) { id parts { id } place(times: $n) } }", {}),
    ("{ toy { id } toy { name owner { id } owner { name } } }", {}),
    ("{ fails }", {}),
    ('{ fails(how: "by itself") returnsError }', {}),
    ("{ toy { secret secretMust owner { id } name } }", {}),
    ("{ toy { secretMust } }", {}),
    ("{ __schema { queryType { name } } toy { id } }", {}),
    ("{ toy { nothing } }", {}),
    ("{ toy", {}),
    ("query A { toy { id } } query B { toy { name } }", {}),
    (
        'mutation { a: do(name: "a") b: do(name: "b", fails: true) c: do(name: "c") make { id parts { id owner { id } } } }',
        {},
    ),
    ('mutation { a: do(name: "a") doMust(name: "b") c: do(name: "c") }', {}),
]


@pytest.mark.parametrize("may_see", [True, False])
@pytest.mark.parametrize(("operation", "variables"), OPERATIONS, ids=lambda value: str(value)[:60])
async def test_it_answers_as_graphql_core_does(
    both: tuple[Operations, Operations], operation: str, variables: dict[str, Any], may_see: bool
) -> None:
    name = "B" if "query B" in operation else None
    core, compiled = both
    asker, other = Asker(may_see), Asker(may_see)
    wanted = await core.execute(operation, variables, name, asker)
    answer = await compiled.execute(operation, variables, name, other)
    assert written(answer) == written(wanted)
    assert answer.refused == wanted.refused
    assert other.done == asker.done


async def test_strawberry_answers_the_same(schema: Any, both: tuple[Operations, Operations]) -> None:
    for operation, variables in OPERATIONS:
        name = "B" if "query B" in operation else None
        found = await schema.execute(operation, variables, Asker(), operation_name=name)
        answer = await both[1].execute(operation, variables, name, Asker())
        assert written(answer) == written(Result(found.data, found.errors)), operation


async def test_a_batch_function_is_called_once_for_a_level(both: tuple[Operations, Operations]) -> None:
    asker = Asker()
    text = '{ shelf(name: "good") { parts { id owner { id } } a: owner { toys { id } } b: owner { name } } again: shelf(name: "good") { parts { id } } }'
    answer = await both[1].execute(text, None, None, asker)
    assert answer.errors is None
    # Both shelves with both aliases share a call; the owners of the parts, and the toys of owners, are a level deeper.
    assert asker.calls == [("toys", 4, None), ("owners", 4, None), ("owners", 2, None), ("toys", 2, None)]


async def test_a_document_is_validated_once_and_its_plans_are_kept(schema: Any) -> None:
    metrics = Metrics()
    operations = Operations(
        schema._schema, lambda errors, context: None, metrics, Planner(schema._schema, document_key)
    )
    for _ in range(3):
        await operations.execute("{ toy { id } }", None, None, Asker())
    text = metrics.text().decode()
    assert 'gateway_documents_total{kept="no"} 1.0' in text
    assert 'gateway_documents_total{kept="yes"} 2.0' in text


def test_fields_say_how_they_are_read(schema: Any) -> None:
    fields = schema._schema.type_map["Toy"].fields
    resolver = fields["owner"].extensions["strawberry-definition"].base_resolver.wrapped_func
    assert isinstance(getattr(resolver, BATCHED), Batched)


SUBSCRIPTION = "subscription($n: Int!, $f: Boolean) { made(first: $n, fails: $f) { id price parts { id } } }"


@pytest.mark.parametrize("fails", [True, False])
async def test_subscriptions_are_answered_as_by_graphql_core(both: tuple[Operations, Operations], fails: bool) -> None:
    expected = [written(answer) async for answer in _all(both[0], Asker(), 1, fails)]
    assert [written(answer) async for answer in _all(both[1], Asker(), 1, fails)] == expected
    assert len(expected) == 2


async def test_subscribers_who_ask_alike_share_each_answer(schema: Any) -> None:
    made = schema._schema
    planner = Planner(made, document_key)
    operations = Operations(
        made,
        lambda errors, context: None,
        Metrics(),
        planner,
        lambda context, payload: (context.may_see, payload["_id"]),
    )
    askers = [Asker(), Asker(), Asker(may_see=False), Asker()]
    wanted = [1, 1, 1, 2]

    async def heard(asker: Asker, number: int) -> list[Result]:
        return [answer async for answer in _all(operations, asker, number, False)]

    one, alike, unlike, elsewhere = await asyncio.gather(*map(heard, askers, wanted))
    assert [answer.data["made"]["id"] for answer in one] == ["t1", "t2"]
    assert all(mine is theirs for mine, theirs in zip(one, alike, strict=True))
    assert not any(mine is theirs for mine, theirs in zip(one, unlike, strict=True))
    assert [answer.data["made"]["id"] for answer in elsewhere] == ["t2", "t3"]
    assert len(askers[0].calls) + len(askers[1].calls) == 2
    assert [len(asker.calls) for asker in askers[2:]] == [2, 2]


@pytest.mark.parametrize(
    ("text", "alike"),
    [
        ("subscription($n: Int!, $f: Boolean) { made(first: $n, fails: $f) { id } }", True),
        ("subscription($n: Int! = 3) { made(first: $n) { id } }", True),
        ("subscription($n: Int!) { made(first: $n) { id } } # and $n again", True),
        ("subscription($ n: Int!) { made(first: $n) { place(times: $n) } }", False),
        ("subscription($n: Int!) { ...m } fragment m on Subscription { made(first: $n) { id } }", False),
    ],
)
def test_where_a_subscription_begins_is_no_part_of_what_it_asks_for(schema: Any, text: str, alike: bool) -> None:
    operations = Operations(schema._schema, lambda errors, context: None, Metrics(), resume_argument="first")
    one, other = (operations.sharing_key(text, {"n": number}, None, Asker()) for number in (1, 2))
    assert one is not None
    assert (one == other) == alike


async def test_who_leaves_does_not_spoil_the_answer_of_others() -> None:
    shared, begun, may_go_on = SharedResults(), asyncio.Event(), asyncio.Event()

    async def answer() -> str:
        begun.set()
        await may_go_on.wait()
        return "answered"

    first = asyncio.create_task(shared.get("key", answer))
    await begun.wait()
    second = asyncio.create_task(shared.get("key", answer))
    first.cancel()
    await asyncio.wait([first])
    may_go_on.set()
    assert await second == "answered"


def _all(operations: Operations, asker: Asker, number: int, fails: bool) -> AsyncGenerator[Result, None]:
    return operations.stream(SUBSCRIPTION, {"n": number, "f": fails}, None, asker)
