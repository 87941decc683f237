"""The values of contact fields: how each kind is checked, and how it is set."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from gateway.core.json_values import JsonObject
from gateway.core.text_rules import check_http_url, check_tags, check_text
from gateway.core.typed_values import check_metadata
from gateway.domain.contacts.contacts import Document, by_name, merged_attributes
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.fields import (
    FIELD_BY_NAME,
    MAX_TEXT_LENGTH,
    STATED_FIELDS,
    YEARS,
    ContactField,
    FieldKind,
    MergeRule,
)
from gateway.domain.events.events import check_occurred_at
from gateway.errors import ErrorCode, UserProblem
from gateway.settings import Settings


def check_values(fields: Mapping[str, object], settings: Settings, now: datetime) -> Document:
    """The given fields other than keys, by stored name, as they are stored; None clears. UserProblem names the field."""
    return {
        field.name: check_value(field, fields[field.name], settings, now)
        for field in STATED_FIELDS
        if field.name in fields
    }


def check_value(field: ContactField, value: object, settings: Settings, now: datetime) -> object:
    """A value as it is stored; None clears. UserProblem names the field."""
    if value is None:
        if field.default is None or field.kind is FieldKind.ATTRIBUTES:
            return None  # attributes that are given are merged, so an empty object would clear none
        return field.default()
    check = _CHECKS.get(field.kind)
    return value if check is None else check(value, field, settings, now)


def set_values(contact: ContactDocument, values: Document, settings: Settings) -> None:
    """Set checked values in a contact, except its role. UserProblem if it has too many attributes then."""
    document = by_name(contact)
    for name, value in values.items():
        field = FIELD_BY_NAME[name]
        match field.kind:
            case FieldKind.ROLE:
                continue
            case FieldKind.ATTRIBUTES:
                document[name] = {} if value is None else merged_attributes(document[name], value)
                check_metadata(document[name], settings, (field.api_name,))
            case FieldKind.LOCATION if value is not None:
                document[name] = merged_attributes(document.get(name, {}), value) or None
            case FieldKind.TIME if value is not None and field.merge is MergeRule.GREATEST:
                document[name] = max(value, document.get(name) or value)
            case _:
                document[name] = value
    for name in [name for name, value in document.items() if value is None]:
        del document[name]


def _check_text(text: str, field: ContactField, *_: object) -> str:
    return check_text(text, (field.api_name,), longest=MAX_TEXT_LENGTH, named=field.api_name)


def _check_url(url: str, field: ContactField, *_: object) -> str:
    return check_http_url(url, (field.api_name,), longest=MAX_TEXT_LENGTH)


def _check_time(at: datetime, field: ContactField, _: Settings, now: datetime) -> datetime | None:
    return check_occurred_at(at, now, YEARS, (field.api_name,))


def _check_location(location: Mapping[str, str | None], field: ContactField, *_: object) -> Document:
    return {
        part: text if text is None else check_text(text, (field.api_name, part), longest=255, named=part)
        for part, text in location.items()
    }


def _check_attributes(attributes: JsonObject, field: ContactField, settings: Settings, _: datetime) -> JsonObject:
    check_metadata(attributes, settings, (field.api_name,))
    return attributes


def _check_count(count: int, field: ContactField, *_: object) -> int:
    if count < 0:
        raise UserProblem(ErrorCode.INVALID, f"{field.api_name} must not be negative.", (field.api_name,))
    return count


_CHECKS: Mapping[FieldKind, Callable[[Any, ContactField, Settings, datetime], object]] = {
    FieldKind.TEXT: _check_text,
    FieldKind.URL: _check_url,
    FieldKind.TIME: _check_time,
    FieldKind.LOCATION: _check_location,
    FieldKind.TAGS: lambda tags, *_: check_tags(tags),
    FieldKind.ATTRIBUTES: _check_attributes,
    FieldKind.COUNT: _check_count,
}
