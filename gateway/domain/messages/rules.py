"""Message rules: their triggers, audience and text, validated as a whole when a rule is saved."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.core.text_rules import check_text, public_name
from gateway.domain.contacts.contacts import Document
from gateway.domain.events.events import check_event_name
from gateway.domain.filters.conditions import check_metadata_filter, parse_filter
from gateway.domain.filters.segments import stored_filter, stored_value
from gateway.domain.messages.templates import Templates
from gateway.errors import BadRequestError, ErrorCode, UserProblem
from gateway.settings import Settings

MAX_RULES = 100
CAMPAIGN = "mailing"  # the kind of timer that continues a campaign
_MAX_NAME_LENGTH = 255
_MAX_TIMES = 1_000_000
_MAX_DAYS = 3650
_MAX_MINUTES = 525_600


class RuleTrigger(StrEnum):
    """What triggers a message."""

    FIRST_TIME = "FIRST_TIME"
    EVERY_TIME = "EVERY_TIME"
    NTH_TIME = "NTH_TIME"
    DAYS_SINCE_LAST = "DAYS_SINCE_LAST"
    MINUTES_SINCE_LAST = "MINUTES_SINCE_LAST"
    ENTERED_SEGMENT = "ENTERED_SEGMENT"


_LIMITS = {"nth_time": _MAX_TIMES, "days_since_last": _MAX_DAYS, "minutes_since_last": _MAX_MINUTES}
_TRIGGER_EVENTS = ("trigger", "event", "segment_id", "metadata")


def check_rule(
    input_: Mapping[str, Any], stored: Mapping[str, Any] | None, settings: Settings, templates: Templates, now: datetime
) -> Document:
    """The complete rule after a save. UserProblem names the bad field.

    `input_`: None clears a field; an omitted one keeps its value from `stored`.
    """
    merged = {**(stored or {}), **input_}
    trigger, n, segment_id = _check_trigger(input_["trigger"])
    has_event = trigger is not RuleTrigger.ENTERED_SEGMENT
    if not has_event:
        _check_no_event(input_)
    maximum = merged.get("max_per_contact")
    if maximum is not None and maximum < 1:
        message = f"maxPerContact must be 1 or more, not {maximum}: leave it out for no cap."
        raise UserProblem(ErrorCode.INVALID, message, ("maxPerContact",))
    rule = {
        "name": check_text(input_["name"], ("name",), longest=_MAX_NAME_LENGTH, named="The name"),
        "enabled": input_.get("enabled") is not False,
        "trigger": trigger.value,
        "n": n,
        "segment_id": segment_id,
        "event": _check_event(merged.get("event"), settings) if has_event else None,
        "audience": None if merged.get("audience") is None else stored_filter(merged["audience"], "audience"),
        "metadata": check_metadata(merged.get("metadata")) if has_event else None,
        "subject": merged.get("subject") and templates.check(merged["subject"], ("subject",), event=has_event),
        "body": templates.check(input_["body"], ("body",), event=has_event),
        "max_per_contact": maximum,
    }
    since = stored["since"] if stored is not None and _is_continuous(rule, stored) else now
    return {**rule, "since": since, "updated_at": now}


def delay_of(rule: Mapping[str, Any]) -> timedelta:
    """How long after the last event a delayed rule fires."""
    unit = "days" if rule["trigger"] == RuleTrigger.DAYS_SINCE_LAST else "minutes"
    return timedelta(**{unit: rule["n"]})


def is_delayed(rule: Mapping[str, Any]) -> bool:
    """Whether a rule fires some time after the last event."""
    return rule["trigger"] in (RuleTrigger.DAYS_SINCE_LAST, RuleTrigger.MINUTES_SINCE_LAST)


def check_metadata(conditions: list[Document] | None) -> list[Document] | None:
    """Metadata conditions to store; None for an empty list. Raises UserProblem."""
    stored: list[Document] = stored_value(conditions or [], "metadata")
    try:
        check_metadata_filter(stored, "metadata")
    except BadRequestError as error:
        raise UserProblem(ErrorCode.INVALID, error.message, ("metadata",)) from None
    return stored or None


def segments_named(rule: Mapping[str, Any]) -> frozenset[str]:
    """The segments of a rule: of its trigger and its audience."""
    own = frozenset() if rule["segment_id"] is None else frozenset({str(rule["segment_id"])})
    return own if rule["audience"] is None else own | parse_filter(rule["audience"]).segments()


def _is_continuous(rule: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    """Whether contacts' progress stays valid: same trigger, and enabled before."""
    same = all(rule[name] == stored[name] for name in _TRIGGER_EVENTS)
    return bool(stored["enabled"]) and same and (is_delayed(rule) or rule["n"] == stored["n"])


def _check_trigger(input_: Mapping[str, Any]) -> tuple[RuleTrigger, int | None, str | None]:
    ((name, value),) = input_.items()
    trigger, public = RuleTrigger(name.upper()), public_name(name)
    if trigger is RuleTrigger.ENTERED_SEGMENT:
        return trigger, None, str(value)
    if name not in _LIMITS:
        if not value:
            raise UserProblem(ErrorCode.INVALID, f"{public} must be true: give another trigger.", ("trigger", public))
        return trigger, None, None
    if not 1 <= value <= _LIMITS[name]:
        message = f"{public} must be from 1 to {_LIMITS[name]}, not {value}."
        raise UserProblem(ErrorCode.INVALID, message, ("trigger", public))
    return trigger, int(value), None


def _check_event(name: str | None, settings: Settings) -> str:
    if name is None:
        raise UserProblem(ErrorCode.INVALID, "Say which event sets the message off: give event.", ("event",))
    return check_event_name(name, settings, ("event",))


def _check_no_event(input_: Mapping[str, Any]) -> None:
    for name in ("event", "metadata"):
        if input_.get(name):
            message = f"Entering a segment is no event: leave {name} out, or choose another trigger."
            raise UserProblem(ErrorCode.INVALID, message, (name,))
