"""Message rules through the API: what sets them off and what does not, who gets what, once."""

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import orjson
import pytest
import websockets
from gateways import Gateway, Workspace

from gateway.domain.events.events import track_event
from gateway.domain.filters.segments import member_of

SAVE = """mutation($i: SaveMessageRuleInput!) { saveMessageRule(input: $i) { messageRule { id name enabled event trigger n
  segment { id } audience metadata subject body sentCount maxPerContact createdAt } userErrors { code message path } } }"""
DELETE = "mutation($id: ID!) { deleteMessageRule(input: {id: $id}) { deletedId userErrors { code message path } } }"
RULES = "{ messageRules { id name sentCount } }"
PREVIEW = """mutation($i: PreviewMessageRuleInput!) { previewMessageRule(input: $i) { subject body wouldSend
  userErrors { code message path } } }"""
SEND = "mutation($i: SendMessageInput!) { sendMessage(input: $i) { recipients userErrors { code message path } } }"
INBOX = """query($by: ContactKey!) { contact(by: $by) { conversations(first: 100, sort: {key: CREATED_AT, direction: ASC})
  { nodes { state read contact { id } source { channel deliveredAs subject body author { __typename displayName } }
  statistics { partCount } } } } }"""
SEGMENT = (
    "mutation($i: SaveSegmentInput!) { saveSegment(input: $i) { segment { id } userErrors { code message path } } }"
)
UPSERT = (
    "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { contact { id } userErrors { code message path } } }"
)
MERGE = (
    "mutation($f: ID!, $i: ID!) { mergeContacts(input: {from: $f, into: $i}) { contact { id } userErrors { code } } }"
)
IMPORT = "mutation($i: ImportEventSummariesInput!) { importEventSummaries(input: $i) { userErrors { code message } } }"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
async def gateway(open_gateway: Any, clock: Any) -> Any:
    async with open_gateway(clock=clock, rolls_up=False) as opened:
        yield opened


@pytest.fixture
async def still_workspace(still_gateway: Gateway) -> Workspace:
    """A workspace of the session, for rules that send nothing."""
    return await still_gateway.workspace()


@pytest.fixture(params=["secantusd-py", "secantusd-rs"])
async def open_on_both(request: Any, open_gateway: Any, mongo: str, rust_mongo: str) -> Any:
    """Opens a gateway on each embedded server in turn."""
    uri = mongo if request.param == "secantusd-py" else rust_mongo
    if not uri:
        pytest.skip("left out: the Rust server is not beside this checkout")
    return partial(open_gateway, uri=uri)


@pytest.fixture
async def on_both(open_on_both: Any, clock: Any) -> Any:
    """A workspace on each embedded server in turn, whose time a test moves."""
    async with open_on_both(clock=clock, rolls_up=False) as opened:
        yield await opened.workspace()


async def save(workspace: Any, **values: Any) -> dict[str, Any]:
    """The rule as it was saved."""
    rule = {"name": "a rule", "trigger": {"everyTime": True}, "body": "{{ event.name }} {{ event.count }}", **values}
    payload = (await workspace.data(SAVE, {"i": rule}))["saveMessageRule"]
    assert payload["userErrors"] == [], payload
    return dict(payload["messageRule"])


async def refusal(workspace: Any, query: str, **values: Any) -> tuple[str, list[str], str]:
    """Code, path and message of the one problem with that input."""
    (payload,) = (await workspace.data(query, {"i": values})).values()
    (problem,) = payload["userErrors"]
    assert problem["path"][0] == "input"
    return problem["code"], problem["path"][1:], problem["message"]


def did(name: str = "did", contact: str = "ada", **values: Any) -> dict[str, Any]:
    return {"contact": {"externalId": contact}, "name": name, **values}


async def fire(workspace: Any) -> int:
    """Do all that is due now; how much that was."""
    return int(await workspace.gateway.runtime.services.timers.fire_due())


async def bodies(workspace: Any, contact: str = "ada", *, fires: bool = True) -> list[str]:
    """The bodies of what was sent to that contact, in order."""
    if fires:
        await fire(workspace)
    return [node["source"]["body"] for node in await inbox(workspace, contact)]


async def inbox(workspace: Any, contact: str = "ada") -> list[dict[str, Any]]:
    found = (await workspace.data(INBOX, {"by": {"externalId": contact}}))["contact"]
    return [] if found is None else list(found["conversations"]["nodes"])


async def contact_id(workspace: Any, **by: str) -> str:
    found = await workspace.data("query($by: ContactKey!) { contact(by: $by) { id } }", {"by": by})
    return str(found["contact"]["id"])


async def import_counts(workspace: Any, count: int, name: str = "did", contact: str = "ada") -> None:
    line = {"name": name, "count": count, "firstAt": "2025-01-01T00:00:00Z", "lastAt": "2025-02-01T00:00:00Z"}
    payload = await workspace.data(IMPORT, {"i": {"contact": {"externalId": contact}, "summaries": [line]}})
    assert payload["importEventSummaries"]["userErrors"] == []


async def test_a_message_is_an_automated_conversation(workspace: Any) -> None:
    rule = await save(workspace, event="did", subject="About {{ event.name }}", body="Hi {{ contact.displayName }}!")
    await workspace.track(did())
    assert await fire(workspace) == 1
    assert await inbox(workspace) == [
        {
            "state": "OPEN",
            "read": False,
            "contact": {"id": await contact_id(workspace, externalId="ada")},
            "source": {
                "channel": "CHAT",
                "deliveredAs": "AUTOMATED",
                "subject": "About did",
                "body": "Hi ada!",
                "author": {"__typename": "Automation", "displayName": "Automation"},
            },
            "statistics": {"partCount": 0},
        }
    ]
    assert (await workspace.data(RULES))["messageRules"] == [{"id": rule["id"], "name": "a rule", "sentCount": 1}]


async def test_a_rule_is_saved_changed_and_deleted(workspace: Any) -> None:
    audience = {"and": [{"email": {"endsWith": "@a.example"}}, {"createdAt": {"after": "2026-01-02T03:04:05Z"}}]}
    metadata = [{"key": "plan", "string": {"eq": "pro"}}]
    rule = await save(
        workspace, event="did", trigger={"nthTime": 5}, audience=audience, metadata=metadata, maxPerContact=2
    )
    assert {name: value for name, value in rule.items() if name not in ("id", "createdAt")} == {
        "name": "a rule",
        "enabled": True,
        "event": "did",
        "trigger": "NTH_TIME",
        "n": 5,
        "segment": None,
        "audience": {
            "and": [{"email": {"endsWith": "@a.example"}}, {"createdAt": {"after": "2026-01-02T03:04:05.000Z"}}]
        },
        "metadata": metadata,
        "subject": None,
        "body": "{{ event.name }} {{ event.count }}",
        "sentCount": 0,
        "maxPerContact": 2,
    }
    node = "query($id: ID!) { node(id: $id) { __typename id ... on MessageRule { name } } }"
    assert (await workspace.data(node, {"id": rule["id"]}))["node"] == {
        "__typename": "MessageRule",
        "id": rule["id"],
        "name": "a rule",
    }
    changed = await save(
        workspace, id=rule["id"], name="b", enabled=False, trigger={"minutesSinceLast": 90}, maxPerContact=None
    )
    expected = {"name": "b", "enabled": False, "trigger": "MINUTES_SINCE_LAST", "n": 90, "maxPerContact": None}
    assert changed == {**rule, **expected}
    assert (await workspace.data(DELETE, {"id": rule["id"]}))["deleteMessageRule"] == {
        "deletedId": rule["id"],
        "userErrors": [],
    }
    assert (await workspace.data(RULES))["messageRules"] == []
    again = (await workspace.data(DELETE, {"id": rule["id"]}))["deleteMessageRule"]["userErrors"]
    assert [(one["code"], one["path"]) for one in again] == [("NOT_FOUND", ["input", "id"])]


@pytest.mark.parametrize(
    ("values", "code", "path", "message"),
    [
        ({"name": " "}, "INVALID", ["name"], "The name must not be empty."),
        (
            {"id": "rul_x"},
            "NOT_FOUND",
            ["id"],
            "There is no message rule with the id 'rul_x': it was deleted or never existed.",
        ),
        ({"event": None}, "INVALID", ["event"], "The trigger needs an event name: give event."),
        (
            {"event": "x" * 201},
            "LIMIT_EXCEEDED",
            ["event"],
            "The event's name has 201 characters; the limit is 200.",
        ),
        (
            {"trigger": {"firstTime": False}},
            "INVALID",
            ["trigger", "firstTime"],
            "firstTime must be true: leave it out, and give another trigger.",
        ),
        ({"trigger": {"nthTime": 0}}, "INVALID", ["trigger", "nthTime"], "nthTime must be from 1 to 1000000, not 0."),
        (
            {"trigger": {"daysSinceLast": 3651}},
            "INVALID",
            ["trigger", "daysSinceLast"],
            "daysSinceLast must be from 1 to 3650, not 3651.",
        ),
        (
            {"trigger": {"minutesSinceLast": -1}},
            "INVALID",
            ["trigger", "minutesSinceLast"],
            "minutesSinceLast must be from 1 to 525600, not -1.",
        ),
        (
            {"trigger": {"enteredSegment": "seg_x"}},
            "INVALID",
            ["event"],
            "The trigger enteredSegment has no event: leave event out, or choose another trigger.",
        ),
        (
            {"trigger": {"enteredSegment": "seg_x"}, "event": None, "body": "x"},
            "NOT_FOUND",
            ["trigger", "enteredSegment"],
            "There is no segment with the id 'seg_x': it was deleted or never existed.",
        ),
        (
            {"trigger": {"enteredSegment": "seg_x"}, "event": None},
            "INVALID",
            ["body"],
            "The body is invalid in line 1: 'event' is unknown here: this message has no event.",
        ),
        (
            {"audience": {"segment": "seg_x"}},
            "NOT_FOUND",
            ["audience"],
            "There is no segment with the id 'seg_x': it was deleted or never existed.",
        ),
        (
            {"audience": {"event": {"name": "x", "never": True, "count": {"gt": 1}}}},
            "INVALID",
            ["audience"],
            "audience.event.never cannot be combined with count: remove one of them.",
        ),
        (
            {"maxPerContact": 0},
            "INVALID",
            ["maxPerContact"],
            "maxPerContact must be 1 or more, not 0: leave it out for no limit.",
        ),
        (
            {"body": "a\n{{ contact.nam }}"},
            "INVALID",
            ["body"],
            "The body is invalid in line 2: 'contact.nam' is unknown: did you mean 'contact.name'?",
        ),
        (
            {"subject": "{{ x | nope }}"},
            "INVALID",
            ["subject"],
            "The subject is invalid in line 1: unknown filter 'nope'.",
        ),
        ({"body": ""}, "INVALID", ["body"], "The body must not be empty."),
    ],
)
async def test_what_is_wrong_with_a_rule_is_told_and_nothing_is_saved(
    still_workspace: Workspace, values: dict[str, Any], code: str, path: list[str], message: str
) -> None:
    workspace = still_workspace
    rule = {"name": "a", "event": "did", "trigger": {"everyTime": True}, "body": "{{ event.name }}", **values}
    assert await refusal(workspace, SAVE, **rule) == (code, path, message)
    assert (await workspace.data(RULES))["messageRules"] == []


async def test_a_workspace_has_a_hundred_rules_at_most(still_workspace: Workspace) -> None:
    workspace = still_workspace
    first = [(await save(workspace, name=f"rule {number}", event="did"))["id"] for number in range(99)]
    both = await asyncio.gather(
        *(
            workspace.data(SAVE, {"i": {"name": "x", "event": "did", "trigger": {"everyTime": True}, "body": "x"}})
            for _ in "ab"
        )
    )
    codes = sorted(str([one["code"] for one in data["saveMessageRule"]["userErrors"]]) for data in both)
    assert codes == ["['LIMIT_EXCEEDED']", "[]"]
    assert len((await workspace.data(RULES))["messageRules"]) == 100
    await save(workspace, id=first[0], event="did", name="renamed")


async def test_the_first_time_fires_once_and_not_for_whoever_did_it_before(on_both: Any) -> None:
    await on_both.track(did(contact="bob"))
    await import_counts(on_both, 3, contact="eve")
    await save(on_both, event="did", trigger={"firstTime": True})
    await on_both.track(did(), did(), did(contact="bob"), did(contact="eve"))
    await on_both.track(did())
    assert await bodies(on_both) == ["did 1"]
    assert await bodies(on_both, "bob") == []
    assert await bodies(on_both, "eve") == []


async def test_every_time_fires_for_each_event_and_never_for_one_twice(on_both: Any) -> None:
    await save(on_both, event="did")
    await on_both.track(did(idempotencyKey="a"), did(idempotencyKey="b"), did("other"))
    await on_both.track(did(idempotencyKey="a"), did(idempotencyKey="c"))
    assert sorted(await bodies(on_both)) == ["did 1", "did 2", "did 3"]
    assert await fire(on_both) == 0
    assert [rule["sentCount"] for rule in (await on_both.data(RULES))["messageRules"]] == [3]


async def test_the_nth_time_is_reached_once(workspace: Any) -> None:
    await save(workspace, event="did", trigger={"nthTime": 3})
    for expected in ([], [], ["did 3"], ["did 3"], ["did 3"]):
        await workspace.track(did())
        assert await bodies(workspace) == expected


async def test_the_nth_time_is_exact_when_many_track_at_once(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    await save(workspace, event="did", trigger={"nthTime": 7})
    await asyncio.gather(*(workspace.track(did(), did()) for _ in range(8)))
    async with asyncio.timeout(30):
        while not await bodies(workspace, fires=False):
            await asyncio.sleep(0.1)
    assert await bodies(workspace) == ["did 7"]
    assert [rule["sentCount"] for rule in (await workspace.data(RULES))["messageRules"]] == [1]


async def test_the_nth_time_that_is_jumped_over_fires_on_the_next_event(workspace: Any) -> None:
    await import_counts(workspace, 9, contact="bob")
    await workspace.track(*(did(contact="eve") for _ in range(6)))
    await save(workspace, event="did", trigger={"nthTime": 5})
    await workspace.track(did())
    await import_counts(workspace, 7)
    assert await bodies(workspace) == []
    await workspace.track(did(), did(), did(contact="bob"), did(contact="eve"))
    assert await bodies(workspace) == ["did 9"]
    assert await bodies(workspace, "bob") == []
    assert await bodies(workspace, "eve") == []
    await workspace.track(did(), did(contact="bob"), did(contact="eve"))
    assert [await bodies(workspace, who) for who in ("ada", "bob", "eve")] == [["did 9"], [], []]


async def test_metadata_decides_which_events_count(workspace: Any) -> None:
    pro = [{"key": "plan", "string": {"eq": "pro"}}]
    said = {"first": {"firstTime": True}, "second": {"nthTime": 2}, "every": {"everyTime": True}}
    for name, trigger in said.items():
        await save(workspace, event="did", trigger=trigger, metadata=pro, body=f"{name} {{{{ event.metadata.n }}}}")
    plans = ["free", "pro", "free", "pro", "pro"]
    await workspace.track(*(did(metadata={"plan": plan, "n": n}) for n, plan in enumerate(plans[:3])))
    await workspace.track(*(did(metadata={"plan": plan, "n": n}) for n, plan in enumerate(plans[3:], 3)))
    assert sorted(await bodies(workspace)) == ["every 1", "every 3", "every 4", "first 1", "second 3"]


async def test_what_is_imported_or_told_late_sets_nothing_off(workspace: Any) -> None:
    for trigger in ({"firstTime": True}, {"everyTime": True}, {"nthTime": 2}, {"minutesSinceLast": 1}):
        await save(workspace, event="did", trigger=trigger)
    services = workspace.gateway.runtime.services
    now = services.clock()
    sent = {"contact": {"external_id": "ada"}, "name": "did", "occurred_at": now}
    command = track_event(sent, services.settings, now)
    imported = type(command)(**{name: getattr(command, name) for name in command.__slots__} | {"imported": True})
    await services.events.track(workspace.id, [imported, imported])
    late = (now - timedelta(minutes=6)).isoformat()
    await workspace.track(did(occurredAt=late), did(contact="bob", occurredAt=late))
    await import_counts(workspace, 50)
    workspace.gateway.runtime.clock.ahead = DAY
    assert await fire(workspace) == 0
    assert (await bodies(workspace), await bodies(workspace, "bob")) == ([], [])
    just_now = (services.clock() - timedelta(minutes=4)).isoformat()
    await workspace.track(did(contact="bob", occurredAt=just_now))
    assert await bodies(workspace, "bob") == ["did 2"] * 3


async def test_days_since_the_last_time(on_both: Any, clock: Any) -> None:
    await save(on_both, event="did", trigger={"daysSinceLast": 3}, body="last: {{ event.metadata.n }}")
    await on_both.track(did(metadata={"n": 1}))
    clock.ahead = 2 * DAY
    await on_both.track(did(metadata={"n": 2}))
    clock.ahead = 3 * DAY + HOUR
    assert await bodies(on_both) == []
    clock.ahead = 5 * DAY - timedelta(minutes=1)
    assert await bodies(on_both) == []
    clock.ahead = 5 * DAY + timedelta(seconds=30)
    assert await bodies(on_both) == ["last: 2"]
    clock.ahead = 60 * DAY
    assert await bodies(on_both) == ["last: 2"]
    await on_both.track(did(metadata={"n": 3}))
    clock.ahead = 300 * DAY  # nobody ran at its time
    assert await bodies(on_both) == ["last: 2", "last: 3"]


async def test_a_message_changes_nothing_that_could_set_one_off(workspace: Any) -> None:
    """So no rule loops: what filters, counts and segments read is the same after a message as before it."""
    await save(workspace, event="did", body="x")
    await workspace.track(did())
    reads = ("contacts", "events", "event_summaries", "segment_members", "segment_reviews")

    async def seen() -> Any:
        found = [await workspace.gateway.runtime.database.find(name, {}) for name in reads]
        return [[{name: value for name, value in row.items() if name != "version"} for row in rows] for rows in found]

    before = await seen()
    assert [len(rows) for rows in before[:3]] == [1, 1, 1]
    assert await bodies(workspace) == ["x"]
    assert await seen() == before
    assert await workspace.store.timers._find({}) == []


async def test_the_cart_that_was_left(workspace: Any, clock: Any) -> None:
    left = {"event": {"name": "filled cart", "notFollowedBy": "placed order"}}
    await save(workspace, event="filled cart", trigger={"minutesSinceLast": 60}, audience=left, body="Still there?")
    await workspace.track(did("filled cart"), did("filled cart", "bob"))
    clock.ahead = timedelta(minutes=30)
    await workspace.track(did("placed order", "bob"))
    clock.ahead = timedelta(minutes=61)
    assert await bodies(workspace) == ["Still there?"]
    assert await bodies(workspace, "bob") == []


async def test_an_import_of_something_newer_moves_what_waits(workspace: Any, clock: Any) -> None:
    await save(workspace, event="did", trigger={"daysSinceLast": 2})
    await workspace.track(did())
    clock.ahead = DAY + HOUR
    await workspace.track(did(occurredAt=(workspace.gateway.runtime.clock() - HOUR).isoformat()))
    clock.ahead = 2 * DAY + HOUR
    assert await bodies(workspace) == []
    clock.ahead = 3 * DAY + HOUR
    assert await bodies(workspace) == ["did 2"]


async def test_the_audience_is_asked_when_the_message_is_due(workspace: Any) -> None:
    await save(workspace, event="did", audience={"email": {"endsWith": "@acme.example"}})
    await workspace.data(UPSERT, {"i": {"externalId": "ada", "email": "ada@acme.example"}})
    await workspace.track(did(), did(contact="bob"))
    await workspace.data(UPSERT, {"i": {"externalId": "eve"}})
    assert await bodies(workspace) == ["did 1"]
    assert await bodies(workspace, "bob") == []


async def test_no_contact_gets_more_than_the_cap(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    await save(workspace, event="did", maxPerContact=2)
    await workspace.track(*(did() for _ in range(5)), did(contact="bob"))
    timers = each_gateway.runtime.services.timers
    await asyncio.gather(*(timers.fire_due() for _ in range(3)))
    async with asyncio.timeout(30):
        while await workspace.store.timers._find({}):
            await asyncio.sleep(0.1)
    assert len(await bodies(workspace, fires=False)) == 2
    assert len(await bodies(workspace, "bob", fires=False)) == 1
    assert [rule["sentCount"] for rule in (await workspace.data(RULES))["messageRules"]] == [3]


async def test_rules_that_are_off_or_gone_send_nothing_more(workspace: Any) -> None:
    off = await save(workspace, event="did", body="off")
    gone = await save(workspace, event="did", body="gone")
    await workspace.track(did())
    await save(workspace, id=off["id"], body="off", enabled=False)
    await workspace.data(DELETE, {"id": gone["id"]})
    await workspace.track(did())
    assert await bodies(workspace) == []
    assert await workspace.store.timers._find({"kind": "message"}) == []
    await save(workspace, id=off["id"], body="on")
    await workspace.track(did())
    assert await bodies(workspace) == ["on"]


async def test_a_rule_that_is_gone_leaves_no_memory_of_anybody(workspace: Any, clock: Any) -> None:
    rule = await save(workspace, event="did", trigger={"nthTime": 1})
    await workspace.track(did())
    assert await bodies(workspace) == ["did 1"]
    assert len(await workspace.store.rule_states._find({})) == 2
    await workspace.data(DELETE, {"id": rule["id"]})
    clock.ahead = timedelta(minutes=1)
    assert await fire(workspace) == 1
    for repository in (workspace.store.rule_states, workspace.store.sent_counts, workspace.store.timers):
        assert await repository._find({}) == []


async def test_firings_follow_a_merge_and_vanish_with_the_contact(workspace: Any, clock: Any) -> None:
    await save(workspace, event="did", trigger={"minutesSinceLast": 10}, body="hello")
    await workspace.track(did(), {**did(), "contact": {"anonymousId": "v"}}, did(contact="bob"))
    ada, visitor = await contact_id(workspace, externalId="ada"), await contact_id(workspace, anonymousId="v")
    await workspace.data(MERGE, {"f": visitor, "i": ada})
    bob = await contact_id(workspace, externalId="bob")
    await workspace.data("mutation($id: ID!) { deleteContact(input: {id: $id}) { deletedId } }", {"id": bob})
    clock.ahead = timedelta(minutes=11)
    assert await bodies(workspace) == ["hello"]
    assert await bodies(workspace) == ["hello"]
    assert await workspace.store.timers._find({}) == []
    assert await workspace.store.rule_states._find({"contact_id": bob}) == []


async def test_a_message_that_says_nothing_or_cannot_be_written_is_not_sent(workspace: Any) -> None:
    await save(workspace, event="did", body="{% if event.metadata.x %}x{% endif %}")
    await save(workspace, event="did", body="{{ event.count | divided_by: event.metadata.zero }}")
    await save(workspace, event="did", body="good")
    await workspace.track(did(metadata={"zero": 0}))
    assert await bodies(workspace) == ["good"]
    assert await workspace.store.timers._find({}) == []


async def test_preview_sends_nothing(workspace: Any) -> None:
    for plan in ("pro", "max"):
        await workspace.track(did(metadata={"plan": plan}))
    ada = await contact_id(workspace, externalId="ada")

    async def preview(**values: Any) -> dict[str, Any]:
        payload = (await workspace.data(PREVIEW, {"i": {"contactId": ada, **values}}))["previewMessageRule"]
        assert payload.pop("userErrors") == []
        return dict(payload)

    text = "{{ contact.displayName }} {{ event.metadata.plan }} {{ event.count }}"
    shown = {"subject": "did!", "body": "ada max 2", "wouldSend": True}
    assert await preview(event="did", subject="{{ event.name }}!", body=text) == shown
    plan = [{"key": "plan", "string": {"eq": "pro"}}]
    assert await preview(event="did", body="x", metadata=plan) == {"subject": None, "body": "x", "wouldSend": False}
    nobody = {"email": {"known": True}}
    assert await preview(event="did", body="x", audience=nobody) == {"subject": None, "body": "x", "wouldSend": False}
    assert await preview(event="never", body=text) == {"subject": None, "body": "ada", "wouldSend": False}
    assert await preview(body="{{ contact.phone }}") == {"subject": None, "body": "", "wouldSend": False}
    assert await preview(body="hi") == {"subject": None, "body": "hi", "wouldSend": True}
    assert await inbox(workspace) == []
    assert await refusal(workspace, PREVIEW, contactId="con_x", body="x") == (
        "NOT_FOUND",
        ["contactId"],
        "There is no contact with the id 'con_x': it was deleted or never existed.",
    )
    assert await refusal(workspace, PREVIEW, contactId=ada, body="{{ event.name }}") == (
        "INVALID",
        ["body"],
        "The body is invalid in line 1: 'event' is unknown here: this message has no event.",
    )
    assert await refusal(workspace, PREVIEW, contactId=ada, body="{{ 1 | divided_by: 0 }}") == (
        "INVALID",
        ["body"],
        "The body cannot be rendered for this contact: divided_by: can't divide by 0.",
    )


async def test_tracking_without_rules_reads_them_once_a_second_at_most(workspace: Any) -> None:
    await save(workspace, event="other")
    await workspace.track(did())
    commands = workspace.gateway.commands
    commands.finds.clear()
    for _ in range(5):
        await workspace.track(did())
    assert sum(find.get("find") == "message_rules" for find in commands.finds) <= 2
    assert {find.get("find") for find in commands.finds} <= {"message_rules", "contacts"}
    assert await workspace.store.timers._find({}) == []


async def members(workspace: Any, count: int, **filter_: Any) -> str:
    """A segment of that many contacts, all of whom are known."""
    payload = (await workspace.data(SEGMENT, {"i": {"name": "those", "filter": filter_}}))["saveSegment"]
    assert payload["userErrors"] == [], payload
    segment_id = str(payload["segment"]["id"])
    async with asyncio.timeout(60):
        while True:
            (row,) = (await workspace.store.segments.by_ids([segment_id])).values()
            if row["complete"] and await workspace.store.members.count(segment_id, 10_000) == count:
                return segment_id
            await asyncio.sleep(0.05)


@pytest.fixture
async def living(open_gateway: Any) -> Any:
    """A workspace of a gateway that keeps segments and fires timers by itself."""
    async with open_gateway() as opened:
        yield await opened.workspace()


@pytest.fixture
async def living_on_both(open_on_both: Any) -> Any:
    """Such a workspace on each embedded server in turn."""
    async with open_on_both() as opened:
        yield await opened.workspace()


async def until_sent(workspace: Any, contact: str, wanted: list[str]) -> None:
    async with asyncio.timeout(30):
        while await bodies(workspace, contact, fires=False) != wanted:
            await asyncio.sleep(0.05)


async def test_entering_a_segment_sets_a_message_off(living_on_both: Any) -> None:
    await living_on_both.data(UPSERT, {"i": {"externalId": "old", "tags": ["vip"]}})
    segment_id = await members(living_on_both, 1, tag={"eq": "vip"})
    rule = await save(living_on_both, trigger={"enteredSegment": segment_id}, body="Welcome {{ contact.externalId }}")
    assert (rule["trigger"], rule["event"], rule["segment"]) == ("ENTERED_SEGMENT", None, {"id": segment_id})
    await living_on_both.data(UPSERT, {"i": {"externalId": "new", "tags": ["vip"]}})
    await until_sent(living_on_both, "new", ["Welcome new"])
    await living_on_both.data(UPSERT, {"i": {"externalId": "new", "tags": []}})
    async with asyncio.timeout(30):
        while await living_on_both.store.members.count(segment_id, 10) != 1:
            await asyncio.sleep(0.05)
    await living_on_both.data(UPSERT, {"i": {"externalId": "new", "tags": ["vip"]}})
    await until_sent(living_on_both, "new", ["Welcome new"] * 2)
    assert await bodies(living_on_both, "old", fires=False) == []


async def test_a_segment_that_a_rule_names_is_not_deleted(living: Any) -> None:
    delete = "mutation($id: ID!) { deleteSegment(input: {id: $id}) { deletedId userErrors { code message path } } }"
    segment_id = await members(living, 0, tag={"eq": "vip"})
    for values in (
        {"trigger": {"enteredSegment": segment_id}},
        {"event": "did", "audience": {"not": {"segment": segment_id}}},
    ):
        rule = await save(living, body="x", **values)
        (problem,) = (await living.data(delete, {"id": segment_id}))["deleteSegment"]["userErrors"]
        assert problem == {
            "code": "CONFLICT",
            "message": f"The message rule 'a rule' ({rule['id']}) uses 'those': change or delete the rule first.",
            "path": ["input", "id"],
        }
        await living.data(DELETE, {"id": rule["id"]})
    assert (await living.data(delete, {"id": segment_id}))["deleteSegment"]["deletedId"] == segment_id


async def test_a_segment_is_there_until_all_are_written_to(open_gateway: Any) -> None:
    """Each step writes to 200: the timers go off by hand, so that the test decides what lies between two of them."""
    delete = "mutation($id: ID!) { deleteSegment(input: {id: $id}) { deletedId userErrors { code message path } } }"
    async with open_gateway(rolls_up=False) as opened:
        workspace = await opened.workspace()
        await workspace.track(*(did(contact=f"u{number}") for number in range(201)))
        payload = (await workspace.data(SEGMENT, {"i": {"name": "those", "filter": {"event": {"name": "did"}}}}))[
            "saveSegment"
        ]
        segment_id = payload["segment"]["id"]
        database = opened.runtime.database
        rows = [
            member_of(workspace.id, segment_id, row["_id"], row["created_at"])
            for row in await workspace.store.contacts._find({})
        ]
        await database.insert("segment_members", rows)
        await database.update("segments", {"_id": segment_id}, {"$set": {"complete": True}})
        sent = {"segmentId": segment_id, "body": "Hi"}
        assert (await workspace.data(SEND, {"i": sent}))["sendMessage"]["recipients"] == 201
        (timer,) = await workspace.store.timers._find({"kind": "mailing"})
        for _ in range(2):
            (problem,) = (await workspace.data(delete, {"id": segment_id}))["deleteSegment"]["userErrors"]
            assert problem == {
                "code": "CONFLICT",
                "message": "A message to the members of 'those' is being sent: delete the segment when that is done.",
                "path": ["input", "id"],
            }
            sending = opened.runtime.services.timers._handlers["mailing"]
            await sending(timer)
            timer = next(iter(await workspace.store.timers._find({"kind": "mailing"})), None)
        assert timer is None
        assert (await workspace.data(delete, {"id": segment_id}))["deleteSegment"]["deletedId"] == segment_id
        assert len(await workspace.store.timers._find({"kind": "message"})) == 201


async def test_a_whole_segment_is_written_to_once(living_on_both: Any) -> None:
    names = [f"u{number}" for number in range(30)]
    await living_on_both.track(*(did(contact=name) for name in names), did(contact="other"))
    for name in names:
        await living_on_both.data(UPSERT, {"i": {"externalId": name, "tags": ["vip"]}})
    segment_id = await members(living_on_both, 30, tag={"eq": "vip"})
    sent = {"segmentId": segment_id, "subject": "News", "body": "Hi {{ contact.externalId }}", "idempotencyKey": "k"}
    answers = await asyncio.gather(*(living_on_both.data(SEND, {"i": sent}) for _ in range(3)))
    assert [one["sendMessage"] for one in answers] == [{"recipients": 30, "userErrors": []}] * 3
    async with asyncio.timeout(60):
        while await living_on_both.store.timers._find({}):
            await asyncio.sleep(0.1)
    for name in names:
        (node,) = await inbox(living_on_both, name)
        assert (node["source"]["subject"], node["source"]["body"]) == ("News", f"Hi {name}")
        assert node["source"]["deliveredAs"] == "AUTOMATED"
    assert await inbox(living_on_both, "other") == []
    assert (await refusal(living_on_both, SEND, **{**sent, "body": "other"}))[0] == "IDEMPOTENCY_KEY_REUSED"
    assert await refusal(living_on_both, SEND, segmentId="seg_x", body="x") == (
        "NOT_FOUND",
        ["segmentId"],
        "There is no segment with the id 'seg_x': it was deleted or never existed.",
    )
    assert (await refusal(living_on_both, SEND, segmentId=segment_id, body="{{ event.name }}"))[1] == ["body"]


async def test_a_message_is_heard_live(living: Any) -> None:
    watch = """subscription { conversationChanged { kind conversation { source { deliveredAs body author { displayName } } } } }"""
    url = living.gateway.url.replace("http", "ws", 1)
    headers = {"authorization": f"Bearer {living.key}"}
    await save(living, event="did", body="Hi")
    async with websockets.connect(url, subprotocols=["graphql-transport-ws"], additional_headers=headers) as socket:
        await socket.send('{"type": "connection_init"}')
        await socket.recv()
        await socket.send(orjson.dumps({"type": "subscribe", "id": "1", "payload": {"query": watch}}).decode())
        heard = asyncio.create_task(heard_first(socket))
        while not heard.done():  # until the subscription is under way
            await living.track(did())
            await asyncio.wait([heard], timeout=1)
    source = {"deliveredAs": "AUTOMATED", "body": "Hi", "author": {"displayName": "Automation"}}
    assert heard.result() == {"kind": "CREATED", "conversation": {"source": source}}


async def heard_first(socket: Any) -> dict[str, Any]:
    """The first thing that is told, whatever checkpoints come before."""
    async with asyncio.timeout(60):
        while True:
            found = orjson.loads(await socket.recv())["payload"]["data"]["conversationChanged"]
            if found["kind"] != "CHECKPOINT":
                return dict(found)
