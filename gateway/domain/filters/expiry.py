"""Outlooks: until when a condition holds of a contact (or does not), where nothing changes but the time."""

from collections.abc import Iterable
from datetime import datetime

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
    """Whether time alone may change of whom a condition holds; that of the segments it mentions is not its own."""
    return any(_is_time_dependent(leaf) for leaf in condition.leaves())


def valid_until(condition: Condition, facts: ContactFacts) -> datetime | None:
    """No later than the first moment after now at which time alone changes the answer; None: it never does.

    The condition is decided by the facts. An answer that rests on a part lasts as long as that part's."""
    match condition:
        case AllOf():
            return _of_parts(condition.parts, facts, decisive=False)
        case AnyOf():
            return _of_parts(condition.parts, facts, decisive=True)
        case Negation():
            return valid_until(condition.part, facts)
    return min((at for at in _transition_times(condition, facts) if at > facts.now), default=None)


def _of_parts(parts: Iterable[Condition], facts: ContactFacts, *, decisive: bool) -> datetime | None:
    """One part that is `decisive` decides alone: so the answer lasts as long as the most lasting of these; without one
    it lasts as long as all parts do."""
    several = list(parts)
    deciding = [part for part in several if part.evaluate(facts) is decisive]
    ends = [valid_until(part, facts) for part in deciding or several]
    known = [end for end in ends if end is not None]
    if deciding:
        return max(known) if len(known) == len(ends) else None
    return min(known, default=None)


def _transition_times(leaf: Condition, facts: ContactFacts) -> Iterable[datetime]:
    match leaf:
        case TimeCondition():
            return transition_times(leaf.operators, facts.contact.get(leaf.name))
        case AttributeCondition():
            return leaf.test.transition_times(facts.contact["custom_attributes"], None)
        case EventCondition():
            tally = leaf.event_stats(facts)
            return () if tally is None else leaf.transition_times(tally)
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
