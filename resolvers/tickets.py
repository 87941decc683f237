"""Resolvers of tickets and what belongs to them, a level at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import strawberry

from gateway.core.full_text import parse_search
from gateway.core.json_values import JsonObject
from gateway.core.pagination import Connection, Page, PageArguments, connection, page
from gateway.core.sorting import Direction
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.merging import ids_of
from gateway.domain.support.documents import (
    ConversationDocument,
    PartDocument,
    TicketDocument,
    TicketTypeDocument,
)
from gateway.domain.support.inbox_keys import InboxOrder
from gateway.domain.support.ticket_filters import TicketCondition, order_of
from gateway.domain.support.ticket_types import shown_values
from gateway.errors import BadRequestError
from gateway.store.support.inboxes import InboxSearch
from resolvers.contacts import pages_of_parents
from resolvers.context import Context
from resolvers.costs import LIST_SEARCH, SORT
from resolvers.enums import TicketCategory, TicketSortKey, TicketState
from resolvers.inputs import TimeFilter, provided_fields
from resolvers.parts import PartArguments, pages_of_parts
from resolvers.reveals import revealing
from resolvers.total_count import Counter, counted


@strawberry.input(directives=[SORT])
class TicketSort:
    key: TicketSortKey
    direction: Direction


@strawberry.input(one_of=True, description="Exactly one key of a ticket.")
class TicketKey:
    id: strawberry.ID | None = strawberry.UNSET
    number: int | None = strawberry.field(default=strawberry.UNSET, description="The number that people use.")


@strawberry.input(
    description="Conditions on a ticket, combined with AND. An index supports an admin, a team, a type, a category or unassigned tickets, each with states, in every order. Other filters scan at most 10,000 tickets per page; such a page may be shorter than requested while hasNextPage is true. All tickets of one contact are read at once.",
    directives=[LIST_SEARCH],
)
class TicketFilter:
    state: list[TicketState] | None = revealing("Ticket.state", description="Matches any of these.")
    category: list[TicketCategory] | None = revealing("Ticket.category", description="Matches any of these.")
    type_id: strawberry.ID | None = revealing("Ticket.type")
    contact_id: strawberry.ID | None = revealing("Ticket.contact")
    assignee_id: strawberry.ID | None = revealing("Ticket.assignee")
    team_id: strawberry.ID | None = revealing("Ticket.team")
    unassigned: bool | None = revealing("Ticket.assignee", description="true: not assigned to an admin.")
    is_shared: bool | None = revealing("Ticket.isShared")
    created_at: TimeFilter | None = revealing("Ticket.createdAt")
    updated_at: TimeFilter | None = revealing("Ticket.updatedAt")
    text: str | None = revealing(
        "Ticket.title",
        "Ticket.description",
        "Ticket.parts",
        description="All of these words occur in the title, the description or the comments. The index has the first 1,000 different words of a ticket.",
    )


async def ticket(context: Context, by: TicketKey) -> TicketDocument | None:
    ((kind, value),) = provided_fields(by).items()
    fields = context.fields_of("Ticket")
    if kind == "number":
        return await context.store.tickets.with_number(value, fields)
    return await context.store.tickets.get(value, fields=fields)


async def tickets(
    context: Context, filter_: TicketFilter | None, sort: TicketSort | None, arguments: PageArguments
) -> Connection[TicketDocument]:
    filter_values, sorted_by = provided_fields(filter_) or {}, provided_fields(sort) or {}
    list_ = _TicketList.page_of(context, filter_values, sorted_by)
    contact_id = filter_values.get("contact_id") or context.principal.contact_id
    cipher = await context.cursor_cipher()
    page_request = page(arguments, cipher, "tickets", context.principal.workspace_id, filter_values, sorted_by)
    fields = context.fields_of("Ticket")
    if contact_id is None:
        now = context.services.clock()
        search = InboxSearch(context.store.tickets, list_.condition, list_.order, now, fields=fields)
        result = await search.page(page_request)
        return counted(connection(result.rows, page_request, list_.order.position, result.stopped_at), search.count)
    contact = await context.store.contacts.of_id(contact_id)
    rows = {} if contact is None else await list_.of_contacts([contact["_id"]], page_request, fields)
    contact_rows = [row for of_one in rows.values() for row in of_one]
    return counted(connection(contact_rows, page_request, list_.order.position), list_.counter(contact))


async def of_contacts(
    parents: Sequence[ContactDocument],
    arguments: tuple[PageArguments, TicketFilter | None, TicketSort | None],
    context: Context,
) -> list[Connection[TicketDocument] | BadRequestError]:
    page_input, filter_, sort = arguments
    filter_values, sorted_by = provided_fields(filter_) or {}, provided_fields(sort) or {}
    list_, cipher = _TicketList.page_of(context, filter_values, sorted_by), await context.cursor_cipher()

    def page_of(parent: ContactDocument) -> Page:
        return page(page_input, cipher, "Contact.tickets", parent["_id"], filter_values, sorted_by)

    selected = [parent for parent in parents if filter_values.get("contact_id") in (None, *ids_of(parent))]
    shown = {parent["_id"] for parent in selected}

    async def read(ids: Sequence[str], of_all: Page) -> dict[str, list[TicketDocument]]:
        return await list_.of_contacts([id_ for id_ in ids if id_ in shown], of_all, context.fields_of("Ticket"))

    results = await pages_of_parents(parents, page_of, read, list_.order.position)
    return [
        result
        if isinstance(result, BadRequestError)
        else counted(result, list_.counter(parent if parent["_id"] in shown else None))
        for parent, result in zip(parents, results, strict=True)
    ]


async def of_conversations(ticket_ids: Sequence[str], _: None, context: Context) -> list[TicketDocument | None]:
    rows = await context.store.tickets.by_ids(list(dict.fromkeys(ticket_ids)), fields=context.fields_of("Ticket"))
    return [rows.get(id_) for id_ in ticket_ids]


async def conversations_of(
    conversation_ids: Sequence[str], _: None, context: Context
) -> list[ConversationDocument | None]:
    fields = context.fields_of("Conversation")
    rows = await context.store.conversations.by_ids(list(dict.fromkeys(conversation_ids)), fields=fields)
    return [rows.get(id_) for id_ in conversation_ids]


async def types_of(parents: Sequence[TicketDocument], _: None, context: Context) -> list[TicketTypeDocument]:
    types = await context.store.ticket_types.by_ids(list({parent["type_id"] for parent in parents}))
    return [types[parent["type_id"]] for parent in parents]


async def attributes_of(parents: Sequence[TicketDocument], _: None, context: Context) -> list[JsonObject]:
    if context.principal.contact_id is None:
        return [parent["attributes"] for parent in parents]
    types = await types_of(parents, None, context)
    pairs = zip(parents, types, strict=True)
    return [shown_values(type_, parent["attributes"], to_contact=True) for parent, type_ in pairs]


async def parts(
    parents: Sequence[TicketDocument], arguments: PartArguments, context: Context
) -> Sequence[Connection[PartDocument] | BadRequestError | None]:
    """A page of each ticket's parts. None for a contact token that no longer sees the ticket."""
    fields = context.fields_of("TicketPart")
    if context.principal.contact_id is not None:
        seen = await context.store.tickets.by_ids([parent["_id"] for parent in parents], fields=[])
        shown = [parent for parent in parents if parent["_id"] in seen]
        pages = await pages_of_parts(context, context.store.ticket_parts, "Ticket.parts", shown, arguments, fields)
        by_ticket = {parent["_id"]: page_rows for parent, page_rows in zip(shown, pages, strict=True)}
        return [by_ticket.get(parent["_id"]) for parent in parents]
    return await pages_of_parts(context, context.store.ticket_parts, "Ticket.parts", parents, arguments, fields)


async def parts_by_id(context: Context, ids: Sequence[str]) -> dict[str, PartDocument]:
    """A contact token gets only the parts of tickets that it sees."""
    parts = await context.store.ticket_parts.by_ids(ids)
    if context.principal.contact_id is None:
        return parts
    seen = await context.store.tickets.by_ids(list({row["subject_id"] for row in parts.values()}))
    return {id_: row for id_, row in parts.items() if row["subject_id"] in seen}


def part_count(context: Context, parent: TicketDocument) -> int:
    statistics = parent["statistics"]
    return statistics["part_count"] if context.principal.contact_id is None else statistics["public_part_count"]


@dataclass(frozen=True, slots=True)
class _TicketList:
    context: Context
    condition: TicketCondition
    order: InboxOrder

    @classmethod
    def page_of(cls, context: Context, filter_values: Document, sorted_by: Document) -> "_TicketList":
        by_contact = context.principal.contact_id is not None
        rest = {name: value for name, value in filter_values.items() if name not in ("contact_id", "text")}
        words = [] if "text" not in filter_values else parse_search(filter_values["text"], "filter.text")
        condition = TicketCondition(**rest, words=words, words_in="public_words" if by_contact else "words")
        key = TicketSortKey(sorted_by.get("key", TicketSortKey.CREATED_AT))
        descending = sorted_by.get("direction", Direction.DESC) == Direction.DESC
        return cls(context, condition, order_of(key, descending=descending))

    async def of_contacts(
        self, contact_ids: Sequence[str], page_request: Page, fields: Sequence[str] | None = None
    ) -> dict[str, list[TicketDocument]]:
        if not contact_ids:
            return {}
        now = self.context.services.clock()
        return await self.context.store.tickets.of_contacts(
            contact_ids, self.condition, self.order, page_request, now, fields
        )

    def counter(self, contact: ContactDocument | None) -> Counter:
        async def count(most: int) -> int:
            ids = [] if contact is None else [contact["_id"]]
            rows_by_contact = await self.of_contacts(ids, Page(most - 1, False, None, None), ["_id"])
            return sum(len(rows) for rows in rows_by_contact.values())

        return count
