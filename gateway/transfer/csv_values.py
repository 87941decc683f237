"""Reads and writes the values of CSV and NDJSON files."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime

import orjson

from gateway.core.clock import to_milliseconds
from gateway.core.json_values import Json, JsonObject
from gateway.core.typed_values import parse_rfc3339
from gateway.errors import ErrorCode, UserProblem

_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?")
_UNIX = re.compile(r"-?\d{1,15}(\.\d+)?")
_MILLISECONDS_FROM = 10**11  # in seconds the year 5138, in milliseconds 1973
_WORDS = {"true": True, "false": False}
_LARGEST_COUNT = 2**31 - 1


def read_time(value: Json, column: str) -> datetime:
    """A time from RFC 3339 (UTC without an offset), unix seconds or unix milliseconds."""
    time = None
    if isinstance(value, str):
        text = value.strip()
        time = _unix(float(text)) if _UNIX.fullmatch(text) else parse_rfc3339(text) or _without_offset(text)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        time = _unix(value)
    if time is None:
        raise _problem(value, column, "not a time: write RFC 3339, Unix seconds or Unix milliseconds")
    return time


def read_text(value: Json, column: str) -> str:
    """A text; a whole number becomes one."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserProblem(
            ErrorCode.INVALID,
            f"The column '{column}' must have a text or an integer, not {value!r:.60}.",
            (column,),
        )
    return str(value)


def read_flag(value: Json, column: str) -> bool:
    """A boolean; in CSV the words true and false."""
    flag = _WORDS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise _problem(value, column, "neither true nor false")
    return flag


def read_count(value: Json, column: str) -> int:
    """A whole number of at most 32 bits."""
    text = value.strip() if isinstance(value, str) else value
    count = int(text) if isinstance(text, str) and re.fullmatch(r"-?\d{1,10}", text) else text
    if isinstance(count, bool) or not isinstance(count, int) or abs(count) > _LARGEST_COUNT:
        raise _problem(value, column, f"not an integer up to {_LARGEST_COUNT}")
    return count


def read_list(value: Json, column: str) -> list[Json]:
    """A list; in CSV as JSON."""
    items = _json(value, column, "list") if isinstance(value, str) else value
    if not isinstance(items, list):
        raise _problem(value, column, "not a list")
    return items


def read_texts(value: Json, column: str) -> list[str]:
    """A list of texts; in CSV as JSON, or separated by commas."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return [part for part in (each.strip() for each in value.split(",")) if part]
    items = read_list(value, column)
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) < len(items):
        raise _problem(value, column, "not a list of texts")
    return texts


def read_object(value: Json, column: str) -> JsonObject:
    """An object; in CSV as JSON."""
    object_ = _json(value, column, "object") if isinstance(value, str) else value
    if not isinstance(object_, dict):
        raise _problem(value, column, "not a JSON object")
    return object_


def read_plain(text: str) -> Json:
    """A cell as a number or boolean if it is written like one in JSON, else as text."""
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return _WORDS.get(text, text)


def format_time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_cell(value: Json) -> str:
    """A value as a CSV cell: text as it is, None as an empty cell, all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


Read = Callable[[Json, str], object]


def _json(text: str, column: str, named: str) -> Json:
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError):
        raise _problem(text, column, f"not a JSON {named}") from None
    return value


def _problem(value: Json, column: str, what: str) -> UserProblem:
    return UserProblem(ErrorCode.INVALID, f"'{value!s:.60}' in the column '{column}' is {what}.", (column,))


def _unix(number: float) -> datetime | None:
    try:
        seconds = number / 1000 if abs(number) >= _MILLISECONDS_FROM else number
        return to_milliseconds(datetime.fromtimestamp(round(seconds, 3), UTC))
    except (ValueError, OverflowError, OSError):
        return None


def _without_offset(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
        return to_milliseconds(time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC))
    except (ValueError, OverflowError):
        return None
