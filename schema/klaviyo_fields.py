"""The field `klaviyo` of contacts, conversations, tickets and events."""

from typing import Any

import strawberry
from strawberry import Parent

from resolvers import klaviyo
from schema.batching import batched, reads
from schema.contacts import Contact
from schema.conversations import Conversation
from schema.events import Event
from schema.extensions import Extension
from schema.klaviyo import KLAVIYO, KlaviyoDelivery, KlaviyoSubject
from schema.tickets import Ticket


@strawberry.type
class _OfContact:
    @strawberry.field(directives=[KLAVIYO], description="The state of its synchronization with Klaviyo.")
    @reads("_id", "contact_ids")
    def klaviyo(parent: Parent[Any]) -> KlaviyoSubject | None:  # noqa: N805
        return parent


@strawberry.type
class _OfThread:
    @strawberry.field(directives=[KLAVIYO], description="The state of its synchronization with Klaviyo.")
    @reads("_id", "contact_id")
    def klaviyo(parent: Parent[Any]) -> KlaviyoSubject | None:  # noqa: N805
        return parent


@strawberry.type
class _OfEvent:
    @batched(
        klaviyo.of_events,
        reads=("_id",),
        directives=[KLAVIYO],
        description="Its delivery to Klaviyo. Null if the event is not forwarded.",
    )
    def klaviyo(self) -> KlaviyoDelivery | None: ...


EXTENSIONS = (
    Extension(Contact, _OfContact),
    Extension(Conversation, _OfThread, before="ticket"),
    Extension(Ticket, _OfThread, before="parts"),
    Extension(Event, _OfEvent),
)
