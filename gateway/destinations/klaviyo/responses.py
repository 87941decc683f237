"""Classifies Klaviyo's responses: pure functions of status, headers and body."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

import orjson

from gateway.core.json_values import Json, JsonObject

_LONGEST_WAIT = 86_400
_RETRY_STATUSES = frozenset({408, 425, 429})
_PAUSE_STATUSES = frozenset({401, 403, 410})
_ITEM = re.compile(r"/events-bulk-create/data/(\d+)(?:/attributes/events/data/(\d+))?")


class Outcome(StrEnum):
    """What to do after a response."""

    DONE = "DONE"
    RETRY = "RETRY"  # send the same again later
    PAUSE = "PAUSE"  # until somebody fixes the key, a scope or the revision
    BAD = "BAD"  # refused; of a bulk request at least one item is
    TOO_LARGE = "TOO_LARGE"


@dataclass(frozen=True, slots=True)
class Quota:
    limit: int
    remaining: int
    reset_seconds: int


@dataclass(frozen=True, slots=True)
class Response:
    """Klaviyo's response, or the lack of one; `error` says what went wrong."""

    outcome: Outcome
    status: int | None = None
    error: str | None = None
    retry_after: int | None = None
    pointer: str | None = None
    quota: Quota | None = None
    duration_ms: int = 0
    body: Json = None

    @property
    def item(self) -> tuple[int, int | None] | None:
        """The refused item of a bulk request: index of its group, and of the event in the group."""
        match = _ITEM.search(self.pointer or "")
        return None if match is None else (int(match[1]), None if match[2] is None else int(match[2]))

    @property
    def profile_id(self) -> str | None:
        """Klaviyo's id of the profile in the body."""
        data = self.body.get("data") if isinstance(self.body, dict) else None
        id_ = data.get("id") if isinstance(data, dict) else None
        return id_ if isinstance(id_, str) else None


def classify(status: int, headers: Mapping[str, str], content: bytes, now: datetime, duration_ms: int) -> Response:
    """Classify a response. A body that is not JSON comes from something between the gateway and Klaviyo."""
    body = _json(content)
    error = _first_error(body)
    outcome = _outcome(status, is_json=error is not None or isinstance(body, dict))
    source = error.get("source") if error else None
    pointer = source.get("pointer") if isinstance(source, dict) else None
    return Response(
        outcome=outcome,
        status=status,
        error=None if outcome is Outcome.DONE else _text(status, error),
        retry_after=_seconds(headers.get("retry-after"), now) if outcome is Outcome.RETRY else None,
        pointer=pointer if isinstance(pointer, str) else None,
        quota=_quota(headers),
        duration_ms=duration_ms,
        body=body,
    )


def _outcome(status: int, *, is_json: bool) -> Outcome:
    if 200 <= status < 300:
        return Outcome.DONE
    if status in _RETRY_STATUSES or status >= 500 or status < 400:
        return Outcome.RETRY
    if status == 413:
        return Outcome.TOO_LARGE
    if not is_json:
        return Outcome.RETRY
    return Outcome.PAUSE if status in _PAUSE_STATUSES else Outcome.BAD


def _text(status: int, error: JsonObject | None) -> str:
    if error is None:
        return f"Klaviyo responded {status} without a reason."
    reason = error.get("detail") or error.get("title") or error.get("code") or "no reason given"
    return f"Klaviyo responded {status}: {reason}"


def _json(content: bytes) -> Json:
    try:
        body: Json = orjson.loads(content)
        return body
    except orjson.JSONDecodeError:
        return None


def _first_error(body: Json) -> JsonObject | None:
    errors = body.get("errors") if isinstance(body, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    return first if isinstance(first, dict) else None


def _seconds(text: str | None, now: datetime) -> int | None:
    """Retry-After in seconds, from whole seconds or a date; None if it is neither."""
    if text is None:
        return None
    if text.strip().isdigit():
        return max(1, min(int(text), _LONGEST_WAIT))
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return int(max(1, min(seconds + 1, _LONGEST_WAIT)))


def _quota(headers: Mapping[str, str]) -> Quota | None:
    values = [
        headers.get(f"ratelimit-{name}", "").partition(",")[0].strip() for name in ("limit", "remaining", "reset")
    ]
    return Quota(*map(int, values)) if all(text.isdigit() for text in values) else None
