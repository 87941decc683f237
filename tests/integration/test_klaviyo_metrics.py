"""The nine metrics, each when its contact acts or its ticket moves, with the properties that Klaviyo's own integration has."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from klaviyo_stand_in import KEY, Klaviyo, listening

from gateway.destinations.klaviyo.mapping import TABLE, Metric

CONVERSATION = {
    "email",
    "phone_number",
    "Title",
    "Snoozed Until",
    "Waiting Since",
    "Priority",
    "Assigned Team",
    "Assigned Admin Name",
    "Assigned Admin Email",
    "Tags",
    "Conversation Rating",
    "Conversation Source",
    "Conversation Delivered As",
    "Conversation Parts Count",
    "SLA Status",
    "Count Reopens",
    "Count Assignments",
    "Custom Attributes",
}
TICKET = {
    "email",
    "phone_number",
    "Category",
    "Assigned Team",
    "Assigned Admin Name",
    "Assigned Admin Email",
    "Snoozed Until",
    "Ticket Parts Count",
    "Ticket ID",
    "Ticket Type",
    "Ticket Name",
    "Ticket Description",
    "Shared",
}
RESOLVED = {
    "Contact Email",
    "Contact Phone",
    "Category",
    "Team Name",
    "Admin Name",
    "Admin Email",
    "Ticket ID",
    "Ticket Name",
    "Ticket Description",
    "Is Shared",
}


class Desk:
    """A workspace that answers people, connected to a stand-in."""

    def __init__(self, workspace: Any, account: Klaviyo) -> None:
        self.workspace, self.account = workspace, account

    async def call(self, mutation: str, result: str, **sent: Any) -> str:
        """The id of what a mutation gave."""
        kind = mutation[0].upper() + mutation[1:] + "Input"
        query = f"mutation($i: {kind}!) {{ {mutation}(input: $i) {{ {result} {{ id }} userErrors {{ code message path }} }} }}"
        (payload,) = (await self.workspace.data(query, {"i": sent})).values()
        assert payload["userErrors"] == [], payload
        return str(payload[result]["id"])

    async def rows(self) -> list[dict[str, Any]]:
        found = await self.workspace.store.database.find("deliveries", {"workspace_id": self.workspace.id})
        return sorted((row for row in found if row["kind"] == "EVENT"), key=lambda row: row["seq"])

    async def metrics(self) -> list[str]:
        return [row["metric"] for row in await self.rows()]

    async def last(self) -> dict[str, Any]:
        properties = (await self.rows())[-1]["payload"]["data"]["attributes"]["properties"]
        assert isinstance(properties, dict)
        return properties

    async def deliver(self) -> None:
        await self.workspace.gateway.runtime.deliveries.deliver_due(self.workspace.id)


@pytest.fixture
async def desk(open_gateway: Any, clock: Any) -> AsyncIterator[Desk]:
    account = Klaviyo()
    async with listening(account) as url, open_gateway(rolls_up=False, clock=clock) as gateway:
        workspace = await gateway.workspace()
        await gateway.runtime.klaviyo.connections.connect(workspace.id, KEY, url)
        yield Desk(workspace, account)


def test_the_names_are_those_of_klaviyos_own_integration() -> None:
    assert {metric: set(properties) for metric, properties in TABLE.items()} == {
        **dict.fromkeys(list(Metric)[:4], CONVERSATION),
        **dict.fromkeys(list(Metric)[4:8], TICKET),
        Metric.RESOLVED_TICKET: RESOLVED,
    }
    assert [str(metric) for metric in Metric] == [
        "Created Conversation",
        "Rated Conversation",
        "Read Conversation",
        "Replied to Conversation",
        "Created Ticket",
        "Submitted Ticket",
        "Replied to Ticket",
        "Marked Ticket On Hold",
        "Resolved Ticket",
    ]


async def test_conversations_tell_what_the_contact_does(desk: Desk) -> None:
    contact = await desk.call(
        "upsertContact", "contact", externalId="1", email="ada@shop.example", phone="+15005550006"
    )
    admin = await desk.call("saveAdmin", "admin", name="Grace", email="grace@desk.example")
    team = await desk.call("saveTeam", "team", name="Support", adminIds=[admin])
    ada, grace = {"contactId": contact}, {"adminId": admin}
    by_ada = await desk.call(
        "createConversation",
        "conversation",
        contact={"id": contact},
        actor=ada,
        body="Where is it?",
        title="Parcel",
        customAttributes={"order": 7, "parcel": {"kilos": 2}},
    )
    assert await desk.last() == {
        "email": "ada@shop.example",
        "phone_number": "+15005550006",
        "Title": "Parcel",
        "Snoozed Until": None,
        "Waiting Since": (await desk.rows())[0]["payload"]["data"]["attributes"]["time"],
        "Priority": "none",
        "Assigned Team": None,
        "Assigned Admin Name": None,
        "Assigned Admin Email": None,
        "Tags": [],
        "Conversation Rating": None,
        "Conversation Source": "chat",
        "Conversation Delivered As": "customer_initiated",
        "Conversation Parts Count": 0,
        "Conversation Parts Count Is Zero": True,
        "SLA Status": None,
        "Count Reopens": 0,
        "Count Reopens Is Zero": True,
        "Count Assignments": 0,
        "Count Assignments Is Zero": True,
        "Custom Attributes": {"order": 7, "parcel": {"kilos": 2}},
        "Custom Attributes order": 7,
    }
    await desk.call("assignConversation", "conversation", id=by_ada, assigneeId=admin, teamId=team, actor=grace)
    await desk.call("replyToConversation", "conversation", conversationId=by_ada, actor=grace, body="On its way.")
    await desk.call("replyToConversation", "conversation", conversationId=by_ada, body="We are closed today.")
    await desk.call("markConversationRead", "conversation", id=by_ada, actor=grace)
    assert await desk.metrics() == ["Created Conversation"]
    await desk.call("markConversationRead", "conversation", id=by_ada, actor=ada)
    await desk.call("markConversationRead", "conversation", id=by_ada, actor=ada)
    await desk.call("replyToConversation", "conversation", conversationId=by_ada, actor=ada, body="Thanks!")
    await desk.call("closeConversation", "conversation", id=by_ada, actor=grace)
    token = await desk.workspace.token(id=contact)
    rated = await desk.workspace.data(
        "mutation($i: RateConversationInput!) { rateConversation(input: $i) { userErrors { code message } } }",
        {"i": {"id": by_ada, "score": 5}},
        key=token,
    )
    assert rated["rateConversation"]["userErrors"] == []
    assert await desk.metrics() == [
        "Created Conversation",
        "Read Conversation",
        "Replied to Conversation",
        "Rated Conversation",
    ]
    told = await desk.last()
    assert {name: told[name] for name in ("Assigned Team", "Assigned Admin Name", "Assigned Admin Email")} == {
        "Assigned Team": "Support",
        "Assigned Admin Name": "Grace",
        "Assigned Admin Email": "grace@desk.example",
    }
    assert (told["Conversation Rating"], told["Count Assignments"], told["Count Assignments Is Zero"]) == (5, 2, False)
    await desk.call("createConversation", "conversation", contact={"id": contact}, actor=grace, body="Hello?")
    assert len(await desk.metrics()) == 4
    await desk.deliver()
    assert [event.metric for event in desk.account.of("ada@shop.example")] == await desk.metrics()
    assert "Count Reopens" not in desk.account.events[0].properties
    assert desk.account.events[0].properties["Count Reopens Is Zero"] is True


async def test_tickets_tell_how_they_move(desk: Desk) -> None:
    contact = await desk.call("upsertContact", "contact", externalId="1", email="ada@shop.example")
    admin = await desk.call("saveAdmin", "admin", name="Grace", email="grace@desk.example")
    type_ = await desk.call("saveTicketType", "ticketType", name="Return", category="CUSTOMER")
    ada, grace = {"contactId": contact}, {"adminId": admin}
    ticket = await desk.call(
        "createTicket",
        "ticket",
        contact={"id": contact},
        typeId=type_,
        title="Too small",
        description="It does not fit.",
        assigneeId=admin,
        isShared=True,
        actor=grace,
    )
    await desk.call("updateTicket", "ticket", id=ticket, title="Size", actor=grace)
    await desk.call("setTicketState", "ticket", id=ticket, state="WAITING_ON_CUSTOMER", actor=grace)
    await desk.call("replyToTicket", "ticket", ticketId=ticket, body="Which size?", actor=grace)
    await desk.call("replyToTicket", "ticket", ticketId=ticket, body="Forty.", actor=ada)
    await desk.call("setTicketState", "ticket", id=ticket, state="SUBMITTED", actor=grace)
    await desk.call("setTicketState", "ticket", id=ticket, state="RESOLVED", actor=grace)
    assert await desk.metrics() == [
        "Created Ticket",
        "Marked Ticket On Hold",
        "Replied to Ticket",
        "Submitted Ticket",
        "Resolved Ticket",
    ]
    assert await desk.last() == {
        "Contact Email": "ada@shop.example",
        "Contact Phone": None,
        "Category": "customer",
        "Team Name": None,
        "Admin Name": "Grace",
        "Admin Email": "grace@desk.example",
        "Ticket ID": 1,
        "Ticket Name": "Too small",
        "Ticket Description": "It does not fit.",
        "Is Shared": True,
    }
    on_hold = (await desk.rows())[1]["payload"]["data"]["attributes"]["properties"]
    assert on_hold == {
        "email": "ada@shop.example",
        "phone_number": None,
        "Category": "customer",
        "Assigned Team": None,
        "Assigned Admin Name": "Grace",
        "Assigned Admin Email": "grace@desk.example",
        "Snoozed Until": None,
        "Ticket Parts Count": 3,
        "Ticket Parts Count Is Zero": False,
        "Ticket ID": 1,
        "Ticket Type": "Return",
        "Ticket Name": "Too small",
        "Ticket Description": "It does not fit.",
        "Shared": True,
    }
    await desk.deliver()
    assert [event.metric for event in desk.account.of("ada@shop.example")] == await desk.metrics()
    assert {row["state"] for row in await desk.rows()} == {"DELIVERED"}
    assert {row["subject_id"] for row in await desk.rows()} == {ticket}


async def test_a_contact_made_by_its_conversation_has_its_profile_first(desk: Desk) -> None:
    await desk.call("createConversation", "conversation", contact={"email": "new@shop.example"}, body="Hello")
    await desk.deliver()
    assert [one.operation for one in desk.account.asked] == ["create_or_update_profile", "create_event"]
