"""Sends the messages of rules and campaigns as conversations, each once.

Each message and each step of a campaign is a timer, which is removed in the transaction that stores its effect.
"""

from dataclasses import dataclass
from datetime import datetime

import structlog

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix, prefix_of
from gateway.core.pagination import Page
from gateway.core.time_ranges import TimeRange
from gateway.core.timers import TimerDocument, timer_of
from gateway.domain.contacts.documents import ContactDocument, ContactRefFields
from gateway.domain.contacts.merging import ids_of
from gateway.domain.events.documents import EventDocument, SummaryDocument
from gateway.domain.events.events import summary_id_of
from gateway.domain.filters.conditions import parse_filter
from gateway.domain.messages.documents import CampaignDocument, MessageRuleDocument, RuleStateDocument
from gateway.domain.messages.rules import CAMPAIGN, RuleTrigger, delay_of, is_delayed
from gateway.domain.messages.templates import TemplateError, Templates, template_data
from gateway.domain.messages.triggers import MESSAGE, message_timer, sent_id_of, waiting_timer
from gateway.domain.support.actors import AUTOMATION
from gateway.domain.support.conversation_inputs import MAX_TITLE
from gateway.domain.support.conversations import (
    Channel,
    ConversationAggregate,
    DeliveredAs,
    NewSource,
    new_conversation,
)
from gateway.domain.support.documents import ConversationDocument
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


@dataclass(frozen=True, slots=True)
class RenderedMessage:
    contact: ContactDocument
    subject: str | None
    body: str


@dataclass(frozen=True, slots=True)
class _SendHistory:
    """What a rule sent to a contact. `last_for`: the time of the last event that it sent for."""

    count: int
    own_state: RuleStateDocument | None
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

    async def send(self, timer: TimerDocument) -> None:
        """Send the message of a rule if it still applies, or move it to a later timer."""
        store = self._store.open(timer["workspace_id"])
        rule = await _rule_of(store, timer)
        contact = await store.contacts.of_id(timer["contact_id"])
        if rule is None or contact is None:
            await self._end(store, timer)
        elif is_delayed(rule) and (next_timer := await self._reschedule(store, rule, contact, timer)) is not timer:
            await self._end(store, timer, *([] if next_timer is None else [next_timer]))
        else:
            await self._send(store, rule, contact, timer)

    async def send_campaign(self, timer: TimerDocument) -> None:
        """Set timers for the next recipients, and one for the step after them."""
        store, now = self._store.open(timer["workspace_id"]), self._clock()
        campaign = await store.campaigns.get(timer["subject_id"])
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

    async def forget(self, timer: TimerDocument) -> None:
        store = self._store.open(timer["workspace_id"])
        while await store.rule_states.delete_some(timer["subject_id"]):
            continue
        await store.sent_counts.remove(timer["subject_id"])
        await self._end(store, timer)

    async def _end(self, store: WorkspaceStore, timer: TimerDocument, *new_timers: TimerDocument) -> None:
        async def write(session: Session) -> None:
            await store.timers.take(timer, session)
            await store.timers.set(new_timers, session)

        await retry_transaction(lambda _: store.database.transaction(write))

    async def _reschedule(
        self, store: WorkspaceStore, rule: MessageRuleDocument, contact: ContactDocument, timer: TimerDocument
    ) -> TimerDocument | None:
        """Return `timer` if it is due, else a later one, or None if another timer covers it."""
        last_event_at = await _last_event_at(store, rule, contact, timer)
        due_at = max(timer["due_at"], last_event_at + delay_of(rule))
        due_timer = waiting_timer(rule, contact["_id"], timer["event_id"], last_event_at, due_at)
        if due_timer["_id"] == timer["_id"]:
            return timer if due_at <= self._clock() else due_timer
        # The survivor of a merge may have a timer for this event.
        stored_timer = await store.timers.get(due_timer["_id"])
        return due_timer if stored_timer is None or stored_timer["due_at"] < due_at else None

    async def _send(
        self, store: WorkspaceStore, rule: MessageRuleDocument, contact: ContactDocument, timer: TimerDocument
    ) -> None:
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
        own_state = history.own_state
        rule_state: RuleStateDocument = {
            "_id": sent_id_of(rule["_id"], contact["_id"]),
            "rule_id": rule["_id"],
            "contact_id": contact["_id"],
            "count": (0 if own_state is None else own_state["count"]) + 1,
            "last_for": last_for or (own_state and own_state.get("last_for")),
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
        source: NewSource = {
            "channel": Channel.CHAT.value,
            "delivered_as": DeliveredAs.AUTOMATED.value,
            "body": message.body,
        }
        if message.subject is not None:
            source["subject"] = message.subject

        def begin(contact: ContactDocument, now: datetime) -> Changeset[ConversationDocument]:
            document = new_conversation(new_id, contact, {"source": source}, AUTOMATION, now)
            return ConversationAggregate.created(document, self._minter).changeset()

        ref: ContactRefFields = {"id": message.contact["_id"]}
        await self._commands.create(
            store.workspace_id, ThreadKind.CONVERSATION, new_id, ref, None, begin, also_write=also_write
        )

    async def _render(
        self,
        store: WorkspaceStore,
        rule: MessageRuleDocument,
        contact: ContactDocument,
        event: EventDocument | None,
        timer: TimerDocument,
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
        return RenderedMessage(contact, subject[:MAX_TITLE] if subject else None, body) if body else None


async def _rule_of(store: WorkspaceStore, timer: TimerDocument) -> MessageRuleDocument | None:
    """The rule if it is still in force. A campaign is returned as a rule without conditions."""
    rule_id = timer["rule_id"]
    if prefix_of(rule_id) is Prefix.CAMPAIGN:
        campaign = await store.campaigns.get(rule_id)
        return None if campaign is None else _rule_of_campaign(campaign)
    rule = await store.message_rules.get(rule_id)
    return rule if rule is not None and rule["enabled"] and rule["since"] == timer["since"] else None


def _rule_of_campaign(campaign: CampaignDocument) -> MessageRuleDocument:
    return {
        "_id": campaign["_id"],
        "workspace_id": campaign["workspace_id"],
        "name": "",
        "enabled": True,
        "trigger": "",
        "n": None,
        "segment_id": None,
        "event": None,
        "audience": None,
        "metadata": None,
        "subject": campaign["subject"],
        "body": campaign["body"],
        "max_per_contact": 1,
        "since": campaign["created_at"],
        "created_at": campaign["created_at"],
        "updated_at": campaign["created_at"],
        "version": 1,
    }


async def _event_of(
    store: WorkspaceStore, rule: MessageRuleDocument, contact: ContactDocument, timer: TimerDocument, now: datetime
) -> EventDocument | None:
    """The event of the message. If retention removed it, a delayed rule gets its name and time."""
    if rule["event"] is None:
        return None
    if not is_delayed(rule) or rule["metadata"]:
        event = await store.events.get(timer["event_id"])
    else:
        event = await store.events.last_of(contact, rule["event"], now)
    if event is None and is_delayed(rule):
        return {
            "_id": timer["event_id"],
            "workspace_id": store.workspace_id,
            "contact_id": contact["_id"],
            "name": rule["event"],
            "occurred_at": timer["last_at"],
            "received_at": timer["last_at"],
            "metadata": [],
            "metadata_json": {},
            "identity": timer["event_id"],
        }
    return event


async def _last_event_at(
    store: WorkspaceStore, rule: MessageRuleDocument, contact: ContactDocument, timer: TimerDocument
) -> datetime:
    """When the contact last did the event this delayed rule watches for."""
    summary = None if rule["metadata"] else await _summary(store, contact, str(rule["event"]))
    return timer["last_at"] if summary is None else max(timer["last_at"], summary["last_at"])


async def _summary(store: WorkspaceStore, contact: ContactDocument, name: str) -> SummaryDocument | None:
    id_ = summary_id_of(store.workspace_id, contact["_id"], name)
    return await store.summaries.get(id_)


async def _count(store: WorkspaceStore, contact: ContactDocument, event: EventDocument) -> int:
    summary = await _summary(store, contact, event["name"])
    return 0 if summary is None else summary["count"]


async def _send_history(store: WorkspaceStore, rule: MessageRuleDocument, contact: ContactDocument) -> _SendHistory:
    states = await store.rule_states.by_ids([sent_id_of(rule["_id"], id_) for id_ in ids_of(contact)])
    last_times = [last_for for row in states.values() if (last_for := row["last_for"]) is not None]
    own_state = states.get(sent_id_of(rule["_id"], contact["_id"]))
    return _SendHistory(sum(row["count"] for row in states.values()), own_state, max(last_times, default=None))


async def _in_audience(
    store: WorkspaceStore, rule: MessageRuleDocument, contact: ContactDocument, now: datetime
) -> bool:
    return rule["audience"] is None or await contact_matches(store, parse_filter(rule["audience"]), contact, now)


async def _reached_before_rule(store: WorkspaceStore, rule: MessageRuleDocument, contact: ContactDocument) -> bool:
    """Whether the contact had reached the count before the rule was in force."""
    assert rule["trigger"] == RuleTrigger.NTH_TIME  # noqa: S101 - only NTH_TIME timers are marked as jumped
    event_name, n = str(rule["event"]), rule["n"] or 0
    received_since = await store.events.count_received(ids_of(contact), event_name, rule["since"])
    if (summary := await _summary(store, contact, event_name)) is None:
        return -received_since >= n
    imported = summary.get("imported")
    is_new = imported is not None and "at" in imported and imported["at"] >= rule["since"]
    imported_since = imported["count"] if imported is not None and is_new else 0
    return summary["count"] - received_since - imported_since >= n
