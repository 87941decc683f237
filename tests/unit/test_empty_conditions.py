"""Empty conditions: they mean what they always did, and nothing of them is left to be decided."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.filters.access_paths import access_path
from gateway.domain.filters.conditions import EVERYBODY, NOBODY, ContactFacts, parse_filter
from gateway.domain.filters.segments import SegmentGraph

NOW = datetime(2026, 5, 10, tzinfo=UTC)
CONTACT = {"_id": "con_x", "role": "USER", "name": "Ann", "tags": ["vip"], "custom_attributes": {}}

leaves = st.sampled_from([{}, {"role": ["USER"]}, {"role": ["LEAD"]}, {"tag": {"eq": "vip"}}, {"name": {"eq": "x"}}])
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries({}, optional={"and": st.lists(inner, max_size=3), "or": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"or": st.lists(inner, max_size=3), "role": st.just(["USER"])}),
    ),
    max_leaves=8,
).filter(lambda asked: nested(asked) <= 5)


def nested(asked: dict[str, Any]) -> int:
    parts = [*asked.get("and", ()), *asked.get("or", ()), *([asked["not"]] if "not" in asked else [])]
    return 1 + max(map(nested, parts), default=0)


def holds(asked: dict[str, Any]) -> bool:
    """What a filter means, as plainly as Python says it."""
    decided = {
        "and": lambda parts: all(map(holds, parts)),
        "or": lambda parts: any(map(holds, parts)),
        "not": lambda part: not holds(part),
        "role": lambda roles: CONTACT["role"] in roles,
        "tag": lambda text: text["eq"] in CONTACT["tags"],
        "name": lambda text: text["eq"] == CONTACT["name"],
    }
    return all(decided[name](value) for name, value in asked.items())


def conditions(asked: dict[str, Any]) -> int:
    parts = [*asked.get("and", ()), *asked.get("or", ()), *([asked["not"]] if "not" in asked else [])]
    return sum(name in ("role", "tag", "name") for name in asked) + sum(map(conditions, parts))


def nodes(condition: Any) -> int:
    parts = getattr(condition, "parts", None) or ([condition.part] if hasattr(condition, "part") else [])
    return 1 + sum(map(nodes, parts))


@given(filters)
def test_a_filter_with_empty_conditions_means_what_it_says(asked: dict[str, Any]) -> None:
    condition = parse_filter(asked)
    assert condition.evaluate(ContactFacts(CONTACT, NOW)) is holds(asked)
    assert nodes(condition) <= 1 + 12 * conditions(asked)  # each with what wraps it, five levels deep
    access_path(condition)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, EVERYBODY),
        ({"and": []}, EVERYBODY),
        ({"and": [{}] * 2000}, EVERYBODY),
        ({"or": []}, NOBODY),
        ({"or": [{}] * 2000}, EVERYBODY),
        ({"not": {}}, NOBODY),
        ({"not": {"not": {"or": []}}}, NOBODY),
        ({"or": [{"or": []}] * 500}, NOBODY),
        ({"and": [{"not": {"and": [{}] * 500}}] * 500}, NOBODY),
        ({"and": [{"and": [{}] * 50}] * 50, "or": [{"and": []}]}, EVERYBODY),
    ],
)
def test_what_has_no_condition_is_everybody_or_nobody(asked: dict[str, Any], expected: Any) -> None:
    assert parse_filter(asked) is expected


def test_a_segment_that_was_stored_with_thousands_of_them_is_decided_by_its_conditions_alone() -> None:
    wrapped = {
        "and": [{}] * 3000
        + [{"or": [{"tag": {"eq": "vip"}}, *[{"and": [{}]}] * 10, {"not": {}}]}]
        + [{"not": {"not": {}}}] * 3000
    }
    rows = [{"_id": "seg_a", "name": "a", "filter": wrapped}]
    condition = SegmentGraph(rows).condition("seg_a")
    assert nodes(condition) <= 6
    assert condition.evaluate(ContactFacts(CONTACT, NOW)) is True


def test_a_segment_that_is_not_there_is_still_told_beside_nobody() -> None:
    assert parse_filter({"and": [{"segment": "seg_x"}, {"or": []}]}).segments() == {"seg_x"}
    assert parse_filter({"or": [{}, {"segment": "seg_x"}]}).segments() == {"seg_x"}
