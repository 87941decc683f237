"""Random contacts, events and filters: each server with each driver answers as plain Python does."""

from datetime import UTC
from functools import cmp_to_key
from typing import Any

from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from worlds import Json, filters, holds, made, worlds

from gateway.core.clock import system_clock

PAGE = """query($f: ContactFilter, $s: ContactSort, $first: Int, $after: String, $last: Int, $before: String) {
  contacts(filter: $f, sort: $s, first: $first, after: $after, last: $last, before: $before) {
    nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } totalCount } }"""
ALL = "{ contacts(first: 100) { nodes { id externalId createdAt updatedAt lastSeenAt name } } }"

sorts = st.none() | st.fixed_dictionaries(
    {
        "key": st.sampled_from(["CREATED_AT", "UPDATED_AT", "LAST_SEEN_AT", "NAME"]),
        "direction": st.sampled_from(["ASC", "DESC"]),
    }
)


def in_order(rows: list[Json], sort: Json | None) -> list[str]:
    fields = {"CREATED_AT": "id", "UPDATED_AT": "updatedAt", "LAST_SEEN_AT": "lastSeenAt", "NAME": "name"}
    field = fields[sort["key"]] if sort else "id"
    sign = 1 if sort and sort["direction"] == "ASC" else -1

    def compare(one: Json, other: Json) -> int:
        a, b = ((row[field] or "").lower() for row in (one, other))
        if (a == "") != (b == ""):
            return 1 if a == "" else -1
        return sign * ((a > b) - (a < b) or (one["id"] > other["id"]) - (one["id"] < other["id"]))

    return [row["id"] for row in sorted(rows, key=cmp_to_key(compare))]


async def pages(workspace: Any, size: int, backward: bool, **asked: Any) -> tuple[list[str], int | None]:
    """Every id that the list shows, page by page from one end, in the list's order; and its totalCount."""
    found: list[str] = []
    cursor = None
    while True:
        bounds = {"last": size, "before": cursor} if backward else {"first": size, "after": cursor}
        page = (await workspace.data(PAGE, {**asked, **bounds}))["contacts"]
        ids = [node["id"] for node in page["nodes"]]
        found = ids + found if backward else found + ids
        info = page["pageInfo"]
        cursor = info["startCursor"] if backward else info["endCursor"]
        if not info["hasPreviousPage" if backward else "hasNextPage"]:
            return found, page["totalCount"]


@examples(6)
@given(worlds, st.lists(st.tuples(filters, sorts, st.integers(1, 4), st.booleans()), min_size=8, max_size=12))
async def test_random_filters_answer_as_plain_python_does(every_gateway: Any, world: Json, asked: list[Any]) -> None:
    workspace = await every_gateway.workspace()
    now = system_clock().astimezone(UTC).replace(microsecond=0)
    facts = await made(workspace, world, now)
    rows = (await workspace.data(ALL))["contacts"]["nodes"]
    for filter_, sort, size, backward in asked:
        expected = in_order([row for row in rows if holds(filter_, facts[row["externalId"]], now)], sort)
        found = await pages(workspace, size, backward, f=filter_, s=sort)
        assert found == (expected, len(expected)), (filter_, sort)
