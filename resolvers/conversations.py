"""How conversations are found and listed, and how what belongs to them is read, a level at a time."""

from collections.abc import Sequence
from typing import Any

import strawberry

from gateway.domain.contacts import Document
from gateway.domain.conversation_filters import check_conversation_filter
from gateway.domain.ids import Prefix
from gateway.domain.merges import ids_of
from gateway.domain.orders import ConversationOrder, ConversationSortKey, Direction
from gateway.domain.pages import Page, PageArguments, connection, page
from gateway.domain.times import TimeRange
from gateway.errors import BadRequestError, ForbiddenError
from gateway.store.conversation_searches import ConversationSearch, listed_walk, turned
from gateway.store.repositories import id_bounds
from gateway.store.searches import MAX_CANDIDATES
from resolvers.choices import Channel, ConversationState, Priority
from resolvers.contacts import pages_of_parents
from resolvers.contexts import Context
from resolvers.events import contact_ids
from resolvers.inputs import IntFilter, StringFilter, TimeFilter, sent
from resolvers.parts import PartArguments, pages_of_parts
from resolvers.totals import counted

_LEAST_LOOKED_AT = 500  # of each of many contacts, where their conversations are filtered or sorted

strawberry.enum(ConversationSortKey, description="What conversations are sorted by.")


@strawberry.input(
    description="Conditions on a conversation, ANDed. What no list of the index tells looks at 10,000 conversations a page: "
    "one may come short, with hasNextPage true and a cursor that goes on."
)
class ConversationFilter:
    """Conditions on a conversation."""

    state: list[ConversationState] | None = strawberry.field(default=strawberry.UNSET, description="Any of these.")
    contact_id: strawberry.ID | None = strawberry.UNSET
    assignee_id: strawberry.ID | None = strawberry.UNSET
    team_id: strawberry.ID | None = strawberry.UNSET
    unassigned: bool | None = strawberry.field(
        default=strawberry.UNSET, description="true: assigned to no admin, perhaps to a team; false: to an admin."
    )
    tag: StringFilter | None = strawberry.field(
        default=strawberry.UNSET, description="One of its tags is so; ne: none of them is that."
    )
    priority: list[Priority] | None = strawberry.field(default=strawberry.UNSET, description="Any of these.")
    channel: list[Channel] | None = strawberry.field(default=strawberry.UNSET, description="Any of these.")
    rating: IntFilter | None = strawberry.UNSET
    created_at: TimeFilter | None = strawberry.UNSET
    updated_at: TimeFilter | None = strawberry.UNSET
    waiting_since: TimeFilter | None = strawberry.UNSET
    text: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="All of these words (at most 20) stand in title, subject, body and parts, whole, whatever their case and "
        "accents. The first 1000 different words of a conversation are kept, of each the first 40 characters.",
    )


@strawberry.input(description="The order of a list; nulls come last either way.")
class ConversationSort:
    """The order of a list of conversations."""

    key: ConversationSortKey
    direction: Direction


async def conversations(
    context: Context, filter_: ConversationFilter | None, sort: ConversationSort | None, arguments: PageArguments
) -> Document:
    """A page of the workspace's conversations, the newest first unless another order is asked for."""
    wanted, order = sent(filter_) or {}, _order(sort)
    asked = page(arguments, "conversations", context.principal.workspace_id, wanted, order.key, order.descending)
    search = ConversationSearch(
        context.store.conversations,
        check_conversation_filter(wanted),
        order,
        context.services.clock(),
        await contact_ids(context, wanted.get("contact_id")),
    )
    found = await search.page(asked)
    return counted(connection(found.rows, asked, order.position, found.reached), search.count)


async def of_contacts(
    parents: Sequence[Document],
    arguments: tuple[PageArguments, ConversationFilter | None, ConversationSort | None],
    context: Context,
) -> list[Any]:
    """Batch: a page of each contact's conversations, in one read."""
    page_asked, filter_, sort = arguments
    wanted, order, now = sent(filter_) or {}, _order(sort), context.services.clock()
    _check_of_tokens(context, wanted)
    filter_checked = check_conversation_filter(wanted)
    public, looks = context.principal.contact_id is not None, bool(set(wanted) - {"contact_id"} or not order.by_id)
    most = max(_LEAST_LOOKED_AT, MAX_CANDIDATES // len(parents))

    def asked(parent: Document) -> Page:
        return page(page_asked, "Contact.conversations", parent["_id"], wanted, order.key, order.descending)

    async def read(ids: Sequence[str], of_all: Page) -> dict[str, list[Document]]:
        newest_first = of_all if order.descending else turned(of_all)
        if not order.by_id:
            newest_first = Page(1, False, None, None, "")
        return await context.store.conversations.of_contacts(
            ids,
            id_bounds(Prefix.CONVERSATION, newest_first, TimeRange()),
            most if looks else of_all.limit,
            oldest_first=newest_first.backward,
        )

    def shown(parent: Document, of_parent: Page, rows: list[Document]) -> Document:
        if wanted.get("contact_id") not in (None, *ids_of(parent)):
            return connection([], of_parent, order.position)
        kept = [row for row in rows if filter_checked.holds(row, now, public=public)]
        if not order.by_id:
            kept = list(listed_walk(kept, order, of_parent).rows)
        stopped = looks and order.by_id and len(rows) >= most and len(kept) < of_parent.limit
        return connection(kept, of_parent, order.position, rows[-1]["_id"] if stopped else None)

    def search(parent: Document) -> ConversationSearch:
        return ConversationSearch(context.store.conversations, filter_checked, order, now, ids_of(parent))

    found = await pages_of_parents(parents, asked, read, order.position, shown)
    return [
        one if isinstance(one, BadRequestError) else counted(one, search(parent).count)
        for parent, one in zip(parents, found, strict=True)
    ]


async def conversation(context: Context, id_: str) -> Document | None:
    """The conversation with that id."""
    return (await context.store.conversations.by_ids([id_])).get(id_)


def read(context: Context, parent: Document) -> bool:
    """Whether the side of who asks has read it."""
    return bool(parent["read" if context.principal.contact_id is None else "read_by_contact"])


def statistics(context: Context, parent: Document) -> Document:
    """The statistics: of a contact's token without what it does not see."""
    found = dict(parent["statistics"])
    if context.principal.contact_id is not None:
        found["part_count"] = found["public_part_count"]
    return found


async def parts(parents: Sequence[Document], arguments: PartArguments, context: Context) -> list[Any]:
    """Batch: a page of each conversation's parts."""
    return await pages_of_parts(context.store.conversation_parts, "Conversation.parts", parents, arguments)


def _order(sort: ConversationSort | None) -> ConversationOrder:
    sorted_by = sent(sort)
    if not sorted_by:
        return ConversationOrder()
    return ConversationOrder(ConversationSortKey(sorted_by["key"]), sorted_by["direction"] == Direction.DESC)


def _check_of_tokens(context: Context, wanted: Document) -> None:
    """What a contact's token may not see it may not ask for either."""
    for name, public in (("tag", "tag"), ("team_id", "teamId")):
        if context.principal.contact_id is not None and name in wanted:
            raise ForbiddenError(f"A contact's token may not filter by '{public}'.")
