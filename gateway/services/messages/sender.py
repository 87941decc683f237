"""Messages on their way: what rules set off, and what is written to whole segments, becomes conversations, each once.

Both are timers, so that whoever is killed over one is followed by another: what a timer does is stored with its end.
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
from gateway.services.messages.rules import FORGETTING
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
    """What is to be sent to a contact."""

    contact: Document
    subject: str | None
    body: str


@dataclass(frozen=True, slots=True)
class _Sent:
    """What a rule sent to a contact before, and for the last event until when."""

    count: int
    own: Document | None
    last_for: datetime | None


class MessageSender:
    """Handles the timers of messages."""

    def __init__(self, store: Store, clock: Clock, minter: Minter, templates: Templates, acts: CommandExecutor) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter
        self._templates = templates
        self._acts = acts
        self._log = structlog.get_logger("gateway.messages")

    @property
    def handlers(self) -> dict[str, Handler]:
        """What is done when the timers of messages go off."""
        return {MESSAGE: self.send, CAMPAIGN: self.send_campaign, FORGETTING: self.forget}

    async def send(self, timer: Document) -> None:
        """Send the message that was set off, unless the contact is not to get it; or wait on where its time moved."""
        store = self._store.open(timer["workspace_id"])
        rule = await _rule_of(store, timer)
        contact = (await store.contacts.of_ids([timer["contact_id"]])).get(timer["contact_id"])
        if rule is None or contact is None:
            await self._end(store, timer)
        elif is_delayed(rule) and (moved := await self._reschedule(store, rule, contact, timer)) is not timer:
            await self._end(store, timer, *([] if moved is None else [moved]))
        else:
            await self._send(store, rule, contact, timer)

    async def send_campaign(self, timer: Document) -> None:
        """Set off the message to the next members of a segment, and go on after them."""
        store, now = self._store.open(timer["workspace_id"]), self._clock()
        mailing = (await store.mailings.by_ids([timer["subject_id"]])).get(timer["subject_id"])
        if mailing is None:
            return await self._end(store, timer)
        asked = Page(_MESSAGES_AT_ONCE, False, timer["after"], None)
        members = (await store.members.page(mailing["segment_id"], asked, TimeRange(), now))[:_MESSAGES_AT_ONCE]
        letters = [
            message_timer(mailing, member["contact_id"], now)
            for member in members
            if member["since"] <= mailing["created_at"]
        ]
        if len(members) == _MESSAGES_AT_ONCE:
            after = members[-1]["contact_id"]
            letters.append(timer_of(store.workspace_id, CAMPAIGN, mailing["_id"], now, after=after))
        return await self._end(store, timer, *letters)

    async def forget(self, timer: Document) -> None:
        """Erase what was remembered of a rule that is gone."""
        store = self._store.open(timer["workspace_id"])
        while await store.rule_memories.delete_some(timer["subject_id"]):
            continue
        await store.sent_counts.remove(timer["subject_id"])
        await self._end(store, timer)

    async def _end(self, store: WorkspaceStore, timer: Document, *others: Document) -> None:
        async def write(session: Session) -> None:
            await store.timers.take(timer, session)
            await store.timers.set(others, session)

        await retry_transaction(lambda _: store.database.transaction(write))

    async def _reschedule(
        self, store: WorkspaceStore, rule: Mapping[str, Any], contact: Document, timer: Document
    ) -> Document | None:
        """The timer that is to go off in the place of one that waits: itself where its time has come; None: none is."""
        last = await _last(store, rule, contact, timer)
        due_at = max(timer["due_at"], last + delay_of(rule))
        meant = waiting_timer(rule, contact["_id"], timer["event_id"], last, due_at)
        if meant["_id"] == timer["_id"]:
            return timer if due_at <= self._clock() else meant
        other = (await store.timers.by_ids([meant["_id"]])).get(meant["_id"])  # of whoever took the contact over
        return meant if other is None or other["due_at"] < due_at else None

    async def _send(self, store: WorkspaceStore, rule: Mapping[str, Any], contact: Document, timer: Document) -> None:
        now = self._clock()
        sent = await _sent_before(store, rule, contact)
        event = await _event_of(store, rule, contact, timer, now)
        last_for = await _last(store, rule, contact, timer) if is_delayed(rule) else None
        if (
            (rule["event"] is not None and event is None)
            or (rule["max_per_contact"] is not None and sent.count >= rule["max_per_contact"])
            or (last_for is not None and sent.last_for is not None and sent.last_for >= last_for)
            or (timer.get("jumped") and await _reached_before_rule(store, rule, contact))
            or not await _in_audience(store, rule, contact, now)
            or (letter := await self._render(store, rule, contact, event, timer)) is None
        ):
            await self._end(store, timer)
            return
        own = sent.own or {"count": 0}
        memory = {
            "_id": sent_id_of(rule["_id"], contact["_id"]),
            "rule_id": rule["_id"],
            "contact_id": contact["_id"],
            "count": own["count"] + 1,
            "last_for": last_for or own.get("last_for"),
        }

        async def within(store: WorkspaceStore, session: Session) -> None:
            await store.timers.take(timer, session)
            await store.rule_memories.replace(memory, sent.own, session)
            await store.sent_counts.add(rule["_id"], contact["_id"], session)

        try:
            await self._begin(store, letter, within)
        except OvertakenError:
            await self.send(timer)  # what was sent to the contact before is another now
        except UserProblem:  # the contact is gone
            await self._end(store, timer)

    async def _begin(self, store: WorkspaceStore, letter: RenderedMessage, within: AlsoWrite) -> None:
        """Begin an automated conversation."""
        new_id = self._minter.mint(Prefix.CONVERSATION, self._clock())
        source = {
            "channel": Channel.CHAT.value,
            "delivered_as": DeliveredAs.AUTOMATED.value,
            "subject": letter.subject,
            "body": letter.body,
        }

        def begin(contact: Document, now: datetime) -> Changeset:
            document = new_conversation(new_id, contact, {"source": source}, AUTOMATION, now)
            return ConversationAggregate.created(document, self._minter).changeset()

        ref = {"id": letter.contact["_id"]}
        await self._acts.create(store.workspace_id, ThreadKind.CONVERSATION, new_id, ref, None, begin, within=within)

    async def _render(
        self,
        store: WorkspaceStore,
        rule: Mapping[str, Any],
        contact: Document,
        event: Document | None,
        timer: Document,
    ) -> RenderedMessage | None:
        """What it says; None where that is nothing, or cannot be written."""
        count = timer.get("count") or (await _count(store, contact, event) if event is not None else 0)
        data = template_data(contact, event, count)
        try:
            subject = self._templates.render(rule["subject"], data) if rule["subject"] else None
            body = self._templates.render(rule["body"], data)
        except TemplateError as error:
            self._log.warning("a message could not be written", rule_id=rule["_id"], reason=str(error))
            return None
        return RenderedMessage(contact, subject[:_LONGEST_SUBJECT] if subject else None, body) if body else None


async def _rule_of(store: WorkspaceStore, timer: Document) -> Document | None:
    """The rule that set a message off, if it is still in force; of a message to a segment what stands in its place."""
    rule_id = timer["rule_id"]
    if prefix_of(rule_id) is Prefix.MAILING:
        mailing = (await store.mailings.by_ids([rule_id])).get(rule_id)
        nothing = dict.fromkeys(("trigger", "event", "metadata", "audience"))
        return None if mailing is None else {**nothing, **mailing, "max_per_contact": 1}
    rule = (await store.message_rules.by_ids([rule_id])).get(rule_id)
    return rule if rule is not None and rule["enabled"] and rule["since"] == timer["since"] else None


async def _event_of(
    store: WorkspaceStore, rule: Mapping[str, Any], contact: Document, timer: Document, now: datetime
) -> Document | None:
    """The event that the message is about; what is left of it, where it is kept no longer."""
    if rule["event"] is None:
        return None
    if not is_delayed(rule) or rule["metadata"]:
        found = (await store.events.by_ids([timer["event_id"]])).get(timer["event_id"])
    else:
        found = await store.events.last_of(contact, rule["event"], now)
    if found is None and is_delayed(rule):
        return {"name": rule["event"], "occurred_at": timer["last_at"], "metadata_json": {}}
    return found


async def _last(store: WorkspaceStore, rule: Mapping[str, Any], contact: Document, timer: Document) -> datetime:
    """When the contact did last what a rule waits for to be done no more."""
    summary = None if rule["metadata"] else await _summary(store, contact, rule["event"])
    last: datetime = timer["last_at"]
    return last if summary is None else max(last, summary["last_at"])


async def _summary(store: WorkspaceStore, contact: Document, name: str) -> Document | None:
    id_ = summary_id_of(store.workspace_id, contact["_id"], name)
    return (await store.summaries.by_ids([id_])).get(id_)


async def _count(store: WorkspaceStore, contact: Document, event: Mapping[str, Any]) -> int:
    summary = await _summary(store, contact, event["name"])
    return 0 if summary is None else int(summary["count"])


async def _sent_before(store: WorkspaceStore, rule: Mapping[str, Any], contact: Document) -> _Sent:
    """What the rule sent to a contact, and to those that it took over."""
    found = await store.rule_memories.by_ids([sent_id_of(rule["_id"], id_) for id_ in ids_of(contact)])
    lasts = [row["last_for"] for row in found.values() if row["last_for"] is not None]
    own = found.get(sent_id_of(rule["_id"], contact["_id"]))
    return _Sent(sum(row["count"] for row in found.values()), own, max(lasts, default=None))


async def _in_audience(store: WorkspaceStore, rule: Mapping[str, Any], contact: Document, now: datetime) -> bool:
    return rule["audience"] is None or await contact_matches(store, parse_filter(rule["audience"]), contact, now)


async def _reached_before_rule(store: WorkspaceStore, rule: Mapping[str, Any], contact: Document) -> bool:
    """Whether a contact had done it as often as is wanted before the rule was in force."""
    assert rule["trigger"] == RuleTrigger.NTH_TIME  # noqa: S101 - no other jumps
    summary = await _summary(store, contact, rule["event"]) or {"count": 0}
    since = await store.events.count_received(ids_of(contact), rule["event"], rule["since"])
    imported = summary.get("imported") or {}
    came = imported["count"] if imported.get("at") is not None and imported["at"] >= rule["since"] else 0
    return bool(summary["count"] - since - came >= rule["n"])
