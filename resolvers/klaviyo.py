"""Resolvers of the synchronization with Klaviyo: state, figures, deliveries and backfills."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import strawberry

from gateway.core.ids import Prefix, prefix_of
from gateway.core.pagination import Connection, Page, PageArguments, connection, page
from gateway.core.principals import Scope
from gateway.core.time_ranges import TimeRange
from gateway.destinations.klaviyo.backfill import BackfillState
from gateway.destinations.klaviyo.connection import SyncState, connection_id_of, metric_id_of
from gateway.destinations.klaviyo.documents import BackfillDocument, MetricDocument
from gateway.destinations.klaviyo.klaviyo import Klaviyo
from gateway.destinations.klaviyo.mapping import Metric, MetricSource
from gateway.destinations.klaviyo.repository import KlaviyoStore
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.merging import ids_of
from gateway.outbox.deliveries import DeliveryKind, DeliveryState, Queue, lane_id_of
from gateway.outbox.documents import DeliveryDocument
from gateway.outbox.filters import DeliveryFilter as Wanted
from gateway.outbox.filters import delivery_filter
from gateway.outbox.search import DeliverySearch
from gateway.settings import KlaviyoMode
from gateway.store.repositories import id_bounds
from resolvers.contacts import pages_of_parents
from resolvers.context import Context, Source
from resolvers.costs import LIST_SEARCH
from resolvers.events import contact_ids
from resolvers.inputs import TimeFilter, provided_fields
from resolvers.reveals import revealing
from resolvers.total_count import counted

LARGEST_COUNT = 100_000
MOST_METRICS = 1000
_KLAVIYO = frozenset({Scope.KLAVIYO})
_PREFIXES = (Prefix.SYNC, Prefix.METRIC, Prefix.DELIVERY, Prefix.BACKFILL)
_FAILED = (DeliveryState.RETRYING, DeliveryState.REJECTED, DeliveryState.DEAD)

strawberry.enum(
    DeliveryState,
    description="The state of a delivery. REJECTED: Klaviyo would refuse or silently drop it, so it was not sent. DEAD: Klaviyo refused it, or 72 hours of attempts failed; it is kept until it is replayed.",
)
strawberry.enum(DeliveryKind, description="The kind of a delivery. A DELETION asks Klaviyo to erase a profile.")
strawberry.enum(BackfillState, description="The state of a backfill. FAILED: Klaviyo was disconnected before its end.")
strawberry.enum(
    MetricSource,
    description="The kind of a metric. SUPPORT: a metric of conversations and tickets. TRACKED: a tracked event that is forwarded.",
)
strawberry.enum(
    SyncState,
    description="The state of the synchronization. BACKING_OFF: Klaviyo does not respond; the next attempt follows soon.",
)
strawberry.enum(KlaviyoMode, description="Where deliveries go. LOG: they are only written to the log.")


@strawberry.input(
    description="Conditions on a delivery, combined with AND. An index supports createdAt and one more: the first one given of subjectId, contactId, state, metric. For the others a page scans at most 10,000 deliveries; such a page may be shorter than requested while hasNextPage is true.",
    directives=[LIST_SEARCH],
)
class DeliveryFilter:
    state: list[DeliveryState] | None = revealing("KlaviyoDelivery.state", description="Matches any of these.")
    kind: DeliveryKind | None = revealing("KlaviyoDelivery.kind")
    metric: str | None = revealing("KlaviyoDelivery.metric")
    contact_id: strawberry.ID | None = revealing("KlaviyoDelivery.contact")
    subject_id: strawberry.ID | None = revealing(
        "KlaviyoDelivery.subject", description="The id of the conversation, ticket or event that it reports."
    )
    created_at: TimeFilter | None = revealing("KlaviyoDelivery.createdAt")


async def klaviyo(context: Context) -> Document:
    connection, now = (
        await context.services.destination(Klaviyo).connections.read(context.principal.workspace_id),
        context.services.clock(),
    )
    status = {
        "mode": connection.mode.value,
        "state": connection.state(now).value,
        "paused_reason": connection.paused_reason,
    }
    return {"_id": connection_id_of(connection.workspace_id), "workspace_id": connection.workspace_id, **status}


async def counts(parents: Sequence[Document], _: None, context: Context) -> list[Document]:
    deliveries, states = KlaviyoStore(context.store).deliveries, list(DeliveryState)
    totals = await asyncio.gather(*(deliveries.count({"state": state.value}, LARGEST_COUNT) for state in states))
    return [dict(zip((state.value.lower() for state in states), totals, strict=True)) for _ in parents]


async def oldest_pending_at(parents: Sequence[Document], _: None, context: Context) -> list[Any]:
    oldest = await KlaviyoStore(context.store).deliveries.oldest_open(context.services.clock())
    return [None if oldest is None else oldest["created_at"] for _ in parents]


async def lag_seconds(parents: Sequence[Document], _: None, context: Context) -> list[float]:
    now = context.services.clock()
    times = await oldest_pending_at(parents, None, context)
    return [0.0 if at is None else max(0.0, (now - at).total_seconds()) for at in times]


async def metrics(context: Context, source: MetricSource | None, search: str | None) -> list[MetricDocument]:
    """The support metrics, and those of tracked events that were sent, by name."""
    rows: dict[str, MetricDocument] = {name: _without_delivery(context.principal.workspace_id, name) for name in Metric}
    rows |= {row["name"]: row for row in await KlaviyoStore(context.store).metrics.all()}
    text, sources = (search or "").casefold(), set(MetricSource) if source is None else {source}
    matches = [
        row for name, row in rows.items() if text in name.casefold() and MetricSource(str(row["source"])) in sources
    ]
    return sorted(matches, key=lambda row: str(row["name"]))[:MOST_METRICS]


async def metrics_by_id(context: Context, ids: Sequence[str]) -> dict[str, MetricDocument]:
    return {row["_id"]: row for row in await metrics(context, None, None) if row["_id"] in ids} if ids else {}


async def deliveries(
    context: Context, filter_: DeliveryFilter | None, arguments: PageArguments
) -> Connection[DeliveryDocument]:
    filter_values = provided_fields(filter_) or {}
    cipher = await context.cursor_cipher()
    page_request = page(arguments, cipher, "klaviyo.deliveries", context.principal.workspace_id, filter_values)
    search = replace(await search_of(context, filter_values), fields=context.fields_of("KlaviyoDelivery"))
    result = await search.page(page_request)
    return counted(connection(result.rows, page_request, lambda row: str(row["_id"]), result.stopped_at), search.count)


async def backfills(context: Context, arguments: PageArguments) -> Connection[BackfillDocument]:
    cipher = await context.cursor_cipher()
    page_request = page(arguments, cipher, "klaviyo.backfills", context.principal.workspace_id)
    rows = await KlaviyoStore(context.store).backfills.page(page_request, context.services.clock())
    return connection(rows, page_request, lambda row: str(row["_id"]))


async def search_of(context: Context, filter_values: Document) -> DeliverySearch:
    ids, now = await contact_ids(context, filter_values.get("contact_id")), context.services.clock()
    return DeliverySearch(KlaviyoStore(context.store).deliveries, delivery_filter(filter_values, ids, now), now)


async def subject_of(parents: Sequence[Document], _: None, context: Context) -> list[Source | None]:
    """What each delivery reports; for a profile its contact."""
    subjects = await _by_prefix(context, [_subject_id(parent) for parent in parents])
    return [subjects.get(_subject_id(parent)) for parent in parents]


async def of_events(parents: Sequence[Document], _: None, context: Context) -> list[DeliveryDocument | None]:
    ids = [parent["_id"] for parent in parents]
    deliveries_by_event = await KlaviyoStore(context.store).deliveries.of_subjects(
        ids, context.fields_of("KlaviyoDelivery")
    )
    return [deliveries_by_event.get(parent["_id"]) for parent in parents]


async def profile_ids(parents: Sequence[Document], _: None, context: Context) -> list[str | None]:
    contact_ids_ = [_contact_id(parent) for parent in parents]
    contacts = await context.services.store.open(context.principal.workspace_id).contacts.of_ids(
        list(dict.fromkeys(contact_ids_))
    )
    lanes = {
        id_: lane_id_of(context.principal.workspace_id, contacts[id_]["_id"], Queue.LIVE)
        for id_ in contact_ids_
        if id_ in contacts
    }
    lanes_by_id = await KlaviyoStore(context.store).lanes.by_ids(list(dict.fromkeys(lanes.values())))
    profiles = {id_: lane.get("profile_id") for id_, lane in lanes_by_id.items()}
    return [profiles.get(lanes.get(id_, "")) for id_ in contact_ids_]


async def newest_state(parents: Sequence[Document], _: None, context: Context) -> list[str | None]:
    return [row and row["state"] for row in await _newest(parents, {}, "state", context)]


async def last_synced_at(parents: Sequence[Document], _: None, context: Context) -> list[Any]:
    rows = await _newest(parents, {"state": DeliveryState.DELIVERED.value}, "delivered_at", context)
    return [row and row.get("delivered_at") for row in rows]


async def last_error(parents: Sequence[Document], _: None, context: Context) -> list[str | None]:
    rows = await _newest(parents, {"state": {"$in": [state.value for state in _FAILED]}}, "reason", context)
    return [row and row.get("reason") for row in rows]


async def of_subjects(parents: Sequence[Document], arguments: PageArguments, context: Context) -> list[Any]:
    cipher = await context.cursor_cipher()

    def page_of(parent: Document) -> Page:
        return page(arguments, cipher, "KlaviyoSubject.deliveries", parent["_id"])

    async def read(ids: Sequence[str], of_all: Page) -> dict[str, list[DeliveryDocument]]:
        bounds = {"_id": id_bounds(Prefix.DELIVERY, of_all, TimeRange())}
        fields = context.fields_of("KlaviyoDelivery")
        return await _children(context, ids, bounds, of_all.limit, oldest_first=of_all.backward, fields=fields)

    def search(parent: Document) -> DeliverySearch:
        by_contact = prefix_of(parent["_id"]) is Prefix.CONTACT
        criteria = (
            Wanted(contact_ids=ids_of(cast(ContactDocument, parent)))
            if by_contact
            else Wanted(subject_id=parent["_id"])
        )
        return DeliverySearch(KlaviyoStore(context.store).deliveries, criteria, context.services.clock())

    results = await pages_of_parents(parents, page_of, read, lambda row: str(row["_id"]))
    return [
        result if isinstance(result, Exception) else counted(result, search(parent).count)
        for parent, result in zip(parents, results, strict=True)
    ]


async def nodes(context: Context, ids: Sequence[str]) -> dict[str, Source]:
    """Deliveries, metrics and backfills by id, if the caller has the scope KLAVIYO."""
    ids_by_prefix = {prefix: [id_ for id_ in ids if prefix_of(id_) is prefix] for prefix in _PREFIXES}
    if (
        not any(ids_by_prefix.values())
        or context.principal.contact_id is not None
        or not context.principal.may(_KLAVIYO)
    ):
        return {}
    documents: dict[str, Source] = {}
    documents |= await KlaviyoStore(context.store).deliveries.by_ids(ids_by_prefix[Prefix.DELIVERY])
    documents |= await KlaviyoStore(context.store).backfills.by_ids(ids_by_prefix[Prefix.BACKFILL])
    documents |= await metrics_by_id(context, ids_by_prefix[Prefix.METRIC])
    if connection_id_of(context.principal.workspace_id) in ids_by_prefix[Prefix.SYNC]:
        connection = await klaviyo(context)
        documents[connection["_id"]] = connection
    return documents


async def _newest(
    parents: Sequence[Document], match: Document, field: str, context: Context
) -> list[DeliveryDocument | None]:
    """One field of each subject's newest matching delivery."""
    ids = [parent["_id"] for parent in parents]
    children = await _children(context, ids, match, 1, oldest_first=False, fields=[field])
    return [next(iter(children.get(id_, ())), None) for id_ in ids]


async def _children(
    context: Context,
    ids: Sequence[str],
    match: Document,
    limit: int,
    *,
    oldest_first: bool,
    fields: Sequence[str] | None,
) -> dict[str, list[DeliveryDocument]]:
    """The first deliveries of each subject, with one read per type of subject."""
    children: dict[str, list[DeliveryDocument]] = {}
    for prefix, parents in (
        (Prefix.CONTACT, context.store.contacts.COLLECTION),
        (Prefix.CONVERSATION, context.store.conversations.COLLECTION),
        (Prefix.TICKET, context.store.tickets.COLLECTION),
    ):
        if matching_ids := [id_ for id_ in ids if prefix_of(id_) is prefix]:
            deliveries = KlaviyoStore(context.store).deliveries
            children |= await deliveries.pages_of_parents(
                parents, matching_ids, match, limit, oldest_first=oldest_first, fields=fields
            )
    return children


async def _by_prefix(context: Context, ids: Sequence[str]) -> dict[str, Source]:
    distinct_ids = dict.fromkeys(ids)
    documents: dict[str, Source] = {}
    for prefix, repository in (
        (Prefix.EVENT, context.store.events),
        (Prefix.CONVERSATION, context.store.conversations),
        (Prefix.TICKET, context.store.tickets),
    ):
        documents |= await repository.by_ids([id_ for id_ in distinct_ids if prefix_of(id_) is prefix])
    contacts = [id_ for id_ in distinct_ids if prefix_of(id_) is Prefix.CONTACT]
    return documents | (await context.store.contacts.of_ids(contacts) if contacts else {})


def _without_delivery(workspace_id: str, name: Metric) -> MetricDocument:
    return {
        "_id": metric_id_of(workspace_id, name.value),
        "workspace_id": workspace_id,
        "name": name.value,
        "source": MetricSource.SUPPORT.value,
        "delivered": 0,
        "failed": 0,
        "last_delivered_at": None,
    }


def _subject_id(delivery: Document) -> str:
    return str(delivery["subject_id"] or delivery["contact_id"])


def _contact_id(subject: Document) -> str:
    return str(subject["_id"] if prefix_of(subject["_id"]) is Prefix.CONTACT else subject["contact_id"])
