"""What callers may say of a conversation: checked before anything is read or written."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from gateway.core.principals import Principal
from gateway.core.text_rules import check_http_url, check_text
from gateway.core.typed_values import check_metadata
from gateway.domain.contacts.contacts import Document, distinct, merged_attributes
from gateway.domain.events.events import IMPORT_YEARS, check_occurred_at
from gateway.domain.support.actors import Actor, ActorKind
from gateway.domain.support.conversations import MAX_TAGS, Channel, DeliveredAs, Priority
from gateway.errors import ErrorCode, UserProblem
from gateway.settings import Settings

MAX_BODY = 100_000
_LONGEST_TITLE = 1000
_LONGEST_SNOOZE = timedelta(days=3653)
# What a contact's token does not say; a value that is the default says nothing.
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


def check_not_by_contact(sent: Mapping[str, Any], speaker: Principal) -> None:
    """UserProblem FORBIDDEN where a contact's token says what is not for it to say. `sent`: by the names of fields in
    snake_case."""
    if speaker.contact_id is None:
        return
    for public, otherwise in _NOT_BY_CONTACTS.items():
        name = "".join(f"_{mark.lower()}" if mark.isupper() else mark for mark in public)
        if sent.get(name, otherwise) not in (None, otherwise):
            message = f"A contact's token does not say {public}: leave it out, or act by a service's key."
            raise UserProblem(ErrorCode.FORBIDDEN, message, (public,))


def check_body(body: str | None) -> str | None:
    """The text of a message, if there is one."""
    return None if body is None else check_text(body, ("body",), longest=MAX_BODY, named="The body")


def check_created_at(at: datetime | None, now: datetime) -> datetime | None:
    """When something that happened before did; never later than now."""
    found = check_occurred_at(at, now, IMPORT_YEARS, ("createdAt",))
    return None if found is None else min(found, now)


def check_conversation(sent: Mapping[str, Any], settings: Settings) -> Document:
    """The values of a new conversation; UserProblem."""
    source = {
        "channel": sent.get("channel") or Channel.CHAT.value,
        "delivered_as": sent.get("delivered_as") or DeliveredAs.CUSTOMER_INITIATED.value,
        "body": check_body(sent["body"]),
        "subject": _title(sent.get("subject"), "subject"),
        "url": _url(sent.get("url")),
    }
    return {
        "source": {name: value for name, value in source.items() if value is not None},
        "title": _title(sent.get("title"), "title"),
        "tags": check_tags(sent.get("tags") or (), "tags"),
        "custom_attributes": merged_attributes({}, _attributes(sent.get("custom_attributes") or {}, settings)),
    }


def delivered_by(source: Mapping[str, Any], author: Actor) -> Document:
    """The source of a conversation which that author began: a contact begins its own, others those that are not the
    customer's."""
    asked = DeliveredAs(source["delivered_as"])
    if author.is_contact and asked is not DeliveredAs.CUSTOMER_INITIATED:
        message = (
            f"What a contact begins is CUSTOMER_INITIATED, not {asked}: leave deliveredAs out, or name another actor."
        )
        raise UserProblem(ErrorCode.INVALID, message, ("deliveredAs",))
    if not author.is_contact and asked is DeliveredAs.CUSTOMER_INITIATED:
        by_admin = author.kind is ActorKind.ADMIN
        asked = DeliveredAs.ADMIN_INITIATED if by_admin else DeliveredAs.AUTOMATED
    return {**source, "delivered_as": asked.value}


def check_update(sent: Mapping[str, Any], settings: Settings) -> Document:
    """The values to set of a conversation, None for those to clear; UserProblem."""
    values: Document = {}
    if "title" in sent:
        values["title"] = _title(sent["title"], "title")
    if "priority" in sent:
        values["priority"] = sent["priority"] or Priority.NONE.value
    if "custom_attributes" in sent:
        values["custom_attributes"] = sent["custom_attributes"]
        _attributes(sent["custom_attributes"] or {}, settings)
    for name, public in (("add_tags", "addTags"), ("remove_tags", "removeTags")):
        values[name] = check_tags(sent.get(name) or (), public)
    both = set(values["add_tags"]) & set(values["remove_tags"])
    if both:
        message = f"The tag '{min(both)}' is to be added and removed at once: say one of them."
        raise UserProblem(ErrorCode.INVALID, message, ("removeTags",))
    return values


def check_tags(tags: Any, public: str) -> list[str]:
    """The tags, each once."""
    if len(tags) > MAX_TAGS:
        message = f"There are {len(tags)} tags, and {MAX_TAGS} are allowed."
        raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message, (public,))
    return distinct(
        check_text(tag, (public, str(place)), longest=255, named="The tag") for place, tag in enumerate(tags)
    )


def check_until(until: datetime, now: datetime, public: str = "until") -> datetime:
    """The end of a snooze; UserProblem where it is over already, or too far away."""
    if not now < until <= now + _LONGEST_SNOOZE:
        message = f"{public} {until.isoformat()} must lie ahead, by ten years at most."
        raise UserProblem(ErrorCode.INVALID, message, (public,))
    return until


def check_rating(score: int, remark: str | None) -> str | None:
    """The remark of a rating, if there is one; UserProblem where the score is none."""
    if not 1 <= score <= 5:
        raise UserProblem(ErrorCode.INVALID, f"score must be from 1 to 5, not {score}.", ("score",))
    return check_text(remark, ("remark",), longest=10_000, named="remark") if remark else None


def _title(text: str | None, public: str) -> str | None:
    return None if text is None else check_text(text, (public,), longest=_LONGEST_TITLE, named=public)


def _url(url: str | None) -> str | None:
    return None if url is None else check_http_url(url, ("url",))


def _attributes(attributes: Mapping[str, Any], settings: Settings) -> Mapping[str, Any]:
    check_metadata(attributes, settings, ("customAttributes",))
    return attributes
