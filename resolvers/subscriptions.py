"""Subscriptions: which bus events each one wants, and their payloads."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from enum import StrEnum
from typing import cast

import strawberry

from gateway.bus.change_events import BusEvent, Position, cursor_to, position_of
from gateway.domain.change_kinds import MEMBERSHIPS, ChangeKind, kinds_of
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.merging import ids_of
from gateway.domain.events.documents import EventDocument
from gateway.domain.filters.conditions import check_metadata_filter, has_metadata
from gateway.domain.support.documents import ConversationDocument, PartDocument, TicketDocument
from gateway.domain.support.threads import ThreadKind
from gateway.store.repositories import D, Repository
from resolvers.context import Context, Payload
from resolvers.costs import STREAM
from resolvers.enums import ConversationState, TicketState
from resolvers.events import check_names
from resolvers.inputs import AttributeFilter, provided_fields
from resolvers.reveals import revealing
from resolvers.tickets import parts_by_id


@strawberry.enum
class EventChange(StrEnum):
    TRACKED = "TRACKED"
    CHECKPOINT = "CHECKPOINT"


@strawberry.enum
class ContactChange(StrEnum):
    CREATED = "CREATED"
    UPDATED = "UPDATED"
    MERGED = "MERGED"
    DELETED = "DELETED"
    ENTERED_SEGMENT = "ENTERED_SEGMENT"
    LEFT_SEGMENT = "LEFT_SEGMENT"
    CHECKPOINT = "CHECKPOINT"


@strawberry.enum
class ConversationChange(StrEnum):
    CREATED = "CREATED"
    REPLIED = "REPLIED"
    NOTED = "NOTED"
    ASSIGNED = "ASSIGNED"
    SNOOZED = "SNOOZED"
    UNSNOOZED = "UNSNOOZED"
    CLOSED = "CLOSED"
    REOPENED = "REOPENED"
    READ = "READ"
    RATED = "RATED"
    UPDATED = "UPDATED"
    SLA_CHANGED = "SLA_CHANGED"
    DELETED = "DELETED"
    CHECKPOINT = "CHECKPOINT"


@strawberry.enum
class TicketChange(StrEnum):
    CREATED = "CREATED"
    SUBMITTED = "SUBMITTED"
    IN_PROGRESS = "IN_PROGRESS"
    WAITING = "WAITING"
    RESOLVED = "RESOLVED"
    REPLIED = "REPLIED"
    NOTED = "NOTED"
    ASSIGNED = "ASSIGNED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"
    CHECKPOINT = "CHECKPOINT"


@strawberry.input(description="Conditions on tracked events, combined with AND.", directives=[STREAM])
class EventStreamFilter:
    name: list[str] | None = revealing("Event.name", description="Matches any of these names; at most 50.")
    contact_id: strawberry.ID | None = revealing("Event.contact")
    metadata: list[AttributeFilter] | None = revealing(
        "Event.metadata", description="Matches all of these conditions; at most 50."
    )


@strawberry.input(description="Conditions on changes of contacts, combined with AND.", directives=[STREAM])
class ContactStreamFilter:
    contact_id: strawberry.ID | None = revealing("ContactNotification.contactId")
    segment_id: strawberry.ID | None = revealing(
        "ContactNotification.segment",
        description="Contacts that enter or leave this segment, and members that are merged into another contact (MERGED).",
    )
    kind: list[ContactChange] | None = revealing("ContactNotification.kind")


@strawberry.input(
    description="Conditions on conversations that change, combined with AND, before or after the change.",
    directives=[STREAM],
)
class ConversationStreamFilter:
    conversation_id: strawberry.ID | None = revealing("ConversationNotification.conversationId")
    contact_id: strawberry.ID | None = revealing("Conversation.contact")
    assignee_id: strawberry.ID | None = revealing("Conversation.assignee")
    team_id: strawberry.ID | None = revealing("Conversation.team")
    state: list[ConversationState] | None = revealing("Conversation.state")
    kind: list[ConversationChange] | None = revealing("ConversationNotification.kind")


@strawberry.input(
    description="Conditions on tickets that change, combined with AND, before or after the change.", directives=[STREAM]
)
class TicketStreamFilter:
    ticket_id: strawberry.ID | None = revealing("TicketNotification.ticketId")
    contact_id: strawberry.ID | None = revealing("Ticket.contact")
    assignee_id: strawberry.ID | None = revealing("Ticket.assignee")
    team_id: strawberry.ID | None = revealing("Ticket.team")
    state: list[TicketState] | None = revealing("Ticket.state")
    kind: list[TicketChange] | None = revealing("TicketNotification.kind")


async def stream_cursor(context: Context) -> str:
    return cursor_to(await context.services.bus.position(), await context.cursor_cipher())


async def event_tracked(
    context: Context, filter_: EventStreamFilter | None, after: str | None
) -> AsyncIterator[Payload]:
    filter_values = provided_fields(filter_) or {}
    names = None if filter_values.get("name") is None else frozenset(check_names(filter_values["name"]) or ())
    followed = await followed_contact(context, filter_values.get("contact_id"))
    metadata = check_metadata_filter(filter_values.get("metadata"), "filter.metadata")

    def matches(bus_event: BusEvent) -> bool:
        row = bus_event.document
        follow_merge(followed, bus_event)
        return (
            bus_event.kind is ChangeKind.EVENT_TRACKED
            and (names is None or row["name"] in names)
            and (followed is None or row["contact_id"] in followed)
            and has_metadata(cast(EventDocument, row), metadata, context.services.clock())
        )

    def payload_of(bus_event: BusEvent) -> Payload:
        return {"kind": EventChange.TRACKED.value, "event": bus_event.document, "counted": bus_event.document}

    async with aclosing(
        payloads_of(context, matches, payload_of, after, {"event": None, "counted": None}, followed)
    ) as payloads:
        async for payload in payloads:
            yield payload


async def contact_changed(
    context: Context, filter_: ContactStreamFilter | None, after: str | None
) -> AsyncIterator[Payload]:
    filter_values = provided_fields(filter_) or {}
    kinds = _wanted_kinds("contact", filter_values)
    followed, segment_id = (
        await followed_contact(context, filter_values.get("contact_id")),
        filter_values.get("segment_id"),
    )
    own = context.principal.contact_id is not None

    def matches(bus_event: BusEvent) -> bool:
        row = bus_event.document
        follow_merge(followed, bus_event)
        return (
            bus_event.kind in kinds
            and (followed is None or row["contact_id"] in followed)
            and not (own and bus_event.kind in MEMBERSHIPS)
            and (segment_id is None or segment_id in (row.get("segment_id"), *row.get("segment_ids", ())))
        )

    def payload_of(bus_event: BusEvent) -> Payload:
        row = bus_event.document
        ids = {name: row.get(name) for name in ("contact_id", "merged_id", "segment_id")}
        has_left = bus_event.kind is ChangeKind.CONTACT_LEFT_SEGMENT
        return {"kind": row["kind"], "matches": segment_id is None or not has_left, **ids}

    nothing = {"matches": False, "contact_id": None, "merged_id": None, "segment_id": None}
    async with aclosing(payloads_of(context, matches, payload_of, after, nothing, followed)) as payloads:
        async for payload in payloads:
            yield payload


async def conversation_changed(
    context: Context, filter_: ConversationStreamFilter | None, after: str | None
) -> AsyncIterator[Payload]:
    async with aclosing(
        _thread_changes(context, ThreadKind.CONVERSATION, provided_fields(filter_) or {}, after)
    ) as payloads:
        async for payload in payloads:
            yield payload


async def ticket_changed(
    context: Context, filter_: TicketStreamFilter | None, after: str | None
) -> AsyncIterator[Payload]:
    async with aclosing(_thread_changes(context, ThreadKind.TICKET, provided_fields(filter_) or {}, after)) as payloads:
        async for payload in payloads:
            yield payload


async def _thread_changes(
    context: Context, subject: ThreadKind, filter_values: Document, after: str | None
) -> AsyncGenerator[Payload, None]:
    own, id_name = context.principal.contact_id, f"{subject.value}_id"
    followed = await followed_contact(context, filter_values.get("contact_id"))
    kinds = _wanted_kinds(subject, filter_values)

    def matches(bus_event: BusEvent) -> bool:
        row = bus_event.document
        follow_merge(followed, bus_event)
        return (
            bus_event.kind in kinds
            and (own is None or row["public"])
            and filter_values.get(id_name, row[id_name]) == row[id_name]
            and (followed is None or row["contact_id"] in followed)
            and (_has_values(filter_values, row["before"]) or _has_values(filter_values, row["after"]))
        )

    def payload_of(bus_event: BusEvent) -> Payload:
        row = bus_event.document
        ids = {name: row[name] for name in (id_name, "part_id")}
        return {"kind": row["kind"], "matches": _has_values(filter_values, row["after"]), **ids}

    nothing = {"matches": False, id_name: None, "part_id": None}
    async with aclosing(payloads_of(context, matches, payload_of, after, nothing, followed)) as payloads:
        async for payload in payloads:
            yield payload


async def changed_ticket(parents: Sequence[Document], _: None, context: Context) -> list[TicketDocument | None]:
    return await named(context.store.tickets, [parent["ticket_id"] for parent in parents])


async def visible_ticket_part(parents: Sequence[Document], _: None, context: Context) -> list[PartDocument | None]:
    ids = [parent["part_id"] for parent in parents]
    parts = await parts_by_id(context, [id_ for id_ in dict.fromkeys(ids) if id_ is not None])
    return [None if id_ is None else parts.get(id_) for id_ in ids]


async def changed_conversation(
    parents: Sequence[Document], _: None, context: Context
) -> list[ConversationDocument | None]:
    return await named(context.store.conversations, [parent["conversation_id"] for parent in parents])


async def visible_part(parents: Sequence[Document], _: None, context: Context) -> list[PartDocument | None]:
    return await named(context.store.conversation_parts, [parent["part_id"] for parent in parents])


async def changed_contact(parents: Sequence[Document], _: None, context: Context) -> list[ContactDocument | None]:
    ids = [parent["contact_id"] for parent in parents]
    contacts = await context.store.contacts.of_ids([id_ for id_ in dict.fromkeys(ids) if id_ is not None])
    return [contacts.get(id_) for id_ in ids]


async def named(repository: Repository[D], ids: list[str | None]) -> list[D | None]:
    """The documents of these ids, as they are now; None where there is no id."""
    documents = await repository.by_ids([id_ for id_ in dict.fromkeys(ids) if id_ is not None])
    return [None if id_ is None else documents.get(id_) for id_ in ids]


def _wanted_kinds(subject: str, filter_values: Document) -> frozenset[ChangeKind]:
    """The kinds that a filter asks for; all of the subject where it names none."""
    names = filter_values.get("kind")
    return frozenset(kind for kind in kinds_of(subject) if names is None or kind.stored_kind in names)


def _has_values(filter_values: Document, row: Document | None) -> bool:
    """Whether the `before` or `after` of a change event matches the filter."""
    return (
        row is not None
        and ("state" not in filter_values or row["state"] in filter_values["state"])
        and all(row[name] == filter_values[name] for name in ("assignee_id", "team_id") if name in filter_values)
    )


async def followed_contact(context: Context, contact_id: str | None) -> set[str] | None:
    """All current and former ids of the contact; None if the filter has no contact."""
    if contact_id is None:
        return None
    contact = await context.store.contacts.of_id(contact_id)
    return {contact_id} | (set() if contact is None else set(ids_of(contact)))


def follow_merge(followed: set[str] | None, bus_event: BusEvent) -> None:
    """After a merge, follow the survivor too."""
    if followed is not None and bus_event.is_merge and bus_event.document["merged_id"] in followed:
        followed.add(bus_event.document["contact_id"])


async def payloads_of(
    context: Context,
    matches: Callable[[BusEvent], bool],
    payload_of: Callable[[BusEvent], Payload],
    after: str | None,
    nothing: Payload,
    followed: set[str] | None = None,
) -> AsyncGenerator[Payload, None]:
    """Bus events as notifications, each with its cursor. A checkpoint has no object.

    A contact token receives only events of its contact, and none once it may not read. `followed` limits events to these
    contacts; `matches` adds the survivors of merges.
    """
    cipher = await context.cursor_cipher()
    position = None if after is strawberry.UNSET or after is None else position_of(after, cipher)
    own = context.principal.contact_id

    def seen(bus_event: BusEvent) -> bool:
        return (own is None or context.principal.owns(bus_event.document.get("contact_id"))) and matches(bus_event)

    bus_events = context.services.bus.subscribe(
        context.principal.workspace_id,
        seen,
        position,
        context.on_caught_up,
        contact_ids=followed if own is None else set(context.principal.own_ids),
        owner=own or "",
        most_resumes=None if own is None else context.services.settings.max_resumes_per_token,
    )
    async with aclosing(bus_events) as stream:  # type: ignore[type-var]
        async for item in stream:
            context.forget()
            if isinstance(item, Position):
                yield {"cursor": cursor_to(item, cipher), "kind": "CHECKPOINT", **nothing}
            else:
                if own is not None:
                    await context.check_may_read()
                yield {"cursor": cursor_to(item.position, cipher), **payload_of(item)}
