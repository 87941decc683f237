"""Values of files: how a text of a CSV file, or a value of an NDJSON file, becomes one of ours."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.core.clock import to_milliseconds
from gateway.core.typed_values import parse_rfc3339
from gateway.errors import ErrorCode, UserProblem

_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?")
_UNIX = re.compile(r"-?\d{1,15}(\.\d+)?")
_MILLISECONDS_FROM = 10**11  # as seconds this is the year 5138, as milliseconds 1973
_WORDS = {"true": True, "false": False}
_LARGEST_COUNT = 2**31 - 1


def read_time(value: Any, column: str) -> datetime:
    """A time in RFC 3339, without an offset in UTC, or in unix seconds or milliseconds."""
    found = None
    if isinstance(value, str):
        text = value.strip()
        found = _unix(float(text)) if _UNIX.fullmatch(text) else parse_rfc3339(text) or _without_offset(text)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found = _unix(value)
    if found is None:
        raise _no(value, column, "no time: write RFC 3339, unix seconds or unix milliseconds")
    return found


def read_text(value: Any, column: str) -> str:
    """A text, or a whole number as one."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserProblem(
            ErrorCode.INVALID,
            f"The column '{column}' must hold a text or a whole number, not {value!r:.60}.",
            (column,),
        )
    return str(value)


def read_flag(value: Any, column: str) -> bool:
    """A boolean, in CSV the word for it."""
    found = _WORDS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise _no(value, column, "neither true nor false")
    return found


def read_count(value: Any, column: str) -> int:
    """A whole number of at most 32 bits."""
    text = value.strip() if isinstance(value, str) else value
    found = int(text) if isinstance(text, str) and re.fullmatch(r"-?\d{1,10}", text) else text
    if isinstance(found, bool) or not isinstance(found, int) or abs(found) > _LARGEST_COUNT:
        raise _no(value, column, f"no whole number up to {_LARGEST_COUNT}")
    return found


def read_list(value: Any, column: str) -> list[Any]:
    """A list; in CSV as JSON."""
    found = _json(value, column, "list") if isinstance(value, str) else value
    if not isinstance(found, list):
        raise _no(value, column, "no list")
    return found


def read_texts(value: Any, column: str) -> list[str]:
    """A list of texts; in CSV as JSON, or texts with commas between."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return [part for part in (each.strip() for each in value.split(",")) if part]
    found = read_list(value, column)
    if not all(isinstance(each, str) for each in found):
        raise _no(value, column, "no list of texts")
    return found


def read_object(value: Any, column: str) -> dict[str, Any]:
    """An object; in CSV as JSON."""
    found = _json(value, column, "object") if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise _no(value, column, "no JSON object")
    return found


def read_plain(text: str) -> Any:
    """A cell as JSON: numbers and booleans that are written as JSON writes them, all else as the text it is."""
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return _WORDS.get(text, text)


def format_time(at: datetime) -> str:
    """A time as files and the API have it."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_cell(value: Any) -> str:
    """A value as a cell of CSV: texts as they are, nothing as an empty one, and all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


Read = Callable[[Any, str], Any]


def _json(text: str, column: str, named: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise _no(text, column, f"no JSON {named}") from None


def _no(value: Any, column: str, what: str) -> UserProblem:
    return UserProblem(ErrorCode.INVALID, f"'{value!s:.60}' in the column '{column}' is {what}.", (column,))


def _unix(number: float) -> datetime | None:
    try:
        seconds = number / 1000 if abs(number) >= _MILLISECONDS_FROM else number
        return to_milliseconds(datetime.fromtimestamp(round(seconds, 3), UTC))
    except (ValueError, OverflowError, OSError):
        return None


def _without_offset(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        return to_milliseconds(found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC))
    except (ValueError, OverflowError):
        return None
