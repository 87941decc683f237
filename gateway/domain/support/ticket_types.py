"""Types of tickets: their category, their attributes, and whether a value may be an attribute's."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from gateway.core.text_rules import check_text
from gateway.core.typed_values import SAFE_INTEGER, parse_rfc3339
from gateway.domain.contacts.contacts import Document
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
    """Whose tickets they are: CUSTOMER tickets may be shared with their contact, the others are for those who answer."""

    CUSTOMER = "CUSTOMER"
    BACK_OFFICE = "BACK_OFFICE"
    TRACKER = "TRACKER"


class TicketAttributeKind(StrEnum):
    """What an attribute's values are."""

    STRING = "STRING"
    LONG_STRING = "LONG_STRING"
    INTEGER = "INTEGER"
    DECIMAL = "DECIMAL"
    BOOLEAN = "BOOLEAN"
    DATETIME = "DATETIME"
    LIST = "LIST"


def check_ticket_type(sent: Mapping[str, Any]) -> Document:
    """The fields to set of a type, None for those to clear; UserProblem."""
    name = check_text(sent["name"], ("name",), longest=_LONGEST_NAME, named="The name")
    values: Document = {"name": name, "name_lower": name.lower(), "category": sent["category"]}
    if "description" in sent:
        text = sent["description"]
        longest = _LONGEST_DESCRIPTION
        values["description"] = text and check_text(text, ("description",), longest=longest, named="The description")
    if "attributes" in sent:
        values["attributes"] = _check_attributes(sent["attributes"] or ())
    if "archived" in sent:
        values["archived"] = bool(sent["archived"])
    return values


def new_ticket_type(id_: str, workspace_id: str, values: Mapping[str, Any], now: datetime) -> Document:
    """A type with those values."""
    given = {name: value for name, value in values.items() if value is not None}
    return {"_id": id_, "workspace_id": workspace_id, "archived": False, "attributes": [], "created_at": now, **given}


def check_same_category(stored: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Pass where the category stays: tickets have it from their type, and who sees them depends on it."""
    if values["category"] != stored["category"]:
        raise UserProblem(
            ErrorCode.INVALID,
            f"The category of '{stored['name']}' is {stored['category']} and stays so: save another type for {values['category']}.",
            ("category",),
        )


def check_usable(found: Document | None, id_: str, path: Sequence[str]) -> Document:
    """The type of that id, if it is there and new tickets may have it; UserProblem."""
    if found is None:
        raise UserProblem(ErrorCode.NOT_FOUND, f"There is no ticket type with the id '{id_}'.", tuple(path))
    if found["archived"]:
        raise UserProblem(
            ErrorCode.INVALID, f"The ticket type '{found['name']}' is archived: choose another.", tuple(path)
        )
    return found


def shown_attributes(type_: Mapping[str, Any], *, to_contact: bool) -> list[Document]:
    """The attributes of a type; to a contact those alone that are for contacts to see."""
    return [one for one in type_["attributes"] if one["visible_to_contacts"] or not to_contact]


def shown_values(type_: Mapping[str, Any], values: Mapping[str, Any], *, to_contact: bool) -> Document:
    """A ticket's values; to a contact those alone whose attributes are for contacts to see now."""
    if not to_contact:
        return dict(values)
    names = {one["name"] for one in shown_attributes(type_, to_contact=True)}
    return {name: value for name, value in values.items() if name in names}


def changed_values(
    type_: Mapping[str, Any], stored: Mapping[str, Any], sent: Mapping[str, Any], *, by_contact: bool, path: Path
) -> Document:
    """A ticket's values after an update: what is sent is checked by the type as it is now, None removes a value."""
    attributes = {one["name"]: one for one in shown_attributes(type_, to_contact=by_contact)}
    values = dict(stored)
    for name, value in sent.items():
        found = attributes.get(name)
        if value is not None:
            values[name] = _checked(found, name, value, type_, path)
            continue
        if found is not None and found["required"]:
            raise _missing(found, (*path, name))
        if found is None and (by_contact or name not in stored):
            raise _unknown(name, type_, (*path, name))
        values.pop(name, None)
    return values


def new_values(type_: Mapping[str, Any], sent: Mapping[str, Any], *, by_contact: bool, path: Path) -> Document:
    """A new ticket's values: all that are required must be there, of a contact those that it sees."""
    given = {name: value for name, value in sent.items() if value is not None}
    values = changed_values(type_, {}, given, by_contact=by_contact, path=path)
    for one in shown_attributes(type_, to_contact=by_contact):
        if one["required"] and one["name"] not in values:
            raise _missing(one, (*path, one["name"]))
    return values


def _check_attributes(sent: Sequence[Mapping[str, Any]]) -> list[Document]:
    if len(sent) > MAX_ATTRIBUTES:
        message = f"There are {len(sent)} attributes, and {MAX_ATTRIBUTES} are allowed."
        raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message, ("attributes",))
    found: dict[str, Document] = {}
    for place, one in enumerate(sent):
        path = ("attributes", str(place))
        attribute = _check_attribute(one, path)
        if attribute["name"].lower() in found:
            message = f"There are two attributes with the name '{attribute['name']}': rename one of them."
            raise UserProblem(ErrorCode.INVALID, message, (*path, "name"))
        found[attribute["name"].lower()] = attribute
    return list(found.values())


def _check_attribute(sent: Mapping[str, Any], path: Path) -> Document:
    name = check_text(sent["name"], (*path, "name"), longest=_LONGEST_ATTRIBUTE_NAME, named="The name of the attribute")
    if mark := next((mark for mark in "$." if mark in name), None):
        message = f"The attribute '{name}' contains '{mark}', which a name may not: rename it."
        raise UserProblem(ErrorCode.INVALID, message, (*path, "name"))
    visible = sent.get("visible_to_contacts")
    found = {
        "name": name,
        "kind": sent["kind"],
        "required": bool(sent.get("required")),
        "visible_to_contacts": True if visible is None else visible,
    }
    options = _check_options(name, sent.get("options"), sent["kind"], (*path, "options"))
    return found if options is None else {**found, "options": options}


def _check_options(name: str, options: Sequence[str] | None, kind: str, path: Path) -> list[str] | None:
    if kind != TicketAttributeKind.LIST:
        if options:
            message = f"'{name}' is {kind}, and options are for LIST alone: leave them out, or make it a LIST."
            raise UserProblem(ErrorCode.INVALID, message, path)
        return None
    if not options:
        raise UserProblem(ErrorCode.INVALID, f"'{name}' is a LIST: say in options what may be chosen.", path)
    if len(options) > MAX_OPTIONS:
        message = f"'{name}' has {len(options)} options, and {MAX_OPTIONS} are allowed."
        raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message, path)
    for place, option in enumerate(options):
        here = (*path, str(place))
        check_text(option, here, longest=_LONGEST_STRING, named="The option")
        if option in options[:place]:
            raise UserProblem(ErrorCode.INVALID, f"'{name}' has the option '{option}' twice.", here)
    return list(options)


def _checked(attribute: Document | None, name: str, value: Any, type_: Mapping[str, Any], path: Path) -> Any:
    """The value as it is stored."""
    if attribute is None:
        raise _unknown(name, type_, (*path, name))
    return _CHECKS[TicketAttributeKind(attribute["kind"])](attribute, value, (*path, name))


def _unknown(name: str, type_: Mapping[str, Any], path: Path) -> UserProblem:
    message = f"The ticket type '{type_['name']}' has no attribute '{_describe_options(name)}'."
    return UserProblem(ErrorCode.INVALID, message, path)


def _missing(attribute: Mapping[str, Any], path: Path) -> UserProblem:
    message = f"The attribute '{attribute['name']}' is required: send a value."
    return UserProblem(ErrorCode.INVALID, message, path)


def _wrong(attribute: Mapping[str, Any], what: str, path: Path) -> UserProblem:
    return UserProblem(ErrorCode.INVALID, f"The attribute '{attribute['name']}' must be {what}.", path)


def _text(longest: int) -> Callable[[Document, Any, Path], str]:
    def check(attribute: Document, value: Any, path: Path) -> str:
        if not isinstance(value, str):
            raise _wrong(attribute, "a text", path)
        return check_text(value, path, longest=longest, named=f"The attribute '{attribute['name']}'")

    return check


def _integer(attribute: Document, value: Any, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > SAFE_INTEGER:
        raise _wrong(attribute, "a whole number within 2^53", path)
    return value


def _decimal(attribute: Document, value: Any, path: Path) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (abs(value) <= SAFE_INTEGER if isinstance(value, int) else math.isfinite(value)):
        raise _wrong(attribute, "a number, a whole one within 2^53", path)
    found: float = value
    return found


def _boolean(attribute: Document, value: Any, path: Path) -> bool:
    if not isinstance(value, bool):
        raise _wrong(attribute, "true or false", path)
    return value


def _time(attribute: Document, value: Any, path: Path) -> str:
    at = parse_rfc3339(value) if isinstance(value, str) else None
    if at is None:
        raise _wrong(attribute, "a time in RFC 3339 with an offset, such as 2026-01-31T09:30:00Z", path)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _option(attribute: Document, value: Any, path: Path) -> str:
    if not isinstance(value, str) or value not in attribute["options"]:
        options = ", ".join(f"'{option}'" for option in attribute["options"][:10])
        more = "" if len(attribute["options"]) <= 10 else " or another of its options"
        raise _wrong(attribute, f"one of {options}{more}", path)
    return value


def _describe_options(name: str) -> str:
    return name if len(name) <= _LONGEST_ATTRIBUTE_NAME else name[:_LONGEST_ATTRIBUTE_NAME] + "..."


_CHECKS: dict[TicketAttributeKind, Callable[[Document, Any, Path], Any]] = {
    TicketAttributeKind.STRING: _text(_LONGEST_STRING),
    TicketAttributeKind.LONG_STRING: _text(_LONGEST_LONG_STRING),
    TicketAttributeKind.INTEGER: _integer,
    TicketAttributeKind.DECIMAL: _decimal,
    TicketAttributeKind.BOOLEAN: _boolean,
    TicketAttributeKind.DATETIME: _time,
    TicketAttributeKind.LIST: _option,
}
