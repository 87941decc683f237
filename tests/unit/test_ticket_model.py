"""Any sequence of acts on a ticket, against a plain model: state, sleep and history agree."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.domain.actors import AUTOMATION, Actor, ActorKind
from gateway.domain.ids import Minter
from gateway.domain.tickets import TRANSITIONS, TicketAct, TicketState, lists_of, new_ticket, numbered
from gateway.errors import UserProblem

START = datetime(2026, 1, 1, tzinfo=UTC)
TYPE = {"_id": "tty_01JZ0000000000000000000000", "name": "Bug", "category": "CUSTOMER", "attributes": []}
CONTACT = Actor(ActorKind.CONTACT, "con_01JZ0000000000000000000000")
ADMIN = Actor(ActorKind.ADMIN, "adm_01JZ0000000000000000000000")


class TicketMachine(RuleBasedStateMachine):
    """A ticket, and what a few lines say that it must be."""

    @initialize()
    def open(self) -> None:
        self.now, self.minter = START, Minter()
        values: dict[str, Any] = {"title": "A", "is_shared": True, "attributes": {}, "tags": []}
        contact = {"_id": CONTACT.id, "workspace_id": "wsp_1"}
        document = new_ticket("tkt_01JZ0000000000000000000000", contact, TYPE, values, CONTACT, START)
        change = TicketAct.created(document, self.minter).change()
        self.ticket = change.after
        numbered(self.ticket, 1)
        self.parts: list[dict[str, Any]] = []
        self.state, self.until = "SUBMITTED", None
        self.kinds: list[str] = []

    def act(self, actor: Actor) -> TicketAct:
        """An act a minute later: whose time was up has woken."""
        self.now += timedelta(minutes=1)
        if self.until is not None and self.until <= self.now:
            self.until = None
            self.kinds.append("UNSNOOZE")
        return TicketAct(self.ticket, actor, self.now, self.minter)

    def store(self, act: TicketAct) -> None:
        change = act.change()
        self.ticket = change.after
        self.parts += change.parts
        due = [timer["due_at"] for timer in change.timers]
        assert due in ([], [self.until])

    @rule(by_contact=st.booleans(), note=st.booleans())
    def reply(self, by_contact: bool, note: bool) -> None:
        act = self.act(CONTACT if by_contact else ADMIN)
        act.reply("Hello", note=note and not by_contact)
        self.kinds.append("NOTE" if note and not by_contact else "COMMENT")
        if by_contact:
            self.state = {"RESOLVED": "IN_PROGRESS", "WAITING_ON_CUSTOMER": "IN_PROGRESS"}.get(self.state, self.state)
            self.kinds += [] if self.until is None else ["UNSNOOZE"]
            self.until = None
        self.store(act)

    @rule(state=st.sampled_from(TicketState))
    def move(self, state: TicketState) -> None:
        act = self.act(ADMIN)
        if state not in TRANSITIONS[TicketState(self.state)]:
            with pytest.raises(UserProblem):
                act.set_state(state, None)
            act = TicketAct(self.ticket, AUTOMATION, self.now, self.minter)
        else:
            act.set_state(state, None)
            self.kinds.append("STATE")
            self.state = state.value
            self.until = None if state is TicketState.RESOLVED else self.until
        self.store(act)

    @rule(minutes=st.integers(2, 5))
    def snooze(self, minutes: int) -> None:
        act = self.act(ADMIN)
        until = self.now + timedelta(minutes=minutes)
        sent = {"snoozed_until": until, "add_tags": [], "remove_tags": []}
        if self.state == "RESOLVED":
            with pytest.raises(UserProblem):
                act.update(TYPE, sent)
            act = TicketAct(self.ticket, AUTOMATION, self.now, self.minter)
        elif self.until != until:
            act.update(TYPE, sent)
            self.until = until
            self.kinds.append("SNOOZE")
        self.store(act)

    @invariant()
    def agrees(self) -> None:
        ticket = self.ticket
        assert (ticket["state"], ticket.get("snoozed_until")) == (self.state, self.until)
        assert [part["kind"] for part in self.parts] == self.kinds
        assert [part["_id"] for part in self.parts] == sorted(part["_id"] for part in self.parts)
        public = [kind for kind in self.kinds if kind in ("COMMENT", "STATE")]
        assert ticket["statistics"] == {"part_count": len(self.kinds), "public_part_count": len(public)}
        assert ("resolved_at" in ticket) == (self.state == "RESOLVED")
        assert ticket["lists"] == lists_of(ticket)
        told = [part["to_state"] for part in self.parts if "to_state" in part]
        assert [self.state] == (told or ["SUBMITTED"])[-1:]


TestTicket = TicketMachine.TestCase
TestTicket.settings = settings(max_examples=60, stateful_step_count=20)
