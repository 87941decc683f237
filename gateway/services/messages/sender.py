"""Sends the messages of rules and campaigns as conversations, each once.

Each message and each step of a campaign is a timer, which is removed in the transaction that stores its effect.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix, prefix_of
from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.core.timers import timer_of
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.merging import ids_of
from gateway.domain.events.events import summary_id_of
from gateway.domain.filters.conditions import parse_filter
from gateway.domain.messages.rules import CAMPAIGN, RuleTrigger, delay_of, is_delayed
from gateway.domain.messages.templates import TemplateError, Templates, template_data
from gateway.domain.messages.triggers import MESSAGE, message_timer, sent_id_of, waiting_timer
from gateway.domain.support.actors import AUTOMATION
from gateway.domain.support.conversations import Channel, ConversationAggregate, DeliveredAs, new_conversation
from gateway.domain.support.threads import Changeset, ThreadKind
from gateway.errors import UserProblem
from gateway.services.messages.rules import FORGET_RULE
from gateway.services.support.commands import AlsoWrite, CommandExecutor
from gateway.services.timers import Handler
from gateway.store.driver import Session
from gateway.store.filters.fact_loader import contact_matches
from gateway.store.messages import OvertakenError
from gateway.store.retries import retry_transaction
from gateway.store.workspace_store import Store, WorkspaceStore

_MESSAGES_AT_ONCE = 200
_LONGEST_SUBJECT = 1000


@dataclass(frozen=True, slots=True)
class RenderedMessage:
    contact: Document
    subject: str | None
    body: str


@dataclass(frozen=True, slots=True)
class _SendHistory:
    """What a rule sent to a contact. `last_for`: the time of the last event that it sent for."""

    count: int
    own_state: Document | None
    last_for: datetime | None


class MessageSender:
    def __init__(
        self, store: Store, clock: Clock, minter: Minter, templates: Templates, commands: CommandExecutor
    ) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter
        self._templates = templates
        self._commands = commands
        self._log = structlog.get_logger("gateway.messages")

    @property
    def handlers(self) -> dict[str, Handler]:
        return {MESSAGE: self.send, CAMPAIGN: self.send_campaign, FORGET_RULE: self.forget}

    async def send(self, timer: Document) -> None:
        """Send the message of a rule if it still applies, or move it to a later timer."""
        store = self._store.open(timer["workspace_id"])
        rule = await _rule_of(store, timer)
        contact = (await store.contacts.of_ids([timer["contact_id"]])).get(timer["contact_id"])
        if rule is None or contact is None:
            await self._end(store, timer)
        elif is_delayed(rule) and (next_timer := await self._reschedule(store, rule, contact, timer)) is not timer:
            await self._end(store, timer, *([] if next_timer is None else [next_timer]))
        else:
            await self._send(store, rule, contact, timer)

    async def send_campaign(self, timer: Document) -> None:
        """Set timers for the next recipients, and one for the step after them."""
        store, now = self._store.open(timer["workspace_id"]), self._clock()
        campaign = (await store.campaigns.by_ids([timer["subject_id"]])).get(timer["subject_id"])
        if campaign is None:
            return await self._end(store, timer)
        page = Page(_MESSAGES_AT_ONCE, False, timer["after"], None)
        members = (await store.members.page(campaign["segment_id"], page, TimeRange(), now))[:_MESSAGES_AT_ONCE]
        timers = [
            message_timer(campaign, member["contact_id"], now)
            for member in members
            if member["since"] <= campaign["created_at"]
        ]
        if len(members) == _MESSAGES_AT_ONCE:
            after = members[-1]["contact_id"]
            timers.append(timer_of(store.workspace_id, CAMPAIGN, campaign["_id"], now, after=after))
        return await self._end(store, timer, *timers)

    async def forget(self, timer: Document) -> None:
        store = self._store.open(timer["workspace_id"])
        while await store.rule_states.delete_some(timer["subject_id"]):
            continue
        await store.sent_counts.remove(timer["subject_id"])
        await self._end(store, timer)

    async def _end(self, store: WorkspaceStore, timer: Document, *new_timers: Document) -> None:
        async def write(session: Session) -> None:
            await store.timers.take(timer, session)
            await store.timers.set(new_timers, session)

        await retry_transaction(lambda _: store.database.transaction(write))

    async def _reschedule(
        self, store: WorkspaceStore, rule: Mapping[str, Any], contact: Document, timer: Document
    ) -> Document | None:
        """Return `timer` if it is due, else a later one, or None if another timer covers it."""
        last_event_at = await _last_event_at(store, rule, contact, timer)
        due_at = max(timer["due_at"], last_event_at + delay_of(rule))
        due_timer = waiting_timer(rule, contact["_id"], timer["event_id"], last_event_at, due_at)
        if due_timer["_id"] == timer["_id"]:
            return timer if due_at <= self._clock() else due_timer
        # The survivor of a merge may have a timer for this event.
        stored_timer = (await store.timers.by_ids([due_timer["_id"]])).get(due_timer["_id"])
        return due_timer if stored_timer is None or stored_timer["due_at"] < due_at else None

    async def _send(self, store: WorkspaceStore, rule: Mapping[str, Any], contact: Document, timer: Document) -> None:
        now = self._clock()
        history = await _send_history(store, rule, contact)
        event = await _event_of(store, rule, contact, timer, now)
        last_for = await _last_event_at(store, rule, contact, timer) if is_delayed(rule) else None
        if (
            (rule["event"] is not None and event is None)
            or (rule["max_per_contact"] is not None and history.count >= rule["max_per_contact"])
            or (last_for is not None and history.last_for is not None and history.last_for >= last_for)
            or (timer.get("jumped") and await _reached_before_rule(store, rule, contact))
            or not await _in_audience(store, rule, contact, now)
            or (message := await self._render(store, rule, contact, event, timer)) is None
        ):
            await self._end(store, timer)
            return
        own_state = history.own_state or {"count": 0}
        rule_state = {
            "_id": sent_id_of(rule["_id"], contact["_id"]),
            "rule_id": rule["_id"],
            "contact_id": contact["_id"],
            "count": own_state["count"] + 1,
            "last_for": last_for or own_state.get("last_for"),
        }

        async def also_write(store: WorkspaceStore, session: Session) -> None:
            await store.timers.take(timer, session)
            await store.rule_states.replace(rule_state, history.own_state, session)
            await store.sent_counts.add(rule["_id"], contact["_id"], session)

        try:
            await self._begin(store, message, also_write)
        except OvertakenError:
            await self.send(timer)  # another message was sent to the contact meanwhile
        except UserProblem:  # the contact is gone
            await self._end(store, timer)

    async def _begin(self, store: WorkspaceStore, message: RenderedMessage, also_write: AlsoWrite) -> None:
        new_id = self._minter.mint(Prefix.CONVERSATION, self._clock())
        source = {
            "channel": Channel.CHAT.value,
            "delivered_as": DeliveredAs.AUTOMATED.value,
            "subject": message.subject,
            "body": message.body,
        }

        def begin(contact: Document, now: datetime) -> Changeset:
            document = new_conversation(new_id, contact, {"source": source}, AUTOMATION, now)
            return ConversationAggregate.created(document, self._minter).changeset()

        ref = {"id": message.contact["_id"]}
        await self._commands.create(
            store.workspace_id, ThreadKind.CONVERSATION, new_id, ref, None, begin, also_write=also_write
        )

    async def _render(
        self,
        store: WorkspaceStore,
        rule: Mapping[str, Any],
        contact: Document,
        event: Document | None,
        timer: Document,
    ) -> RenderedMessage | None:
        """Return None if the body is empty or the template fails."""
        count = timer.get("count") or (await _count(store, contact, event) if event is not None else 0)
        data = template_data(contact, event, count)
        try:
            subject = self._templates.render(rule["subject"], data) if rule["subject"] else None
            body = self._templates.render(rule["body"], data)
        except TemplateError as error:
            self._log.warning("message could not be rendered", rule_id=rule["_id"], reason=str(error))
            return None
        return RenderedMessage(contact, subject[:_LONGEST_SUBJECT] if subject else None, body) if body else None


async def _rule_of(store: WorkspaceStore, timer: Document) -> Document | None:
    """The rule if it is still in force. A campaign is returned as a rule without conditions."""
    rule_id = timer["rule_id"]
    if prefix_of(rule_id) is Prefix.CAMPAIGN:
        campaign = (await store.campaigns.by_ids([rule_id])).get(rule_id)
        no_conditions = dict.fromkeys(("trigger", "event", "metadata", "audience"))
        return None if campaign is None else {**no_conditions, **campaign, "max_per_contact": 1}
    rule = (await store.message_rules.by_ids([rule_id])).get(rule_id)
    return rule if rule is not None and rule["enabled"] and rule["since"] == timer["since"] else None


async def _event_of(
    store: WorkspaceStore, rule: Mapping[str, Any], contact: Document, timer: Document, now: datetime
) -> Document | None:
    """The event of the message. If retention removed it, a delayed rule gets its name and time."""
    if rule["event"] is None:
        return None
    if not is_delayed(rule) or rule["metadata"]:
        event = (await store.events.by_ids([timer["event_id"]])).get(timer["event_id"])
    else:
        event = await store.events.last_of(contact, rule["event"], now)
    if event is None and is_delayed(rule):
        return {"name": rule["event"], "occurred_at": timer["last_at"], "metadata_json": {}}
    return event


async def _last_event_at(
    store: WorkspaceStore, rule: Mapping[str, Any], contact: Document, timer: Document
) -> datetime:
    """When the contact last did the event this delayed rule watches for."""
    summary = None if rule["metadata"] else await _summary(store, contact, rule["event"])
    last_event_at: datetime = timer["last_at"]
    return last_event_at if summary is None else max(last_event_at, summary["last_at"])


async def _summary(store: WorkspaceStore, contact: Document, name: str) -> Document | None:
    id_ = summary_id_of(store.workspace_id, contact["_id"], name)
    return (await store.summaries.by_ids([id_])).get(id_)


async def _count(store: WorkspaceStore, contact: Document, event: Mapping[str, Any]) -> int:
    summary = await _summary(store, contact, event["name"])
    return 0 if summary is None else int(summary["count"])


async def _send_history(store: WorkspaceStore, rule: Mapping[str, Any], contact: Document) -> _SendHistory:
    states = await store.rule_states.by_ids([sent_id_of(rule["_id"], id_) for id_ in ids_of(contact)])
    last_times = [row["last_for"] for row in states.values() if row["last_for"] is not None]
    own_state = states.get(sent_id_of(rule["_id"], contact["_id"]))
    return _SendHistory(sum(row["count"] for row in states.values()), own_state, max(last_times, default=None))


async def _in_audience(store: WorkspaceStore, rule: Mapping[str, Any], contact: Document, now: datetime) -> bool:
    return rule["audience"] is None or await contact_matches(store, parse_filter(rule["audience"]), contact, now)


async def _reached_before_rule(store: WorkspaceStore, rule: Mapping[str, Any], contact: Document) -> bool:
    """Whether the contact had reached the count before the rule was in force."""
    assert rule["trigger"] == RuleTrigger.NTH_TIME  # noqa: S101 - only NTH_TIME timers are marked as jumped
    summary = await _summary(store, contact, rule["event"]) or {"count": 0}
    received_since = await store.events.count_received(ids_of(contact), rule["event"], rule["since"])
    imported = summary.get("imported") or {}
    imported_since = imported["count"] if imported.get("at") is not None and imported["at"] >= rule["since"] else 0
    return bool(summary["count"] - received_since - imported_since >= rule["n"])
