"""Checks of conversation input, done before anything is read or written. Every check raises UserProblem."""

from datetime import datetime, timedelta

from gateway.core.json_values import JsonObject
from gateway.core.principals import Principal
from gateway.core.text_rules import check_http_url, check_tags, check_text
from gateway.core.typed_values import check_metadata
from gateway.core.unset import UNSET
from gateway.domain.contacts.contacts import merged_attributes
from gateway.domain.events.events import IMPORT_YEARS, check_occurred_at
from gateway.domain.support.actors import Actor, ActorKind
from gateway.domain.support.commands import (
    CreateConversation,
    CreateTicket,
    Reply,
    UpdateConversation,
)
from gateway.domain.support.conversations import (
    Channel,
    ConversationChanges,
    DeliveredAs,
    NewConversation,
    NewSource,
    Priority,
)
from gateway.errors import ErrorCode, UserProblem
from gateway.settings import Settings

MAX_BODY = 100_000
MAX_TITLE = 1000
_LONGEST_SNOOZE = timedelta(days=3653)
# Fields that a contact token may not set, with the default that it may send.
_NOT_BY_CONTACTS = {
    "actor": None,
    "createdAt": None,
    "note": False,
    "channel": Channel.CHAT.value,
    "deliveredAs": DeliveredAs.CUSTOMER_INITIATED.value,
    "assigneeId": None,
    "teamId": None,
    "customAttributes": None,
    "tags": None,
    "isShared": True,
}


def check_not_by_contact(command: CreateConversation | CreateTicket | Reply, principal: Principal) -> None:
    """Refuse (FORBIDDEN) fields that a contact token may not set."""
    if principal.contact_id is None:
        return
    for public, default in _NOT_BY_CONTACTS.items():
        name = "".join(f"_{char.lower()}" if char.isupper() else char for char in public)
        if getattr(command, name, default) not in (None, default):
            message = f"A contact token may not give {public}: leave it out, or use an API key."
            raise UserProblem(ErrorCode.FORBIDDEN, message, (public,))


def check_body(body: str) -> str:
    return check_text(body, ("body",), longest=MAX_BODY, named="The body")


def check_created_at(at: datetime | None, now: datetime) -> datetime | None:
    """The time of something in the past, at most `now`; None stays None."""
    occurred_at = check_occurred_at(at, now, IMPORT_YEARS, ("createdAt",))
    return None if occurred_at is None else min(occurred_at, now)


def check_conversation(command: CreateConversation, settings: Settings) -> NewConversation:
    source: NewSource = {
        "channel": command.channel or Channel.CHAT.value,
        "delivered_as": command.delivered_as or DeliveredAs.CUSTOMER_INITIATED.value,
        "body": check_body(command.body),
    }
    if (subject := _title(command.subject, "subject")) is not None:
        source["subject"] = subject
    if command.url is not None:
        source["url"] = check_http_url(command.url, ("url",))
    return {
        "source": source,
        "title": _title(command.title, "title"),
        "tags": check_tags(command.tags or (), "tags"),
        "custom_attributes": merged_attributes({}, _attributes(command.custom_attributes or {}, settings)),
    }


def delivered_by(source: NewSource, author: Actor) -> NewSource:
    """The source with the `delivered_as` of its author.

    A contact can only be CUSTOMER_INITIATED. For other authors that default becomes ADMIN_INITIATED or AUTOMATED."""
    delivered_as = DeliveredAs(source["delivered_as"])
    if author.is_contact and delivered_as is not DeliveredAs.CUSTOMER_INITIATED:
        message = f"A conversation by a contact is CUSTOMER_INITIATED, not {delivered_as}: leave deliveredAs out, or give another actor."
        raise UserProblem(ErrorCode.INVALID, message, ("deliveredAs",))
    if not author.is_contact and delivered_as is DeliveredAs.CUSTOMER_INITIATED:
        by_admin = author.kind is ActorKind.ADMIN
        delivered_as = DeliveredAs.ADMIN_INITIATED if by_admin else DeliveredAs.AUTOMATED
    return {**source, "delivered_as": delivered_as.value}


def check_update(command: UpdateConversation, settings: Settings) -> ConversationChanges:
    values: ConversationChanges = {}
    if command.title is not UNSET:
        values["title"] = _title(command.title, "title")
    if command.priority is not UNSET:
        values["priority"] = command.priority or Priority.NONE.value
    if command.custom_attributes is not UNSET:
        values["custom_attributes"] = command.custom_attributes
        _attributes(command.custom_attributes or {}, settings)
    values["add_tags"], values["remove_tags"] = check_tag_changes(command.add_tags, command.remove_tags)
    return values


def check_tag_changes(added: list[str] | None, removed: list[str] | None) -> tuple[list[str], list[str]]:
    """The tags to add and to remove; none of them is both."""
    add_tags, remove_tags = check_tags(added or (), "addTags"), check_tags(removed or (), "removeTags")
    if both := set(add_tags) & set(remove_tags):
        message = f"The tag '{min(both)}' is in addTags and removeTags: remove it from one of them."
        raise UserProblem(ErrorCode.INVALID, message, ("removeTags",))
    return add_tags, remove_tags


def check_until(until: datetime, now: datetime, public: str = "until") -> datetime:
    """The end of a snooze: after `now`, and at most ten years later."""
    if not now < until <= now + _LONGEST_SNOOZE:
        message = f"{public} {until.isoformat()} must be in the future, at most ten years ahead."
        raise UserProblem(ErrorCode.INVALID, message, (public,))
    return until


def check_rating(score: int, remark: str | None) -> str | None:
    """Check the score (1 to 5); returns the remark, None if it is empty."""
    if not 1 <= score <= 5:
        raise UserProblem(ErrorCode.INVALID, f"score must be from 1 to 5, not {score}.", ("score",))
    return check_text(remark, ("remark",), longest=10_000, named="remark") if remark else None


def _title(text: str | None, public: str) -> str | None:
    return None if text is None else check_text(text, (public,), longest=MAX_TITLE, named=public)


def _attributes(attributes: JsonObject, settings: Settings) -> JsonObject:
    check_metadata(attributes, settings, ("customAttributes",))
    return attributes
