"""Lists of tickets: each of an inbox by an index, any filter as plain Python finds it, and the guide's queries as they stand."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import IndexModel
from tickets import ASSIGN, REPLY, SET_STATE, admin, asked, team, ticket, type_id

from gateway.store.migrations import migrate

GUIDE = Path(__file__).parents[2] / "docs" / "tickets.md"
LIST = """query($f: TicketFilter, $s: TicketSort, $n: Int, $a: String) {
  tickets(filter: $f, sort: $s, first: $n, after: $a) { totalCount nodes { number } pageInfo { hasNextPage endCursor } } }"""
PLAIN = LIST.replace("totalCount ", "")
BACK = """query($s: TicketSort, $b: String) { tickets(sort: $s, last: 3, before: $b) {
  nodes { number } pageInfo { hasPreviousPage startCursor } } }"""
OPEN = ["SUBMITTED", "IN_PROGRESS", "WAITING_ON_CUSTOMER"]


@pytest.fixture
def gateway(still_gateway: Any) -> Any:
    return still_gateway


async def desk(workspace: Any) -> dict[str, str]:
    """Twelve tickets of two types, of whom every third is Eve's, every fourth the team's, half of them resolved."""
    ids = {
        "bug": await type_id(workspace),
        "task": await type_id(workspace, "Task", "BACK_OFFICE"),
        "eve": await admin(workspace),
        "team": await team(workspace),
    }
    for number in range(1, 13):
        made = await ticket(
            workspace,
            ids["bug" if number % 2 else "task"],
            title=f"Printer {'broken' if number % 5 == 0 else 'slow'}",
            contact={"externalId": f"u{number % 3}"},
            createdAt=(datetime.now(UTC) - timedelta(days=(number * 5) % 12)).isoformat(),
        )
        if number % 3 == 0:
            await asked(workspace, ASSIGN, id=made["id"], assigneeId=ids["eve"])
        if number % 4 == 0:
            await asked(workspace, ASSIGN, id=made["id"], teamId=ids["team"])
        if number > 6:
            await asked(workspace, SET_STATE, id=made["id"], state="RESOLVED")
    contact = await workspace.data('{ contact(by: {externalId: "u1"}) { id } }')
    return {**ids, "u1": contact["contact"]["id"]}


def is_so(number: int, filter_: dict[str, Any]) -> bool:
    """Whether the ticket with that number is as a filter asks."""
    holds = {
        "state": lambda asked: ("SUBMITTED" if number <= 6 else "RESOLVED") in asked,
        "category": lambda asked: ("CUSTOMER" if number % 2 else "BACK_OFFICE") in asked,
        "typeId": lambda asked: asked == ("bug" if number % 2 else "task"),
        "contactId": lambda _: number % 3 == 1,
        "assigneeId": lambda _: number % 3 == 0,
        "teamId": lambda _: number % 4 == 0,
        "unassigned": lambda asked: asked == (number % 3 != 0),
        "isShared": lambda asked: asked == bool(number % 2),
        "text": lambda asked: asked.lower().split()[-1] == ("broken" if number % 5 == 0 else "slow"),
        "createdAt": lambda asked: (number * 5) % 12 < asked["lessThanDaysAgo"],
    }
    return all(holds[name](value) for name, value in filter_.items())


FILTERS: list[dict[str, Any]] = [
    {},
    {"state": OPEN},
    {"state": OPEN, "teamId": "team"},
    {"assigneeId": "eve"},
    {"state": ["RESOLVED"], "assigneeId": "eve"},
    {"state": OPEN, "unassigned": True},
    {"unassigned": False},
    {"typeId": "task", "state": OPEN},
    {"category": ["CUSTOMER"]},
    {"category": ["CUSTOMER", "BACK_OFFICE"], "state": OPEN},
    {"contactId": "u1"},
    {"contactId": "u1", "state": OPEN, "isShared": True},
    {"contactId": "u1", "text": "PRINTER broken", "unassigned": True},
    {"text": "Broken"},
    {"text": "slow", "teamId": "team"},
    {"isShared": False, "assigneeId": "eve"},
    {"createdAt": {"lessThanDaysAgo": 5}},
    {"createdAt": {"lessThanDaysAgo": 5}, "state": OPEN},
]


async def test_every_filter_is_as_plain_python_finds_it_in_every_order(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    ids = await desk(workspace)
    rows = {row["number"]: row for row in await workspace.store.tickets._find({})}
    fields = {"CREATED_AT": "_id", "NUMBER": "number", "UPDATED_AT": "updated_at"}
    orders = [(key, direction) for key in fields for direction in ("ASC", "DESC")]
    for place, filter_ in enumerate(FILTERS):
        meant = {name: ids.get(value, value) if isinstance(value, str) else value for name, value in filter_.items()}
        expected = [number for number in rows if is_so(number, filter_)]
        for key, direction in orders if place == 0 else [orders[place % 6]]:
            ordered = sorted(expected, key=lambda number: rows[number][fields[key]], reverse=direction == "DESC")
            sort = {"key": key, "direction": direction}
            assert await listed(workspace, meant, sort) == (ordered, len(expected)), (filter_, sort)


async def listed(workspace: Any, filter_: dict[str, Any], sort: dict[str, str]) -> tuple[list[int], int]:
    """The numbers of a list, a page of five after the other, and its total."""
    found: list[int] = []
    page: Any = {"endCursor": None, "hasNextPage": True}
    while page["hasNextPage"]:
        variables = {"f": filter_, "s": sort, "n": 5, "a": page["endCursor"]}
        shown = (await workspace.data(LIST, variables))["tickets"]
        found += [node["number"] for node in shown["nodes"]]
        page = shown["pageInfo"]
    return found, shown["totalCount"]


async def test_lists_turn_round(workspace: Any) -> None:
    await desk(workspace)
    for key in ("CREATED_AT", "NUMBER", "UPDATED_AT"):
        for direction in ("ASC", "DESC"):
            sort = {"key": key, "direction": direction}
            whole = (await workspace.data(PLAIN, {"s": sort, "n": 100}))["tickets"]["nodes"]
            found: list[Any] = []
            page: Any = {"hasPreviousPage": True, "startCursor": None}
            while page["hasPreviousPage"]:
                listed = (await workspace.data(BACK, {"s": sort, "b": page["startCursor"]}))["tickets"]
                found, page = listed["nodes"] + found, listed["pageInfo"]
            assert found == whole


INBOX: list[tuple[dict[str, Any], str]] = [
    ({"state": OPEN, "teamId": "team"}, "UPDATED_AT"),
    ({"state": OPEN, "assigneeId": "eve"}, "UPDATED_AT"),
    ({"state": OPEN, "unassigned": True}, "CREATED_AT"),
    ({"state": ["RESOLVED"]}, "UPDATED_AT"),
    ({"typeId": "bug", "state": OPEN}, "NUMBER"),
    ({"category": ["CUSTOMER"], "state": OPEN}, "CREATED_AT"),
    ({"text": "broken"}, "CREATED_AT"),
    ({"text": "broken"}, "UPDATED_AT"),
]


@pytest.mark.parametrize(("filter_", "sort"), INBOX, ids=str)
async def test_each_list_of_an_inbox_reads_by_an_index(workspace: Any, filter_: Any, sort: str) -> None:
    """The executed plan of every read: by an index, and no more documents than the list has."""
    ids = await desk(workspace)
    meant = {name: ids.get(value, value) if isinstance(value, str) else value for name, value in filter_.items()}
    workspace.gateway.commands.finds.clear()
    variables = {"f": meant, "s": {"key": sort, "direction": "DESC"}}
    page = (await workspace.data(PLAIN, variables))["tickets"]
    database, examined = workspace.gateway.runtime.database._database, 0
    for command in [one for one in workspace.gateway.commands.finds if one.get("find") == "tickets"]:
        told = {name: value for name, value in command.items() if name in {"find", "filter", "sort", "limit"}}
        plan = await database.command("explain", told, verbosity="executionStats")
        assert "COLLSCAN" not in str(plan["queryPlanner"]["winningPlan"]), command
        examined += plan["executionStats"]["totalDocsExamined"]
    assert len(page["nodes"]) <= examined <= 2 * len(page["nodes"]), (examined, page)


async def test_what_was_stored_before_is_listed_in_every_order(open_gateway: Any) -> None:
    async with open_gateway(rolls_up=False) as opened:
        workspace, database = await opened.workspace(), opened.runtime.database
        await ticket(workspace, await type_id(workspace))
        begin = """mutation { createConversation(input: {contact: {externalId: "u"}, body: "Hello"}) { conversation { id } } }"""
        await workspace.data(begin)
        kept = {"conversations": ["*", "state:OPEN"], "tickets": ["any::", "any::SUBMITTED"]}
        now = {name: await database.find(name, {}) for name in kept}
        for name, lists in kept.items():
            gone = dict.fromkeys(("updated_key", "waiting_key", "due_key"), "")
            await database.update(name, {}, {"$set": {"lists": lists}, "$unset": gone})
        await database.create_indexes("conversations", [IndexModel("updated_at", name="lists_by_updated_at")])
        await database.delete("migrations", {"_id": 6})
        assert [step.number for step in await migrate(database, opened.runtime.clock, owner="tests")] == [6]
        assert {name: await database.find(name, {}) for name in kept} == now
        assert "lists_by_updated_at" not in await database._database["conversations"].index_information()


async def test_levels_cost_the_same_however_many_rows(workspace: Any) -> None:
    await desk(workspace)
    nested = """query($ids: [ID!]!) { nodes(ids: $ids) { ... on Contact { tickets(first: 5, filter: {state: [SUBMITTED, RESOLVED]}) { nodes {
      number type { name } assignee { name } team { name } conversation { id } contact { events(first: 2) { nodes { id } } }
      parts(first: 5) { nodes { kind author { displayName } assignedTo { id } } } } } } } }"""
    calls = []
    contacts = (await workspace.data("{ contacts(first: 3) { nodes { id } } }"))["contacts"]["nodes"]
    for size in (1, 3):
        workspace.gateway.commands.names.clear()
        found = await workspace.data(nested, {"ids": [one["id"] for one in contacts[:size]]})
        calls.append(len(workspace.gateway.commands.reads))
        assert sum(len(one["tickets"]["nodes"]) for one in found["nodes"]) == 4 * size
    assert calls[0] == calls[1]


async def test_tickets_follow_a_merge(workspace: Any) -> None:
    bug = await type_id(workspace)
    made = await ticket(workspace, bug, contact={"anonymousId": "a"})
    own = await ticket(workspace, bug)
    gone, user = [
        (await workspace.data("query($by: ContactKey!) { contact(by: $by) { id } }", {"by": by}))["contact"]["id"]
        for by in ({"anonymousId": "a"}, {"externalId": "u"})
    ]
    await workspace.data(
        "mutation($f: ID!, $i: ID!) { mergeContacts(input: {from: $f, into: $i}) { movedEvents } }",
        {"f": gone, "i": user},
    )
    token = await workspace.token(externalId="u")
    for key in (workspace.key, token):
        for contact_id in (gone, user):
            listed = (await workspace.data(PLAIN, {"f": {"contactId": contact_id}}, key=key))["tickets"]
            assert [node["number"] for node in listed["nodes"]] == [own["number"], made["number"]]
    found = await workspace.data(
        "query($id: ID!) { ticket(by: {id: $id}) { contact { id tickets { nodes { number } } } } }", {"id": made["id"]}
    )
    assert found["ticket"]["contact"] == {"id": user, "tickets": {"nodes": [{"number": 2}, {"number": 1}]}}
    replied = await asked(workspace, REPLY, ticketId=made["id"], body="Hi", actor={"contactId": user})
    assert replied["userErrors"] == []


async def test_what_cannot_be_asked_is_said(workspace: Any) -> None:
    for filter_ in ({"text": "?!"}, {"text": " ".join(f"w{n}" for n in range(21))}):
        answer = await workspace.ask(PLAIN, {"f": filter_})
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["BAD_REQUEST"]


async def test_the_queries_of_the_guide_run(workspace: Any) -> None:
    documents = re.findall(r"```graphql\n(.*?)```", GUIDE.read_text(), re.S)
    assert len(documents) == 6
    save, inbox, live, page, create, reply = documents
    saved = (await workspace.data(save))["saveTicketType"]
    assert saved["userErrors"] == []
    await workspace.track({"contact": {"externalId": "u"}, "name": "did"})
    token, type_ = await workspace.token(externalId="u"), saved["ticketType"]["id"]
    made = await workspace.data(create, {"type": type_, "key": "k"}, key=token)
    assert made["createTicket"] == {"ticket": {"number": 1}, "userErrors": []}
    shown = await workspace.data(page, key=token)
    assert [len(shown[name] if name == "ticketTypes" else shown[name]["nodes"]) for name in shown] == [1, 1]
    support = await team(workspace)
    (row,) = await workspace.store.tickets._find({})
    await asked(workspace, ASSIGN, id=row["_id"], teamId=support)
    listed = await workspace.data(inbox, {"team": support})
    assert [node["number"] for node in listed["tickets"]["nodes"]] == [1]
    answered = await workspace.data(reply, {"ticket": row["_id"], "key": "r"}, key=token)
    assert answered["replyToTicket"] == {"ticket": {"state": "SUBMITTED"}, "userErrors": []}
    assert "ticketChanged(filter: {teamId: $team}" in live
