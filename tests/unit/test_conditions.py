"""Conditions: how times, texts, numbers and typed values compare, what stays unknown, and what narrows a search."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.core.time_ranges import EARLIEST, LATEST, TimeRange
from gateway.domain.filters.access_paths import (
    AccessPath,
    Selectivity,
    access_path,
    created_within,
    frequency_bound,
    index_terms,
)
from gateway.domain.filters.conditions import ContactFacts, parse_filter
from gateway.domain.filters.operators import (
    NUMBER_OPERATORS,
    TEXT_OPERATORS,
    case_folded,
    number_matches,
    texts_match,
    time_matches,
)
from resolvers.inputs import FloatFilter, IntFilter, StringFilter

NOW = datetime(2026, 5, 10, 12, 30, tzinfo=UTC)
DAY = timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("asked", "at", "expected"),
    [
        ({}, None, True),
        ({"known": False}, None, True),
        ({"known": True}, None, False),
        ({"known": False, "before": NOW}, None, False),
        ({"before": NOW}, None, False),
        ({"known": True}, NOW, True),
        ({"known": False}, NOW, False),
        ({"after": NOW}, NOW, False),
        ({"after": NOW}, NOW + MILLISECOND, True),
        ({"before": NOW}, NOW, False),
        ({"before": NOW}, NOW - MILLISECOND, True),
        ({"more_than_days_ago": 5}, NOW - 5 * DAY, False),
        ({"more_than_days_ago": 5}, NOW - 5 * DAY - MILLISECOND, True),
        ({"less_than_days_ago": 5}, NOW - 5 * DAY, False),
        ({"less_than_days_ago": 5}, NOW - 5 * DAY + MILLISECOND, True),
        ({"exactly_days_ago": 1}, datetime(2026, 5, 9, tzinfo=UTC), True),
        ({"exactly_days_ago": 1}, datetime(2026, 5, 10, tzinfo=UTC) - MILLISECOND, True),
        ({"exactly_days_ago": 1}, datetime(2026, 5, 10, tzinfo=UTC), False),
        ({"more_than_minutes_ago": 30}, NOW - timedelta(minutes=31), True),
        ({"less_than_minutes_ago": 30}, NOW - timedelta(minutes=31), False),
        ({"less_than_days_ago": 0}, NOW + DAY, True),
        ({"more_than_days_ago": 2**31 - 1}, EARLIEST, False),
        ({"less_than_days_ago": 2**31 - 1}, EARLIEST - DAY, True),
        ({"before": EARLIEST}, EARLIEST - 9000 * DAY, True),
        ({"after": EARLIEST - 2 * DAY}, EARLIEST - DAY, True),
        ({"after": EARLIEST - 2 * DAY}, EARLIEST - 3 * DAY, False),
        ({"after": LATEST + DAY / 2}, LATEST, False),
        ({"after": NOW - DAY, "before": NOW}, NOW - DAY / 2, True),
        ({"after": NOW, "before": NOW - DAY}, NOW - DAY / 2, False),
    ],
)
def test_times(asked: Any, at: datetime | None, expected: bool) -> None:
    assert time_matches(asked, at, NOW) is expected


@pytest.mark.parametrize(
    ("asked", "texts", "expected"),
    [
        ({}, [], True),
        ({"eq": "PRO"}, ["pro"], True),
        ({"eq": "pro"}, [], False),
        ({"ne": "pro"}, [], True),
        ({"ne": "pro"}, ["x", "Pro"], False),
        ({"in": []}, ["x"], False),
        ({"in": ["X", "y"]}, ["x"], True),
        ({"starts_with": "a", "ends_with": "b"}, ["ax", "xb"], False),
        ({"starts_with": "a", "ends_with": "b"}, ["ax", "AxB"], True),
        ({"contains": ""}, [], False),
        ({"contains": ".*"}, ["abc"], False),
        ({"known": True}, [], False),
        ({"known": False}, [], True),
        ({"known": True, "ne": "x"}, ["y"], True),
        ({"eq": "İ"}, ["i̇"], True),
    ],
)
def test_texts(asked: Any, texts: list[str], expected: bool) -> None:
    assert texts_match(case_folded(asked), texts) is expected


def test_numbers() -> None:
    assert number_matches({"gt": 1, "lte": 2}, 2)
    assert not number_matches({"gt": 1, "ne": 2}, 2)
    assert number_matches({"ne": 2}, None)
    assert not number_matches({"lt": 2}, None)
    assert number_matches({"eq": 2}, 2.0)


def test_what_was_not_read_is_unknown_unless_the_rest_decides() -> None:
    facts = ContactFacts({"_id": "con", "role": "USER", "tags": ["vip"], "custom_attributes": {}}, NOW)
    event, vip, lead = {"event": {"name": "did"}}, {"tag": {"eq": "vip"}}, {"role": ["LEAD"]}
    for sent, expected in (
        (event, None),
        ({"not": event}, None),
        ({"and": [event, vip]}, None),
        ({"and": [event, lead]}, False),
        ({"or": [event, vip]}, True),
        ({"or": [event, lead]}, None),
        ({"and": []}, True),
        ({"or": []}, False),
        ({}, True),
    ):
        assert parse_filter(sent).evaluate(facts) is expected, sent
    facts.summaries = {"did": {"count": 1, "tracked_count": 0, "first_at": NOW, "last_at": NOW}}
    within = {"name": "did", "within": {"less_than_days_ago": 1}}
    assert parse_filter(event).evaluate(facts) is True
    assert parse_filter({"event": within}).evaluate(facts) is False  # it was imported: there is no event
    facts.summaries["did"]["tracked_count"] = 1
    assert parse_filter({"event": within}).evaluate(facts) is None
    assert parse_filter({"event": {"name": "else", "within": {}}}).evaluate(facts) is False


def test_custom_attributes_that_are_no_metadata_compare_as_what_they_are() -> None:
    attributes = {"paid": {"amount": 1.5, "currency": "EUR"}, "far_date": 10**15, "site": "https://x.example"}
    facts = ContactFacts({"_id": "con", "role": "USER", "custom_attributes": attributes}, NOW)

    def holds(key: str, **asked: Any) -> Any:
        return parse_filter({"custom_attribute": {"key": key, **asked}}).evaluate(facts)

    assert holds("paid")
    assert not holds("paid", money={})
    assert holds("far_date", number={"gt": 10**14})
    assert not holds("far_date", time={"known": True})
    assert holds("site", string={"starts_with": "HTTPS"}, link={"contains": "x."})
    assert not holds("gone")
    assert holds("gone", string={"known": False})


DID = AccessPath(Selectivity.EVENT, events=frozenset({"did"}))
VIP = AccessPath(Selectivity.TAG, terms=frozenset({"tag:vip"}))


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({}, None),
        ({"event": {"name": "did"}}, DID),
        ({"event": {"name": "did", "count": {"gt": 0}}}, DID),
        ({"event": {"name": "did", "count": {"lt": 5}}}, None),
        ({"event": {"name": "did", "last": {"known": False}}}, None),
        ({"event": {"name": "did", "never": True}}, None),
        ({"event": {"name": "did", "count": {"eq": 0}, "not_followed_by": "else"}}, DID),
        ({"tag": {"eq": "VIP"}, "event": {"name": "did"}}, VIP),
        ({"tag": {"ne": "vip"}, "event": {"name": "did"}}, DID),
        ({"not": {"tag": {"eq": "vip"}}}, None),
        ({"or": [{"tag": {"eq": "vip"}}, {"name": {"contains": "x"}}]}, None),
        (
            {"or": [{"tag": {"eq": "vip"}}, {"event": {"name": "did"}}]},
            AccessPath(Selectivity.EVENT, frozenset({"tag:vip"}), frozenset({"did"})),
        ),
        ({"tag": {"in": [str(number) for number in range(21)]}}, None),
        ({"email": {"eq": "A@b.c"}, "tag": {"eq": "vip"}}, AccessPath(Selectivity.PERSON, frozenset({"email:a@b.c"}))),
        ({"role": []}, AccessPath(Selectivity.ROLE)),
    ],
)
def test_what_narrows_a_search(sent: Any, expected: AccessPath | None) -> None:
    assert access_path(parse_filter(sent)) == expected


@pytest.mark.parametrize(
    ("count", "least"),
    [
        ({"gt": 3}, 4),
        ({"gte": 3, "lt": 9}, 3),
        ({"eq": 5}, 5),
        ({"gt": 0}, None),
        ({"lt": 5}, None),
        ({"ne": 5}, None),
        ({"gt": -5, "gte": 2}, 2),
    ],
)
def test_who_did_something_often_may_be_few(count: Any, least: int | None) -> None:
    event = {"event": {"name": "did", "count": count, "within": {"less_than_days_ago": 1}}}
    expected = None if least is None else ("did", least)
    assert frequency_bound(parse_filter(event)) == expected
    assert frequency_bound(parse_filter({"and": [event], "role": ["USER"]})) == expected
    assert frequency_bound(parse_filter({"or": [event]})) is None
    assert frequency_bound(parse_filter({"not": event})) is None


def test_times_of_creation_bound_a_search() -> None:
    def within(sent: Any) -> TimeRange:
        return created_within(parse_filter(sent), NOW)

    assert within({"created_at": {"less_than_days_ago": 1}}) == TimeRange(start=NOW - DAY + MILLISECOND)
    both = {"and": [{"created_at": {"before": NOW}}], "created_at": {"after": NOW - DAY}, "role": ["USER"]}
    assert within(both) == TimeRange(NOW - DAY + MILLISECOND, NOW)
    assert within({"not": {"created_at": {"before": NOW}}}) == TimeRange()
    assert within({"or": [{"created_at": {"before": NOW}}]}) == TimeRange()


def test_a_contact_is_found_by_these_terms() -> None:
    contact = {
        "role": "USER",
        "email": "A@B.c",
        "tags": ["VIP", "vip"],
        "location": {"city": "Bonn"},
        "name": "x" * 300,
    }
    assert index_terms(contact) == ["city:bonn", "email:a@b.c", "name:" + "x" * 250, "role:user", "tag:vip"]
    assert access_path(parse_filter({"name": {"eq": "X" * 300}})) == AccessPath(
        Selectivity.PERSON, frozenset({"name:" + "x" * 250})
    )


def test_every_operator_of_a_filter_has_its_comparison() -> None:
    """An operator without one would be ignored, and its condition match everybody."""

    def operators(filter_: Any) -> set[str]:
        return {field.python_name.rstrip("_") for field in filter_.__strawberry_definition__.fields}

    assert operators(StringFilter) == TEXT_OPERATORS
    assert operators(IntFilter) == operators(FloatFilter) == NUMBER_OPERATORS
    with pytest.raises(ValueError, match="not_in"):
        case_folded({"not_in": ["a"]})
