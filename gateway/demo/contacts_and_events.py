"""Seeds the demo workspace with contacts and events, the same each time but for the date."""

import asyncio
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import cast

import structlog

from gateway.core.clock import Clock
from gateway.core.json_values import JsonObject
from gateway.domain.contacts.commands import UpsertContact
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.documents import ContactRefFields
from gateway.domain.events.events import EventFields, track_event
from gateway.errors import GatewayError, UserProblem
from gateway.services.contacts.contacts import ContactService
from gateway.services.events.tracking import EventService
from gateway.settings import Settings

SEED = 20240101
DAYS = 60
_BATCH = 250
_FIRST = [
    "Ada",
    "Bela",
    "Cato",
    "Dora",
    "Emil",
    "Fina",
    "Goro",
    "Hana",
    "Ivo",
    "Juno",
    "Kaya",
    "Lio",
    "Mira",
    "Nilo",
    "Orla",
    "Pia",
    "Quin",
    "Rosa",
    "Sami",
    "Tova",
]
_LAST = ["Abend", "Birk", "Corvo", "Dahl", "Eklund", "Feld", "Gruen", "Holm"]
_PLACES = (
    {"city": "Lisbon", "country": "Portugal"},
    {"city": "Lyon", "country": "France"},
    {"city": "Bremen", "country": "Germany"},
)
_PLANS = ("free", "team", "business")
_USERS, _LEADS, _VISITORS = 40, 12, 8


async def seed_demo(
    events: EventService, contacts: ContactService, workspace_id: str, settings: Settings, now: datetime
) -> None:
    """Seed contacts and events. Idempotency keys make it safe to repeat after an interruption."""
    chance = random.Random(SEED)  # noqa: S311 - the same numbers each time is the point
    people = list(_people(chance, now))
    for person in people:
        await contacts.upsert(workspace_id, UpsertContact(**person))
    inputs = [event for person in people for event in _events(chance, person, now)]
    commands = [track_event(event, settings, now) for event in inputs]
    for start in range(0, len(commands), _BATCH):
        for outcome in await events.track(workspace_id, commands[start : start + _BATCH]):
            if isinstance(outcome, UserProblem):
                raise outcome


async def keep_tracking(
    events: EventService, workspace_id: str, settings: Settings, seeded_at: datetime, clock: Clock
) -> None:
    """Track a random event of a demo contact every few seconds, until cancelled."""
    chance = random.Random()  # noqa: S311 - it is a game
    people = list(_people(random.Random(SEED), seeded_at))  # noqa: S311
    log = structlog.get_logger("gateway.demo")
    while True:
        await asyncio.sleep(settings.demo_seconds)
        person = chance.choice(people)
        name, metadata = _random_event(chance, is_user="external_id" in person)
        event_input: EventFields = {"contact": _keys(person), "name": name, "metadata": metadata}
        try:
            await events.track(workspace_id, [track_event(event_input, settings, clock())])
        except GatewayError as error:
            log.warning("demo events pause", reason=error.message)


def _keys(person: Document) -> ContactRefFields:
    keys = {key: person[key] for key in ("external_id", "email", "anonymous_id") if key in person}
    return cast(ContactRefFields, keys)


def _people(chance: random.Random, now: datetime) -> Iterator[Document]:
    for number in range(_USERS + _LEADS + _VISITORS):
        key: Document = {"idempotency_key": f"demo-contact-{number}"}
        first, last = chance.choice(_FIRST), chance.choice(_LAST)
        named = {"first_name": first, "last_name": last, "name": f"{first} {last}"}
        email = f"{first}.{last}.{number}@example.com".lower()
        if number < _USERS:
            joined = now - timedelta(days=chance.randint(5, 400))
            attributes = {"plan": chance.choice(_PLANS), "seats": chance.randint(1, 50)}
            yield (
                key
                | named
                | {
                    "external_id": f"user-{number}",
                    "email": email,
                    "signed_up_at": joined,
                    "location": chance.choice(_PLACES),
                    "custom_attributes": attributes,
                    "tags": ["demo"],
                }
            )
        elif number < _USERS + _LEADS:
            yield key | named | {"email": email}
        else:
            yield key | {"anonymous_id": f"browser-{number}"}


def _events(chance: random.Random, person: Document, now: datetime) -> Iterator[EventFields]:
    contact = _keys(person)
    for number in range(chance.randint(3, 60)):
        name, metadata = _random_event(chance, is_user="external_id" in contact)
        at = now - timedelta(seconds=chance.randint(60, DAYS * 86_400))
        key = f"demo-{contact.get('external_id') or contact.get('email') or contact.get('anonymous_id')}-{number}"
        yield {"contact": contact, "name": name, "metadata": metadata, "occurred_at": at, "idempotency_key": key}


def _random_event(chance: random.Random, *, is_user: bool) -> tuple[str, JsonObject]:
    page = chance.choice(("pricing", "docs", "blog", "features"))
    visited: tuple[str, JsonObject] = ("viewed page", {"page": page, "link": f"https://example.com/{page}"})
    if not is_user or chance.random() < 0.5:
        return visited
    number = chance.randint(1000, 9999)
    actions: tuple[tuple[str, JsonObject], ...] = (
        ("created report", {"title": f"Report {number}", "rows": number, "shared": chance.random() < 0.3}),
        ("invited teammate", {"email": f"mate{number}@example.com"}),
        (
            "placed order",
            {
                "order": {"url": f"https://example.com/orders/{number}", "value": f"No. {number}"},
                "price": {"amount": number, "currency": "EUR"},
                "stripe_invoice": f"in_{number}",
                "livemode": False,
            },
        ),
        ("exported pdf", {"pages": chance.randint(1, 40)}),
    )
    return chance.choice(actions)
