"""Segments: saved filters of contacts with their members."""

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
from schema.batching import batched
from schema.connections import CountedConnection
from schema.contacts import Contact
from schema.errors import UserError, payload
from schema.nodes import Node


@strawberry.type(
    description="A saved filter of contacts with its members. `contactChanged` reports when a contact enters or leaves."
)
class Segment(Node):
    name: str
    created_at: datetime
    complete: bool = strawberry.field(
        description="True if all members are known. After a segment is saved, its members are computed; until then members can be missing, and members of the previous filter can still be listed."
    )

    @strawberry.field(description="The ContactFilter as it was sent.")
    def filter(parent: Parent[SegmentDocument]) -> JSONObject:  # noqa: N805
        return segments.filter_of(parent)

    @batched(segments.contacts, directives=[READ, PAGED], description="The members, newest contact first.")
    def contacts(
        self,
        first: int | None = strawberry.UNSET,
        after: str | None = strawberry.UNSET,
        last: int | None = strawberry.UNSET,
        before: str | None = strawberry.UNSET,
    ) -> CountedConnection[Contact] | None:
        return page_arguments(first, after, last, before)


@strawberry.type
class SaveSegmentPayload:
    segment: Segment | None = strawberry.field(description="Null for an API key without the scope READ.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class DeleteSegmentPayload:
    deleted_id: strawberry.ID | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class SegmentQuery:
    @strawberry.field(
        directives=[READ, list_of(MAX_SEGMENTS)],
        description="All of the workspace, oldest first. At most 100.",
    )
    async def segments(self, info: Info) -> list[Segment] | None:
        return await segments.segments(info.context)

    @strawberry.field(directives=[READ])
    async def segment(self, info: Info, id: strawberry.ID) -> Segment | None:
        return await segments.segment(info.context, id)


@strawberry.type
class SegmentMutation:
    @strawberry.mutation(
        directives=[ADMIN],
        description="Save a segment. Its members are computed within seconds (see `complete`) and are not reported; ENTERED_SEGMENT and LEFT_SEGMENT report later changes.",
    )
    async def save_segment(self, info: Info, input: SaveSegmentInput) -> SaveSegmentPayload | None:
        return await payload(segments.save_segment, info, input, segment=None)

    @strawberry.mutation(
        directives=[ADMIN],
        description="Delete a segment that no other segment refers to. LEFT_SEGMENT is not reported.",
    )
    async def delete_segment(self, info: Info, input: DeleteSegmentInput) -> DeleteSegmentPayload | None:
        return await payload(segments.delete_segment, info, input, deleted_id=None)
