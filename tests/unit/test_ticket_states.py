"""A ticket's states: the table in the code is the one that people read, and the one that the SDL shows."""

import re
from pathlib import Path

import pytest
from graphql import GraphQLEnumType, build_schema

from gateway.destinations.klaviyo.backfill import Stage
from gateway.destinations.klaviyo.backfill_metrics import METRICS
from gateway.destinations.klaviyo.metric_events import metric_events_of
from gateway.domain.change_kinds import ChangeKind, kinds_of
from gateway.domain.support.threads import Changeset, DomainEvent, ThreadKind
from gateway.domain.support.ticket_states import TICKET_STATES, TRANSITIONS, TicketState
from schema.root import build_schema as build_gateway_schema

SDL = build_schema(build_gateway_schema().as_str(), assume_valid=True)
GUIDE = Path(__file__).parents[2] / "docs" / "tickets.md"


def test_the_guide_prints_the_table() -> None:
    rows = re.findall(r"^\| (\w+) \| (.*) \|$", GUIDE.read_text(), re.M)
    printed = {
        name: {state for state, cell in zip(TicketState, cells.split("|"), strict=True) if cell.strip() == "yes"}
        for name, cells in rows
        if name in TicketState.__members__
    }
    assert printed == {state.value: set(following) for state, following in TRANSITIONS.items()}


def test_a_reply_leads_where_the_table_allows() -> None:
    replies = {before: rules.after_reply for before, rules in TICKET_STATES.items() if rules.after_reply is not None}
    assert all(after in TRANSITIONS[before] for before, after in replies.items())
    assert replies.keys() == {"WAITING_ON_CUSTOMER", "RESOLVED"}
    assert {TICKET_STATES[after].metric for after in replies.values()} == {None}  # "Replied to Ticket" is sent then


def test_every_state_has_its_rules_in_the_order_of_the_schema() -> None:
    assert list(TICKET_STATES) == list(TicketState) == enum_values("TicketState")


@pytest.mark.parametrize(
    ("name", "subject"),
    [("ContactChange", "contact"), ("ConversationChange", "conversation"), ("TicketChange", "ticket")],
)
def test_subscribers_get_every_kind_of_change(name: str, subject: str) -> None:
    kinds = [kind.stored_kind for kind in ChangeKind if kind.subject == subject]
    assert enum_values(name) == [*kinds, "CHECKPOINT"]


def test_a_state_of_its_own_has_a_change_of_its_own() -> None:
    changes = [rules.change for rules in TICKET_STATES.values()]
    assert len(set(changes)) == len(changes)
    assert set(changes) <= kinds_of("ticket")


def test_the_metrics_of_states_are_sent_live_and_from_history() -> None:
    metrics = {rules.change: rules.metric for rules in TICKET_STATES.values() if rules.metric is not None}
    assert len(set(metrics.values())) == len(metrics)
    assert {change: live_metric(change) for change in metrics} == metrics
    assert {*metrics.values(), "Replied to Ticket"} == set(METRICS[Stage.TICKET_PARTS])
    silent = {rules.change for rules in TICKET_STATES.values()} - metrics.keys()
    assert {live_metric(change) for change in silent} == {None}


def live_metric(change: ChangeKind) -> str | None:
    part = {"_id": "tpt_1", "author": {"kind": "ADMIN"}, "created_at": None}
    changeset = Changeset(ThreadKind.TICKET, None, {}, [part], [DomainEvent(change, "tpt_1")])
    return next((event.metric for event in metric_events_of(changeset)), None)


def enum_values(name: str) -> list[str]:
    type_ = SDL.type_map[name]
    assert isinstance(type_, GraphQLEnumType)
    return list(type_.values)
