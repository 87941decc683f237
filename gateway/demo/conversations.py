"""Seeds the help desk of the demo workspace: teammates, and conversations in every state, the same each time."""

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime, timedelta

from gateway.core.principals import Principal, Scope
from gateway.domain.support.commands import (
    ActorRef,
    ApplySla,
    AssignThread,
    CloseConversation,
    CreateConversation,
    RateConversation,
    ReplyToConversation,
    SaveAdmin,
    SaveTeam,
    SnoozeConversation,
)
from gateway.domain.support.documents import ConversationDocument
from gateway.services.support.conversations import ConversationService
from gateway.services.support.teammates import TeammateService
from gateway.store.workspace_store import Store

Step = Callable[[ConversationService, Principal], Awaitable[object]]
SEED = 20240102
_ADMINS = ("Ines", "Marek", "Noor")
_TEAMS = {"Support": ("Ines", "Marek"), "Billing": ("Noor",)}
_QUESTIONS = (
    ("The export stops half-way", "I export a report of about 9000 rows, and the file ends at row 5000."),
    ("Two invoices for March", "We were charged twice for March. Could you look at both invoices?"),
    ("Inviting a colleague", "How do I invite a colleague who has no e-mail of our company?"),
    ("Change of plan", "If we change to the business plan now, do we pay for the whole month?"),
    ("Dark mode", "Is there a dark mode? My eyes would be grateful."),
    ("Wrong time zone", "Every date in our reports is an hour off since the clocks changed."),
)
_REPLIES = (
    "Thank you for writing. Could you tell me the name of the report?",
    "I see what you mean. I will look into it and write again today.",
    "This was our mistake, and it is put right now. Does it work for you?",
)
_THANKS = ("It works now, thank you!", "Great, that was quick.", "Not quite yet: I still see the old one.")
_CONVERSATIONS = 15


async def seed_desk(
    people: TeammateService, conversations: ConversationService, store: Store, workspace_id: str, now: datetime
) -> None:
    """Seed teammates and conversations; safe to repeat after an interruption."""
    principal = Principal("key_demo", workspace_id, frozenset(Scope))
    admins = {name: await _admin(people, store, workspace_id, name) for name in _ADMINS}
    teams = {name: await _team(people, store, workspace_id, name, admins) for name in _TEAMS}
    chance = random.Random(SEED)  # noqa: S311 - the same numbers each time is the point
    for number in range(_CONVERSATIONS):
        await _converse(conversations, principal, chance, number, now, admins, teams)


async def _admin(people: TeammateService, store: Store, workspace_id: str, name: str) -> str:
    email = f"{name.lower()}@acme.example"
    admin = await store.open(workspace_id).admins.with_text(email)
    admin = admin or await people.save_admin(workspace_id, SaveAdmin(name, email))
    return admin["_id"]


async def _team(people: TeammateService, store: Store, workspace_id: str, name: str, admins: Mapping[str, str]) -> str:
    team = await store.open(workspace_id).teams.with_text(name.lower())
    ids = [admins[member] for member in _TEAMS[name]]
    team = team or await people.save_team(workspace_id, SaveTeam(name, ids))
    return team["_id"]


async def _converse(
    conversations: ConversationService,
    principal: Principal,
    chance: random.Random,
    number: int,
    now: datetime,
    admins: Mapping[str, str],
    teams: Mapping[str, str],
) -> None:
    """Create a conversation and take it through its steps; one that has replies is left as it is."""
    title, body = chance.choice(_QUESTIONS)
    at = now - timedelta(hours=5 * (_CONVERSATIONS - number), minutes=chance.randint(0, 200))
    team = "Billing" if "invoice" in body or "plan" in body else "Support"
    admin_id = admins[chance.choice(_TEAMS[team])]
    conversation = await conversations.create(
        principal,
        CreateConversation(
            contact={"external_id": f"user-{chance.randrange(40)}"},
            title=title,
            body=body,
            team_id=teams[team],
            tags=chance.sample(["bug", "vip", "feedback"], chance.randint(0, 2)),
            created_at=at,
            idempotency_key=f"demo-conversation-{number}",
        ),
    )
    steps = list(_steps(chance, number, conversation, admin_id, at, now))
    if conversation["statistics"]["part_count"] <= 1:
        for step in steps:
            await step(conversations, principal)


def _steps(
    chance: random.Random, number: int, conversation: ConversationDocument, admin_id: str, at: datetime, now: datetime
) -> Iterator[Step]:
    """The commands on it: a third waits for a reply, the others get one, and most of these end."""
    id_, by_admin = conversation["_id"], ActorRef(admin_id=admin_id)
    if number % 3 == 0:
        if number % 2 == 0:
            sla = ApplySla(id=id_, name="Gold", first_reply_minutes=60 * (24 + number))
            yield lambda service, principal: service.apply_sla(principal, sla)
        return
    replied_at = at + timedelta(minutes=chance.randint(3, 90))
    key = f"demo-reply-{number}"
    yield _reply(_reply_of(id_, chance.choice(_REPLIES), by_admin, replied_at, key))
    by_contact = ActorRef(contact_id=conversation["contact_id"])
    if number % 4 < 3:
        later, key = replied_at + timedelta(minutes=chance.randint(5, 60)), f"demo-thanks-{number}"
        yield _reply(_reply_of(id_, chance.choice(_THANKS), by_contact, later, key))
    assignment = AssignThread(id=id_, assignee_id=admin_id, actor=by_admin)
    yield lambda service, principal: service.assign(principal, assignment)
    if number % 5 == 0:
        snooze = SnoozeConversation(id=id_, until=now + timedelta(days=2 + number), actor=by_admin)
        yield lambda service, principal: service.snooze(principal, snooze)
    elif number % 3 == 2:
        yield lambda service, principal: service.close(principal, CloseConversation(id=id_, actor=by_admin))
        rating = RateConversation(id_, chance.choice((3, 4, 5, 5)))
        yield lambda service, principal: service.rate(principal, rating)
    if number % 7 == 1:
        yield _reply(
            ReplyToConversation(
                conversation_id=id_, body="Told the developers about this one.", note=True, actor=by_admin
            )
        )


def _reply_of(id_: str, body: str, actor: ActorRef, at: datetime, key: str) -> ReplyToConversation:
    return ReplyToConversation(conversation_id=id_, body=body, actor=actor, created_at=at, idempotency_key=key)


def _reply(command: ReplyToConversation) -> Step:
    return lambda service, principal: service.reply(principal, command)
