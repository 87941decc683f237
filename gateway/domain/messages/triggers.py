"""Triggers: tracked events become timers, written in the transaction of the events."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Unpack

from gateway.core.ids import Prefix, derived_id
from gateway.core.timers import EventData, TimerDocument, timer_of
from gateway.domain.events.documents import EventDocument, SummaryDocument
from gateway.domain.events.events import summary_id_of
from gateway.domain.filters.conditions import check_metadata_filter, has_metadata
from gateway.domain.filters.operators import AttributeTest
from gateway.domain.messages.documents import CampaignDocument, MessageRuleDocument, RuleStateDocument
from gateway.domain.messages.rules import RuleTrigger, delay_of, is_delayed

MESSAGE = "message"  # the kind of timer that becomes a conversation
_LIVE_FOR = timedelta(minutes=5)


def is_live(event: EventDocument) -> bool:
    """Whether an event can trigger messages: not an import, nor one tracked late."""
    return not event.get("imported") and event["received_at"] - event["occurred_at"] <= _LIVE_FOR


def progress_id_of(rule_id: str, contact_id: str) -> str:
    return derived_id(Prefix.FIRING, rule_id, contact_id, "progress")


def sent_id_of(rule_id: str, contact_id: str) -> str:
    """The id of the record of what a rule sent to a contact."""
    return derived_id(Prefix.FIRING, rule_id, contact_id, "sent")


@dataclass(frozen=True, slots=True)
class LiveRule:
    row: MessageRuleDocument
    tests: Sequence[AttributeTest]

    @property
    def counts(self) -> bool:
        """Whether the rule needs stored progress, because the summary's count does not suffice."""
        trigger = self.row["trigger"]
        return trigger == RuleTrigger.NTH_TIME or (trigger == RuleTrigger.FIRST_TIME and bool(self.tests))


class RuleIndex:
    """The enabled rules of a workspace, by event name or segment."""

    def __init__(self, rows: Iterable[MessageRuleDocument]) -> None:
        self.by_event: dict[str, list[LiveRule]] = {}
        self.by_segment: dict[str, list[MessageRuleDocument]] = {}
        for row in rows:
            if row["segment_id"] is not None:
                self.by_segment.setdefault(row["segment_id"], []).append(row)
            elif row["event"] is not None:
                tests = check_metadata_filter(row["metadata"], "metadata")
                self.by_event.setdefault(row["event"], []).append(LiveRule(row, tests))

    def live(self, events: Iterable[EventDocument]) -> list["ContactActivity"]:
        """The activities, by contact and event name, that may trigger rules."""
        activities: dict[tuple[str, str], ContactActivity] = {}
        for event in events:
            if event["name"] in self.by_event and is_live(event):
                key = (event["contact_id"], event["name"])
                activities.setdefault(key, ContactActivity(*key, self.by_event[event["name"]])).events.append(event)
        return list(activities.values())


@dataclass(slots=True)
class ContactActivity:
    """A contact's events of one name in one transaction, in order, and the rules they may trigger."""

    contact_id: str
    name: str
    rules: Sequence[LiveRule]
    events: list[EventDocument] = field(default_factory=list)

    @property
    def summary_id(self) -> str:
        return summary_id_of(self.events[0]["workspace_id"], self.contact_id, self.name)

    @property
    def progress_ids(self) -> list[str]:
        return [progress_id_of(rule.row["_id"], self.contact_id) for rule in self.rules if rule.counts]


@dataclass(slots=True)
class TriggerPlan:
    now: datetime
    timers: list[TimerDocument] = field(default_factory=list)
    progress: list[RuleStateDocument] = field(default_factory=list)

    def plan(
        self, activity: ContactActivity, summary: SummaryDocument, progress: Mapping[str, RuleStateDocument]
    ) -> None:
        """Add what this activity triggers. `summary` includes it; `progress` is by id."""
        for rule in activity.rules:
            matching = [event for event in activity.events if has_metadata(event, rule.tests, self.now)]
            if not matching:
                continue
            before = summary["count"] - len(activity.events)
            if is_delayed(rule.row):
                last = max(event["occurred_at"] for event in matching) if rule.tests else summary["last_at"]
                self._wait(rule.row, matching[-1], last)
            elif rule.row["trigger"] == RuleTrigger.EVERY_TIME:
                for event in matching:
                    self._fire(rule.row, event, before + activity.events.index(event) + 1)
            elif rule.tests:
                self._count(rule.row, matching, progress)
            elif rule.row["trigger"] == RuleTrigger.FIRST_TIME:
                if before == 0:
                    self._fire(rule.row, matching[0], 1)
            else:
                self._add_progress(rule.row, activity, before, progress)

    def _count(
        self,
        rule: MessageRuleDocument,
        matching: Sequence[EventDocument],
        progress: Mapping[str, RuleStateDocument],
    ) -> None:
        """Fire at the nth matching event since the rule is in force."""
        threshold = rule["n"] or 1
        state = _stored_progress(rule, matching[0]["contact_id"], progress)
        matched = 0 if state is None else state.get("count", 0)
        if matched >= threshold:
            return
        self._save_progress(rule, matching[0]["contact_id"], count=matched + len(matching))
        if matched + len(matching) >= threshold:
            self._fire(rule, matching[threshold - matched - 1], threshold)

    def _add_progress(
        self,
        rule: MessageRuleDocument,
        activity: ContactActivity,
        before: int,
        progress: Mapping[str, RuleStateDocument],
    ) -> None:
        """Fire once, at the nth event, or at the next one if the count jumped past n."""
        threshold = rule["n"] or 1
        if before + len(activity.events) < threshold or _stored_progress(rule, activity.contact_id, progress):
            return
        index = max(0, threshold - before - 1)
        self._save_progress(rule, activity.contact_id)
        self._fire(rule, activity.events[index], before + index + 1, jumped=before >= threshold)

    def _fire(self, rule: MessageRuleDocument, event: EventDocument, count: int, *, jumped: bool | None = None) -> None:
        data: EventData = {} if jumped is None else {"jumped": jumped}
        data |= {"event_id": event["_id"], "count": count}
        self.timers.append(message_timer(rule, event["contact_id"], self.now, event["_id"], rule["since"], **data))

    def _wait(self, rule: MessageRuleDocument, event: EventDocument, last: datetime) -> None:
        self.timers.append(waiting_timer(rule, event["contact_id"], event["_id"], last, last + delay_of(rule)))

    def _save_progress(self, rule: MessageRuleDocument, contact_id: str, *, count: int | None = None) -> None:
        state: RuleStateDocument = {
            "_id": progress_id_of(rule["_id"], contact_id),
            "rule_id": rule["_id"],
            "contact_id": contact_id,
            "since": rule["since"],
        }
        if count is not None:
            state["count"] = count
        self.progress.append(state)


def message_timer(
    rule: MessageRuleDocument | CampaignDocument,
    contact_id: str,
    due_at: datetime,
    cause_id: str = "",
    since: datetime | None = None,
    **data: Unpack[EventData],
) -> TimerDocument:
    """The timer of a rule's message to a contact, one per cause. `since`: the rule's, None for a campaign."""
    return timer_of(
        rule["workspace_id"],
        MESSAGE,
        contact_id,
        due_at,
        f"{rule['_id']}:{cause_id}",
        **data,
        rule_id=rule["_id"],
        since=since,
        contact_id=contact_id,
    )


def waiting_timer(
    rule: MessageRuleDocument, contact_id: str, event_id: str, last: datetime, due_at: datetime
) -> TimerDocument:
    """The only timer of a delayed rule and contact: it fires unless the contact acts again after `last`."""
    return message_timer(rule, contact_id, due_at, since=rule["since"], event_id=event_id, last_at=last)


def _stored_progress(
    rule: MessageRuleDocument, contact_id: str, progress: Mapping[str, RuleStateDocument]
) -> RuleStateDocument | None:
    stored = progress.get(progress_id_of(rule["_id"], contact_id))
    return stored if stored is not None and stored.get("since") == rule["since"] else None
