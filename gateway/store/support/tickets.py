"""Tickets, their parts and their numbers in MongoDB."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from pymongo import ASCENDING, IndexModel, UpdateOne

from gateway.core.ids import Prefix
from gateway.core.pagination import Page
from gateway.core.principals import Principal
from gateway.core.time_ranges import TimeRange
from gateway.domain.support.documents import TicketDocument, TicketNumberDocument
from gateway.domain.support.inbox_keys import InboxOrder
from gateway.domain.support.ticket_filters import TicketCondition
from gateway.domain.support.tickets import is_public
from gateway.store.contacts.contacts import IDS_OF_CONTACT, Contacts
from gateway.store.driver import Session
from gateway.store.repositories import Repository, id_bounds
from gateway.store.support.inboxes import Inbox, inbox_indexes
from gateway.store.support.threads import Parts, Threads

# `is_public` as a query.
PUBLIC_TICKETS = {"$and": [{"category": "CUSTOMER"}, {"is_shared": True}]}


class Tickets(Threads[TicketDocument], Inbox[TicketDocument]):
    """The tickets of one workspace; a contact token finds only its own that are shared with it."""

    COLLECTION: ClassVar[str] = "tickets"
    SHOWN_BY: ClassVar[tuple[str, ...]] = ("category", "is_shared")
    PREFIX: ClassVar[Prefix] = Prefix.TICKET
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("number", ASCENDING)], unique=True, name="number"),
        IndexModel([("contact_id", ASCENDING), ("workspace_id", ASCENDING), ("_id", ASCENDING)], name="contact"),
        *inbox_indexes("updated_key", "number_key", by_id="_by__id"),
    )

    async def with_number(self, number: int, fields: Sequence[str] | None = None) -> TicketDocument | None:
        return next(iter(await self._find({"number": number}, fields=fields)), None)

    async def of_contacts(
        self,
        contact_ids: Sequence[str],
        condition: TicketCondition,
        order: InboxOrder,
        page: Page,
        now: datetime,
        fields: Sequence[str] | None = None,
    ) -> dict[str, list[TicketDocument]]:
        newest_page, key = order.newest_first(page), order.key
        shown = PUBLIC_TICKETS if self._token is not None else {}
        match = {**condition.match(now), **shown, key: id_bounds(self.PREFIX, newest_page, TimeRange())}
        return await self._pages_of_children(
            contact_ids,
            match,
            {key: 1 if newest_page.backward else -1},
            page.limit,
            foreign="contact_id",
            parent_collection=Contacts.COLLECTION,
            parent_ids=IDS_OF_CONTACT,
            fields=fields,
        )

    def _shows(self, row: TicketDocument, token: Principal) -> bool:
        return super()._shows(row, token) and is_public(row)


class TicketParts(Parts):
    COLLECTION: ClassVar[str] = "ticket_parts"
    PARENTS: ClassVar[str] = Tickets.COLLECTION


class TicketNumbers(Repository[TicketNumberDocument]):
    """The last ticket number of a workspace. A number is taken in the transaction that stores its ticket, so none is lost."""

    COLLECTION: ClassVar[str] = "ticket_numbers"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING)], unique=True, name="workspace"),
    )

    async def last(self, session: Session = None) -> int:
        """The highest number; 0 if there is no ticket yet."""
        row = await self.get(self._workspace_id, session)
        return 0 if row is None else row["number"]

    async def take(self, session: Session) -> int:
        """Take the next number for the ticket of this transaction; concurrent transactions conflict and retry."""
        key = {"_id": self._workspace_id, "workspace_id": self._workspace_id}
        await self._database.bulk(self.COLLECTION, [UpdateOne(key, {"$inc": {"number": 1}}, upsert=True)], session)
        return await self.last(session)
