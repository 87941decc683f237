"""Events with typed metadata, summaries and definitions, and their root fields."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Optional

import strawberry
from strawberry import Info, Parent

from gateway.core.typed_values import Entry
from gateway.domain.events.documents import DefinitionDocument, ValueDocument
from resolvers import events
from resolvers.costs import ONE_ERROR, PAGED, ListSize, Searched, list_of
from resolvers.events import (
    DescribeEventInput,
    EventFilter,
    ImportEventSummariesInput,
    TrackEventInput,
    TrackEventsInput,
)
from resolvers.inputs import page_arguments
from resolvers.scalars import JSON, JSONObject, SafeInt
from schema.access import READ, READ_OWN, TRACK, TRACK_OWN
from schema.batching import batched, reads
from schema.connections import Connection, CountedConnection
from schema.errors import UserError, payload, user_error
from schema.nodes import Node, Stored

if TYPE_CHECKING:
    from schema.contacts import Contact

LazyContact = Annotated["Contact", strawberry.lazy("schema.contacts")]


@strawberry.interface(description="One metadata key of an event. The type depends on the value.")
class MetadataEntry(Stored):
    @classmethod
    def resolve_type(cls, value: Entry, _info: object, _abstract: object) -> str:
        """An entry is stored with the name of its type."""
        return value["type"]

    key: str


@strawberry.type
class TextMetadata(MetadataEntry):
    text: str


@strawberry.type
class NumberMetadata(MetadataEntry):
    number: float
    exact: str = strawberry.field(description="The number with all digits, also for integers beyond 2^53.")


@strawberry.type
class BooleanMetadata(MetadataEntry):
    boolean: bool


@strawberry.type(description="A key that ends in _date with Unix seconds, or a text in RFC 3339.")
class DateMetadata(MetadataEntry):
    date: datetime


@strawberry.type(description='An http(s) URL as text, or an object {"url", "value"}.')
class LinkMetadata(MetadataEntry):
    url: str
    label: str | None


@strawberry.type(description='An object {"amount", "currency"}. The amount is in minor units.')
class MoneyMetadata(MetadataEntry):
    amount_minor: SafeInt
    currency: str = strawberry.field(description="An ISO 4217 code.")
    formatted: str


@strawberry.enum
class StripeObject(StrEnum):
    INVOICE = "INVOICE"
    CHARGE = "CHARGE"
    CUSTOMER = "CUSTOMER"


@strawberry.type(
    description="The keys stripe_invoice, stripe_charge and stripe_customer. Test mode if the event also has livemode: false."
)
class StripeMetadata(MetadataEntry):
    object: StripeObject
    stripe_id: str
    url: str = strawberry.field(description="The page of the object in Stripe's dashboard.")


@strawberry.type(description="A value of no other type: a list, another object, or null.")
class JsonMetadata(MetadataEntry):
    json: JSON | None


METADATA_TYPES = [
    TextMetadata,
    NumberMetadata,
    BooleanMetadata,
    DateMetadata,
    LinkMetadata,
    MoneyMetadata,
    StripeMetadata,
    JsonMetadata,
]


@strawberry.enum(description="The type of a metadata value: TEXT is TextMetadata, and so on.")
class MetadataType(StrEnum):
    TEXT = "TEXT"
    NUMBER = "NUMBER"
    BOOLEAN = "BOOLEAN"
    DATE = "DATE"
    LINK = "LINK"
    MONEY = "MONEY"
    STRIPE = "STRIPE"
    JSON = "JSON"


@strawberry.type(description="A metadata key that events of this name have used.")
class MetadataKey(Stored):
    key: str
    types: list[MetadataType]


@strawberry.type(
    description="An event name with its description, totals and metadata keys. Totals are at most one second late."
)
class EventDefinition(Node):
    name: str
    description: str | None
    summarize_by: str | None = strawberry.field(description="The metadata key by whose values each summary counts.")
    first_at: datetime | None
    last_at: datetime | None
    archived: bool

    @strawberry.field(description="The number of events, including imported counts.")
    @reads("count")
    def count(parent: Parent[DefinitionDocument]) -> SafeInt:  # noqa: N805
        return parent.get("count", 0)

    @strawberry.field(description="The number of contacts with this event.")
    @reads("contact_count")
    def contact_count(parent: Parent[DefinitionDocument]) -> SafeInt:  # noqa: N805
        return parent.get("contact_count", 0)

    @strawberry.field(description="The metadata keys that events have used; the first 500.", directives=[list_of(100)])
    @reads("metadata_keys")
    def metadata_keys(parent: Parent[DefinitionDocument]) -> list[MetadataKey]:  # noqa: N805
        return parent.get("metadata_keys", [])


@strawberry.type(description="How many of a summary's events have one value of the definition's summarizeBy key.")
class EventValueCount(Stored):
    count: SafeInt
    first_at: datetime
    last_at: datetime

    @strawberry.field(description="The value as text, truncated to 255 characters. 'other' if isOther.")
    def value(parent: Parent[ValueDocument]) -> str:  # noqa: N805
        return parent.get("value", "other")

    @strawberry.field(description="True for the total of all values after the first 1000.")
    def is_other(parent: Parent[ValueDocument]) -> bool:  # noqa: N805
        return "value" not in parent


@strawberry.type(description="Something that a contact did. Ids sort by occurredAt.")
class Event(Node):
    name: str
    occurred_at: datetime
    received_at: datetime
    metadata: list[MetadataEntry] = strawberry.field(description="In the order of the input.", directives=[list_of(10)])
    metadata_json: JSONObject = strawberry.field(description="The metadata as it was sent.")

    @batched(events.contact_of, reads=("contact_id",), description="The contact. Null while it is being erased.")
    def contact(self) -> Optional[LazyContact]:  # noqa: UP045 - strawberry resolves Optional of a lazy type
        ...

    @batched(events.definition_of, reads=("name",), directives=[READ])
    def definition(self) -> EventDefinition | None: ...


@strawberry.type(description="How often a contact did an event, and the first and last time. Kept forever.")
class EventSummary(Node):
    name: str
    count: SafeInt
    first_at: datetime
    last_at: datetime

    @batched(
        events.values_of,
        reads=("_id", "name"),
        directives=[READ, ListSize(assumed_size=20, slicing_arguments=["first"])],
        description="The counts by value of the definition's summarizeBy key, highest first. Up to 1000 values are counted separately. At most one second late. Null if the definition has no summarizeBy.",
    )
    def values(self, first: int = 20) -> list[EventValueCount] | None:
        return first

    @batched(events.contact_of, reads=("contact_id",))
    def contact(self) -> Optional[LazyContact]:  # noqa: UP045
        ...

    @batched(events.definition_of, reads=("name",), directives=[READ])
    def definition(self) -> EventDefinition | None: ...


@strawberry.type
class TrackEventPayload:
    event: Event | None = strawberry.field(
        description="Null for an API key without the scope READ, and for a duplicate of an event that retention removed."
    )
    duplicate: bool = strawberry.field(
        description="True if this idempotencyKey was tracked before. The event is then that of the first call."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])

    @batched(events.summary_of, description="The contact's summary of this name, including this event.")
    def summary(self) -> EventSummary | None: ...


@strawberry.type
class TrackEventResult:
    index: int
    event_id: strawberry.ID | None
    duplicate: bool

    @strawberry.field
    def error(parent: Parent[events.TrackEventResult]) -> UserError | None:  # noqa: N805
        return None if parent["error"] is None else user_error(parent["error"])


@strawberry.type
class TrackEventsPayload:
    accepted: int = strawberry.field(description="The number of events that this call stored.")
    duplicates: int = strawberry.field(description="The number of events that were stored before.")
    rejected: int = strawberry.field(description="The number of events with an error.")
    results: list[TrackEventResult] = strawberry.field(description="One result per event, in the order of the input.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ImportEventSummariesPayload:
    summaries: list[EventSummary] | None = strawberry.field(
        description="In the order of the input. Null for an API key without the scope READ."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class DescribeEventPayload:
    definition: EventDefinition | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class EventQuery:
    @strawberry.field(directives=[READ_OWN])
    async def event(self, info: Info, id: strawberry.ID) -> Event | None:
        return await events.event(info.context, id)

    @batched(events.events, directives=[READ, PAGED], description="All events of the workspace, newest first.")
    def events(
        self,
        filter: EventFilter | None = strawberry.UNSET,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[Event] | None:
        return (page_arguments(first, after, last, before), filter)


@strawberry.type
class DefinitionQuery:
    @strawberry.field(
        directives=[READ, PAGED],
        description="All event names that were tracked or described, ordered by name. `search` selects names that contain this text, ignoring case.",
    )
    async def event_definitions(
        self,
        info: Info,
        search: Searched = strawberry.UNSET,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> Connection[EventDefinition] | None:
        text = None if search is strawberry.UNSET else search
        return await events.definitions(info.context, text, page_arguments(first, after, last, before))


_TRACKED_NONE: dict[str, object] = {"event": None, "counted": None, "duplicate": False}


@strawberry.type
class EventMutation:
    @strawberry.mutation(directives=[TRACK_OWN], description="Track one event. An unknown contact is created.")
    async def track_event(self, info: Info, input: TrackEventInput) -> TrackEventPayload | None:
        return await payload(events.track, info, input, check=False, **_TRACKED_NONE)

    @strawberry.mutation(
        directives=[
            TRACK_OWN,
            ListSize(assumed_size=1000, slicing_arguments=["input.events"], sized_fields=["results"]),
        ],
        description="Track up to 1000 events. Each gets its own result, in order; an invalid event does not affect the others.",
    )
    async def track_events(self, info: Info, input: TrackEventsInput) -> TrackEventsPayload | None:
        return await payload(
            events.track_many, info, input, check=False, accepted=0, duplicates=0, rejected=0, results=[]
        )

    @strawberry.mutation(
        directives=[
            TRACK,
            ListSize(assumed_size=1000, slicing_arguments=["input.summaries"], sized_fields=["summaries"]),
        ],
        description="Import counts from another system. A summary keeps imported and tracked counts separately; importing a name again replaces the imported count.",
    )
    async def import_event_summaries(
        self, info: Info, input: ImportEventSummariesInput
    ) -> ImportEventSummariesPayload | None:
        return await payload(events.import_summaries, info, input, summaries=None)

    @strawberry.mutation(directives=[TRACK], description="Describe an event name, or archive it.")
    async def describe_event(self, info: Info, input: DescribeEventInput) -> DescribeEventPayload | None:
        return await payload(events.describe, info, input, definition=None)
