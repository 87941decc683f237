"""Documents that amplify, with fragments that are unknown or spread themselves: refused at once, over HTTP and over sockets."""

import asyncio
from typing import Any

import orjson
import pytest
import websockets
from websockets.typing import Subprotocol

TWICE = "fragment f{n} on {type}{{...{{...f{m}}}...{{...f{m}}}}}"


def doubled(levels: int, end: str, start: str = "{...f0}", type_: str = "Query") -> str:
    inner = "".join(TWICE.format(n=n, m=n + 1, type=type_) for n in range(levels))
    return start + inner + f"fragment f{levels} on {type_}{{{end}}}"


def body(query: str) -> bytes:
    name = "A" if "query A" in query else None
    return orjson.dumps({"query": query, "variables": {"a": "x"}, "operationName": name})


AMPLIFIED = {
    "an unknown one at the end": (doubled(60, "...nope"), "does not define it"),
    "the first one at the end": (doubled(60, "...f0"), "spreads itself"),
    "itself at the end": (doubled(60, "...f60"), "spreads itself"),
    "one in the middle": (doubled(60, "...{...f30}"), "spreads itself"),
    "never spread": (doubled(60, "...nope", start="{__typename}"), "does not define it"),
    "in an operation that is not meant": (
        doubled(60, "...nope", start="query A{__typename} query B{...f0}"),
        "does not define it",
    ),
    "below a field": (doubled(60, "...nope", start="{viewer{...f0}}", type_="Viewer"), "does not define it"),
    "behind another one of its name": (
        doubled(60, "__typename", start="{__typename}") + "fragment f9 on Query{__typename}",
        "two fragments named 'f9'",
    ),
    "on an unknown type": (doubled(60, "...nope", type_="Nothing"), "does not define it"),
    "in a mutation": (doubled(60, "...f0", start="mutation{...f0}", type_="Mutation"), "spreads itself"),
    "with directives": (
        "{...f0}"
        + "".join(
            f"fragment f{n} on Query{{...f{n + 1}@include(if:true)...f{n + 1}@skip(if:false)}}" for n in range(60)
        )
        + "fragment f60 on Query{...f60}",
        "spreads itself",
    ),
    "a small one": (
        "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
        "'A' spreads itself, through 'B'",
    ),
    "an unknown small one": ("{ ...A viewer { id } }", "the fragment 'A' but does not define it"),
}


@pytest.mark.parametrize("name", AMPLIFIED)
@pytest.mark.parametrize("key", [True, False])
async def test_unknown_and_circular_fragments_are_refused_by_name(workspace: Any, name: str, key: bool) -> None:
    query, told = AMPLIFIED[name]
    response = await workspace.post("", raw=body(query), key=None if key else "")
    (error,) = response.json()["errors"]
    assert error["extensions"]["retryable"] is False
    if key:
        assert (error["extensions"]["code"], response.status_code) == ("BAD_REQUEST", 400)
        assert told in error["message"]


@pytest.mark.parametrize("name", ["an unknown one at the end", "itself at the end"])
async def test_a_socket_refuses_them_and_goes_on(workspace: Any, name: str) -> None:
    query, told = AMPLIFIED[name]
    subscription = query.replace("{...f0}", "subscription{...f0}", 1).replace("on Query", "on Subscription")
    url = workspace.gateway.url.replace("http:", "ws:")
    async with websockets.connect(url, subprotocols=[Subprotocol("graphql-transport-ws")], compression=None) as socket:
        for message in (
            {"type": "connection_init", "payload": {"Authorization": f"Bearer {workspace.key}"}},
            {"type": "subscribe", "id": "1", "payload": {"query": subscription}},
            {"type": "subscribe", "id": "2", "payload": {"query": "{ viewer { id } }"}},
        ):
            await socket.send(orjson.dumps(message).decode())
        received = [orjson.loads(await asyncio.wait_for(socket.recv(), 20)) for _ in range(4)]
    by_id = {message.get("id"): message for message in received if message["type"] in ("error", "next")}
    assert told in by_id["1"]["payload"][0]["message"]
    assert by_id["2"]["payload"]["data"]["viewer"]["id"]


LARGE = {
    "fragments that end in a leaf": doubled(60, "__typename"),
    "inline fragments without fields": "{" + "...{" * 160 + "__typename" + "}" * 160 + "}",
    "inline fragments by fragments": "{...f0}"
    + "".join(f"fragment f{n} on Query{{...{{...{{...f{n + 1}}}}}}}" for n in range(80))
    + "fragment f80 on Query{__typename}",
    "a chain of fragments": "{...f0}"
    + "".join(f"fragment f{n} on Query{{...f{n + 1}}}" for n in range(500))
    + "fragment f500 on Query{__typename}",
    "operations that share a fragment": "query A{...F}"
    + "".join(f"query A{n}{{...F}}" for n in range(200))
    + "fragment F on Query{"
    + " ".join(f"a{n}:__typename" for n in range(100))
    + "}",
    "values in fragments": "query A($a:ID!){"
    + " ".join(f"a{n}:viewer{{...F}}" for n in range(100))
    + "}fragment F on Viewer{contact{events(filter:{name:["
    + "$a " * 100
    + "]}){nodes{id}}}}",
}


@pytest.mark.parametrize("name", LARGE)
async def test_what_is_large_with_its_fragments_spelled_out_is_refused(workspace: Any, name: str) -> None:
    response = await workspace.post("", raw=body(LARGE[name]))
    (error,) = response.json()["errors"]
    assert (error["extensions"]["code"], response.status_code) == ("LIMIT_EXCEEDED", 413), error


async def test_fields_in_too_many_fragments_side_by_side_are_told_so(workspace: Any) -> None:
    fragments = "".join(f"fragment A{n} on Query{{viewer{{id workspace{{id}}}}}}" for n in range(250))
    (error,) = (await workspace.ask("{" + " ".join(f"...A{n}" for n in range(250)) + "}" + fragments))["errors"]
    assert error["extensions"]["code"] == "BAD_REQUEST"
    assert "spread fewer fragments side by side" in error["message"]
