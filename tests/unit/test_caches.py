"""Caches that share a budget: what goes first, what grows, what is too large, and that weights are what memory takes."""

import gc
import itertools
import tracemalloc
from typing import Any

import orjson
import pytest
from graphql import get_named_type, is_leaf_type, is_object_type
from graphql.execution.values import VariableValues

from gateway.caches import ENTRY_BYTES, Cache, CacheBudget, data_bytes
from gateway.domain.messages.templates import Templates
from gateway.execution.documents import PreparedDocuments
from gateway.execution.plans import Planner
from gateway.observability import Metrics
from schema.nodes import document_key
from schema.root import build_schema

MOST = 8_000
WIDE = "\N{GRINNING FACE}"


def cache(budget: CacheBudget, **options: Any) -> Cache[str, int]:
    """A cache of numbers, each of which is what its entry weighs."""
    return Cache(budget, lambda _, weight: weight - ENTRY_BYTES, **options)


def kept(several: list[Cache[str, int]]) -> str:
    return "".join(name for one in several for name in "abcdefghijkl" if name in one)


def test_what_was_used_least_recently_goes_first_in_all_caches_together() -> None:
    budget = CacheBudget(MOST)
    first, second = cache(budget), cache(budget)
    for name in "abcd":
        first.put(name, 1000)
    for name in "efgh":
        second.put(name, 1000)
    assert (kept([first, second]), budget.weight) == ("abcdefgh", MOST)
    assert (first.get("a"), second.get("e")) == (1000, 1000)
    second.put("i", 1000)
    second.put("j", 500)
    assert kept([first, second]) == "adefghij"
    first.put("a", 400)
    assert (kept([first, second]), budget.weight) == ("adefghij", 6900)
    first.pop("d")
    second.clear()
    assert (kept([first, second]), budget.weight) == ("a", 400)


def test_an_entry_that_grows_pushes_others_out_and_goes_itself_where_it_is_too_large() -> None:
    budget = CacheBudget(MOST)
    one = cache(budget)
    entries = {name: one.put(name, 900) for name in "abcdefgh"}
    entries["h"].add(100)
    assert (kept([one]), budget.weight) == ("abcdefgh", 7300)
    entries["g"].add(100)
    one.put("i", 700)
    assert kept([one]) == "bcdefghi"
    entries["h"].add(1)
    assert (kept([one]), budget.weight) == ("bcdefgi", 6 * 900 + 100 + 700)
    for name in "ah":
        entries[name].add(5000)  # what is gone weighs nothing
    assert budget.weight == 6 * 900 + 100 + 700
    one.put("k", 1001)
    assert kept([one]) == "bcdefgi"


def test_what_is_old_is_gone() -> None:
    budget, now = CacheBudget(MOST), 0.0
    one = cache(budget, seconds=5, most=3, timer=lambda: now)
    for name in "ab":
        one.put(name, 700)
    now = 4.9
    assert one.get("a") == 700
    one.put("c", 700)
    one.put("d", 700)
    assert kept([one]) == "bcd"
    now = 5.0
    assert one.get("b") is None
    assert (kept([one]), budget.weight) == ("cd", 1400)
    now = 10.0
    one.put("e", 700)
    assert (kept([one]), budget.weight) == ("e", 700)


def test_an_entry_may_count_as_several() -> None:
    one = cache(CacheBudget(100 * MOST), most=3, places_of=lambda weight: weight // 700)
    for name in "abc":
        one.put(name, 700)
    one.get("a")
    one.put("e", 1400)
    assert kept([one]) == "ae"


@pytest.mark.parametrize(
    "data",
    [
        "x" * 10_000,
        WIDE * 10_000,
        [{"name": f"event {number}", "count": number, "values": [1.5] * 10} for number in range(1000)],
        {f"key {number}": {"inner": [f"{number}"]} for number in range(1000)},
        None,
    ],
    ids=["text", "wide text", "list", "object", "nothing"],
)
def test_the_estimate_of_data_is_near_what_they_take(data: Any) -> None:
    text = orjson.dumps(data)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    copied = orjson.loads(text)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert copied == data
    assert taken / 2 <= data_bytes(data) <= 3 * taken + 1000


# ---- documents with their plans ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> Any:
    return build_schema().core


def shapes(schema: Any) -> dict[str, str]:
    """Documents about as large as the limits allow, each large in another way; `COPY` is replaced by the number of a copy."""
    fields = schema.type_map["Contact"].fields
    leaves = [name for name, one in fields.items() if not one.args and is_leaf_type(get_named_type(one.type))][:20]
    every = " ".join(leaves)
    aliases = [f'a{number}: contact(by: {{id: "COPY"}})' for number in range(20)]
    conditions = " ".join(f"$v{number}: Boolean = true" for number in range(5))
    return {
        "spelled out": f"{{ {' '.join(f'{alias} {{ {every} }}' for alias in aliases)} }}",
        "a fragment and one field more": f"{{ {' '.join(f'{alias} {{ ...F x{number}: id }}' for number, alias in enumerate(aliases[:100]))} }} fragment F on Contact {{ {every} }}",
        "many operations": " ".join(
            f'query q{number} {{ contact(by: {{id: "COPY"}}) {{ {every} }} }}' for number in range(150)
        ),
        "a long text": f'{{ contact(by: {{id: "COPY{"x" * 90_000}"}}) {{ id }} }}',
        "a wide text": '{ contact(by: {id: "COPY' + WIDE + "x" * 90_000 + '"}) { id } }',
        "a block text": '{ contact(by: {id: """COPY' + "x\\n" * 40_000 + '"""}) { id } }',
        "comments": "#COPY\n" * 4000 + "{ viewer { id } }",
        "a long comment": "#COPY" + "x" * 95_000 + "\n{ viewer { id } }",
        "descriptions": " ".join(
            f'"""{"x" * 600}COPY""" query q{number} {{ viewer {{ id }} }}' for number in range(140)
        ),
        "a list of texts": f'{{ nodes(ids: [{" ".join(f"{number}" for number in range(4800))} "COPY"]) {{ id }} }}',
        "variables": f"query({' '.join(f'$v{number}: Int = 1' for number in range(190))}) {{ {' '.join(f'a{number}: contacts(first: $v{number}) {{ nodes {{ ...F }} }}' for number in range(190))} }} fragment F on Contact {{ {every} }} #COPY",
        "conditions": f"query({conditions}) {{ {' '.join(f'{alias} {{ {every} }}' for alias in aliases[:30])} {' '.join(f'v{number}: __typename @include(if: $v{number})' for number in range(5))} }}",
    }


def compile_all(planner: Planner, prepared: Any) -> None:
    """Compile all that an execution may: of conditional operations for each set of values."""
    for node in prepared.operations[:5]:
        several = itertools.product(
            [True, False], repeat=4 if node.variable_definitions and "$v4: Boolean" in prepared.entry.key else 0
        )
        for values in several:
            coerced = {f"v{number}": value for number, value in enumerate(values)}
            plan = planner.plan(prepared, node, VariableValues({}, coerced))
            if plan is not None:
                for compiled in list(plan._compiled.values()):
                    type_ = get_named_type(compiled.field.definition.type)
                    if is_object_type(type_):
                        plan.select_of(type_, "", compiled.field)


SHAPES = tuple(shapes(build_schema().core))


@pytest.mark.parametrize("name", SHAPES)
def test_documents_and_their_plans_take_no_more_memory_than_their_budget(schema: Any, name: str) -> None:
    most = 1_000_000
    budget = CacheBudget(most)
    planner, documents = Planner(schema, document_key), PreparedDocuments(schema, Metrics(), budget)
    text = shapes(schema)[name]

    def flood(copies: range) -> None:
        for copy in copies:
            prepared = documents.prepare(text.replace("COPY", f"{copy:06}"))
            assert prepared.errors == []
            compile_all(planner, prepared)

    flood(range(1))  # what is found out once for the schema is no part of it
    gc.collect()
    tracemalloc.start()
    copies = 1
    try:
        while budget.weight < most * 0.8 and copies < 15:
            flood(range(copies, copies + 1))
            copies += 1
            if len(documents._documents) < copies:
                break  # it is full
        flood(range(copies, copies + 3))
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert budget.weight <= most
    assert taken <= most * 1.3
    assert taken >= budget.weight * 0.3, "the weights are far from what the memory is"


def test_what_is_pushed_out_goes_at_once_and_not_when_somebody_looks_for_circles(schema: Any) -> None:
    budget = CacheBudget(100_000_000)
    planner, documents = Planner(schema, document_key), PreparedDocuments(schema, Metrics(), budget)
    text = shapes(schema)["spelled out"]
    for copy in ("one", "two"):
        prepared = documents.prepare(text.replace("COPY", copy))
        compile_all(planner, prepared)
        gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        compile_all(planner, documents.prepare(text.replace("COPY", "three")))
        del prepared
        gc.collect()  # what validation leaves
        before = tracemalloc.get_traced_memory()[0]
        documents._documents.pop(text.replace("COPY", "three"))
        assert tracemalloc.get_traced_memory()[0] < before * 0.3
    finally:
        tracemalloc.stop()
        gc.enable()


def test_templates_take_no_more_memory_than_their_budget() -> None:
    budget = CacheBudget(2_000_000)
    templates = Templates(caches=budget)
    templates.render("{{ contact.name }}", {"contact": {}})
    tracemalloc.start()
    for number in range(20):
        templates.render("{{a}}" * 1900 + str(number), {})
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(templates._parsed) < 20
    assert taken <= 2_000_000 * 1.2
