"""Filters of contacts: the questions that people ask, what each one reads, and that random ones answer as plain Python does."""

from datetime import datetime, timedelta
from typing import Any

import pytest

CONTACTS = """query($f: ContactFilter, $s: ContactSort, $first: Int, $after: String, $last: Int, $before: String) {
  contacts(filter: $f, sort: $s, first: $first, after: $after, last: $last, before: $before) {
    nodes { externalId } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } totalCount } }"""
UPSERT = "mutation($i: UpsertContactInput!) { upsertContact(input: $i) { userErrors { code message path } } }"


@pytest.fixture
def gateway(still_gateway: Any) -> Any:
    return still_gateway


async def stated(workspace: Any, *contacts: dict[str, Any]) -> None:
    for contact in contacts:
        found = await workspace.data(UPSERT, {"i": contact})
        assert found["upsertContact"]["userErrors"] == []


def did(who: str, name: str, at: datetime, **metadata: Any) -> dict[str, Any]:
    return {"contact": {"externalId": who}, "name": name, "occurredAt": at.isoformat(), "metadata": metadata}


async def people(workspace: Any, filter_: Any, **arguments: Any) -> list[str]:
    found = await workspace.data(CONTACTS, {"f": filter_, **arguments})
    return [node["externalId"] for node in found["contacts"]["nodes"]]


@pytest.fixture
async def shop(workspace: Any, now: datetime) -> Any:
    """Ann uses everything, Ben left his cart, Cleo has just come, Dora did nothing."""
    day = timedelta(days=1)
    await stated(
        workspace,
        {
            "externalId": "ann",
            "name": "Ann",
            "email": "Ann@Example.com",
            "tags": ["VIP", "beta"],
            "location": {"city": "Bonn", "country": "DE"},
            "customAttributes": {
                "plan": "Pro",
                "seats": 12,
                "trial": False,
                "renews_at": (now + 3 * day).isoformat(),
                "spent": {"amount": 12000, "currency": "EUR"},
                "site": "https://ann.example/",
            },
            "signedUpAt": (now - 20 * day).isoformat(),
        },
        {
            "externalId": "ben",
            "name": "ben",
            "email": "ben@shop.example",
            "tags": ["beta"],
            "location": {"country": "FR"},
            "customAttributes": {"plan": "free", "seats": 1, "trial": True},
            "signedUpAt": (now - 2 * day).isoformat(),
        },
        {"externalId": "cleo", "name": "Cleo", "role": "USER", "phone": "+49 1"},
        {"externalId": "dora"},
    )
    events = [did("ann", "created report", now - age * day) for age in (30, 6, 1)]
    events += [did("ben", "created report", now - 2 * day), did("cleo", "created report", now - day / 2)]
    events += [did("ann", "viewed pricing", now - age * day) for age in (25, 22, 4, 3, 2)]
    events += [did("ben", "viewed pricing", now - day) for _ in range(3)]
    events += [did("ann", "added to cart", now - 5 * day), did("ann", "bought", now - 4 * day)]
    events += [did("ben", "bought", now - 5 * day), did("ben", "added to cart", now - 4 * day)]
    events += [did("cleo", "added to cart", now - 3 * day), did("cleo", "bought", now - 3 * day)]
    events += [
        did("ann", "viewed page", now - 25 * day, url="https://shop.example/pricing", seconds=12),
        did("ann", "viewed page", now - 10 * day, url="https://shop.example/docs", seconds=3.5),
        did(
            "ben",
            "viewed page",
            now - day,
            url="https://shop.example/pricing",
            price={"amount": 4999, "currency": "usd"},
        ),
        did("cleo", "viewed page", now - day, title="Start", renewal_date=1893456000, first_visit=True),
    ]
    await workspace.track(*events)
    return workspace


DID = "event"
ANSWERS: dict[str, tuple[Any, str]] = {
    "everybody": ({}, "dora cleo ben ann"),
    "more than two reports": ({"event": {"name": "created report", "count": {"gt": 2}}}, "ann"),
    "first report over 5 days ago": ({"event": {"name": "created report", "first": {"moreThanDaysAgo": 5}}}, "ann"),
    "first report within 5 days": ({"event": {"name": "created report", "first": {"lessThanDaysAgo": 5}}}, "cleo ben"),
    "pricing over 3 times": ({"event": {"name": "viewed pricing", "count": {"gt": 3}}}, "ann"),
    "fewer than 5 looks, or none": ({"event": {"name": "viewed pricing", "count": {"lt": 5}}}, "dora cleo ben"),
    "a cart without a purchase": ({"event": {"name": "added to cart", "notFollowedBy": "bought"}}, "ben"),
    "never bought": ({"event": {"name": "bought", "never": True}}, "dora"),
    "bought once at least": ({"event": {"name": "bought"}}, "cleo ben ann"),
    "pricing twice this week": (
        {"event": {"name": "viewed pricing", "within": {"lessThanDaysAgo": 7}, "count": {"gte": 3}}},
        "ben ann",
    ),
    "no report this week": (
        {"event": {"name": "created report", "never": True, "within": {"lessThanDaysAgo": 1}}},
        "dora ben ann",
    ),
    "pricing before signing up": (
        {"event": {"name": "viewed pricing", "beforeSignUp": True, "count": {"eq": 2}}},
        "ann",
    ),
    "pages before signing up": ({"event": {"name": "viewed page", "beforeSignUp": True}}, "cleo ann"),
    "metadata: link": (
        {"event": {"name": "viewed page", "metadata": [{"key": "url", "link": {"endsWith": "/PRICING"}}]}},
        "ben ann",
    ),
    "metadata: number": (
        {"event": {"name": "viewed page", "metadata": [{"key": "seconds", "number": {"lt": 4}}]}},
        "ann",
    ),
    "metadata: money": (
        {
            "event": {
                "name": "viewed page",
                "metadata": [{"key": "price", "money": {"currency": "USD", "amountMinor": {"gte": 4999}}}],
            }
        },
        "ben",
    ),
    "metadata: date": (
        {
            "event": {
                "name": "viewed page",
                "metadata": [{"key": "renewal_date", "time": {"after": "2029-12-31T00:00:00Z"}}],
            }
        },
        "cleo",
    ),
    "metadata: text": (
        {"event": {"name": "viewed page", "metadata": [{"key": "title", "string": {"eq": "start"}}]}},
        "cleo",
    ),
    "metadata: yes or no": (
        {"event": {"name": "viewed page", "metadata": [{"key": "first_visit", "boolean": True}]}},
        "cleo",
    ),
    "metadata: a key that is there": ({"event": {"name": "viewed page", "metadata": [{"key": "seconds"}]}}, "ann"),
    "metadata: both": (
        {
            "event": {
                "name": "viewed page",
                "metadata": [{"key": "url", "link": {"contains": "docs"}}, {"key": "seconds", "number": {"gt": 10}}],
            }
        },
        "",
    ),
    "tag": ({"tag": {"eq": "vip"}}, "ann"),
    "tag in": ({"tag": {"in": ["vip", "Beta"]}}, "ben ann"),
    "not that tag": ({"tag": {"ne": "vip"}}, "dora cleo ben"),
    "no tag": ({"tag": {"known": False}}, "dora cleo"),
    "e-mail": ({"email": {"eq": "ann@example.COM"}}, "ann"),
    "e-mail ends": ({"email": {"endsWith": "@SHOP.example"}}, "ben"),
    "name": ({"name": {"startsWith": "B"}}, "ben"),
    "name in": ({"name": {"in": ["BEN", "CLEO"]}}, "cleo ben"),
    "external id": ({"externalId": {"eq": "CLEO"}}, "cleo"),
    "phone": ({"phone": {"known": True}}, "cleo"),
    "place": ({"country": {"eq": "de"}, "city": {"contains": "ON"}}, "ann"),
    "role": ({"role": ["USER"], "country": {"known": False}}, "dora cleo"),
    "no role": ({"role": []}, ""),
    "signed up": ({"signedUpAt": {"known": True, "moreThanDaysAgo": 5}}, "ann"),
    "never signed up": ({"signedUpAt": {"known": False}}, "dora cleo"),
    "seen": ({"lastSeenAt": {"lessThanDaysAgo": 1}}, "cleo"),
    "never seen": ({"lastSeenAt": {"known": False}}, "dora"),
    "created": ({"createdAt": {"lessThanMinutesAgo": 60}}, "dora cleo ben ann"),
    "not created yet": ({"createdAt": {"moreThanMinutesAgo": 60}}, ""),
    "attribute: text": ({"customAttribute": {"key": "plan", "string": {"eq": "pro"}}}, "ann"),
    "attribute: number": ({"customAttribute": {"key": "seats", "number": {"gte": 1, "lt": 12}}}, "ben"),
    "attribute: yes or no": ({"customAttribute": {"key": "trial", "boolean": False}}, "ann"),
    "attribute: time": ({"customAttribute": {"key": "renews_at", "time": {"lessThanDaysAgo": 0}}}, "ann"),
    "attribute: money": ({"customAttribute": {"key": "spent", "money": {"currency": "eur"}}}, "ann"),
    "attribute: link": ({"customAttribute": {"key": "site", "link": {"startsWith": "https://ann"}}}, "ann"),
    "attribute: another type": ({"customAttribute": {"key": "plan", "number": {"gt": 0}}}, ""),
    "or": ({"or": [{"tag": {"eq": "vip"}}, {"event": {"name": "bought", "never": True}}]}, "dora ann"),
    "or by indexes": ({"or": [{"tag": {"eq": "vip"}}, {"event": {"name": "added to cart"}}]}, "cleo ben ann"),
    "none of nothing": ({"or": []}, ""),
    "and, not": (
        {"and": [{"event": {"name": "bought"}}, {"not": {"country": {"in": ["DE", "FR"]}}}], "role": ["USER"]},
        "cleo",
    ),
}


async def test_questions_have_their_answers_in_every_order(shop: Any) -> None:
    for question, (filter_, expected) in ANSWERS.items():
        found = (await shop.data(CONTACTS, {"f": filter_, "first": 3}))["contacts"]
        names = [node["externalId"] for node in found["nodes"]]
        assert names == expected.split()[:3], question
        assert found["pageInfo"]["hasNextPage"] == (len(expected.split()) > 3), question
        assert found["totalCount"] == len(expected.split()), question
        for key in ("CREATED_AT", "UPDATED_AT", "LAST_SEEN_AT", "NAME"):
            for direction in ("ASC", "DESC"):
                sort = {"key": key, "direction": direction}
                assert sorted(await people(shop, filter_, s=sort)) == sorted(expected.split()), (question, sort)
