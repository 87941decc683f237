"""Conversations: begun, answered and acted on, with a history that says so and statistics that are exact."""

from datetime import datetime, timedelta
from typing import Any

import pytest

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


async def test_a_conversation_is_begun_answered_closed_reopened_and_rated(every_gateway: Any) -> None:
    workspace = await every_gateway.workspace()
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
    times = [part["createdAt"] for part in rated["parts"]["nodes"]]
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


@pytest.fixture
async def desk(moved: Any, clock: Any) -> Any:
    """A workspace with conversations in every list, by name, a minute apart: `.ids`, `.eve`, `.team`."""
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


async def test_the_conversations_of_contacts_are_read_together(desk: Any) -> None:
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
    """The executed plan of every read: by an index, and no more documents than the list has."""
    contact = (await shown(desk, desk.ids["plain"]))["contact"]["id"]
    meant = {"TEAM": desk.team, "EVE": desk.eve, "CONTACT": contact}
    asked = {
        name: value if isinstance(value, (list, bool)) else meant.get(value, value) for name, value in filter_.items()
    }
    variables = {"f": asked, "s": sort and {"key": sort, "direction": "ASC"}}
    page = (await desk.data(LIST, variables))["conversations"]
    desk.gateway.commands.finds.clear()
    await desk.data(LIST.replace("totalCount", ""), variables)
    database, examined = desk.gateway.runtime.database._database, 0
    for command in [one for one in desk.gateway.commands.finds if one.get("find") == "conversations"]:
        told = {name: value for name, value in command.items() if name in {"find", "filter", "sort", "limit"}}
        plan = await database.command("explain", told, verbosity="executionStats")
        assert "COLLSCAN" not in str(plan["queryPlanner"]["winningPlan"]), command
        examined += plan["executionStats"]["totalDocsExamined"]
    assert len(page["nodes"]) <= examined <= 2 * len(page["nodes"]), (examined, page)
