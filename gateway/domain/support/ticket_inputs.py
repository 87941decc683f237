"""Checks of ticket input, done before anything is read or written."""

from datetime import UTC, datetime

from gateway.core.clock import to_milliseconds
from gateway.core.text_rules import check_text
from gateway.core.unset import UNSET
from gateway.domain.support.commands import UpdateTicket
from gateway.domain.support.conversation_inputs import check_tag_changes, check_until
from gateway.domain.support.tickets import TicketChanges
from gateway.errors import ErrorCode, UserProblem

_LONGEST_TITLE = 255
_LONGEST_DESCRIPTION = 100_000


def check_update(command: UpdateTicket, now: datetime) -> TicketChanges:
    """The values to set; UserProblem. Attributes are not checked: they depend on the type."""
    values: TicketChanges = {"add_tags": [], "remove_tags": []}
    if command.attributes is not UNSET:
        values["attributes"] = command.attributes
    if (until := command.snoozed_until) is not UNSET:
        at = None if until is None else to_milliseconds(until.astimezone(UTC))
        values["snoozed_until"] = None if at is None else check_until(at, now, "snoozedUntil")
    if command.title is not UNSET:
        values["title"] = check_title(command.title)
    if command.description is not UNSET:
        values["description"] = check_description(command.description)
    if command.is_shared is not None:
        values["is_shared"] = command.is_shared
    values["add_tags"], values["remove_tags"] = check_tag_changes(command.add_tags, command.remove_tags)
    return values


def check_title(title: str | None) -> str:
    """The title; UserProblem."""
    if title is None:
        raise UserProblem(ErrorCode.INVALID, "A ticket needs a title: send one, or leave title out.", ("title",))
    return check_text(title, ("title",), longest=_LONGEST_TITLE, named="The title")


def check_description(text: str | None) -> str | None:
    """The description; UserProblem."""
    if text is None:
        return None
    return check_text(text, ("description",), longest=_LONGEST_DESCRIPTION, named="The description")
