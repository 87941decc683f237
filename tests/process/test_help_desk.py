"""The help desk as people run it: demo data that stays, and timers that outlive the process that should have fired them."""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from processes import Program

KEY = "a-key-for-the-desk"
BEGIN = (
    """mutation { createConversation(input: {contact: {externalId: "ada"}, body: "Hello"}) { conversation { id } } }"""
)
SNOOZE = """mutation($id: ID!, $until: DateTime!) {
  snoozeConversation(input: {id: $id, until: $until}) { userErrors { message } } }"""
SLA = """mutation($id: ID!) { applySla(input: {id: $id, name: "Gold", firstReplyMinutes: 1}) {
  conversation { sla { dueAt } } userErrors { message } } }"""
SAVE_TYPE = (
    """mutation { saveTicketType(input: {name: "Bug", category: CUSTOMER, attributes: []}) { ticketType { id } } }"""
)
TICKET = """mutation($type: ID!) { createTicket(input: {contact: {externalId: "ada"}, typeId: $type, title: "It stops"}) {
  ticket { id } userErrors { message } } }"""
SNOOZE_TICKET = """mutation($id: ID!, $until: DateTime!) {
  updateTicket(input: {id: $id, snoozedUntil: $until}) { userErrors { message } } }"""
SHOW_TICKET = """query($id: ID!) { ticket(by: {id: $id}) { snoozedUntil partCount parts(first: 20) { nodes { kind createdAt } } } }"""
SHOW_SLA = """query($id: ID!) { conversation(id: $id) { sla { status } parts(first: 20) { nodes { kind body createdAt } } } }"""
SHOW = """query($id: ID!) { conversation(id: $id) { state statistics { partCount } parts(first: 20) { nodes { kind body createdAt } } } }"""
DESK = """{ admins(first: 10) { nodes { name } } teams { name admins { name } } tickets(first: 50) { nodes { state } } messageRules { name enabled }
  conversations(first: 50, sort: {key: CREATED_AT, direction: ASC}) { totalCount nodes { id state title sla { name status dueAt } rating { score }
    contact { externalId } assignee { name } team { name } statistics { partCount firstReplySeconds } parts(first: 20) { nodes { id kind body } } } } }"""

A_MINUTE_LATER = """
import datetime
from gateway.store.server_clock import ServerClock
ServerClock.correction = datetime.timedelta(minutes=1)
import gateway.cli
gateway.cli.main()
"""


async def ask(port: int, query: str, **variables: Any) -> Any:
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(
            f"http://127.0.0.1:{port}/graphql",
            json={"query": query, "variables": variables},
            headers={"authorization": f"Bearer {KEY}"},
        )
    assert "errors" not in answer.json(), answer.text
    return answer.json()["data"]


async def test_the_demo_desk_is_plausible_and_stays(
    program: Any, free_port: Callable[[], int], started: Callable[..., Any]
) -> None:
    port, seen = free_port(), []
    for _ in range(2):
        async with started(program, port, "dev", "--port", str(port), GATEWAY_DEV_KEY=KEY):
            seen.append(await ask(port, DESK))
    assert seen[0] == seen[1]
    desk = seen[0]
    assert sorted(admin["name"] for admin in desk["admins"]["nodes"]) == ["Ines", "Marek", "Noor"]
    assert [team["name"] for team in desk["teams"]] == ["Billing", "Support"]
    states = {row["state"] for row in desk["tickets"]["nodes"]}
    assert states == {"SUBMITTED", "IN_PROGRESS", "WAITING_ON_CUSTOMER", "RESOLVED"}
    assert desk["messageRules"] == [{"name": name, "enabled": True} for name in ("Teammates", "How was it?")]
    rows = desk["conversations"]["nodes"]
    assert desk["conversations"]["totalCount"] == len(rows) == 15
    assert {row["state"] for row in rows} == {"OPEN", "SNOOZED", "CLOSED"}
    assert any(row["rating"] for row in rows)
    assert any(row["sla"] and row["sla"]["status"] == "ACTIVE" and row["sla"]["dueAt"] for row in rows)
    assert all(row["statistics"]["partCount"] == len(row["parts"]["nodes"]) for row in rows)


async def test_timers_of_a_killed_process_go_off_once_in_another(
    program: Program, free_port: Callable[[], int], started: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    command = ("dev", "--no-demo", "--port", str(port))
    async with started(program, port, *command, GATEWAY_DEV_KEY=KEY) as process:
        *ids, promised = [(await ask(port, BEGIN))["createConversation"]["conversation"]["id"] for _ in range(4)]
        type_id = (await ask(port, SAVE_TYPE))["saveTicketType"]["ticketType"]["id"]
        ticket_id = (await ask(port, TICKET, type=type_id))["createTicket"]["ticket"]["id"]
        sla = (await ask(port, SLA, id=promised))["applySla"]["conversation"]["sla"]
        until = datetime.fromisoformat(sla["dueAt"])  # a minute ahead: all is due at once
        answer = await ask(port, SNOOZE_TICKET, id=ticket_id, until=until.isoformat())
        assert answer["updateTicket"]["userErrors"] == []
        for id_ in ids:
            answer = await ask(port, SNOOZE, id=id_, until=until.isoformat())
            assert answer["snoozeConversation"]["userErrors"] == []
        process.kill()
        await asyncio.to_thread(process.wait, 60)
        assert datetime.now(UTC) < until, "the machine was too slow to kill it before its timers were due"
    words = program.command(*command)
    monkeypatch.setattr(program, "command", lambda *_: [sys.executable, "-c", A_MINUTE_LATER, *words[1:]])
    async with started(program, port, *command, GATEWAY_DEV_KEY=KEY), asyncio.timeout(120):
        for id_ in ids:
            while (found := (await ask(port, SHOW, id=id_))["conversation"])["state"] == "SNOOZED":
                await asyncio.sleep(0.2)
            woken = [(part["kind"], part["createdAt"]) for part in found["parts"]["nodes"]][1:]
            assert woken == [("UNSNOOZE", sla["dueAt"])]
            assert found["statistics"]["partCount"] == 2
        while (found := (await ask(port, SHOW_TICKET, id=ticket_id))["ticket"])["snoozedUntil"] is not None:
            await asyncio.sleep(0.2)
        woken = [(part["kind"], part["createdAt"]) for part in found["parts"]["nodes"]]
        assert (found["partCount"], woken[1:]) == (2, [("UNSNOOZE", sla["dueAt"])])
        while (found := (await ask(port, SHOW_SLA, id=promised))["conversation"])["sla"]["status"] == "ACTIVE":
            await asyncio.sleep(0.2)
        assert found["sla"]["status"] == "MISSED"
        told = [(part["body"], part["createdAt"]) for part in found["parts"]["nodes"]]
        assert told[1:] == [("Gold: MISSED", sla["dueAt"])]
