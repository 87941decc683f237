"""What operations cost: every list has a size, whatever looks through a workspace has a weight, and what front ends ask stays far below the limit."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from graphql import GraphQLInputObjectType, GraphQLObjectType, get_named_type, get_nullable_type, is_list_type
from graphql.type import is_composite_type

from gateway.settings import Settings
from resolvers.costs import Cost, ListSize
from schema.cost_tables import declared
from schema.limits import OperationLimits
from schema.root import build_schema

SCHEMA = build_schema().core
TYPES = [
    one for one in SCHEMA.type_map.values() if isinstance(one, GraphQLObjectType) and not one.name.startswith("__")
]
LISTS = [
    (type_.name, name)
    for type_ in TYPES
    for name, field in type_.fields.items()
    if is_list_type(get_nullable_type(field.type)) and is_composite_type(get_named_type(field.type))
]
LOOKING = ("filter", "search", "query", "text", "sort", "audience", "metadata")
# These sort by an index alone.
INDEXED = {"ContactSort"}


def fields_to(type_name: str) -> list[tuple[str, Any]]:
    """Every field that leads to objects of that type."""
    return [
        (f"{type_.name}.{name}", field)
        for type_ in TYPES
        for name, field in type_.fields.items()
        if get_named_type(field.type).name == type_name
    ]


@pytest.mark.parametrize(("type_name", "name"), LISTS, ids=".".join)
def test_every_list_of_objects_has_a_size(type_name: str, name: str) -> None:
    own = declared(SCHEMA.type_map[type_name].fields[name], ListSize)
    if own is not None:
        assert isinstance(own.assumed_size, int) or own.slicing_arguments
        return
    above = fields_to(type_name)
    assert above
    for label, field in above:
        if type_name.endswith("Edge"):
            continue
        size = declared(field, ListSize)
        assert size is not None, f"{label} declares no size for {name}"
        assert name in (size.sized_fields or ()), f"{label} declares no size for {name}"


def test_sizes_are_in_the_sdl() -> None:
    sdl = build_schema().as_str()
    assert "segments: [Segment!] @access(scopes: [READ], contactToken: false) @listSize(assumedSize: 100)" in sdl
    assert "input ContactFilter @cost(weight: 1000)" in sdl
    assert "search: String @cost(weight: 500)" in sdl


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.name)
def test_whatever_looks_through_a_workspace_has_a_weight(type_: GraphQLObjectType) -> None:
    for name, field in type_.fields.items():
        if name == "totalCount":
            assert declared(field, Cost) is not None, f"{type_.name}.{name}"
        for argument, given in field.args.items():
            check_weight(f"{type_.name}.{name}.{argument}", argument, given, set())


def check_weight(path: str, name: str, given: Any, seen: set[str]) -> None:
    type_ = get_named_type(given.type)
    if isinstance(type_, GraphQLInputObjectType):
        weight = declared(type_, Cost)
        assert name not in LOOKING or weight is not None or type_.name in INDEXED, path
        if weight is None and type_.name not in seen:
            for inner, field in type_.fields.items():
                check_weight(f"{path}.{inner}", inner, field, {*seen, type_.name})
    elif name in ("search", "query", "text"):
        assert declared(given, Cost) is not None, path


LIMITS = OperationLimits(SCHEMA, Settings())


def cost(query: str, **variables: Any) -> int:
    return LIMITS.check(query, variables, None).cost


LIMITS_FOR_ANYTHING = OperationLimits(SCHEMA, Settings(max_cost=100_000_000))


def any_cost(query: str, **variables: Any) -> int:
    return LIMITS_FOR_ANYTHING.check(query, variables, None).cost


def test_what_lists_in_lists_cost() -> None:
    assert any_cost("{ segments { id } }") == 100
    assert any_cost("{ teams { admins { id } } }") == 100 * (1 + 50)
    assert any_cost(
        "{ contacts(first: 2) { nodes { segments { contacts(first: 3) { nodes { id } } } } } }"
    ) == 2 + 200 * (1 + 3)
    assert (
        any_cost("{ contacts(first: 2) { edges { node { segments { id } } } nodes { segments { id } } } }")
        == 2 + 2 * 200
    )
    assert any_cost(
        "{ events(first: 3) { nodes { metadata { key } contact { id } definition { metadataKeys { key } } } } }"
    ) == 3 * (1 + 10 + 1 + 1 + 100)
    assert any_cost("query($i: [ID!]!) { nodes(ids: $i) { ... on Contact { segments { id } } } }", i=["a", "b"]) == 202
    assert (
        any_cost('{ contact(by: {id: "x"}) { eventSummaries(first: 1, names: ["a", "b", "c"]) { nodes { id } } } }')
        == 4
    )


def test_a_fragment_costs_what_it_is_spread_for() -> None:
    spelled = "{ contacts(first: 2) { totalCount nodes { segments { name } } } a: contacts(first: 3) { nodes { segments { name } } } }"
    spread = """{ contacts(first: 2) { ...C totalCount } a: contacts(first: 3) { ... { ...C } } }
      fragment C on ContactConnection { nodes { ...S } } fragment S on Contact { segments { name } }"""
    assert any_cost(spelled) == any_cost(spread) == 2 + 200 + 525 + 3 + 300


def test_events_that_are_tracked_cost_the_results_that_are_selected() -> None:
    track = "mutation($i: TrackEventsInput!) { trackEvents(input: $i) { accepted %s } }"
    events = {"events": [{"contact": {"id": "x"}, "name": "n"}] * 7}
    assert any_cost(track % "", i=events) == 0
    assert any_cost(track % "results { eventId }", i=events) == 7
    assert any_cost(track % "userErrors { code }", i=events) == 1


@pytest.mark.parametrize(
    ("filter_", "objects"),
    [
        ({}, 1),
        ({"and": [{}] * 5}, 6),
        ({"not": {"not": {}}}, 3),
        ({"email": {"eq": "x"}}, 2),
        ({"email": {"in": ["x"] * 100}}, 4),
        ({"event": {"name": "x", "metadata": [{"key": "k", "string": {}}], "count": {"gt": 1}}}, 5),
    ],
)
def test_every_object_of_a_filter_costs(filter_: Any, objects: int) -> None:
    looked_at = 1000 + 200 * objects
    once = "query($f: ContactFilter) { contacts(first: 1, filter: $f) { nodes { id } } }"
    assert any_cost(once, f=filter_) == 1 + looked_at + looked_at // 20
    assert (
        any_cost(
            "mutation($i: SaveSegmentInput!) { saveSegment(input: $i) { segment { id } } }",
            i={"name": "n", "filter": filter_},
        )
        >= looked_at
    )
    audience = {"name": "n", "body": "b", "trigger": {"firstTime": True}, "audience": filter_}
    assert (
        any_cost(
            "mutation($i: SaveMessageRuleInput!) { saveMessageRule(input: $i) { messageRule { id } } }", i=audience
        )
        >= looked_at
    )
    again = "query($f: ContactFilter) { contacts(first: 1, filter: $f) { a: totalCount b: totalCount(upTo: 5) } }"
    assert any_cost(again, f=filter_) >= 3 * looked_at


def test_filters_in_defaults_of_variables_and_behind_variables_cost() -> None:
    written = any_cost('{ contacts(filter: {and: [{tag: {eq: "a"}}, {tag: {eq: "a"}}]}) { nodes { id } } }')
    default = 'query($f: ContactFilter = {and: [{tag: {eq: "a"}}, {tag: {eq: "a"}}]}) { contacts(filter: $f) { nodes { id } } }'
    parts = "query($p: ContactFilter!) { contacts(filter: {and: [$p, $p]}) { nodes { id } } }"
    listed = "query($p: [ContactFilter!]) { contacts(filter: {and: $p}) { nodes { id } } }"
    text = {"tag": {"eq": "a"}}
    assert written == any_cost(default) == any_cost(parts, p=text) == any_cost(listed, p=[text, text])


PAGE = """query($f: ContactFilter, $n: [String!]) { contacts(first: 50, filter: $f) { totalCount pageInfo { hasNextPage endCursor }
  edges { cursor node { id displayName tags segments { name } events(first: 10) { totalCount nodes { id name metadata { key } contact { id } } }
    eventSummaries(first: 3, names: $n) { nodes { name count } } conversations(first: 3) { totalCount nodes { id title } } } } } }"""
INBOX = """{ conversations(first: 50, filter: {state: [OPEN]}, sort: {key: UPDATED_AT, direction: DESC}) { totalCount nodes { id title
    contact { displayName segments { name } } assignee { displayName } ticket { number type { name } }
    parts(first: 1, order: DESC) { nodes { body author { displayName } } } } }
  mine: conversations(first: 1, filter: {assigneeId: "x", state: [OPEN]}) { totalCount }
  unassigned: conversations(first: 1, filter: {unassigned: true}) { totalCount }
  snoozed: conversations(first: 1, filter: {state: [SNOOZED]}) { totalCount }
  closed: conversations(first: 1, filter: {state: [CLOSED]}) { totalCount }
  teams { name admins { displayName } } ticketTypes { name attributes { name } } }"""
SEVERAL = {
    "and": [
        {"tag": {"in": ["a", "b"]}},
        {"event": {"name": "x", "count": {"gt": 2}, "within": {"lessThanDaysAgo": 7}}},
    ],
    "not": {"country": {"eq": "FR"}},
    "role": ["USER"],
}


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        (PAGE, {}),
        (PAGE, {"f": SEVERAL, "n": ["a", "b", "c"]}),
        (INBOX, {}),
        ('{ eventDefinitions(first: 100, search: "a") { nodes { name count metadataKeys { key types } } } }', {}),
        (
            "{ klaviyo { counts { dead } metrics { name } deliveries(filter: {state: [DEAD]}) { totalCount nodes { id attempts { error } } } } }",
            {},
        ),
    ],
)
def test_what_front_ends_ask_is_far_below_the_limit(query: str, variables: Any) -> None:
    assert cost(query, **variables) <= 40_000


COSTS = Path(__file__).parents[2].joinpath("docs", "costs-of-filters.md").read_text()


@pytest.mark.parametrize(
    ("query", "row"),
    [
        (
            "{ contacts(first: 50) { nodes { id events(first: 10) { nodes { id } } } } }",
            "`contacts(first: 50)` with 10 events each",
        ),
        (
            "{ contacts(first: 50) { totalCount nodes { id events(first: 10) { nodes { id } } } } }",
            "and `totalCount` of the contacts",
        ),
        (
            '{ contacts(first: 50, filter: {tag: {eq: "vip"}}) { nodes { id } } }',
            '`contacts(first: 50, filter: {tag: {eq: "vip"}})`',
        ),
        ('{ contacts(first: 50, filter: {tag: {eq: "vip"}}) { totalCount } }', "and `totalCount`"),
        (
            "{ segments { contacts(first: 10) { nodes { id } } } }",
            "`segments { contacts(first: 10) { nodes { id } } }`",
        ),
    ],
)
def test_the_guide_says_what_operations_cost(query: str, row: str) -> None:
    assert f"| {row} | {cost(query):,} |" in COSTS


def times(count: int, one: str) -> str:
    return "{" + " ".join(f"a{number}: " + one.replace("%", str(number)) for number in range(count)) + "}"


BOUNDED = {
    "segments of contacts of segments": "{contacts(first:1){nodes{"
    + "segments{contacts(first:1){nodes{" * 3
    + "id"
    + "}}}" * 3
    + "}}}",
    "the same from segments": "{segments{" + "contacts(first:1){nodes{segments{" * 2 + "id" + "}}}" * 2 + "}}",
    "the same by a fragment": "{segments{...S}} fragment S on Segment{contacts(first:1){nodes{segments{...T}}}} fragment T on Segment{contacts(first:1){nodes{segments{name}}}}",
    "the same by node": '{node(id:"x"){...on Contact{'
    + "segments{contacts(first:1){nodes{" * 3
    + "id"
    + "}}}" * 3
    + "}}}",
    "segments entered": "{contacts{nodes{events{nodes{contact{segments{contacts{nodes{id}}}}}}}}}",
    "200 totals": times(200, "contacts(first:1){totalCount}"),
    "totals of one filtered list": '{contacts(first:1,filter:{name:{contains:"x"}}){'
    + " ".join(f"a{n}:totalCount(upTo:{n + 1})" for n in range(100))
    + "}}",
    "100 searches for contacts": times(100, 'contacts(first:1,filter:{name:{contains:"%"}}){nodes{id}}'),
    "100 searches in an inbox": times(100, 'tickets(first:1,filter:{text:"%"}){nodes{id}}'),
    "150 searches for names": times(150, 'eventDefinitions(first:1,search:"%"){nodes{id}}'),
    "150 lists of metrics": times(150, 'klaviyo{metrics(search:"%"){id}}'),
    "50 counts of deliveries": times(50, "klaviyo{counts{dead}}"),
    "sorted by each contact": times(
        180, 'contact(by:{id:"%"}){conversations(first:1,sort:{key:UPDATED_AT,direction:ASC}){nodes{id}}}'
    ),
    "filtered by each contact": times(
        120, 'contact(by:{id:"%"}){events(first:1,filter:{metadata:[{key:"k"}]}){nodes{id}}}'
    ),
    "keys of definitions": times(5, 'eventDefinitions(first:100,search:"%"){nodes{metadataKeys{key}}}'),
    "admins of teams": times(10, "teams{admins{displayName}}"),
    "values of summaries": "{contacts(first:100){nodes{eventSummaries(first:10){nodes{values(first:100){value}}}}}}",
    "summaries one by one": "{contacts(first:100){nodes{events(first:10){nodes{contact{"
    + " ".join(f'a{n}:eventSummary(name:"{n}"){{count}}' for n in range(60))
    + "}}}}}}",
    "attempts of deliveries": "{contacts(first:100){nodes{klaviyo{deliveries(first:50){nodes{attempts{error}}}}}}}",
    "attributes of types of tickets": "{tickets(first:100){nodes{contact{tickets{nodes{type{attributes{name}}}}}}}}",
}


@pytest.mark.parametrize("name", BOUNDED)
async def test_what_shows_or_looks_at_too_much_is_refused(workspace: Any, name: str) -> None:
    answer = await workspace.ask(BOUNDED[name])
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["LIMIT_EXCEEDED"], answer
    assert not answer.get("data")


async def test_what_is_looked_at_is_taken_from_the_rate_limit(open_gateway: Any) -> None:
    async with open_gateway(rate_limit_cost="2000/hour") as gateway:
        workspace = await gateway.workspace()
        search = '{ contacts(first: 1, filter: {name: {contains: "x"}}) { nodes { id } } }'
        request = orjson.dumps({"query": search, "extensions": {"cost": True}})
        answer = (await workspace.post("", raw=request)).json()
        assert answer["extensions"] == {"cost": 1 + 1400 + 1400 // 20}
        (error,) = (await workspace.ask(search))["errors"]
        assert error["extensions"]["code"] == "RATE_LIMITED"


async def test_introspection_costs_what_it_shows(open_gateway: Any) -> None:
    async with open_gateway(introspection=True) as gateway:
        workspace = await gateway.workspace()
        assert "errors" not in await workspace.ask("{ __schema { types { name fields { name args { name } } } } }")
        (error,) = (await workspace.ask(times(60, "__schema{types{fields{name}}}")))["errors"]
        assert error["extensions"]["code"] == "LIMIT_EXCEEDED"
