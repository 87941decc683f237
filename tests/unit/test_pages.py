"""Cursors and connections: a page shows what was asked for, and a cursor that is not its list's is refused."""

import base64
import bisect
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.cursors import CursorCipher
from gateway.core.pagination import (
    DEFAULT_SIZE,
    LARGEST_SIZE,
    Page,
    PageArguments,
    connection,
    edges,
    page,
    page_info,
)
from gateway.errors import BadRequestError

CIPHER = CursorCipher([b"a secret of this test"])
SCOPE = ("events", "wsp_1", {"name": ["a"], "contact_id": "con_1"})
URL_SAFE = string.ascii_letters + string.digits + "-_"
positions = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def asked_for(*scope: object, **arguments: Any) -> Page:
    return page(PageArguments(**arguments), CIPHER, *(scope or SCOPE))


def sealed(position: str, *scope: object) -> str:
    in_list = asked_for(*scope).scope
    assert in_list is not None
    return in_list.cursor(position)


def read(rows: list[str], asked: Page) -> list[dict[str, Any]]:
    """What a store would read: ascending rows between two positions, in the page's own direction, up to its limit."""
    low = 0 if asked.after is None else bisect.bisect_right(rows, asked.after)
    high = len(rows) if asked.before is None else bisect.bisect_left(rows, asked.before)
    between = rows[low:high][:: -1 if asked.backward else 1]
    return [{"_id": row} for row in between[: asked.limit]]


def shown(rows: list[str], **arguments: Any) -> dict[str, Any]:
    asked = asked_for(**arguments)
    found = connection(read(rows, asked), asked, lambda row: row["_id"])
    return {"edges": edges(found), "nodes": found["nodes"], "page_info": page_info(found)}


# ---- what is asked for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "size", "backward"),
    [
        ({}, DEFAULT_SIZE, False),
        ({"first": 1}, 1, False),
        ({"first": LARGEST_SIZE}, LARGEST_SIZE, False),
        ({"last": 1}, 1, True),
        ({"last": LARGEST_SIZE}, LARGEST_SIZE, True),
    ],
)
def test_sizes(arguments: dict[str, int], size: int, backward: bool) -> None:
    asked = asked_for(**arguments)
    assert (asked.size, asked.limit, asked.backward, asked.after, asked.before) == (
        size,
        size + 1,
        backward,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({name: size}, name) for name in ("first", "last") for size in (0, -1, LARGEST_SIZE + 1, 2**31 - 1, -(2**31))],
)
def test_sizes_out_of_range_are_refused_by_name(arguments: dict[str, int], named: str) -> None:
    with pytest.raises(BadRequestError, match=f"^'{named}' must be from 1 to 100, not {arguments[named]}\\.$"):
        asked_for(**arguments)


def test_first_and_last_exclude_each_other() -> None:
    with pytest.raises(BadRequestError, match="cannot be combined"):
        asked_for(first=1, last=1)


# ---- cursors ---------------------------------------------------------------------------------------------------------


@given(positions)
def test_a_cursor_leads_back_to_its_position(position: str) -> None:
    text = sealed(position)
    assert set(text) <= set(URL_SAFE)
    assert asked_for(after=text).after == position
    assert asked_for(before=text).before == position


def test_the_cursors_of_a_connection_lead_to_its_rows() -> None:
    rows = ["a", "b", "ü", "日本", "x y", "\N{PILE OF POO}"]
    for edge in shown(rows, first=100)["edges"]:
        assert asked_for(after=edge["cursor"]).after == edge["node"]["_id"]


def test_a_scope_is_the_same_whatever_the_order_of_its_filter() -> None:
    text = sealed("p", "events", {"a": 1, "b": {"c": 2, "d": 3}})
    assert asked_for("events", {"b": {"d": 3, "c": 2}, "a": 1}, after=text).after == "p"


@pytest.mark.parametrize(
    "scope",
    [
        (),
        ("events",),
        ("events", "wsp_1"),
        ("events", "wsp_2", SCOPE[2]),
        ("contacts", "wsp_1", SCOPE[2]),
        ("events", "wsp_1", {**SCOPE[2], "contact_id": "con_2"}),  # type: ignore[dict-item]
        ("events", "wsp_1", {"name": ["a"]}),
        ("events", "wsp_1", {"name": ["a", "b"], "contact_id": "con_1"}),
        ("events", "wsp_1", {"name": ["a"], "contact_id": None}),
        ("events", "wsp_1", SCOPE[2], None),
    ],
    ids=str,
)
@pytest.mark.parametrize("argument", ["after", "before"])
def test_a_cursor_of_another_list_parent_or_filter_is_refused(scope: tuple[object, ...], argument: str) -> None:
    in_list = page(PageArguments(), CIPHER, *scope).scope
    assert in_list is not None
    other = in_list.cursor("p")
    with pytest.raises(BadRequestError, match=f"^'{argument}' is not a cursor of this list"):
        asked_for(**{argument: other})


@pytest.mark.parametrize("argument", ["after", "before"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "=",
        "====",
        "A",
        "AAAA",
        "é",
        "日本",
        "\0",
        "\ud800",
        "not a cursor",
        "a" * 100_000,
        "-" * 11,
        "null",
        "0",
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_is_no_cursor_is_refused(text: str, argument: str) -> None:
    with pytest.raises(BadRequestError, match=f"^'{argument}' is"):
        asked_for(**{argument: text})


@given(st.text() | st.text(URL_SAFE) | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_random_text_is_refused(text: str) -> None:
    with pytest.raises(BadRequestError):
        asked_for(after=text)


@given(positions, st.data())
def test_a_truncated_cursor_is_refused(position: str, data: st.DataObject) -> None:
    text = sealed(position)
    with pytest.raises(BadRequestError):
        asked_for(after=text[: data.draw(st.integers(0, len(text) - 1))])


@given(positions, st.data())
def test_a_cursor_with_any_character_changed_is_refused(position: str, data: st.DataObject) -> None:
    text = sealed(position)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(URL_SAFE + "+/= é\ud800").filter(lambda mark: mark != text[place]))
    with pytest.raises(BadRequestError):
        asked_for(after=text[:place] + other + text[place + 1 :])


@pytest.mark.parametrize("position", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("more", ["=", "==", "===", " ", "\n", "A", "AA", "AAAA", "\0"])
def test_a_cursor_with_more_behind_it_is_refused(position: str, more: str) -> None:
    with pytest.raises(BadRequestError):
        asked_for(after=sealed(position) + more)


@pytest.mark.parametrize("position", ["", "a", "ab", "abc"])
def test_a_cursor_has_one_spelling_only(position: str) -> None:
    text = sealed(position)
    accepted = []
    for last in URL_SAFE:
        try:
            asked_for(after=text[:-1] + last)
            accepted.append(text[:-1] + last)
        except BadRequestError:
            pass
    assert accepted == [text]


def test_a_filter_with_half_a_surrogate_pair_is_no_failure_of_the_gateway() -> None:
    """Variables are read by Python's json, which lets lone surrogates through: they stand in the scope of `events(filter:)`."""
    try:
        asked = asked_for("events", "wsp_1", {"name": ["\ud800"]})
    except BadRequestError:
        return
    assert asked.size == DEFAULT_SIZE


# ---- connections -----------------------------------------------------------------------------------------------------


def test_a_page_in_the_middle() -> None:
    rows = list("abcdefg")
    found = shown(rows, first=2, after=sealed("b"))
    assert [node["_id"] for node in found["nodes"]] == ["c", "d"]
    assert found["edges"] == [
        {"cursor": sealed("c"), "node": {"_id": "c"}},
        {"cursor": sealed("d"), "node": {"_id": "d"}},
    ]
    assert found["page_info"] == {
        "has_next_page": True,
        "has_previous_page": True,
        "start_cursor": sealed("c"),
        "end_cursor": sealed("d"),
    }


@pytest.mark.parametrize(
    ("arguments", "nodes", "has_next", "has_previous"),
    [
        ({"first": 3}, "abc", False, False),
        ({"first": 2}, "ab", True, False),
        ({"first": 100}, "abc", False, False),
        ({"last": 3}, "abc", False, False),
        ({"last": 2}, "bc", False, True),
        ({"first": 1, "after": "a"}, "b", True, True),
        ({"first": 2, "after": "a"}, "bc", False, True),
        ({"first": 2, "after": "c"}, "", False, True),
        ({"last": 1, "before": "c"}, "b", True, True),
        ({"last": 2, "before": "c"}, "ab", True, False),
        ({"last": 2, "before": "a"}, "", True, False),
        ({"first": 5, "after": "a", "before": "c"}, "b", False, True),
        ({"last": 5, "after": "a", "before": "c"}, "b", True, False),
    ],
    ids=str,
)
def test_page_info(arguments: dict[str, Any], nodes: str, has_next: bool, has_previous: bool) -> None:
    found = shown(list("abc"), **{k: sealed(v) if isinstance(v, str) else v for k, v in arguments.items()})
    assert [node["_id"] for node in found["nodes"]] == list(nodes)
    assert found["page_info"] == {
        "has_next_page": has_next,
        "has_previous_page": has_previous,
        "start_cursor": sealed(nodes[0]) if nodes else None,
        "end_cursor": sealed(nodes[-1]) if nodes else None,
    }


def test_an_empty_list() -> None:
    assert shown([], first=5) == {
        "edges": [],
        "nodes": [],
        "page_info": {"has_next_page": False, "has_previous_page": False, "start_cursor": None, "end_cursor": None},
    }


@given(st.sets(positions, max_size=60), st.data(), st.booleans())
def test_paging_in_either_direction_shows_each_row_once(kept: set[str], data: st.DataObject, backward: bool) -> None:
    rows = sorted(kept)
    count, reached, more, end = (
        ("last", "before", "has_previous_page", "start_cursor")
        if backward
        else ("first", "after", "has_next_page", "end_cursor")
    )
    seen: list[str] = []
    arguments: dict[str, Any] = {}
    for _ in range(len(rows) + 1):
        found = shown(rows, **{count: data.draw(st.integers(1, 9))}, **arguments)
        nodes = [node["_id"] for node in found["nodes"]]
        seen = nodes + seen if backward else seen + nodes
        if not found["page_info"][more]:
            break
        arguments = {reached: found["page_info"][end]}
    assert seen == rows


@given(st.lists(positions, unique=True, min_size=1, max_size=40), st.data())
def test_paging_is_stable_while_rows_arrive(arriving: list[str], data: st.DataObject) -> None:
    """Each row that was there from the beginning is shown once, and no row twice."""
    there = data.draw(st.integers(0, len(arriving)))
    rows, waiting = sorted(arriving[:there]), arriving[there:]
    seen: list[str] = []
    arguments: dict[str, Any] = {}
    while True:
        found = shown(rows, first=data.draw(st.integers(1, 5)), **arguments)
        seen += [node["_id"] for node in found["nodes"]]
        if not found["page_info"]["has_next_page"]:
            break
        arguments = {"after": found["page_info"]["end_cursor"]}
        if waiting:
            bisect.insort(rows, waiting.pop())
    assert seen == sorted(set(seen))
    assert set(arriving[:there]) <= set(seen)
