"""Checks of ticket input, done before anything is read or written."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.core.clock import to_milliseconds
from gateway.core.text_rules import check_text
from gateway.domain.contacts.contacts import Document
from gateway.domain.support.conversation_inputs import check_tags, check_until
from gateway.errors import ErrorCode, UserProblem

_LONGEST_TITLE = 255
_LONGEST_DESCRIPTION = 100_000


def check_ticket(fields: Mapping[str, Any]) -> Document:
    """The values of a new ticket without its attributes; UserProblem."""
    return {
        "title": _title(fields["title"]),
        "description": _description(fields.get("description")),
        "tags": check_tags(fields.get("tags") or (), "tags"),
        "is_shared": fields.get("is_shared") is not False,
    }


def check_update(fields: Mapping[str, Any], now: datetime) -> Document:
    """The values to set, None for those to clear; UserProblem. Attributes are not checked: they depend on the type."""
    values = {name: fields[name] for name in ("attributes", "snoozed_until") if name in fields}
    if (until := fields.get("snoozed_until")) is not None:
        values["snoozed_until"] = check_until(to_milliseconds(until.astimezone(UTC)), now, "snoozedUntil")
    if "title" in fields:
        values["title"] = _title(fields["title"])
    if "description" in fields:
        values["description"] = _description(fields["description"])
    if fields.get("is_shared") is not None:
        values["is_shared"] = fields["is_shared"]
    for name, public in (("add_tags", "addTags"), ("remove_tags", "removeTags")):
        values[name] = check_tags(fields.get(name) or (), public)
    if both := set(values["add_tags"]) & set(values["remove_tags"]):
        message = f"The tag '{min(both)}' is in addTags and removeTags: remove it from one of them."
        raise UserProblem(ErrorCode.INVALID, message, ("removeTags",))
    return values


def _title(title: str | None) -> str:
    if title is None:
        raise UserProblem(ErrorCode.INVALID, "A ticket needs a title: send one, or leave title out.", ("title",))
    return check_text(title, ("title",), longest=_LONGEST_TITLE, named="The title")


def _description(text: str | None) -> str | None:
    if text is None:
        return None
    return check_text(text, ("description",), longest=_LONGEST_DESCRIPTION, named="The description")
