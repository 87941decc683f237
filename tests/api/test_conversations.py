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


async def act(workspace: Any, name: str, key: str | None = None, **input_: Any) -> Any:
    """The payload of a mutation."""
    part = "" if name in _WITHOUT_PART else f"part {{ {PART} }}"
    query = (
        f"mutation($i: {MUTATIONS[name]}!) {{ {name}(input: $i) "
        f"{{ conversation {{ id state }} {part} userErrors {{ code message path }} }} }}"
    )
    return (await workspace.data(query, {"i": input_}, key=key))[name]


async def done(workspace: Any, name: str, key: str | None = None, **input_: Any) -> Any:
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
