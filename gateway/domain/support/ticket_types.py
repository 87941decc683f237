"""Ticket types: category and attributes, and checks of attribute values."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NotRequired, TypedDict

from gateway.core.json_values import Json, JsonObject
from gateway.core.text_rules import check_text
from gateway.core.typed_values import SAFE_INTEGER, parse_rfc3339
from gateway.core.unset import UNSET
from gateway.domain.support.commands import SaveTicketType, TicketAttributeFields
from gateway.domain.support.documents import TicketAttribute, TicketTypeDocument
from gateway.errors import ErrorCode, UserProblem

MAX_TICKET_TYPES = 100
MAX_ATTRIBUTES = 50
MAX_OPTIONS = 100
_LONGEST_NAME = 255
_LONGEST_ATTRIBUTE_NAME = 100
_LONGEST_DESCRIPTION = 1000
_LONGEST_STRING = 255
_LONGEST_LONG_STRING = 10_000
Path = tuple[str, ...]


class TicketCategory(StrEnum):
    """The categories; only CUSTOMER tickets can be shared with their contact."""

    CUSTOMER = "CUSTOMER"
    BACK_OFFICE = "BACK_OFFICE"
    TRACKER = "TRACKER"


class TicketAttributeKind(StrEnum):
    STRING = "STRING"
    LONG_STRING = "LONG_STRING"
    INTEGER = "INTEGER"
    DECIMAL = "DECIMAL"
    BOOLEAN = "BOOLEAN"
    DATETIME = "DATETIME"
    LIST = "LIST"


class TicketTypeValues(TypedDict):
    """The values to set on a type; None clears."""

    name: str
    name_lower: str
    category: str
    description: NotRequired[str | None]
    attributes: NotRequired[list[TicketAttribute]]
    archived: NotRequired[bool]


def check_ticket_type(command: SaveTicketType) -> TicketTypeValues:
    """The values to set on a type; UserProblem."""
    name = check_text(command.name, ("name",), longest=_LONGEST_NAME, named="The name")
    values: TicketTypeValues = {"name": name, "name_lower": name.lower(), "category": command.category}
    if (text := command.description) is not UNSET:
        longest = _LONGEST_DESCRIPTION
        values["description"] = text and check_text(text, ("description",), longest=longest, named="The description")
    if command.attributes is not UNSET:
        values["attributes"] = _check_attributes(command.attributes or ())
    if command.archived is not UNSET:
        values["archived"] = bool(command.archived)
    return values


def new_ticket_type(id_: str, workspace_id: str, values: TicketTypeValues, now: datetime) -> TicketTypeDocument:
    type_: TicketTypeDocument = {
        "_id": id_,
        "workspace_id": workspace_id,
        "archived": values.get("archived", False),
        "attributes": values.get("attributes", []),
        "created_at": now,
        "name": values["name"],
        "name_lower": values["name_lower"],
        "category": values["category"],
    }
    if (description := values.get("description")) is not None:
        type_["description"] = description
    return type_


def check_same_category(stored: TicketTypeDocument, values: TicketTypeValues) -> None:
    """Raise UserProblem if the category would change: it decides who sees the existing tickets of the type."""
    if values["category"] != stored["category"]:
        raise UserProblem(
            ErrorCode.INVALID,
            f"The category of '{stored['name']}' is {stored['category']} and cannot be changed: create another type for {values['category']}.",
            ("category",),
        )


def check_usable(type_: TicketTypeDocument | None, id_: str, path: Sequence[str]) -> TicketTypeDocument:
    """The type, for a new ticket; UserProblem if it is missing or archived."""
    if type_ is None:
        raise UserProblem(
            ErrorCode.NOT_FOUND, f"There is no ticket type with the id '{id_}': correct the id.", tuple(path)
        )
    if type_["archived"]:
        raise UserProblem(
            ErrorCode.INVALID, f"The ticket type '{type_['name']}' is archived: choose another.", tuple(path)
        )
    return type_


def shown_attributes(type_: TicketTypeDocument, *, to_contact: bool) -> list[TicketAttribute]:
    """The attributes of a type; with `to_contact`, only those that contacts see."""
    return [attribute for attribute in type_["attributes"] if attribute["visible_to_contacts"] or not to_contact]


def shown_values(type_: TicketTypeDocument, values: JsonObject, *, to_contact: bool) -> JsonObject:
    """A ticket's values; with `to_contact`, only of attributes that contacts see now."""
    if not to_contact:
        return dict(values)
    names = {attribute["name"] for attribute in shown_attributes(type_, to_contact=True)}
    return {name: value for name, value in values.items() if name in names}


def changed_values(
    type_: TicketTypeDocument, stored: JsonObject, changes: JsonObject, *, by_contact: bool, path: Path
) -> JsonObject:
    """A ticket's values after an update; None removes a value.

    Only the changes are checked, with the type as it is now; UserProblem."""
    attributes = {attribute["name"]: attribute for attribute in shown_attributes(type_, to_contact=by_contact)}
    values = dict(stored)
    for name, value in changes.items():
        attribute = attributes.get(name)
        if value is not None:
            values[name] = _checked_value(attribute, name, value, type_, path)
            continue
        if attribute is not None and attribute["required"]:
            raise _missing(attribute, (*path, name))
        if attribute is None and (by_contact or name not in stored):
            raise _unknown(name, type_, (*path, name))
        values.pop(name, None)
    return values


def new_values(type_: TicketTypeDocument, values: JsonObject, *, by_contact: bool, path: Path) -> JsonObject:
    """A new ticket's values; UserProblem if a required one is missing (for contacts: one that they see)."""
    provided: JsonObject = {name: value for name, value in values.items() if value is not None}
    checked = changed_values(type_, {}, provided, by_contact=by_contact, path=path)
    for attribute in shown_attributes(type_, to_contact=by_contact):
        if attribute["required"] and attribute["name"] not in checked:
            raise _missing(attribute, (*path, attribute["name"]))
    return checked


def _check_attributes(attributes: Sequence[TicketAttributeFields]) -> list[TicketAttribute]:
    if len(attributes) > MAX_ATTRIBUTES:
        message = f"There are {len(attributes)} attributes; the limit is {MAX_ATTRIBUTES}."
        raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message, ("attributes",))
    by_name: dict[str, TicketAttribute] = {}
    for index, fields in enumerate(attributes):
        path = ("attributes", str(index))
        attribute = _check_attribute(fields, path)
        if attribute["name"].lower() in by_name:
            message = f"Two attributes have the name '{attribute['name']}': rename one of them."
            raise UserProblem(ErrorCode.INVALID, message, (*path, "name"))
        by_name[attribute["name"].lower()] = attribute
    return list(by_name.values())


def _check_attribute(fields: TicketAttributeFields, path: Path) -> TicketAttribute:
    name = check_text(
        fields["name"], (*path, "name"), longest=_LONGEST_ATTRIBUTE_NAME, named="The name of the attribute"
    )
    if character := next((character for character in "$." if character in name), None):
        message = f"The attribute '{name}' contains '{character}', which is not allowed: rename it."
        raise UserProblem(ErrorCode.INVALID, message, (*path, "name"))
    visible = fields.get("visible_to_contacts")
    attribute: TicketAttribute = {
        "name": name,
        "kind": fields["kind"],
        "required": bool(fields.get("required")),
        "visible_to_contacts": True if visible is None else visible,
    }
    options = _check_options(name, fields.get("options"), fields["kind"], (*path, "options"))
    if options is not None:
        attribute["options"] = options
    return attribute


def _check_options(name: str, options: Sequence[str] | None, kind: str, path: Path) -> list[str] | None:
    if kind != TicketAttributeKind.LIST:
        if options:
            message = f"'{name}' is {kind}, but only a LIST has options: leave them out, or make it a LIST."
            raise UserProblem(ErrorCode.INVALID, message, path)
        return None
    if not options:
        raise UserProblem(ErrorCode.INVALID, f"'{name}' is a LIST: give its allowed values in options.", path)
    if len(options) > MAX_OPTIONS:
        message = f"'{name}' has {len(options)} options; the limit is {MAX_OPTIONS}."
        raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message, path)
    for index, option in enumerate(options):
        option_path = (*path, str(index))
        check_text(option, option_path, longest=_LONGEST_STRING, named="The option")
        if option in options[:index]:
            raise UserProblem(ErrorCode.INVALID, f"'{name}' has the option '{option}' twice.", option_path)
    return list(options)


def _checked_value(
    attribute: TicketAttribute | None, name: str, value: Json, type_: TicketTypeDocument, path: Path
) -> Json:
    if attribute is None:
        raise _unknown(name, type_, (*path, name))
    return _CHECKS[TicketAttributeKind(attribute["kind"])](attribute, value, (*path, name))


def _unknown(name: str, type_: TicketTypeDocument, path: Path) -> UserProblem:
    message = f"The ticket type '{type_['name']}' has no attribute '{_shortened(name)}'."
    return UserProblem(ErrorCode.INVALID, message, path)


def _missing(attribute: TicketAttribute, path: Path) -> UserProblem:
    message = f"The attribute '{attribute['name']}' is required: send a value."
    return UserProblem(ErrorCode.INVALID, message, path)


def _wrong(attribute: TicketAttribute, what: str, path: Path) -> UserProblem:
    return UserProblem(ErrorCode.INVALID, f"The attribute '{attribute['name']}' must be {what}.", path)


def _text(longest: int) -> Callable[[TicketAttribute, Json, Path], str]:
    def check(attribute: TicketAttribute, value: Json, path: Path) -> str:
        if not isinstance(value, str):
            raise _wrong(attribute, "a text", path)
        return check_text(value, path, longest=longest, named=f"The attribute '{attribute['name']}'")

    return check


def _integer(attribute: TicketAttribute, value: Json, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > SAFE_INTEGER:
        raise _wrong(attribute, "a whole number within 2^53", path)
    return value


def _decimal(attribute: TicketAttribute, value: Json, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_exact(value):
        raise _wrong(attribute, "a number, a whole one within 2^53", path)
    return value


def _is_exact(number: float) -> bool:
    return abs(number) <= SAFE_INTEGER if isinstance(number, int) else math.isfinite(number)


def _boolean(attribute: TicketAttribute, value: Json, path: Path) -> bool:
    if not isinstance(value, bool):
        raise _wrong(attribute, "true or false", path)
    return value


def _time(attribute: TicketAttribute, value: Json, path: Path) -> str:
    at = parse_rfc3339(value) if isinstance(value, str) else None
    if at is None:
        raise _wrong(attribute, "a time in RFC 3339 with an offset, such as 2026-01-31T09:30:00Z", path)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _option(attribute: TicketAttribute, value: Json, path: Path) -> str:
    if not isinstance(value, str) or value not in attribute["options"]:
        options = ", ".join(f"'{option}'" for option in attribute["options"][:10])
        more = "" if len(attribute["options"]) <= 10 else " or another of its options"
        raise _wrong(attribute, f"one of {options}{more}", path)
    return value


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_ATTRIBUTE_NAME else name[:_LONGEST_ATTRIBUTE_NAME] + "..."


_CHECKS: dict[TicketAttributeKind, Callable[[TicketAttribute, Json, Path], Json]] = {
    TicketAttributeKind.STRING: _text(_LONGEST_STRING),
    TicketAttributeKind.LONG_STRING: _text(_LONGEST_LONG_STRING),
    TicketAttributeKind.INTEGER: _integer,
    TicketAttributeKind.DECIMAL: _decimal,
    TicketAttributeKind.BOOLEAN: _boolean,
    TicketAttributeKind.DATETIME: _time,
    TicketAttributeKind.LIST: _option,
}
