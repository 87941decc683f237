"""Firings: what tracked events set off, as timers that are written in the transaction of the events."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gateway.core.ids import Prefix, derived_id
from gateway.core.timers import timer_of
from gateway.domain.contacts.contacts import Document
from gateway.domain.events.events import summary_id_of
from gateway.domain.filters.conditions import check_metadata_filter, has_metadata
from gateway.domain.filters.operators import AttributeTest
from gateway.domain.messages.rules import RuleTrigger, delay_of, is_delayed

MESSAGE = "message"  # the kind of timer that becomes a conversation
_LIVE_FOR = timedelta(minutes=5)


def is_live(event: Mapping[str, Any]) -> bool:
    """Whether an event sets anything off: an imported one does not, nor one that is told long after it occurred."""
    return not event.get("imported") and event["received_at"] - event["occurred_at"] <= _LIVE_FOR


def progress_id_of(rule_id: str, contact_id: str) -> str:
    """The id of what is remembered of how far a contact has come with a rule."""
    return derived_id(Prefix.FIRING, rule_id, contact_id, "progress")


def sent_id_of(rule_id: str, contact_id: str) -> str:
    """The id of what is remembered of the messages that a rule sent to a contact."""
    return derived_id(Prefix.FIRING, rule_id, contact_id, "sent")


@dataclass(frozen=True, slots=True)
class LiveRule:
    """An enabled rule that events set off."""

    row: Mapping[str, Any]
    tests: Sequence[AttributeTest]

    @property
    def counts(self) -> bool:
        """Whether it is remembered how far each contact has come: where its summary alone does not tell."""
        trigger = self.row["trigger"]
        return trigger == RuleTrigger.NTH_TIME or (trigger == RuleTrigger.FIRST_TIME and bool(self.tests))


class RuleIndex:
    """The enabled rules of one workspace, by the event that sets them off."""

    def __init__(self, rows: Iterable[Document]) -> None:
        self.by_event: dict[str, list[LiveRule]] = {}
        self.by_segment: dict[str, list[Document]] = {}
        for row in rows:
            if row["trigger"] == RuleTrigger.ENTERED_SEGMENT:
                self.by_segment.setdefault(row["segment_id"], []).append(row)
            else:
                tests = check_metadata_filter(row["metadata"], "metadata")
                self.by_event.setdefault(row["event"], []).append(LiveRule(row, tests))

    def live(self, events: Iterable[Document]) -> list["ContactActivity"]:
        """What of these events may set rules off, by contact and name."""
        found: dict[tuple[str, str], ContactActivity] = {}
        for event in events:
            if event["name"] in self.by_event and is_live(event):
                key = (event["contact_id"], event["name"])
                found.setdefault(key, ContactActivity(*key, self.by_event[event["name"]])).events.append(event)
        return list(found.values())


@dataclass(slots=True)
class ContactActivity:
    """What one contact did under one name in one transaction, in order, and the rules that this may set off."""

    contact_id: str
    name: str
    rules: Sequence[LiveRule]
    events: list[Document] = field(default_factory=list)

    @property
    def summary_id(self) -> str:
        """The id of the summary that counts them."""
        return summary_id_of(self.events[0]["workspace_id"], self.contact_id, self.name)

    @property
    def progress_ids(self) -> list[str]:
        """The ids of what is remembered of the contact, where a rule needs it."""
        return [progress_id_of(rule.row["_id"], self.contact_id) for rule in self.rules if rule.counts]


@dataclass(slots=True)
class TriggerPlan:
    """What is to be written: timers, and how far contacts have come."""

    now: datetime
    timers: list[Document] = field(default_factory=list)
    progress: list[Document] = field(default_factory=list)

    def plan(self, deeds: ContactActivity, summary: Mapping[str, Any], known: Mapping[str, Document]) -> None:
        """Add what these deeds set off. `summary`: with them counted; `known`: what is remembered, by id."""
        for rule in deeds.rules:
            matching = [event for event in deeds.events if has_metadata(event, rule.tests, self.now)]
            if not matching:
                continue
            before = summary["count"] - len(deeds.events)
            if is_delayed(rule.row):
                last = max(event["occurred_at"] for event in matching) if rule.tests else summary["last_at"]
                self._wait(rule.row, matching[-1], last)
            elif rule.row["trigger"] == RuleTrigger.EVERY_TIME:
                for event in matching:
                    self._fire(rule.row, event, before + deeds.events.index(event) + 1)
            elif rule.tests:
                self._count(rule.row, matching, known)
            elif rule.row["trigger"] == RuleTrigger.FIRST_TIME:
                if before == 0:
                    self._fire(rule.row, matching[0], 1)
            else:
                self._add_progress(rule.row, deeds, before, known)

    def _count(self, rule: Mapping[str, Any], matching: Sequence[Document], known: Mapping[str, Document]) -> None:
        """Fire on the event with which as many matched as are wanted, since the rule has been in force."""
        wanted = rule["n"] or 1
        before = int(_stored_progress(rule, matching[0]["contact_id"], known).get("count", 0))
        if before >= wanted:
            return
        self._remember(rule, matching[0]["contact_id"], count=before + len(matching))
        if before + len(matching) >= wanted:
            self._fire(rule, matching[wanted - before - 1], wanted)

    def _add_progress(
        self, rule: Mapping[str, Any], deeds: ContactActivity, before: int, known: Mapping[str, Document]
    ) -> None:
        """Fire once on the event that makes the count what is wanted, or on the first one after it jumped over that."""
        wanted = rule["n"]
        if before + len(deeds.events) < wanted or _stored_progress(rule, deeds.contact_id, known):
            return
        place = max(0, wanted - before - 1)
        self._remember(rule, deeds.contact_id)
        self._fire(rule, deeds.events[place], before + place + 1, jumped=before >= wanted)

    def _fire(self, rule: Mapping[str, Any], event: Mapping[str, Any], count: int, **data: Any) -> None:
        data |= {"event_id": event["_id"], "count": count}
        self.timers.append(message_timer(rule, event["contact_id"], self.now, event["_id"], **data))

    def _wait(self, rule: Mapping[str, Any], event: Mapping[str, Any], last: datetime) -> None:
        self.timers.append(waiting_timer(rule, event["contact_id"], event["_id"], last, last + delay_of(rule)))

    def _remember(self, rule: Mapping[str, Any], contact_id: str, **data: Any) -> None:
        self.progress.append(
            {
                "_id": progress_id_of(rule["_id"], contact_id),
                "rule_id": rule["_id"],
                "contact_id": contact_id,
                "since": rule["since"],
                **data,
            }
        )


def message_timer(
    rule: Mapping[str, Any], contact_id: str, due_at: datetime, cause_id: str = "", **data: Any
) -> Document:
    """The timer of a message of a rule to a contact, one for each cause."""
    data |= {"rule_id": rule["_id"], "since": rule.get("since"), "contact_id": contact_id}
    return timer_of(rule["workspace_id"], MESSAGE, contact_id, due_at, f"{rule['_id']}:{cause_id}", **data)


def waiting_timer(
    rule: Mapping[str, Any], contact_id: str, event_id: str, last: datetime, due_at: datetime
) -> Document:
    """The one timer of a rule that waits for a contact to do nothing after `last`."""
    return message_timer(rule, contact_id, due_at, event_id=event_id, last_at=last)


def _stored_progress(rule: Mapping[str, Any], contact_id: str, known: Mapping[str, Document]) -> Mapping[str, Any]:
    """What is remembered of a contact since the rule has been in force."""
    found = known.get(progress_id_of(rule["_id"], contact_id), {})
    return found if found.get("since") == rule["since"] else {}
