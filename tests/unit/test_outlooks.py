"""Outlooks: an answer never changes before the moment that was foretold."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.filters.conditions import ContactFacts, EventCondition, parse_filter
from gateway.domain.filters.expiry import is_time_dependent, valid_until

NOW = datetime(2026, 3, 10, 7, 30, tzinfo=UTC)
STEP = timedelta(hours=5, minutes=7)
ages = st.integers(-1, 60).map(lambda steps: NOW - steps * STEP)
days = st.integers(0, 9)
time_filters = st.fixed_dictionaries(
    {},
    optional={
        "more_than_days_ago": days,
        "less_than_days_ago": days,
        "exactly_days_ago": days,
        "less_than_minutes_ago": days.map(lambda count: count * 777),
        "after": st.just(NOW - timedelta(days=5)),
        "known": st.booleans(),
    },
)
attributes = st.builds(lambda asked: {"key": "at", "time": asked}, time_filters)
events = st.fixed_dictionaries(
    {"name": st.just("e")},
    optional={
        "count": st.fixed_dictionaries({"gte": st.integers(0, 3)}),
        "first": time_filters,
        "last": time_filters,
        "within": time_filters,
        "metadata": st.lists(attributes, max_size=1),
    },
)
leaves = st.one_of(
    st.builds(lambda asked: {"last_seen_at": asked}, time_filters),
    st.builds(lambda asked: {"signed_up_at": asked}, time_filters),
    st.builds(lambda asked: {"custom_attribute": asked}, attributes),
    st.builds(lambda asked: {"event": asked}, events),
)
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"and": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"or": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=4,
)
people = st.fixed_dictionaries(
    {"seen": ages, "signed_up": ages | st.none(), "at": ages, "deeds": st.lists(st.tuples(ages, ages), max_size=4)}
)


def facts_of(person: Any, condition: Any, now: datetime) -> ContactFacts:
    """All that can be known of a contact at that moment, as the reader of facts finds it."""
    contact = {"last_seen_at": person["seen"], "custom_attributes": {"at": person["at"].isoformat()}}
    contact |= {"signed_up_at": person["signed_up"]} if person["signed_up"] else {}
    rows = [
        {
            "occurred_at": at,
            "metadata_json": {"at": told.isoformat()},
            "metadata": [{"key": "at", "type": "DateMetadata", "date": told}],
        }
        for at, told in person["deeds"]
    ]
    times = [row["occurred_at"] for row in rows]
    count = {"count": len(rows), "tracked_count": len(rows)}
    summaries = {"e": {**count, "first_at": min(times), "last_at": max(times)}} if rows else {}
    known = ContactFacts(contact, now, summaries)
    for event in condition.events():
        assert isinstance(event, EventCondition)
        bounds = event.bounds(now, ahead=True)
        read = [row for row in rows if bounds.start <= row["occurred_at"] < bounds.end]
        known.event_stats[event] = event.stats_of(read, contact, now, ahead=True)
    return known


@given(filters, people)
def test_nothing_changes_before_the_moment_foretold(asked: Any, person: Any) -> None:
    condition = parse_filter(asked)
    known = facts_of(person, condition, NOW)
    holds, until = condition.evaluate(known), valid_until(condition, known)
    assert isinstance(holds, bool)
    assert until is None or until > NOW
    assert until is None or is_time_dependent(condition)
    later = [NOW + step * timedelta(hours=1, minutes=1) for step in range(1, 300, 7)]
    if until is not None:
        later += [until - timedelta(milliseconds=2), (NOW + (until - NOW) / 2).replace(microsecond=0)]
    for moment in later:
        if moment > NOW and (until is None or moment < until - timedelta(milliseconds=1)):
            assert condition.evaluate(facts_of(person, condition, moment)) is holds


def test_an_answer_rests_on_the_part_that_lasts() -> None:
    person = {"seen": NOW - timedelta(days=3), "signed_up": NOW - timedelta(days=1), "at": NOW, "deeds": []}

    def until(asked: Any) -> datetime | None:
        condition = parse_filter(asked)
        return valid_until(condition, facts_of(person, condition, NOW))

    away, new = {"last_seen_at": {"more_than_days_ago": 30}}, {"signed_up_at": {"less_than_days_ago": 7}}
    in_27_days, in_6_days = (NOW + timedelta(days=count, milliseconds=1) for count in (27, 6))
    assert until(away) == in_27_days
    assert until(new) == in_6_days
    assert until({"and": [away, new]}) == in_27_days
    assert until({"or": [away, new]}) == in_6_days
    assert until({"and": [away, {"custom_attribute": {"key": "none"}}]}) is None
    assert until({"not": {"and": [away, new]}}) == in_27_days
