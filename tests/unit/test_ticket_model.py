"""Any sequence of acts on a ticket, against a plain model: state, sleep and history agree."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from models import TicketModel

from gateway.core.ids import Minter
from gateway.domain.support.actors import AUTOMATION, Actor, ActorKind
from gateway.domain.support.ticket_states import TicketState
from gateway.domain.support.tickets import TicketAggregate, lists_of, new_ticket, numbered
from gateway.errors import UserProblem

START = datetime(2026, 1, 1, tzinfo=UTC)
TYPE = {"_id": "tty_01JZ0000000000000000000000", "name": "Bug", "category": "CUSTOMER", "attributes": []}
CONTACT = Actor(ActorKind.CONTACT, "con_01JZ0000000000000000000000")
ADMIN = Actor(ActorKind.ADMIN, "adm_01JZ0000000000000000000000")


class TicketMachine(RuleBasedStateMachine):
    """A ticket, and what a few lines say that it must be."""

    @initialize()
    def open(self) -> None:
        self.minter = Minter()
        values: dict[str, Any] = {"title": "A", "is_shared": True, "attributes": {}, "tags": []}
        contact = {"_id": CONTACT.id, "workspace_id": "wsp_1"}
        document = new_ticket("tkt_01JZ0000000000000000000000", contact, TYPE, values, CONTACT, START)
        change = TicketAggregate.created(document, self.minter).changeset()
        self.ticket = change.after
        numbered(self.ticket, 1)
        self.parts: list[dict[str, Any]] = []
        self.model = TicketModel(START)

    def act(self, actor: Actor, minutes: int = 1) -> TicketAggregate:
        """An act some time later."""
        self.model.pass_time(minutes)
        return TicketAggregate(self.ticket, actor, self.model.now, self.minter)

    def store(self, act: TicketAggregate) -> None:
        change = act.changeset()
        self.ticket = change.after
        self.parts += change.parts
        due = [timer["due_at"] for timer in change.timers]
        assert due in ([], [self.model.until])

    @rule(by_contact=st.booleans(), note=st.booleans())
    def reply(self, by_contact: bool, note: bool) -> None:
        act = self.act(CONTACT if by_contact else ADMIN)
        act.reply("Hello", note=note and not by_contact)
        self.model.reply("contact" if by_contact else "admin", note=note and not by_contact)
        self.store(act)

    @rule(state=st.sampled_from(TicketState))
    def move(self, state: TicketState) -> None:
        act = self.act(ADMIN)
        if self.model.move(state):
            act.set_state(state, None)
        else:
            with pytest.raises(UserProblem):
                act.set_state(state, None)
            act = TicketAggregate(self.ticket, AUTOMATION, self.model.now, self.minter)
        self.store(act)

    @rule(minutes=st.integers(2, 5))
    def snooze(self, minutes: int) -> None:
        act = self.act(ADMIN)
        until = self.model.now + timedelta(minutes=minutes)
        sent = {"snoozed_until": until, "add_tags": [], "remove_tags": []}
        if self.model.snooze(until):
            act.update(TYPE, sent)
        else:
            with pytest.raises(UserProblem):
                act.update(TYPE, sent)
            act = TicketAggregate(self.ticket, AUTOMATION, self.model.now, self.minter)
        self.store(act)

    @invariant()
    def agrees(self) -> None:
        ticket, model = self.ticket, self.model
        assert (ticket["state"], ticket.get("snoozed_until")) == (model.state, model.until)
        assert [part["kind"] for part in self.parts] == model.history
        assert [part["_id"] for part in self.parts] == sorted(part["_id"] for part in self.parts)
        public = [kind for kind in model.history if kind in ("COMMENT", "STATE")]
        assert ticket["statistics"] == {"part_count": len(model.history), "public_part_count": len(public)}
        assert ("resolved_at" in ticket) == (model.state == "RESOLVED")
        assert ticket["lists"] == lists_of(ticket)
        told = [part["to_state"] for part in self.parts if "to_state" in part]
        assert [model.state] == (told or ["SUBMITTED"])[-1:]


TestTicket = TicketMachine.TestCase
TestTicket.settings = settings(max_examples=60, stateful_step_count=20)
