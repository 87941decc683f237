"""Erasure: nothing of a person stays anywhere, others keep theirs, and no late retry brings the person back."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from gateways import Workspace
from processes import becomes_true

from gateway.core.clock import system_clock
from gateway.core.ids import Minter
from gateway.destinations.klaviyo.commands import StartBackfill
from gateway.destinations.klaviyo.repository import KlaviyoStore
from gateway.domain.events.retention import Retention
from gateway.services.contacts.erasure import ErasureService
from gateway.services.events.retention import RetentionService
from gateway.settings import KlaviyoMode

DELETE = "mutation($id: ID!) { deleteContact(input: {id: $id}) { deletedId userErrors { code message path } } }"
UPSERT = "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { contact { id email } userErrors { code message path } } }"
IDENTIFY = "mutation($i: IdentifyContactInput!) { identifyContact(input: $i) { contact { id } merged userErrors { code message path } } }"
TRACK = "mutation($i: TrackEventInput!) { trackEvent(input: $i) { event { id contact { id email } } userErrors { code message path } } }"
IMPORT = "mutation($i: ImportEventSummariesInput!) { importEventSummaries(input: $i) { userErrors { code } } }"
FIND = "query($by: ContactKey!) { contact(by: $by) { id } }"
DEFINITIONS = "{ eventDefinitions { nodes { name count contactCount firstAt } } }"
MARK = "ada-lovelace"
ERASURE = Path(__file__).parents[2] / "docs" / "erasure.md"


async def delete(workspace: Any, id_: str) -> str:
    payload = (await workspace.data(DELETE, {"id": id_}))["deleteContact"]
    assert payload["userErrors"] == [], payload
    return str(payload["deletedId"])


async def id_of(workspace: Any, **by: str) -> str | None:
    found = (await workspace.data(FIND, {"by": by}))["contact"]
    return None if found is None else str(found["id"])


async def stored(workspace: Any) -> dict[str, list[dict[str, Any]]]:
    """Every document of the database, by collection."""
    database = workspace.gateway.runtime.database
    names = await database._database.list_collection_names()
    return {name: await database.find(name, {}) for name in sorted(names)}


def fields_with(found: dict[str, list[dict[str, Any]]], *marks: str) -> set[str]:
    """`collection.field` for every field that contains one of these texts, in a key or in a value."""
    return {
        f"{collection}.{field}"
        for collection, rows in found.items()
        for row in rows
        for field, value in row.items()
        if any(mark in orjson.dumps([field, value], default=str).decode().lower() for mark in marks)
    }


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """The table of docs/erasure.md: of each collection the fields that may name a person, and those that stay."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|", ERASURE.read_text(), re.M)
    return {
        name: (set(re.findall(r"`(\w+)`", fields)), set(re.findall(r"`(\w+)`", stay))) for name, fields, stay in rows
    }


async def leave_traces(workspace: Any) -> str:
    """Somebody in every collection, in every kind of field: a visitor that a user took over."""
    await workspace.data(
        'mutation { describeEvent(input: {name: "did", summarizeBy: "page"}) { userErrors { code } } }'
    )
    await workspace.data(
        'mutation { a: saveMessageRule(input: {name: "waits", event: "did", trigger: {daysSinceLast: 9}, body: "x"}) { userErrors { code } } '
        'b: saveMessageRule(input: {name: "nobody", event: "did", trigger: {nthTime: 1}, audience: {email: {eq: "-"}}, body: "x"}) { userErrors { code } } }'
    )
    user, visitor = {"externalId": f"{MARK}-id"}, {"anonymousId": f"{MARK}-browser"}
    full = {
        **user,
        "email": f"{MARK}@shop.example",
        "phone": f"{MARK}-phone",
        "name": f"{MARK}-name",
        "firstName": f"{MARK}-first",
        "lastName": f"{MARK}-last",
        "avatarUrl": f"https://example.com/{MARK}",
        "location": {"city": f"{MARK}-city"},
        "customAttributes": {"k": f"{MARK}-attribute"},
        "tags": [f"{MARK}-tag"],
        "idempotencyKey": f"{MARK}-key",
    }
    (payload,) = (await workspace.data(UPSERT, {"i": full})).values()
    assert payload["userErrors"] == []
    metadata = {"page": f"/{MARK}", "other": f"{MARK}-metadata"}
    for contact in (user, visitor):
        event = {"contact": contact, "name": "did", "metadata": metadata}
        await workspace.track(event, {**event, "idempotencyKey": f"{MARK}-{next(iter(contact))}"})
    lines = [{"name": "did", "count": 7, "firstAt": "2020-01-01T00:00:00Z", "lastAt": "2020-01-02T00:00:00Z"}]
    await workspace.data(IMPORT, {"i": {"contact": user, "summaries": lines}})
    (payload,) = (await workspace.data(IDENTIFY, {"i": {**visitor, **user}})).values()
    assert payload["merged"] is True
    await talk(workspace, user)
    await report(workspace, user, str(payload["contact"]["id"]))
    return str(payload["contact"]["id"])


async def talk(workspace: Any, user: dict[str, str]) -> None:
    """A conversation, with something of the person wherever there is room, and timers that wait."""
    begin = {
        "contact": user,
        "body": f"I am {MARK}",
        "subject": MARK,
        "title": MARK,
        "tags": [MARK],
        "customAttributes": {"k": MARK},
        "idempotencyKey": f"{MARK}-talk",
    }
    made = await workspace.data(
        "mutation($i: CreateConversationInput!) { createConversation(input: $i) { conversation { id } } }", {"i": begin}
    )
    await workspace.data(
        f"""mutation($id: ID!) {{
          replyToConversation(input: {{conversationId: $id, body: "{MARK} again", idempotencyKey: "{MARK}-reply"}}) {{ part {{ id }} }}
          rateConversation(input: {{id: $id, score: 5, remark: "{MARK}"}}) {{ part {{ id }} }}
          applySla(input: {{id: $id, name: "Gold", firstReplyMinutes: 5}}) {{ part {{ id }} }}
          snoozeConversation(input: {{id: $id, until: "2030-01-01T00:00:00Z"}}) {{ part {{ id }} }} }}""",
        {"id": made["createConversation"]["conversation"]["id"]},
    )


async def report(workspace: Any, user: dict[str, str], contact_id: str) -> None:
    """A ticket, with something of the person wherever there is room, and a timer that waits."""
    made = await workspace.data(
        """mutation { saveTicketType(input: {name: "Bug", category: CUSTOMER, attributes: [{name: "Order", kind: STRING}]}) {
          ticketType { id } } }"""
    )
    opened = {
        "contact": user,
        "typeId": made["saveTicketType"]["ticketType"]["id"],
        "title": MARK,
        "description": MARK,
        "attributes": {"Order": MARK},
        "tags": [MARK],
        "actor": {"contactId": contact_id},
        "idempotencyKey": f"{MARK}-ticket",
    }
    found = await workspace.data(
        "mutation($i: CreateTicketInput!) { createTicket(input: $i) { ticket { id } } }", {"i": opened}
    )
    await workspace.data(
        f"""mutation($id: ID!, $c: ID!) {{
          replyToTicket(input: {{ticketId: $id, body: "{MARK}", actor: {{contactId: $c}}, idempotencyKey: "{MARK}-answer"}}) {{ part {{ id }} }}
          updateTicket(input: {{id: $id, snoozedUntil: "2030-01-01T00:00:00Z"}}) {{ part {{ id }} }} }}""",
        {"id": found["createTicket"]["ticket"]["id"], "c": contact_id},
    )


async def join_segments(workspace: Any, contact_id: str) -> None:
    """Let everybody who did it be in a segment, and this contact be looked at again when its time has come."""
    filter_ = '{event: {name: "did"}, lastSeenAt: {lessThanDaysAgo: 9}}'
    await workspace.data(
        f'mutation {{ saveSegment(input: {{name: "S", filter: {filter_}}}) {{ userErrors {{ code }} }} }}'
    )

    async def joined() -> bool:
        return bool(await workspace.store.members.of_contact(contact_id))

    await becomes_true(joined)


async def tell_history(workspace: Any, contact_id: str) -> str:
    """A backfill of which some deliveries of that contact wait."""
    klaviyo = workspace.gateway.runtime.klaviyo
    id_ = str((await klaviyo.backfills.start(workspace.id, StartBackfill(include_profiles=False)))["_id"])
    while await klaviyo.backfill_runner.step(workspace.id, id_):
        pass
    rows = await KlaviyoStore(workspace.store).deliveries._find({"backfill_id": id_, "contact_id": contact_id})
    assert {row["state"] for row in rows} == {"PENDING"}
    return id_


async def test_nothing_of_an_erased_person_is_stored_anywhere(open_gateway: Any) -> None:
    async with open_gateway(klaviyo_mode=KlaviyoMode.LOG) as gateway:
        workspace = await gateway.workspace()
        await workspace.track({"contact": {"externalId": "bob"}, "name": "did", "metadata": {"page": "/home"}})
        ada = await leave_traces(workspace)
        await join_segments(workspace, ada)
        history = await tell_history(workspace, ada)
        (contact,) = await workspace.store.contacts._find({"external_id": f"{MARK}-id"})
        marks = (MARK, *(id_.lower() for id_ in contact["contact_ids"]))

        async def counted() -> bool:
            rows = await workspace.store.values._find({"contact_id": ada})
            return sum(row["count"] for row in rows) == 4

        await becomes_true(counted)
        keyed = [row["_id"] for row in await workspace.store.events._find({}) if MARK in row["identity"]]
        sweeper = RetentionService(gateway.runtime.services.store, Retention(1), system_clock)
        assert await sweeper._replace_by_tombstones(workspace.store, keyed[:1]) == 1
        before = await stored(workspace)
        table = documented()
        assert set(table) >= set(before)
        named = {f"{name}.{field}" for name, (fields, _) in table.items() for field in fields}
        assert fields_with(before, *marks) == {field for field in named if not field.startswith("deletions.")} - {
            "changes.contact_ids"
        }
        assert await delete(workspace, ada) == ada
        for by in (
            {"id": ada},
            {"externalId": f"{MARK}-id"},
            {"email": f"{MARK}@shop.example"},
            {"anonymousId": f"{MARK}-browser"},
        ):
            assert await id_of(workspace, **by) is None

        async def values_gone() -> bool:
            return not await workspace.store.values._find({"contact_id": ada})

        await becomes_true(values_gone)
        await gateway.runtime.deliveries.deliver_due(workspace.id)
        after = await stored(workspace)
        assert fields_with(after, MARK) == set()
        assert fields_with(after, *marks) <= {f"{name}.{field}" for name, (_, stay) in table.items() for field in stay}
        assert {row["kind"] for row in after["changes"] if row.get("contact_id") == ada} == {"DELETED", "CHANGED"}
        assert [(row["kind"], row["state"]) for row in after["deliveries"]] == [("DELETION", "DELIVERED")]
        assert after["delivery_lanes"] == []
        while await gateway.runtime.klaviyo.backfill_runner.step(workspace.id, history):
            pass
        assert (await KlaviyoStore(workspace.store).backfills.by_ids([history]))[history]["state"] == "DONE"
        assert len(after["erasures"]) == 5  # externalId, e-mail, anonymous id, and two ids
        assert after["deletions"] == []
        assert (after["tickets"], after["ticket_parts"]) == ([], [])
        assert (after["conversations"], after["conversation_parts"]) == ([], [])
        assert [row["kind"] for row in after["timers"] if row["kind"].startswith("conversation")] == []
        assert [row["external_id"] for row in after["contacts"]] == ["bob"]
        expected = {"name": "did", "count": 1, "contactCount": 1}

        async def definitions_follow() -> bool:
            (node,) = (await workspace.data(DEFINITIONS))["eventDefinitions"]["nodes"]
            first = node.pop("firstAt")
            return node == expected and first > "2021"

        await becomes_true(definitions_follow)


async def test_no_late_retry_brings_an_erased_person_back(open_gateway: Any, clock: Any) -> None:
    async with open_gateway(clock=clock) as gateway:
        workspace = await gateway.workspace()
        ada = await leave_traces(workspace)
        await delete(workspace, ada)
        user, email, browser = (
            {"externalId": f"{MARK}-id"},
            f"{MARK.upper()}@shop.example",
            {"anonymousId": f"{MARK}-browser"},
        )
        refused = [
            (TRACK, {"contact": user, "name": "did"}, ["input", "contact", "externalId"]),
            (TRACK, {"contact": browser, "name": "did"}, ["input", "contact", "anonymousId"]),
            (TRACK, {"contact": {"email": email}, "name": "did"}, ["input", "contact", "email"]),
            (UPSERT, user, ["input", "externalId"]),
            (UPSERT, {"externalId": "new", "email": email}, ["input", "email"]),
            (UPSERT, {"anonymousId": "new", "email": email, "role": "VISITOR"}, ["input", "email"]),
            (IDENTIFY, {"anonymousId": "new", **user}, ["input", "externalId"]),
        ]
        for mutation, sent, path in refused:
            (payload,) = (await workspace.data(mutation, {"i": sent})).values()
            assert [(each["code"], each["path"]) for each in payload["userErrors"]] == [("FORBIDDEN", path)], sent
        assert await workspace.store.contacts._find({}) == []
        weaker = {"contact": {"externalId": "new", "email": email, **browser}, "name": "did"}
        (payload,) = (await workspace.data(TRACK, {"i": weaker})).values()
        assert payload["userErrors"] == []
        assert payload["event"]["contact"]["email"] is None
        batch = await workspace.data(
            "mutation($e: [TrackEventInput!]!) { trackEvents(input: {events: $e}) { accepted rejected results { error { code } } } }",
            {"e": [{"contact": user, "name": "did"}, {"contact": {"externalId": "other"}, "name": "did"}]},
        )
        assert (batch["trackEvents"]["accepted"], batch["trackEvents"]["rejected"]) == (1, 1)
        for id_ in (ada, "con_x"):
            (payload,) = (await workspace.data(DELETE, {"id": id_})).values()
            assert [(each["code"], each["path"]) for each in payload["userErrors"]] == [("NOT_FOUND", ["input", "id"])]
        neighbour = await gateway.workspace()
        await neighbour.track({"contact": user, "name": "did"})
        clock.ahead = timedelta(days=30, minutes=1)
        await workspace.track({"contact": user, "name": "did"})
        assert await id_of(workspace, **user) not in (None, ada)


async def test_who_shared_an_email_with_an_erased_lead_keeps_it(workspace: Any) -> None:
    for browser in ("one", "two"):
        await workspace.track({"contact": {"anonymousId": browser}, "name": "did"})
        id_ = await id_of(workspace, anonymousId=browser)
        await workspace.data(UPSERT, {"i": {"id": id_, "email": "shared@example.com"}})
    await delete(workspace, str(await id_of(workspace, anonymousId="one")))
    (payload,) = (await workspace.data(UPSERT, {"i": {"email": "shared@example.com", "name": "Two"}})).values()
    assert (payload["userErrors"], payload["contact"]["id"]) == ([], await id_of(workspace, anonymousId="two"))
    (payload,) = (
        await workspace.data(TRACK, {"i": {"contact": {"email": "shared@example.com"}, "name": "did"}})
    ).values()
    assert payload["userErrors"] == []


async def test_tracking_beside_a_deletion_leaves_nothing(each_gateway: Any) -> None:
    workspace = await each_gateway.workspace()
    await workspace.track({"contact": {"externalId": "u", "anonymousId": "a"}, "name": "did"})
    id_ = await id_of(workspace, externalId="u")
    refs = ({"externalId": "u"}, {"anonymousId": "a"}, {"id": id_})

    async def client(number: int) -> set[str]:
        codes = set()
        for turn in range(3):
            sent = {"contact": refs[(number + turn) % 3], "name": "did"}
            (payload,) = (await workspace.data(TRACK, {"i": sent})).values()
            codes |= {each["code"] for each in payload["userErrors"]}
        return codes

    codes = await asyncio.gather(*(client(number) for number in range(8)), delete(workspace, str(id_)))
    assert set().union(*codes[:8]) <= {"FORBIDDEN", "NOT_FOUND"}
    for repository in (
        workspace.store.contacts,
        workspace.store.events,
        workspace.store.summaries,
        workspace.store.deletions,
    ):
        assert await repository._find({}) == []


async def test_what_one_process_left_is_erased_by_another(open_gateway: Any, clock: Any) -> None:
    async with open_gateway(clock=clock, rolls_up=False) as first:
        workspace = await first.workspace()
        await workspace.track(*({"contact": {"externalId": "u"}, "name": f"did {number % 3}"} for number in range(30)))
        services = first.runtime.services
        erasures = ErasureService(
            services.store, clock, Minter(), services.events.turn, first.runtime.outbox, at_once_seconds=0
        )
        await erasures.delete(workspace.id, str(await id_of(workspace, externalId="u")))
        assert await id_of(workspace, externalId="u") is None
        (shown,) = (await workspace.data("{ events(first: 1) { nodes { contact { id } } } }"))["events"]["nodes"]
        assert shown == {"contact": None}
        assert (await workspace.store.summaries._find({}), len(await workspace.store.events._find({}))) == ([], 30)
        name = first.runtime.database._database.name
        async with open_gateway(clock=clock, database=name):

            async def done() -> bool:
                return not await workspace.store.deletions._find({})

            await becomes_true(done)
        assert await workspace.store.events._find({}) == []


async def test_many_events_are_erased_in_batches(fast_workspace: Workspace) -> None:
    workspace = fast_workspace
    now = system_clock()
    for _ in range(3):
        await workspace.track(
            *({"contact": {"externalId": "u"}, "name": "did", "occurredAt": now.isoformat()} for _ in range(800))
        )
    await workspace.track({"contact": {"externalId": "other"}, "name": "did"})
    await delete(workspace, str(await id_of(workspace, externalId="u")))

    async def done() -> bool:
        return not await workspace.store.deletions._find({})

    await becomes_true(done)
    assert len(await workspace.store.events._find({})) == 1
