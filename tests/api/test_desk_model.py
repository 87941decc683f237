"""Any sequence of acts on a conversation and a ticket, through the API: what is shown is what plain models say."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from examples import examples
from gateways import OpenGateway
from hypothesis import given
from hypothesis import strategies as st
from models import ConversationModel, TicketModel
from tickets import REPLY, SET_STATE, UPDATE, admin, asked, problems, ticket, type_id

CONVERSATION = """query($id: ID!) { conversation(id: $id) { state waitingSince snoozedUntil tags
  assignee { id } rating { score } sla { status dueAt } contact { id }
  statistics { partCount reopenCount assignmentCount firstReplyAt firstReplySeconds lastContactReplyAt lastAdminReplyAt closedAt }
  parts(first: 100) { nodes { kind body assignedTo { id } createdAt } } } }"""
TICKET = """query($id: ID!) { ticket(by: {id: $id}) { state snoozedUntil resolvedAt partCount
  parts(first: 100) { nodes { kind toState createdAt } } } }"""
SLA = """mutation($i: ApplySlaInput!) { applySla(input: $i) { userErrors { code message path } } }"""


@dataclass
class StoppedClock:
    """A time that passes when a test says so."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
async def desk(open_gateway: OpenGateway, fast_mongo: str) -> Any:
    """A gateway whose time a test moves; its timers go off when `fire_due` is called."""
    clock = StoppedClock(datetime.now(UTC).replace(microsecond=0))
    async with open_gateway(uri=fast_mongo, clock=clock, rolls_up=False) as opened:
        yield opened, clock


class Walk:
    """One conversation and one ticket of a workspace, each beside its model, whose time is one."""

    def __init__(self, workspace: Any, clock: StoppedClock, ids: dict[str, str]) -> None:
        self.workspace, self.clock, self.ids = workspace, clock, ids
        self.conversation, self.ticket = ConversationModel(clock.now), TicketModel(clock.now)
        self.conversation.waiting = self.conversation.asked = clock.now
        self.actors: dict[str, Any] = {
            "contact": {"actor": {"contactId": ids["contact"]}},
            "admin": {"actor": {"adminId": ids["admin"]}},
            "automation": {},
        }

    async def step(self, what: str, who: str, minutes: int, number: int, *, fires: bool) -> None:
        """Time passes for both, and somebody acts on one."""
        for model in (self.conversation, self.ticket):
            model.pass_time(minutes)
        self.clock.now = self.conversation.now
        if fires:
            await self.workspace.gateway.runtime.services.timers.fire_due()
        await getattr(self, what)(who, number)
        await self.workspace.gateway.runtime.services.timers.fire_due()
        await self.agrees()

    async def do(self, mutation: str, who: str, **input_: Any) -> list[tuple[str, list[str]]]:
        """What was wrong with that mutation on the conversation."""
        name = mutation[0].upper() + mutation[1:]
        query = f"mutation($i: {name}Input!) {{ {mutation}(input: $i) {{ userErrors {{ code path }} }} }}"
        id_ = {"conversationId" if mutation == "replyToConversation" else "id": self.ids["conversation"]}
        return problems(await asked(self.workspace, query, **id_, **self.actors[who], **input_))

    async def comment(self, who: str, number: int) -> None:
        assert await self.do("replyToConversation", who, body="word") == []
        self.conversation.comment(who)

    async def note(self, who: str, number: int) -> None:
        assert await self.do("replyToConversation", "admin", body="secret", note=True) == []
        self.conversation.history.append("NOTE")

    async def assign(self, who: str, number: int) -> None:
        to = self.ids["admin"] if number % 2 else None
        assert await self.do("assignConversation", "admin", assigneeId=to) == []
        self.conversation.assignee = to
        self.conversation.history.append("ASSIGNMENT" if to else "ASSIGNMENT to nobody")

    async def snooze(self, who: str, number: int) -> None:
        until = self.clock.now + timedelta(minutes=5 * number + 5)
        assert await self.do("snoozeConversation", "admin", until=until.isoformat()) == []
        self.conversation.state, self.conversation.wakes = "SNOOZED", until
        self.conversation.history.append("SNOOZE")

    async def close(self, who: str, number: int) -> None:
        assert await self.do("closeConversation", who, **({"body": "bye"} if number % 2 else {})) == []
        self.conversation.close(who, bool(number % 2))

    async def reopen(self, who: str, number: int) -> None:
        found = await self.do("reopenConversation", who, **({"body": "again"} if number % 2 else {}))
        assert found == ([("ILLEGAL_TRANSITION", ["id"])] if self.conversation.state == "OPEN" else [])
        if not found:
            self.conversation.open()
            if number % 2:
                self.conversation.speak(who)

    async def rate(self, who: str, number: int) -> None:
        query = "mutation($i: RateConversationInput!) { rateConversation(input: $i) { userErrors { code path } } }"
        payload = await asked(self.workspace, query, id=self.ids["conversation"], score=number + 1)
        assert payload["userErrors"] == []
        self.conversation.score = number + 1
        self.conversation.history.append("RATING")

    async def promise(self, who: str, number: int) -> None:
        first, following = [(10, None), (None, 10), (15, 5), (3, 20), (30, 30)][number]
        targets = {"firstReplyMinutes": first, "nextReplyMinutes": following}
        sent = {name: value for name, value in targets.items() if value is not None}
        assert await self.do("applySla", "admin", name="Gold", **sent) == []
        self.conversation.promise(first, following)

    async def ticket_reply(self, who: str, number: int) -> None:
        note = who == "admin" and number % 2 == 1
        sent = {"ticketId": self.ids["ticket"], "body": "word", "note": note, **self.actors[who]}
        assert problems(await asked(self.workspace, REPLY, **sent)) == []
        self.ticket.reply(who, note=note)

    async def ticket_move(self, who: str, number: int) -> None:
        state = ["SUBMITTED", "IN_PROGRESS", "WAITING_ON_CUSTOMER", "RESOLVED", "RESOLVED"][number]
        found = await asked(self.workspace, SET_STATE, id=self.ids["ticket"], state=state, **self.actors["admin"])
        assert problems(found) == ([] if self.ticket.move(state) else [("ILLEGAL_TRANSITION", ["state"])])

    async def ticket_snooze(self, who: str, number: int) -> None:
        until = self.clock.now + timedelta(minutes=5 * number + 5)
        sent = {"id": self.ids["ticket"], "snoozedUntil": until.isoformat(), **self.actors["admin"]}
        found = problems(await asked(self.workspace, UPDATE, **sent))
        assert found == ([] if self.ticket.snooze(until) else [("ILLEGAL_TRANSITION", ["snoozedUntil"])])

    async def agrees(self) -> None:
        model = self.conversation
        shown = (await self.workspace.data(CONVERSATION, {"id": self.ids["conversation"]}))["conversation"]
        statistics, seconds = shown["statistics"], None
        if model.first_reply and model.asked:
            seconds = (model.first_reply - model.asked).total_seconds()
        assert (shown["state"], _at(shown["snoozedUntil"])) == (model.state, model.wakes)
        assert _at(shown["waitingSince"]) == model.waiting
        assert (shown["assignee"] or {}).get("id") == model.assignee
        assert (shown["rating"] or {}).get("score") == model.score
        sla = shown["sla"] or {"status": None, "dueAt": None}
        assert (sla["status"], _at(sla["dueAt"])) == (model.sla, model.due)
        assert {name: _at(value) if name.endswith("At") else value for name, value in statistics.items()} == {
            "partCount": len(model.history),
            "reopenCount": model.history.count("OPEN"),
            "assignmentCount": model.history.count("ASSIGNMENT"),
            "firstReplyAt": model.first_reply,
            "firstReplySeconds": seconds,
            "lastContactReplyAt": model.last.get("contact"),
            "lastAdminReplyAt": model.last.get("admin"),
            "closedAt": model.closed,
        }
        assert [_name(part) for part in shown["parts"]["nodes"]] == model.history
        found = (await self.workspace.data(TICKET, {"id": self.ids["ticket"]}))["ticket"]
        assert (found["state"], _at(found["snoozedUntil"])) == (self.ticket.state, self.ticket.until)
        assert [part["kind"] for part in found["parts"]["nodes"]] == self.ticket.history
        assert found["partCount"] == len(self.ticket.history)
        assert (found["resolvedAt"] is not None) == (self.ticket.state == "RESOLVED")
        for parts in (shown["parts"]["nodes"], found["parts"]["nodes"]):
            times = [_at(part["createdAt"]) for part in parts]
            assert times == sorted(set(times))


def _at(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _name(part: dict[str, Any]) -> str:
    if part["kind"] == "SLA":
        return f"SLA {part['body'].rpartition(' ')[2]}"
    return "ASSIGNMENT to nobody" if part["kind"] == "ASSIGNMENT" and part["assignedTo"] is None else str(part["kind"])


KINDS = ["comment", "comment", "note", "assign", "snooze", "close", "reopen", "rate", "promise", "promise"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from([*KINDS, "ticket_reply", "ticket_move", "ticket_move", "ticket_snooze"]),
        st.sampled_from(["contact", "admin", "automation"]),
        st.integers(1, 30),
        st.integers(0, 4),
        st.booleans(),
    ),
    min_size=8,
    max_size=14,
)


@examples(12)
@given(steps=STEPS)
async def test_what_is_shown_is_what_the_models_say(desk: Any, steps: list[Any]) -> None:
    gateway, clock = desk
    workspace = await gateway.workspace()
    eve, bug = await admin(workspace), await type_id(workspace)
    begin = """mutation { createConversation(input: {contact: {externalId: "u"}, body: "Hello"}) {
      conversation { id contact { id } } } }"""
    begun = (await workspace.data(begin))["createConversation"]["conversation"]
    made = await ticket(workspace, bug, isShared=True)
    ids = {"admin": eve, "contact": begun["contact"]["id"], "conversation": begun["id"], "ticket": made["id"]}
    walk = Walk(workspace, clock, ids)
    await walk.agrees()
    for what, who, minutes, number, fires in steps:
        await walk.step(what, who, minutes, number, fires=fires)
