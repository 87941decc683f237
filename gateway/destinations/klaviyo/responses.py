"""What Klaviyo's answers mean for what was sent: pure functions of status, headers and body."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import orjson

_LONGEST_WAIT = 86_400
_AGAIN = frozenset({408, 425, 429})
_STOP = frozenset({401, 403, 410})
_ITEM = re.compile(r"/events-bulk-create/data/(\d+)(?:/attributes/events/data/(\d+))?")


class Outcome(StrEnum):
    """What is to be done after an answer."""

    DONE = "DONE"
    RETRY = "RETRY"  # the same again, later
    PAUSE = "PAUSE"  # nothing more until somebody acts: the key, a scope or the revision is wrong
    BAD = "BAD"  # what was sent is refused; of several items, at least one is
    TOO_LARGE = "TOO_LARGE"


@dataclass(frozen=True, slots=True)
class Quota:
    """What an answer says of the steady window of its endpoint."""

    limit: int
    remaining: int
    reset_seconds: int


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of Klaviyo, or the lack of one; `error` says why it did not go well."""

    outcome: Outcome
    status: int | None = None
    error: str | None = None
    retry_after: int | None = None
    pointer: str | None = None
    quota: Quota | None = None
    duration_ms: int = 0
    body: Any = None

    @property
    def item(self) -> tuple[int, int | None] | None:
        """Which item of several is refused: the place of its profile's group, and of the event in it."""
        found = _ITEM.search(self.pointer or "")
        return None if found is None else (int(found[1]), None if found[2] is None else int(found[2]))

    @property
    def profile_id(self) -> str | None:
        """Klaviyo's id of the profile that the answer tells of."""
        data = self.body.get("data") if isinstance(self.body, dict) else None
        id_ = data.get("id") if isinstance(data, dict) else None
        return id_ if isinstance(id_, str) else None


def classify(status: int, headers: Mapping[str, str], content: bytes, now: datetime, duration_ms: int) -> Response:
    """The meaning of an answer that arrived. Whatever is no JSON comes from something between us and Klaviyo."""
    body = _json(content)
    error = _first_error(body)
    verdict = _outcome(status, is_json=error is not None or isinstance(body, dict))
    source = error.get("source") if error else None
    pointer = source.get("pointer") if isinstance(source, dict) else None
    return Response(
        outcome=verdict,
        status=status,
        error=None if verdict is Outcome.DONE else _text(status, error),
        retry_after=_seconds(headers.get("retry-after"), now) if verdict is Outcome.RETRY else None,
        pointer=pointer if isinstance(pointer, str) else None,
        quota=_quota(headers),
        duration_ms=duration_ms,
        body=body,
    )


def _outcome(status: int, *, is_json: bool) -> Outcome:
    if 200 <= status < 300:
        return Outcome.DONE
    if status in _AGAIN or status >= 500 or status < 400:
        return Outcome.RETRY
    if status == 413:
        return Outcome.TOO_LARGE
    if not is_json:
        return Outcome.RETRY
    return Outcome.PAUSE if status in _STOP else Outcome.BAD


def _text(status: int, error: Mapping[str, Any] | None) -> str:
    if error is None:
        return f"Klaviyo answered {status} without saying why."
    told = error.get("detail") or error.get("title") or error.get("code") or "no reason given"
    return f"Klaviyo answered {status}: {told}"


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _first_error(body: Any) -> Mapping[str, Any] | None:
    errors = body.get("errors") if isinstance(body, dict) else None
    return errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else None


def _seconds(text: str | None, now: datetime) -> int | None:
    """Retry-After, in whole seconds or as a date; None where it is neither."""
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
    found = [headers.get(f"ratelimit-{name}", "").partition(",")[0].strip() for name in ("limit", "remaining", "reset")]
    return Quota(*map(int, found)) if all(text.isdigit() for text in found) else None
