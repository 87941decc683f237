"""Names of events that pages send have a share of their own, so that visitors leave room for services."""

import asyncio
import uuid
from typing import Any

import pytest

from gateway.core.principals import Scope

ORIGIN = "https://shop.example"
TRACK = (
    "mutation($e: [TrackEventInput!]!) { trackEvents(input: {events: $e}) { results { error { code message path } } } }"
)
DESCRIBE = "mutation($i: DescribeEventInput!) { describeEvent(input: $i) { userErrors { code } } }"


@pytest.fixture
async def shop(open_gateway: Any) -> Any:
    async with open_gateway(max_event_names=6, max_page_event_names=2, allowed_origins=(ORIGIN,)) as gateway:
        yield await gateway.workspace()


async def track(shop: Any, key: str | None, *names: str) -> list[str | None]:
    """What is wrong with each event."""
    contact = {"anonymousId": "a"}
    events = [{"contact": contact, "name": name} for name in names]
    results = (await shop.data(TRACK, {"e": events}, key=key, origin=ORIGIN))["trackEvents"]["results"]
    return [result["error"] and result["error"]["code"] for result in results]


async def browser(shop: Any) -> str:
    return str(await shop.key_with(Scope.BROWSER))


async def contact_token(shop: Any) -> str:
    return str(await shop.token(externalId="u"))


@pytest.mark.parametrize("credential", [browser, contact_token])
async def test_visitors_use_up_their_share_alone(shop: Any, credential: Any) -> None:
    key = await credential(shop)
    assert await track(shop, key, "a", "b", "c", "a", "d") == [None, None, "LIMIT_EXCEEDED", None, "LIMIT_EXCEEDED"]
    assert await track(shop, key, "c") == ["LIMIT_EXCEEDED"]
    assert await track(shop, None, "1", "2", "3", "4", "5") == [None, None, None, None, "LIMIT_EXCEEDED"]
    assert await track(shop, key, "1", "4", "b") == [None, None, None]  # names that are there are fine


async def test_a_page_and_a_token_share_it(shop: Any) -> None:
    assert await track(shop, await browser(shop), "a") == [None]
    assert await track(shop, await contact_token(shop), "b", "c") == [None, "LIMIT_EXCEEDED"]


async def test_what_is_described_or_archived_leaves_room(shop: Any) -> None:
    key = await browser(shop)
    assert await track(shop, key, "a", "b", "c") == [None, None, "LIMIT_EXCEEDED"]
    await shop.data(DESCRIBE, {"i": {"name": "a", "description": "Ours."}})
    assert await track(shop, key, "c", "d") == [None, "LIMIT_EXCEEDED"]
    await shop.data(DESCRIBE, {"i": {"name": "b", "archived": True}})
    assert await track(shop, key, "d", "e") == ["LIMIT_EXCEEDED" if name == "e" else None for name in "de"]


async def test_the_message_names_the_setting(shop: Any) -> None:
    contact = {"anonymousId": "a"}
    events = [{"contact": contact, "name": name} for name in ("a", "b", "c")]
    results = (await shop.data(TRACK, {"e": events}, key=await browser(shop), origin=ORIGIN))["trackEvents"]["results"]
    error = results[2]["error"]
    assert "GATEWAY_MAX_PAGE_EVENT_NAMES" in error["message"]
    assert error["path"] == ["input", "events", "2", "name"]


async def test_processes_at_the_same_time_add_no_more_than_the_share(open_gateway: Any) -> None:
    settings = {"max_event_names": 50, "max_page_event_names": 5, "allowed_origins": (ORIGIN,)}
    database = f"test_{uuid.uuid4().hex[:12]}"
    async with open_gateway(database=database, **settings) as first:
        workspace = await first.workspace()
        key = await browser(workspace)
        async with open_gateway(database=database, rolls_up=False, **settings) as second:
            others = type(workspace)(second, workspace.id, workspace.key)
            found = await asyncio.gather(
                *(
                    track(each, key, *(f"{number}{name}" for name in "abcde"))
                    for number, each in enumerate((workspace, others) * 3)
                )
            )
    assert sum(error is None for errors in found for error in errors) == 5
