"""What a nested page costs: a fixed number of reads, whatever its rows and whatever is stored."""

from datetime import timedelta
from typing import Any

import pytest
from tickets import ticket, type_id

from gateway.core.clock import system_clock

PAGE = """{ contacts(first: 50) { nodes { externalId
  events(first: 10) { nodes { id contact { externalId } definition { name } } }
  eventSummaries(first: 10) { nodes { name count } }
  eventSummary(name: "did 1") { count } } } }"""
# A page of contacts that is not full looks through five windows of time, the newest first. Below it one read a field and
# level: events, eventSummaries, eventSummary; Event.contact, Event.definition.
READS = [*["find"] * 5, *["aggregate"] * 2, *["find"] * 3]


@pytest.fixture
def gateway(still_gateway: Any) -> Any:
    return still_gateway


async def filled(gateway: Any, contacts: int, events_each: int) -> Any:
    workspace = await gateway.workspace()
    now = system_clock() - timedelta(hours=1)
    events = [
        {
            "contact": {"externalId": f"u{number:02}"},
            "name": f"did {place % 3}",
            "occurredAt": (now - timedelta(minutes=place)).isoformat(),
        }
        for place in range(events_each)
        for number in range(contacts)
    ]
    for start in range(0, len(events), 1000):
        assert (await workspace.track(*events[start : start + 1000]))["rejected"] == 0
    return workspace


async def reads(workspace: Any, query: str, variables: dict[str, Any] | None = None) -> tuple[list[str], Any]:
    await workspace.data("{ viewer { id } }")  # the key is remembered from here on
    workspace.gateway.commands.names.clear()
    data = await workspace.data(query, variables)
    return list(workspace.gateway.commands.reads), data


@pytest.mark.parametrize(("contacts", "events_each"), [(5, 10), (5, 100), (50, 10), (50, 100)])
async def test_a_nested_page_costs_the_same_whatever_its_rows_and_whatever_is_stored(
    gateway: Any, contacts: int, events_each: int
) -> None:
    workspace = await filled(gateway, contacts, events_each)
    found, data = await reads(workspace, PAGE)
    nodes = data["contacts"]["nodes"]
    assert len(nodes) == contacts
    for contact in nodes:
        assert [event["contact"]["externalId"] for event in contact["events"]["nodes"]] == [contact["externalId"]] * 10
        assert [summary["name"] for summary in contact["eventSummaries"]["nodes"]] == ["did 0", "did 1", "did 2"]
        assert contact["eventSummary"] == {"count": contact["eventSummaries"]["nodes"][1]["count"]}
    assert sorted(found) == sorted(READS)


@pytest.mark.parametrize("contacts", [5, 50])
async def test_summaries_of_given_names_cost_one_read_for_the_whole_level(gateway: Any, contacts: int) -> None:
    workspace = await filled(gateway, contacts, 3)
    found, data = await reads(
        workspace,
        '{ contacts(first: 50) { nodes { eventSummaries(names: ["did 0", "did 1", "did 2"]) { nodes { count } } } } }',
    )
    assert [contact["eventSummaries"]["nodes"] for contact in data["contacts"]["nodes"]] == [
        [{"count": 1}] * 3
    ] * contacts
    assert found == ["find"] * 6


@pytest.mark.parametrize("contacts", [5, 50])
async def test_what_belongs_to_summaries_costs_one_read_a_field(gateway: Any, contacts: int) -> None:
    workspace = await filled(gateway, contacts, 3)
    found, _ = await reads(
        workspace, "{ contacts(first: 50) { nodes { eventSummaries { nodes { contact { id } definition { id } } } } } }"
    )
    assert sorted(found) == sorted([*["find"] * 5, "aggregate", *["find"] * 2])


@pytest.mark.parametrize("stored", [5, 400])
async def test_root_fields_cost_what_they_show(gateway: Any, stored: int) -> None:
    workspace = await filled(gateway, 5, stored // 5)
    (event,) = (await workspace.data("{ events(first: 1) { nodes { id contact { id } } } }"))["events"]["nodes"]
    id_ = {"id": event["id"]}
    for query, variables, expected in (
        ("query($id: ID!) { event(id: $id) { id } }", id_, 1),
        ("query($id: ID!) { node(id: $id) { id } }", id_, 1),
        ("query($id: ID!) { event(id: $id) { id contact { id } definition { id } } }", id_, 3),
        ('{ contact(by: {externalId: "u01"}) { id } }', None, 1),
        (
            '{ contact(by: {externalId: "u01"}) { eventSummary(name: "did 0") { count } events(first: 1) { nodes { id } } } }',
            None,
            3,
        ),
        ("{ viewer { id scopes } }", None, 0),
        ("{ viewer { workspace { name } } }", None, 1),
        ("{ __typename }", None, 0),
    ):
        found, _ = await reads(workspace, query, variables)
        assert len(found) == expected, (query, found)


async def test_a_page_of_events_stops_at_the_window_that_fills_it(gateway: Any) -> None:
    workspace = await filled(gateway, 5, 80)
    found, data = await reads(workspace, "{ events(first: 100) { nodes { id contact { id } definition { id } } } }")
    assert len(data["events"]["nodes"]) == 100
    assert found == ["find"] * (
        3 + 2
    )  # the last minute, the last half-hour, the last half-day; then contacts and definitions


@pytest.mark.parametrize("count", [1, 100])
async def test_tracking_many_costs_as_many_commands_as_tracking_one(gateway: Any, count: int) -> None:
    workspace = await filled(gateway, 5, 1)
    names = gateway.commands.names
    event = {"contact": {"externalId": "u01"}, "name": "did 0"}
    await workspace.track(*[event] * 2)
    names.clear()
    await workspace.track(*[event] * count)
    assert sorted(names) == ["commitTransaction", "find", "insert", "update", "update"]


SELECTED = (
    "contacts",
    "events",
    "event_definitions",
    "event_summaries",
    "conversations",
    "conversation_parts",
    "tickets",
    "ticket_parts",
    "deliveries",
)


def read_of(commands: list[dict[str, Any]]) -> dict[str, set[str] | None]:
    """Which fields were read of documents that operations select from, by collection; None: whole documents."""
    found: dict[str, set[str] | None] = {}
    for command in commands:
        pipeline = command.get("pipeline", [])
        lookups = [stage["$lookup"] for stage in pipeline if "$lookup" in stage]
        for name, projection in [
            (command.get("find"), command.get("projection")),
            *(
                (one["from"], next((at["$project"] for at in one["pipeline"] if "$project" in at), None))
                for one in lookups
            ),
        ]:
            if name in SELECTED:
                found[name] = None if projection is None else set(projection)
    return found


NAMED = {"name", "first_name", "last_name", "email", "external_id", "role"}
FOR_EVENTS = {"_id", "contact_ids", "signed_up_at"}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("{ contacts { nodes { id } totalCount } }", {"contacts": {"_id"}}),
        ("{ contacts { edges { node { displayName } } } }", {"contacts": {"_id"} | NAMED}),
        ("{ contacts { nodes { segments { id } } } }", {"contacts": {"_id"}}),
        ("{ contacts(sort: {key: UPDATED_AT, direction: DESC}) { nodes { id } } }", {"contacts": None}),
        (
            "{ contacts { nodes { anonymousIds events { nodes { at: occurredAt } } } } }",
            {"contacts": FOR_EVENTS | {"anonymous_ids"}, "events": {"_id", "occurred_at"}},
        ),
        ('{ contact(by: {externalId: "u01"}) { ...on Contact { phone } } }', {"contacts": {"_id", "phone"}}),
        (
            '{ contact(by: {externalId: "u01"}) { phone eventSummary(name: "did 1") { contact { email } } } }',
            {
                "contacts": {"_id", "workspace_id", "phone", "email"},
                "event_summaries": {"_id", "contact_id"},
            },
        ),
        ("{ events { nodes { metadataJson } } }", {"events": {"_id", "metadata_json"}}),
        (
            "{ events { nodes { definition { count } } } }",
            {"events": {"_id", "name"}, "event_definitions": {"_id", "name", "count"}},
        ),
        (
            "{ events { nodes { metadata { key } contact { createdAt } } } }",
            {"contacts": {"_id", "created_at"}, "events": {"_id", "contact_id", "metadata"}},
        ),
        ('{ events(filter: {metadata: [{key: "a", boolean: true}]}) { nodes { id } } }', {"events": None}),
        (
            "{ contacts { nodes { eventSummaries { nodes { lastAt } } } } }",
            {"contacts": {"_id"}, "event_summaries": {"_id", "name", "last_at"}},
        ),
        (
            '{ contacts { nodes { eventSummaries(names: ["did 1"]) { nodes { lastAt } } } } }',
            {"contacts": {"_id"}, "event_summaries": {"_id", "last_at"}},
        ),
        (
            '{ contact(by: {externalId: "u01"}) { eventSummaries { nodes { values { count } } } } }',
            {"contacts": {"_id"}, "event_summaries": {"_id", "name"}, "event_definitions": None},
        ),
        (
            "{ contacts { nodes { klaviyo { state } } } }",
            {"contacts": {"_id", "contact_ids"}, "deliveries": {"_id", "state"}},
        ),
        (
            "{ contacts { nodes { klaviyo { deliveries { nodes { nextAttemptAt } } } } } }",
            {
                "contacts": {"_id", "contact_ids"},
                "deliveries": {"_id", "state", "next_attempt_at"},
            },
        ),
        (
            '{ contact(by: {externalId: "u01"}) { klaviyo { deliveries { nodes { id } } lastSyncedAt } } }',
            {"contacts": {"_id", "contact_ids"}, "deliveries": {"_id", "delivered_at"}},
        ),
        (
            "{ events { nodes { klaviyo { attemptCount } } } }",
            {"events": {"_id"}, "deliveries": {"_id", "subject_id", "attempt_count"}},
        ),
        ("{ klaviyo { deliveries { nodes { payload } } } }", {"deliveries": {"_id", "payload"}}),
        (
            "{ klaviyo { deliveries(filter: {state: DEAD}) { nodes { contact { email } } } } }",
            {"deliveries": {"_id", "contact_id"}},
        ),
        ("{ klaviyo { deliveries(filter: {kind: EVENT}) { nodes { id } } } }", {"deliveries": None}),
        (
            '{ topContacts(event: "did 1") { lastAt summary { firstAt } } }',
            {"event_summaries": {"_id", "contact_id", "count", "last_at", "first_at"}},
        ),
    ],
)
async def test_only_what_is_selected_is_read(gateway: Any, query: str, wanted: dict[str, Any]) -> None:
    workspace = await filled(gateway, 3, 3)
    await workspace.data("{ viewer { id } }")
    gateway.commands.finds.clear()
    await workspace.data(query)
    assert read_of(gateway.commands.finds) == wanted


BEGIN = "mutation($i: CreateConversationInput!) { createConversation(input: $i) { conversation { id } } }"


@pytest.fixture
async def desk(gateway: Any) -> Any:
    """A workspace of three contacts, each with a conversation and a ticket."""
    workspace = await filled(gateway, 3, 1)
    bug = await type_id(workspace)
    for number in range(3):
        contact = {"externalId": f"u{number:02}"}
        await workspace.data(BEGIN, {"i": {"contact": contact, "body": "It is broken"}})
        await ticket(workspace, bug, contact=contact)
    return workspace


@pytest.mark.parametrize(
    ("query", "collection", "wanted"),
    [
        (
            "{ conversations { nodes { parts { nodes { createdAt } } } } }",
            "conversation_parts",
            {"_id", "created_at"},
        ),
        (
            "{ conversations(first: 1) { nodes { parts { edges { cursor node { kind author { displayName } } } } } } }",
            "conversation_parts",
            {"_id", "kind", "author"},
        ),
        (
            "{ tickets { nodes { parts { nodes { toState snoozedUntil } } } } }",
            "ticket_parts",
            {"_id", "to_state", "snoozed_until"},
        ),
        ("{ conversations { nodes { read } } }", "conversations", {"_id", "read", "read_by_contact"}),
        ("{ conversations { nodes { tags klaviyo { state } } } }", "conversations", {"_id", "tags", "contact_id"}),
        (
            "{ conversations(sort: {key: UPDATED_AT, direction: ASC}) { nodes { statistics { partCount } } } }",
            "conversations",
            {"_id", "updated_key", "statistics"},
        ),
        ("{ conversations(filter: {priority: NONE}) { nodes { id } } }", "conversations", None),
        (
            "{ contacts { nodes { conversations { nodes { title parts { nodes { id } } } } } } }",
            "conversations",
            {"_id", "title"},
        ),
        (
            "{ contacts { nodes { conversations(sort: {key: UPDATED_AT, direction: ASC}) { nodes { id } } } } }",
            "conversations",
            None,
        ),
        ("{ tickets { nodes { conversation { title } } } }", "tickets", {"_id", "conversation_id"}),
        (
            "{ tickets(sort: {key: NUMBER, direction: ASC}) { nodes { partCount } } }",
            "tickets",
            {"_id", "number_key", "statistics"},
        ),
        ("{ tickets(filter: {isShared: true}) { nodes { id } } }", "tickets", None),
        ("{ ticket(by: {number: 1}) { type { name } attributes } }", "tickets", {"_id", "type_id", "attributes"}),
        (
            "{ contacts { nodes { tickets(sort: {key: NUMBER, direction: ASC}) { nodes { createdAt } } } } }",
            "tickets",
            {"_id", "number_key", "created_at"},
        ),
    ],
)
async def test_of_the_desk_only_what_is_selected_is_read(
    gateway: Any, desk: Any, query: str, collection: str, wanted: Any
) -> None:
    await desk.data("{ viewer { id } }")
    gateway.commands.finds.clear()
    await desk.data(query)
    assert read_of(gateway.commands.finds)[collection] == wanted


async def test_of_what_a_token_sees_only_what_is_selected_is_read(gateway: Any, desk: Any) -> None:
    begun = await desk.data("{ conversations { nodes { id contact { externalId } } } }")
    (own,) = [row["id"] for row in begun["conversations"]["nodes"] if row["contact"]["externalId"] == "u01"]
    (other,) = [row["id"] for row in begun["conversations"]["nodes"] if row["contact"]["externalId"] == "u02"]
    token = await desk.token(externalId="u01")
    query = (
        "query($own: ID!, $other: ID!) { a: conversation(id: $own) { state } b: conversation(id: $other) { state } }"
    )
    gateway.commands.finds.clear()
    assert await desk.data(query, {"own": own, "other": other}, key=token) == {"a": {"state": "OPEN"}, "b": None}
    assert read_of(gateway.commands.finds)["conversations"] == {"_id", "contact_id", "state"}
    gateway.commands.finds.clear()
    seen = await desk.data("{ a: ticket(by: {number: 2}) { title } b: ticket(by: {number: 3}) { title } }", key=token)
    assert seen == {"a": {"title": "It is broken"}, "b": None}
    assert read_of(gateway.commands.finds)["tickets"] == {"_id", "contact_id", "category", "is_shared", "title"}


async def test_whoever_is_asked_for_twice_is_read_once(gateway: Any) -> None:
    workspace = await filled(gateway, 2, 1)
    query = """query($one: String!) { a: contact(by: {externalId: "u00"}) { email } b: contact(by: {externalId: $one}) { externalId }
      c: contact(by: {externalId: "u01"}) { externalId } d: contact(by: {externalId: "nobody"}) { id } }"""
    found, data = await reads(workspace, query, {"one": "u00"})
    assert data == {"a": {"email": None}, "b": {"externalId": "u00"}, "c": {"externalId": "u01"}, "d": None}
    assert found == ["find"] * 3


@pytest.mark.parametrize(
    "query",
    [
        "{ events { nodes { definition { count contactCount } } } }",
        "{ eventDefinitions { nodes { count contactCount } } }",
    ],
)
async def test_definitions_are_read_without_the_keys_that_nobody_asks_for(gateway: Any, query: str) -> None:
    workspace = await filled(gateway, 1, 1)
    await workspace.data("{ viewer { id } }")
    gateway.commands.finds.clear()
    await workspace.data(query)
    assert read_of(gateway.commands.finds)["event_definitions"] == {"_id", "name", "count", "contact_count"}
