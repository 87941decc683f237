"""Contacts' tokens and keys of pages: what each may see and do, and that nothing else comes of them, however it is asked."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import websockets
from graphql import GraphQLInterfaceType, GraphQLNonNull, GraphQLObjectType, get_named_type

from gateway.core.pagination import Page
from gateway.core.principals import Principal, Scope
from gateway.core.time_ranges import TimeRange
from gateway.domain.tokens import LEEWAY, Grant, MadeFrom
from schema.access import Access
from schema.root import build_schema

MAKE = """mutation($i: CreateContactTokenInput!) {
  createContactToken(input: $i) { token expiresAt userErrors { code message path } } }"""
TRACK = """mutation($i: TrackEventInput!) { trackEvent(input: $i) {
  duplicate event { id name contact { id } } summary { count } userErrors { code message path } } }"""
TRACK_MANY = """mutation($e: [TrackEventInput!]!) { trackEvents(input: {events: $e}) {
  accepted duplicates rejected results { eventId duplicate error { code path } } } }"""
READS = {
    "viewer": "{ viewer { contact { id } } }",
    "contact": 'query($id: ID!) { contact(by: {id: $id}) { id externalId events(first: 5) { nodes { id } } eventSummary(name: "did") { id } } }',
    "node": "query($id: ID!) { node(id: $id) { id } }",
    "nodes": "query($id: ID!) { nodes(ids: [$id]) { id } }",
    "event": "query($event: ID!) { event(id: $event) { id } }",
    "streamCursor": "{ streamCursor }",
    "ticketTypes": "{ ticketTypes { id } }",
    "ticket": "query($ticket: ID!) { ticket(by: {id: $ticket}) { id } }",
    "tickets": "{ tickets(first: 1) { nodes { id } } }",
    "conversation": "query($conversation: ID!) { conversation(id: $conversation) { id } }",
}
ACTS = {
    "trackEvent",
    "trackEvents",
    "createConversation",
    "replyToConversation",
    "markConversationRead",
    "rateConversation",
    "createTicket",
    "replyToTicket",
}
REFUSED = {
    "convertToTicket": 'mutation($id: ID!) { convertToTicket(input: {conversationId: $id, typeId: $id, title: "A"}) { ticket { id } } }',
    "setTicketState": "mutation($id: ID!) { setTicketState(input: {id: $id, state: RESOLVED}) { ticket { id } } }",
    "assignTicket": "mutation($id: ID!) { assignTicket(input: {id: $id, assigneeId: null}) { ticket { id } } }",
    "updateTicket": 'mutation($id: ID!) { updateTicket(input: {id: $id, title: "A"}) { ticket { id } } }',
    "contacts": "{ contacts(first: 1) { nodes { id } } }",
    "conversations": "{ conversations(first: 1) { nodes { id } } }",
    "topContacts": '{ topContacts(event: "did") { count } }',
    "events": "{ events(first: 1) { nodes { id } } }",
    "eventDefinitions": "{ eventDefinitions(first: 1) { nodes { id } } }",
    "importEventSummaries": "mutation($id: ID!) { importEventSummaries(input: {contact: {id: $id}, summaries: "
    '[{name: "did", count: 5, firstAt: "2026-01-01T00:00:00Z", lastAt: "2026-02-01T00:00:00Z"}]}) { summaries { id } } }',
    "describeEvent": 'mutation { describeEvent(input: {name: "did", archived: true}) { definition { id } } }',
    "identifyContact": 'mutation { identifyContact(input: {anonymousId: "a-1", externalId: "ada"}) { contact { id } } }',
    "mergeContacts": "mutation($id: ID!) { mergeContacts(input: {from: $id, into: $id}) { contact { id } } }",
    "deleteContact": "mutation($id: ID!) { deleteContact(input: {id: $id}) { deletedId } }",
    "tagContact": 'mutation($id: ID!) { tagContact(input: {contactId: $id, tags: ["a"]}) { contact { id } } }',
    "untagContact": 'mutation($id: ID!) { untagContact(input: {contactId: $id, tags: ["a"]}) { contact { id } } }',
    "upsertContact": 'mutation($id: ID!) { upsertContact(input: {id: $id, name: "Changed"}) { contact { id } } }',
    "admins": "{ admins(first: 1) { nodes { id } } }",
    "teams": "{ teams { id } }",
    "saveAdmin": 'mutation { saveAdmin(input: {name: "Eve", email: "eve@acme.example"}) { admin { id } } }',
    "saveTicketType": 'mutation { saveTicketType(input: {name: "Bug", category: CUSTOMER}) { ticketType { id } } }',
    "saveTeam": 'mutation { saveTeam(input: {name: "Support", adminIds: []}) { team { id } } }',
    "createAdminToken": "mutation($id: ID!) { createAdminToken(input: {adminId: $id}) { token } }",
    "assignConversation": "mutation($id: ID!) { assignConversation(input: {id: $id, teamId: null}) { part { id } } }",
    "snoozeConversation": 'mutation($id: ID!) { snoozeConversation(input: {id: $id, until: "2030-01-01T00:00:00Z"}) { part { id } } }',
    "closeConversation": "mutation($id: ID!) { closeConversation(input: {id: $id}) { part { id } } }",
    "reopenConversation": "mutation($id: ID!) { reopenConversation(input: {id: $id}) { part { id } } }",
    "updateConversation": 'mutation($id: ID!) { updateConversation(input: {id: $id, title: "Changed"}) { part { id } } }',
    "applySla": 'mutation($id: ID!) { applySla(input: {id: $id, name: "Gold", nextReplyMinutes: 5}) { part { id } } }',
    "segments": "{ segments { id } }",
    "segment": "query($id: ID!) { segment(id: $id) { id } }",
    "saveSegment": 'mutation { saveSegment(input: {name: "S", filter: {}}) { segment { id } } }',
    "deleteSegment": "mutation($id: ID!) { deleteSegment(input: {id: $id}) { deletedId } }",
    "messageRules": "{ messageRules { id } }",
    "saveMessageRule": 'mutation { saveMessageRule(input: {name: "R", event: "did", trigger: {everyTime: true}, body: "x"}) { messageRule { id } } }',
    "deleteMessageRule": "mutation($id: ID!) { deleteMessageRule(input: {id: $id}) { deletedId } }",
    "previewMessageRule": 'mutation($id: ID!) { previewMessageRule(input: {contactId: $id, body: "x"}) { body } }',
    "sendMessage": 'mutation($id: ID!) { sendMessage(input: {segmentId: $id, body: "x"}) { recipients } }',
    "klaviyo": "{ klaviyo { id } }",
    "connectKlaviyo": 'mutation { connectKlaviyo(input: {apiKey: "pk_1234567890"}) { klaviyo { id } } }',
    "disconnectKlaviyo": "mutation { disconnectKlaviyo { klaviyo { id } } }",
    "pauseKlaviyo": 'mutation { pauseKlaviyo(input: {reason: "holiday"}) { klaviyo { id } } }',
    "resumeKlaviyo": "mutation { resumeKlaviyo { klaviyo { id } } }",
    "replayDeliveries": "mutation($id: ID!) { replayDeliveries(input: {ids: [$id]}) { replayed } }",
    "syncContact": "mutation($id: ID!) { syncContact(input: {id: $id}) { klaviyo { state } } }",
    "startKlaviyoBackfill": "mutation { startKlaviyoBackfill(input: {}) { backfill { id } } }",
    "cancelKlaviyoBackfill": "mutation($id: ID!) { cancelKlaviyoBackfill(input: {id: $id}) { backfill { id } } }",
    "pauseKlaviyoBackfill": "mutation($id: ID!) { pauseKlaviyoBackfill(input: {id: $id}) { backfill { id } } }",
    "resumeKlaviyoBackfill": "mutation($id: ID!) { resumeKlaviyoBackfill(input: {id: $id}) { backfill { id } } }",
    "createContactToken": "mutation($id: ID!) { createContactToken(input: {contact: {id: $id}}) { token } }",
}
# Every field that a contact's token reaches. A field that is added to one of these types must be decided about: either it
# is none of the contact's business (`@access`, directives=[READ]), or it stands here.
VISIBLE = """
Query.contact Query.event Query.node Query.nodes Query.streamCursor Query.ticketTypes Query.viewer
Mutation.trackEvent Mutation.trackEvents Subscription.contactChanged Subscription.conversationChanged Subscription.eventTracked
ConversationNotification.conversation ConversationNotification.conversationId ConversationNotification.cursor
ConversationNotification.kind ConversationNotification.matches ConversationNotification.part
Admin.avatarUrl Admin.displayName Admin.id Viewer.admin Viewer.contact Viewer.id Viewer.limits Viewer.scopes Viewer.workspace
RateLimit.limit RateLimit.name RateLimit.remaining RateLimit.resetsAt Workspace.createdAt Workspace.id Workspace.name
Contact.anonymousIds Contact.avatarUrl Contact.createdAt Contact.displayName Contact.email Contact.eventSummaries
Contact.eventSummary Contact.events Contact.externalId Contact.firstName Contact.hasHardBounced Contact.id
Contact.lastName Contact.lastSeenAt Contact.location Contact.markedEmailAsSpam Contact.name
Contact.optedOutSubscriptionTypesCount Contact.phone Contact.role Contact.signedUpAt Contact.unsubscribedFromEmails
Contact.updatedAt Location.city Location.country Location.region
Event.contact Event.id Event.metadata Event.metadataJson Event.name Event.occurredAt Event.receivedAt
EventSummary.contact EventSummary.count EventSummary.firstAt EventSummary.id EventSummary.lastAt EventSummary.name
EventConnection.edges EventConnection.nodes EventConnection.pageInfo EventEdge.cursor EventEdge.node
EventSummaryConnection.edges EventSummaryConnection.nodes EventSummaryConnection.pageInfo
EventSummaryEdge.cursor EventSummaryEdge.node
PageInfo.endCursor PageInfo.hasNextPage PageInfo.hasPreviousPage PageInfo.startCursor
TextMetadata.key TextMetadata.text NumberMetadata.exact NumberMetadata.key NumberMetadata.number
BooleanMetadata.boolean BooleanMetadata.key DateMetadata.date DateMetadata.key
LinkMetadata.key LinkMetadata.label LinkMetadata.url
MoneyMetadata.amountMinor MoneyMetadata.currency MoneyMetadata.formatted MoneyMetadata.key
StripeMetadata.key StripeMetadata.object StripeMetadata.stripeId StripeMetadata.url JsonMetadata.json JsonMetadata.key
EventNotification.cursor EventNotification.event EventNotification.kind EventNotification.summary
ContactNotification.contact ContactNotification.contactId ContactNotification.cursor ContactNotification.kind
ContactNotification.matches ContactNotification.mergedId
TicketAttribute.kind TicketAttribute.name TicketAttribute.options TicketAttribute.required TicketAttribute.visibleToContacts
TicketType.archived TicketType.attributes TicketType.category TicketType.description TicketType.id TicketType.name
TrackEventPayload.duplicate TrackEventPayload.event TrackEventPayload.summary TrackEventPayload.userErrors
TrackEventsPayload.accepted TrackEventsPayload.duplicates TrackEventsPayload.rejected TrackEventsPayload.results
TrackEventsPayload.userErrors TrackEventResult.duplicate TrackEventResult.error TrackEventResult.eventId
TrackEventResult.index
Query.conversation Mutation.createConversation Mutation.markConversationRead Mutation.rateConversation Mutation.replyToConversation
Automation.avatarUrl Automation.displayName Conversation.assignee Conversation.contact Conversation.createdAt Conversation.id
Contact.conversations ConversationConnection.edges ConversationConnection.nodes ConversationConnection.pageInfo
ConversationEdge.cursor ConversationEdge.node Conversation.parts Conversation.priority Conversation.rating Conversation.read Conversation.source Conversation.state
Conversation.statistics Conversation.title Conversation.updatedAt Conversation.waitingSince
ConversationPart.assignedTo ConversationPart.author ConversationPart.body ConversationPart.createdAt ConversationPart.id
ConversationPart.kind ConversationPart.snoozedUntil ConversationPartConnection.edges ConversationPartConnection.nodes
ConversationPartConnection.pageInfo ConversationPartEdge.cursor ConversationPartEdge.node
ConversationRating.admin ConversationRating.ratedAt ConversationRating.remark ConversationRating.score
ConversationSource.author ConversationSource.body ConversationSource.channel ConversationSource.deliveredAs
ConversationSource.subject ConversationSource.url ConversationStatistics.assignmentCount ConversationStatistics.closedAt
ConversationStatistics.firstReplyAt ConversationStatistics.firstReplySeconds ConversationStatistics.lastAdminReplyAt
ConversationStatistics.lastContactReplyAt ConversationStatistics.partCount ConversationStatistics.reopenCount
CreateConversationPayload.conversation CreateConversationPayload.userErrors
MarkConversationReadPayload.conversation MarkConversationReadPayload.userErrors
RateConversationPayload.conversation RateConversationPayload.part RateConversationPayload.userErrors
ReplyToConversationPayload.conversation ReplyToConversationPayload.part ReplyToConversationPayload.userErrors
Subscription.ticketChanged TicketNotification.cursor TicketNotification.kind TicketNotification.matches TicketNotification.part
TicketNotification.ticket TicketNotification.ticketId Query.ticket Query.tickets Mutation.createTicket Mutation.replyToTicket Contact.tickets Conversation.ticket
Ticket.assignee Ticket.attributes Ticket.category Ticket.contact Ticket.conversation Ticket.createdAt Ticket.description Ticket.id
Ticket.number Ticket.partCount Ticket.parts Ticket.resolvedAt Ticket.state Ticket.submittedDescription Ticket.submittedTitle
Ticket.title Ticket.type Ticket.updatedAt TicketConnection.edges TicketConnection.nodes TicketConnection.pageInfo
TicketEdge.cursor TicketEdge.node TicketPart.assignedTo TicketPart.author TicketPart.body TicketPart.createdAt TicketPart.fromState
TicketPart.id TicketPart.kind TicketPart.snoozedUntil TicketPart.toState TicketPartConnection.edges TicketPartConnection.nodes
TicketPartConnection.pageInfo TicketPartEdge.cursor TicketPartEdge.node CreateTicketPayload.ticket CreateTicketPayload.userErrors
ReplyToTicketPayload.part ReplyToTicketPayload.ticket ReplyToTicketPayload.userErrors
UserError.code UserError.message UserError.path
"""
HIDDEN = "Contact.klaviyo Conversation.klaviyo Event.klaviyo Ticket.klaviyo Ticket.isShared Ticket.snoozedUntil Ticket.tags Ticket.team TicketConnection.totalCount Admin.archived Admin.email Admin.name Contact.customAttributes Contact.segments Contact.tags ContactNotification.segment Conversation.customAttributes Conversation.sla Conversation.snoozedUntil Conversation.tags Conversation.team ConversationConnection.totalCount Event.definition EventConnection.totalCount EventSummary.definition EventSummary.values"
# What `node` finds for a token: the store gives it nothing else.
NODES = (
    "Contact",
    "Conversation",
    "ConversationPart",
    "Event",
    "EventSummary",
    "Ticket",
    "TicketPart",
    "TicketType",
    "Viewer",
    "Workspace",
)


def declared(field: Any) -> Access | None:
    definition = field.extensions.get("strawberry-definition")
    return next((one for one in definition.directives if isinstance(one, Access)), None)


def reached() -> tuple[set[str], set[str]]:
    """The fields that a token may see, and those that it meets on the way and may not: by walking the schema."""
    schema = build_schema().core
    seen: set[str] = set()
    hidden: set[str] = set()
    waiting = [schema.query_type, schema.mutation_type, schema.subscription_type]
    roots = set(waiting)
    while waiting:
        type_ = waiting.pop()
        for name, field in type_.fields.items():  # type: ignore[union-attr]
            place, access = f"{type_.name}.{name}", declared(field)  # type: ignore[union-attr]
            if access is not None and not access.contact_token:
                hidden |= set() if type_ in roots else {place}
                assert type_ in roots or not isinstance(field.type, GraphQLNonNull), f"{place} nulls its parent"
            elif place not in seen:
                seen.add(place)
                waiting += shown_types(schema, get_named_type(field.type))
    return seen, hidden


def shown_types(schema: Any, type_: Any) -> list[Any]:
    if isinstance(type_, GraphQLInterfaceType):
        possible = schema.get_possible_types(type_)
        return [one for one in possible if type_.name != "Node" or one.name in NODES]
    return [type_] if isinstance(type_, GraphQLObjectType) else []


class Socket:
    """A client of graphql-transport-ws."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def send(self, **message: Any) -> None:
        await self.connection.send(orjson.dumps(message).decode())

    async def next(self) -> Any:
        return orjson.loads(await asyncio.wait_for(self.connection.recv(), 30))

    async def subscribe(self, id_: str, query: str, **variables: Any) -> None:
        await self.send(type="subscribe", id=id_, payload={"query": query, "variables": variables})

    async def closed(self) -> tuple[int, str]:
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await asyncio.wait_for(self.connection.recv(), 60)
        return self.connection.close_code, self.connection.close_reason


@contextlib.asynccontextmanager
async def opened(workspace: Any, credential: str, **options: Any) -> AsyncIterator[Socket]:
    url = workspace.gateway.url.replace("http:", "ws:")
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"], **options) as connection:  # type: ignore[list-item]
        socket = Socket(connection)
        await socket.send(type="connection_init", payload={"authorization": f"Bearer {credential}"})
        assert await socket.next() == {"type": "connection_ack"}
        yield socket


async def contact_of(workspace: Any, **by: str) -> Any:
    found = await workspace.data("query($by: ContactKey!) { contact(by: $by) { id role } }", {"by": by})
    return found["contact"]


async def make(workspace: Any, key: str | None = None, **input_: Any) -> Any:
    return (await workspace.data(MAKE, {"i": input_}, key=key))["createContactToken"]


async def track(workspace: Any, key: str, origin: str | None = None, **event: Any) -> Any:
    found = await workspace.data(TRACK, {"i": {"contact": {}, "name": "did", **event}}, key=key, origin=origin)
    return found["trackEvent"]


async def code_of(workspace: Any, query: str, variables: dict[str, Any] | None = None, **options: Any) -> str:
    """The code of the one error of an answer without data."""
    answer = await workspace.ask(query, variables, **options)
    assert set((answer.get("data") or {"": None}).values()) == {None}, answer
    (error,) = answer["errors"]
    return str(error["extensions"]["code"])


async def become_user(workspace: Any, contact_id: str, external_id: str = "u") -> None:
    found = await workspace.data(
        "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { contact { role } userErrors { code } } }",
        {"i": {"id": contact_id, "externalId": external_id}},
    )
    assert found["upsertContact"] == {"contact": {"role": "USER"}, "userErrors": []}


async def leave_email(workspace: Any, anonymous_id: str, email: str) -> None:
    await workspace.track({"contact": {"anonymousId": anonymous_id}, "name": "left an e-mail"})
    contact = await contact_of(workspace, anonymousId=anonymous_id)
    await workspace.data(
        "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { created } }",
        {"i": {"id": contact["id"], "email": email}},
    )


async def merge(workspace: Any, gone: str, into: str) -> None:
    query = "mutation($f: ID!, $i: ID!) { mergeContacts(input: {from: $f, into: $i}) { userErrors { code } } }"
    assert await workspace.data(query, {"f": gone, "i": into}) == {"mergeContacts": {"userErrors": []}}


@pytest.fixture
async def people(workspace: Any) -> dict[str, Any]:
    """Ada and Bob, users with an event each, and Ada's token."""
    (ada, bob) = (
        await workspace.track(
            {"contact": {"externalId": "ada", "email": "ada@example.com", "anonymousId": "a-1"}, "name": "did"},
            {"contact": {"externalId": "bob", "email": "bob@example.com", "anonymousId": "b-1"}, "name": "did"},
        )
    )["results"]
    ids = {"ada_event": ada["eventId"], "bob_event": bob["eventId"]}
    for name in ("ada", "bob"):
        found = await workspace.data(
            'query($e: String!) { contact(by: {externalId: $e}) { id eventSummary(name: "did") { id definition { id } } } }',
            {"e": name},
        )
        ids |= {name: found["contact"]["id"], f"{name}_summary": found["contact"]["eventSummary"]["id"]}
        ids["definition"] = found["contact"]["eventSummary"]["definition"]["id"]
    return {**ids, "token": await workspace.token(externalId="ada")}


# What a token may see


def test_what_a_token_reaches_is_what_was_decided() -> None:
    seen, hidden = reached()
    assert seen == set(VISIBLE.split())
    assert hidden == set(HIDDEN.split())


def test_every_root_field_is_tried_below() -> None:
    schema = build_schema().core
    fields = {**schema.query_type.fields, **schema.mutation_type.fields}  # type: ignore[union-attr]
    own = {name for name, field in fields.items() if declared(field).contact_token}  # type: ignore[union-attr]
    assert own == {*READS, *ACTS}
    assert set(fields) - own == set(REFUSED)


async def test_a_token_reads_its_own_contact(workspace: Any, people: Any) -> None:
    token, own = people["token"], people["ada"]
    viewer = (await workspace.data("{ viewer { id scopes contact { id } workspace { id } } }", key=token))["viewer"]
    assert viewer == {
        "id": "tok_" + own[4:],
        "scopes": [],
        "contact": {"id": own},
        "workspace": {"id": workspace.id},
    }
    whole = """fragment whole on Contact { id externalId email role displayName anonymousIds lastSeenAt
      events(first: 5) { nodes { id contact { id } } } eventSummaries(first: 5) { nodes { id contact { id } } }
      eventSummary(name: "did") { id count } }"""
    expected = None
    for by in ({"id": own}, {"externalId": "ada"}, {"email": "ADA@example.com"}, {"anonymousId": "a-1"}):
        found = await workspace.data(
            f"query($by: ContactKey!) {{ contact(by: $by) {{ ...whole }} }} {whole}", {"by": by}, key=token
        )
        expected = expected or found["contact"]
        assert found["contact"] == expected
    assert expected is not None
    assert (expected["id"], expected["email"], expected["role"]) == (own, "ada@example.com", "USER")
    assert expected["events"] == {"nodes": [{"id": people["ada_event"], "contact": {"id": own}}]}
    assert expected["eventSummaries"] == {"nodes": [{"id": people["ada_summary"], "contact": {"id": own}}]}
    for id_ in (own, people["ada_event"], people["ada_summary"], workspace.id, viewer["id"]):
        found = await workspace.data(
            "query($id: ID!) { node(id: $id) { id } nodes(ids: [$id]) { id } }", {"id": id_}, key=token
        )
        assert found == {"node": {"id": id_}, "nodes": [{"id": id_}]}
    event = await workspace.data(READS["event"], {"event": people["ada_event"]}, key=token)
    assert event == {"event": {"id": people["ada_event"]}}


async def test_a_token_sees_nobody_else(workspace: Any, people: Any) -> None:
    token = people["token"]
    for by in ({"id": people["bob"]}, {"externalId": "bob"}, {"email": "bob@example.com"}, {"anonymousId": "b-1"}):
        absent = {next(iter(by)): by.get("email", "nobody").replace("bob", "nobody")}
        for key in (by, absent):
            found = await workspace.ask("query($by: ContactKey!) { contact(by: $by) { id } }", {"by": key}, key=token)
            assert found == {"data": {"contact": None}}
    others = [people[name] for name in ("bob", "bob_event", "bob_summary", "definition")]
    found = await workspace.data("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": others}, key=token)
    assert found == {"nodes": [None] * 4}
    for id_ in others:
        assert await workspace.data(READS["node"], {"id": id_}, key=token) == {"node": None}
    assert await workspace.data(READS["event"], {"event": people["bob_event"]}, key=token) == {"event": None}
    nested = await workspace.data(
        "query($id: ID!) { viewer { contact { events(first: 5, filter: {contactId: $id}) { nodes { id } } } } }",
        {"id": people["bob"]},
        key=token,
    )
    assert nested == {"viewer": {"contact": {"events": {"nodes": []}}}}
    for key in (workspace.key, await workspace.token(id=people["bob"])):
        assert await workspace.data(READS["event"], {"event": people["bob_event"]}, key=key) == {
            "event": {"id": people["bob_event"]}
        }


async def test_what_is_said_of_a_contact_behind_its_back_is_refused_and_the_rest_is_there(
    workspace: Any, people: Any
) -> None:
    await workspace.data(
        'mutation { upsertContact(input: {externalId: "ada", tags: ["vip"], customAttributes: {risk: 5}}) { created } }'
    )
    answer = await workspace.ask(
        "{ viewer { contact { id tags customAttributes events(first: 1) { nodes { name definition { description } } } "
        'eventSummary(name: "did") { count definition { description } } } } }',
        key=people["token"],
    )
    assert answer["data"]["viewer"]["contact"] == {
        "id": people["ada"],
        "tags": None,
        "customAttributes": None,
        "events": {"nodes": [{"name": "did", "definition": None}]},
        "eventSummary": {"count": 1, "definition": None},
    }
    assert {tuple(error["path"][2:]) for error in answer["errors"]} == {
        ("tags",),
        ("customAttributes",),
        ("events", "nodes", 0, "definition"),
        ("eventSummary", "definition"),
    }
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"FORBIDDEN"}


@pytest.mark.parametrize("field", REFUSED)
async def test_what_a_token_may_not_do(workspace: Any, people: Any, field: str) -> None:
    assert await code_of(workspace, REFUSED[field], {"id": people["ada"]}, key=people["token"]) == "FORBIDDEN"
    ada = await workspace.data('{ contact(by: {externalId: "ada"}) { name eventSummary(name: "did") { count } } }')
    assert ada == {"contact": {"name": None, "eventSummary": {"count": 1}}}


async def test_the_store_opened_for_a_token_finds_nothing_of_others(workspace: Any, people: Any) -> None:
    services, token = workspace.gateway.runtime.services, Principal("tok_", workspace.id, contact_id=people["ada"])
    store, now = services.store.open_for(token), services.clock()
    everything = Page(10, False, None, None)
    by_contact = await store.events.pages_of_contacts(
        {people[one]: [people[one]] for one in ("ada", "bob")}, everything, TimeRange(), names=None
    )
    assert {contact: [row["_id"] for row in rows] for contact, rows in by_contact.items()} == {
        people["ada"]: [people["ada_event"]]
    }
    assert set(await store.summaries.pages_of_contacts([people["ada"], people["bob"]], everything)) == {people["ada"]}
    assert await store.summaries.pages_of_contacts([people["bob"]], everything) == {}
    events = await store.events.page(everything, TimeRange(), now)
    assert [row["_id"] for row in events] == [people["ada_event"]]
    assert [row["_id"] for row in await store.contacts.page(everything, now)] == [people["ada"]]
    assert await store.definitions.by_names(["did"]) == {}
    visitor = services.store.open_for(dataclasses.replace(token, anonymous=True))
    assert await visitor.contacts.by_ids([people["ada"]]) == {}


async def test_of_several_leads_who_share_an_email_a_token_sees_its_own(workspace: Any) -> None:
    for number in range(3):
        await leave_email(workspace, f"lead-{number}", "all@example.com")
    by_email = '{ contact(by: {email: "all@example.com"}) { anonymousIds } }'
    for number in range(3):
        token = await workspace.token(anonymousId=f"lead-{number}")
        assert await workspace.data(by_email, key=token) == {"contact": {"anonymousIds": [f"lead-{number}"]}}


# What a token may do


async def test_a_token_tracks_for_its_contact_whatever_it_says(workspace: Any, people: Any) -> None:
    token, ada = people["token"], {"id": people["ada"]}
    for contact in ({}, {"id": people["bob"]}, {"externalId": "bob"}, {"email": "x" * 999}, {"anonymousId": "b-1"}):
        done = await track(workspace, token, contact=contact)
        assert (done["event"]["contact"], done["userErrors"], done["duplicate"]) == (ada, [], False)
    past = await track(workspace, token, occurredAt="2026-01-31T09:30:00Z", countsAsSeen=False)
    assert past["summary"] == {"count": 7}
    many = await workspace.data(
        TRACK_MANY, {"e": [{"contact": {"externalId": "carol"}, "name": "did"}, {"contact": {}, "name": ""}]}, key=token
    )
    assert (many["trackEvents"]["accepted"], many["trackEvents"]["rejected"]) == (1, 1)
    assert many["trackEvents"]["results"][1]["error"]["code"] == "INVALID"
    counts = await workspace.data(
        '{ ada: contact(by: {externalId: "ada"}) { anonymousIds eventSummary(name: "did") { count } } '
        'bob: contact(by: {externalId: "bob"}) { eventSummary(name: "did") { count } } carol: contact(by: {externalId: "carol"}) { id } }'
    )
    assert counts == {
        "ada": {"anonymousIds": ["a-1"], "eventSummary": {"count": 8}},
        "bob": {"eventSummary": {"count": 1}},
        "carol": None,
    }


async def test_the_idempotency_keys_of_a_token_are_its_contacts_own(workspace: Any, people: Any) -> None:
    await workspace.track({"contact": {"externalId": "ada"}, "name": "paid", "idempotencyKey": "order-1"})
    mine = await track(workspace, people["token"], name="guessed", idempotencyKey="order-1")
    assert (mine["duplicate"], mine["event"]["name"], mine["userErrors"]) == (False, "guessed", [])
    again = await track(workspace, await workspace.token(id=people["ada"]), name="guessed", idempotencyKey="order-1")
    assert (again["duplicate"], again["event"]["id"]) == (True, mine["event"]["id"])
    other = await track(workspace, await workspace.token(id=people["bob"]), name="guessed", idempotencyKey="order-1")
    assert (other["duplicate"], other["event"]["contact"]) == (False, {"id": people["bob"]})
    await track(workspace, people["token"], name="first", idempotencyKey="order-2")
    service = {"contact": {"externalId": "ada"}, "name": "paid", "idempotencyKey": "order-2"}
    (taken,) = (await workspace.track(service))["results"]
    assert (taken["duplicate"], taken["error"]) == (False, None)
    reused = await track(workspace, people["token"], name="changed", idempotencyKey="order-1")
    assert [error["code"] for error in reused["userErrors"]] == ["IDEMPOTENCY_KEY_REUSED"]


# Tokens made from an anonymous id


async def test_a_token_of_a_visitor_reads_until_the_visitor_is_a_user(workspace: Any) -> None:
    token = await workspace.token(anonymousId="v-1")
    visitor = await contact_of(workspace, anonymousId="v-1")
    begun = await workspace.data(
        'mutation { createConversation(input: {contact: {}, body: "Hello"}) { conversation { id } } }', key=token
    )
    variables = {
        "id": visitor["id"],
        "event": (await track(workspace, token))["event"]["id"],
        "conversation": begun["createConversation"]["conversation"]["id"],
    }
    saved = await workspace.data(
        'mutation { saveTicketType(input: {name: "Bug", category: CUSTOMER}) { ticketType { id } } }'
    )
    opened = await workspace.data(
        'mutation($t: ID!) { createTicket(input: {contact: {}, typeId: $t, title: "A"}) { ticket { id } } }',
        {"t": saved["saveTicketType"]["ticketType"]["id"]},
        key=token,
    )
    variables["ticket"] = opened["createTicket"]["ticket"]["id"]
    for field, query in READS.items():
        found = (await workspace.data(query, variables, key=token))[field]
        assert found, field
    await become_user(workspace, visitor["id"])
    for field, query in READS.items():
        if field != "viewer":
            assert await code_of(workspace, query, variables, key=token) == "FORBIDDEN", field
    assert await workspace.data("{ viewer { id scopes contact { id } } }", key=token) == {
        "viewer": {"id": "tok_" + visitor["id"][4:], "scopes": [], "contact": None}
    }
    done = await track(workspace, token, idempotencyKey="k")
    assert done == {"duplicate": False, "event": None, "summary": None, "userErrors": []}
    assert (await track(workspace, token, idempotencyKey="k"))["duplicate"]
    user = await workspace.data('{ contact(by: {externalId: "u"}) { id eventSummary(name: "did") { count } } }')
    assert user == {"contact": {"id": visitor["id"], "eventSummary": {"count": 2}}}
    for ref in ({"externalId": "u"}, {"id": visitor["id"]}, {"externalId": "u", "anonymousId": "v-1"}):
        known = await workspace.token(**ref)
        assert (await workspace.data(READS["viewer"], key=known))["viewer"]["contact"] == {"id": visitor["id"]}
    again = await workspace.token(anonymousId="v-1")
    assert await code_of(workspace, READS["contact"], variables, key=again) == "FORBIDDEN"


async def test_a_lead_still_reads_by_the_token_of_the_visitor(workspace: Any) -> None:
    token = await workspace.token(anonymousId="v-1")
    visitor = await contact_of(workspace, anonymousId="v-1")
    await leave_email(workspace, "v-1", "lead@example.com")
    assert (await contact_of(workspace, anonymousId="v-1"))["role"] == "LEAD"
    assert (await workspace.data(READS["viewer"], key=token))["viewer"]["contact"] == {"id": visitor["id"]}


async def test_tokens_follow_a_merge_and_a_visitors_never_reads_the_user(workspace: Any, people: Any) -> None:
    by_anonymous_id = await workspace.token(anonymousId="v-1")
    visitor = (await contact_of(workspace, anonymousId="v-1"))["id"]
    by_id = await workspace.token(id=visitor)
    first = await track(workspace, by_id, idempotencyKey="k")
    await merge(workspace, visitor, into=people["ada"])
    for id_ in (visitor, people["ada"]):
        found = await workspace.data(READS["contact"], {"id": id_}, key=by_id)
        assert (found["contact"]["id"], found["contact"]["externalId"]) == (people["ada"], "ada")
        assert await code_of(workspace, READS["contact"], {"id": id_}, key=by_anonymous_id) == "FORBIDDEN"
    assert (await track(workspace, by_id))["event"]["contact"] == {"id": people["ada"]}
    assert (await track(workspace, by_anonymous_id))["event"] is None
    retried = await track(workspace, by_id, idempotencyKey="k")
    assert (retried["duplicate"], retried["event"]["id"]) == (True, first["event"]["id"])


# Making tokens


async def test_making_a_token(workspace: Any) -> None:
    before = datetime.now(UTC)
    made = await make(workspace, contact={"externalId": "new", "anonymousId": "n-1"})
    assert made["userErrors"] == []
    lifetime = datetime.fromisoformat(made["expiresAt"]) - before
    assert timedelta(minutes=59, seconds=58) < lifetime < timedelta(minutes=61)
    created = await contact_of(workspace, anonymousId="n-1")
    assert created == await contact_of(workspace, externalId="new")
    assert (await workspace.data(READS["viewer"], key=made["token"]))["viewer"]["contact"] == {"id": created["id"]}
    again = await make(workspace, contact={"email": "NEW@example.com", "externalId": "new"}, expiresInSeconds=None)
    assert (await workspace.data(READS["viewer"], key=again["token"]))["viewer"]["contact"] == {"id": created["id"]}
    assert await contact_of(workspace, email="new@example.com") == created
    assert again["token"] != made["token"]
    short = await make(workspace, contact={"externalId": "new"}, expiresInSeconds=60)
    assert datetime.fromisoformat(short["expiresAt"]) - before < timedelta(minutes=2)
    only_admin = await workspace.key_with(Scope.ADMIN)
    assert (await make(workspace, only_admin, contact={"externalId": "new"}))["token"]


@pytest.mark.parametrize(
    ("input_", "code", "path"),
    [
        ({"contact": {}}, "INVALID", ["input", "contact"]),
        ({"contact": {"id": "con_01JZ0000000000000000000000"}}, "NOT_FOUND", ["input", "contact", "id"]),
        ({"contact": {"email": "nonsense"}}, "INVALID", ["input", "contact", "email"]),
        ({"contact": {"anonymousId": ""}}, "INVALID", ["input", "contact", "anonymousId"]),
        ({"contact": {"externalId": "x"}, "expiresInSeconds": 59}, "INVALID", ["input", "expiresInSeconds"]),
        ({"contact": {"externalId": "x"}, "expiresInSeconds": 86401}, "INVALID", ["input", "expiresInSeconds"]),
        ({"contact": {"externalId": "x"}, "expiresInSeconds": -1}, "INVALID", ["input", "expiresInSeconds"]),
    ],
)
async def test_a_token_that_cannot_be_made(workspace: Any, input_: Any, code: str, path: list[str]) -> None:
    made = await make(workspace, **input_)
    assert (made["token"], made["expiresAt"]) == (None, None)
    assert [(error["code"], error["path"]) for error in made["userErrors"]] == [(code, path)]
    assert await contact_of(workspace, externalId="x") is None


async def test_of_leads_who_share_an_email_none_is_meant(workspace: Any) -> None:
    for number in range(2):
        await leave_email(workspace, f"lead-{number}", "all@example.com")
    (error,) = (await make(workspace, contact={"email": "all@example.com"}))["userErrors"]
    assert (error["code"], error["path"]) == ("CONFLICT", ["input", "contact", "email"])


async def test_without_a_secret_there_are_no_tokens_and_with_another_one_the_old_are_worth_nothing(
    open_gateway: Any, clock: Any
) -> None:
    name = "test_secrets"
    async with open_gateway(database=name, clock=clock, secret_key="first" * 8) as first:
        workspace = await first.workspace()
        by_first = await workspace.token(externalId="u")
        async with open_gateway(database=name, secret_key=()) as none:
            workspace.gateway = none
            answer = await workspace.ask(MAKE, {"i": {"contact": {"externalId": "v"}}})
            assert answer["data"] == {"createContactToken": None}
            assert "set GATEWAY_SECRET_KEY" in answer["errors"][0]["message"]
            assert answer["errors"][0]["extensions"]["retryable"] is False
            assert await contact_of(workspace, externalId="v") is None
            assert (await workspace.post(READS["viewer"], key=by_first)).status_code == 401
        async with open_gateway(database=name, secret_key=f"{'second' * 8},{'first' * 8}") as both:
            workspace.gateway = both
            by_second = await workspace.token(externalId="u")
            for token in (by_first, by_second):
                assert (await workspace.data(READS["viewer"], key=token))["viewer"]["contact"]
        workspace.gateway = first
        assert (await workspace.post(READS["viewer"], key=by_second)).status_code == 401
        clock.ahead = timedelta(hours=1) + LEEWAY
        response = await workspace.post(READS["viewer"], key=by_first)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert "expired" in response.json()["errors"][0]["message"]


async def test_a_token_ends_with_its_contact_and_its_workspace(workspace: Any, people: Any) -> None:
    runtime = workspace.gateway.runtime
    assert (await workspace.post(READS["viewer"], key=people["token"])).status_code == 200
    await runtime.database.delete("contacts", {"_id": people["ada"]})
    response = await workspace.post(READS["viewer"], key=people["token"])
    assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (401, "UNAUTHENTICATED")
    until = datetime.now(UTC) + timedelta(hours=1)
    neighbour = await workspace.gateway.workspace()
    for workspace_id, contact_id in (
        (workspace.id, "con_01JZ0000000000000000000000"),
        ("wsp_01JZ0000000000000000000000", people["bob"]),
        (neighbour.id, people["bob"]),
    ):
        token = runtime.signer.sign(Grant(workspace_id, contact_id, MadeFrom.KNOWN, until), datetime.now(UTC))
        assert (await workspace.post(READS["viewer"], key=token)).status_code == 401
    deleted = await workspace.gateway.workspace()
    token = await deleted.token(externalId="n")
    await runtime.services.store.workspaces.update(deleted.id, {"deleted_at": runtime.clock()})
    response = await deleted.post(READS["viewer"], key=token)
    assert (response.status_code, "was deleted" in response.text) == (401, True)


async def test_garbled_tokens_open_nothing(workspace: Any, people: Any) -> None:
    good = people["token"]
    header, claims, signature = good.split(".")
    bob = (await workspace.token(externalId="bob")).split(".")
    for token in (
        f"{header}.{bob[1]}.{signature}",
        f"{header}.{claims}.",
        f"{header}..{signature}",
        f"{header}.{claims}.{signature[:-2]}",
        f"{header}.{claims}.{signature}.{signature}",
        f"{header}.{claims}",
        f"{header}.{claims * 100}.{signature}",
        "..",
        good.replace(".", "=."),
    ):
        response = await workspace.post(READS["viewer"], key=token)
        assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (401, "UNAUTHENTICATED")
        assert token not in response.text
    for credential in (good[:-3], good.replace(".", "\ud800.", 1), "x" * 5_000, "\ud800"):
        url = workspace.gateway.url.replace("http:", "ws:")
        async with websockets.connect(url, subprotocols=["graphql-transport-ws"]) as connection:  # type: ignore[list-item]
            text = "".join(f"\\u{ord(mark):04x}" for mark in f"Bearer {credential}")
            await connection.send(f'{{"type": "connection_init", "payload": {{"authorization": "{text}"}}}}')
            assert (await Socket(connection).closed())[0] == 4403


async def test_neither_token_nor_secret_is_logged(workspace: Any, people: Any, capsys: Any) -> None:
    capsys.readouterr()
    token = await workspace.token(externalId="ada")
    await workspace.data(READS["viewer"], key=token)
    await workspace.ask(READS["node"], {"id": token}, key=token)
    await workspace.post(READS["viewer"], key=token[:-1])
    written = "".join(capsys.readouterr())
    assert "tok_" + people["ada"][4:] in written
    assert "a secret of the tests" not in written
    for part in token.split("."):
        assert part not in written


# On sockets


async def test_a_token_hears_of_its_own_contact_alone(workspace: Any, people: Any) -> None:
    tracked = "subscription($f: EventStreamFilter, $a: String) { eventTracked(filter: $f, after: $a) { kind event { id contact { id } } summary { count } } }"
    changed = "subscription($f: ContactStreamFilter, $a: String) { contactChanged(filter: $f, after: $a) { kind contactId contact { id name tags } } }"
    cursor = (await workspace.data(READS["streamCursor"], key=people["token"]))["streamCursor"]
    async with opened(workspace, people["token"]) as socket:
        await socket.subscribe("all", tracked, a=cursor)
        await socket.subscribe("bob", tracked, a=cursor, f={"contactId": people["bob"]})
        await socket.subscribe("changes", changed, a=cursor)
        await socket.subscribe("bobs", changed, a=cursor, f={"contactId": people["bob"]})
        await socket.subscribe("lists", "{ contacts(first: 1) { nodes { id } } }")
        refused = await socket.next()
        assert refused["payload"]["errors"][0]["extensions"]["code"] == "FORBIDDEN"
        assert (await socket.next()) == {"id": "lists", "type": "complete"}
        ids = []
        for number in range(3):
            await workspace.track({"contact": {"externalId": "bob"}, "name": "did"})
            await workspace.data(
                f'mutation {{ upsertContact(input: {{externalId: "bob", name: "B{number}"}}) {{ created }} }}'
            )
            ids.append((await track(workspace, people["token"]))["event"]["id"])
        await workspace.data('mutation { upsertContact(input: {externalId: "ada", name: "Ada"}) { created } }')
        messages = [await socket.next() for _ in range(4)]
        assert [message["id"] for message in sorted(messages, key=lambda one: one["id"])] == ["all"] * 3 + ["changes"]
        seen = [message["payload"]["data"]["eventTracked"] for message in messages if message["id"] == "all"]
        assert [found["event"] for found in seen] == [{"id": id_, "contact": {"id": people["ada"]}} for id_ in ids]
        (change,) = (message["payload"] for message in messages if message["id"] == "changes")
        assert change["data"]["contactChanged"] == {
            "kind": "UPDATED",
            "contactId": people["ada"],
            "contact": {"id": people["ada"], "name": "Ada", "tags": None},
        }
        assert [error["extensions"]["code"] for error in change["errors"]] == ["FORBIDDEN"]
        await socket.send(type="ping")
        assert await socket.next() == {"type": "pong"}


async def test_a_visitors_token_hears_nothing_from_when_the_visitor_is_a_user(workspace: Any) -> None:
    token = await workspace.token(anonymousId="v-1")
    visitor = (await contact_of(workspace, anonymousId="v-1"))["id"]
    cursor = (await workspace.data(READS["streamCursor"], key=token))["streamCursor"]
    tracked = "subscription($a: String) { eventTracked(after: $a) { event { id } } }"
    async with opened(workspace, token) as socket:
        await socket.subscribe("1", tracked, a=cursor)
        first = (await track(workspace, token))["event"]["id"]
        assert (await socket.next())["payload"]["data"]["eventTracked"]["event"] == {"id": first}
        await become_user(workspace, visitor)
        await workspace.track({"contact": {"externalId": "u"}, "name": "paid"})
        ended = await socket.next()
        assert (ended["type"], ended["payload"][0]["extensions"]["code"]) == ("error", "FORBIDDEN")
        await socket.subscribe("2", tracked, a=cursor)
        ended = await socket.next()
        assert (ended["id"], ended["type"], ended["payload"][0]["extensions"]["code"]) == ("2", "error", "FORBIDDEN")
        await socket.subscribe("3", READS["contact"], id=visitor)
        assert (await socket.next())["payload"]["data"] == {"contact": None}


async def test_an_expired_token_ends_its_sockets(workspace: Any, people: Any) -> None:
    runtime = workspace.gateway.runtime
    soon = datetime.now(UTC) - LEEWAY + timedelta(seconds=3)
    token = runtime.signer.sign(
        Grant(workspace.id, people["ada"], MadeFrom.KNOWN, soon), datetime.now(UTC) - timedelta(minutes=5)
    )
    async with opened(workspace, token) as socket:
        await socket.subscribe("1", "subscription { eventTracked { event { id } } }")
        code, reason = await socket.closed()
        assert (code, reason.startswith("This token has expired")) == (4401, True)


# Keys of pages


PAGE = "https://app.example.com"


@pytest.fixture(scope="module")
async def page_gateway(open_gateway: Any) -> Any:
    async with open_gateway(allowed_origins=(PAGE,)) as opened_gateway:
        yield opened_gateway


async def test_a_pages_key_tracks_from_allowed_origins_alone(page_gateway: Any) -> None:
    workspace = await page_gateway.workspace()
    key, event = await workspace.key_with(Scope.BROWSER), {"contact": {"anonymousId": "v-1"}, "name": "did"}
    own = page_gateway.url.removesuffix("/graphql")
    for origin in (PAGE, "HTTPS://APP.example.com:443", own):
        done = await track(workspace, key, origin, **event)
        assert done == {"duplicate": False, "event": None, "summary": None, "userErrors": []}
    wrong = (
        None,
        "null",
        "",
        "*",
        "https://evil.example",
        "http://app.example.com",
        "https://app.example.com.evil.example",
        "https://app.example.com:8443",
        own + "0",
        "https://[",
    )
    for origin in wrong:
        assert await code_of(workspace, TRACK, {"i": event}, key=key, origin=origin) == "FORBIDDEN", origin
        assert await code_of(workspace, TRACK_MANY, {"e": [event]}, key=key, origin=origin) == "FORBIDDEN", origin
    found = await workspace.data('{ contact(by: {anonymousId: "v-1"}) { role eventSummary(name: "did") { count } } }')
    assert found == {"contact": {"role": "VISITOR", "eventSummary": {"count": 3}}}
    with_track = await workspace.key_with(Scope.BROWSER, Scope.TRACK)
    assert (await track(workspace, with_track, **event))["userErrors"] == []
    with_read = await workspace.key_with(Scope.BROWSER, Scope.READ)
    assert await code_of(workspace, TRACK, {"i": event}, key=with_read) == "FORBIDDEN"
    assert (await workspace.data('{ contact(by: {anonymousId: "v-1"}) { role } }', key=with_read))["contact"]
    assert (await track(workspace, with_read, PAGE, **event))["summary"] == {"count": 5}
    for url, origin, code in ((page_gateway.url, PAGE, None), (page_gateway.url, None, "FORBIDDEN")):
        assert url
        async with opened(workspace, key, origin=origin) as socket:
            await socket.subscribe("1", TRACK, i=event)
            errors = (await socket.next())["payload"].get("errors")
            assert (errors and errors[0]["extensions"]["code"]) == code


async def test_a_pages_key_reads_nothing(page_gateway: Any) -> None:
    workspace = await page_gateway.workspace()
    key = await workspace.key_with(Scope.BROWSER)
    await track(workspace, key, PAGE, contact={"anonymousId": "v-1"})
    visitor = await contact_of(workspace, anonymousId="v-1")
    for field, query in {**READS, **REFUSED}.items():
        if field != "viewer":
            assert (
                await code_of(
                    workspace,
                    query,
                    {
                        "id": visitor["id"],
                        "event": visitor["id"],
                        "conversation": visitor["id"],
                        "ticket": visitor["id"],
                    },
                    key=key,
                    origin=PAGE,
                )
                == "FORBIDDEN"
            ), field
    assert await workspace.data("{ viewer { scopes contact { id } } }", key=key) == {
        "viewer": {"scopes": ["BROWSER"], "contact": None}
    }


async def test_a_pages_key_reaches_nobody_who_can_be_named(page_gateway: Any) -> None:
    workspace = await page_gateway.workspace()
    key = await workspace.key_with(Scope.BROWSER)
    await workspace.track({"contact": {"externalId": "ada", "email": "ada@example.com"}, "name": "did"})
    ada = (await contact_of(workspace, externalId="ada"))["id"]
    told = []
    for known, unknown in (
        ({"externalId": "ada"}, {"externalId": "nobody"}),
        ({"email": "ada@example.com"}, {"email": "nobody@example.com"}),
        ({"id": ada}, {"id": "con_01JZ0000000000000000000000"}),
        ({"anonymousId": "v-1", "externalId": "ada"}, {"anonymousId": "v-1", "externalId": "nobody"}),
        ({"anonymousId": "v-1", "email": "ada@example.com"}, {"anonymousId": "v-1", "email": "nobody@example.com"}),
    ):
        answers = [await track(workspace, key, PAGE, contact=ref) for ref in (known, unknown)]
        assert answers[0] == answers[1]
        told += [(error["code"], error["path"]) for error in answers[0]["userErrors"]]
    names = ["externalId", "email", "id", "externalId", "email"]
    assert told == [("FORBIDDEN", ["input", "contact", name]) for name in names]
    many = await workspace.data(
        TRACK_MANY,
        {"e": [{"contact": {"externalId": "ada"}, "name": "did"}, {"contact": {"anonymousId": "v-1"}, "name": "did"}]},
        key=key,
        origin=PAGE,
    )
    assert (many["trackEvents"]["accepted"], many["trackEvents"]["rejected"]) == (1, 1)
    found = await workspace.data(
        '{ ada: contact(by: {externalId: "ada"}) { anonymousIds eventSummary(name: "did") { count } } '
        'nobody: contact(by: {externalId: "nobody"}) { id } }'
    )
    assert found == {"ada": {"anonymousIds": [], "eventSummary": {"count": 1}}, "nobody": None}


async def test_a_visitor_who_signed_in_is_tracked_on_and_nothing_tells_so(page_gateway: Any) -> None:
    workspace = await page_gateway.workspace()
    key = await workspace.key_with(Scope.BROWSER)
    before = await track(workspace, key, PAGE, contact={"anonymousId": "v-1"})
    await become_user(workspace, (await contact_of(workspace, anonymousId="v-1"))["id"])
    assert await track(workspace, key, PAGE, contact={"anonymousId": "v-1"}) == before
    found = await workspace.data('{ contact(by: {externalId: "u"}) { eventSummary(name: "did") { count } } }')
    assert found == {"contact": {"eventSummary": {"count": 2}}}


async def test_the_idempotency_keys_of_a_pages_key_are_each_visitors_own(page_gateway: Any) -> None:
    workspace = await page_gateway.workspace()
    key = await workspace.key_with(Scope.BROWSER)
    await workspace.track({"contact": {"externalId": "ada"}, "name": "paid", "idempotencyKey": "order-1"})
    for visitor in ("v-1", "v-2"):
        for duplicate in (False, True):
            done = await track(workspace, key, PAGE, contact={"anonymousId": visitor}, idempotencyKey="order-1")
            assert (done["duplicate"], done["userErrors"]) == (duplicate, [])
    await track(workspace, key, PAGE, contact={"anonymousId": "v-1"}, idempotencyKey="order-2")
    service = {"contact": {"externalId": "ada"}, "name": "paid", "idempotencyKey": "order-2"}
    (taken,) = (await workspace.track(service))["results"]
    assert (taken["duplicate"], taken["error"]) == (False, None)


async def test_any_origin_may_be_allowed(open_gateway: Any) -> None:
    async with open_gateway(allowed_origins=("*",)) as gateway:
        workspace = await gateway.workspace()
        key, event = await workspace.key_with(Scope.BROWSER), {"contact": {"anonymousId": "v-1"}, "name": "did"}
        assert (await track(workspace, key, "https://anywhere.example", **event))["userErrors"] == []
        assert await code_of(workspace, TRACK, {"i": event}, key=key) == "FORBIDDEN"
