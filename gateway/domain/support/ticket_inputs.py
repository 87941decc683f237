"""What callers may say of a ticket: checked before anything is read or written."""

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


def check_ticket(sent: Mapping[str, Any]) -> Document:
    """The values of a new ticket but for its attributes; UserProblem."""
    return {
        "title": _title(sent["title"]),
        "description": _description(sent.get("description")),
        "tags": check_tags(sent.get("tags") or (), "tags"),
        "is_shared": sent.get("is_shared") is not False,
    }


def check_update(sent: Mapping[str, Any], now: datetime) -> Document:
    """What is to become of a ticket, None for what is to be cleared; its attributes are checked by their type."""
    values = {name: sent[name] for name in ("attributes", "snoozed_until") if name in sent}
    if (until := sent.get("snoozed_until")) is not None:
        values["snoozed_until"] = check_until(to_milliseconds(until.astimezone(UTC)), now, "snoozedUntil")
    if "title" in sent:
        values["title"] = _title(sent["title"])
    if "description" in sent:
        values["description"] = _description(sent["description"])
    if sent.get("is_shared") is not None:
        values["is_shared"] = sent["is_shared"]
    for name, public in (("add_tags", "addTags"), ("remove_tags", "removeTags")):
        values[name] = check_tags(sent.get(name) or (), public)
    if both := set(values["add_tags"]) & set(values["remove_tags"]):
        message = f"The tag '{min(both)}' is to be added and removed at once: say one of them."
        raise UserProblem(ErrorCode.INVALID, message, ("removeTags",))
    return values


def _title(title: str | None) -> str:
    if title is None:
        raise UserProblem(ErrorCode.INVALID, "A ticket has a title: send one, or leave title out.", ("title",))
    return check_text(title, ("title",), longest=_LONGEST_TITLE, named="The title")


def _description(text: str | None) -> str | None:
    if text is None:
        return None
    return check_text(text, ("description",), longest=_LONGEST_DESCRIPTION, named="The description")
