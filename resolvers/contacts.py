"""How contacts are found, listed and changed, and how their events are read, a level at a time."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import strawberry

from gateway.core.pagination import Page, PageArguments, connection, page, page_size
from gateway.core.sorting import ContactOrder, ContactSortKey, Direction
from gateway.core.time_ranges import EARLIEST, TimeRange
from gateway.domain.contacts.contacts import ContactRole, Document, IdentityKind, identity
from gateway.domain.contacts.merging import ids_of
from gateway.domain.events.events import summary_id_of
from gateway.domain.events.retention import Retention
from gateway.domain.filters.conditions import check_metadata_filter, parse_filter
from gateway.errors import BadRequestError
from gateway.store.events.event_search import EventSearch
from gateway.store.filters.contact_search import MAX_CANDIDATES, ContactSearch
from resolvers.context import Context
from resolvers.events import EventFilter, check_names, kept_times
from resolvers.filters import ContactFilter, ContactSort
from resolvers.inputs import provided_fields
from resolvers.scalars import JSONObject
from resolvers.segments import check_named
from resolvers.total_count import Counter, counted

MAX_SUMMARY_NAMES = 100
_AHEAD = timedelta(minutes=10)
_LEAST_EVENTS = 500  # that one contact of many looks at, where the metadata of its events is asked for


@strawberry.input(one_of=True, description="Exactly one key of a contact.")
class ContactKey:
    """One key of a contact."""

    id: strawberry.ID | None = strawberry.UNSET
    external_id: str | None = strawberry.UNSET
    email: str | None = strawberry.UNSET
    anonymous_id: str | None = strawberry.UNSET


@strawberry.input
class LocationInput:
    """Where a contact is."""

    city: str | None = strawberry.UNSET
    region: str | None = strawberry.UNSET
    country: str | None = strawberry.UNSET


@strawberry.input(
    description="Who is meant (id, externalId, email or anonymousId, the strongest decides), and what is known of them. "
    "Omitted: left alone; null: cleared; tags: the whole set; in customAttributes a key with null is removed."
)
class UpsertContactInput:
    """What is known of a contact."""

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
    idempotency_key: str | None = strawberry.field(default=strawberry.UNSET, description="Holds for 7 days.")


async def contact(parents: Sequence[Any], by: ContactKey, context: Context) -> list[Document | None]:
    """Batch: the contact with that key; of an e-mail the USER, or else the one lead who has it."""
    ((kind, value),) = provided_fields(by).items()
    contacts, fields = context.store.contacts, context.fields_of("Contact")
    found = list((await contacts.with_identities([identity(IdentityKind(kind), value)], fields)).values())
    if not found and kind == IdentityKind.EMAIL:
        found = await contacts.with_email(value)
        if len(found) > 1:
            raise BadRequestError(f"Several leads share the e-mail '{value}': ask by id, externalId or anonymousId.")
    return [found[0] if found else None] * len(parents)


async def contacts(
    parents: Sequence[Any],
    arguments: tuple[PageArguments, ContactFilter | None, ContactSort | None],
    context: Context,
) -> list[Document]:
    """Batch: a page of the contacts of whom the filter holds, the newest first unless another order is asked for."""
    page_asked, filter_, sort = arguments
    wanted, sorted_by = provided_fields(filter_) or {}, provided_fields(sort) or {}
    cipher = await context.cursor_cipher()
    asked = page(page_asked, cipher, "contacts", context.principal.workspace_id, wanted, sorted_by)
    order = ContactOrder()
    if sorted_by:
        order = ContactOrder(ContactSortKey(sorted_by["key"]), sorted_by["direction"] == Direction.DESC)
    condition, now = parse_filter(wanted), context.services.clock()
    Retention(context.services.settings.event_retention_days).check_condition(condition, now)
    await check_named(context, condition)
    search = ContactSearch(context.store, condition, order, now, fields=context.fields_of("Contact"))
    found = await search.page(asked)
    return [counted(connection(found.rows, asked, order.position, found.stopped_at), search.count)] * len(parents)


async def top_contacts(context: Context, event: str, first: int | None) -> list[Document]:
    """Those who did something most often: each contact's count and summary, the highest count first."""
    size = page_size(PageArguments(first=first))
    rows = await context.store.summaries.most_frequent(event, size, context.fields_of("EventSummary"))
    return [
        {"contact_id": row["contact_id"], "summary": row, "count": row["count"], "last_at": row["last_at"]}
        for row in rows
    ]


async def events(
    parents: Sequence[Document], arguments: tuple[PageArguments, EventFilter | None], context: Context
) -> list[Any]:
    """Batch: a page of each contact's timeline, newest first; the last days alone unless the filter says when."""
    page_asked, filter_ = arguments
    wanted = provided_fields(filter_) or {}
    names = check_names(wanted.get("name"))
    metadata = check_metadata_filter(wanted.get("metadata"), "filter.metadata")
    times, fields = _timeline(wanted, context), context.fields_of("Event")
    cipher = await context.cursor_cipher()

    def asked(parent: Document) -> Page:
        return page(page_asked, cipher, "Contact.events", parent["_id"], wanted)

    def meant(contact_ids: Sequence[str]) -> bool:
        return wanted.get("contact_id") in (None, *contact_ids)

    def search(parent: Document) -> EventSearch:
        return EventSearch(
            context.store,
            times if meant(ids_of(parent)) else TimeRange(end=EARLIEST),
            context.services.clock(),
            names=names,
            contact_ids=ids_of(parent),
            contact=parent,
            metadata=metadata,
            before_sign_up=wanted.get("before_sign_up", False),
            most=max(_LEAST_EVENTS, MAX_CANDIDATES // len(parents)),
        )

    def counter(parent: Document) -> Counter:
        return lambda most: search(parent).count(most)

    all_ids = {parent["_id"]: ids_of(parent) for parent in parents}

    async def read(ids: Sequence[str], of_all: Page) -> dict[str, list[Document]]:
        contacts = {id_: all_ids[id_] for id_ in ids if meant(all_ids[id_])}
        if times.empty or not contacts:
            return {}
        return await context.store.events.pages_of_contacts(contacts, of_all, times, names, fields)

    if metadata or wanted.get("before_sign_up"):
        found: list[Any] = await asyncio.gather(*(_searched(search(parent), asked, parent) for parent in parents))
    else:
        found = await pages_of_parents(parents, asked, read, _id)
    return [
        one if isinstance(one, BadRequestError) else counted(one, counter(parent))
        for parent, one in zip(parents, found, strict=True)
    ]


async def _searched(search: EventSearch, asked: Any, parent: Document) -> Any:
    try:
        of_parent = asked(parent)
    except BadRequestError as error:
        return error
    found = await search.page(of_parent)
    return connection(found.rows, of_parent, _id, found.stopped_at)


async def event_summaries(
    parents: Sequence[Document], arguments: tuple[PageArguments, tuple[str, ...] | None], context: Context
) -> list[Any]:
    """Batch: a page of each contact's summaries, by name."""
    page_asked, names = arguments
    if names is not None and len(names) > MAX_SUMMARY_NAMES:
        raise BadRequestError(f"'names' has {len(names)} names, and {MAX_SUMMARY_NAMES} are allowed.")
    cipher = await context.cursor_cipher()

    def asked(parent: Document) -> Page:
        return page(page_asked, cipher, "Contact.eventSummaries", parent["_id"], names)

    async def read(ids: Sequence[str], of_all: Page) -> dict[str, list[Document]]:
        if names is None:
            return await context.store.summaries.pages_of_contacts(ids, of_all, context.fields_of("EventSummary"))
        return await _named_summaries(context, ids, sorted(set(names)), of_all)

    return await pages_of_parents(parents, asked, read, lambda row: str(row["name"]))


async def event_summary(parents: Sequence[Document], name: str, context: Context) -> list[Document | None]:
    """Batch: each contact's summary of that name."""
    ids = [summary_id_of(parent["workspace_id"], parent["_id"], name) for parent in parents]
    found = await context.store.summaries.by_ids(ids, fields=context.fields_of("EventSummary"))
    return [found.get(id_) for id_ in ids]


async def upsert_contact(context: Context, input_: UpsertContactInput) -> Document:
    """The payload of `upsertContact`."""
    document, created = await context.services.contacts.upsert(
        context.principal.workspace_id, provided_fields(input_, nulls=True)
    )
    return {"contact": document if await context.may_read() else None, "created": created}


def _timeline(wanted: Document, context: Context) -> TimeRange:
    now = context.services.clock()
    if wanted.get("occurred_at"):
        return kept_times(context, wanted["occurred_at"], now)
    return TimeRange(now - timedelta(days=context.services.settings.timeline_days), now + _AHEAD)


async def pages_of_parents(
    parents: Sequence[Document], asked: Any, read: Any, position: Any, shown: Any = None
) -> list[Any]:
    """One connection per parent from one read; a cursor that is not this parent's fails for this parent alone.

    `shown(parent, page, rows)`: makes a connection, where all that was read is not shown."""

    async def connected(parent: Document, of_parent: Page, found: list[Document]) -> Document:
        return connection(found, of_parent, position)

    pages: list[Page | BadRequestError] = []
    for parent in parents:
        try:
            pages.append(asked(parent))
        except BadRequestError as error:
            pages.append(error)
    good = {parent["_id"]: found for parent, found in zip(parents, pages, strict=True) if isinstance(found, Page)}
    rows = await read(list(good), next(iter(good.values()))) if good else {}
    make = shown or connected
    return [
        await make(parent, found, rows.get(parent["_id"], [])) if isinstance(found, Page) else found
        for parent, found in zip(parents, pages, strict=True)
    ]


async def _named_summaries(
    context: Context, contact_ids: Sequence[str], names: Sequence[str], asked: Page
) -> dict[str, list[Document]]:
    shown = [
        name
        for name in names
        if (asked.after is None or name > asked.after) and (asked.before is None or name < asked.before)
    ]
    ordered = shown[::-1] if asked.backward else shown
    ids = {
        (contact_id, name): summary_id_of(context.principal.workspace_id, contact_id, name)
        for contact_id in contact_ids
        for name in ordered
    }
    found = await context.store.summaries.by_ids(list(ids.values()), fields=context.fields_of("EventSummary"))
    return {
        contact_id: [found[ids[contact_id, name]] for name in ordered if ids[contact_id, name] in found][: asked.limit]
        for contact_id in contact_ids
    }


def _id(row: Document) -> str:
    return str(row["_id"])
