"""Resolvers of contacts and of a contact's events, a level at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypedDict, TypeVar

import strawberry

from gateway.core.pagination import Connection, Page, PageArguments, R, connection, page, page_size
from gateway.core.sorting import ContactOrder, ContactSortKey, Direction
from gateway.core.time_ranges import EARLIEST, TimeRange
from gateway.domain.contacts.commands import UpsertContact
from gateway.domain.contacts.contacts import ContactRole, Document, IdentityKind, identity
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.merging import ids_of
from gateway.domain.events.documents import EventDocument, SummaryDocument
from gateway.domain.events.events import summary_id_of
from gateway.domain.events.retention import Retention
from gateway.domain.filters.conditions import check_metadata_filter, parse_filter
from gateway.errors import BadRequestError
from gateway.store.events.event_search import EventSearch
from gateway.store.filters.contact_search import MAX_CANDIDATES, ContactSearch
from resolvers.context import Context, Payload
from resolvers.events import EventFilter, check_names, kept_times
from resolvers.filters import ContactFilter, ContactSort
from resolvers.inputs import command, provided_fields
from resolvers.scalars import JSONObject
from resolvers.segments import check_named
from resolvers.total_count import Counter, counted

P = TypeVar("P", bound=Mapping[str, object])  # the type of the parents
MAX_SUMMARY_NAMES = 100
_AHEAD = timedelta(minutes=10)
_LEAST_EVENTS = 500  # for each contact of many, if the metadata of its events are requested


@strawberry.input(one_of=True, description="A key of a contact. Give exactly one field.")
class ContactKey:
    id: strawberry.ID | None = strawberry.UNSET
    external_id: str | None = strawberry.UNSET
    email: str | None = strawberry.UNSET
    anonymous_id: str | None = strawberry.UNSET


@strawberry.input
class LocationInput:
    city: str | None = strawberry.UNSET
    region: str | None = strawberry.UNSET
    country: str | None = strawberry.UNSET


@strawberry.input(
    description="A contact and its fields. The strongest key finds the contact: id, externalId, email, anonymousId. An omitted field stays as it is; null clears it. `tags` replaces all tags. In customAttributes a key with null is removed, and others stay."
)
class UpsertContactInput:
    id: strawberry.ID | None = strawberry.UNSET
    external_id: str | None = strawberry.UNSET
    email: str | None = strawberry.UNSET
    anonymous_id: str | None = strawberry.UNSET
    role: ContactRole | None = strawberry.UNSET
    phone: str | None = strawberry.UNSET
    name: str | None = strawberry.UNSET
    first_name: str | None = strawberry.UNSET
    last_name: str | None = strawberry.UNSET
    avatar_url: str | None = strawberry.UNSET
    location: LocationInput | None = strawberry.UNSET
    signed_up_at: datetime | None = strawberry.UNSET
    last_seen_at: datetime | None = strawberry.UNSET
    custom_attributes: JSONObject | None = strawberry.UNSET
    tags: list[str] | None = strawberry.UNSET
    unsubscribed_from_emails: bool | None = strawberry.UNSET
    has_hard_bounced: bool | None = strawberry.UNSET
    marked_email_as_spam: bool | None = strawberry.UNSET
    opted_out_subscription_types_count: int | None = strawberry.UNSET
    idempotency_key: str | None = strawberry.field(
        default=strawberry.UNSET, description="Valid for 7 days: within them a repeated call has one effect."
    )


class TopContact(TypedDict):
    contact_id: str
    summary: SummaryDocument
    count: int
    last_at: datetime


async def contact(parents: Sequence[object], by: ContactKey, context: Context) -> list[ContactDocument | None]:
    """The contact of each key. An e-mail finds its USER, else its only lead."""
    ((kind, value),) = provided_fields(by).items()
    contacts, fields = context.store.contacts, context.fields_of("Contact")
    matches = list((await contacts.with_identities([identity(IdentityKind(kind), value)], fields)).values())
    if not matches and kind == IdentityKind.EMAIL:
        matches = await contacts.with_email(value)
        if len(matches) > 1:
            raise BadRequestError(f"Several leads share the e-mail '{value}': use id, externalId or anonymousId.")
    return [matches[0] if matches else None] * len(parents)


async def contacts(
    parents: Sequence[object],
    arguments: tuple[PageArguments, ContactFilter | None, ContactSort | None],
    context: Context,
) -> list[Connection[ContactDocument]]:
    page_input, filter_, sort = arguments
    filter_values, sorted_by = provided_fields(filter_) or {}, provided_fields(sort) or {}
    cipher = await context.cursor_cipher()
    page_request = page(page_input, cipher, "contacts", context.principal.workspace_id, filter_values, sorted_by)
    order = ContactOrder()
    if sorted_by:
        order = ContactOrder(ContactSortKey(sorted_by["key"]), sorted_by["direction"] == Direction.DESC)
    condition, now = parse_filter(filter_values), context.services.clock()
    Retention(context.services.settings.event_retention_days).check_condition(condition, now)
    await check_named(context, condition)
    search = ContactSearch(context.store, condition, order, now, fields=context.fields_of("Contact"))
    result = await search.page(page_request)
    return [counted(connection(result.rows, page_request, order.position, result.stopped_at), search.count)] * len(
        parents
    )


async def top_contacts(context: Context, event: str, first: int | None) -> list[TopContact]:
    """The count and summary of the contacts with the most events of a name, highest count first."""
    size = page_size(PageArguments(first=first))
    rows = await context.store.summaries.most_frequent(event, size, context.fields_of("EventSummary"))
    return [
        {"contact_id": row["contact_id"], "summary": row, "count": row["count"], "last_at": row["last_at"]}
        for row in rows
    ]


async def events(
    parents: Sequence[ContactDocument], arguments: tuple[PageArguments, EventFilter | None], context: Context
) -> list[Connection[EventDocument] | BadRequestError]:
    """A page of each contact's events, newest first. Without times in the filter: the last days only."""
    page_input, filter_ = arguments
    filter_values = provided_fields(filter_) or {}
    names = check_names(filter_values.get("name"))
    metadata = check_metadata_filter(filter_values.get("metadata"), "filter.metadata")
    times, fields = _timeline(filter_values, context), context.fields_of("Event")
    cipher = await context.cursor_cipher()

    def page_of(parent: ContactDocument) -> Page:
        return page(page_input, cipher, "Contact.events", parent["_id"], filter_values)

    def is_selected(contact_ids: Sequence[str]) -> bool:
        return filter_values.get("contact_id") in (None, *contact_ids)

    def search(parent: ContactDocument) -> EventSearch:
        return EventSearch(
            context.store,
            times if is_selected(ids_of(parent)) else TimeRange(end=EARLIEST),
            context.services.clock(),
            names=names,
            contact_ids=ids_of(parent),
            contact=parent,
            metadata=metadata,
            before_sign_up=filter_values.get("before_sign_up", False),
            most=max(_LEAST_EVENTS, MAX_CANDIDATES // len(parents)),
        )

    def counter(parent: ContactDocument) -> Counter:
        return lambda most: search(parent).count(most)

    all_ids = {parent["_id"]: ids_of(parent) for parent in parents}

    async def read(ids: Sequence[str], of_all: Page) -> dict[str, list[EventDocument]]:
        contacts = {id_: all_ids[id_] for id_ in ids if is_selected(all_ids[id_])}
        if times.empty or not contacts:
            return {}
        return await context.store.events.pages_of_contacts(contacts, of_all, times, names, fields)

    if metadata or filter_values.get("before_sign_up"):
        results = await asyncio.gather(*(_searched(search(parent), page_of, parent) for parent in parents))
    else:
        results = await pages_of_parents(parents, page_of, read, _id)
    return [
        result if isinstance(result, BadRequestError) else counted(result, counter(parent))
        for parent, result in zip(parents, results, strict=True)
    ]


async def _searched(
    search: EventSearch, page_of: Callable[[ContactDocument], Page], parent: ContactDocument
) -> Connection[EventDocument] | BadRequestError:
    try:
        of_parent = page_of(parent)
    except BadRequestError as error:
        return error
    result = await search.page(of_parent)
    return connection(result.rows, of_parent, _id, result.stopped_at)


async def event_summaries(
    parents: Sequence[ContactDocument], arguments: tuple[PageArguments, tuple[str, ...] | None], context: Context
) -> list[Connection[SummaryDocument] | BadRequestError]:
    page_input, names = arguments
    if names is not None and len(names) > MAX_SUMMARY_NAMES:
        raise BadRequestError(f"'names' has {len(names)} names; the limit is {MAX_SUMMARY_NAMES}.")
    cipher = await context.cursor_cipher()

    def page_of(parent: ContactDocument) -> Page:
        return page(page_input, cipher, "Contact.eventSummaries", parent["_id"], names)

    async def read(ids: Sequence[str], of_all: Page) -> dict[str, list[SummaryDocument]]:
        if names is None:
            return await context.store.summaries.pages_of_contacts(ids, of_all, context.fields_of("EventSummary"))
        return await _named_summaries(context, ids, sorted(set(names)), of_all)

    return await pages_of_parents(parents, page_of, read, lambda row: row["name"])


async def event_summary(
    parents: Sequence[ContactDocument], name: str, context: Context
) -> list[SummaryDocument | None]:
    ids = [summary_id_of(parent["workspace_id"], parent["_id"], name) for parent in parents]
    summaries = await context.store.summaries.by_ids(ids, fields=context.fields_of("EventSummary"))
    return [summaries.get(id_) for id_ in ids]


async def upsert_contact(context: Context, input_: UpsertContactInput) -> Payload:
    document, created = await context.services.contacts.upsert(
        context.principal.workspace_id, command(UpsertContact, input_, nulls=True)
    )
    return {"contact": document if await context.may_read() else None, "created": created}


def _timeline(filter_values: Document, context: Context) -> TimeRange:
    now = context.services.clock()
    if filter_values.get("occurred_at"):
        return kept_times(context, filter_values["occurred_at"], now)
    return TimeRange(now - timedelta(days=context.services.settings.timeline_days), now + _AHEAD)


async def pages_of_parents(
    parents: Sequence[P],
    page_of: Callable[[P], Page],
    read: Callable[[Sequence[str], Page], Awaitable[Mapping[str, list[R]]]],
    position: Callable[[R], str],
    shown: Callable[[P, Page, list[R]], Awaitable[Connection[R]]] | None = None,
) -> list[Connection[R] | BadRequestError]:
    """One connection per parent from one read. An invalid cursor fails only for its own parent.

    `shown(parent, page, rows)` makes a connection if not all rows that were read are shown.
    """

    async def connected(parent: P, of_parent: Page, rows: list[R]) -> Connection[R]:
        return connection(rows, of_parent, position)

    pages: list[Page | BadRequestError] = []
    for parent in parents:
        try:
            pages.append(page_of(parent))
        except BadRequestError as error:
            pages.append(error)
    good = {
        str(parent["_id"]): page_or_error
        for parent, page_or_error in zip(parents, pages, strict=True)
        if isinstance(page_or_error, Page)
    }
    rows: Mapping[str, list[R]] = await read(list(good), next(iter(good.values()))) if good else {}
    make = shown or connected
    return [
        await make(parent, page_or_error, rows.get(str(parent["_id"]), []))
        if isinstance(page_or_error, Page)
        else page_or_error
        for parent, page_or_error in zip(parents, pages, strict=True)
    ]


async def _named_summaries(
    context: Context, contact_ids: Sequence[str], names: Sequence[str], page_request: Page
) -> dict[str, list[SummaryDocument]]:
    shown = [
        name
        for name in names
        if (page_request.after is None or name > page_request.after)
        and (page_request.before is None or name < page_request.before)
    ]
    ordered = shown[::-1] if page_request.backward else shown
    ids = {
        (contact_id, name): summary_id_of(context.principal.workspace_id, contact_id, name)
        for contact_id in contact_ids
        for name in ordered
    }
    summaries = await context.store.summaries.by_ids(list(ids.values()), fields=context.fields_of("EventSummary"))
    return {
        contact_id: [summaries[ids[contact_id, name]] for name in ordered if ids[contact_id, name] in summaries][
            : page_request.limit
        ]
        for contact_id in contact_ids
    }


def _id(row: Mapping[str, object]) -> str:
    return str(row["_id"])
