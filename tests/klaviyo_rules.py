"""What Klaviyo refuses: the official SDK's models as closed schemas, and the rules of its documentation beside them."""

import importlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import jsonschema_rs
import orjson

MOST_BYTES = 5_000_000
PROFILE_BYTES = 100_000
STRING_BYTES = 100_000
MOST_EVENTS = 1000
MOST_PROFILES = 10_000
DROPPED_DOMAINS = ("example.com", "test.com")
_MODELS = {
    "create_event": ("event_create_query_v2", "EventCreateQueryV2"),
    "bulk_create_events": ("events_bulk_create_job", "EventsBulkCreateJob"),
    "create_or_update_profile": ("profile_upsert_query", "ProfileUpsertQuery"),
    "bulk_import_profiles": ("profile_import_job_create_query", "ProfileImportJobCreateQuery"),
    "request_profile_deletion": ("data_privacy_create_deletion_job_query", "DataPrivacyCreateDeletionJobQuery"),
}
_E164 = re.compile(r"\+[1-9]\d{6,14}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


class Problem(Exception):
    """One thing that is wrong with a body, and where."""

    def __init__(self, detail: str, pointer: str, status: int = 400) -> None:
        super().__init__(detail)
        self.detail, self.pointer, self.status = detail, pointer, status


@cache
def validator(operation: str) -> Any:
    """The schema of an operation's body, with nothing beside what it names."""
    module, name = _MODELS[operation]
    schema = getattr(importlib.import_module(f"openapi_client.models.{module}"), name).model_json_schema()
    _close(schema)
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def check_shape(operation: str, body: Any) -> None:
    """Pass what the schema allows; Problem names the first place that it does not."""
    for error in validator(operation).iter_errors(body):
        raise Problem(error.message, "/" + "/".join(map(str, error.instance_path)))


def check_event(event: dict[str, Any], pointer: str, now: datetime) -> None:
    """Pass an event's attributes that Klaviyo would take."""
    if len(event["properties"]) > 400:
        raise Problem("There are more than 400 properties.", f"{pointer}/properties")
    _check_values(event["properties"], f"{pointer}/properties", 1)
    if len(event["metric"]["data"]["attributes"]["name"]) >= 128 or not event["metric"]["data"]["attributes"]["name"]:
        raise Problem("The name must have 1 to 127 characters.", f"{pointer}/metric/data/attributes/name")
    if (unique_id := event.get("unique_id")) is not None and not 1 <= len(unique_id) <= 255:
        raise Problem("unique_id must have 1 to 255 characters.", f"{pointer}/unique_id")
    at = event_time(event, now)
    if not datetime(2000, 1, 1, tzinfo=UTC) <= at <= now + timedelta(days=365):
        raise Problem("The time lies too far back or ahead.", f"{pointer}/time")


def event_time(event: dict[str, Any], now: datetime) -> datetime:
    """When it happened, to the second."""
    text = event.get("time")
    return (now if text is None else datetime.fromisoformat(text)).astimezone(UTC).replace(microsecond=0)


def check_identifiers(profile: dict[str, Any], pointer: str) -> dict[str, str]:
    """The identifiers of a profile that hold: a phone that is none is dropped where there is an e-mail."""
    attributes = profile["attributes"]
    found = {name: attributes.get(name) for name in ("email", "phone_number", "external_id")}
    found["id"] = profile.get("id")
    if not any(found.values()):
        raise Problem("A profile needs at least one identifier.", pointer)
    if found["email"] is not None and (not _EMAIL.fullmatch(found["email"]) or len(found["email"]) > 100):
        raise Problem("Invalid email address", f"{pointer}/attributes/email")
    if found["phone_number"] is not None and not _E164.fullmatch(found["phone_number"]):
        if found["email"] is None:
            raise Problem("Invalid phone number format", f"{pointer}/attributes/phone_number")
        found["phone_number"] = None
    return {name: value for name, value in found.items() if value is not None}


def check_profile(profile: dict[str, Any], pointer: str) -> dict[str, str]:
    """The identifiers of a profile that is small enough."""
    if len(orjson.dumps(profile)) > PROFILE_BYTES:
        raise Problem("Payload size exceeds 100 KB.", pointer, 413)
    return check_identifiers(profile, pointer)


def repeated(keys: Iterator[tuple[tuple[str, ...], str]]) -> None:
    """Pass where no key comes twice."""
    seen: set[tuple[str, ...]] = set()
    for key, pointer in keys:
        if key in seen:
            raise Problem("unique_id is repeated for the same profile and metric.", pointer)
        seen.add(key)


def is_dropped(identifiers: dict[str, str]) -> bool:
    """Whether Klaviyo says yes and forgets it."""
    return identifiers.get("email", "").lower().endswith(tuple(f"@{domain}" for domain in DROPPED_DOMAINS))


def _close(part: Any) -> None:
    if isinstance(part, dict):
        if part.get("type") == "object" and "properties" in part:
            part["additionalProperties"] = False
        for inner in part.values():
            _close(inner)
    elif isinstance(part, list):
        for inner in part:
            _close(inner)


def _check_values(value: Any, pointer: str, depth: int) -> None:
    if depth > 10:
        raise Problem("Properties nest too deep.", pointer)
    if isinstance(value, str) and len(value.encode()) > STRING_BYTES:
        raise Problem("A text is larger than 100 KB.", pointer)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise Problem("An integer has more than 64 bits.", pointer)
    if isinstance(value, list) and len(value) > 4000:
        raise Problem("An array has more than 4000 items.", pointer)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        _check_values(inner, f"{pointer}/{key}", depth + 1)
