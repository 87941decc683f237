"""Resolvers of events and what belongs to them, a level at a time."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict

import strawberry

from gateway.core.pagination import Connection, PageArguments, connection, page, page_size
from gateway.core.time_ranges import TimeRange, time_range
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.merging import ids_of
from gateway.domain.events.definitions import generation_of
from gateway.domain.events.documents import (
    DefinitionDocument,
    EventDocument,
    StoredEvent,
    SummaryDocument,
    ValueDocument,
)
from gateway.domain.events.events import DescribeEvent, Outcome, TrackEvent, TrackResult, summary_id_of, track_event
from gateway.domain.events.retention import Retention, is_kept
from gateway.domain.filters.conditions import check_metadata_filter
from gateway.domain.filters.operators import Operators
from gateway.errors import BadRequestError, ErrorCode, UserProblem
from gateway.store.events.event_search import EventSearch
from resolvers.context import Context, Payload
from resolvers.costs import SEARCH
from resolvers.inputs import AttributeFilter, TimeFilter, command, provided_fields
from resolvers.reveals import revealing
from resolvers.scalars import JSONObject, SafeInt
from resolvers.total_count import counted

MAX_FILTER_NAMES = 50
MAX_SUMMARIES = 1000
MAX_SEARCH_LENGTH = 200


@strawberry.input(description="Conditions on events, combined with AND.", directives=[SEARCH])
class EventFilter:
    name: list[str] | None = revealing("Event.name", description="Matches any of these names; at most 50.")
    contact_id: strawberry.ID | None = revealing("Event.contact")
    occurred_at: TimeFilter | None = revealing(
        "Event.occurredAt", description="Refused if it reaches back beyond the retention of events."
    )
    before_sign_up: bool | None = revealing(
        "Event.occurredAt",
        "Contact.signedUpAt",
        description="true: only events before the contact signed up; all events if it never signed up.",
    )
    metadata: list[AttributeFilter] | None = revealing(
        "Event.metadata",
        description="Matches all of these conditions; at most 50. It scans at most 10,000 events per page; such a page may be shorter than requested while hasNextPage is true.",
    )


@strawberry.input(
    description="The keys of a contact; the strongest one decides: id, externalId, email, anonymousId. An unknown contact is created. A contact token always uses its own contact and ignores this. An API key with the scope BROWSER may give only an anonymousId."
)
class ContactRef:
    id: strawberry.ID | None = strawberry.UNSET
    external_id: str | None = strawberry.UNSET
    email: str | None = strawberry.UNSET
    anonymous_id: str | None = strawberry.UNSET


@strawberry.input
class TrackEventInput:
    contact: ContactRef
    name: str = strawberry.field(description="The event name, in the past tense: 'created report'.")
    occurred_at: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="At most 10 years ago or 5 minutes ahead. Omitted: now."
    )
    metadata: JSONObject | None = strawberry.UNSET
    idempotency_key: str | None = strawberry.field(
        default=strawberry.UNSET, description="Valid forever: a repeated call is counted once."
    )
    counts_as_seen: bool | None = strawberry.field(
        default=True, description="false: the event is not a visit, so lastSeenAt stays."
    )


@strawberry.input
class TrackEventsInput:
    events: list[TrackEventInput] = strawberry.field(description="1 to 1000 events.")


@strawberry.input
class EventSummaryInput:
    name: str
    count: SafeInt
    first_at: datetime
    last_at: datetime


@strawberry.input
class ImportEventSummariesInput:
    contact: ContactRef
    summaries: list[EventSummaryInput] = strawberry.field(description="1 to 1000 summaries with different names.")


@strawberry.input
class DescribeEventInput:
    name: str
    description: str | None = strawberry.field(default=strawberry.UNSET, description="The description. null clears it.")
    archived: bool | None = strawberry.field(
        default=strawberry.UNSET, description="true: the name no longer counts towards the limit of event names."
    )
    summarize_by: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="A metadata key: summaries then count by its values (EventSummary.values), for earlier events too. null stops this.",
    )


class TrackEventPayload(TypedDict):
    event: EventDocument | None
    counted: StoredEvent | None
    duplicate: bool


class TrackEventResult(TypedDict):
    index: int
    event_id: str | None
    duplicate: bool
    error: UserProblem | None


async def event(context: Context, id_: str) -> EventDocument | None:
    return await context.store.events.get(id_, fields=context.fields_of("Event"))


async def events(
    parents: Sequence[object], arguments: tuple[PageArguments, EventFilter | None], context: Context
) -> list[Connection[EventDocument]]:
    page_input, filter_ = arguments
    filter_values = provided_fields(filter_) or {}
    page_request = page(
        page_input, await context.cursor_cipher(), "events", context.principal.workspace_id, filter_values
    )
    now = context.services.clock()
    times = kept_times(context, filter_values.get("occurred_at"), now)
    names = check_names(filter_values.get("name"))
    search = EventSearch(
        context.store,
        times,
        now,
        names=names,
        contact_ids=await contact_ids(context, filter_values.get("contact_id")),
        metadata=check_metadata_filter(filter_values.get("metadata"), "filter.metadata"),
        before_sign_up=filter_values.get("before_sign_up", False),
        fields=context.fields_of("Event"),
    )
    result = await search.page(page_request)
    shown = connection(result.rows, page_request, lambda row: str(row["_id"]), result.stopped_at)
    return [counted(shown, search.count)] * len(parents)


async def contact_of(
    parents: Sequence[StoredEvent | SummaryDocument], _: None, context: Context
) -> list[ContactDocument | None]:
    ids = list(dict.fromkeys(parent["contact_id"] for parent in parents))
    contacts = await context.store.contacts.of_ids(ids, context.fields_of("Contact"))
    return [contacts.get(parent["contact_id"]) for parent in parents]


async def definition_of(
    parents: Sequence[StoredEvent | SummaryDocument], _: None, context: Context
) -> list[DefinitionDocument | None]:
    names = list(dict.fromkeys(parent["name"] for parent in parents))
    definitions_by_name = await context.store.definitions.by_names(names, fields=context.fields_of("EventDefinition"))
    return [definitions_by_name.get(parent["name"]) for parent in parents]


async def definitions(context: Context, search: str | None, arguments: PageArguments) -> Connection[DefinitionDocument]:
    if search is not None and len(search) > MAX_SEARCH_LENGTH:
        raise BadRequestError(f"'search' has {len(search)} characters; the limit is {MAX_SEARCH_LENGTH}.")
    cipher = await context.cursor_cipher()
    page_request = page(arguments, cipher, "eventDefinitions", context.principal.workspace_id, search)
    rows = await context.store.definitions.page(page_request, search, context.fields_of("EventDefinition"))
    return connection(rows, page_request, lambda row: str(row["name"]))


async def values_of(
    parents: Sequence[SummaryDocument], first: int, context: Context
) -> list[list[ValueDocument] | None]:
    """The most frequent values of each summary. None if its definition does not count by values."""
    size = page_size(PageArguments(first=first))
    names = list(dict.fromkeys(parent["name"] for parent in parents))
    builds = {
        name: build.id
        for name, row in (await context.store.definitions.by_names(names)).items()
        if (build := generation_of(row)) is not None
    }
    ids = [parent["_id"] for parent in parents if parent["name"] in builds]
    values = await context.store.values.pages_of_summaries(ids, list(builds.values()), size) if ids else {}
    return [values.get(parent["_id"], []) if parent["name"] in builds else None for parent in parents]


async def summary_of(parents: Sequence[TrackEventPayload], _: None, context: Context) -> list[SummaryDocument | None]:
    events = [parent["counted"] for parent in parents if parent["counted"] is not None]
    fields = context.fields_of("EventSummary")
    summaries = await context.store.summaries.by_ids([*dict.fromkeys(map(_summary_id, events))], fields=fields)
    merged = [event for event in events if _summary_id(event) not in summaries]
    if merged:
        summaries |= await _summaries_of_survivors(context, merged)
    return [None if parent["counted"] is None else summaries.get(_summary_id(parent["counted"])) for parent in parents]


async def track(context: Context, input_: TrackEventInput) -> TrackEventPayload:
    (outcome,) = await context.services.events.track(context.principal.workspace_id, [_command(context, input_)])
    if isinstance(outcome, UserProblem):
        raise outcome
    counted = outcome.event if context.shows_documents else None
    event = counted if counted is not None and is_kept(counted) else None
    return {"event": event, "counted": counted, "duplicate": outcome.duplicate}


async def track_many(context: Context, input_: TrackEventsInput) -> Payload:
    most = context.services.settings.max_batch_events
    if not 1 <= len(input_.events) <= most:
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED,
            f"Send from 1 to {most} events in one call, not {len(input_.events)}.",
            ("events",),
        )
    outcomes = await context.services.events.track(
        context.principal.workspace_id, [_command(context, item) for item in input_.events]
    )
    tracked = [outcome for outcome in outcomes if isinstance(outcome, TrackResult)]
    duplicates = sum(outcome.duplicate for outcome in tracked)
    return {
        "accepted": len(tracked) - duplicates,
        "duplicates": duplicates,
        "rejected": len(outcomes) - len(tracked),
        "results": [_result(index, outcome) for index, outcome in enumerate(outcomes)],
    }


async def import_summaries(context: Context, input_: ImportEventSummariesInput) -> Payload:
    values = provided_fields(input_)
    if not 1 <= len(values["summaries"]) <= MAX_SUMMARIES:
        raise UserProblem(
            ErrorCode.LIMIT_EXCEEDED,
            f"Send from 1 to {MAX_SUMMARIES} summaries in one call, not {len(values['summaries'])}.",
            ("summaries",),
        )
    rows = await context.services.events.import_summaries(
        context.principal.workspace_id, values["contact"], values["summaries"]
    )
    return {"summaries": rows if await context.may_read() else None}


async def describe(context: Context, input_: DescribeEventInput) -> Payload:
    described = command(DescribeEvent, input_, nulls=True)
    row = await context.services.events.describe(context.principal.workspace_id, described)
    return {"definition": row if await context.may_read() else None}


def kept_times(context: Context, range_filter: Operators | None, now: datetime) -> TimeRange:
    """The range of a filter's `occurredAt`. Raises BadRequestError if retention has removed events in it."""
    times = time_range(range_filter, now)
    if range_filter:
        Retention(context.services.settings.event_retention_days).check_times(times, now, "filter.occurredAt")
    return times


def check_names(names: list[str] | None) -> list[str] | None:
    if names is not None and len(names) > MAX_FILTER_NAMES:
        raise BadRequestError(f"filter.name has {len(names)} names; the limit is {MAX_FILTER_NAMES}.")
    return names


def _command(context: Context, input_: TrackEventInput) -> TrackEvent | UserProblem:
    try:
        return track_event(
            provided_fields(input_), context.services.settings, context.services.clock(), speaker=context.principal
        )
    except UserProblem as problem:
        return problem


async def _summaries_of_survivors(context: Context, events: Sequence[StoredEvent]) -> dict[str, SummaryDocument]:
    """Summaries that count the events of merged contacts, by the ids before the merge."""
    contacts = await context.store.contacts.of_ids([*dict.fromkeys(event["contact_id"] for event in events)])
    now = {
        _summary_id(event): summary_id_of(event["workspace_id"], contacts[event["contact_id"]]["_id"], event["name"])
        for event in events
        if event["contact_id"] in contacts
    }
    summaries = await context.store.summaries.by_ids([*dict.fromkeys(now.values())])
    return {before: summaries[id_] for before, id_ in now.items() if id_ in summaries}


async def contact_ids(context: Context, contact_id: str | None) -> list[str] | None:
    """All ids of a contact that events and conversations may have, including ids before merges."""
    if contact_id is None:
        return None
    contact = await context.store.contacts.of_id(contact_id)
    return [contact_id] if contact is None else ids_of(contact)


def _summary_id(event: StoredEvent) -> str:
    return summary_id_of(event["workspace_id"], event["contact_id"], event["name"])


def _result(index: int, outcome: Outcome) -> TrackEventResult:
    if isinstance(outcome, UserProblem):
        return {
            "index": index,
            "event_id": None,
            "duplicate": False,
            "error": outcome.below("input", "events", str(index)),
        }
    return {"index": index, "event_id": outcome.event["_id"], "duplicate": outcome.duplicate, "error": None}
