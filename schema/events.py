"""Events, their typed metadata, their summaries and definitions."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Optional

import strawberry
from strawberry import Info, Parent

from gateway.core.typed_values import Entry
from gateway.domain.events.documents import DefinitionDocument, ValueDocument
from resolvers import events, klaviyo
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
from schema.access import KLAVIYO, READ, READ_OWN, TRACK, TRACK_OWN
from schema.batching import by_level, reads
from schema.connections import Connection, CountedConnection
from schema.errors import UserError, payload, user_error
from schema.nodes import Node, Stored

if TYPE_CHECKING:
    from schema.contacts import Contact
    from schema.klaviyo import KlaviyoDelivery

LazyContact = Annotated["Contact", strawberry.lazy("schema.contacts")]
LazyDelivery = Annotated["KlaviyoDelivery", strawberry.lazy("schema.klaviyo")]


@strawberry.interface(description="One key of an event's metadata, in the type that its value has.")
class MetadataEntry(Stored):
    """One key of an event's metadata."""

    @classmethod
    def resolve_type(cls, value: Entry, _info: object, _abstract: object) -> str:
        """An entry is stored with the name of its type."""
        return value["type"]

    key: str


@strawberry.type
class TextMetadata(MetadataEntry):
    """A text."""

    text: str


@strawberry.type
class NumberMetadata(MetadataEntry):
    """A number."""

    number: float
    exact: str = strawberry.field(description="Every digit, also of integers beyond 2^53.")


@strawberry.type
class BooleanMetadata(MetadataEntry):
    """Yes or no."""

    boolean: bool


@strawberry.type(description="A key that ends in _date with unix seconds, or any RFC 3339 text.")
class DateMetadata(MetadataEntry):
    """A time."""

    date: datetime


@strawberry.type(description='An http(s) text, or an object {"url", "value"}.')
class LinkMetadata(MetadataEntry):
    """A link."""

    url: str
    label: str | None


@strawberry.type(description='An object {"amount", "currency"}, the amount in minor units.')
class MoneyMetadata(MetadataEntry):
    """An amount of money."""

    amount_minor: SafeInt
    currency: str = strawberry.field(description="ISO 4217.")
    formatted: str


@strawberry.enum
class StripeObject(StrEnum):
    """What a Stripe id names."""

    INVOICE = "INVOICE"
    CHARGE = "CHARGE"
    CUSTOMER = "CUSTOMER"


@strawberry.type(
    description="The keys stripe_invoice, stripe_charge and stripe_customer; of test mode where livemode is false beside them."
)
class StripeMetadata(MetadataEntry):
    """An object at Stripe."""

    object: StripeObject
    stripe_id: str
    url: str = strawberry.field(description="Its page in Stripe's dashboard.")


@strawberry.type(description="What is none of the other types: lists, other objects, null.")
class JsonMetadata(MetadataEntry):
    """Any JSON."""

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


@strawberry.enum(description="The type that a metadata value has: TEXT is TextMetadata, and so on.")
class MetadataType(StrEnum):
    """The type that a metadata value has."""

    TEXT = "TEXT"
    NUMBER = "NUMBER"
    BOOLEAN = "BOOLEAN"
    DATE = "DATE"
    LINK = "LINK"
    MONEY = "MONEY"
    STRIPE = "STRIPE"
    JSON = "JSON"


@strawberry.type(description="A metadata key that events of a name have had.")
class MetadataKey(Stored):
    """A metadata key of a name."""

    key: str
    types: list[MetadataType]


@strawberry.type(
    description="An event's name, what it means, and what is known of all its events: rolled up from the stream, at most a second late."
)
class EventDefinition(Node):
    """An event's name."""

    name: str
    description: str | None
    summarize_by: str | None = strawberry.field(description="The metadata key whose values each summary tells apart.")
    first_at: datetime | None
    last_at: datetime | None
    archived: bool

    @strawberry.field(description="How many events there are, counts that were imported included.")
    @reads("count")
    def count(parent: Parent[DefinitionDocument]) -> SafeInt:  # noqa: N805
        """How many events there are."""
        return parent.get("count", 0)

    @strawberry.field(description="How many contacts did it.")
    @reads("contact_count")
    def contact_count(parent: Parent[DefinitionDocument]) -> SafeInt:  # noqa: N805
        """How many contacts did it."""
        return parent.get("contact_count", 0)

    @strawberry.field(description="The metadata keys seen, the first 500.", directives=[list_of(100)])
    @reads("metadata_keys")
    def metadata_keys(parent: Parent[DefinitionDocument]) -> list[MetadataKey]:  # noqa: N805
        """The metadata keys seen."""
        return parent.get("metadata_keys", [])


@strawberry.type(description="How often a summary's events had one value of the key that its definition summarizes by.")
class EventValueCount(Stored):
    """How often a summary's events had a value."""

    count: SafeInt
    first_at: datetime
    last_at: datetime

    @strawberry.field(description="The value as text, cut off at 255 characters; 'other' where isOther.")
    def value(parent: Parent[ValueDocument]) -> str:  # noqa: N805
        """The value."""
        return parent.get("value", "other")

    @strawberry.field(description="Whether these are all that came after the first 1000 values.")
    def is_other(parent: Parent[ValueDocument]) -> bool:  # noqa: N805
        """Whether it stands for many values."""
        return "value" not in parent


@strawberry.type(description="Something that a contact did. The order of ids is the order of occurredAt.")
class Event(Node):
    """Something that a contact did."""

    name: str
    occurred_at: datetime
    received_at: datetime
    metadata: list[MetadataEntry] = strawberry.field(description="In the order sent.", directives=[list_of(10)])
    metadata_json: JSONObject = strawberry.field(description="As sent.")

    @by_level(
        events.contact_of, reads=("contact_id",), description="Who did it; null while the contact is being erased."
    )
    def contact(self) -> Optional[LazyContact]:  # noqa: UP045 - strawberry resolves Optional of a lazy type
        """Who did it."""

    @by_level(events.definition_of, reads=("name",), directives=[READ])
    def definition(self) -> EventDefinition | None:
        """What its name means."""

    @by_level(
        klaviyo.of_events,
        reads=("_id",),
        directives=[KLAVIYO],
        description="How Klaviyo hears of it; null where it is not forwarded.",
    )
    def klaviyo(self) -> Optional[LazyDelivery]:  # noqa: UP045 - see contact
        """How Klaviyo hears of it."""


@strawberry.type(description="How often, and when first and last, a contact did something: kept for ever.")
class EventSummary(Node):
    """How often a contact did something."""

    name: str
    count: SafeInt
    first_at: datetime
    last_at: datetime

    @by_level(
        events.values_of,
        reads=("_id", "name"),
        directives=[READ, ListSize(assumed_size=20, slicing_arguments=["first"])],
        description="How often each value of the definition's summarizeBy key was there, the most frequent first: up to 1000 values are told apart, for ever. At most a second late; null where nothing is summarized by.",
    )
    def values(self, first: int = 20) -> list[EventValueCount] | None:
        """The most frequent values."""
        return first

    @by_level(events.contact_of, reads=("contact_id",))
    def contact(self) -> Optional[LazyContact]:  # noqa: UP045
        """Who did it."""

    @by_level(events.definition_of, reads=("name",), directives=[READ])
    def definition(self) -> EventDefinition | None:
        """What its name means."""


@strawberry.type
class TrackEventPayload:
    """What became of one event."""

    event: Event | None = strawberry.field(
        description="Null for a key that may not READ, and for a duplicate of an event that is no longer kept."
    )
    duplicate: bool = strawberry.field(
        description="Whether this idempotencyKey had been tracked before: the event is the first call's."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])

    @by_level(events.summary_of, description="The contact's summary of that name, this event included.")
    def summary(self) -> EventSummary | None:
        """The summary that the event was counted in."""


@strawberry.type
class TrackEventResult:
    """What became of one event of many."""

    index: int
    event_id: strawberry.ID | None
    duplicate: bool

    @strawberry.field
    def error(parent: Parent[events.TrackEventResult]) -> UserError | None:  # noqa: N805
        """Why it was not tracked."""
        return None if parent["error"] is None else user_error(parent["error"])


@strawberry.type
class TrackEventsPayload:
    """What became of many events."""

    accepted: int = strawberry.field(description="How many were stored by this call.")
    duplicates: int = strawberry.field(description="How many had been stored before.")
    rejected: int = strawberry.field(description="How many have an error.")
    results: list[TrackEventResult] = strawberry.field(description="One per event, in order.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class ImportEventSummariesPayload:
    """The summaries as they are now."""

    summaries: list[EventSummary] | None = strawberry.field(
        description="In the order sent. Null for a key that may not READ."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class DescribeEventPayload:
    """The definition as it is now."""

    definition: EventDefinition | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class EventQuery:
    """The root fields that read events."""

    @strawberry.field(directives=[READ_OWN])
    async def event(self, info: Info, id: strawberry.ID) -> Event | None:
        """The event with that id."""
        return await events.event(info.context, id)

    @by_level(events.events, directives=[READ, PAGED], description="The whole workspace's events, newest first.")
    def events(
        self,
        filter: EventFilter | None = strawberry.UNSET,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[Event] | None:
        """A page of events."""
        return (page_arguments(first, after, last, before), filter)


@strawberry.type
class DefinitionQuery:
    """The root fields that read definitions."""

    @strawberry.field(
        directives=[READ, PAGED],
        description="Every event name seen or described, by name; with `search` those that contain it, whatever its case.",
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
        """A page of definitions."""
        text = None if search is strawberry.UNSET else search
        return await events.definitions(info.context, text, page_arguments(first, after, last, before))


_TRACKED_NONE: dict[str, object] = {"event": None, "counted": None, "duplicate": False}


@strawberry.type
class EventMutation:
    """The root fields that track."""

    @strawberry.mutation(directives=[TRACK_OWN], description="Track one event. A contact nobody knows is created.")
    async def track_event(self, info: Info, input: TrackEventInput) -> TrackEventPayload | None:
        """Track one event."""
        return await payload(events.track, info, input, check=False, **_TRACKED_NONE)

    @strawberry.mutation(
        directives=[
            TRACK_OWN,
            ListSize(assumed_size=1000, slicing_arguments=["input.events"], sized_fields=["results"]),
        ],
        description="Track up to 1000 events: one result each, in order; a bad one never spoils its neighbours.",
    )
    async def track_events(self, info: Info, input: TrackEventsInput) -> TrackEventsPayload | None:
        """Track many events."""
        return await payload(
            events.track_many, info, input, check=False, accepted=0, duplicates=0, rejected=0, results=[]
        )

    @strawberry.mutation(
        directives=[
            TRACK,
            ListSize(assumed_size=1000, slicing_arguments=["input.summaries"], sized_fields=["summaries"]),
        ],
        description="Counts from before: a summary keeps what is imported beside what is tracked; importing a name again replaces that part.",
    )
    async def import_event_summaries(
        self, info: Info, input: ImportEventSummariesInput
    ) -> ImportEventSummariesPayload | None:
        """Import counts."""
        return await payload(events.import_summaries, info, input, summaries=None)

    @strawberry.mutation(directives=[TRACK], description="Say what an event's name means, or archive it.")
    async def describe_event(self, info: Info, input: DescribeEventInput) -> DescribeEventPayload | None:
        """Describe a name."""
        return await payload(events.describe, info, input, definition=None)
