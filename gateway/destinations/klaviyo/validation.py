"""Finds what Klaviyo would refuse, or accept and silently drop, before it is sent."""

from datetime import UTC, datetime, timedelta

import orjson

from gateway.destinations.klaviyo.identifiers import identifiers_of
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.documents import ContactDocument

_LONGEST_METRIC = 127
_LONGEST_UNIQUE_ID = 255
_MOST_PROPERTIES = 400
_MOST_ITEMS = 4000
_DEEPEST = 10
_LARGEST_TEXT = 100_000
_LARGEST_EVENT = 1_000_000  # five of them make the largest request
_LARGEST_PROFILE = 95_000
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


def problem_of_event(payload: Document, contact: ContactDocument, at: datetime, now: datetime) -> str | None:
    """Why this event cannot arrive; None if it can."""
    attributes = payload["data"]["attributes"]
    if (problem := identifiers_of(contact).problem) is not None:
        return problem
    if len(attributes["metric"]["data"]["attributes"]["name"]) > _LONGEST_METRIC:
        return f"A metric's name has at most {_LONGEST_METRIC} characters."
    if not _EARLIEST <= at <= now + timedelta(days=365):
        return f"It happened at {at.isoformat()}: Klaviyo accepts events from the year 2000 to one year ahead."
    if len(attributes["unique_id"]) > _LONGEST_UNIQUE_ID:
        return f"Its unique id has more than {_LONGEST_UNIQUE_ID} characters."
    if len(attributes["properties"]) > _MOST_PROPERTIES:
        return f"It has {len(attributes['properties'])} properties; Klaviyo accepts {_MOST_PROPERTIES}."
    return _problem_of_value(attributes["properties"], "the properties", 1) or _too_large(payload, _LARGEST_EVENT)


def problem_of_profile(payload: Document, contact: ContactDocument) -> str | None:
    """Why this profile cannot arrive; None if it can."""
    return identifiers_of(contact).problem or _too_large(payload, _LARGEST_PROFILE)


def _too_large(payload: Document, most: int) -> str | None:
    size = len(orjson.dumps(payload))
    return f"It has {size} bytes; the limit is {most}." if size > most else None


def _problem_of_value(value: object, name: str, depth: int) -> str | None:
    if isinstance(value, str) and len(value.encode()) > _LARGEST_TEXT:
        return f"The text of {name} has more than {_LARGEST_TEXT} bytes."
    if not isinstance(value, dict | list):
        return None
    if depth > _DEEPEST:
        return f"The value of {name} is nested deeper than {_DEEPEST} levels."
    if isinstance(value, list) and len(value) > _MOST_ITEMS:
        return f"The list of {name} has more than {_MOST_ITEMS} items."
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return next(filter(None, (_problem_of_value(item, f"'{key}'", depth + 1) for key, item in inner)), None)
