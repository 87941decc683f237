"""How conversations are found and listed, and how what belongs to them is read, a level at a time."""

from collections.abc import Sequence
from typing import cast

import strawberry

from gateway.core.ids import Prefix
from gateway.core.pagination import Connection, Page, PageArguments, connection, page
from gateway.core.sorting import Direction
from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.merging import ids_of
from gateway.domain.support.conversation_filters import (
    ConversationFilterFields,
    ConversationSortKey,
    order_of,
    parse_conversation_filter,
)
from gateway.domain.support.documents import ConversationDocument, PartDocument, Statistics
from gateway.domain.support.inbox_keys import InboxOrder
from gateway.errors import BadRequestError
from gateway.store.filters.contact_search import MAX_CANDIDATES
from gateway.store.repositories import id_bounds
from gateway.store.support.inboxes import INBOX_STEPS, InboxSearch
from gateway.store.yielding import filter_rows
from resolvers.contacts import pages_of_parents
from resolvers.context import Context
from resolvers.costs import LIST_SEARCH, SORT
from resolvers.enums import Channel, ConversationState, Priority
from resolvers.inputs import IntFilter, StringFilter, TimeFilter, provided_fields
from resolvers.parts import PartArguments, pages_of_parts
from resolvers.reveals import revealing, sort_enum
from resolvers.total_count import Counter, counted

_LEAST_LOOKED_AT = 500  # of each of many contacts, where their conversations are filtered or sorted
_NEWEST = Page(1, False, None, None)

sort_enum(
    ConversationSortKey,
    {
        ConversationSortKey.UPDATED_AT: "Conversation.updatedAt",
        ConversationSortKey.CREATED_AT: "Conversation.createdAt",
        ConversationSortKey.WAITING_SINCE: "Conversation.waitingSince",
        ConversationSortKey.SLA_DUE_AT: "Conversation.sla",
    },
    description="What conversations are sorted by.",
)


@strawberry.input(
    description="Conditions on a conversation, ANDed. What no list of the index tells looks at 10,000 conversations a page: "
    "one may come short, with hasNextPage true and a cursor that goes on.",
    directives=[LIST_SEARCH],
)
class ConversationFilter:
    """Conditions on a conversation."""

    state: list[ConversationState] | None = revealing("Conversation.state", description="Any of these.")
    contact_id: strawberry.ID | None = revealing("Conversation.contact")
    assignee_id: strawberry.ID | None = revealing("Conversation.assignee")
    team_id: strawberry.ID | None = revealing("Conversation.team")
    unassigned: bool | None = revealing(
        "Conversation.assignee", description="true: assigned to no admin, perhaps to a team; false: to an admin."
    )
    tag: StringFilter | None = revealing(
        "Conversation.tags", description="One of its tags is so; ne: none of them is that."
    )
    priority: list[Priority] | None = revealing("Conversation.priority", description="Any of these.")
    channel: list[Channel] | None = revealing("Conversation.source", description="Any of these.")
    rating: IntFilter | None = revealing("Conversation.rating")
    created_at: TimeFilter | None = revealing("Conversation.createdAt")
    updated_at: TimeFilter | None = revealing("Conversation.updatedAt")
    waiting_since: TimeFilter | None = revealing("Conversation.waitingSince")
    text: str | None = revealing(
        "Conversation.title",
        "Conversation.source",
        "Conversation.parts",
        description="All of these words (at most 20) stand in title, subject, body and parts, whole, whatever their case and "
        "accents. The first 1000 different words of a conversation are kept, of each the first 40 characters.",
    )


@strawberry.input(description="The order of a list; nulls come last either way.", directives=[SORT])
class ConversationSort:
    """The order of a list of conversations."""

    key: ConversationSortKey
    direction: Direction


async def conversations(
    context: Context, filter_: ConversationFilter | None, sort: ConversationSort | None, arguments: PageArguments
) -> Connection[ConversationDocument]:
    """A page of the workspace's conversations, the newest first unless another order is asked for."""
    filter_values, order = _filter_fields(filter_), _order(sort)
    cipher, scope = (
        await context.cursor_cipher(),
        (context.principal.workspace_id, filter_values, order.key, order.descending),
    )
    page_request = page(arguments, cipher, "conversations", *scope)
    if (contact_id := filter_values.get("contact_id")) is None:
        condition = parse_conversation_filter(filter_values)
        now, fields = context.services.clock(), context.fields_of("Conversation")
        search = InboxSearch(context.store.conversations, condition, order, now, fields=fields)
        result = await search.page(page_request)
        return counted(connection(result.rows, page_request, order.position, result.stopped_at), search.count)
    contact = await context.store.contacts.of_id(contact_id)
    # Whose they are is settled: the id that was asked for may be one that the contact had elsewhere.
    rest = filter_values.copy()
    del rest["contact_id"]
    list_ = _OfContacts(context, rest, order, [] if contact is None else [contact])
    if contact is None:
        return counted(connection([], page_request, order.position), list_.counter(None))
    rows = (await list_.read([contact["_id"]], page_request)).get(contact["_id"], [])
    return counted(await list_.shown(contact, page_request, rows), list_.counter(contact))


async def of_contacts(
    parents: Sequence[Document],
    arguments: tuple[PageArguments, ConversationFilter | None, ConversationSort | None],
    context: Context,
) -> list[Connection[ConversationDocument] | BadRequestError]:
    """Batch: a page of each contact's conversations, in one read."""
    page_asked, filter_, sort = arguments
    filter_values, order = _filter_fields(filter_), _order(sort)
    list_, cipher = _OfContacts(context, filter_values, order, parents), await context.cursor_cipher()

    def page_of(parent: Document) -> Page:
        return page(
            page_asked, cipher, "Contact.conversations", parent["_id"], filter_values, order.key, order.descending
        )

    results = await pages_of_parents(parents, page_of, list_.read, order.position, list_.shown)
    return [
        result if isinstance(result, BadRequestError) else counted(result, list_.counter(parent))
        for parent, result in zip(parents, results, strict=True)
    ]


async def conversation(context: Context, id_: str) -> ConversationDocument | None:
    """The conversation with that id."""
    return await context.store.conversations.get(id_, fields=context.fields_of("Conversation"))


def read(context: Context, parent: ConversationDocument) -> bool:
    """Whether the side of who asks has read it."""
    return parent["read"] if context.principal.contact_id is None else parent["read_by_contact"]


def statistics(context: Context, parent: ConversationDocument) -> Statistics:
    """The statistics: of a contact's token without what it does not see."""
    counts = parent["statistics"].copy()
    if context.principal.contact_id is not None:
        counts["part_count"] = counts["public_part_count"]
    return counts


async def parts(
    parents: Sequence[ConversationDocument], arguments: PartArguments, context: Context
) -> list[Connection[PartDocument] | BadRequestError]:
    """Batch: a page of each conversation's parts."""
    fields = context.fields_of("ConversationPart")
    return await pages_of_parts(
        context, context.store.conversation_parts, "Conversation.parts", parents, arguments, fields
    )


class _OfContacts:
    """A list of the conversations of each of so many contacts. Where they are filtered or sorted, that is done with the
    newest of each, up to a number."""

    def __init__(
        self,
        context: Context,
        filter_values: ConversationFilterFields,
        order: InboxOrder,
        contacts: Sequence[Document],
    ) -> None:
        self.filter, self.now = parse_conversation_filter(filter_values), context.services.clock()
        self._conversations = context.store.conversations
        self._public = context.principal.contact_id is not None
        self._filter_values, self._order = filter_values, order
        self._by_id = order.key == "_id"
        self._filters = bool(set(filter_values) - {"contact_id"})
        self._looks_at_rows = self._filters or not self._by_id
        self._fields = None if self._looks_at_rows else context.fields_of("Conversation")
        self._ids = {contact["_id"]: ids_of(contact) for contact in contacts}
        self._most = max(_LEAST_LOOKED_AT, MAX_CANDIDATES // max(1, len(contacts)))

    async def read(self, ids: Sequence[str], page_request: Page) -> dict[str, list[ConversationDocument]]:
        """What is looked at of each contact for a page."""
        id_page = self._order.newest_first(page_request) if self._by_id else _NEWEST
        bounds = id_bounds(Prefix.CONVERSATION, id_page, TimeRange())
        most = self._most if self._looks_at_rows else page_request.limit
        contacts = {id_: self._ids[id_] for id_ in ids}
        return await self._conversations.of_contacts(
            contacts, bounds, most, oldest_first=id_page.backward, fields=self._fields
        )

    async def shown(
        self, parent: Document, page_request: Page, rows: Sequence[ConversationDocument]
    ) -> Connection[ConversationDocument]:
        """The page of a contact, of what was read for it."""
        if not self._means(parent):
            rows = []
        matching = await self._held(rows) if self._filters else list(rows)
        if not self._by_id:
            matching = self._order.cut(matching, self._order.newest_first(page_request))
        stopped = self._by_id and self._filters and len(rows) >= self._most and len(matching) < page_request.limit
        return connection(matching, page_request, self._order.position, rows[-1]["_id"] if stopped else None)

    def counter(self, parent: Document | None) -> Counter:
        """Counts what a contact has, up to a number."""

        async def count(most: int) -> int | None:
            if parent is None or not self._means(parent):
                return 0
            if not self._filters:
                return await self._conversations.count_of_contacts(ids_of(parent), most)
            bounds = id_bounds(Prefix.CONVERSATION, _NEWEST, TimeRange())
            contacts = {parent["_id"]: ids_of(parent)}
            rows_by_contact = await self._conversations.of_contacts(
                contacts, bounds, MAX_CANDIDATES, oldest_first=False
            )
            rows = rows_by_contact.get(parent["_id"], [])
            held = len(await self._held(rows))
            return None if len(rows) >= MAX_CANDIDATES and held < most else min(held, most)

        return count

    def _means(self, parent: Document) -> bool:
        return self._filter_values.get("contact_id") in (None, *ids_of(parent))

    async def _held(self, rows: Sequence[ConversationDocument]) -> list[ConversationDocument]:
        return await filter_rows(rows, lambda row: self.filter.matches(row, self.now, public=self._public), INBOX_STEPS)


def _filter_fields(filter_: ConversationFilter | None) -> ConversationFilterFields:
    return cast(ConversationFilterFields, provided_fields(filter_) or {})


def _order(sort: ConversationSort | None) -> InboxOrder:
    sorted_by = provided_fields(sort) or {}
    key = ConversationSortKey(sorted_by.get("key", ConversationSortKey.CREATED_AT))
    return order_of(key, descending=sorted_by.get("direction", Direction.DESC) == Direction.DESC)
