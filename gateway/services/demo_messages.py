"""Two message rules at work in the demo workspace."""

from datetime import datetime

from gateway.domain.contacts import Document
from gateway.domain.events import track_event
from gateway.errors import UserProblem
from gateway.services.events import EventService
from gateway.services.messages import MessageService
from gateway.settings import Settings
from gateway.store.stores import WorkspaceStore

_RULES: tuple[Document, ...] = (
    {
        "name": "Teammates",
        "event": "invited teammate",
        "trigger": {"every_time": True},
        "max_per_contact": 1,
        "subject": "Working together",
        "body": 'Hello {{ contact.firstName | default: "there" }}! Once {{ event.metadata.email }} has joined, you can share reports.',
    },
    {
        "name": "How was it?",
        "event": "placed order",
        "trigger": {"minutes_since_last": 1},
        "max_per_contact": 3,
        "audience": {"role": ["USER"]},
        "body": "You ordered {{ event.metadata.order.value }} for {{ event.metadata.price }}. Is everything as it should be?",
    },
)
_ORDER = {
    "order": {"url": "https://example.com/orders/1815", "value": "No. 1815"},
    "price": {"amount": 1815, "currency": "EUR"},
}
_EVENTS = (("invited teammate", {"email": "mate@example.com"}), ("placed order", _ORDER))


async def seed_messages(
    messages: MessageService, events: EventService, store: WorkspaceStore, settings: Settings, now: datetime
) -> None:
    """Save the rules, and let a few people of the demo set them off; a seeding that was cut off may be repeated."""
    known = {rule["name"] for rule in await store.message_rules.all()}
    for rule in _RULES:
        if rule["name"] not in known:
            await messages.save(store.workspace_id, rule)
    sent = [
        {
            "contact": {"external_id": f"user-{user}"},
            "name": name,
            "metadata": metadata,
            "idempotency_key": f"demo-{name}-{user}",
        }
        for user in range(3)
        for name, metadata in _EVENTS
    ]
    commands = [track_event(event, settings, now) for event in sent]
    for outcome in await events.track(store.workspace_id, commands):
        if isinstance(outcome, UserProblem):
            raise outcome
