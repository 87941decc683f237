"""Inputs and resolvers of segments and their members."""

from collections.abc import Sequence
from functools import partial

import strawberry

from gateway.core.json_values import Json
from gateway.core.pagination import Connection, Page, PageArguments, connection, page
from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.filters.conditions import Condition
from gateway.domain.filters.documents import MemberDocument, SegmentDocument
from gateway.domain.filters.segments import MAX_SEGMENTS, public_filter
from gateway.errors import BadRequestError
from resolvers.context import Context, Payload
from resolvers.filters import ContactFilter
from resolvers.inputs import provided_fields
from resolvers.total_count import counted


@strawberry.input(description="A new segment, or with an id the segment to change.")
class SaveSegmentInput:
    id: strawberry.ID | None = strawberry.UNSET
    name: str
    filter: ContactFilter


@strawberry.input
class DeleteSegmentInput:
    id: strawberry.ID


async def segments(context: Context) -> list[SegmentDocument]:
    return await context.store.segments.all()


async def segment(context: Context, id_: str) -> SegmentDocument | None:
    return await context.store.segments.get(id_)


async def save_segment(context: Context, input_: SaveSegmentInput) -> Payload:
    values = provided_fields(input_)
    saved = await context.services.segments.save(
        context.principal.workspace_id, values["name"], values["filter"], values.get("id")
    )
    return {"segment": saved if await context.may_read() else None}


async def delete_segment(context: Context, input_: DeleteSegmentInput) -> Payload:
    return {"deleted_id": await context.services.segments.delete(context.principal.workspace_id, input_.id)}


def filter_of(segment_: SegmentDocument) -> Json:
    return public_filter(segment_["filter"])


async def contacts(
    parents: Sequence[SegmentDocument], arguments: PageArguments, context: Context
) -> list[Connection[MemberDocument] | BadRequestError]:
    cipher = await context.cursor_cipher()
    pages: dict[str, Page | BadRequestError] = {}
    for parent in parents:
        try:
            pages[parent["_id"]] = page(arguments, cipher, "Segment.contacts", parent["_id"])
        except BadRequestError as error:
            pages[parent["_id"]] = error
    good = {id_: page_or_error for id_, page_or_error in pages.items() if isinstance(page_or_error, Page)}
    rows = await _members(good, context)
    contacts_by_id = await context.store.contacts.by_ids(
        sorted({row["contact_id"] for group in rows.values() for row in group})
    )
    return [
        counted(_shown(rows.get(id_, []), page_or_error, contacts_by_id), partial(context.store.members.count, id_))
        if isinstance(page_or_error, Page)
        else page_or_error
        for id_, page_or_error in ((parent["_id"], pages[parent["_id"]]) for parent in parents)
    ]


async def of_contacts(parents: Sequence[ContactDocument], _: None, context: Context) -> list[list[SegmentDocument]]:
    rows = await context.store.members.of_contacts([parent["_id"] for parent in parents], MAX_SEGMENTS)
    ids = {row["segment_id"] for group in rows.values() for row in group}
    segments_by_id = await context.store.segments.by_ids(sorted(ids))
    return [
        _present(segments_by_id, sorted(row["segment_id"] for row in rows.get(parent["_id"], ()))) for parent in parents
    ]


async def of_notification(parents: Sequence[Document], _: None, context: Context) -> list[SegmentDocument | None]:
    ids = sorted({parent["segment_id"] for parent in parents if parent["segment_id"] is not None})
    segments_by_id = await context.store.segments.by_ids(ids)
    return [segments_by_id.get(parent["segment_id"]) for parent in parents]


async def check_named(context: Context, condition: Condition) -> None:
    """Raises BadRequestError if the filter names a segment that does not exist."""
    named = sorted(condition.segments())
    segments_by_id = await context.store.segments.by_ids(named)
    for id_ in named:
        if id_ not in segments_by_id:
            raise BadRequestError(f"The filter names the segment '{id_}', which does not exist: correct the id.")


async def _members(pages: dict[str, Page], context: Context) -> dict[str, list[MemberDocument]]:
    """The members of each page: in windows for one segment, in one read for several."""
    members = context.store.members
    if len(pages) == 1:
        ((id_, page_request),) = pages.items()
        return {id_: await members.page(id_, page_request, TimeRange(), context.services.clock())}
    return await members.pages_of_segments(list(pages), next(iter(pages.values()))) if pages else {}


def _shown(
    rows: list[MemberDocument], page_request: Page, contacts_: dict[str, ContactDocument]
) -> Connection[MemberDocument]:
    """A page of members as contacts, without those that were deleted meanwhile."""
    result = connection(rows, page_request, lambda row: row["contact_id"])
    existing = [row for row in result["rows"] if row["contact_id"] in contacts_]
    return {**result, "rows": existing, "nodes": [contacts_[row["contact_id"]] for row in existing]}


def _present(rows: dict[str, SegmentDocument], ids: Sequence[str]) -> list[SegmentDocument]:
    return [rows[id_] for id_ in ids if id_ in rows]
