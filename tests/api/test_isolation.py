"""Rights and walls: every root field, asked by those who may not, and by those who live next door."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from gateways import Gateway, OpenGateway, Workspace
from graphql import ObjectTypeDefinitionNode, parse

from gateway.core.ids import Minter, Prefix
from gateway.core.principals import Scope
from gateway.destinations.klaviyo.backfill import Stage, new_backfill
from gateway.destinations.klaviyo.backfill_repository import Backfills
from gateway.destinations.klaviyo.commands import StartBackfill
from schema.root import build_schema

ROOTS = ("Query", "Mutation")
READ = frozenset({Scope.READ})
TRACK = frozenset({Scope.TRACK})
TRACK_OWN = frozenset({Scope.TRACK, Scope.BROWSER})
ADMIN = frozenset({Scope.ADMIN})
SUPPORT = frozenset({Scope.SUPPORT})
KLAVIYO = frozenset({Scope.KLAVIYO})


@pytest.fixture
def gateway(still_gateway: Gateway) -> Gateway:
    return still_gateway


@dataclass(frozen=True)
class Ids:
    """What there is in the workspace that others ask for."""

    contact: str
    event: str
    summary: str
    definition: str
    viewer: str
    workspace: str
    visitor: str
    admin: str
    team: str
    conversation: str
    part: str
    ticket_type: str
    ticket: str
    ticket_part: str
    segment: str
    rule: str
    klaviyo: str
    backfill: str

    @property
    def all(self) -> list[str]:
        return [
            self.contact,
            self.event,
            self.summary,
            self.definition,
            self.viewer,
            self.workspace,
            self.admin,
            self.team,
            self.conversation,
            self.part,
            self.ticket_type,
            self.ticket,
            self.ticket_part,
            self.segment,
            self.rule,
            self.klaviyo,
            self.backfill,
        ]


@dataclass(frozen=True)
class Case:
    """A minimal valid operation on one root field, and what the neighbour's key gets of it (None: not checked but for errors)."""

    operation: str
    scopes: frozenset[Scope]
    variables: Callable[[Ids], dict[str, Any]]
    neighbour: Callable[[Any, Ids], bool]
    works: bool = True  # whether it does here, where nothing of another house is connected


def refused(found: Any, _: Ids) -> bool:
    return [(problem["code"]) for problem in found["userErrors"]] == ["NOT_FOUND"]


CASES = {
    "Query.node": Case(
        "query($id: ID!) { node(id: $id) { id } }", READ, lambda ids: {"id": ids.event}, lambda found, _: found is None
    ),
    "Query.nodes": Case(
        "query($ids: [ID!]!) { nodes(ids: $ids) { id } }",
        READ,
        lambda ids: {"ids": ids.all},
        lambda found, ids: found == [None] * len(ids.all),
    ),
    "Query.eventDefinitions": Case(
        "{ eventDefinitions { nodes { id } } }", READ, lambda ids: {}, lambda found, _: found == {"nodes": []}
    ),
    "Query.streamCursor": Case("{ streamCursor }", READ, lambda ids: {}, lambda found, _: isinstance(found, str)),
    "Query.viewer": Case(
        "{ viewer { id workspace { id } } }",
        frozenset(Scope),
        lambda _: {},
        lambda found, ids: found["id"] != ids.viewer and found["workspace"]["id"] != ids.workspace,
    ),
    "Query.contact": Case(
        "query($id: ID!) { contact(by: {id: $id}) { id } }",
        READ,
        lambda ids: {"id": ids.contact},
        lambda found, _: found is None,
    ),
    "Query.contacts": Case(
        "{ contacts(first: 5) { nodes { id } } }", READ, lambda _: {}, lambda found, _: found == {"nodes": []}
    ),
    "Query.topContacts": Case(
        '{ topContacts(event: "did") { count contact { id } } }', READ, lambda _: {}, lambda found, _: found == []
    ),
    "Query.segments": Case("{ segments { id } }", READ, lambda _: {}, lambda found, _: found == []),
    "Query.segment": Case(
        "query($id: ID!) { segment(id: $id) { id } }",
        READ,
        lambda ids: {"id": ids.segment},
        lambda found, _: found is None,
    ),
    "Query.event": Case(
        "query($id: ID!) { event(id: $id) { id } }", READ, lambda ids: {"id": ids.event}, lambda found, _: found is None
    ),
    "Query.events": Case(
        "query($c: ID!) { events(first: 5, filter: {contactId: $c}) { nodes { id } } }",
        READ,
        lambda ids: {"c": ids.contact},
        lambda found, _: found == {"nodes": []},
    ),
    "Mutation.trackEvent": Case(
        'mutation($c: ID!) { trackEvent(input: {contact: {id: $c}, name: "did"}) { event { id } userErrors { code } } }',
        TRACK_OWN,
        lambda ids: {"c": ids.contact},
        refused,
    ),
    "Mutation.trackEvents": Case(
        'mutation($c: ID!) { trackEvents(input: {events: [{contact: {id: $c}, name: "did"}]}) { accepted results { eventId error { code } } } }',
        TRACK_OWN,
        lambda ids: {"c": ids.contact},
        lambda found, _: found == {"accepted": 0, "results": [{"eventId": None, "error": {"code": "NOT_FOUND"}}]},
    ),
    "Mutation.importEventSummaries": Case(
        "mutation($c: ID!) { importEventSummaries(input: {contact: {id: $c}, summaries: "
        '[{name: "did", count: 5, firstAt: "2026-01-01T00:00:00Z", lastAt: "2026-02-01T00:00:00Z"}]}) { summaries { id } userErrors { code } } }',
        TRACK,
        lambda ids: {"c": ids.contact},
        refused,
    ),
    "Mutation.describeEvent": Case(
        'mutation { describeEvent(input: {name: "did", description: "changed"}) { definition { id } userErrors { code } } }',
        TRACK,
        lambda _: {},
        lambda found, ids: found["definition"]["id"] != ids.definition and found["userErrors"] == [],
    ),
    "Mutation.upsertContact": Case(
        'mutation($c: ID!) { upsertContact(input: {id: $c, name: "Changed"}) { contact { id } created userErrors { code } } }',
        TRACK,
        lambda ids: {"c": ids.contact},
        refused,
    ),
    "Mutation.tagContact": Case(
        'mutation($c: ID!) { tagContact(input: {contactId: $c, tags: ["a"]}) { contact { id } userErrors { code } } }',
        TRACK,
        lambda ids: {"c": ids.contact},
        refused,
    ),
    "Mutation.untagContact": Case(
        'mutation($c: ID!) { untagContact(input: {contactId: $c, tags: ["a"]}) { contact { id } userErrors { code } } }',
        TRACK,
        lambda ids: {"c": ids.contact},
        refused,
    ),
    "Mutation.identifyContact": Case(
        'mutation { identifyContact(input: {anonymousId: "a", externalId: "u"}) { contact { id } merged userErrors { code } } }',
        TRACK,
        lambda _: {},
        lambda found, ids: found["contact"]["id"] != ids.contact and not found["userErrors"],
    ),
    "Mutation.mergeContacts": Case(
        "mutation($f: ID!, $i: ID!) { mergeContacts(input: {from: $f, into: $i}) { contact { id } movedEvents userErrors { code } } }",
        ADMIN,
        lambda ids: {"f": ids.visitor, "i": ids.contact},
        refused,
    ),
    "Mutation.deleteContact": Case(
        "mutation($c: ID!) { deleteContact(input: {id: $c}) { deletedId userErrors { code } } }",
        ADMIN,
        lambda ids: {"c": ids.contact},
        refused,
    ),
    "Query.admins": Case(
        "{ admins(first: 5) { nodes { id } } }", READ, lambda _: {}, lambda found, _: found == {"nodes": []}
    ),
    "Query.teams": Case("{ teams { id admins { id } } }", READ, lambda _: {}, lambda found, _: found == []),
    "Query.ticketTypes": Case(
        "{ ticketTypes { id attributes { name } } }", READ, lambda _: {}, lambda found, _: found == []
    ),
    "Mutation.saveTicketType": Case(
        'mutation($t: ID!) { saveTicketType(input: {id: $t, name: "Changed", category: CUSTOMER}) { ticketType { id } userErrors { code } } }',
        ADMIN,
        lambda ids: {"t": ids.ticket_type},
        refused,
    ),
    "Mutation.saveAdmin": Case(
        'mutation($a: ID!) { saveAdmin(input: {id: $a, name: "Changed", email: "eve@acme.example"}) { admin { id } userErrors { code } } }',
        ADMIN,
        lambda ids: {"a": ids.admin},
        refused,
    ),
    "Mutation.saveTeam": Case(
        'mutation($t: ID!, $a: ID!) { saveTeam(input: {id: $t, name: "Changed", adminIds: [$a]}) { team { id } userErrors { code } } }',
        ADMIN,
        lambda ids: {"t": ids.team, "a": ids.admin},
        refused,
    ),
    "Query.messageRules": Case("{ messageRules { id } }", READ, lambda _: {}, lambda found, _: found == []),
    "Mutation.saveMessageRule": Case(
        'mutation($r: ID!) { saveMessageRule(input: {id: $r, name: "Changed", event: "did", trigger: {everyTime: true}, body: "x"}) '
        "{ messageRule { id } userErrors { code } } }",
        ADMIN,
        lambda ids: {"r": ids.rule},
        refused,
    ),
    "Mutation.deleteMessageRule": Case(
        "mutation($r: ID!) { deleteMessageRule(input: {id: $r}) { deletedId userErrors { code } } }",
        ADMIN,
        lambda ids: {"r": ids.rule},
        refused,
    ),
    "Mutation.previewMessageRule": Case(
        'mutation($c: ID!) { previewMessageRule(input: {contactId: $c, body: "{{ contact.displayName }}"}) { body userErrors { code } } }',
        ADMIN,
        lambda ids: {"c": ids.contact},
        refused,
    ),
    "Mutation.sendMessage": Case(
        'mutation($s: ID!) { sendMessage(input: {segmentId: $s, body: "x"}) { recipients userErrors { code } } }',
        ADMIN,
        lambda ids: {"s": ids.segment},
        refused,
    ),
    "Mutation.createAdminToken": Case(
        "mutation($a: ID!) { createAdminToken(input: {adminId: $a}) { token userErrors { code } } }",
        ADMIN,
        lambda ids: {"a": ids.admin},
        refused,
    ),
    "Query.ticket": Case(
        "query($id: ID!) { ticket(by: {id: $id}) { id parts { nodes { id } } } }",
        READ,
        lambda ids: {"id": ids.ticket},
        lambda found, _: found is None,
    ),
    "Query.tickets": Case(
        "{ tickets(first: 5) { nodes { id } } }", READ, lambda _: {}, lambda found, _: found == {"nodes": []}
    ),
    "Mutation.createTicket": Case(
        'mutation($c: ID!, $t: ID!) { createTicket(input: {contact: {id: $c}, typeId: $t, title: "A"}) { ticket { id } userErrors { code } } }',
        SUPPORT,
        lambda ids: {"c": ids.contact, "t": ids.ticket_type},
        refused,
    ),
    "Mutation.convertToTicket": Case(
        'mutation($c: ID!, $t: ID!) { convertToTicket(input: {conversationId: $c, typeId: $t, title: "A"}) { ticket { id } userErrors { code } } }',
        SUPPORT,
        lambda ids: {"c": ids.conversation, "t": ids.ticket_type},
        refused,
    ),
    "Mutation.replyToTicket": Case(
        'mutation($id: ID!) { replyToTicket(input: {ticketId: $id, body: "Hello"}) { ticket { id } userErrors { code } } }',
        SUPPORT,
        lambda ids: {"id": ids.ticket},
        refused,
    ),
    **{
        f"Mutation.{name}": Case(
            f"mutation($id: ID!) {{ {name}(input: {{id: $id, {more}}}) {{ ticket {{ id }} userErrors {{ code }} }} }}",
            SUPPORT,
            lambda ids: {"id": ids.ticket},
            refused,
        )
        for name, more in (
            ("setTicketState", "state: RESOLVED"),
            ("assignTicket", "assigneeId: null"),
            ("updateTicket", 'title: "Changed"'),
        )
    },
    "Query.conversations": Case(
        "{ conversations(first: 5) { nodes { id } } }", READ, lambda _: {}, lambda found, _: found == {"nodes": []}
    ),
    "Query.conversation": Case(
        "query($id: ID!) { conversation(id: $id) { id parts { nodes { id } } } }",
        READ,
        lambda ids: {"id": ids.conversation},
        lambda found, _: found is None,
    ),
    "Mutation.createConversation": Case(
        'mutation($c: ID!) { createConversation(input: {contact: {id: $c}, body: "Hello"}) { conversation { id } userErrors { code } } }',
        SUPPORT,
        lambda ids: {"c": ids.contact},
        refused,
    ),
    "Mutation.replyToConversation": Case(
        'mutation($id: ID!) { replyToConversation(input: {conversationId: $id, body: "Hello"}) { conversation { id } userErrors { code } } }',
        SUPPORT,
        lambda ids: {"id": ids.conversation},
        refused,
    ),
    **{
        f"Mutation.{name}": Case(
            f"mutation($id: ID!) {{ {name}(input: {{id: $id{more}}}) {{ conversation {{ id }} userErrors {{ code }} }} }}",
            SUPPORT,
            lambda ids: {"id": ids.conversation},
            refused,
        )
        for name, more in (
            ("assignConversation", ", teamId: null"),
            ("snoozeConversation", ', until: "2030-01-01T00:00:00Z"'),
            ("closeConversation", ""),
            ("reopenConversation", ""),
            ("markConversationRead", ""),
            ("rateConversation", ", score: 5"),
            ("updateConversation", ', title: "Changed"'),
            ("applySla", ', name: "Gold", nextReplyMinutes: 5'),
        )
    },
    "Query.klaviyo": Case(
        "{ klaviyo { id deliveries { nodes { id } } } }",
        KLAVIYO,
        lambda _: {},
        lambda found, ids: found["id"] != ids.klaviyo and found["deliveries"] == {"nodes": []},
    ),
    "Mutation.connectKlaviyo": Case(
        'mutation { connectKlaviyo(input: {apiKey: "pk_1234567890"}) { klaviyo { id } userErrors { code } } }',
        KLAVIYO,
        lambda _: {},
        lambda found, _: [problem["code"] for problem in found["userErrors"]] == ["INVALID"],
        works=False,
    ),
    "Mutation.disconnectKlaviyo": Case(
        "mutation { disconnectKlaviyo { klaviyo { id mode } userErrors { code } } }",
        KLAVIYO,
        lambda _: {},
        lambda found, ids: found["klaviyo"]["id"] != ids.klaviyo,
    ),
    **{
        f"Mutation.{call.partition('(')[0]}": Case(
            f"mutation {{ {call} {{ klaviyo {{ id }} userErrors {{ code }} }} }}",
            KLAVIYO,
            lambda _: {},
            lambda found, _: [problem["code"] for problem in found["userErrors"]] == ["ILLEGAL_TRANSITION"],
            works=False,
        )
        for call in ('pauseKlaviyo(input: {reason: "holiday"})', "resumeKlaviyo")
    },
    "Mutation.replayDeliveries": Case(
        "mutation($c: ID!) { replayDeliveries(input: {filter: {contactId: $c}}) { replayed userErrors { code } } }",
        KLAVIYO,
        lambda ids: {"c": ids.contact},
        lambda found, _: found == {"replayed": 0, "userErrors": []},
    ),
    "Mutation.syncContact": Case(
        "mutation($c: ID!) { syncContact(input: {id: $c}) { klaviyo { state } userErrors { code } } }",
        KLAVIYO,
        lambda ids: {"c": ids.contact},
        lambda found, _: [problem["code"] for problem in found["userErrors"]] == ["ILLEGAL_TRANSITION"],
        works=False,
    ),
    "Mutation.startKlaviyoBackfill": Case(
        "mutation { startKlaviyoBackfill(input: {}) { backfill { id } userErrors { code } } }",
        KLAVIYO,
        lambda _: {},
        lambda found, _: [problem["code"] for problem in found["userErrors"]] == ["ILLEGAL_TRANSITION"],
        works=False,
    ),
    **{
        f"Mutation.{name}KlaviyoBackfill": Case(
            f"mutation($i: ID!) {{ {name}KlaviyoBackfill(input: {{id: $i}}) {{ backfill {{ id }} userErrors {{ code }} }} }}",
            KLAVIYO,
            lambda ids: {"i": ids.backfill},
            lambda found, _: found["userErrors"][0]["code"] in ("NOT_FOUND", "ILLEGAL_TRANSITION"),
            works=name != "resume",  # nothing is connected
        )
        for name in ("pause", "resume", "cancel")
    },
    "Mutation.saveSegment": Case(
        'mutation($s: ID!) { saveSegment(input: {id: $s, name: "Changed", filter: {}}) { segment { id } userErrors { code } } }',
        ADMIN,
        lambda ids: {"s": ids.segment},
        refused,
    ),
    "Mutation.deleteSegment": Case(
        "mutation($s: ID!) { deleteSegment(input: {id: $s}) { deletedId userErrors { code } } }",
        ADMIN,
        lambda ids: {"s": ids.segment},
        refused,
    ),
    "Mutation.createContactToken": Case(
        "mutation($c: ID!) { createContactToken(input: {contact: {id: $c}}) { token userErrors { code } } }",
        ADMIN,
        lambda ids: {"c": ids.contact},
        refused,
    ),
}


def root_fields() -> dict[str, frozenset[str] | None]:
    """Each root field of the exported schema, with the scopes of its @access; None where it has none."""
    found: dict[str, frozenset[str] | None] = {}
    for node in parse(build_schema().as_str()).definitions:
        if isinstance(node, ObjectTypeDefinitionNode) and node.name.value in ROOTS:
            for field in node.fields:
                access = next((item for item in field.directives if item.name.value == "access"), None)
                scopes = None
                if access is not None:
                    given = {argument.name.value: argument.value for argument in access.arguments}
                    scopes = (
                        frozenset(value.value for value in given["scopes"].values)
                        if "scopes" in given
                        else frozenset({"READ"})
                    )  # type: ignore[attr-defined]
                found[f"{node.name.value}.{field.name.value}"] = scopes
    return found


async def documents(workspace: Workspace) -> dict[str, list[Any]]:
    """All that is stored of a workspace, by collection; when a key was last used is left out."""
    database = workspace.gateway.runtime.database
    found = {}
    for name in await database._database.list_collection_names():
        rows = await database.find(name, {"workspace_id": workspace.id})
        found[name] = sorted(
            ({k: v for k, v in row.items() if k != "last_used_at"} for row in rows), key=lambda row: str(row["_id"])
        )
    return {name: rows for name, rows in found.items() if rows}  # others may be the first to use a collection


@pytest.fixture
async def ids(workspace: Workspace) -> Ids:
    """One of everything in the workspace."""
    return await one_of_everything(workspace)


@dataclass(frozen=True)
class Sealed:
    """A workspace that nobody changes: what is in it, and keys by the scopes that they have or lack."""

    workspace: Workspace
    ids: Ids
    having: dict[frozenset[Scope], str]
    lacking: dict[frozenset[Scope], str]
    before: dict[str, list[Any]]

    async def check_unchanged(self) -> None:
        assert await documents(self.workspace) == self.before


@pytest.fixture(scope="module")
async def sealed(open_gateway: OpenGateway) -> AsyncIterator[Sealed]:
    async with open_gateway(rolls_up=False) as gateway:
        workspace = await gateway.workspace()
        ids = await one_of_everything(workspace)
        scopes = {case.scopes for case in CASES.values()}
        having = {some: await workspace.key_with(Scope.READ, *some) for some in scopes}
        lacking = {some: await workspace.key_with(*(set(Scope) - some)) for some in scopes}
        yield Sealed(workspace, ids, having, lacking, await documents(workspace))


async def one_of_everything(workspace: Workspace) -> Ids:
    await workspace.track(*({"contact": who, "name": "did"} for who in ({"externalId": "u"}, {"anonymousId": "v"})))
    visitor = await workspace.data('{ contact(by: {anonymousId: "v"}) { id } }')
    found = await workspace.data(
        '{ viewer { id } klaviyo { id } contact(by: {externalId: "u"}) { id eventSummary(name: "did") { id } events(first: 1) { nodes { id definition { id } } } } }'
    )
    (event,) = found["contact"]["events"]["nodes"]
    admin = await workspace.data(
        'mutation { saveAdmin(input: {name: "Eve", email: "eve@acme.example"}) { admin { id } } }'
    )
    admin_id = admin["saveAdmin"]["admin"]["id"]
    team = await workspace.data(
        'mutation($a: ID!) { saveTeam(input: {name: "Support", adminIds: [$a]}) { team { id } } }', {"a": admin_id}
    )
    conversation = await workspace.data(
        'mutation($c: ID!) { createConversation(input: {contact: {id: $c}, body: "Hello"}) { conversation { id } } }',
        {"c": found["contact"]["id"]},
    )
    conversation_id = conversation["createConversation"]["conversation"]["id"]
    closed = await workspace.data(
        "mutation($id: ID!) { closeConversation(input: {id: $id}) { part { id } } }", {"id": conversation_id}
    )
    ticket_type = await workspace.data(
        'mutation { saveTicketType(input: {name: "Bug", category: CUSTOMER}) { ticketType { id } } }'
    )
    type_id = ticket_type["saveTicketType"]["ticketType"]["id"]
    ticket = await workspace.data(
        'mutation($c: ID!, $t: ID!) { createTicket(input: {contact: {id: $c}, typeId: $t, title: "A"}) { ticket { id } } }',
        {"c": found["contact"]["id"], "t": type_id},
    )
    ticket_id = ticket["createTicket"]["ticket"]["id"]
    replied = await workspace.data(
        'mutation($id: ID!) { replyToTicket(input: {ticketId: $id, body: "Hello"}) { part { id } } }', {"id": ticket_id}
    )
    saved = await workspace.data(
        'mutation { saveSegment(input: {name: "S", filter: {event: {name: "did"}}}) { segment { id } } }'
    )
    segment_id = saved["saveSegment"]["segment"]["id"]
    await workspace.store.database.update("segments", {"_id": segment_id}, {"$set": {"complete": True}})
    rule = await workspace.data(
        'mutation { saveMessageRule(input: {name: "R", event: "other", trigger: {everyTime: true}, body: "x"}) { messageRule { id } } }'
    )
    return Ids(
        found["contact"]["id"],
        event["id"],
        found["contact"]["eventSummary"]["id"],
        event["definition"]["id"],
        found["viewer"]["id"],
        workspace.id,
        visitor["contact"]["id"],
        admin_id,
        team["saveTeam"]["team"]["id"],
        conversation_id,
        closed["closeConversation"]["part"]["id"],
        type_id,
        ticket_id,
        replied["replyToTicket"]["part"]["id"],
        segment_id,
        rule["saveMessageRule"]["messageRule"]["id"],
        found["klaviyo"]["id"],
        await _backfill(workspace),
    )


async def _backfill(workspace: Workspace) -> str:
    """The id of a backfill of the workspace, which was connected when it began."""
    services = workspace.gateway.runtime.services
    now = services.clock()
    backfill = new_backfill(Minter().mint(Prefix.BACKFILL, now), workspace.id, StartBackfill(), list(Stage), now)
    await services.store.open(workspace.id).repository(Backfills).insert(backfill, None)
    return str(backfill["_id"])


def test_every_root_field_states_its_access_and_stands_in_this_table() -> None:
    assert root_fields() == {name: frozenset(scope.value for scope in case.scopes) for name, case in CASES.items()}


async def check_works(workspace: Workspace, ids: Ids, field: str, key: str) -> None:
    case = CASES[field]
    found = (await workspace.data(case.operation, case.variables(ids), key=key))[field.split(".")[1]]
    assert found
    assert not (case.works and found.get("userErrors")) if isinstance(found, dict) else all(found[:4])


@pytest.mark.parametrize("field", [field for field in CASES if field.startswith("Query.")])
async def test_each_query_of_this_table_works_for_whoever_may(sealed: Sealed, field: str) -> None:
    await check_works(sealed.workspace, sealed.ids, field, sealed.having[CASES[field].scopes])
    await sealed.check_unchanged()


@pytest.mark.parametrize("field", [field for field in CASES if field.startswith("Mutation.")])
async def test_each_mutation_of_this_table_works_for_whoever_may(workspace: Workspace, ids: Ids, field: str) -> None:
    await check_works(workspace, ids, field, await workspace.key_with(Scope.READ, *CASES[field].scopes))


@pytest.mark.parametrize("field", CASES)
async def test_nobody_without_a_key(sealed: Sealed, field: str) -> None:
    response = await sealed.workspace.post(CASES[field].operation, CASES[field].variables(sealed.ids), key="")
    answer = response.json()
    assert (response.status_code, "data" in answer) == (401, False)
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]
    await sealed.check_unchanged()


@pytest.mark.parametrize("field", CASES)
async def test_nobody_with_a_nonsense_key(sealed: Sealed, field: str) -> None:
    workspace = sealed.workspace
    for key in (
        "nonsense",
        workspace.key[:-1] + ("A" if workspace.key[-1] != "A" else "B"),
        workspace.key.partition(".")[0],
        "key_" + "0" * 26 + ".x",
    ):
        response = await workspace.post(CASES[field].operation, CASES[field].variables(sealed.ids), key=key)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        answer = response.json()
        assert answer.get("data") is None
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]
        assert answer["errors"][0]["extensions"]["requestId"] == response.headers["x-request-id"]
    await sealed.check_unchanged()


@pytest.mark.parametrize("field", CASES)
async def test_nobody_who_lacks_the_scope(sealed: Sealed, field: str) -> None:
    key = sealed.lacking[CASES[field].scopes]
    answer = await sealed.workspace.ask(CASES[field].operation, CASES[field].variables(sealed.ids), key=key)
    assert answer["data"] == {field.split(".")[1]: None}
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]
    assert answer["errors"][0]["path"] == [field.split(".")[1]]
    await sealed.check_unchanged()


@pytest.mark.parametrize("field", CASES)
async def test_neighbours_see_and_change_nothing(sealed: Sealed, field: str) -> None:
    neighbour = await sealed.workspace.gateway.workspace()
    data = await neighbour.data(CASES[field].operation, CASES[field].variables(sealed.ids))
    found = data[field.split(".")[1]]
    assert CASES[field].neighbour(found, sealed.ids), found
    await sealed.check_unchanged()


async def test_node_finds_each_of_ones_own_and_none_of_the_neighbours(workspace: Workspace, ids: Ids) -> None:
    neighbour = await workspace.gateway.workspace()
    node = "query($id: ID!) { node(id: $id) { __typename id } }"
    types = [
        "Contact",
        "Event",
        "EventSummary",
        "EventDefinition",
        "Viewer",
        "Workspace",
        "Admin",
        "Team",
        "Conversation",
        "ConversationPart",
        "TicketType",
        "Ticket",
        "TicketPart",
        "Segment",
        "MessageRule",
        "KlaviyoSync",
        "KlaviyoBackfill",
    ]
    for id_, type_ in zip(ids.all, types, strict=True):
        assert await workspace.data(node, {"id": id_}) == {"node": {"__typename": type_, "id": id_}}
        assert await workspace.data(node, {"id": id_}, key=neighbour.key) == {"node": None}
    nodes = await workspace.data(
        "query($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": [*ids.all[::-1], "x", ids.event]}
    )
    assert [found and found["id"] for found in nodes["nodes"]] == [*ids.all[::-1], None, ids.event]


async def test_the_same_keys_mean_other_contacts_next_door(workspace: Workspace, ids: Ids) -> None:
    neighbour = await workspace.gateway.workspace()
    event = {"contact": {"externalId": "u"}, "name": "did", "idempotencyKey": "k"}
    (here,) = (await workspace.track(event))["results"]
    (there,) = (await neighbour.track(event))["results"]
    assert not here["duplicate"]
    assert not there["duplicate"]
    assert here["eventId"] != there["eventId"]
    counts = [
        (await each.data('{ contact(by: {externalId: "u"}) { id eventSummary(name: "did") { count } } }'))["contact"]
        for each in (workspace, neighbour)
    ]
    assert [found["eventSummary"]["count"] for found in counts] == [2, 1]
    assert counts[0]["id"] == ids.contact != counts[1]["id"]


async def test_cursors_do_not_cross_the_wall(workspace: Workspace, ids: Ids) -> None:
    neighbour = await workspace.gateway.workspace()
    await neighbour.track({"contact": {"externalId": "n"}, "name": "did"})
    for field in ("events", "contacts", "conversations", "tickets"):
        cursor = (await workspace.data(f"{{ {field}(first: 1) {{ pageInfo {{ endCursor }} }} }}"))[field]["pageInfo"][
            "endCursor"
        ]
        answer = await neighbour.ask(
            f"query($c: String) {{ {field}(first: 1, after: $c) {{ nodes {{ id }} }} }}", {"c": cursor}
        )
        assert answer["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_a_revoked_key_opens_nothing(workspace: Workspace) -> None:
    workspaces = workspace.gateway.runtime.workspaces
    row, key = await workspaces.create_key(workspace.id, list(Scope))
    await workspaces.revoke_key(workspace.id, row["_id"])
    assert (await workspace.post("{ viewer { id } }", key=key)).status_code == 401


async def test_any_scope_lets_one_ask_who_one_is(workspace: Workspace) -> None:
    for scope in Scope:
        viewer = await workspace.data("{ viewer { scopes workspace { id } } }", key=await workspace.key_with(scope))
        assert viewer == {"viewer": {"scopes": [scope.value], "workspace": {"id": workspace.id}}}
