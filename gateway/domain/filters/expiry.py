"""Expiry: until when the result of a condition stays valid if nothing but the time changes."""

from collections.abc import Iterable
from datetime import datetime

from gateway.domain.contacts.contacts import by_name
from gateway.domain.filters.conditions import (
    AllOf,
    AnyOf,
    AttributeCondition,
    Condition,
    ContactFacts,
    EventCondition,
    Negation,
    TimeCondition,
)
from gateway.domain.filters.operators import transition_times


def is_time_dependent(condition: Condition) -> bool:
    """Whether time alone can change who matches, apart from the segments that the condition refers to."""
    return any(_is_time_dependent(leaf) for leaf in condition.leaves())


def valid_until(condition: Condition, facts: ContactFacts) -> datetime | None:
    """The earliest future time at which time alone can change the result; None if never.

    It may be too early, never too late. `facts` must already decide the condition."""
    match condition:
        case AllOf():
            return _of_parts(condition.parts, facts, decisive=False)
        case AnyOf():
            return _of_parts(condition.parts, facts, decisive=True)
        case Negation():
            return valid_until(condition.part, facts)
    return min((at for at in _transition_times(condition, facts) if at > facts.now), default=None)


def _of_parts(parts: Iterable[Condition], facts: ContactFacts, *, decisive: bool) -> datetime | None:
    # One decisive part is enough, so the result lasts as long as the last of them. Without one it needs every part.
    all_parts = list(parts)
    deciding = [part for part in all_parts if part.evaluate(facts) is decisive]
    expiries = [valid_until(part, facts) for part in deciding or all_parts]
    times = [at for at in expiries if at is not None]
    if deciding:
        return max(times) if len(times) == len(expiries) else None
    return min(times, default=None)


def _transition_times(leaf: Condition, facts: ContactFacts) -> Iterable[datetime]:
    match leaf:
        case TimeCondition():
            return transition_times(leaf.operators, by_name(facts.contact).get(leaf.name))
        case AttributeCondition():
            return leaf.test.transition_times(facts.contact["custom_attributes"], None)
        case EventCondition():
            stats = leaf.event_stats(facts)
            return () if stats is None else leaf.transition_times(stats)
    return ()


def _is_time_dependent(leaf: Condition) -> bool:
    match leaf:
        case TimeCondition():
            return leaf.is_time_dependent
        case AttributeCondition():
            return leaf.test.is_time_dependent
        case EventCondition():
            return leaf.is_time_dependent
    return False
