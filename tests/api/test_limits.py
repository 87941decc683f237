"""What attackers send: each answer a clear 4xx or userError, while the gateway goes on serving others."""

import asyncio
from typing import Any

import orjson
import pytest

from gateway.settings import Settings
from schema.limits import OperationLimits
from schema.root import build_schema

ASK = b'{"query": "{ viewer { id } }"}'


def body(query: str, **variables: Any) -> bytes:
    return orjson.dumps({"query": query, "variables": variables})


TRACK = 'mutation($m: JSONObject) { trackEvent(input: {contact: {externalId: \\"u\\"}, name: \\"n\\", metadata: $m}) { event { id } userErrors { code path } } }'


def tracking(metadata: str) -> bytes:
    return f'{{"query": "{TRACK}", "variables": {{"m": {metadata}}}}}'.encode()


REFUSED = {
    "10,000 aliases": (body("{" + " ".join(f"a{n}: __typename" for n in range(10_000)) + "}"), "LIMIT_EXCEEDED"),
    "300 aliases": (body("{" + " ".join(f"a{n}: __typename" for n in range(300)) + "}"), "LIMIT_EXCEEDED"),
    "300 aliases in a fragment spread thrice": (
        body(
            "{ ...A ... { ...A } ... { ...A } } fragment A on Query {"
            + " ".join(f"a{n}: __typename" for n in range(100))
            + "}"
        ),
        "LIMIT_EXCEEDED",
    ),
    "5,000 directives": (body("{ __typename " + "@include(if: true) " * 5000 + "}"), "LIMIT_EXCEEDED"),
    "500 directives": (body("{ __typename " + "@include(if: true) " * 500 + "}"), "LIMIT_EXCEEDED"),
    "2,000 duplicate fields": (body("{" + "__typename " * 2000 + "}"), "LIMIT_EXCEEDED"),
    "a fragment spread 2,000 times": (
        body("{" + "...A " * 2000 + "} fragment A on Query { __typename }"),
        "LIMIT_EXCEEDED",
    ),
    "amplifying fragments": (
        body(
            "{ ...F0 }"
            + "".join(f" fragment F{n} on Query {{ ...F{n + 1} ... {{ ...F{n + 1} }} }}" for n in range(40))
            + " fragment F40 on Query { __typename }"
        ),
        "LIMIT_EXCEEDED",
    ),
    "circular fragments": (
        body("{ ...A } fragment A on Query { ...B } fragment B on Query { ...A __typename }"),
        "BAD_REQUEST",
    ),
    "depth 500": (body("{" + "node(id: 1) {" * 500 + "id" + "}" * 501), "LIMIT_EXCEEDED"),
    "depth 21": (
        body('{ node(id: "x") { ... on Contact {' + " events { nodes { contact {" * 7 + " id" + "}}}" * 7 + "}}}"),
        "LIMIT_EXCEEDED",
    ),
    "100,000 braces": (body("{" * 100_000), "BAD_REQUEST"),
    "2,000 braces": (body("{" * 2000), "BAD_REQUEST"),
    "lists in a list, 2,000 deep": (body("{ nodes(ids: " + "[" * 2000 + "]" * 2000 + ") { id } }"), "LIMIT_EXCEEDED"),
    "a 10 MB query": (body("{ __typename #" + "x" * 10_000_000 + "\n}"), "LIMIT_EXCEEDED"),
    "50 MB of variables": (body("{ __typename }", v="x" * 50_000_000), "LIMIT_EXCEEDED"),
    "JSON 100,000 deep": (
        b'{"query": "{ __typename }", "variables": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        "BAD_REQUEST",
    ),
    "invalid UTF-8": (b'{"query": "{ __typename \xff }"}', "BAD_REQUEST"),
    "a batch": (b"[" + ASK + b"," + ASK + b"]", "BAD_REQUEST"),
    "a page of pages of pages": (
        body(
            "{ contacts(first: 100) { nodes { events(first: 100) { nodes { contact { events(first: 100) { nodes { id } } } } } } } }"
        ),
        "LIMIT_EXCEEDED",
    ),
    "the same by variables": (
        body(
            "query($n: Int = 100) { contacts(first: $n) { nodes { events(first: $n) { nodes { contact { events(last: $n) { nodes { id } } } } } } } }"
        ),
        "LIMIT_EXCEEDED",
    ),
    "101 ids": (body("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=["x"] * 101), "BAD_REQUEST"),
    "two operations and no name": (body("query A { __typename } query B { __typename }"), "BAD_REQUEST"),
    "an operator for a value": (
        body("query($by: ContactKey!) { contact(by: $by) { id } }", by={"externalId": {"$ne": None}}),
        "BAD_REQUEST",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_too_much_is_refused_at_once_while_others_are_served(workspace: Any, name: str) -> None:
    content, code = REFUSED[name]
    attack, others = await asyncio.gather(workspace.post("", raw=content), workspace.post("", raw=ASK))
    answer = attack.json()
    assert [error["extensions"]["code"] for error in answer["errors"]][:1] == [code], attack.text[:500]
    assert not answer.get("data") or not any(answer["data"].values())
    assert "errors" not in others.json()


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ('{"a": NaN}', ["a"]),
        ('{"a": 1e400}', ["a"]),
        ('{"a": 9223372036854775808}', ["a"]),
        ('{"a": ' + "9" * 5000 + "}", ["a"]),
        ('{"a": "\\ud800"}', ["a"]),
        ('{"a\\u0000": 1}', None),
        ('{"$where": "1"}', ["$where"]),
        ('{"a": {"$gt": ""}}', ["a", "$gt"]),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", None),
        ("{" + ",".join(f'"k{n}": 1' for n in range(101)) + "}", ["k100"]),
        ('{"a": "' + "x" * 40_000 + '"}', ["a"]),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_hostile_metadata_is_the_items_user_error(workspace: Any, metadata: str, path: list[str] | None) -> None:
    answer = (await workspace.post("", raw=tracking(metadata))).json()
    (error,) = answer["data"]["trackEvent"]["userErrors"]
    assert answer["data"]["trackEvent"]["event"] is None
    if path is not None:
        assert error["path"] == ["input", "metadata", *path]
    assert await workspace.store.events._find({}) == []


async def test_of_two_equal_keys_the_last_counts(workspace: Any) -> None:
    answer = (await workspace.post("", raw=tracking('{"a": 1, "a": 2}'))).json()
    event = answer["data"]["trackEvent"]["event"]["id"]
    assert await workspace.data("query($id: ID!) { event(id: $id) { metadataJson } }", {"id": event}) == {
        "event": {"metadataJson": {"a": 2}}
    }


async def test_the_cost_is_shown_when_it_is_asked_for(workspace: Any) -> None:
    query = "query($n: Int) { contacts(first: 10) { nodes { events(first: $n) { nodes { id } } eventSummaries { nodes { name } } } } viewer { id } }"
    request = {"query": query, "variables": {"n": 5}, "extensions": {"cost": True}}
    answer = (await workspace.post("", raw=orjson.dumps(request))).json()
    assert answer["extensions"] == {"cost": 10 + 10 * 5 + 10 * 20 + 1}
    assert "extensions" not in (await workspace.post(query, {"n": 5})).json()


async def test_limits_are_settings(open_gateway: Any) -> None:
    async with open_gateway(max_depth=3, max_cost=30, max_tokens=100) as gateway:
        workspace = await gateway.workspace()
        assert "errors" not in await workspace.ask("{ contacts(first: 30) { nodes { id } } }")
        for query, text in (
            ("{ contacts(first: 31) { nodes { id } } }", "may return 31 rows; the limit is 30"),
            ("{ contacts(first: 1) { nodes { events { nodes { id } } } } }", "more than 3 levels of fields"),
            ("{" + " __typename" * 120 + "}", "more than 100 tokens"),
        ):
            (error,) = (await workspace.ask(query))["errors"]
            assert error["extensions"]["code"] == "LIMIT_EXCEEDED"
            assert text in error["message"]


def test_a_cost_is_remembered_for_equal_values_of_variables_alone() -> None:
    limits = OperationLimits(build_schema().core, Settings())
    page, nodes = (
        "query($n: Int) { contacts(first: $n) { nodes { id } } }",
        "query($i: [ID!]!) { nodes(ids: $i) { id } }",
    )
    values = [5, 50, None, "5", "50", True, 1, 1.0, 10**9]
    for _ in range(2):
        assert [limits.check(page, {"n": n}, None).cost for n in values] == [5, 50, 20, 100, 100, 1, 1, 100, 100]
        assert [limits.check(nodes, {"i": ["a"] * count}, None).cost for count in (1, 2, 3)] == [1, 2, 3]
