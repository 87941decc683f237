"""History told to Klaviyo: all of it, as it was, once, from wherever it was broken off, and never much of it at once."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import typer
from klaviyo_stand_in import KEY, Klaviyo, listening
from structlog.testing import capture_logs

from gateway.cli.klaviyo import backfill_history
from gateway.destinations.klaviyo import backfill_reader, backfill_runner
from gateway.destinations.klaviyo.commands import StartBackfill
from gateway.destinations.klaviyo.mapping import Metric
from gateway.destinations.klaviyo.repository import KlaviyoStore
from gateway.outbox.deliveries import Queue
from gateway.outbox.worker import LaneWorker
from gateway.settings import KlaviyoMode
from gateway.store.driver import TransientError

FIELDS = "id state total done failed ratePerSecond etaSeconds startedAt finishedAt"


class Desk:
    """A workspace with people, conversations and tickets, and a stand-in that it may be connected to."""

    def __init__(self, workspace: Any, account: Klaviyo, url: str) -> None:
        self.workspace, self.account, self.url = workspace, account, url
        self.runtime = workspace.gateway.runtime
        self.store = KlaviyoStore(workspace.store)

    @property
    def worker(self) -> LaneWorker:
        worker: LaneWorker = self.runtime.deliveries.worker(self.runtime.klaviyo.destination, self.workspace.id)
        return worker

    async def act(self, mutation: str, result: str, **sent: Any) -> Any:
        kind = mutation[0].upper() + mutation[1:] + "Input"
        query = f"mutation($i: {kind}!) {{ {mutation}(input: $i) {{ {result} userErrors {{ code message path }} }} }}"
        return (await self.workspace.data(query, {"i": sent}))[mutation]

    async def done(self, mutation: str, result: str, **sent: Any) -> Any:
        payload = await self.act(mutation, result, **sent)
        assert payload["userErrors"] == []
        return payload

    async def nine(self, email: str) -> None:
        """Let all nine happen to a contact."""
        eve = await self.done("saveAdmin", "admin { id }", name="Eve", email=f"eve-{email}")
        actor = {"adminId": eve["admin"]["id"]}
        made = await self.done(
            "createConversation", "conversation { id contact { id } }", contact={"email": email}, body="?"
        )
        id_, contact = made["conversation"]["id"], made["conversation"]["contact"]["id"]
        own = {"contactId": contact}
        await self.done("replyToConversation", "part { id }", conversationId=id_, body="Ada?", actor=own)
        await self.done("replyToConversation", "part { id }", conversationId=id_, body="Yes", actor=actor)
        await self.done("markConversationRead", "conversation { id }", id=id_, actor=own)
        await self.done("rateConversation", "part { id }", id=id_, score=5)
        await self.done("assignConversation", "part { id }", id=id_, assigneeId=eve["admin"]["id"])
        type_ = await self.done("saveTicketType", "ticketType { id }", name=f"Bug {email}", category="CUSTOMER")
        opened = await self.done(
            "createTicket",
            "ticket { id }",
            contact={"email": email},
            typeId=type_["ticketType"]["id"],
            title="T",
            isShared=True,
        )
        ticket = opened["ticket"]["id"]
        for state in ("IN_PROGRESS", "WAITING_ON_CUSTOMER", "SUBMITTED"):
            await self.done("setTicketState", "part { id }", id=ticket, state=state, actor=actor)
        await self.done("replyToTicket", "part { id }", ticketId=ticket, body="Now", actor=own)
        await self.done("setTicketState", "part { id }", id=ticket, state="RESOLVED", actor=actor)

    async def connect(self) -> None:
        await self.runtime.klaviyo.connections.connect(self.workspace.id, KEY, self.url)

    async def start(self, **sent: Any) -> str:
        return str((await self.done("startKlaviyoBackfill", "backfill { id }", **sent))["backfill"]["id"])

    async def finish(self, id_: str) -> Any:
        """The backfill once all of it is told."""
        for _ in range(100):
            while await self.runtime.klaviyo.backfill_runner.step(self.workspace.id, id_):
                pass
            await self.runtime.deliveries.deliver_due(self.workspace.id)
            found = await self.shown(id_)
            if found["state"] != "RUNNING":
                return found
        raise AssertionError(found)

    async def shown(self, id_: str) -> Any:
        query = f"query($id: ID!) {{ node(id: $id) {{ ... on KlaviyoBackfill {{ {FIELDS} }} }} }}"
        return (await self.workspace.data(query, {"id": id_}))["node"]

    def told(self) -> Counter[str]:
        return Counter(event.metric for event in self.account.events)


@pytest.fixture
async def desk(open_gateway: Any, clock: Any) -> AsyncIterator[Desk]:
    account = Klaviyo()
    async with listening(account) as url, open_gateway(rolls_up=False, clock=clock) as gateway:
        yield Desk(await gateway.workspace(), account, url)


async def test_history_is_told_as_it_was_and_sets_off_no_flow(desk: Desk) -> None:
    for email in ("ada@shop.example", "eve@shop.example"):
        await desk.nine(email)
    await desk.workspace.track({"name": "looked", "contact": {"email": "ada@example.com"}})
    await desk.connect()
    found = await desk.finish(await desk.start())
    assert desk.told() == Counter({metric.value: 2 for metric in Metric})
    assert {event.backfill for event in desk.account.events} == {True}
    assert len(desk.account.profiles) == 2
    parts = await desk.workspace.data("{ conversations { nodes { parts { nodes { kind createdAt } } } } }")
    rated = {
        part["createdAt"]
        for one in parts["conversations"]["nodes"]
        for part in one["parts"]["nodes"]
        if part["kind"] == "RATING"
    }
    times = {event.time.isoformat()[:19] for event in desk.account.events if event.metric == "Rated Conversation"}
    assert times == {at[:19] for at in rated}
    assert (found["state"], found["total"], found["failed"]) == (
        "DONE",
        found["done"] + 1,
        1,
    )  # Klaviyo drops example.com
    assert (found["etaSeconds"], found["finishedAt"] is None) == (None, False)


async def test_what_was_told_live_is_not_doubled(desk: Desk) -> None:
    await desk.connect()
    await desk.nine("ada@shop.example")
    await desk.runtime.deliveries.deliver_due(desk.workspace.id)
    assert desk.told() == Counter({metric.value: 1 for metric in Metric})
    live = {(event.metric, event.unique_id) for event in desk.account.events}
    for _ in range(2):
        assert (await desk.finish(await desk.start()))["state"] == "DONE"
    assert {(event.metric, event.unique_id) for event in desk.account.events} == live
    assert len(desk.account.events) == 9
    assert [one.operation for one in desk.account.asked].count("create_or_update_profile") == 1


async def test_a_backfill_keeps_to_its_window_its_times_and_its_metrics(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill_runner, "WINDOW", 4)
    monkeypatch.setattr(backfill_reader, "ROWS_AT_ONCE", 2)
    for number in range(8):
        await desk.done(
            "createConversation", "conversation { id }", contact={"email": f"p{number}@shop.example"}, body="?"
        )
    await desk.connect()
    id_ = await desk.start(metrics=["Created Conversation"], includeProfiles=False)
    while await desk.runtime.klaviyo.backfill_runner.step(desk.workspace.id, id_):
        pass
    waiting = await desk.workspace.data("{ klaviyo { counts { pending } oldestPendingAt } }")
    assert waiting == {"klaviyo": {"counts": {"pending": 4}, "oldestPendingAt": None}}
    assert (await desk.finish(id_))["done"] == 8
    assert desk.told() == Counter({"Created Conversation": 8})
    later = await desk.finish(await desk.start(since="2030-01-01T00:00:00Z", until="2031-01-01T00:00:00Z"))
    assert (later["state"], len(desk.account.events)) == ("DONE", 8)


async def test_a_step_goes_no_further_than_the_window(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill_runner, "WINDOW", 2)
    for number in range(5):
        contact = {"email": f"p{number}@shop.example"}
        await desk.done("createConversation", "conversation { id }", contact=contact, body="?")
    await desk.connect()
    id_ = await desk.start(metrics=["Created Conversation"])
    deliveries = []
    while (await desk.shown(id_))["state"] == "RUNNING":
        while await desk.runtime.klaviyo.backfill_runner.step(desk.workspace.id, id_):
            pass
        deliveries.append(len(await desk.workspace.store.database.find("deliveries", {})))
        await desk.runtime.deliveries.deliver_due(desk.workspace.id)
    assert deliveries[:3] == [2, 4, 6]
    found = await desk.shown(id_)
    assert (found["state"], found["total"], found["done"], found["failed"]) == ("DONE", 10, 10, 0)
    assert desk.told() == Counter({"Created Conversation": 5})


async def test_a_step_that_cannot_be_made_is_told_and_one_that_another_made_is_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.connect()
    id_, service = await desk.start(), desk.runtime.klaviyo.backfill_runner
    read = (await desk.store.backfills.by_ids([id_]))[id_]
    with capture_logs() as logs:
        assert [await service._step_safely(read) for _ in range(2)] == [True, False]
    assert logs == []

    async def fail(*_: Any) -> None:
        raise TransientError("it took too long")

    monkeypatch.setattr(service, "_read", fail)
    read = (await desk.store.backfills.by_ids([id_]))[id_]
    with capture_logs() as logs:
        assert not await service._step_safely(read)
    assert [(log["log_level"], log["backfill"], log["reason"]) for log in logs] == [
        ("warning", id_, "it took too long")
    ]


async def test_a_backfill_is_paused_resumed_and_cancelled(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill_reader, "ROWS_AT_ONCE", 1)
    for number in range(3):
        await desk.done(
            "createConversation", "conversation { id }", contact={"email": f"p{number}@shop.example"}, body="?"
        )
    await desk.connect()
    id_ = await desk.start(idempotencyKey="once", metrics=["Created Conversation"])
    assert await desk.start(idempotencyKey="once", metrics=["Created Conversation"]) == id_
    second = await desk.act("startKlaviyoBackfill", "backfill { id }")
    assert (second["backfill"], second["userErrors"][0]["code"]) == (None, "CONFLICT")
    for _ in range(2):
        assert await desk.runtime.klaviyo.backfill_runner.step(desk.workspace.id, id_)
    assert (await desk.done("pauseKlaviyoBackfill", "backfill { state }", id=id_))["backfill"]["state"] == "PAUSED"
    assert not await desk.runtime.klaviyo.backfill_runner.step(desk.workspace.id, id_)
    paused = await desk.shown(id_)
    assert (paused["total"], paused["ratePerSecond"], paused["etaSeconds"]) == (6, 0.0, None)
    await desk.done("resumeKlaviyoBackfill", "backfill { id }", id=id_)
    await desk.done("cancelKlaviyoBackfill", "backfill { id }", id=id_)
    again = await desk.act("resumeKlaviyoBackfill", "backfill { id }", id=id_)
    assert [(one["code"], one["path"]) for one in again["userErrors"]] == [("ILLEGAL_TRANSITION", ["input", "id"])]
    listed = await desk.workspace.data("{ klaviyo { backfills { nodes { id state } } } }")
    assert listed["klaviyo"]["backfills"]["nodes"] == [{"id": id_, "state": "CANCELLED"}]


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ({"metrics": ["Created Conversation", "Opened"]}, ["metrics", "1"]),
        ({"since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, ["since"]),
        ({"metrics": [], "includeProfiles": False}, ["metrics"]),
    ],
)
async def test_a_backfill_that_cannot_be_says_why(desk: Desk, sent: dict[str, Any], path: list[str]) -> None:
    await desk.connect()
    payload = await desk.act("startKlaviyoBackfill", "backfill { id }", **sent)
    (problem,) = payload["userErrors"]
    assert (payload["backfill"], problem["code"], problem["path"]) == (None, "INVALID", ["input", *path])


async def test_a_profile_of_history_gives_way_to_a_newer_one(desk: Desk) -> None:
    await desk.done("upsertContact", "created", email="ada@shop.example", name="Ada")
    await desk.connect()
    id_ = await desk.start(metrics=[])
    for _ in range(2):
        assert await desk.runtime.klaviyo.backfill_runner.step(desk.workspace.id, id_)
    await desk.done("upsertContact", "created", email="ada@shop.example", name="Augusta")
    found = await desk.finish(id_)
    assert (found["state"], found["total"], found["done"]) == ("DONE", 1, 1)
    assert [profile["first_name"] for profile in desk.account.profiles.values()] == ["Augusta"]
    assert len(desk.account.asked) == 1


@pytest.mark.parametrize("claimed", [True, False])
async def test_a_profile_of_history_that_was_under_way_does_not_overwrite_a_newer_one(
    desk: Desk, clock: Any, claimed: bool
) -> None:
    await desk.done("upsertContact", "created", email="ada@shop.example", name="Ada")
    await desk.connect()
    id_, store = await desk.start(metrics=[]), desk.store
    assert await desk.runtime.klaviyo.backfill_runner.step(desk.workspace.id, id_)
    read = (await store.backfills.by_ids([id_]))[id_]
    step = await desk.runtime.klaviyo.backfill_runner._read(store, read, backfill_runner.WINDOW)
    write = partial(desk.runtime.klaviyo.backfill_runner._write, store, read, step)
    if claimed:
        await store.database.transaction(write)
        due = await store.lanes.due(Queue.BACKFILL, clock(), 10)
        assert len((await desk.worker.claim("of one that dies", due))[1]) == 1
    await desk.done("upsertContact", "created", email="ada@shop.example", name="Augusta")
    await desk.runtime.deliveries.deliver_due(desk.workspace.id)
    assert len(desk.account.asked) == (0 if claimed else 1)
    if not claimed:
        await store.database.transaction(write)
    clock.ahead += timedelta(seconds=31)
    found = await desk.finish(id_)
    assert (found["state"], found["total"], found["done"], found["failed"]) == ("DONE", 1, 1, 0)
    assert [profile["first_name"] for profile in desk.account.profiles.values()] == ["Augusta"]
    assert len(desk.account.asked) == 1


async def test_history_that_was_read_before_its_contact_was_erased_is_not_queued(desk: Desk) -> None:
    made = await desk.done("upsertContact", "contact { id }", email="ada@shop.example")
    await desk.connect()
    id_, store = await desk.start(metrics=[]), desk.store
    assert await desk.runtime.klaviyo.backfill_runner.step(desk.workspace.id, id_)
    read = (await store.backfills.by_ids([id_]))[id_]
    step = await desk.runtime.klaviyo.backfill_runner._read(store, read, backfill_runner.WINDOW)
    assert len(step.deliveries) == 1
    await desk.done("deleteContact", "deletedId", id=made["contact"]["id"])
    with pytest.raises(TransientError):
        await store.database.transaction(partial(desk.runtime.klaviyo.backfill_runner._write, store, read, step))
    assert (await desk.finish(id_))["state"] == "DONE"
    assert await store.database.find("deliveries", {}) == []
    assert desk.account.asked == []


async def test_who_is_erased_while_history_is_sent_is_erased_in_klaviyo_behind_it(desk: Desk, clock: Any) -> None:
    made = await desk.done("upsertContact", "contact { id }", email="ada@shop.example")
    await desk.connect()
    id_, store = await desk.start(metrics=[]), desk.store
    for _ in range(2):
        assert await desk.runtime.klaviyo.backfill_runner.step(desk.workspace.id, id_)
    due = await store.lanes.due(Queue.BACKFILL, clock(), 10)
    assert len((await desk.worker.claim("of one that still sends", due))[1]) == 1
    await desk.done("deleteContact", "deletedId", id=made["contact"]["id"])
    await desk.runtime.deliveries.deliver_due(desk.workspace.id)
    assert desk.account.asked == []
    clock.ahead += timedelta(seconds=31)
    await desk.runtime.deliveries.deliver_due(desk.workspace.id)
    assert desk.account.deletions == [{"email": "ada@shop.example"}]
    assert [row["state"] for row in await store.database.find("deliveries", {})] == ["DELIVERED"]


async def test_who_was_told_to_the_log_alone_is_told_and_whom_klaviyo_cannot_know_is_passed_over(desk: Desk) -> None:
    syncs = desk.store.connections
    await desk.connect()
    for contact in ({"email": "ada@shop.example"}, {"externalId": "7"}):
        await desk.done("upsertContact", "created", **contact)
    await syncs.update({"mode": KlaviyoMode.LOG.value})
    await desk.runtime.deliveries.deliver_due(desk.workspace.id)
    await syncs.update({"mode": KlaviyoMode.LIVE.value})
    assert desk.account.profiles == {}
    found = await desk.finish(await desk.start(metrics=[]))
    assert [profile["email"] for profile in desk.account.profiles.values()] == ["ada@shop.example"]
    assert (found["state"], found["total"], found["done"], found["failed"]) == ("DONE", 2, 2, 0)


async def test_a_backfill_fails_only_where_the_workspace_was_disconnected(desk: Desk) -> None:
    await desk.done("upsertContact", "created", email="ada@shop.example")
    await desk.connect()
    id_, syncs = await desk.start(metrics=[], includeProfiles=None), desk.store.connections
    await syncs.update({"mode": None})
    with capture_logs() as logs:
        assert [await desk.runtime.klaviyo.backfill_runner.step(desk.workspace.id, id_) for _ in range(2)] == [
            False,
            False,
        ]
    assert [(log["log_level"], log["backfill"]) for log in logs] == [("warning", id_)]
    assert (await desk.shown(id_))["state"] == "RUNNING"
    await syncs.update({"mode": KlaviyoMode.OFF.value})
    assert not await desk.runtime.klaviyo.backfill_runner.step(desk.workspace.id, id_)
    assert (await desk.shown(id_))["state"] == "FAILED"


async def test_the_command_ends_where_the_sync_is_paused_and_says_what_goes_on(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    await desk.connect()
    id_ = await desk.start(metrics=["Resolved Ticket"], since="2026-01-01T00:00:00Z")
    runtime = desk.workspace.gateway.runtime
    await desk.runtime.klaviyo.connections.pause(desk.workspace.id, "The key is revoked.")
    capsys.readouterr()
    with pytest.raises(typer.Exit) as ended:
        await backfill_history(runtime, desk.workspace.id, StartBackfill(metrics=["Created Ticket"]))
    assert ended.value.exit_code == 1
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"The backfill {id_} is active and continues: since 2026-01-01T00:00:00+00:00 until ")
    assert first.endswith(", Resolved Ticket. The options of this command are ignored.")
    assert last == (
        "The synchronization is paused: The key is revoked. Resume it with resumeKlaviyo, then run this command again: the backfill continues."
    )
    await desk.runtime.klaviyo.connections.resume(desk.workspace.id)
    await backfill_history(runtime, desk.workspace.id, StartBackfill())
    assert (await desk.shown(id_))["state"] == "DONE"


async def test_what_is_settled_while_a_backfill_ends_is_counted(desk: Desk) -> None:
    await desk.done("upsertContact", "created", email="ada@shop.example")
    await desk.connect()
    id_, store = await desk.start(metrics=[]), desk.store
    for _ in range(2):
        assert await desk.runtime.klaviyo.backfill_runner.step(desk.workspace.id, id_)
    read = (await store.backfills.by_ids([id_]))[id_]
    await desk.runtime.deliveries.deliver_due(desk.workspace.id)
    assert await desk.runtime.klaviyo.backfill_runner._step(store, read)
    found = await desk.shown(id_)
    assert (found["state"], found["total"], found["done"]) == ("DONE", 1, 1)


async def test_what_happens_now_goes_before_history(desk: Desk) -> None:
    for number in range(3):
        contact = {"email": f"p{number}@shop.example"}
        await desk.done("createConversation", "conversation { id }", contact=contact, body="?")
    await desk.connect()
    id_ = await desk.start(metrics=["Created Conversation"], includeProfiles=False)
    while await desk.runtime.klaviyo.backfill_runner.step(desk.workspace.id, id_):
        pass
    await desk.done("createConversation", "conversation { id }", contact={"email": "now@shop.example"}, body="!")
    await desk.runtime.deliveries.deliver_due(desk.workspace.id)
    assert [event.backfill for event in desk.account.events] == [False, True, True, True]
    assert desk.account.of("now@shop.example") == desk.account.events[:1]
