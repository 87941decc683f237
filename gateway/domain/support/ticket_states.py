"""The states of a ticket: one row each, which drives transitions, change events and metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.change_kinds import ChangeKind


class TicketState(StrEnum):
    SUBMITTED = "SUBMITTED"
    IN_PROGRESS = "IN_PROGRESS"
    WAITING_ON_CUSTOMER = "WAITING_ON_CUSTOMER"
    RESOLVED = "RESOLVED"


@dataclass(frozen=True, slots=True)
class StateRules:
    """What holds of one state.

    `change`: the change event of a ticket that enters it. `not_after`: the states that it must not follow.
    `after_reply`: the state after a contact's reply (None: it stays). `is_resolved`: the ticket is done: it has
    `resolved_at` and is not snoozed. `metric`: the metric that destinations with metrics get.
    """

    change: ChangeKind
    not_after: frozenset[TicketState] = frozenset()
    after_reply: TicketState | None = None
    is_resolved: bool = False
    metric: str | None = None


TICKET_STATES: Mapping[TicketState, StateRules] = {
    TicketState.SUBMITTED: StateRules(ChangeKind.TICKET_SUBMITTED, metric="Submitted Ticket"),
    TicketState.IN_PROGRESS: StateRules(ChangeKind.TICKET_IN_PROGRESS),
    TicketState.WAITING_ON_CUSTOMER: StateRules(
        ChangeKind.TICKET_WAITING,
        not_after=frozenset({TicketState.RESOLVED}),  # a resolved ticket must be taken up again first
        after_reply=TicketState.IN_PROGRESS,
        metric="Marked Ticket On Hold",
    ),
    TicketState.RESOLVED: StateRules(
        ChangeKind.TICKET_RESOLVED, after_reply=TicketState.IN_PROGRESS, is_resolved=True, metric="Resolved Ticket"
    ),
}
# The states that may follow each state; none follows itself.
TRANSITIONS: Mapping[TicketState, frozenset[TicketState]] = {
    before: frozenset(
        after for after, rules in TICKET_STATES.items() if after is not before and before not in rules.not_after
    )
    for before in TICKET_STATES
}
