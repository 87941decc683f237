"""Live lists: what is loaded and what is told after `streamCursor` are together all there is, while others write."""

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import websockets
from gateways import Workspace

PAGE = (Path(__file__).parents[2] / "docs" / "front-ends.md").read_text()
NOW, PEOPLE, CHANGES = re.findall(r"```graphql\n(.*?)```", PAGE, flags=re.S)
EVENTS = "query($after: String) { events(first: 10, after: $after) { nodes { id name } pageInfo { hasNextPage endCursor } } }"
TRACKED = "subscription($after: String) { eventTracked(after: $after) { cursor event { id name } } }"
END = "the end"
WRITERS, EACH, READERS = 3, 60, 5


@contextlib.asynccontextmanager
async def subscribed(workspace: Any, query: str, after: str) -> AsyncIterator[AsyncIterator[Any]]:
    """What a subscription tells, one payload after the other."""
    async with websockets.connect(
        workspace.gateway.url.replace("http:", "ws:"),
        subprotocols=["graphql-transport-ws"],
        additional_headers={"Authorization": f"Bearer {workspace.key}"},
    ) as connection:  # type: ignore[list-item]
        await connection.send('{"type": "connection_init"}')
        assert orjson.loads(await connection.recv()) == {"type": "connection_ack"}
        subscribe = {"type": "subscribe", "id": "1", "payload": {"query": query, "variables": {"after": after}}}
        await connection.send(orjson.dumps(subscribe).decode())

        async def payloads() -> AsyncIterator[Any]:
            async for message in connection:
                (told,) = orjson.loads(message)["payload"]["data"].values()
                yield told

        yield payloads()


async def loaded(workspace: Any, query: str) -> list[Any]:
    """Every page of a list, one request after the other."""
    rows, after = [], None
    while True:
        (page,) = (await workspace.data(query, {"after": after})).values()
        rows += page["nodes"]
        if not page["pageInfo"]["hasNextPage"]:
            return rows
        after = page["pageInfo"]["endCursor"]


async def cursor(workspace: Any) -> str:
    return str((await workspace.data(NOW))["streamCursor"])


async def test_a_list_of_events_has_each_once_whenever_it_is_loaded(fast_workspace: Workspace) -> None:
    workspace = fast_workspace
    chance = random.Random(5)
    written: list[str] = []

    def event(name: str = "did") -> dict[str, Any]:
        late = {"occurredAt": "2026-01-01T00:00:00Z"} if chance.random() < 0.3 else {}
        return {"contact": {"externalId": f"u{chance.randrange(5)}"}, "name": name, **late}

    async def track() -> None:
        tracked = await workspace.track(*(event() for _ in range(chance.randint(1, 3))))
        written.extend(line["eventId"] for line in tracked["results"])

    async def write() -> None:
        for _ in range(EACH):
            await track()

    async def read(begin: int) -> tuple[list[str], list[str]]:
        while len(written) < begin:
            await asyncio.sleep(0.01)
        after = await cursor(workspace)
        await track()  # which is on a page, and told
        page = [row["id"] for row in await loaded(workspace, EVENTS)]
        told = []
        async with subscribed(workspace, TRACKED, after) as payloads:
            async for payload in payloads:
                if payload["event"] is None:
                    continue
                if payload["event"]["name"] == END:
                    return page, told
                told.append(payload["event"]["id"])
        raise AssertionError("the subscription ended")

    async def end() -> None:
        await asyncio.gather(*(write() for _ in range(WRITERS)))
        await workspace.track(event(END))

    async with asyncio.timeout(120):
        reading = [asyncio.create_task(read(number * 40)) for number in range(READERS)]
        await end()
        found = await asyncio.gather(*reading)
    assert len(written) > READERS * 40
    for page, told in found:
        assert len(set(page)) == len(page)
        assert len(set(told)) == len(told)
        assert set(page) | set(told) == set(written)
        assert set(page) & set(told)  # a list that added what is told to what is there would show these twice
        assert set(told) - set(page)


async def follow(workspace: Any, begin: asyncio.Event) -> dict[str, Any]:
    """What docs/front-ends.md says, until the end is told: rows by id."""
    await begin.wait()
    after = await cursor(workspace)
    rows = {row["id"]: row for row in await loaded(workspace, PEOPLE)}
    async with subscribed(workspace, CHANGES, after) as payloads:
        async for told in payloads:
            if told["kind"] in ("MERGED", "DELETED"):
                rows.pop(told["mergedId"] or told["contactId"], None)
            if told["kind"] in ("CREATED", "UPDATED", "MERGED"):
                if told["contact"] is None:
                    rows.pop(told["contactId"], None)
                else:
                    rows[told["contact"]["id"]] = told["contact"]
                    if told["contact"]["displayName"] == END:
                        return rows
    raise AssertionError("the subscription ended")


async def test_a_list_of_people_is_what_is_stored_after_every_kind_of_change(fast_workspace: Workspace) -> None:
    workspace = fast_workspace
    chance = random.Random(6)
    upsert = "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { contact { id } userErrors { code } } }"
    tag = "mutation($c: ID!, $t: String!) { tagContact(input: {contactId: $c, tags: [$t]}) { userErrors { code } } }"
    identify = (
        "mutation($i: IdentifyContactInput!) { identifyContact(input: $i) { contact { id } userErrors { code } } }"
    )
    delete = "mutation($id: ID!) { deleteContact(input: {id: $id}) { userErrors { code } } }"
    begins = [asyncio.Event() for _ in range(READERS)]

    async def live(name: str) -> None:
        """One person's life: a visitor, a user, tags and names, and for some the end."""
        await workspace.track({"contact": {"anonymousId": f"browser of {name}"}, "name": "came"})
        (user,) = (await workspace.data(upsert, {"i": {"externalId": name, "name": name}})).values()
        signing_in = {"anonymousId": f"browser of {name}", "externalId": name}
        assert (await workspace.data(identify, {"i": signing_in}))["identifyContact"]["userErrors"] == []
        for number in range(chance.randrange(3)):
            assert (await workspace.data(tag, {"c": user["contact"]["id"], "t": f"t{number}"}))["tagContact"] == {
                "userErrors": []
            }
        await workspace.data(upsert, {"i": {"externalId": name, "name": f"{name} {chance.randrange(9)}"}})
        if chance.random() < 0.3:
            assert (await workspace.data(delete, {"id": user["contact"]["id"]}))["deleteContact"]["userErrors"] == []

    async def write(writer: int) -> None:
        for number in range(15):
            await live(f"person {writer}-{number}")
            if number % 3 == 0:
                begins[number // 3].set()

    async with asyncio.timeout(120):
        following = [asyncio.create_task(follow(workspace, begin)) for begin in begins]
        await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
        await workspace.data(upsert, {"i": {"externalId": END, "name": END}})
        lists = await asyncio.gather(*following)
    stored = {row["id"]: row for row in await loaded(workspace, PEOPLE)}
    assert 10 < len(stored) < 46
    assert all(rows == stored for rows in lists)
