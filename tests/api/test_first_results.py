"""What a mutation gives to a token passes by the token's rights as they are now: its subject is hidden between a call and its repetition."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pymongo
import pytest
from pymongo.monitoring import CommandListener
from tickets import REPLY, UPDATE, admin, asked, ticket, type_id

from gateway.core.principals import Scope
from gateway.store import driver
from schema.access import Access
from schema.root import build_schema

SECRET = "Xylophone"  # stands in whatever was written after the subject was hidden
CONVERSATION = """conversation { id title read statistics { partCount } contact { id name } source { body }
  parts(first: 50) { nodes { body author { displayName } } pageInfo { endCursor } } }"""
TICKET = """ticket { id number title description state partCount attributes contact { id name } conversation { id title }
  parts(first: 50) { nodes { body author { displayName } } pageInfo { endCursor } } }"""
PART = "part { id body kind author { displayName } }"
ERRORS = "userErrors { code message path }"


@pytest.fixture
def gateway(still_gateway: Any) -> Any:
    return still_gateway


@dataclass
class World:
    """A contact with what it may act on, and somebody else."""

    workspace: Any
    token: str
    contact: str
    other: str
    type_id: str
    conversation: str
    ticket: str


@dataclass(frozen=True)
class Case:
    """A mutation that tokens may call: its input, what it selects, and which document of its payload must be hidden."""

    input_: Callable[[World], dict[str, Any]]
    selects: str
    subject: str
    keyed: bool = True

    def document(self, name: str) -> str:
        type_ = name[0].upper() + name[1:] + "Input!"
        return f"mutation($i: {type_}) {{ {name}(input: $i) {{ {self.selects} {ERRORS} }} }}"


EVENT = "event { id name metadataJson contact { id name } } summary { count contact { name } } duplicate"
CASES = {
    "trackEvent": Case(lambda _: {"contact": {}, "name": "did", "metadata": {"a": 1}}, EVENT, "event"),
    "trackEvents": Case(
        lambda _: {"events": [{"contact": {}, "name": "did", "idempotencyKey": "k"}]},
        "accepted duplicates results { index duplicate error { code message path } }",
        "results",
        keyed=False,
    ),
    "createConversation": Case(lambda _: {"contact": {}, "body": "Hello"}, CONVERSATION, "conversation"),
    "replyToConversation": Case(
        lambda world: {"conversationId": world.conversation, "body": "Hello"},
        f"{CONVERSATION} {PART}",
        "conversation",
    ),
    "markConversationRead": Case(lambda world: {"id": world.conversation}, CONVERSATION, "conversation", keyed=False),
    "rateConversation": Case(
        lambda world: {"id": world.conversation, "score": 4}, f"{CONVERSATION} {PART}", "conversation", keyed=False
    ),
    "createTicket": Case(
        lambda world: {"contact": {}, "typeId": world.type_id, "title": "Help", "description": "It is broken"},
        TICKET,
        "ticket",
    ),
    "replyToTicket": Case(lambda world: {"ticketId": world.ticket, "body": "Hello"}, f"{TICKET} {PART}", "ticket"),
}


def access_of(name: str) -> Access:
    field = build_schema().core.mutation_type.fields[name]  # type: ignore[union-attr]
    directives = field.extensions["strawberry-definition"].directives
    return next(one for one in directives if isinstance(one, Access))


def test_every_mutation_that_a_contacts_token_or_a_page_may_call_is_in_the_table() -> None:
    names = build_schema().core.mutation_type.fields  # type: ignore[union-attr]
    rights = {name: access_of(name) for name in names}
    assert {name for name, one in rights.items() if one.contact_token or Scope.BROWSER in one.scopes} == set(CASES)


async def world_of(workspace: Any, **ref: str) -> World:
    token = await workspace.token(**ref)
    contact = (await workspace.data("{ viewer { contact { id } } }", key=token))["viewer"]["contact"]["id"]
    await workspace.track({"contact": {"externalId": "other"}, "name": "did"})
    other = (await workspace.data('{ contact(by: {externalId: "other"}) { id } }'))["contact"]["id"]
    bug = await type_id(workspace, attributes=[{"name": "Order", "kind": "STRING"}])
    begin = 'mutation { createConversation(input: {contact: {}, body: "Hi"}) { conversation { id } } }'
    talk = (await workspace.data(begin, key=token))["createConversation"]["conversation"]["id"]
    own = await ticket(workspace, bug, contact={"id": contact}, attributes={"Order": "7"})
    return World(workspace, token, contact, other, bug, talk, own["id"])


async def call(world: World, name: str) -> Any:
    case = CASES[name]
    sent = {**case.input_(world), **({"idempotencyKey": "k"} if case.keyed else {})}
    return await world.workspace.post(case.document(name), {"i": sent}, key=world.token)


async def payload_of(world: World, name: str) -> Any:
    response = await call(world, name)
    assert "errors" not in response.json(), response.text
    return response.json()["data"][name]


async def write_secrets(workspace: Any, **change: Any) -> None:
    """Give all that the workspace holds another owner or other rights, and let it say something new."""
    database = pymongo_database(workspace.gateway)
    for collection, secret in (
        ("conversations", {"title": SECRET, "source.body": SECRET}),
        ("tickets", {"title": SECRET, "description": SECRET, "attributes.Order": SECRET}),
        ("conversation_parts", {"body": SECRET}),
        ("ticket_parts", {"body": SECRET}),
        ("events", {"metadata_json": {"a": SECRET}, "name": SECRET}),
        ("contacts", {"name": SECRET}),
    ):
        values = change if collection != "contacts" else {}
        database[collection].update_many({"workspace_id": workspace.id}, {"$set": {**secret, **values}})


def pymongo_database(gateway: Any) -> Any:
    """The gateway's database, as somebody else writes it."""
    database = gateway.runtime.database._database
    host, port = next(iter(gateway.runtime.database._client.nodes))
    return pymongo.MongoClient(host, port, directConnection=True)[database.name]


@pytest.mark.parametrize("name", CASES)
async def test_what_belongs_to_another_contact_now_is_not_there(workspace: Any, name: str) -> None:
    world = await world_of(workspace, externalId="u")
    first = await payload_of(world, name)
    assert first["userErrors"] == []
    assert first[CASES[name].subject]
    await write_secrets(workspace, contact_id=world.other)
    response = await call(world, name)
    assert SECRET not in response.text
    payload = response.json()["data"][name]
    if name.startswith("trackEvent"):
        assert payload["userErrors"] == []
        assert payload.get("event") is None
        assert payload.get("summary") is None
        return
    path = "idempotencyKey" if CASES[name].keyed else "id"
    assert [(problem["code"], problem["path"]) for problem in payload["userErrors"]] == [("NOT_FOUND", ["input", path])]
    assert {value for key, value in payload.items() if key != "userErrors"} == {None}


@pytest.mark.parametrize("name", CASES)
async def test_a_visitors_token_sees_nothing_once_the_visitor_is_a_user(workspace: Any, name: str) -> None:
    world = await world_of(workspace, anonymousId="v-1")
    assert (await payload_of(world, name))[CASES[name].subject]
    signs_in = 'mutation { identifyContact(input: {anonymousId: "v-1", externalId: "ada"}) { userErrors { code } } }'
    await workspace.data(signs_in)
    await write_secrets(workspace)
    response = await call(world, name)
    assert SECRET not in response.text
    answer = response.json()
    if name.startswith("trackEvent"):
        assert answer["data"][name].get("event") is None
        assert answer["data"][name].get("summary") is None
        return
    assert answer["data"] == {name: None}
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]


@pytest.mark.parametrize("name", CASES)
async def test_the_token_of_an_erased_contact_is_worth_nothing(workspace: Any, name: str) -> None:
    world = await world_of(workspace, externalId="u")
    await payload_of(world, name)
    erase = "mutation($id: ID!) { deleteContact(input: {id: $id}) { userErrors { code } } }"
    await workspace.data(erase, {"id": world.contact})
    assert (await call(world, name)).status_code == 401


@pytest.mark.parametrize("name", ["createTicket", "replyToTicket"])
async def test_a_ticket_that_is_shared_no_more_is_not_there(workspace: Any, name: str) -> None:
    world = await world_of(workspace, externalId="u")
    first = await payload_of(world, name)
    id_ = first["ticket"]["id"]
    await asked(workspace, UPDATE, id=id_, isShared=False, title=SECRET, description=SECRET)
    await asked(workspace, REPLY, ticketId=id_, body=SECRET)
    response = await call(world, name)
    assert SECRET not in response.text
    payload = response.json()["data"][name]
    assert payload["ticket"] is None
    assert payload.get("part") is None
    (problem,) = payload["userErrors"]
    assert (problem["code"], problem["path"]) == ("NOT_FOUND", ["input", "idempotencyKey"])
    erased_alike = await hidden_like_an_erased_one(world, name, id_)
    assert erased_alike == payload
    await asked(workspace, UPDATE, id=id_, isShared=True, title="Again", description="Again")


async def hidden_like_an_erased_one(world: World, name: str, id_: str) -> Any:
    """The payload where the ticket is gone for good, which must be the same."""
    database = pymongo_database(world.workspace.gateway)
    row = database["tickets"].find_one_and_delete({"_id": id_})
    payload = await payload_of(world, name)
    database["tickets"].insert_one(row)
    return payload


async def test_what_is_shared_again_is_given_again(workspace: Any) -> None:
    world = await world_of(workspace, externalId="u")
    first = await payload_of(world, "replyToTicket")
    for shared in (False, True):
        await asked(workspace, UPDATE, id=world.ticket, isShared=shared)
    assert (await payload_of(world, "replyToTicket"))["part"] == first["part"]


async def test_attributes_that_were_hidden_since_are_left_out_of_a_first_answer(workspace: Any) -> None:
    world = await world_of(workspace, externalId="u")
    assert (await payload_of(world, "replyToTicket"))["ticket"]["attributes"] == {"Order": "7"}
    hidden = [{"name": "Order", "kind": "STRING", "visibleToContacts": False}]
    save = "mutation($i: SaveTicketTypeInput!) { saveTicketType(input: $i) { userErrors { code } } }"
    await asked(workspace, save, id=world.type_id, name="Bug", category="CUSTOMER", attributes=hidden)
    assert (await payload_of(world, "replyToTicket"))["ticket"]["attributes"] == {}


async def test_a_contact_that_was_taken_over_repeats_its_calls(workspace: Any) -> None:
    world = await world_of(workspace, anonymousId="v-1")
    world.token = await workspace.token(id=world.contact)
    first = {name: await payload_of(world, name) for name in ("replyToTicket", "replyToConversation")}
    merge = "mutation($f: ID!, $i: ID!) { mergeContacts(input: {from: $f, into: $i}) { userErrors { code } } }"
    merged = await workspace.data(merge, {"f": world.contact, "i": world.other})
    assert merged == {"mergeContacts": {"userErrors": []}}
    for name, payload in first.items():
        again = await payload_of(world, name)
        assert (again["userErrors"], again["part"]["id"]) == ([], payload["part"]["id"])


async def test_a_page_that_repeats_a_call_sees_nothing_of_the_event(workspace: Any) -> None:
    key = await workspace.key_with(Scope.BROWSER)
    sent = {"contact": {"anonymousId": "v-1"}, "name": "did", "idempotencyKey": "k"}
    document = CASES["trackEvent"].document("trackEvent")
    origin = workspace.gateway.url.removesuffix("/graphql")
    for duplicate in (False, True):
        found = await workspace.data(document, {"i": sent}, key=key, origin=origin)
        assert found["trackEvent"] == {"event": None, "summary": None, "duplicate": duplicate, "userErrors": []}


async def test_an_archived_admins_token_repeats_nothing(workspace: Any) -> None:
    world = await world_of(workspace, externalId="u")
    eve = await admin(workspace)
    make = "mutation($a: ID!) { createAdminToken(input: {adminId: $a}) { token } }"
    token = (await workspace.data(make, {"a": eve}))["createAdminToken"]["token"]
    sent = {"ticketId": world.ticket, "body": "Hello", "idempotencyKey": "k"}
    assert (await asked(workspace, REPLY, token, **sent))["part"]["body"] == "Hello"
    save = "mutation($i: SaveAdminInput!) { saveAdmin(input: $i) { userErrors { code } } }"
    await asked(workspace, save, id=eve, name="Eve", email="eve@acme.example", archived=True)
    assert (await workspace.post(REPLY, {"i": sent}, key=token)).status_code == 401


class AtCommit(CommandListener):
    """Does something right after a transaction was stored, before the gateway goes on."""

    def __init__(self) -> None:
        self.action: Callable[[], Any] | None = None

    def started(self, event: Any) -> None:
        """Only what succeeded counts."""

    def succeeded(self, event: Any) -> None:
        if event.command_name == "commitTransaction" and self.action is not None:
            action, self.action = self.action, None
            action()

    def failed(self, event: Any) -> None:
        """Only what succeeded counts."""


@pytest.mark.parametrize("name", ["createTicket", "replyToTicket"])
async def test_a_ticket_that_is_hidden_right_after_the_call_was_stored_is_not_shown(
    open_gateway: Any, name: str
) -> None:
    listener = AtCommit()
    async with open_gateway(rolls_up=False, listener=listener) as gateway:
        workspace = await gateway.workspace()
        world = await world_of(workspace, externalId="u")
        database = pymongo_database(gateway)
        hidden = {"$set": {"is_shared": False, "title": SECRET}, "$inc": {"version": 1}}
        listener.action = lambda: database["tickets"].update_many({}, hidden)
        response = await call(world, name)
        assert listener.action is None
        assert SECRET not in response.text
        assert response.json()["data"][name]["ticket"] is None
        assert response.json()["data"][name]["userErrors"] == []
        assert response.json()["data"][name].get("part") is None


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("name", ["createTicket", "replyToTicket"])
async def test_a_ticket_that_is_hidden_before_the_reply_of_its_commit_arrives_is_not_there(
    workspace: Any, monkeypatch: pytest.MonkeyPatch, name: str, keyed: bool
) -> None:
    world = await world_of(workspace, externalId="u")
    database, commit = pymongo_database(workspace.gateway), driver._commit

    async def lost(session: Any) -> None:
        monkeypatch.undo()
        await commit(session)
        hidden = {"$set": {"is_shared": False, "title": SECRET}, "$inc": {"version": 1}}
        database["tickets"].update_many({"workspace_id": workspace.id}, hidden)
        raise driver.TransientError

    sent = {**CASES[name].input_(world), **({"idempotencyKey": "k"} if keyed else {})}
    monkeypatch.setattr(driver, "_commit", lost)
    response = await workspace.post(CASES[name].document(name), {"i": sent}, key=world.token)
    assert SECRET not in response.text
    payload = response.json()["data"][name]
    assert payload["ticket"] is None
    assert payload.get("part") is None
    own = [] if name == "createTicket" else ["ticketId"]
    path = ["input", "idempotencyKey"] if keyed else ["input", *own]
    assert [(problem["code"], problem["path"]) for problem in payload["userErrors"]] == [("NOT_FOUND", path)]
    stored = database["ticket_parts" if name == "replyToTicket" else "tickets"]
    assert stored.count_documents({"workspace_id": workspace.id}) == (1 if name == "replyToTicket" else 2)
