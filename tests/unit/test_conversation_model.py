"""Any sequence of acts on a conversation, against a plain model: state, statistics, SLA, timers and history agree."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from examples import examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from models import ConversationModel

from gateway.core.ids import Minter
from gateway.core.timers import timer_id_of
from gateway.domain.support.actors import AUTOMATION, Actor, ActorKind
from gateway.domain.support.commands import ApplySla
from gateway.domain.support.conversations import (
    SLA_TIMER,
    SNOOZE_TIMER,
    ConversationAggregate,
    lists_of,
    new_conversation,
)
from gateway.domain.support.sla import check_sla
from gateway.domain.support.threads import PUBLIC_PARTS, Changeset
from gateway.errors import UserProblem

ADA = Actor(ActorKind.CONTACT, "con_ada")
EVE = Actor(ActorKind.ADMIN, "adm_eve")
ACTORS = {"contact": ADA, "admin": EVE, "automation": AUTOMATION}
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
WHO = st.sampled_from(sorted(ACTORS))
MINUTES = st.integers(1, 30)


class Conversation(RuleBasedStateMachine):
    """The conversation as it is stored, beside the model."""

    def __init__(self) -> None:
        super().__init__()
        self.minter = Minter()
        self.parts: list[dict[str, Any]] = []
        self.timers: dict[str, datetime] = {}
        self.told: list[str] = []

    @initialize(who=WHO)
    def begin(self, who: str) -> None:
        contact = {"_id": "con_ada", "workspace_id": "wsp_1"}
        document = new_conversation("cnv_1", contact, {"source": {"body": "Hello"}}, ACTORS[who], BEGIN)
        self.model = ConversationModel(BEGIN, read={"admin": who == "admin", "contact": who == "contact"})
        if who == "contact":
            self.model.waiting = self.model.asked = BEGIN
        self.store(ConversationAggregate.created(document, self.minter).changeset())

    def act(self, who: str, minutes: int) -> ConversationAggregate:
        self.model.pass_time(minutes)
        return ConversationAggregate(self.stored, ACTORS[who], self.model.now, self.minter)

    def store(self, change: Changeset) -> None:
        self.stored = change.after
        self.parts += change.parts
        self.told += [line.kind.stored_kind for line in change.events]
        self.timers |= {timer["_id"]: timer["due_at"] for timer in change.timers}
        for id_ in change.cancelled:
            self.timers.pop(id_, None)

    @rule(who=WHO, minutes=MINUTES)
    def comment(self, who: str, minutes: int) -> None:
        act = self.act(who, minutes)
        self.store(act.changeset(act.comment("word")))
        self.model.comment(who)

    @rule(minutes=MINUTES)
    def note(self, minutes: int) -> None:
        act = self.act("admin", minutes)
        self.store(act.changeset(act.note("secret")))
        self.model.history.append("NOTE")

    @rule(minutes=MINUTES, to=st.sampled_from([None, "adm_eve", "adm_bob"]))
    def assign(self, minutes: int, to: str | None) -> None:
        act = self.act("admin", minutes)
        self.store(act.changeset(act.assign({"assignee_id": to})))
        self.model.assignee = to
        self.model.history.append("ASSIGNMENT" if to else "ASSIGNMENT to nobody")

    @rule(minutes=MINUTES, hours=st.integers(1, 3))
    def snooze(self, minutes: int, hours: int) -> None:
        act = self.act("admin", minutes)
        until = self.model.now + timedelta(hours=hours) / 4
        self.store(act.changeset(act.snooze(until)))
        self.model.state, self.model.wakes = "SNOOZED", until
        self.model.history.append("SNOOZE")

    @rule(who=WHO, minutes=MINUTES, body=st.booleans())
    def close(self, who: str, minutes: int, body: bool) -> None:
        act = self.act(who, minutes)
        self.store(act.changeset(act.close("bye" if body else None)))
        self.model.close(who, body)

    @rule(who=WHO, minutes=MINUTES, body=st.booleans())
    def reopen(self, who: str, minutes: int, body: bool) -> None:
        act = self.act(who, minutes)
        if self.model.state == "OPEN":
            with pytest.raises(UserProblem, match="only a closed or snoozed one can be reopened"):
                act.reopen()
            return
        self.store(act.changeset(act.reopen("again" if body else None)))
        self.model.open()
        if body:
            self.model.speak(who)

    @rule(who=st.sampled_from(["admin", "contact"]), minutes=MINUTES)
    def mark_read(self, who: str, minutes: int) -> None:
        act = self.act(who, minutes)
        act.read()
        self.store(act.changeset())
        self.model.read[who] = True

    @rule(minutes=MINUTES, score=st.integers(1, 5))
    def rate(self, minutes: int, score: int) -> None:
        act = self.act("contact", minutes)
        self.store(act.changeset(act.rate(score, None)))
        self.model.score = score
        self.model.history.append("RATING")

    @rule(minutes=MINUTES, tag=st.sampled_from("abc"), add=st.booleans())
    def tag(self, minutes: int, tag: str, add: bool) -> None:
        act = self.act("admin", minutes)
        self.store(act.changeset(act.update({"add_tags" if add else "remove_tags": [tag]})))
        if (tag in self.model.tags) != add:
            self.model.history.append("TAG")
        self.model.tags = self.model.tags | {tag} if add else self.model.tags - {tag}

    @rule(minutes=MINUTES, first=st.none() | MINUTES, following=st.none() | MINUTES)
    def apply_sla(self, minutes: int, first: int | None, following: int | None) -> None:
        if first is None and following is None:
            return
        act = self.act("admin", minutes)
        command = ApplySla(id="cnv_1", name="Gold", first_reply_minutes=first, next_reply_minutes=following)
        self.store(act.changeset(act.apply_sla(check_sla(command))))
        self.model.promise(first, following)

    @rule(minutes=MINUTES)
    def fire(self, minutes: int) -> None:
        self.store(self.act("automation", minutes).changeset())

    @invariant()
    def agrees(self) -> None:
        model = self.model
        document = ConversationAggregate(self.stored, AUTOMATION, model.now, self.minter).document
        statistics = document["statistics"]
        assert document["state"] == model.state
        assert document.get("snoozed_until") == model.wakes
        assert document.get("waiting_since") == model.waiting
        assert document.get("assignee_id") == model.assignee
        assert (document["read"], document["read_by_contact"]) == (model.read["admin"], model.read["contact"])
        assert set(document["tags"]) == model.tags
        assert document.get("rating", {}).get("score") == model.score
        assert statistics.get("first_reply_at") == model.first_reply
        if model.first_reply and model.asked:
            assert statistics["first_reply_seconds"] == (model.first_reply - model.asked).total_seconds()
        assert statistics.get("last_contact_reply_at") == model.last.get("contact")
        assert statistics.get("last_admin_reply_at") == model.last.get("admin")
        assert statistics.get("closed_at") == model.closed
        sla = document.get("sla") or {}
        assert (sla.get("status"), sla.get("due_at")) == (model.sla, model.due)
        assert statistics["part_count"] == len(model.history)
        assert statistics["reopen_count"] == model.history.count("OPEN")
        assert statistics["assignment_count"] == model.history.count("ASSIGNMENT")

    @invariant()
    def the_history_says_so(self) -> None:
        told = [_name(part) for part in self.parts]
        assert told == self.model.history[: len(told)]
        assert set(self.model.history[len(told) :]) <= {"UNSNOOZE", "SLA MISSED"}  # due, and not settled yet
        ids, times = [part["_id"] for part in self.parts], [part["created_at"] for part in self.parts]
        assert ids == sorted(ids)
        assert times == sorted(set(times))
        assert self.stored["statistics"]["part_count"] == len(self.parts)
        public = sum(part["kind"] in PUBLIC_PARTS for part in self.parts)
        assert self.stored["statistics"]["public_part_count"] == public

    @invariant()
    def timers_wait_for_what_is_due(self) -> None:
        due = {SNOOZE_TIMER: self.stored.get("snoozed_until")}
        sla = self.stored.get("sla") or {}
        due[SLA_TIMER] = sla.get("due_at") if sla.get("status") == "ACTIVE" else None
        expected = {timer_id_of("wsp_1", kind, "cnv_1"): at for kind, at in due.items() if at is not None}
        assert self.timers == expected
        assert self.stored["lists"] == lists_of(self.stored)


def _name(part: dict[str, Any]) -> str:
    if part["kind"] == "SLA":
        return f"SLA {part['body'].rpartition(' ')[2]}"
    return "ASSIGNMENT to nobody" if part["kind"] == "ASSIGNMENT" and "assigned_to" not in part else str(part["kind"])


TestConversation = Conversation.TestCase
TestConversation.settings = examples(80, stateful_step_count=40)
