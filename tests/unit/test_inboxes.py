"""Inboxes: a page of any list, in any order and direction, is what sorting the whole would give, by reading little."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, ClassVar

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ids import Minter, Prefix
from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.domain.support.inbox_keys import LEVELS, InboxOrder, sort_key, with_sparse
from gateway.store.support.inboxes import Inbox

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Rows(Inbox[Any]):
    """An inbox in memory, that counts what it looks at as a server does that reads all before it cuts."""

    COLLECTION: ClassVar[str] = "rows"
    PREFIX: ClassVar[Prefix] = Prefix.TICKET

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows, self.looked_at = rows, 0

    async def _find(self, filter_: Any, **options: Any) -> list[dict[str, Any]]:
        ((key, bounds),) = [(name, value) for name, value in filter_.items() if name != "lists"]
        found = [
            row for row in self.rows if filter_["lists"] in row["lists"] and bounds["$gte"] <= row[key] < bounds["$lt"]
        ]
        self.looked_at += len(found)
        ((_, sign),) = options["sort"].items()
        return sorted(found, key=lambda row: str(row[key]), reverse=sign < 0)[: options["limit"]]


def made(count: int, chance: Random) -> Rows:
    """So many rows in two lists, at random times; a fifth of them without one."""
    minter, rows = Minter(chance.randbytes), []
    for number in range(count):
        at = (
            None if chance.random() < 0.2 else BEGIN + timedelta(seconds=chance.randrange(10 ** chance.randrange(1, 8)))
        )
        id_ = minter.mint(Prefix.TICKET, BEGIN + timedelta(seconds=number))
        rows.append({"_id": id_, "at": at, "key": sort_key(id_, at), "lists": with_sparse(id_, ["ab"[number % 2]])})
    return Rows(rows)


@given(st.integers(0, 300), st.integers(0, 9999), st.booleans(), st.booleans(), st.integers(1, 40), st.data())
async def test_pages_are_those_of_the_sorted_list(
    count: int, seed: int, descending: bool, backward: bool, size: int, data: Any
) -> None:
    inbox, order = made(count, Random(seed)), InboxOrder("key", descending, nullable=True)
    timed = sorted((row for row in inbox.rows if row["at"]), key=lambda row: str(row["key"]), reverse=descending)
    others = sorted((row for row in inbox.rows if not row["at"]), key=lambda row: str(row["_id"]), reverse=descending)
    rows = timed + others
    start, end = sorted(data.draw(st.tuples(st.integers(0, count), st.integers(0, count))))
    after = order.position(rows[start - 1]) if start else None
    before = order.position(rows[end]) if end < count else None
    place = order.newest_first(Page(size, backward, after, before))
    found = await inbox.listed(
        ["a", "b"], "key", order.ranges(Rows.PREFIX, place, TimeRange()), size, highest_first=not place.backward
    )
    meant = rows[start:end]
    assert found == (meant[::-1] if backward else meant)[:size]
    assert order.cut(inbox.rows, place) == (meant[::-1] if backward else meant)[: place.limit]


async def test_a_page_of_a_long_list_looks_at_little() -> None:
    inbox = made(20_000, Random(1))
    places = [(descending, number) for descending in (True, False) for number in (None, 123, 19_000)]
    for descending, number in places:
        inbox.looked_at, order = 0, InboxOrder("key", descending, nullable=True)
        after = None if number is None else order.position(inbox.rows[number])
        place = order.newest_first(Page(20, False, after, None))
        stretches = order.ranges(Rows.PREFIX, place, TimeRange())
        await inbox.listed(["a"], "key", stretches, 20, highest_first=not place.backward)
        assert inbox.looked_at < 500


def test_one_in_thirty_two_stands_in_each_sparser_list() -> None:
    minter = Minter(Random(2).randbytes)
    ids = [minter.mint(Prefix.TICKET, BEGIN) for _ in range(32_000)]
    found = [sum(f"a^{level}" in with_sparse(id_, ["a"]) for id_ in ids) for level in range(1, LEVELS + 1)]
    assert 800 < found[0] < 1200
    assert 10 < found[1] < 60
    assert found[2] < 8
    assert with_sparse("tkt_1000", ["a", "b"]) == ["a", "b", "a^1", "b^1", "a^2", "b^2", "a^3", "b^3"]
