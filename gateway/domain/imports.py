"""Rows of a file as events: which column is what, and how times and values are read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.domain.clocks import to_milliseconds
from gateway.domain.contacts import Document
from gateway.domain.metadata import parse_rfc3339
from gateway.errors import ErrorCode, UserProblem

_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?")
_UNIX = re.compile(r"-?\d{1,15}(\.\d+)?")
_MILLISECONDS_FROM = 10**11  # as seconds this is the year 5138, as milliseconds 1973
_WORDS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a file is what; `metadata` None means every column that is nothing else."""

    name: str
    at: str
    contact_id: str | None = None
    email: str | None = None
    anonymous_id: str | None = None
    key: str | None = None
    metadata: tuple[str, ...] | None = ()

    def named(self) -> list[str]:
        """The columns that must be there."""
        keys = (self.name, self.at, self.contact_id, self.email, self.anonymous_id, self.key)
        return [column for column in (*keys, *(self.metadata or ())) if column is not None]


def event_of(row: Mapping[str, Any], columns: Columns, *, text: bool) -> Document:
    """The row as the input of an event, in snake_case. `text`: every value is a text, as in CSV; an empty one is absent."""
    contact = {
        kind: _key(row.get(column), column)
        for kind, column in (
            ("external_id", columns.contact_id),
            ("email", columns.email),
            ("anonymous_id", columns.anonymous_id),
        )
        if column is not None and row.get(column) not in (None, "")
    }
    chosen = columns.metadata if columns.metadata is not None else [name for name in row if name not in columns.named()]
    values = {name: row[name] for name in chosen if row.get(name) not in (None, "")}
    return {
        "contact": contact,
        "name": _key(row.get(columns.name), columns.name) if row.get(columns.name) is not None else "",
        "occurred_at": read_time(row.get(columns.at), columns.at),
        "metadata": {name: _value(value) for name, value in values.items()} if text else values,
    }


def read_time(value: Any, column: str) -> datetime:
    """A time in RFC 3339, without an offset in UTC, or in unix seconds or milliseconds."""
    found = None
    if isinstance(value, str):
        text = value.strip()
        found = _unix(float(text)) if _UNIX.fullmatch(text) else parse_rfc3339(text) or _without_offset(text)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found = _unix(value)
    if found is None:
        raise UserProblem(
            ErrorCode.INVALID,
            f"'{value}' in the column '{column}' is no time: write RFC 3339, unix seconds or unix milliseconds.",
            (column,),
        )
    return found


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


def _key(value: Any, column: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserProblem(
            ErrorCode.INVALID,
            f"The column '{column}' must hold a text or a whole number, not {value!r:.60}.",
            (column,),
        )
    return str(value)


def _value(text: str) -> Any:
    """A cell as JSON: numbers and booleans that are written as JSON writes them, all else as the text it is."""
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return _WORDS.get(text, text)
