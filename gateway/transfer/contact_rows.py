"""Converts rows of files to contacts and back. Columns have the field names of the API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.domain.contacts.contacts import ContactRole, Document, IdentityKind, identity
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

    named: Mapping[str, str] = field(default_factory=dict)
    others: Others = Others.REFUSE

    def __post_init__(self) -> None:
        for column, name in self.named.items():
            if name not in READ and not (name.startswith(ATTRIBUTE) and name != ATTRIBUTE):
                raise StartupError(
                    f"'{name}', which '{column}' is to be, is no field of a contact: fields are "
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
                f"'{column}' is no field of a contact: say which one it is with --map '{column}=FIELD', or give "
                "--others attributes or --others ignore.",
                (column,),
            )
        return ATTRIBUTE + column if self.others is Others.ATTRIBUTES else None

    def check(self, header: Sequence[str]) -> None:
        """UserProblem if a named column is missing, or if two columns map to one field."""
        if missing := [column for column in self.named if column not in header]:
            raise UserProblem(
                ErrorCode.INVALID, f"The file has no column '{missing[0]}': it has {', '.join(header) or 'none'}."
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
    contact: Mapping[str, Any], summaries: Sequence[SummaryDocument], swept: Sequence[NamedCounts]
) -> Document:
    """A contact as a row. `summaries`: those with imported counts; `swept`: name, count, first and last of its
    events that retention removed."""
    own = identity(IdentityKind.ID, contact["_id"])
    other_ids = [text for text in contact["identities"] if text.startswith(f"{IdentityKind.ID}:") and text != own]
    row = {"id": contact["_id"], "otherIds": [text.partition(":")[2] for text in other_ids]}
    for name, snake in _STORED.items():
        if (value := contact.get(snake)) is not None:
            row[name] = format_time(value) if READ.get(name) is read_time else value
    imported = [summary for summary in summaries if summary.get("imported") is not None]
    row["importedSummaries"] = [summary_line(summary["name"], summary["imported"]) for summary in imported]
    row["retainedSummaries"] = [summary_line(summary["name"], summary) for summary in retained_counts(summaries, swept)]
    return {name: value for name, value in row.items() if value != [] or name == "tags"}


def summary_line(name: str, counts: Counts) -> Document:
    """The counts of a summary that no stored event accounts for."""
    times = {"firstAt": format_time(counts["first_at"]), "lastAt": format_time(counts["last_at"])}
    return {"name": name, "count": counts["count"], **times}


def flat(row: Mapping[str, Any]) -> Document:
    """The row with the parts of its location as columns."""
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
    elif value is not None or name not in ("createdAt", "updatedAt"):
        contact_input[_SNAKE[name]] = value


def _read_location(value: Any, column: str) -> Any:
    raise UserProblem(ErrorCode.INVALID, f"'{value!s:.60}' in the column '{column}' is no object.", (column,))


def _read_role(value: Any, column: str) -> str:
    if value not in list(ContactRole):
        raise UserProblem(
            ErrorCode.INVALID,
            f"'{value!s:.60}' in the column '{column}' is none of {', '.join(ContactRole)}.",
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
        raise UserProblem(ErrorCode.INVALID, f"A count in '{column}' is no whole number.", (column,))
    return {
        "name": read_text(line["name"], column),
        "count": line["count"],
        "first_at": read_time(line["firstAt"], column),
        "last_at": read_time(line["lastAt"], column),
    }


def _duplicate(column: str, other: str, name: str) -> UserProblem:
    return UserProblem(ErrorCode.INVALID, f"The columns '{column}' and '{other}' are both '{name}': leave one out.")


READ: dict[str, Read] = {
    "id": read_text,
    "otherIds": read_texts,
    "externalId": read_text,
    "email": read_text,
    "anonymousId": _read_single,
    "anonymousIds": read_texts,
    "role": _read_role,
    "phone": read_text,
    "name": read_text,
    "firstName": read_text,
    "lastName": read_text,
    "avatarUrl": read_text,
    "location": _read_location,
    "location.city": read_text,
    "location.region": read_text,
    "location.country": read_text,
    "tags": read_texts,
    "customAttributes": read_object,
    "createdAt": read_time,
    "updatedAt": read_time,
    "signedUpAt": read_time,
    "lastSeenAt": read_time,
    "unsubscribedFromEmails": read_flag,
    "hasHardBounced": read_flag,
    "markedEmailAsSpam": read_flag,
    "optedOutSubscriptionTypesCount": read_count,
    "importedSummaries": _read_summaries,
    "retainedSummaries": _read_summaries,
}
EXPORTED = tuple(name for name in READ if name not in ("anonymousId", "location"))
_LISTS = {"anonymousId": "anonymous_ids", "anonymousIds": "anonymous_ids", "otherIds": "other_ids"}
_SNAKE = {
    "id": "id",
    "externalId": "external_id",
    "email": "email",
    "role": "role",
    "phone": "phone",
    "name": "name",
    "firstName": "first_name",
    "lastName": "last_name",
    "avatarUrl": "avatar_url",
    "location": "location",
    "tags": "tags",
    "createdAt": "created_at",
    "updatedAt": "updated_at",
    "signedUpAt": "signed_up_at",
    "lastSeenAt": "last_seen_at",
    "unsubscribedFromEmails": "unsubscribed_from_emails",
    "hasHardBounced": "has_hard_bounced",
    "markedEmailAsSpam": "marked_email_as_spam",
    "optedOutSubscriptionTypesCount": "opted_out_subscription_types_count",
    "importedSummaries": "imported_summaries",
    "retainedSummaries": "retained_summaries",
}
_STORED = {name: snake for name, snake in _SNAKE.items() if name != "id" and READ[name] is not _read_summaries} | {
    "customAttributes": "custom_attributes",
    "anonymousIds": "anonymous_ids",
}
