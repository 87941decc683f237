"""Ids whose order is the order of time, and ranges of time to the millisecond."""

import string
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.clock import system_clock, to_milliseconds
from gateway.core.ids import Minter, Prefix, derived_id, id_time, lowest_id, prefix_of
from gateway.core.time_ranges import EARLIEST, LATEST, TimeRange, time_range

MS = timedelta(milliseconds=1)
DAY = timedelta(days=1)
NOW = datetime(2026, 1, 31, 9, 30, 15, 250_000, tzinfo=UTC)
NEVER = TimeRange(LATEST, EARLIEST)
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

prefixes = st.sampled_from(Prefix)
entropy = st.binary(min_size=10, max_size=10)
moments = st.integers(0, int((datetime(9998, 12, 31, tzinfo=UTC) - EARLIEST) / MS)).map(lambda ms: EARLIEST + ms * MS)


def minted(prefix: Prefix, at: datetime, random: bytes) -> str:
    return Minter(lambda count: random[:count]).mint(prefix, at)


# ---- ids -------------------------------------------------------------------------------------------------------------


def test_an_id_by_its_bytes() -> None:
    assert minted(Prefix.EVENT, EARLIEST, bytes(10)) == "evt_" + "0" * 26
    assert minted(Prefix.CONTACT, EARLIEST + MS, b"\xff" * 10) == "con_" + "0" * 9 + "1" + "Z" * 16
    assert minted(Prefix.EVENT, datetime(2026, 1, 31, 9, 30, tzinfo=UTC), bytes(10)) == lowest_id(
        Prefix.EVENT, datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    )


@given(prefixes, moments, entropy)
def test_an_id_tells_its_prefix_and_its_time(prefix: Prefix, at: datetime, random: bytes) -> None:
    id_ = minted(prefix, at, random)
    assert len(id_) == 30
    assert set(id_[4:]) <= set(CROCKFORD)
    assert prefix_of(id_) is prefix
    assert id_time(id_) == at


@given(moments, moments, entropy, entropy)
def test_the_order_of_ids_is_the_order_of_time(one: datetime, other: datetime, random: bytes, more: bytes) -> None:
    if one == other:
        assert (minted(Prefix.EVENT, one, random) < minted(Prefix.EVENT, other, more)) is (random < more)
    else:
        assert (minted(Prefix.EVENT, one, random) < minted(Prefix.EVENT, other, more)) is (one < other)


@given(moments, entropy)
@example(EARLIEST + MS, b"\xff" * 10)
@example(NOW, b"\xff" * 10)
@example(NOW, bytes(10))
def test_the_lowest_id_of_a_moment_parts_what_is_earlier_from_the_rest(at: datetime, random: bytes) -> None:
    lowest = lowest_id(Prefix.EVENT, at)
    assert minted(Prefix.EVENT, at, random) >= lowest
    assert minted(Prefix.EVENT, at + MS, random) > lowest
    if at > EARLIEST:
        assert minted(Prefix.EVENT, at - MS, random) < lowest
    assert prefix_of(lowest) is Prefix.EVENT
    assert id_time(lowest) == at


@pytest.mark.parametrize("at", [EARLIEST - MS, datetime(1, 1, 1, tzinfo=UTC)])
def test_what_lies_before_1970_has_the_first_place(at: datetime) -> None:
    assert lowest_id(Prefix.EVENT, at) == "evt_" + "0" * 26
    assert id_time(minted(Prefix.EVENT, at, b"\xff" * 10)) == EARLIEST


def test_the_last_moments_there_are() -> None:
    for at in (LATEST, datetime.max.replace(tzinfo=UTC)):
        assert minted(Prefix.EVENT, at, bytes(10)) > minted(Prefix.EVENT, NOW, b"\xff" * 10)
        assert id_time(lowest_id(Prefix.EVENT, at)) >= datetime(9999, 1, 1, tzinfo=UTC)


def test_the_time_in_another_zone_is_the_same_time() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-11, minutes=-30)))
    assert lowest_id(Prefix.EVENT, elsewhere) == lowest_id(Prefix.EVENT, NOW)


def test_no_two_ids_of_a_moment_are_the_same() -> None:
    minter = Minter()
    assert len({minter.mint(Prefix.EVENT, NOW) for _ in range(10_000)}) == 10_000


def test_a_derived_id_is_the_same_for_ever() -> None:
    """Stored ids of summaries and definitions: these texts must never change."""
    assert derived_id(Prefix.SUMMARY, "wsp_1", "con_1", "created report") == "sum_28RHDYSMKWQDRYS6TDVN5927KV"
    assert derived_id(Prefix.DEFINITION, "wsp_1", "日本") == "def_0CWS3WY61KYK0KWP8F0Y928HDW"


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5), min_size=1, max_size=4
    ),
    st.data(),
)
def test_a_derived_id_tells_its_parts_apart(parts: list[str], data: st.DataObject) -> None:
    other = data.draw(st.lists(st.sampled_from([*parts, "", "a", "".join(parts)]), min_size=1, max_size=4))
    assert (derived_id(Prefix.SUMMARY, *parts) == derived_id(Prefix.SUMMARY, *other)) is (parts == other)
    assert prefix_of(derived_id(Prefix.SUMMARY, *parts)) is Prefix.SUMMARY
    assert derived_id(Prefix.SUMMARY, *parts)[4:] == derived_id(Prefix.DEFINITION, *parts)[4:]


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "e",
        "evt_",
        "evt",
        "0" * 26,
        "0" * 30,
        "evt_" + "0" * 25,
        "evt_" + "0" * 27,
        "evt_" + "8" + "0" * 25,
        "evt_" + "Z" * 26,
        "evt_" + "I" * 26,
        "evt_" + "0" * 25 + "U",
        "evt_" + "0" * 25 + "-",
        "evt_" + "0" * 25 + "\0",
        "evt_" + "0" * 25 + "é",
        "evt_" + "0" * 25 + "\ud800",
        "evt_" + "0" * 25 + "\n",
        "EVT_" + "0" * 26,
        "evt-" + "0" * 26,
        "xyz_" + "0" * 26,
        " evt_" + "0" * 26,
        "evt_" + "\u0660" * 26,
        "evt_" + "0" * 1_000_000,
    ],
    ids=lambda text: ascii(text[:34]),
)
def test_the_prefix_of_junk_is_none(junk: str) -> None:
    assert prefix_of(junk) is None


@given(
    st.text(st.characters(), max_size=40)
    | st.text(string.printable + "é\ud800", min_size=26, max_size=26).map(lambda text: "evt_" + text)
)
def test_any_text_has_a_prefix_or_none(text: str) -> None:
    found = prefix_of(text)
    assert found is None or (len(text) == 30 and text.startswith(found))


# ---- clocks ----------------------------------------------------------------------------------------------------------


def test_clocks_keep_milliseconds() -> None:
    assert to_milliseconds(datetime(2026, 1, 31, 9, 30, 0, 999_999, tzinfo=UTC)) == datetime(
        2026, 1, 31, 9, 30, 0, 999_000, tzinfo=UTC
    )
    assert to_milliseconds(NOW) == NOW
    assert system_clock().microsecond % 1000 == 0
    assert system_clock().tzinfo is UTC


# ---- time filters ----------------------------------------------------------------------------------------------------

HUGE = [36_500_000, 999_999_999, 10**9, 2**31 - 1, 10**12]
MIDNIGHT = datetime(2026, 1, 31, tzinfo=UTC)
OTHER = datetime(2026, 1, 1, 12, tzinfo=UTC)

RANGES: list[tuple[dict[str, Any], TimeRange]] = [
    ({}, TimeRange(EARLIEST, LATEST)),
    ({"after": None, "before": None, "known": None}, TimeRange(EARLIEST, LATEST)),
    ({"known": True}, TimeRange(EARLIEST, LATEST)),
    ({"after": OTHER}, TimeRange(OTHER + MS, LATEST)),
    ({"before": OTHER}, TimeRange(EARLIEST, OTHER)),
    ({"after": OTHER, "before": NOW}, TimeRange(OTHER + MS, NOW)),
    ({"after": datetime(1, 1, 1, tzinfo=UTC)}, TimeRange(EARLIEST, LATEST)),
    ({"before": datetime.max.replace(tzinfo=UTC)}, TimeRange(EARLIEST, LATEST)),
    ({"more_than_days_ago": 5}, TimeRange(EARLIEST, NOW - 5 * DAY)),
    ({"more_than_days_ago": 0}, TimeRange(EARLIEST, NOW)),
    ({"more_than_days_ago": -1}, TimeRange(EARLIEST, NOW + DAY)),
    ({"less_than_days_ago": 5}, TimeRange(NOW - 5 * DAY + MS, LATEST)),
    ({"less_than_days_ago": 0}, TimeRange(NOW + MS, LATEST)),
    ({"less_than_days_ago": -1}, TimeRange(NOW + DAY + MS, LATEST)),
    ({"less_than_days_ago": 10, "more_than_days_ago": 5}, TimeRange(NOW - 10 * DAY + MS, NOW - 5 * DAY)),
    ({"exactly_days_ago": 0}, TimeRange(MIDNIGHT, MIDNIGHT + DAY)),
    ({"exactly_days_ago": 1}, TimeRange(MIDNIGHT - DAY, MIDNIGHT)),
    ({"exactly_days_ago": -1}, TimeRange(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY)),
    ({"exactly_days_ago": (MIDNIGHT - EARLIEST).days}, TimeRange(EARLIEST, EARLIEST + DAY)),
    ({"more_than_minutes_ago": 15}, TimeRange(EARLIEST, NOW - timedelta(minutes=15))),
    ({"more_than_minutes_ago": -15}, TimeRange(EARLIEST, NOW + timedelta(minutes=15))),
    ({"less_than_minutes_ago": 15}, TimeRange(NOW - timedelta(minutes=15) + MS, LATEST)),
    ({"less_than_minutes_ago": 0}, TimeRange(NOW + MS, LATEST)),
    ({"after": OTHER, "less_than_days_ago": 1, "before": NOW}, TimeRange(NOW - DAY + MS, NOW)),
    *(({"less_than_days_ago": number}, TimeRange(EARLIEST, LATEST)) for number in HUGE),
    *(({"less_than_minutes_ago": number}, TimeRange(EARLIEST, LATEST)) for number in HUGE[1:]),
    *(({"more_than_days_ago": -number}, TimeRange(EARLIEST, LATEST)) for number in HUGE),
    ({"more_than_minutes_ago": -(10**12)}, TimeRange(EARLIEST, LATEST)),
]

EMPTY: list[dict[str, Any]] = [
    {"known": False},
    {"known": False, "after": OTHER},
    {"after": NOW, "before": NOW},
    {"after": NOW, "before": NOW + MS},
    {"after": NOW, "before": OTHER},
    {"after": LATEST},
    {"after": datetime.max.replace(tzinfo=UTC)},
    {"before": EARLIEST},
    {"before": datetime(1, 1, 1, tzinfo=UTC)},
    {"less_than_days_ago": 5, "more_than_days_ago": 5},
    {"exactly_days_ago": 1, "less_than_minutes_ago": 10},
    {"exactly_days_ago": (MIDNIGHT - EARLIEST).days + 1},
    {"exactly_days_ago": 700_000},
    {"exactly_days_ago": -10_000_000},
    *({"more_than_days_ago": number} for number in HUGE),
    *({"less_than_days_ago": -number} for number in HUGE),
    *({"exactly_days_ago": number} for number in HUGE),
    *({"exactly_days_ago": -number} for number in HUGE),
    *({"more_than_minutes_ago": number} for number in HUGE[1:]),
    {"less_than_minutes_ago": -(10**12)},
]


@pytest.mark.parametrize(("filter_", "expected"), RANGES, ids=str)
def test_ranges(filter_: dict[str, Any], expected: TimeRange) -> None:
    assert time_range(filter_, NOW) == expected
    assert not expected.empty


@pytest.mark.parametrize("filter_", EMPTY, ids=str)
def test_empty_ranges(filter_: dict[str, Any]) -> None:
    assert time_range(filter_, NOW).empty


def test_no_filter_is_all_times() -> None:
    assert time_range(None, NOW) == TimeRange(EARLIEST, LATEST)


@pytest.mark.parametrize(
    "now",
    [
        NOW,
        NOW.replace(hour=0, minute=0, second=0, microsecond=0),
        NOW.replace(hour=23, minute=59, second=59, microsecond=999_000),
    ],
)
def test_a_day_ago_is_the_calendar_day_in_utc(now: datetime) -> None:
    assert time_range({"exactly_days_ago": 31}, now) == TimeRange(MIDNIGHT - 31 * DAY, MIDNIGHT - 30 * DAY)


@pytest.mark.parametrize("milliseconds", [0, 998, 999])
@pytest.mark.parametrize("unit", ["days", "minutes"])
def test_the_last_moment_of_all_is_no_failure(milliseconds: int, unit: str) -> None:
    """So many days ahead that the moment is in the last day that a datetime can tell, to its last millisecond."""
    now = datetime(2026, 1, 31, 23, 59, 59, milliseconds * 1000, tzinfo=UTC)
    ahead = datetime(9999, 12, 31, 23, 59, 59, milliseconds * 1000, tzinfo=UTC) - now
    number = -(ahead // timedelta(**{unit: 1}))
    assert time_range({f"less_than_{unit}_ago": number}, now).empty
    assert time_range({f"more_than_{unit}_ago": number}, now) == TimeRange(EARLIEST, LATEST)
    if unit == "days":
        assert time_range({"exactly_days_ago": number}, now).empty


numbers = st.integers(-20, 20) | st.integers(-(2**31), 2**31 - 1)
filters = st.fixed_dictionaries(
    {},
    optional={
        "after": moments,
        "before": moments,
        "known": st.booleans(),
        **dict.fromkeys(
            (
                "more_than_days_ago",
                "less_than_days_ago",
                "exactly_days_ago",
                "more_than_minutes_ago",
                "less_than_minutes_ago",
            ),
            numbers,
        ),
    },
)


def matches(at: datetime, filter_: dict[str, Any], now: datetime) -> bool:
    """What the conditions say, in whole milliseconds: no date there is cannot be reckoned with."""
    age = (now - at) // MS
    day, minute = DAY // MS, timedelta(minutes=1) // MS
    rules = {
        "after": lambda value: at > value,
        "before": lambda value: at < value,
        "known": lambda value: value,
        "more_than_days_ago": lambda value: age > value * day,
        "less_than_days_ago": lambda value: age < value * day,
        "exactly_days_ago": lambda value: (now.date() - at.date()).days == value,
        "more_than_minutes_ago": lambda value: age > value * minute,
        "less_than_minutes_ago": lambda value: age < value * minute,
    }
    return all(rules[name](value) for name, value in filter_.items())


@given(
    filters,
    st.integers(-30 * 86_400_000, 30 * 86_400_000).map(lambda ms: NOW + ms * MS) | moments,
    st.sampled_from([NOW, MIDNIGHT]),
)
@example({"exactly_days_ago": 2**31 - 1}, EARLIEST, NOW)
@example({"exactly_days_ago": 0}, MIDNIGHT, NOW)
@example({"more_than_days_ago": 1}, NOW - DAY, NOW)
@example({"less_than_days_ago": 1}, NOW - DAY, NOW)
def test_a_range_holds_what_its_conditions_say(filter_: dict[str, Any], at: datetime, now: datetime) -> None:
    found = time_range(filter_, now)
    assert (found.start <= at < found.end) is matches(at, filter_, now)


@given(st.tuples(moments, moments), st.tuples(moments, moments), moments)
def test_what_lies_within_both(one: tuple[datetime, datetime], other: tuple[datetime, datetime], at: datetime) -> None:
    a, b = TimeRange(*one), TimeRange(*other)
    both = a.intersect(b)
    assert both == b.intersect(a)
    assert (both.start <= at < both.end) is (a.start <= at < a.end and b.start <= at < b.end)
    assert both.empty is not (both.start < both.end)
