"""Converts rows of files to contacts and back. Columns have the field names of the API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from enum import StrEnum
from typing import Any

from gateway.domain.contacts.contacts import ContactRole, Document, IdentityKind, by_name, identity
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.fields import CONTACT_FIELDS, LOCATION_PARTS, FieldKind
from gateway.domain.events.documents import Counts, NamedCounts, SummaryDocument
from gateway.domain.events.summaries import retained_counts
from gateway.errors import ErrorCode, StartupError, UserProblem
from gateway.transfer.csv_values import (
    Read,
    format_time,
    read_count,
    read_flag,
    read_list,
    read_object,
    read_plain,
    read_text,
    read_texts,
    read_time,
)

ATTRIBUTE = "customAttributes."
_SUMMARY_KEYS = {"name", "count", "firstAt", "lastAt"}


class Others(StrEnum):
    """What to do with columns that are no contact field."""

    REFUSE = "refuse"
    ATTRIBUTES = "attributes"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class ContactColumns:
    """Maps columns to fields: by `named`, or else by equal names."""

    named: Mapping[str, str] = dataclass_field(default_factory=dict)
    others: Others = Others.REFUSE

    def __post_init__(self) -> None:
        for column, name in self.named.items():
            if name not in READ and not (name.startswith(ATTRIBUTE) and name != ATTRIBUTE):
                raise StartupError(
                    f"'{name}', the field for '{column}', is not a field of a contact. Fields: "
                    f"{', '.join(READ)}, and {ATTRIBUTE}NAME for any name."
                )

    def field_of(self, column: str) -> str | None:
        """The field of a column; None if the column is ignored."""
        if column in self.named:
            return self.named[column]
        if column in READ or column.startswith(ATTRIBUTE):
            return column
        if self.others is Others.REFUSE:
            raise UserProblem(
                ErrorCode.INVALID,
                f"'{column}' is not a field of a contact: name its field with --map '{column}=FIELD', or give "
                "--others attributes or --others ignore.",
                (column,),
            )
        return ATTRIBUTE + column if self.others is Others.ATTRIBUTES else None

    def check(self, header: Sequence[str]) -> None:
        """UserProblem if a named column is missing, or if two columns map to one field."""
        if missing := [column for column in self.named if column not in header]:
            raise UserProblem(
                ErrorCode.INVALID, f"The file has no column '{missing[0]}'. Its columns: {', '.join(header) or 'none'}."
            )
        column_by_field: dict[str, str] = {}
        for column in header:
            name = self.field_of(column)
            if name is not None and column_by_field.setdefault(name, column) != column:
                raise _duplicate(column_by_field[name], column, name)


def contact_of(row: Mapping[str, Any], columns: ContactColumns, *, text: bool) -> Document:
    """The row as the input of upsertContact in snake_case, with further keys that only files have. `text`: all
    values are text, as in CSV, and empty ones are absent."""
    column_by_field: dict[str, str] = {}
    contact_input: Document = {}
    for column, value in flat(row).items():
        name = None if text and value == "" else columns.field_of(column)
        if name is None:
            continue
        if column_by_field.setdefault(name, column) != column:
            raise _duplicate(column_by_field[name], column, name)
        _set_field(contact_input, name, _read(name, value, column, text=text))
    return contact_input


def contact_row(
    contact: ContactDocument, summaries: Sequence[SummaryDocument], swept: Sequence[NamedCounts]
) -> Document:
    """A contact as a row. `summaries`: those with imported counts; `swept`: name, count, first and last of its
    events that retention removed."""
    own = identity(IdentityKind.ID, contact["_id"])
    other_ids = [text for text in contact["identities"] if text.startswith(f"{IdentityKind.ID}:") and text != own]
    row: Document = {"id": contact["_id"], "otherIds": [text.partition(":")[2] for text in other_ids]}
    values = by_name(contact)
    for name, field in _FIELDS.items():
        if (value := values.get(field.name)) is not None:
            row[name] = format_time(value) if field.kind is FieldKind.TIME else value
    imported = [summary for summary in summaries if summary.get("imported") is not None]
    row["importedSummaries"] = [summary_line(summary["name"], summary["imported"]) for summary in imported]
    row["retainedSummaries"] = [summary_line(summary["name"], summary) for summary in retained_counts(summaries, swept)]
    return {name: value for name, value in row.items() if value != [] or name == "tags"}


def summary_line(name: str, counts: Counts) -> Document:
    """The counts of a summary that no stored event accounts for."""
    times = {"firstAt": format_time(counts["first_at"]), "lastAt": format_time(counts["last_at"])}
    return {"name": name, "count": counts["count"], **times}


def flat(row: Mapping[str, Any]) -> Document:
    flat_row: Document = {}
    for column, value in row.items():
        if column == "location" and isinstance(value, dict):
            flat_row |= {f"location.{part}": part_value for part, part_value in value.items()}
        else:
            flat_row[column] = value
    return flat_row


def _read(name: str, value: Any, column: str, *, text: bool) -> Any:
    if value is None:
        return None
    if name.startswith(ATTRIBUTE):
        return read_plain(value) if text else value
    return READ[name](value, column)


def _set_field(contact_input: Document, name: str, value: Any) -> None:
    if name.startswith(ATTRIBUTE):
        contact_input["custom_attributes"] = {
            **(contact_input.get("custom_attributes") or {}),
            name.removeprefix(ATTRIBUTE): value,
        }
    elif name == "customAttributes":
        contact_input["custom_attributes"] = (
            None if value is None else {**value, **(contact_input.get("custom_attributes") or {})}
        )
    elif name.startswith("location."):
        contact_input["location"] = {**(contact_input.get("location") or {}), name.partition(".")[2]: value}
    elif name in _LISTS:
        contact_input[_LISTS[name]] = [*contact_input.get(_LISTS[name], ()), *(value or ())]
    elif value is not None or name not in _FIELDS or _FIELDS[name].stated:
        contact_input[_SNAKE[name]] = value


def _read_location(value: Any, column: str) -> Any:
    raise UserProblem(ErrorCode.INVALID, f"'{value!s:.60}' in the column '{column}' is not an object.", (column,))


def _read_role(value: Any, column: str) -> str:
    if value not in list(ContactRole):
        raise UserProblem(
            ErrorCode.INVALID,
            f"'{value!s:.60}' in the column '{column}' is not one of {', '.join(ContactRole)}.",
            (column,),
        )
    return ContactRole(value).value


def _read_single(value: Any, column: str) -> list[str]:
    return [read_text(value, column)]


def _read_summaries(value: Any, column: str) -> list[Document]:
    return [_read_summary(line, column) for line in read_list(value, column)]


def _read_summary(line: Any, column: str) -> Document:
    if not isinstance(line, dict) or set(line) != _SUMMARY_KEYS:
        message = f"Every item of '{column}' must be an object of name, count, firstAt and lastAt."
        raise UserProblem(ErrorCode.INVALID, message, (column,))
    if isinstance(line["count"], bool) or not isinstance(line["count"], int):
        raise UserProblem(ErrorCode.INVALID, f"A count in '{column}' is not an integer.", (column,))
    return {
        "name": read_text(line["name"], column),
        "count": line["count"],
        "first_at": read_time(line["firstAt"], column),
        "last_at": read_time(line["lastAt"], column),
    }


def _duplicate(column: str, other: str, name: str) -> UserProblem:
    return UserProblem(
        ErrorCode.INVALID, f"The columns '{column}' and '{other}' are both mapped to '{name}': remove one."
    )


_READ_BY_KIND: Mapping[FieldKind, Read] = {
    FieldKind.KEY: read_text,
    FieldKind.KEYS: read_texts,
    FieldKind.ROLE: _read_role,
    FieldKind.TEXT: read_text,
    FieldKind.URL: read_text,
    FieldKind.TIME: read_time,
    FieldKind.FLAG: read_flag,
    FieldKind.COUNT: read_count,
    FieldKind.TAGS: read_texts,
    FieldKind.LOCATION: _read_location,
    FieldKind.ATTRIBUTES: read_object,
}
_FIELDS = {field.api_name: field for field in CONTACT_FIELDS}
READ: dict[str, Read] = {
    "id": read_text,
    "otherIds": read_texts,
    **{name: _READ_BY_KIND[field.kind] for name, field in _FIELDS.items()},
    "anonymousId": _read_single,
    **{f"location.{part}": read_text for part in LOCATION_PARTS},
    "importedSummaries": _read_summaries,
    "retainedSummaries": _read_summaries,
}
EXPORTED = (
    "id",
    "otherIds",
    *(column for field in CONTACT_FIELDS for column in field.columns),
    "importedSummaries",
    "retainedSummaries",
)
_LISTS = {"anonymousId": "anonymous_ids", "anonymousIds": "anonymous_ids", "otherIds": "other_ids"}
_SNAKE = {name: field.name for name, field in _FIELDS.items()} | {
    "id": "id",
    "importedSummaries": "imported_summaries",
    "retainedSummaries": "retained_summaries",
}
