"""Seeds two message rules of the demo workspace."""

from gateway.domain.messages.rules import SaveMessageRule
from gateway.services.messages.rules import MessageService
from gateway.store.workspace_store import WorkspaceStore

_RULES: tuple[SaveMessageRule, ...] = (
    SaveMessageRule(
        name="Teammates",
        event="invited teammate",
        trigger={"every_time": True},
        max_per_contact=1,
        subject="Working together",
        body='Hello {{ contact.firstName | default: "there" }}! Once {{ event.metadata.email }} has joined, you can share reports.',
    ),
    SaveMessageRule(
        name="How was it?",
        event="placed order",
        trigger={"minutes_since_last": 1},
        max_per_contact=3,
        audience={"role": ["USER"]},
        body="You ordered {{ event.metadata.order.value }} for {{ event.metadata.price }}. Is everything as it should be?",
    ),
)


async def seed_messages(messages: MessageService, store: WorkspaceStore) -> None:
    """Save the rules that the demo's events trigger; safe to repeat after an interruption."""
    existing_names = {rule["name"] for rule in await store.message_rules.all()}
    for rule in _RULES:
        if rule.name not in existing_names:
            await messages.save(store.workspace_id, rule)
