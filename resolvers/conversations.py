"""Resolvers of conversations and what belongs to them, a level at a time."""

from collections.abc import Sequence
from typing import cast

import strawberry

from gateway.core.ids import Prefix
from gateway.core.pagination import Connection, Page, PageArguments, connection, page
from gateway.core.sorting import Direction
from gateway.core.time_ranges import TimeRange
from gateway.domain.contacts.documents import ContactDocument
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

_LEAST_LOOKED_AT = 500  # of each contact of many, if their conversations are filtered or sorted
_NEWEST = Page(1, False, None, None)

sort_enum(
    ConversationSortKey,
    {
        ConversationSortKey.UPDATED_AT: "Conversation.updatedAt",
        ConversationSortKey.CREATED_AT: "Conversation.createdAt",
        ConversationSortKey.WAITING_SINCE: "Conversation.waitingSince",
        ConversationSortKey.SLA_DUE_AT: "Conversation.sla",
    },
    description="The sort key of conversations.",
)


@strawberry.input(
    description="Conditions on a conversation, combined with AND. A filter that no index supports scans at most 10,000 conversations per page; such a page may be shorter than requested while hasNextPage is true.",
    directives=[LIST_SEARCH],
)
class ConversationFilter:
    state: list[ConversationState] | None = revealing("Conversation.state", description="Matches any of these.")
    contact_id: strawberry.ID | None = revealing("Conversation.contact")
    assignee_id: strawberry.ID | None = revealing("Conversation.assignee")
    team_id: strawberry.ID | None = revealing("Conversation.team")
    unassigned: bool | None = revealing(
        "Conversation.assignee",
        description="true: not assigned to an admin (it can be assigned to a team); false: assigned to an admin.",
    )
    tag: StringFilter | None = revealing(
        "Conversation.tags", description="At least one tag matches. For ne: no tag equals the value."
    )
    priority: list[Priority] | None = revealing("Conversation.priority", description="Matches any of these.")
    channel: list[Channel] | None = revealing("Conversation.source", description="Matches any of these.")
    rating: IntFilter | None = revealing("Conversation.rating")
    created_at: TimeFilter | None = revealing("Conversation.createdAt")
    updated_at: TimeFilter | None = revealing("Conversation.updatedAt")
    waiting_since: TimeFilter | None = revealing("Conversation.waitingSince")
    text: str | None = revealing(
        "Conversation.title",
        "Conversation.source",
        "Conversation.parts",
        description="All of these words (at most 20) occur in title, subject, body or parts, as whole words, ignoring case and accents. The index has the first 1000 different words of a conversation, and the first 40 characters of each.",
    )


@strawberry.input(description="The order of a list. Nulls come last in both directions.", directives=[SORT])
class ConversationSort:
    key: ConversationSortKey
    direction: Direction


async def conversations(
    context: Context, filter_: ConversationFilter | None, sort: ConversationSort | None, arguments: PageArguments
) -> Connection[ConversationDocument]:
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
    # The contact is already resolved: `contactId` may be a former id, which the rows do not have.
    rest = filter_values.copy()
    del rest["contact_id"]
    list_ = _ConversationsOfContacts(context, rest, order, [] if contact is None else [contact])
    if contact is None:
        return counted(connection([], page_request, order.position), list_.counter(None))
    rows = (await list_.read([contact["_id"]], page_request)).get(contact["_id"], [])
    return counted(await list_.shown(contact, page_request, rows), list_.counter(contact))


async def of_contacts(
    parents: Sequence[ContactDocument],
    arguments: tuple[PageArguments, ConversationFilter | None, ConversationSort | None],
    context: Context,
) -> list[Connection[ConversationDocument] | BadRequestError]:
    page_input, filter_, sort = arguments
    filter_values, order = _filter_fields(filter_), _order(sort)
    list_, cipher = _ConversationsOfContacts(context, filter_values, order, parents), await context.cursor_cipher()

    def page_of(parent: ContactDocument) -> Page:
        return page(
            page_input, cipher, "Contact.conversations", parent["_id"], filter_values, order.key, order.descending
        )

    results = await pages_of_parents(parents, page_of, list_.read, order.position, list_.shown)
    return [
        result if isinstance(result, BadRequestError) else counted(result, list_.counter(parent))
        for parent, result in zip(parents, results, strict=True)
    ]


async def conversation(context: Context, id_: str) -> ConversationDocument | None:
    return await context.store.conversations.get(id_, fields=context.fields_of("Conversation"))


def read(context: Context, parent: ConversationDocument) -> bool:
    return parent["read"] if context.principal.contact_id is None else parent["read_by_contact"]


def statistics(context: Context, parent: ConversationDocument) -> Statistics:
    """A contact token does not see the counts of notes."""
    counts = parent["statistics"].copy()
    if context.principal.contact_id is not None:
        counts["part_count"] = counts["public_part_count"]
    return counts


async def parts(
    parents: Sequence[ConversationDocument], arguments: PartArguments, context: Context
) -> list[Connection[PartDocument] | BadRequestError]:
    fields = context.fields_of("ConversationPart")
    return await pages_of_parts(
        context, context.store.conversation_parts, "Conversation.parts", parents, arguments, fields
    )


class _ConversationsOfContacts:
    """The conversations of each of several contacts. A filter or sort reads only the newest of each."""

    def __init__(
        self,
        context: Context,
        filter_values: ConversationFilterFields,
        order: InboxOrder,
        contacts: Sequence[ContactDocument],
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
        """The candidates of each contact for a page."""
        id_page = self._order.newest_first(page_request) if self._by_id else _NEWEST
        bounds = id_bounds(Prefix.CONVERSATION, id_page, TimeRange())
        most = self._most if self._looks_at_rows else page_request.limit
        contacts = {id_: self._ids[id_] for id_ in ids}
        return await self._conversations.of_contacts(
            contacts, bounds, most, oldest_first=id_page.backward, fields=self._fields
        )

    async def shown(
        self, parent: ContactDocument, page_request: Page, rows: Sequence[ConversationDocument]
    ) -> Connection[ConversationDocument]:
        """The page of one contact from its candidates."""
        if not self._includes(parent):
            rows = []
        matching = await self._matching(rows) if self._filters else list(rows)
        if not self._by_id:
            matching = self._order.cut(matching, self._order.newest_first(page_request))
        stopped = self._by_id and self._filters and len(rows) >= self._most and len(matching) < page_request.limit
        return connection(matching, page_request, self._order.position, rows[-1]["_id"] if stopped else None)

    def counter(self, parent: ContactDocument | None) -> Counter:
        async def count(most: int) -> int | None:
            if parent is None or not self._includes(parent):
                return 0
            if not self._filters:
                return await self._conversations.count_of_contacts(ids_of(parent), most)
            bounds = id_bounds(Prefix.CONVERSATION, _NEWEST, TimeRange())
            contacts = {parent["_id"]: ids_of(parent)}
            rows_by_contact = await self._conversations.of_contacts(
                contacts, bounds, MAX_CANDIDATES, oldest_first=False
            )
            rows = rows_by_contact.get(parent["_id"], [])
            matching = len(await self._matching(rows))
            return None if len(rows) >= MAX_CANDIDATES and matching < most else min(matching, most)

        return count

    def _includes(self, parent: ContactDocument) -> bool:
        return self._filter_values.get("contact_id") in (None, *ids_of(parent))

    async def _matching(self, rows: Sequence[ConversationDocument]) -> list[ConversationDocument]:
        return await filter_rows(rows, lambda row: self.filter.matches(row, self.now, public=self._public), INBOX_STEPS)


def _filter_fields(filter_: ConversationFilter | None) -> ConversationFilterFields:
    return cast(ConversationFilterFields, provided_fields(filter_) or {})


def _order(sort: ConversationSort | None) -> InboxOrder:
    sorted_by = provided_fields(sort) or {}
    key = ConversationSortKey(sorted_by.get("key", ConversationSortKey.CREATED_AT))
    return order_of(key, descending=sorted_by.get("direction", Direction.DESC) == Direction.DESC)
