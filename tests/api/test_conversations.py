"""Conversations: begun, answered and acted on, with a history that says so and statistics that are exact."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from gateways import MovableClock, OpenGateway

from gateway.core.ids import Minter, Prefix
from gateway.domain.support.actors import AUTOMATION
from gateway.domain.support.conversations import ConversationAggregate

FIELDS = """id title state priority read tags createdAt updatedAt waitingSince snoozedUntil customAttributes
  contact { id externalId } source { channel deliveredAs subject body url author { __typename displayName } }
  assignee { id } team { id } rating { score remark ratedAt admin { id } } sla { name status dueAt }
  statistics { partCount reopenCount assignmentCount firstReplyAt firstReplySeconds lastContactReplyAt lastAdminReplyAt closedAt }
  parts(first: 100) { nodes { id kind body createdAt snoozedUntil author { __typename displayName } assignedTo { __typename id } } }"""
PART = "id kind body author { __typename displayName }"
MUTATIONS = {
    "createConversation": "CreateConversationInput",
    "replyToConversation": "ReplyToConversationInput",
    "assignConversation": "AssignConversationInput",
    "snoozeConversation": "SnoozeConversationInput",
    "closeConversation": "CloseConversationInput",
    "reopenConversation": "ReopenConversationInput",
    "markConversationRead": "MarkConversationReadInput",
    "rateConversation": "RateConversationInput",
    "updateConversation": "UpdateConversationInput",
    "applySla": "ApplySlaInput",
}
_WITHOUT_PART = ("createConversation", "markConversationRead")


async def act(workspace: Any, name: str, key: str | None = None, /, **input_: Any) -> Any:
    """The payload of a mutation."""
    part = "" if name in _WITHOUT_PART else f"part {{ {PART} }}"
    query = (
        f"mutation($i: {MUTATIONS[name]}!) {{ {name}(input: $i) "
        f"{{ conversation {{ id state }} {part} userErrors {{ code message path }} }} }}"
    )
    return (await workspace.data(query, {"i": input_}, key=key))[name]


async def done(workspace: Any, name: str, key: str | None = None, /, **input_: Any) -> Any:
    """The payload of a mutation that went well."""
    payload = await act(workspace, name, key, **input_)
    assert payload["userErrors"] == [], payload
    return payload


async def begin(workspace: Any, who: str = "ada", body: str = "The export fails", **more: Any) -> str:
    """The id of a conversation that a contact begins."""
    made = await done(workspace, "createConversation", contact={"externalId": who}, body=body, **more)
    return str(made["conversation"]["id"])


async def shown(workspace: Any, id_: str, key: str | None = None, fields: str = FIELDS) -> Any:
    found = await workspace.data(f"query($id: ID!) {{ conversation(id: $id) {{ {fields} }} }}", {"id": id_}, key=key)
    return found["conversation"]


async def admin(workspace: Any, name: str = "Eve") -> str:
    made = await workspace.data(
        "mutation($i: SaveAdminInput!) { saveAdmin(input: $i) { admin { id } userErrors { message } } }",
        {"i": {"name": name, "email": f"{name.lower()}@acme.example"}},
    )
    return str(made["saveAdmin"]["admin"]["id"])


async def team(workspace: Any, name: str = "Support") -> str:
    made = await workspace.data(
        "mutation($i: SaveTeamInput!) { saveTeam(input: $i) { team { id } userErrors { message } } }",
        {"i": {"name": name, "adminIds": []}},
    )
    return str(made["saveTeam"]["team"]["id"])


def kinds(conversation: Any) -> list[str]:
    return [part["kind"] for part in conversation["parts"]["nodes"]]


def problems(payload: Any) -> list[tuple[str, list[str]]]:
    return [(problem["code"], problem["path"][1:]) for problem in payload["userErrors"]]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture
def gateway(still_gateway: Any) -> Any:
    return still_gateway


@pytest.fixture
async def moved(open_gateway: Any, clock: Any) -> Any:
    """A workspace whose time a test moves; its timers go off when `fire_due` is called."""
    async with open_gateway(clock=clock, rolls_up=False) as opened:
        yield await opened.workspace()


async def test_a_conversation_is_begun_answered_closed_reopened_and_rated(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    eve = await admin(workspace)
    id_ = await begin(
        workspace, subject="Export", title="Broken export", tags=["bug", "bug"], customAttributes={"plan": "pro"}
    )
    began = await shown(workspace, id_)
    assert began == {
        "id": id_,
        "title": "Broken export",
        "state": "OPEN",
        "priority": "NONE",
        "read": False,
        "tags": ["bug"],
        "createdAt": began["createdAt"],
        "updatedAt": began["createdAt"],
        "waitingSince": began["createdAt"],
        "snoozedUntil": None,
        "customAttributes": {"plan": "pro"},
        "contact": {"id": began["contact"]["id"], "externalId": "ada"},
        "source": {
            "channel": "CHAT",
            "deliveredAs": "CUSTOMER_INITIATED",
            "subject": "Export",
            "body": "The export fails",
            "url": None,
            "author": {"__typename": "Contact", "displayName": "ada"},
        },
        "assignee": None,
        "team": None,
        "rating": None,
        "sla": None,
        "statistics": {
            "partCount": 0,
            "reopenCount": 0,
            "assignmentCount": 0,
            "firstReplyAt": None,
            "firstReplySeconds": None,
            "lastContactReplyAt": None,
            "lastAdminReplyAt": None,
            "closedAt": None,
        },
        "parts": {"nodes": []},
    }
    replied = await done(
        workspace, "replyToConversation", conversationId=id_, body="Which one?", actor={"adminId": eve}
    )
    assert replied["part"] == {
        "id": replied["part"]["id"],
        "kind": "COMMENT",
        "body": "Which one?",
        "author": {"__typename": "Admin", "displayName": "Eve"},
    }
    await done(workspace, "closeConversation", id=id_, actor={"adminId": eve})
    closed = await shown(workspace, id_)
    assert (closed["state"], closed["waitingSince"], closed["read"]) == ("CLOSED", None, True)
    assert closed["statistics"]["firstReplyAt"] == closed["statistics"]["lastAdminReplyAt"]
    assert closed["statistics"]["firstReplyAt"] == closed["parts"]["nodes"][0]["createdAt"]
    await done(
        workspace,
        "replyToConversation",
        conversationId=id_,
        body="The PDF",
        actor={"contactId": began["contact"]["id"]},
    )
    await done(workspace, "rateConversation", id=id_, score=4, remark="Quick")
    await done(workspace, "rateConversation", id=id_, score=5)
    rated = await shown(workspace, id_)
    assert kinds(rated) == ["COMMENT", "CLOSE", "COMMENT", "OPEN", "RATING", "RATING"]
    assert rated["state"] == "OPEN"
    assert rated["statistics"]["reopenCount"] == 1
    assert rated["statistics"]["partCount"] == 6
    assert rated["statistics"]["lastContactReplyAt"] == rated["waitingSince"] == rated["parts"]["nodes"][2]["createdAt"]
    assert rated["rating"] == {
        "score": 5,
        "remark": None,
        "ratedAt": rated["parts"]["nodes"][5]["createdAt"],
        "admin": {"id": eve},
    }
    times = [datetime.fromisoformat(part["createdAt"]) for part in rated["parts"]["nodes"]]
    assert times == sorted(set(times))


async def test_all_else_that_can_be_done_is_in_the_history(workspace: Any) -> None:
    eve, support = await admin(workspace), await team(workspace)
    id_ = await begin(workspace)
    by = {"actor": {"adminId": eve}}
    await done(workspace, "replyToConversation", conversationId=id_, body="Look at this", note=True, **by)
    await done(workspace, "assignConversation", id=id_, assigneeId=eve, teamId=support, **by)
    await done(workspace, "assignConversation", id=id_, assigneeId=None, **by)
    until = (datetime.now().astimezone() + timedelta(hours=1)).isoformat()
    await done(workspace, "snoozeConversation", id=id_, until=until, **by)
    assert (await shown(workspace, id_))["snoozedUntil"] is not None
    await done(workspace, "reopenConversation", id=id_, body="Now then", **by)
    await done(workspace, "updateConversation", id=id_, addTags=["vip", "eu"], priority="HIGH", **by)
    await done(workspace, "updateConversation", id=id_, removeTags=["eu"], customAttributes={"plan": "pro"}, title="T")
    await done(workspace, "applySla", id=id_, name="Gold", nextReplyMinutes=5)
    found = await shown(workspace, id_)
    shown_parts = [
        (part["kind"], part["body"], part["author"]["displayName"], (part["assignedTo"] or {}).get("id"))
        for part in found["parts"]["nodes"]
    ]
    assert shown_parts == [
        ("NOTE", "Look at this", "Eve", None),
        ("ASSIGNMENT", None, "Eve", support),
        ("ASSIGNMENT", None, "Eve", eve),
        ("ASSIGNMENT", None, "Eve", None),
        ("SNOOZE", None, "Eve", None),
        ("OPEN", "Now then", "Eve", None),
        ("TAG", "+vip +eu", "Eve", None),
        ("TAG", "-eu", "Automation", None),
        ("SLA", "Gold: ACTIVE", "Automation", None),
    ]
    assert (found["tags"], found["priority"], found["title"], found["customAttributes"]) == (
        ["vip"],
        "HIGH",
        "T",
        {"plan": "pro"},
    )
    assert (found["assignee"], found["team"], found["state"], found["snoozedUntil"]) == (
        None,
        {"id": support},
        "OPEN",
        None,
    )
    assert (found["statistics"]["assignmentCount"], found["statistics"]["reopenCount"]) == (2, 1)
    assert found["sla"] == {"name": "Gold", "status": "ACTIVE", "dueAt": None}


async def test_an_update_that_changes_nothing_writes_nothing(workspace: Any) -> None:
    id_ = await begin(workspace, tags=["a"], title="T")
    before = await workspace.store.conversations.by_ids([id_])
    payload = await done(workspace, "updateConversation", id=id_, title="T", addTags=["a"], removeTags=["b"])
    assert payload["part"] is None
    assert await workspace.store.conversations.by_ids([id_]) == before
    for _ in range(2):
        await done(workspace, "markConversationRead", id=id_)
    lines = await workspace.gateway.runtime.database.find("changes", {"conversation_id": id_})
    assert [line["kind"] for line in lines] == ["CREATED", "READ"]
    for value in (1, True, 1.5):
        await done(workspace, "updateConversation", id=id_, customAttributes={"seats": value})
        assert repr((await shown(workspace, id_))["customAttributes"]["seats"]) == repr(value)


LIST = """query($f: ConversationFilter, $s: ConversationSort, $first: Int, $after: String, $last: Int, $before: String) {
  conversations(filter: $f, sort: $s, first: $first, after: $after, last: $last, before: $before) {
    nodes { id } totalCount pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
OF_CONTACT = """query($c: ContactKey!, $f: ConversationFilter, $s: ConversationSort, $first: Int, $after: String, $last: Int) {
  contact(by: $c) { conversations(filter: $f, sort: $s, first: $first, after: $after, last: $last) {
    nodes { id } totalCount pageInfo { hasNextPage endCursor } } } }"""


async def listed(
    workspace: Any, sort: tuple[str, str] | None = None, key: str | None = None, **filter_: Any
) -> list[str]:
    """Every conversation of a list, read in pages of two, forward and backward."""
    order = None if sort is None else {"key": sort[0], "direction": sort[1]}
    found: list[str] = []
    after = None
    while True:
        variables = {"f": filter_, "s": order, "first": 2, "after": after}
        page = (await workspace.data(LIST, variables, key=key))["conversations"]
        found += [node["id"] for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    back: list[str] = []
    before = None
    while True:
        variables = {"f": filter_, "s": order, "last": 2, "before": before}
        page = (await workspace.data(LIST, variables, key=key))["conversations"]
        back = [node["id"] for node in page["nodes"]] + back
        if not page["pageInfo"]["hasPreviousPage"]:
            break
        before = page["pageInfo"]["startCursor"]
    assert back == found
    assert page["totalCount"] == len(found)
    return found


@pytest.fixture(scope="module")
async def desk(open_gateway: OpenGateway) -> AsyncIterator[Any]:
    """A workspace with conversations in every list; tests add none to it."""
    clock = MovableClock()
    async with open_gateway(clock=clock, rolls_up=False) as opened:
        yield await filled(await opened.workspace(), clock)


async def filled(moved: Any, clock: MovableClock) -> Any:
    """The workspace with conversations in every list, by name, a minute apart: `.ids`, `.eve`, `.team`."""
    eve, support = await admin(moved), await team(moved)
    ids: dict[str, str] = {}

    async def next_one(name: str, who: str = "ada", **more: Any) -> str:
        clock.ahead += timedelta(minutes=1)
        ids[name] = await begin(moved, who, body=f"About {name}", **more)
        return ids[name]

    await next_one("plain")
    await next_one("mine", "bob", assigneeId=eve, tags=["VIP", "eu"])
    await next_one("teams", teamId=support)
    await next_one("both", "bob", teamId=support, assigneeId=eve, channel="EMAIL")
    closed = await next_one("closed", assigneeId=eve)
    await done(moved, "closeConversation", id=closed, actor={"adminId": eve})
    await done(moved, "rateConversation", id=closed, score=2, remark="Sluggish")
    snoozed = await next_one("snoozed", teamId=support)
    await done(moved, "updateConversation", id=snoozed, priority="URGENT", title="Déjà-vu")
    until = (clock() + timedelta(days=2)).isoformat()
    await done(moved, "snoozeConversation", id=snoozed, until=until)
    urgent = await next_one("promised")
    await done(moved, "applySla", id=urgent, name="Gold", firstReplyMinutes=30)
    earlier = await next_one("promised sooner", "bob")
    await done(moved, "applySla", id=earlier, name="Gold", firstReplyMinutes=5)
    answered = await next_one("answered", "bob")
    await done(moved, "replyToConversation", conversationId=answered, body="Solved?", actor={"adminId": eve})
    await done(
        moved, "replyToConversation", conversationId=answered, body="A secret thing", note=True, actor={"adminId": eve}
    )
    moved.ids, moved.eve, moved.team = ids, eve, support
    return moved


async def test_the_lists_of_an_inbox_hold_what_they_say(desk: Any) -> None:
    names = {id_: name for name, id_ in desk.ids.items()}

    async def found(sort: tuple[str, str] | None = None, **filter_: Any) -> list[str]:
        return [names[id_] for id_ in await listed(desk, sort, **filter_)]

    newest = list(desk.ids)[::-1]
    open_ = [name for name in newest if name not in ("closed", "snoozed")]
    assert await found() == newest
    assert await found(("CREATED_AT", "ASC")) == newest[::-1]
    assert await found(state=["OPEN"]) == open_
    assert await found(state=["OPEN", "SNOOZED"]) == [name for name in newest if name != "closed"]
    assert await found(("UPDATED_AT", "ASC"), state=["SNOOZED", "CLOSED"]) == ["closed", "snoozed"]
    assert await found(state=[]) == []
    assert await found(teamId=desk.team) == ["snoozed", "both", "teams"]
    assert await found(state=["OPEN"], teamId=desk.team) == ["both", "teams"]
    assert await found(state=["OPEN"], assigneeId=desk.eve) == ["both", "mine"]
    assert await found(assigneeId=desk.eve, teamId=desk.team) == ["both"]
    assert await found(unassigned=True, state=["OPEN"]) == [name for name in open_ if name not in ("both", "mine")]
    assert await found(unassigned=True, teamId=desk.team) == ["snoozed", "teams"]
    assert await found(unassigned=False) == ["closed", "both", "mine"]
    assert await found(("WAITING_SINCE", "ASC"), state=["OPEN"]) == [*open_[:0:-1], "answered"]
    assert await found(("WAITING_SINCE", "DESC"), state=["OPEN"]) == [*open_[1:], "answered"]
    by_due = await found(("SLA_DUE_AT", "ASC"), state=["OPEN"])
    assert by_due[:2] == ["promised sooner", "promised"]
    assert sorted(by_due) == sorted(open_)
    assert (await found(("UPDATED_AT", "DESC")))[:1] == ["answered"]
    contact = (await shown(desk, desk.ids["plain"]))["contact"]["id"]
    assert await found(contactId=contact) == ["promised", "snoozed", "closed", "teams", "plain"]
    assert await found(("WAITING_SINCE", "ASC"), contactId=contact, state=["OPEN"]) == ["plain", "teams", "promised"]
    assert await found(contactId="con_01ARZ3NDEKTSV4RRFFQ69G5FAV") == []
    elsewhere = "con_01ARZ3NDEKTSV4RRFFQ69G5FAW"  # the id that an export of another workspace brought
    database = desk.gateway.runtime.database
    await database.update("contacts", {"_id": contact}, {"$push": {"identities": f"id:{elsewhere}"}})
    assert await found(contactId=elsewhere) == ["promised", "snoozed", "closed", "teams", "plain"]
    assert await found(tag={"eq": "vip"}) == await found(tag={"startsWith": "V"}) == ["mine"]
    assert await found(priority=["URGENT"]) == ["snoozed"]
    assert await found(channel=["EMAIL"]) == ["both"]
    assert await found(rating={"lte": 3}) == ["closed"]
    assert await found(text="PROMISED") == ["promised sooner", "promised"]
    assert await found(text="sooner promised about") == ["promised sooner"]
    assert await found(text="deja vu") == ["snoozed"]
    assert await found(text="sluggish") == ["closed"]
    assert await found(("UPDATED_AT", "ASC"), text="promised") == ["promised", "promised sooner"]
    assert await found(text="secret") == ["answered"]
    assert await found(text="promise") == []
    assert await found(waitingSince={"known": False}) == ["answered", "closed"]
    assert await found(createdAt={"before": "2000-01-01T00:00:00Z"}) == []
    for filter_ in ({"text": "!?"}, {"text": " ".join(f"w{n}" for n in range(21))}):
        answer = await desk.ask(LIST, {"f": filter_})
        assert answer["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_the_conversations_of_contacts_are_read_together(moved: Any, clock: Any) -> None:
    desk = await filled(moved, clock)
    names = {id_: name for name, id_ in desk.ids.items()}

    async def found(who: str, **variables: Any) -> list[str]:
        read = await desk.data(OF_CONTACT, {"c": {"externalId": who}, **variables})
        return [names[node["id"]] for node in read["contact"]["conversations"]["nodes"]]

    assert await found("ada") == ["promised", "snoozed", "closed", "teams", "plain"]
    assert await found("ada", first=2) == ["promised", "snoozed"]
    assert await found("ada", last=2) == ["teams", "plain"]
    assert await found("ada", s={"key": "CREATED_AT", "direction": "ASC"}, first=2) == ["plain", "teams"]
    assert await found("ada", f={"state": ["OPEN"]}, s={"key": "WAITING_SINCE", "direction": "ASC"}, first=2) == [
        "plain",
        "teams",
    ]
    assert await found("bob", f={"text": "about sooner"}) == ["promised sooner"]
    page = (await desk.data(OF_CONTACT, {"c": {"externalId": "ada"}, "f": {"state": ["OPEN"]}, "first": 2}))["contact"]
    assert page["conversations"]["totalCount"] == 3
    rest = await desk.data(
        OF_CONTACT,
        {
            "c": {"externalId": "ada"},
            "f": {"state": ["OPEN"]},
            "first": 2,
            "after": page["conversations"]["pageInfo"]["endCursor"],
        },
    )
    assert [names[node["id"]] for node in rest["contact"]["conversations"]["nodes"]] == ["plain"]
    whole = """{ contacts(first: 10) { nodes { conversations(first: 5, filter: {state: [OPEN]}) { nodes {
      source { author { displayName } } assignee { id } team { admins { id } } rating { admin { id } }
      contact { events(first: 2) { nodes { id } } } parts(first: 5) { nodes { author { displayName } assignedTo { id } } } } } } } }"""
    counts = []
    for _ in range(2):
        await desk.data(whole)
        desk.gateway.commands.names.clear()
        await desk.data(whole)
        counts.append(len(desk.gateway.commands.reads))
        for who in range(4):
            for _ in range(3):
                await begin(desk, f"new {who}", assigneeId=desk.eve, teamId=desk.team)
    assert counts[0] == counts[1]


INBOX = [
    ({"state": ["OPEN"], "teamId": "TEAM"}, None),
    ({"state": ["OPEN"], "assigneeId": "EVE"}, None),
    ({"state": ["OPEN"], "assigneeId": "EVE"}, "UPDATED_AT"),
    ({"state": ["OPEN"], "unassigned": True}, None),
    ({"contactId": "CONTACT"}, None),
    ({"state": ["OPEN"]}, "WAITING_SINCE"),
    ({"state": ["SNOOZED"]}, "WAITING_SINCE"),
    ({"state": ["OPEN"], "teamId": "TEAM"}, "WAITING_SINCE"),
    ({"state": ["OPEN"]}, "SLA_DUE_AT"),
    ({"state": ["OPEN"], "assigneeId": "EVE"}, "SLA_DUE_AT"),
    ({"text": "sooner"}, None),
]


@pytest.mark.parametrize(("filter_", "sort"), INBOX, ids=str)
async def test_each_list_of_an_inbox_reads_by_an_index(desk: Any, filter_: Any, sort: str | None) -> None:
    """The executed plan of every read: by an index, and no more documents than the list has, twice at most."""
    contact = (await shown(desk, desk.ids["plain"]))["contact"]["id"]
    meant = {"TEAM": desk.team, "EVE": desk.eve, "CONTACT": contact}
    asked = {
        name: value if isinstance(value, (list, bool)) else meant.get(value, value) for name, value in filter_.items()
    }
    variables = {"f": asked, "s": sort and {"key": sort, "direction": "ASC"}}
    page = (await desk.data(LIST, variables))["conversations"]
    desk.gateway.commands.finds.clear()
    await desk.data(LIST.replace("totalCount", ""), variables)
    examined = await documents_examined(desk, contact)
    assert len(page["nodes"]) <= examined <= 2 * len(page["nodes"]) + 2, (examined, page)


def reads_of_conversations(commands: list[dict[str, Any]], contact: str) -> Iterator[dict[str, Any]]:
    """What was read of them: found, or looked up for a contact as the server does it, by that contact's id."""
    for command in commands:
        if command.get("find") == "conversations":
            yield {name: value for name, value in command.items() if name in {"find", "filter", "sort", "limit"}}
        for stage in command.get("pipeline", ()):
            lookup = stage.get("$lookup", {})
            if lookup.get("from") == "conversations":
                match, sort, limit, *_ = lookup["pipeline"]
                filter_ = {lookup["foreignField"]: contact, **match["$match"]}
                yield {"find": "conversations", "filter": filter_, "sort": sort["$sort"], "limit": limit["$limit"]}


async def documents_examined(workspace: Any, contact: str = "") -> int:
    """By what was read of conversations since: each read by an index."""
    database, examined = workspace.gateway.runtime.database._database, 0
    for told in list(reads_of_conversations(workspace.gateway.commands.finds, contact)):
        plan = await database.command("explain", told, verbosity="executionStats")
        assert "COLLSCAN" not in str(plan["queryPlanner"]["winningPlan"]), told
        examined += plan["executionStats"]["totalDocsExamined"]
    return examined


async def test_a_page_examines_no_more_documents_of_a_longer_list(moved: Any) -> None:
    """Its rows, and what tells how far they reach, wherever the list begins and however close its rows lie."""
    await begin(moved)
    (one,) = await moved.store.conversations._find({})
    minter, begins = Minter(random.Random(7).randbytes), at("2024-01-01T00:00:00+00:00")

    def row(number: int) -> dict[str, Any]:
        moment = begins + timedelta(hours=number)
        sla = {"name": "Gold", "status": "ACTIVE", "due_at": moment + timedelta(days=900)}
        waits = {"waiting_since": moment, "sla": sla} if number % 5 else {"waiting_since": None}
        made = {**one, **waits, "_id": minter.mint(Prefix.CONVERSATION, moment), "updated_at": moment}
        act = ConversationAggregate(made, AUTOMATION, moment, minter, new=True)
        act.refresh_index_keys()
        return act.document

    rows = [row(number) for number in range(1600)]
    for known, size in ((0, 400), (400, 1600)):
        await moved.gateway.runtime.database.insert("conversations", rows[known:size])
        for key, nulls in (("CREATED_AT", False), ("UPDATED_AT", False), ("WAITING_SINCE", True), ("SLA_DUE_AT", True)):
            timed = [row for row in rows[:size] if not nulls or row.get("waiting_since")]
            for direction, ends in (("ASC", timed), ("DESC", timed[::-1])):
                variables = {"f": {"state": ["OPEN"]}, "s": {"key": key, "direction": direction}, "first": 10}
                moved.gateway.commands.finds.clear()
                page = (await moved.data(LIST.replace("totalCount", ""), variables))["conversations"]
                ids = [node["id"] for node in page["nodes"] if node["id"] != one["_id"]]
                assert ids == [row["_id"] for row in ends[: len(ids)]], (key, direction)
                assert await documents_examined(moved) < 240, (size, key, direction)


async def test_what_cannot_be_is_said_and_nothing_is_written(workspace: Any) -> None:
    eve = await admin(workspace)
    await workspace.data(
        "mutation($i: SaveAdminInput!) { saveAdmin(input: $i) { admin { id } } }",
        {"i": {"id": eve, "name": "Eve", "email": "eve@acme.example", "archived": True}},
    )
    other = await shown(workspace, await begin(workspace, "bob"))
    id_ = await begin(workspace)
    nobody, bob = "adm_01ARZ3NDEKTSV4RRFFQ69G5FAV", other["contact"]["id"]
    ada = {"contact": {"externalId": "carol"}, "body": "x"}
    past, ahead = "2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z"
    cases = [
        ("createConversation", {**ada, "body": "  "}, "INVALID", ["body"]),
        ("createConversation", {**ada, "body": "x" * 100_001}, "LIMIT_EXCEEDED", ["body"]),
        ("createConversation", {**ada, "contact": {}}, "INVALID", ["contact"]),
        ("createConversation", {**ada, "contact": {"id": "con_x"}}, "NOT_FOUND", ["contact", "id"]),
        ("createConversation", {**ada, "assigneeId": nobody}, "NOT_FOUND", ["assigneeId"]),
        ("createConversation", {**ada, "assigneeId": eve}, "INVALID", ["assigneeId"]),
        ("createConversation", {**ada, "teamId": "tea_x"}, "NOT_FOUND", ["teamId"]),
        ("createConversation", {**ada, "actor": {"adminId": nobody}}, "NOT_FOUND", ["actor", "adminId"]),
        ("createConversation", {**ada, "actor": {"contactId": bob}}, "INVALID", ["actor", "contactId"]),
        (
            "createConversation",
            {**ada, "contact": {"id": bob}, "actor": {"contactId": bob}, "deliveredAs": "AUTOMATED"},
            "INVALID",
            ["deliveredAs"],
        ),
        ("createConversation", {**ada, "createdAt": ahead}, "INVALID", ["createdAt"]),
        ("createConversation", {**ada, "url": "javascript:x"}, "INVALID", ["url"]),
        ("createConversation", {**ada, "tags": [""]}, "INVALID", ["tags", "0"]),
        ("createConversation", {**ada, "customAttributes": {"$a": 1}}, "INVALID", ["customAttributes", "$a"]),
        ("replyToConversation", {"conversationId": "cnv_x", "body": "x"}, "NOT_FOUND", ["conversationId"]),
        ("replyToConversation", {"conversationId": id_, "body": ""}, "INVALID", ["body"]),
        (
            "replyToConversation",
            {"conversationId": id_, "body": "x", "actor": {"contactId": bob}},
            "FORBIDDEN",
            ["actor", "contactId"],
        ),
        (
            "replyToConversation",
            {"conversationId": other["id"], "body": "x", "note": True, "actor": {"contactId": bob}},
            "FORBIDDEN",
            ["note"],
        ),
        ("replyToConversation", {"conversationId": id_, "body": "x", "createdAt": past}, "INVALID", ["createdAt"]),
        ("assignConversation", {"id": id_}, "INVALID", ["assigneeId"]),
        ("assignConversation", {"id": id_, "teamId": nobody}, "NOT_FOUND", ["teamId"]),
        ("assignConversation", {"id": "cnv_x", "teamId": None}, "NOT_FOUND", ["id"]),
        ("snoozeConversation", {"id": id_, "until": past}, "INVALID", ["until"]),
        ("snoozeConversation", {"id": id_, "until": ahead}, "INVALID", ["until"]),
        ("reopenConversation", {"id": id_}, "ILLEGAL_TRANSITION", ["id"]),
        ("closeConversation", {"id": id_, "body": "\0"}, "INVALID", ["body"]),
        ("rateConversation", {"id": id_, "score": 6}, "INVALID", ["score"]),
        ("updateConversation", {"id": id_, "addTags": ["a"], "removeTags": ["a"]}, "INVALID", ["removeTags"]),
        ("updateConversation", {"id": id_, "addTags": [str(n) for n in range(101)]}, "LIMIT_EXCEEDED", ["addTags"]),
        ("updateConversation", {"id": id_, "title": ""}, "INVALID", ["title"]),
        ("applySla", {"id": id_, "name": "Gold"}, "INVALID", ["firstReplyMinutes"]),
        ("applySla", {"id": id_, "name": "Gold", "nextReplyMinutes": 0}, "INVALID", ["nextReplyMinutes"]),
        ("applySla", {"id": id_, "name": "", "nextReplyMinutes": 1}, "INVALID", ["name"]),
    ]
    names = ("contacts", "conversations", "conversation_parts", "changes", "timers", "idempotency_keys")
    database = workspace.gateway.runtime.database

    async def stored() -> Any:
        return [await database.find(name, {"workspace_id": workspace.id}) for name in names]

    before = await stored()
    for mutation, input_, code, path in cases:
        payload = await act(workspace, mutation, **input_)
        assert problems(payload) == [(code, path)], (mutation, input_, payload)
        assert payload["conversation"] is None
    assert await stored() == before


async def test_a_key_gives_the_first_result_again_and_nothing_is_doubled(workspace: Any) -> None:
    sent = {"contact": {"externalId": "ada"}, "body": "Hello", "idempotencyKey": "k"}
    made = await asyncio.gather(*(done(workspace, "createConversation", **sent) for _ in range(4)))
    assert len({payload["conversation"]["id"] for payload in made}) == 1
    id_ = made[0]["conversation"]["id"]
    reply = {"conversationId": id_, "body": "Hi", "idempotencyKey": "k"}
    replies = await asyncio.gather(*(done(workspace, "replyToConversation", **reply) for _ in range(4)))
    assert len({payload["part"]["id"] for payload in replies}) == 1
    assert kinds(await shown(workspace, id_)) == ["COMMENT"]
    for mutation, changed in (("createConversation", sent), ("replyToConversation", reply)):
        payload = await act(workspace, mutation, **{**changed, "body": "Other"})
        assert problems(payload) == [("IDEMPOTENCY_KEY_REUSED", ["idempotencyKey"])]
    assert await listed(workspace) == [id_]


async def test_whatever_is_done_at_once_is_all_in_the_history(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    admins = [await admin(workspace, name) for name in ("Eve", "Bob")]
    id_ = await begin(workspace)
    acts = [
        done(workspace, "replyToConversation", conversationId=id_, body=f"{number} {who}", actor={"adminId": who})
        for number in range(4)
        for who in admins
    ]
    acts += [done(workspace, "closeConversation", id=id_, actor={"adminId": who}) for who in admins]
    acts += [done(workspace, "assignConversation", id=id_, assigneeId=who, actor={"adminId": who}) for who in admins]
    acts += [done(workspace, "updateConversation", id=id_, addTags=[who], actor={"adminId": who}) for who in admins]
    await asyncio.gather(*acts)
    found = await shown(workspace, id_)
    assert sorted(kinds(found)) == ["ASSIGNMENT"] * 2 + ["CLOSE"] * 2 + ["COMMENT"] * 8 + ["TAG"] * 2
    assert found["statistics"]["partCount"] == 14
    assert sorted(found["tags"]) == sorted(admins)
    last = [part["assignedTo"]["id"] for part in found["parts"]["nodes"] if part["kind"] == "ASSIGNMENT"][-1]
    assert found["assignee"]["id"] == last


async def test_an_sla_is_hit_missed_at_its_time_and_cancelled(moved: Any, clock: Any) -> None:
    eve = {"actor": {"adminId": await admin(moved)}}
    timers = moved.gateway.runtime.services.timers

    async def promised(**targets: int) -> tuple[str, Any]:
        id_ = await begin(moved)
        contact = (await shown(moved, id_))["contact"]["id"]
        await done(moved, "applySla", id=id_, name="Gold", **targets)
        return id_, {"actor": {"contactId": contact}}

    async def sla(id_: str) -> tuple[str, bool]:
        found = (await shown(moved, id_))["sla"]
        return found["status"], found["dueAt"] is not None

    hit, by_hit = await promised(firstReplyMinutes=10, nextReplyMinutes=5)
    missed, by_missed = await promised(firstReplyMinutes=10, nextReplyMinutes=5)
    closed, by_closed = await promised(firstReplyMinutes=10)
    clock.ahead += timedelta(minutes=9)
    assert await timers.fire_due() == 0
    await done(moved, "replyToConversation", conversationId=missed, body="automatic words are no reply")
    await done(moved, "replyToConversation", conversationId=missed, body="nor is a note", note=True, **eve)
    await done(moved, "replyToConversation", conversationId=hit, body="here", **eve)
    await done(moved, "closeConversation", id=closed, **eve)
    assert [await sla(id_) for id_ in (hit, missed, closed)] == [("HIT", False), ("ACTIVE", True), ("CANCELLED", False)]
    await done(moved, "replyToConversation", conversationId=closed, body="but", **by_closed)
    assert await sla(closed) == ("CANCELLED", False)
    due_at = (await shown(moved, missed))["sla"]["dueAt"]
    clock.ahead += timedelta(minutes=2)
    assert await timers.fire_due() == 1
    found = await shown(moved, missed)
    assert (found["sla"]["status"], found["sla"]["dueAt"]) == ("MISSED", due_at)
    (told,) = [part for part in found["parts"]["nodes"] if part["body"] == "Gold: MISSED"]
    assert (told["kind"], told["createdAt"], told["author"]["displayName"]) == ("SLA", due_at, "Automation")
    await done(moved, "replyToConversation", conversationId=hit, body="one more", **by_hit)
    assert await sla(hit) == ("ACTIVE", True)
    await done(moved, "replyToConversation", conversationId=missed, body="sorry", **eve)
    await done(moved, "replyToConversation", conversationId=missed, body="well", **by_missed)
    assert await sla(missed) == ("MISSED", False)
    clock.ahead += timedelta(minutes=6)
    await done(moved, "replyToConversation", conversationId=hit, body="too late, whatever the timer does", **eve)
    assert await sla(hit) == ("MISSED", False)
    assert await timers.fire_due() == 0
    bodies = [part["body"] for part in (await shown(moved, hit))["parts"]["nodes"] if part["kind"] == "SLA"]
    assert bodies == ["Gold: ACTIVE", "Gold: HIT", "Gold: ACTIVE", "Gold: MISSED"]


async def test_a_snoozed_conversation_wakes_once_or_when_its_contact_writes(moved: Any, clock: Any) -> None:
    timers = moved.gateway.runtime.services.timers
    ids = [await begin(moved) for _ in range(4)]
    contact = {"actor": {"contactId": (await shown(moved, ids[0]))["contact"]["id"]}}
    until = (clock() + timedelta(hours=1)).replace(microsecond=0).isoformat()
    for id_ in ids:
        await done(moved, "snoozeConversation", id=id_, until=until)
    sleeps, wakes, closed, again = ids
    await done(moved, "replyToConversation", conversationId=wakes, body="still there?", **contact)
    await done(moved, "closeConversation", id=closed)
    await done(moved, "snoozeConversation", id=again, until=(clock() + timedelta(hours=3)).isoformat())
    assert kinds(await shown(moved, wakes)) == ["SNOOZE", "COMMENT", "OPEN"]
    clock.ahead += timedelta(hours=2)
    assert sum(await asyncio.gather(*(timers.fire_due() for _ in range(3)))) == 1
    states = [(await shown(moved, id_))["state"] for id_ in ids]
    assert states == ["OPEN", "OPEN", "CLOSED", "SNOOZED"]
    woken = await shown(moved, sleeps)
    assert [(part["kind"], part["author"]["displayName"]) for part in woken["parts"]["nodes"]] == [
        ("SNOOZE", "Automation"),
        ("UNSNOOZE", "Automation"),
    ]
    assert at(woken["parts"]["nodes"][1]["createdAt"]) == at(until)
    assert (woken["snoozedUntil"], woken["statistics"]["reopenCount"]) == (None, 0)
    clock.ahead += timedelta(hours=2)
    await done(moved, "replyToConversation", conversationId=again, body="morning", **contact)
    found = await shown(moved, again)
    assert kinds(found) == ["SNOOZE", "SNOOZE", "UNSNOOZE", "COMMENT"]
    assert found["statistics"]["reopenCount"] == 0
    assert await timers.fire_due() == 0


async def test_a_history_from_before_is_written_in_its_order(workspace: Any) -> None:
    eve = {"actor": {"adminId": await admin(workspace)}}
    id_ = await begin(workspace, createdAt="2024-05-01T10:00:00Z")
    await done(workspace, "replyToConversation", conversationId=id_, body="a", createdAt="2024-05-01T10:30:00Z", **eve)
    payload = await act(
        workspace, "replyToConversation", conversationId=id_, body="b", createdAt="2024-05-01T10:29:59Z"
    )
    assert problems(payload) == [("INVALID", ["createdAt"])]
    found = await shown(workspace, id_)
    assert (found["createdAt"], found["updatedAt"]) == ("2024-05-01T10:00:00Z", "2024-05-01T10:30:00Z")
    assert found["statistics"]["firstReplySeconds"] == 1800
    assert found["parts"]["nodes"][0]["createdAt"] == "2024-05-01T10:30:00Z"


async def test_parts_are_paged_both_ways_without_an_end(workspace: Any) -> None:
    id_ = await begin(workspace)
    for number in range(7):
        await done(workspace, "replyToConversation", conversationId=id_, body=str(number))
    query = """query($id: ID!, $o: Direction, $first: Int, $after: String, $last: Int, $before: String) { conversation(id: $id) {
      parts(order: $o, first: $first, after: $after, last: $last, before: $before) {
        edges { cursor node { body } } pageInfo { hasNextPage hasPreviousPage } } } }"""

    async def page(**arguments: Any) -> tuple[str, list[str], Any]:
        found = (await workspace.data(query, {"id": id_, **arguments}))["conversation"]["parts"]
        bodies = "".join(edge["node"]["body"] for edge in found["edges"])
        return bodies, [edge["cursor"] for edge in found["edges"]], found["pageInfo"]

    bodies, cursors, info = await page(first=3)
    assert (bodies, info) == ("012", {"hasNextPage": True, "hasPreviousPage": False})
    assert (await page(first=3, after=cursors[-1]))[0] == "345"
    assert (await page(last=2))[0] == "56"
    assert (await page(last=2, before=cursors[2]))[0] == "01"
    bodies, cursors, _ = await page(o="DESC", first=3)
    assert bodies == "654"
    assert (await page(o="DESC", first=10, after=cursors[-1]))[0] == "3210"
    assert (await page(o="DESC", last=2))[0] == "10"
    answer = await workspace.ask(query, {"id": id_, "first": 1, "after": cursors[0]})
    assert answer["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_who_begins_decides_how_it_was_delivered(workspace: Any) -> None:
    eve = await admin(workspace)
    token = (
        await workspace.data("mutation($a: ID!) { createAdminToken(input: {adminId: $a}) { token } }", {"a": eve})
    )["createAdminToken"]["token"]

    async def began(key: str | None = None, **more: Any) -> tuple[str, str, Any]:
        payload = await done(workspace, "createConversation", key, contact={"externalId": "ada"}, body="Hi", **more)
        found = await shown(workspace, payload["conversation"]["id"])
        source = found["source"]
        return source["deliveredAs"], source["author"]["displayName"], found["waitingSince"] is not None

    assert await began() == ("CUSTOMER_INITIATED", "ada", True)
    assert await began(actor={"adminId": eve}) == ("ADMIN_INITIATED", "Eve", False)
    assert await began(token) == ("ADMIN_INITIATED", "Eve", False)
    assert await began(deliveredAs="AUTOMATED") == ("AUTOMATED", "Automation", False)
    assert await began(deliveredAs="CAMPAIGNS_INITIATED") == ("CAMPAIGNS_INITIATED", "Automation", False)


async def test_a_merge_takes_conversations_along(workspace: Any) -> None:
    visitor = (await done(workspace, "createConversation", contact={"anonymousId": "v"}, body="Hello"))["conversation"][
        "id"
    ]
    token = await workspace.token(anonymousId="v")
    await begin(workspace)
    ids = [(await shown(workspace, id_))["contact"]["id"] for id_ in await listed(workspace)]
    await workspace.data(
        "mutation($f: ID!, $i: ID!) { mergeContacts(input: {from: $f, into: $i}) { userErrors { code } } }",
        {"f": ids[1], "i": ids[0]},
    )
    assert (await shown(workspace, visitor))["contact"] == {"id": ids[0], "externalId": "ada"}
    for contact_id in ids:
        assert await listed(workspace, contactId=contact_id) == await listed(workspace)
    read = await workspace.data(OF_CONTACT, {"c": {"externalId": "ada"}})
    assert len(read["contact"]["conversations"]["nodes"]) == 2
    await done(workspace, "replyToConversation", conversationId=visitor, body="It is me", actor={"contactId": ids[1]})
    own = await workspace.token(externalId="ada")
    await done(workspace, "replyToConversation", own, conversationId=visitor, body="And again")
    answer = await workspace.ask("query($id: ID!) { conversation(id: $id) { id } }", {"id": visitor}, key=token)
    assert answer["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_a_contacts_token_does_its_own_and_sees_what_is_public(workspace: Any) -> None:
    eve, support = await admin(workspace), await team(workspace)
    ada, bob = await workspace.token(externalId="ada"), await workspace.token(externalId="bob")
    made = await done(workspace, "createConversation", ada, contact={"externalId": "bob"}, body="Hello", title="T")
    id_ = made["conversation"]["id"]
    by = {"actor": {"adminId": eve}}
    await done(workspace, "replyToConversation", conversationId=id_, body="secret plan", note=True, **by)
    await done(workspace, "assignConversation", id=id_, assigneeId=eve, teamId=support, **by)
    await done(workspace, "updateConversation", id=id_, addTags=["vip"], **by)
    await done(workspace, "applySla", id=id_, name="Gold", firstReplyMinutes=5, **by)
    await done(workspace, "replyToConversation", conversationId=id_, body="Hello Ada", **by)
    await done(workspace, "closeConversation", id=id_, **by)
    await done(workspace, "replyToConversation", ada, conversationId=id_, body="Thanks")
    await done(workspace, "rateConversation", ada, id=id_, score=5, remark="Good")
    fields = """id read state contact { externalId } assignee { displayName } rating { score admin { displayName } } statistics { partCount }
      parts(first: 50) { nodes { id kind body author { displayName } } }"""
    seen = await shown(workspace, id_, ada, fields)
    assert {**seen, "parts": None} == {
        "id": id_,
        "read": True,
        "state": "OPEN",
        "contact": {"externalId": "ada"},
        "assignee": {"displayName": "Eve"},
        "rating": {"score": 5, "admin": {"displayName": "Eve"}},
        "statistics": {"partCount": 5},
        "parts": None,
    }
    assert [(part["kind"], part["body"], part["author"]["displayName"]) for part in seen["parts"]["nodes"]] == [
        ("COMMENT", "Hello Ada", "Eve"),
        ("CLOSE", None, "Eve"),
        ("COMMENT", "Thanks", "ada"),
        ("OPEN", None, "ada"),
        ("RATING", "Good", "ada"),
    ]
    whole = await shown(workspace, id_)
    assert whole["statistics"]["partCount"] == 11 == len(whole["parts"]["nodes"])
    assert whole["read"] is False
    node = "query($id: ID!) { node(id: $id) { id } }"
    for part in whole["parts"]["nodes"]:
        public = part["kind"] in ("COMMENT", "CLOSE", "OPEN", "RATING")
        assert (await workspace.data(node, {"id": part["id"]}, key=ada))["node"] == (
            {"id": part["id"]} if public else None
        )
        assert (await workspace.data(node, {"id": part["id"]}, key=bob))["node"] is None
    for hidden in ("tags", "sla { name }", "customAttributes", "team { id }", "snoozedUntil", "assignee { email }"):
        answer = await workspace.ask(
            f"query($id: ID!) {{ conversation(id: $id) {{ {hidden} }} }}", {"id": id_}, key=ada
        )
        assert answer["errors"][0]["extensions"]["code"] == "FORBIDDEN", hidden
    assert await shown(workspace, id_, bob, "id") is None
    for name, input_ in (
        ("replyToConversation", {"conversationId": id_, "body": "x"}),
        ("markConversationRead", {"id": id_}),
        ("rateConversation", {"id": id_, "score": 1}),
    ):
        ((code, _),) = problems(await act(workspace, name, bob, **input_))
        assert code == "NOT_FOUND"
    mine = "query($f: ConversationFilter) { viewer { contact { conversations(filter: $f) { nodes { id } } } } }"

    async def found(key: str, **filter_: Any) -> list[str]:
        read = await workspace.data(mine, {"f": filter_}, key=key)
        return [row["id"] for row in read["viewer"]["contact"]["conversations"]["nodes"]]

    assert await found(ada) == await found(ada, text="thanks") == [id_]
    assert await found(ada, text="secret") == await found(bob) == []
    for filter_ in ({"tag": {"eq": "vip"}}, {"teamId": support}):
        answer = await workspace.ask(mine, {"f": filter_}, key=ada)
        assert answer["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    new = {"contact": {}, "body": "x"}
    refused = [
        ("actor", {"adminId": eve}),
        ("createdAt", "2024-01-01T00:00:00Z"),
        ("channel", "EMAIL"),
        ("tags", ["a"]),
    ]
    refused += [("deliveredAs", "AUTOMATED"), ("assigneeId", eve), ("teamId", support), ("customAttributes", {"a": 1})]
    for name, value in refused:
        assert problems(await act(workspace, "createConversation", ada, **{**new, name: value})) == [
            ("FORBIDDEN", [name])
        ]
    for name, value in (("note", True), ("createdAt", "2024-01-01T00:00:00Z"), ("actor", {"adminId": eve})):
        payload = await act(workspace, "replyToConversation", ada, conversationId=id_, body="x", **{name: value})
        assert problems(payload) == [("FORBIDDEN", [name])]
    keyed = {**new, "idempotencyKey": "k"}
    one, other = [
        (await done(workspace, "createConversation", key, **keyed))["conversation"]["id"] for key in (ada, bob)
    ]
    assert one != other
    assert (await done(workspace, "createConversation", ada, **keyed))["conversation"]["id"] == one
