"""Every pass over a document takes steps in proportion to its tokens, whatever its fragments spread, unknown and circular ones too."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from examples import examples
from graphql import Lexer, Source, TokenKind
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequestError, GatewayError, LimitExceededError
from gateway.execution.documents import Prepared, prepare_document
from gateway.execution.executor import Operations
from gateway.execution.plans import Planner
from gateway.observability import Metrics
from gateway.settings import Settings
from schema.limits import OperationLimits
from schema.nodes import document_key
from schema.root import build_schema

SCHEMA = build_schema()
LIMITED = Settings(introspection=True)
# Calls of functions for each token, and for a document without any: of what was measured the next round number.
CHECK, READ, PLAN, ASK = 60, 800, 1500, 60
FEW = 20_000


def tokens(text: str) -> int:
    lexer, count = Lexer(Source(text)), 0
    while lexer.advance().kind is not TokenKind.EOF:
        count += 1
    return count


def calls(function: Callable[[], Any]) -> tuple[int, Any]:
    """How many functions were called, those of C among them, and what came of it: an exception too."""
    count = 0

    def count_call(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(count_call)
    try:
        result = function()
    except Exception as error:
        result = error
    finally:
        sys.setprofile(None)
    return count, result


@dataclass
class Passes:
    """How many calls each pass over a document took."""

    text: str
    refused: Exception | None = None
    errors: int = 0

    def run(self) -> "Passes":
        most = tokens(self.text)
        limits = OperationLimits(SCHEMA.core, LIMITED)
        name = "O0" if "query O0" in self.text else None
        count, result = calls(lambda: limits.check(self.text, {"a": "x", "n": 5}, name))
        assert count <= CHECK * most + FEW, ("check", count / most)
        if isinstance(result, Exception):
            assert isinstance(result, GatewayError), result
            self.refused = result
            return self
        count, prepared = calls(lambda: prepare_document(SCHEMA.core, self.text))
        assert count <= READ * most + FEW, ("read", count / most)
        assert isinstance(prepared, Prepared)
        self.errors = len(prepared.errors)
        if prepared.errors:
            return self
        node = prepared.named(name)
        planner = Planner(SCHEMA.core, document_key)
        variables: Any = type("Variables", (), {"coerced": {"a": "x", "n": 5}, "sources": {}})()
        count, _ = calls(lambda: planner.plan(prepared, node, variables))
        assert count <= PLAN * most + FEW, ("plan", count / most)
        operations = Operations(SCHEMA.core, lambda *_: None, Metrics(), resume_argument="after")
        count, _ = calls(lambda: operations.sharing_key(self.text, {"a": "x", "n": 5}, name, None))
        assert count <= (READ + ASK) * most + FEW, ("ask", count / most)
        return self


LEAVES = ["__typename", "id", "a: id", "totalCount", "nodes{id}", 'events(filter:{metadata:[{key:"k"}]}){nodes{id}}']
NAMES = [f"f{number}" for number in range(12)]


@st.composite
def selections(draw: Any, names: list[str], depth: int = 0) -> str:
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["leaf", "spread", "spread", "inline", "typed", "field"]))
        if kind == "leaf" or depth > 3:
            parts.append(draw(st.sampled_from(LEAVES[:1] if depth == 0 else LEAVES)))
        elif kind == "spread":
            parts.append("..." + draw(st.sampled_from(names)))
        elif kind in ("inline", "typed"):
            condition = draw(st.sampled_from(["", "on Query", "on Contact", "on Node"])) if kind == "typed" else ""
            parts.append(f"...{condition}{{{draw(selections(names, depth + 1))}}}")
        else:
            field = draw(st.sampled_from(["x: viewer", "contacts(first: $n)", "segments", "nodes(ids: [$a, $a])"]))
            parts.append(f"{field}{{{draw(selections(names, depth + 1))}}}")
    return " ".join(parts)


@st.composite
def documents(draw: Any) -> str:
    """Documents whose fragments spread later ones, so that they amplify, or any: unknown ones and themselves among them."""
    circular, unknown = draw(st.booleans()), draw(st.booleans())
    known = NAMES[: draw(st.integers(1, len(NAMES)))]
    named = [*known, "nope"] if unknown else known
    texts = [f"query O{n}($a: ID!, $n: Int){{{draw(selections(named))}}}" for n in range(draw(st.integers(1, 3)))]
    for number, name in enumerate(known):
        inner = named if circular else [*known[number + 1 :], "nope"] if unknown else known[number + 1 :]
        body = draw(selections(inner)) if inner else "__typename"
        texts.append(f"fragment {name} on {draw(st.sampled_from(['Query', 'Contact', 'Node']))}{{{body}}}")
    return " ".join(texts)


@examples(60)
@given(documents())
def test_steps_are_in_proportion_to_tokens(text: str) -> None:
    Passes(text).run()


def doubled(levels: int, end: str, wrapped: Callable[[str], str]) -> str:
    inner = "".join(f"fragment f{n} on Query{{{wrapped(f'f{n + 1}')}}} " for n in range(levels))
    return f"{{...f0}} {inner} {end}"


WRAPPED: dict[str, Callable[[str], str]] = {
    "inline fragments": lambda name: f"...{{...{name}}} ...{{...{name}}}",
    "typed inline fragments": lambda name: f"...on Query{{...{name}}} ...on Query{{...{name}}}",
    "directives": lambda name: f"...{name}@include(if:true) ...@skip(if:false){{...{name}}}",
    "fields": lambda name: f"a:viewer{{...{name}}} b:viewer{{...{name}}}",
    "nested inline fragments": lambda name: f"...{{...{{...{{...{name}}}}}}} ...{{...{{...{name}}}}}",
}
ENDS = {
    "unknown": "fragment f{n} on Query{{...nope}}",
    "circular": "fragment f{n} on Query{{...f0}}",
    "itself": "fragment f{n} on Query{{...f{n}}}",
    "half way back": "fragment f{n} on Query{{...f10}}",
    "leaf": "fragment f{n} on Query{{__typename}}",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("levels", [20, 150])
def test_whatever_doubles_is_refused(levels: int, wrapped: str, end: str) -> None:
    passes = Passes(doubled(levels, ENDS[end].format(n=levels), WRAPPED[wrapped])).run()
    assert isinstance(passes.refused, LimitExceededError if end == "leaf" else BadRequestError)
    if not isinstance(passes.refused, LimitExceededError):
        assert "'nope'" in str(passes.refused) if end == "unknown" else "spreads itself" in str(passes.refused)


SIDE_BY_SIDE = {
    "fragments with one field": lambda n: (
        "{"
        + " ".join(f"...A{i}" for i in range(n))
        + "}"
        + " ".join(f"fragment A{i} on Query{{x:__typename}}" for i in range(n))
    ),
    "fragments with fields in fields": lambda n: (
        "{"
        + " ".join(f"...A{i}" for i in range(n))
        + "}"
        + " ".join(f"fragment A{i} on Query{{viewer{{id workspace{{id}}}}}}" for i in range(n))
    ),
    "fragments of several types": lambda n: (
        '{node(id:"x"){'
        + " ".join(f"...F{i}" for i in range(n))
        + "}}"
        + "".join(f" fragment F{i} on {['Contact', 'Event', 'Ticket'][i % 3]}{{id}}" for i in range(n))
    ),
    "inline fragments": lambda n: "{" + "...{__typename}" * n + "}",
    "inline fragments in each other": lambda n: "{" + "...{__typename " * n + "}" * n + "}",
    "a chain": lambda n: (
        "{...A0}"
        + "".join(f" fragment A{i} on Query{{x{i}:__typename ...A{i + 1}}}" for i in range(n))
        + f" fragment A{n} on Query{{__typename}}"
    ),
    "operations that share fragments": lambda n: (
        " ".join(f"query O{i}{{...A0}}" for i in range(n))
        + "".join(f" fragment A{i} on Query{{...A{i + 1}}}" for i in range(n))
        + f" fragment A{n} on Query{{__typename}}"
    ),
    "operations that share variables": lambda n: (
        " ".join(f"query O{i}($a:ID!){{...A}}" for i in range(n))
        + " fragment A on Query{nodes(ids:["
        + "$a " * n
        + "]){id}}"
    ),
    "values spelled out": lambda n: (
        "query O0($a:ID!){"
        + " ".join(f"a{i}:viewer{{...A}}" for i in range(n))
        + "} fragment A on Viewer{"
        + "contact{events(filter:{name:["
        + '"x" ' * n
        + "]}){nodes{id}}}}"
    ),
    "subscriptions": lambda n: (
        " ".join(f"subscription O{i}{{...A}}" for i in range(n))
        + " fragment A on Subscription{"
        + "eventTracked{cursor}" * n
        + "}"
    ),
    "fields spelled out": lambda n: (
        "{"
        + " ".join(f'a{i}:contact(by:{{id:"x"}}){{...F}}' for i in range(n))
        + "} fragment F on Contact{"
        + " ".join(f"b{i}:id" for i in range(n))
        + "}"
    ),
    "variables": lambda n: (
        "query O0("
        + " ".join(f"$a{i}:ID" for i in range(n))
        + "){nodes(ids:["
        + " ".join(f"$a{i}" for i in range(n))
        + "]){id}}"
    ),
}


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_what_grows_with_the_square_elsewhere_stays_in_proportion(name: str) -> None:
    for size in (20, 140, 600):
        Passes(SIDE_BY_SIDE[name](size)).run()


def test_many_fragments_side_by_side_are_valid() -> None:
    fragments = "".join(f" fragment A{n} on Contact{{id __typename name email f{n}:phone}}" for n in range(60))
    passes = Passes("{contacts{nodes{" + " ".join(f"...A{n}" for n in range(60)) + "}}}" + fragments).run()
    assert (passes.refused, passes.errors) == (None, 0)
