"""Message rules: their triggers, audience and text, validated as a whole when a rule is saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from gateway.core.text_rules import check_text, public_name
from gateway.core.unset import UNSET, Unset
from gateway.domain.events.events import check_event_name
from gateway.domain.filters.conditions import check_metadata_filter, parse_filter
from gateway.domain.filters.documents import StoredFilter
from gateway.domain.filters.segments import stored_filter, stored_object
from gateway.domain.messages.documents import CheckedRule, MessageRuleDocument
from gateway.domain.messages.templates import Templates
from gateway.errors import BadRequestError, ErrorCode, UserProblem
from gateway.settings import Settings

V = TypeVar("V")
MAX_RULES = 100
CAMPAIGN = "mailing"  # the kind of timer that continues a campaign
_MAX_NAME_LENGTH = 255
_MAX_TIMES = 1_000_000
_MAX_DAYS = 3650
_MAX_MINUTES = 525_600


class RuleTrigger(StrEnum):
    FIRST_TIME = "FIRST_TIME"
    EVERY_TIME = "EVERY_TIME"
    NTH_TIME = "NTH_TIME"
    DAYS_SINCE_LAST = "DAYS_SINCE_LAST"
    MINUTES_SINCE_LAST = "MINUTES_SINCE_LAST"
    ENTERED_SEGMENT = "ENTERED_SEGMENT"


_LIMITS = {"nth_time": _MAX_TIMES, "days_since_last": _MAX_DAYS, "minutes_since_last": _MAX_MINUTES}


@dataclass(frozen=True, slots=True)
class SaveMessageRule:
    """A new rule, or the one with that id. What is UNSET keeps its stored value; None clears it.

    `trigger` has one field: the name of the trigger in lower case, with its value."""

    name: str
    trigger: Mapping[str, bool | int | str]
    body: str
    id: str | None = None
    enabled: bool | None = True
    event: str | Unset | None = UNSET
    audience: StoredFilter | Unset | None = UNSET
    metadata: list[StoredFilter] | Unset | None = UNSET
    subject: str | Unset | None = UNSET
    max_per_contact: int | Unset | None = UNSET


@dataclass(frozen=True, slots=True)
class PreviewMessage:
    """A message to render for one contact, as a rule with this event, audience and metadata would send it."""

    contact_id: str
    body: str
    event: str | None = None
    audience: StoredFilter | None = None
    metadata: list[StoredFilter] | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class SendMessage:
    segment_id: str
    body: str
    subject: str | None = None
    idempotency_key: str | None = None


def check_rule(
    command: SaveMessageRule, stored: MessageRuleDocument | None, settings: Settings, templates: Templates
) -> CheckedRule:
    """The complete rule after a save. UserProblem names the bad field."""
    trigger, n, segment_id = _check_trigger(command.trigger)
    has_event = trigger is not RuleTrigger.ENTERED_SEGMENT
    if not has_event:
        _check_no_event(command)
    maximum = _after(command.max_per_contact, stored and stored["max_per_contact"])
    event = _after(command.event, stored and stored["event"])
    audience = _after(command.audience, stored and stored["audience"])
    metadata = _after(command.metadata, stored and stored["metadata"])
    subject = _after(command.subject, stored and stored["subject"])
    if maximum is not None and maximum < 1:
        message = f"maxPerContact must be 1 or more, not {maximum}: leave it out for no limit."
        raise UserProblem(ErrorCode.INVALID, message, ("maxPerContact",))
    return {
        "name": check_text(command.name, ("name",), longest=_MAX_NAME_LENGTH, named="The name"),
        "enabled": command.enabled is not False,
        "trigger": trigger.value,
        "n": n,
        "segment_id": segment_id,
        "event": _check_event(event, settings) if has_event else None,
        "audience": None if audience is None else stored_filter(audience, "audience"),
        "metadata": check_metadata(metadata) if has_event else None,
        "subject": subject and templates.check(subject, ("subject",), event=has_event),
        "body": templates.check(command.body, ("body",), event=has_event),
        "max_per_contact": maximum,
    }


def progress_since(rule: CheckedRule, stored: MessageRuleDocument | None, now: datetime) -> datetime:
    """From when the contacts' progress towards a rule counts: it stays while the trigger does, if it was enabled."""
    return stored["since"] if stored is not None and _is_continuous(rule, stored) else now


def _after(given: V | Unset, stored: V) -> V:
    return stored if given is UNSET else given


def delay_of(rule: MessageRuleDocument) -> timedelta:
    """How long after the last event a delayed rule fires."""
    unit = timedelta(days=1) if rule["trigger"] == RuleTrigger.DAYS_SINCE_LAST else timedelta(minutes=1)
    return unit * (rule["n"] or 0)


def is_delayed(rule: CheckedRule) -> bool:
    return rule["trigger"] in (RuleTrigger.DAYS_SINCE_LAST, RuleTrigger.MINUTES_SINCE_LAST)


def check_metadata(conditions: list[StoredFilter] | None) -> list[StoredFilter] | None:
    """Metadata conditions to store; None for an empty list. Raises UserProblem."""
    stored = [stored_object(condition, "metadata") for condition in conditions or []]
    try:
        check_metadata_filter(stored, "metadata")
    except BadRequestError as error:
        raise UserProblem(ErrorCode.INVALID, error.message, ("metadata",)) from None
    return stored or None


def segments_named(rule: CheckedRule) -> frozenset[str]:
    """The segments of a rule: of its trigger and its audience."""
    own = frozenset() if rule["segment_id"] is None else frozenset({rule["segment_id"]})
    return own if rule["audience"] is None else own | parse_filter(rule["audience"]).segments()


def _is_continuous(rule: CheckedRule, stored: MessageRuleDocument) -> bool:
    if not stored["enabled"] or _trigger_of(rule) != _trigger_of(stored):
        return False
    return is_delayed(rule) or rule["n"] == stored["n"]


def _trigger_of(rule: CheckedRule) -> tuple[object, ...]:
    return rule["trigger"], rule["event"], rule["segment_id"], rule["metadata"]


def _check_trigger(named: Mapping[str, bool | int | str]) -> tuple[RuleTrigger, int | None, str | None]:
    ((name, value),) = named.items()
    trigger, public = RuleTrigger(name.upper()), public_name(name)
    if trigger is RuleTrigger.ENTERED_SEGMENT:
        return trigger, None, str(value)
    if name not in _LIMITS:
        if not value:
            raise UserProblem(
                ErrorCode.INVALID,
                f"{public} must be true: leave it out, and give another trigger.",
                ("trigger", public),
            )
        return trigger, None, None
    if not 1 <= int(value) <= _LIMITS[name]:
        message = f"{public} must be from 1 to {_LIMITS[name]}, not {value}."
        raise UserProblem(ErrorCode.INVALID, message, ("trigger", public))
    return trigger, int(value), None


def _check_event(name: str | None, settings: Settings) -> str:
    if name is None:
        raise UserProblem(ErrorCode.INVALID, "The trigger needs an event name: give event.", ("event",))
    return check_event_name(name, settings, ("event",))


def _check_no_event(command: SaveMessageRule) -> None:
    for name, value in (("event", command.event), ("metadata", command.metadata)):
        if value:
            message = f"The trigger enteredSegment has no event: leave {name} out, or choose another trigger."
            raise UserProblem(ErrorCode.INVALID, message, (name,))
