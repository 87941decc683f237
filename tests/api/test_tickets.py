"""Tickets: opened, answered, moved, assigned, edited, put aside, and what is refused."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tickets import (
    ASSIGN,
    CONVERT,
    CREATE,
    REPLY,
    SET_STATE,
    UPDATE,
    admin,
    asked,
    parts,
    problems,
    team,
    ticket,
    type_id,
)

from gateway.demo.tickets import seed_tickets
from gateway.domain.support.ticket_states import TRANSITIONS, TicketState

NOBODY = "01JZ0000000000000000000000"
CONVERSE = "mutation($i: CreateConversationInput!) { createConversation(input: $i) { conversation { id } userErrors { code } } }"


@pytest.fixture
def gateway(still_gateway: Any) -> Any:
    return still_gateway


async def conversation(workspace: Any, external_id: str = "u") -> str:
    payload = await asked(workspace, CONVERSE, contact={"externalId": external_id}, body="Hello")
    return str(payload["conversation"]["id"])


async def test_a_ticket_is_opened_and_its_contact_created(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    bug = await type_id(workspace, attributes=[{"name": "Severity", "kind": "LIST", "options": ["low", "high"]}])
    eve, support = await admin(workspace), await team(workspace)
    made = await ticket(
        workspace,
        bug,
        description="It says no",
        attributes={"Severity": "high"},
        tags=["a", "a", "b"],
        assigneeId=eve,
        teamId=support,
    )
    assert made == {
        "id": made["id"],
        "number": 1,
        "title": "It is broken",
        "description": "It says no",
        "category": "CUSTOMER",
        "state": "SUBMITTED",
        "tags": ["a", "b"],
        "isShared": True,
        "snoozedUntil": None,
        "attributes": {"Severity": "high"},
        "submittedTitle": "It is broken",
        "submittedDescription": "It says no",
        "resolvedAt": None,
        "partCount": 2,
        "type": {"name": "Bug"},
        "contact": {"externalId": "u"},
        "conversation": None,
        "assignee": {"name": "Eve"},
        "team": {"name": "Support"},
    }
    for by in ({"id": made["id"]}, {"number": 1}):
        found = await workspace.data("query($by: TicketKey!) { ticket(by: $by) { id } }", {"by": by})
        assert found == {"ticket": {"id": made["id"]}}
    assert await workspace.data("{ ticket(by: {number: 2}) { id } }") == {"ticket": None}
    node = await workspace.data("query($id: ID!) { node(id: $id) { __typename id } }", {"id": made["id"]})
    assert node == {"node": {"__typename": "Ticket", "id": made["id"]}}
    second = await ticket(workspace, await type_id(workspace, "Task", "BACK_OFFICE"), isShared=True)
    assert (second["number"], second["category"], second["isShared"]) == (2, "BACK_OFFICE", False)


ATTRIBUTES = [
    {"name": "Severity", "kind": "LIST", "options": ["low", "high"], "required": True},
    {"name": "Count", "kind": "INTEGER"},
]


@pytest.mark.parametrize(
    ("input_", "code", "path"),
    [
        ({"title": " "}, "INVALID", ["title"]),
        ({"title": "x" * 256}, "LIMIT_EXCEEDED", ["title"]),
        ({"description": ""}, "INVALID", ["description"]),
        ({"description": "x" * 100_001}, "LIMIT_EXCEEDED", ["description"]),
        ({"typeId": f"tty_{NOBODY}"}, "NOT_FOUND", ["typeId"]),
        ({"attributes": {}}, "INVALID", ["attributes", "Severity"]),
        ({"attributes": {"Severity": "medium"}}, "INVALID", ["attributes", "Severity"]),
        ({"attributes": {"Severity": "low", "Count": "5"}}, "INVALID", ["attributes", "Count"]),
        ({"attributes": {"Severity": "low", "Colour": "red"}}, "INVALID", ["attributes", "Colour"]),
        ({"contact": {}}, "INVALID", ["contact"]),
        ({"contact": {"id": f"con_{NOBODY}"}}, "NOT_FOUND", ["contact", "id"]),
        ({"assigneeId": f"adm_{NOBODY}"}, "NOT_FOUND", ["assigneeId"]),
        ({"teamId": f"tea_{NOBODY}"}, "NOT_FOUND", ["teamId"]),
        ({"conversationId": f"cnv_{NOBODY}"}, "NOT_FOUND", ["conversationId"]),
        ({"actor": {"adminId": f"adm_{NOBODY}"}}, "NOT_FOUND", ["actor", "adminId"]),
        ({"createdAt": "1980-01-01T00:00:00Z"}, "INVALID", ["createdAt"]),
        ({"tags": [""]}, "INVALID", ["tags", "0"]),
        ({"idempotencyKey": ""}, "INVALID", ["idempotencyKey"]),
    ],
)
async def test_a_ticket_that_cannot_be_opened_leaves_no_gap(
    workspace: Any, input_: Any, code: str, path: list[str]
) -> None:
    bug = await type_id(workspace, attributes=ATTRIBUTES)
    sent = {"contact": {"externalId": "u"}, "typeId": bug, "title": "A", "attributes": {"Severity": "low"}}
    refused = await asked(workspace, CREATE, **{**sent, **input_})
    assert (refused["ticket"], problems(refused)) == (None, [(code, path)])
    assert await workspace.store.contacts._find({}) == []
    assert (await asked(workspace, CREATE, **sent))["ticket"]["number"] == 1


async def test_an_archived_type_has_no_new_tickets_and_the_others_go_on(workspace: Any) -> None:
    bug = await type_id(workspace, attributes=ATTRIBUTES)
    made = await ticket(workspace, bug, attributes={"Severity": "low", "Count": 5})
    changed = [
        {"name": "Count", "kind": "STRING", "required": True},
        {"name": "New", "kind": "STRING", "required": True},
    ]
    await type_id(workspace, id=bug, archived=True, attributes=changed)
    refused = await asked(workspace, CREATE, contact={"externalId": "u"}, typeId=bug, title="A")
    assert problems(refused) == [("INVALID", ["typeId"])]
    kept = await asked(workspace, UPDATE, id=made["id"], title="B")
    assert kept["ticket"]["attributes"] == {"Severity": "low", "Count": 5}
    written = await asked(workspace, UPDATE, id=made["id"], attributes={"Severity": None, "Count": "five"})
    assert written["ticket"]["attributes"] == {"Count": "five"}
    for attributes, name in (({"Severity": "low"}, "Severity"), ({"Count": 6}, "Count"), ({"Count": None}, "Count")):
        refused = await asked(workspace, UPDATE, id=made["id"], attributes=attributes)
        assert problems(refused) == [("INVALID", ["attributes", name])]


async def test_the_same_key_is_the_same_ticket_and_another_input_a_mistake(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    bug = await type_id(workspace)
    first, again = [await ticket(workspace, bug, idempotencyKey="k") for _ in range(2)]
    assert again == first
    sent = {"contact": {"externalId": "u"}, "typeId": bug, "title": "Another", "idempotencyKey": "k"}
    assert problems(await asked(workspace, CREATE, **sent)) == [("IDEMPOTENCY_KEY_REUSED", ["idempotencyKey"])]
    replies = [await asked(workspace, REPLY, ticketId=first["id"], body="Yes", idempotencyKey="k") for _ in range(2)]
    assert replies[0]["part"] == replies[1]["part"]
    assert replies[1]["ticket"]["partCount"] == 1
    at_once = await asyncio.gather(*(ticket(workspace, bug, title="C", idempotencyKey="c") for _ in range(5)))
    assert {one["number"] for one in at_once} == {2}
    assert (await ticket(workspace, bug))["number"] == 3


async def test_a_key_gives_the_first_result_whatever_has_changed_since(workspace: Any) -> None:
    bug, eve = await type_id(workspace), await admin(workspace)
    sent = {"assigneeId": eve, "actor": {"adminId": eve}, "idempotencyKey": "k"}
    first = await ticket(workspace, bug, **sent)
    reply = {"ticketId": first["id"], "body": "Yes", "actor": {"adminId": eve}, "idempotencyKey": "k"}
    part = (await asked(workspace, REPLY, **reply))["part"]
    begin = """mutation($i: CreateConversationInput!) { createConversation(input: $i) {
      conversation { id } userErrors { message } } }"""
    talk = {"contact": {"externalId": "u"}, "body": "Hello", "assigneeId": eve, "idempotencyKey": "k"}
    begun = await asked(workspace, begin, **talk)
    await type_id(workspace, id=bug, archived=True)
    archive = "mutation($i: SaveAdminInput!) { saveAdmin(input: $i) { userErrors { message } } }"
    gone = await asked(workspace, archive, id=eve, name="Eve", email="eve@acme.example", archived=True)
    assert gone["userErrors"] == []
    assert (await ticket(workspace, bug, **sent))["id"] == first["id"]
    assert (await asked(workspace, REPLY, **reply))["part"] == part
    assert await asked(workspace, begin, **talk) == begun
    refused = await asked(workspace, CREATE, contact={"externalId": "u"}, typeId=bug, title="Another")
    assert problems(refused) == [("INVALID", ["typeId"])]


async def test_every_transition_of_the_table_and_no_other(workspace: Any) -> None:
    bug = await type_id(workspace)
    for before in TicketState:
        for after in TicketState:
            made = await ticket(workspace, bug)
            if before is not TicketState.SUBMITTED:
                assert problems(await asked(workspace, SET_STATE, id=made["id"], state=before)) == []
            moved = await asked(workspace, SET_STATE, id=made["id"], state=after, body="So it is")
            if after in TRANSITIONS[before]:
                assert (moved["userErrors"], moved["ticket"]["state"]) == ([], after)
                assert (moved["part"]["kind"], moved["part"]["fromState"], moved["part"]["toState"]) == (
                    "STATE",
                    before,
                    after,
                )
                assert (moved["ticket"]["resolvedAt"] is not None) == (after == "RESOLVED")
            else:
                assert problems(moved) == [("ILLEGAL_TRANSITION", ["state"])]
                assert (moved["ticket"], moved["part"]) == (None, None)
                count = int(before is not TicketState.SUBMITTED)
                assert len(await parts(workspace, made["id"])) == count


async def test_replies_notes_and_who_wrote_them(workspace: Any) -> None:
    bug, eve = await type_id(workspace), await admin(workspace)
    made = await ticket(workspace, bug)
    user = (await workspace.data('{ contact(by: {externalId: "u"}) { id } }'))["contact"]["id"]
    for actor, body, note in (
        ({"adminId": eve}, "Look", True),
        ({"adminId": eve}, "Done?", False),
        (None, "Auto", False),
    ):
        payload = await asked(workspace, REPLY, ticketId=made["id"], body=body, note=note, actor=actor)
        assert payload["userErrors"] == []
        assert payload["part"]["kind"] == ("NOTE" if note else "COMMENT")
        assert payload["ticket"]["state"] == "SUBMITTED"
    for before, after in (("SUBMITTED", None), ("WAITING_ON_CUSTOMER", "IN_PROGRESS"), ("RESOLVED", "IN_PROGRESS")):
        if before != "SUBMITTED":
            await asked(workspace, SET_STATE, id=made["id"], state=before)
        payload = await asked(workspace, REPLY, ticketId=made["id"], body="Hm", actor={"contactId": user})
        assert (payload["part"]["fromState"], payload["part"]["toState"]) == (after and before, after)
        assert payload["ticket"]["state"] == (after or before)
        assert payload["ticket"]["resolvedAt"] is None
    shown = await parts(workspace, made["id"])
    assert [(one["kind"], one["body"], one["author"]["__typename"]) for one in shown] == [
        ("NOTE", "Look", "Admin"),
        ("COMMENT", "Done?", "Admin"),
        ("COMMENT", "Auto", "Automation"),
        ("COMMENT", "Hm", "Contact"),
        ("STATE", None, "Automation"),
        ("COMMENT", "Hm", "Contact"),
        ("STATE", None, "Automation"),
        ("COMMENT", "Hm", "Contact"),
    ]


async def test_a_contact_acts_on_its_own_shared_customer_tickets_alone(workspace: Any) -> None:
    bug, task = await type_id(workspace), await type_id(workspace, "Task", "BACK_OFFICE")
    own = await ticket(workspace, bug)
    others = await ticket(workspace, bug, contact={"externalId": "other"})
    hidden = await ticket(workspace, bug, isShared=False)
    office = await ticket(workspace, task)
    user = (await workspace.data('{ contact(by: {externalId: "u"}) { id } }'))["contact"]["id"]
    actor = {"contactId": user}
    for one, path in (
        (others, ["actor", "contactId"]),
        (hidden, ["actor"]),
        (office, ["actor"]),
    ):
        refused = await asked(workspace, REPLY, ticketId=one["id"], body="Hi", actor=actor)
        assert problems(refused) == [("FORBIDDEN", path)], one
        assert await parts(workspace, one["id"]) == []
    note = await asked(workspace, REPLY, ticketId=own["id"], body="Hi", actor=actor, note=True)
    assert problems(note) == [("FORBIDDEN", ["note"])]
    opened = await asked(workspace, CREATE, contact={"externalId": "u"}, typeId=task, title="A", actor=actor)
    assert problems(opened) == [("FORBIDDEN", ["typeId"])]
    opened = await asked(workspace, CREATE, contact={"externalId": "other"}, typeId=bug, title="A", actor=actor)
    assert problems(opened) == [("FORBIDDEN", ["actor", "contactId"])]


async def test_assigning_and_taking_away(workspace: Any) -> None:
    bug, eve, support = await type_id(workspace), await admin(workspace), await team(workspace)
    made = await ticket(workspace, bug)
    given = await asked(workspace, ASSIGN, id=made["id"], assigneeId=eve, teamId=support)
    assert (given["ticket"]["assignee"], given["ticket"]["team"]) == ({"name": "Eve"}, {"name": "Support"})
    assert (given["part"]["kind"], given["part"]["assignedTo"]) == ("ASSIGNMENT", {"id": eve})
    taken = await asked(workspace, ASSIGN, id=made["id"], assigneeId=None)
    assert (taken["ticket"]["assignee"], taken["ticket"]["team"]) == (None, {"name": "Support"})
    shown = await parts(workspace, made["id"])
    assert [one["assignedTo"] for one in shown] == [{"id": support}, {"id": eve}, None]
    for sent, code, path in (
        ({}, "INVALID", ["assigneeId"]),
        ({"assigneeId": f"adm_{NOBODY}"}, "NOT_FOUND", ["assigneeId"]),
        ({"teamId": f"tea_{NOBODY}"}, "NOT_FOUND", ["teamId"]),
    ):
        assert problems(await asked(workspace, ASSIGN, id=made["id"], **sent)) == [(code, path)]
    unknown = await asked(workspace, ASSIGN, id=f"tkt_{NOBODY}", assigneeId=eve)
    assert problems(unknown) == [("NOT_FOUND", ["id"])]


async def test_edits_keep_what_was_submitted(workspace: Any) -> None:
    bug = await type_id(workspace, attributes=[{"name": "Count", "kind": "INTEGER"}])
    made = await ticket(workspace, bug, description="As it was", tags=["a"])
    changed = await asked(
        workspace,
        UPDATE,
        id=made["id"],
        title="Better",
        description=None,
        attributes={"Count": 5},
        addTags=["b"],
        removeTags=["a"],
        isShared=False,
    )
    assert changed["ticket"] == {
        **made,
        "title": "Better",
        "description": None,
        "attributes": {"Count": 5},
        "tags": ["b"],
        "isShared": False,
        "partCount": 2,
    }
    shown = await parts(workspace, made["id"])
    assert [(one["kind"], one["body"]) for one in shown] == [
        ("UPDATE", "title, description, isShared, Count"),
        ("TAG", "+b -a"),
    ]
    same = await asked(workspace, UPDATE, id=made["id"], title="Better", addTags=["b"], isShared=False)
    assert (same["part"], same["ticket"]) == (None, changed["ticket"])
    office = await ticket(workspace, await type_id(workspace, "Task", "BACK_OFFICE"))
    for id_, sent, code, path in (
        (made["id"], {"title": None}, "INVALID", ["title"]),
        (made["id"], {"title": ""}, "INVALID", ["title"]),
        (made["id"], {"addTags": ["x"], "removeTags": ["x"]}, "INVALID", ["removeTags"]),
        (made["id"], {"addTags": [f"{n}" for n in range(100)]}, "LIMIT_EXCEEDED", ["addTags"]),
        (made["id"], {"snoozedUntil": "2020-01-01T00:00:00Z"}, "INVALID", ["snoozedUntil"]),
        (made["id"], {"snoozedUntil": "2099-01-01T00:00:00Z"}, "INVALID", ["snoozedUntil"]),
        (office["id"], {"isShared": True}, "INVALID", ["isShared"]),
        (f"tkt_{NOBODY}", {"title": "A"}, "NOT_FOUND", ["id"]),
    ):
        assert problems(await asked(workspace, UPDATE, id=id_, **sent)) == [(code, path)]
    again = await workspace.data(
        "query($id: ID!) { ticket(by: {id: $id}) { title tags partCount } }", {"id": made["id"]}
    )
    assert again["ticket"] == {"title": "Better", "tags": ["b"], "partCount": 2}


async def test_a_ticket_sleeps_and_wakes(open_gateway: Any, clock: Any) -> None:
    async with open_gateway(clock=clock, rolls_up=False) as gateway:
        workspace = await gateway.workspace()
        made = await ticket(workspace, await type_id(workspace))
        until = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
        text = until.isoformat().replace("+00:00", "Z")
        asleep = await asked(workspace, UPDATE, id=made["id"], snoozedUntil=text)
        assert (asleep["ticket"]["snoozedUntil"], asleep["part"]["kind"]) == (text, "SNOOZE")
        timers = gateway.runtime.services.timers
        assert await timers.fire_due() == 0
        clock.ahead = timedelta(hours=1)
        assert await timers.fire_due() == 1
        assert await timers.fire_due() == 0
        shown = await parts(workspace, made["id"])
        assert [(one["kind"], one["author"]["displayName"]) for one in shown][1:] == [("UNSNOOZE", "Automation")]
        for wake in ({"snoozedUntil": None}, {"state": "RESOLVED"}):
            later = (until + timedelta(hours=5)).isoformat()
            await asked(workspace, UPDATE, id=made["id"], snoozedUntil=later)
            document = UPDATE if "snoozedUntil" in wake else SET_STATE
            woken = await asked(workspace, document, id=made["id"], **wake)
            assert (woken["userErrors"], woken["ticket"]["snoozedUntil"]) == ([], None)
        assert await workspace.store.timers._find({}) == []
        refused = await asked(workspace, UPDATE, id=made["id"], snoozedUntil=later)
        assert problems(refused) == [("ILLEGAL_TRANSITION", ["snoozedUntil"])]


async def test_what_was_due_happens_before_the_next_act_and_the_timer_does_nothing_more(
    open_gateway: Any, clock: Any
) -> None:
    async with open_gateway(clock=clock, rolls_up=False) as gateway:
        workspace = await gateway.workspace()
        made = await ticket(workspace, await type_id(workspace))
        until = datetime.now(UTC) + timedelta(hours=1)
        await asked(workspace, UPDATE, id=made["id"], snoozedUntil=until.isoformat())
        clock.ahead = timedelta(hours=2)
        await asked(workspace, REPLY, ticketId=made["id"], body="Hello?")
        assert await gateway.runtime.services.timers.fire_due() == 0
        assert [one["kind"] for one in await parts(workspace, made["id"])] == ["SNOOZE", "UNSNOOZE", "COMMENT"]


async def test_a_conversation_becomes_a_ticket_once(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    bug, talk = await type_id(workspace), await conversation(workspace)
    sent = {"conversationId": talk, "typeId": bug, "title": "From a talk", "idempotencyKey": "k"}
    first, again = [await asked(workspace, CONVERT, **sent) for _ in range(2)]
    assert again == first
    assert first["conversation"] == {"id": talk, "ticket": {"number": 1}}
    assert (first["ticket"]["conversation"], first["ticket"]["contact"]) == ({"id": talk}, {"externalId": "u"})
    refused = await asked(workspace, CONVERT, **{**sent, "idempotencyKey": None})
    assert problems(refused) == [("CONFLICT", ["conversationId"])]
    for conversation_id, contact, code in (
        (talk, "u", "CONFLICT"),
        (await conversation(workspace, "other"), "u", "NOT_FOUND"),
        (f"cnv_{NOBODY}", "u", "NOT_FOUND"),
    ):
        input_ = {"contact": {"externalId": contact}, "typeId": bug, "title": "A", "conversationId": conversation_id}
        assert problems(await asked(workspace, CREATE, **input_)) == [(code, ["conversationId"])]
    unknown = await asked(workspace, CONVERT, conversationId=f"cnv_{NOBODY}", typeId=bug, title="A")
    assert problems(unknown) == [("NOT_FOUND", ["conversationId"])]
    linked = await ticket(workspace, bug, conversationId=await conversation(workspace))
    assert linked["number"] == 2
    nested = await workspace.data(
        "query($id: ID!) { ticket(by: {id: $id}) { conversation { ticket { id } contact { externalId } } } }",
        {"id": linked["id"]},
    )
    assert nested["ticket"]["conversation"] == {"ticket": {"id": linked["id"]}, "contact": {"externalId": "u"}}


async def test_two_who_convert_at_once_make_one_ticket(workspace: Any) -> None:
    bug, talk = await type_id(workspace), await conversation(workspace)
    made = await asyncio.gather(
        *(asked(workspace, CONVERT, conversationId=talk, typeId=bug, title="A") for _ in range(4))
    )
    assert sorted(problems(one) for one in made) == [[], *[[("CONFLICT", ["conversationId"])]] * 3]
    assert (await ticket(workspace, bug))["number"] == 2


async def test_two_who_act_at_once_are_both_in_the_history(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
    made = await ticket(workspace, await type_id(workspace))
    await asyncio.gather(
        *(asked(workspace, REPLY, ticketId=made["id"], body=f"{number}") for number in range(5)),
        asked(workspace, UPDATE, id=made["id"], addTags=["a"]),
        asked(workspace, UPDATE, id=made["id"], addTags=["b"]),
        asked(workspace, SET_STATE, id=made["id"], state="RESOLVED"),
    )
    shown = await parts(workspace, made["id"])
    assert sorted(one["kind"] for one in shown) == [*["COMMENT"] * 5, "STATE", "TAG", "TAG"]
    found = await workspace.data(
        "query($id: ID!) { ticket(by: {id: $id}) { partCount state tags } }", {"id": made["id"]}
    )
    tags = found["ticket"].pop("tags")
    assert (found["ticket"], sorted(tags)) == ({"partCount": 8, "state": "RESOLVED"}, ["a", "b"])


async def test_numbers_have_neither_gap_nor_repeat_through_two_gateways(open_gateway: Any) -> None:
    async with open_gateway() as first:
        workspace = await first.workspace()
        name = first.runtime.database._database.name
        async with open_gateway(database=name, rolls_up=False) as second:
            beside = type(workspace)(second, workspace.id, workspace.key)
            bug = await type_id(workspace)
            made = await asyncio.gather(
                *(
                    ticket((workspace, beside)[number % 2], bug, contact={"externalId": f"u{number % 7}"})
                    for number in range(50)
                )
            )
        assert sorted(one["number"] for one in made) == list(range(1, 51))
        stored = await workspace.store.tickets._find({})
        assert sorted(row["number"] for row in stored) == list(range(1, 51))
        neighbour = await first.workspace()
        assert (await ticket(neighbour, await type_id(neighbour)))["number"] == 1


async def test_the_demo_shows_a_ticket_in_each_state_however_often_it_is_seeded(workspace: Any) -> None:
    services, at = workspace.gateway.runtime.services, datetime.now(UTC)
    for _ in range(2):
        await seed_tickets(services.ticket_types, services.tickets, services.store, workspace.id, at)
    found = await workspace.data("{ tickets(sort: {key: NUMBER, direction: ASC}) { nodes { number state category } } }")
    nodes = found["tickets"]["nodes"]
    assert [node["number"] for node in nodes] == [1, 2, 3, 4, 5, 6]
    assert {node["state"] for node in nodes} == set(TicketState)
    assert {node["category"] for node in nodes} == {"CUSTOMER", "BACK_OFFICE"}
