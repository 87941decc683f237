"""Segments: named filters of contacts whose members are kept."""

from datetime import datetime

import strawberry
from strawberry import Info, Parent

from gateway.domain.filters.documents import SegmentDocument
from gateway.domain.filters.segments import MAX_SEGMENTS
from resolvers import segments
from resolvers.costs import ONE_ERROR, PAGED, list_of
from resolvers.inputs import page_arguments
from resolvers.scalars import JSONObject
from resolvers.segments import DeleteSegmentInput, SaveSegmentInput
from schema.access import ADMIN, READ
from schema.batching import by_level
from schema.connections import CountedConnection
from schema.contacts import Contact
from schema.errors import UserError, payload
from schema.nodes import Node


@strawberry.type(
    description="A named filter of contacts whose members are kept: who enters and leaves is heard by `contactChanged`."
)
class Segment(Node):
    """A named filter."""

    name: str
    created_at: datetime
    complete: bool = strawberry.field(
        description="Whether all members are known. Of a segment that was just saved they are looked for, "
        "and until that is done the list may lack some, and have some that the filter before it found."
    )

    @strawberry.field(description="As it was sent, a ContactFilter.")
    def filter(parent: Parent[SegmentDocument]) -> JSONObject:  # noqa: N805
        """Who is in it."""
        return segments.filter_of(parent)

    @by_level(segments.contacts, directives=[READ, PAGED], description="The members, the newest contact first.")
    def contacts(
        self,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[Contact] | None:
        """Its members."""
        return page_arguments(first, after, last, before)


@strawberry.type
class SaveSegmentPayload:
    """The segment as it is now."""

    segment: Segment | None = strawberry.field(description="Null for a key that may not READ.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class DeleteSegmentPayload:
    """Which segment is gone."""

    deleted_id: strawberry.ID | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class SegmentQuery:
    """The root fields that read segments."""

    @strawberry.field(
        directives=[READ, list_of(MAX_SEGMENTS)],
        description="All of them, the oldest first: a workspace has at most 100.",
    )
    async def segments(self, info: Info) -> list[Segment] | None:
        """Every segment."""
        return await segments.segments(info.context)

    @strawberry.field(directives=[READ])
    async def segment(self, info: Info, id: strawberry.ID) -> Segment | None:
        """One segment."""
        return await segments.segment(info.context, id)


@strawberry.type
class SegmentMutation:
    """The root fields that change segments."""

    @strawberry.mutation(
        directives=[ADMIN],
        description="Save a segment. Its members are found within seconds (`complete` tells), and nobody is told of them: "
        "ENTERED_SEGMENT and LEFT_SEGMENT tell who moves afterwards.",
    )
    async def save_segment(self, info: Info, input: SaveSegmentInput) -> SaveSegmentPayload | None:
        """Save a segment."""
        return await payload(segments.save_segment, info, input, segment=None)

    @strawberry.mutation(
        directives=[ADMIN],
        description="Delete a segment that no other one names. Nobody is told that they left it.",
    )
    async def delete_segment(self, info: Info, input: DeleteSegmentInput) -> DeleteSegmentPayload | None:
        """Delete a segment."""
        return await payload(segments.delete_segment, info, input, deleted_id=None)
