"""What is asked for: people with their events, made by the gateway's own services, at a time that stands still."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from gateway.core.principals import Principal, Scope
from gateway.domain.events.events import track_event
from gateway.runtime import Runtime

KEY = "benchmark-key"
DATABASE = "benchmark"
NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
CONTACTS, EVENTS_EACH = 60, 10  # of whom a page shows the newest fifty
PAGE = 50
_NAMES = ("viewed page", "placed order", "exported pdf", "invited teammate")


class Clock:
    """A clock that stands still, so that every round asks for the very same documents."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """What time it is."""
        return self.now


def bearer(workspace_id: str) -> dict[str, Principal]:
    """The key that opens the workspace, known to one process alone."""
    return {KEY: Principal("key_00000000000000000000000000", workspace_id, frozenset(Scope))}


async def fill(runtime: Runtime, clock: Clock) -> tuple[str, str]:
    """A new workspace, and the id of one contact: each of them with the same number of events in the last ten days."""
    workspace_id = (await runtime.workspaces.create("benchmark"))["_id"]
    services, contact = runtime.services, {}
    for number in range(CONTACTS):
        clock.now = NOW - timedelta(milliseconds=200 * (CONTACTS - number))
        contact, _ = await services.contacts.upsert(workspace_id, _person(number))
    clock.now = NOW
    for number in range(CONTACTS):
        sent = [_event(number, place) for place in range(EVENTS_EACH)]
        commands = [track_event(one, services.settings, NOW) for one in sent]
        await services.events.track(workspace_id, commands)
    return workspace_id, str(contact["_id"])


def _person(number: int) -> dict[str, object]:
    return {
        "external_id": f"user-{number}",
        "email": f"person{number}@acme.example",
        "name": f"Person {number}",
        "phone": f"+4930{number:07}" if number % 5 else None,
    }


def _event(number: int, place: int) -> dict[str, object]:
    return {
        "contact": {"external_id": f"user-{number}"},
        "name": _NAMES[(number + place) % len(_NAMES)],
        "occurred_at": NOW - timedelta(hours=24 * place + number % 24, minutes=place),
        "metadata": {"page": f"/pricing/{place}", "seconds": place * 1.5, "plan": "pro"},
    }


Made = Callable[[], datetime]
