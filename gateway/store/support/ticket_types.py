"""Ticket types in MongoDB."""

from typing import ClassVar

from pymongo import ASCENDING, IndexModel

from gateway.core.principals import Principal
from gateway.domain.support.ticket_types import TicketCategory
from gateway.store.driver import Document
from gateway.store.unique_names import UniqueNames


class TicketTypes(UniqueNames):
    """The ticket types of one workspace; a contact token sees only those of category CUSTOMER."""

    COLLECTION: ClassVar[str] = "ticket_types"
    UNIQUE: ClassVar[str] = "name_lower"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("name_lower", ASCENDING)], unique=True, name="name"),
    )

    def _shows(self, row: Document, token: Principal) -> bool:
        return bool(row["category"] == TicketCategory.CUSTOMER)
