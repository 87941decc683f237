"""Converts rows with arbitrary columns to events."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from gateway.core.json_values import Json
from gateway.domain.contacts.documents import ContactRefFields
from gateway.domain.events.events import EventFields
from gateway.transfer.csv_values import read_plain, read_text, read_time


@dataclass(frozen=True, slots=True)
class Columns:
    """Maps columns to event fields; `metadata` None takes every other column."""

    name: str
    at: str
    contact_id: str | None = None
    email: str | None = None
    anonymous_id: str | None = None
    key: str | None = None
    metadata: tuple[str, ...] | None = ()

    def named(self) -> list[str]:
        keys = (self.name, self.at, self.contact_id, self.email, self.anonymous_id, self.key)
        return [column for column in (*keys, *(self.metadata or ())) if column is not None]


def event_of(row: Mapping[str, Json], columns: Columns, *, text: bool) -> EventFields:
    """The row as an event's input in snake_case. `text`: all values are text, as in CSV; empty ones are absent."""
    contact = {
        kind: read_text(row.get(column), column)
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
        "contact": cast(ContactRefFields, contact),
        "name": read_text(row.get(columns.name), columns.name) if row.get(columns.name) is not None else "",
        "occurred_at": read_time(row.get(columns.at), columns.at),
        "metadata": {name: read_plain(str(value)) for name, value in values.items()} if text else values,
    }
