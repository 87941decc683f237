"""Ticket types in MongoDB."""

from typing import ClassVar

from pymongo import ASCENDING, IndexModel

from gateway.core.principals import Principal
from gateway.domain.support.documents import TicketTypeDocument
from gateway.domain.support.ticket_types import TicketCategory
from gateway.store.unique_names import UniqueNames


class TicketTypes(UniqueNames[TicketTypeDocument]):
    """The ticket types of one workspace; a contact token sees only those of category CUSTOMER."""

    COLLECTION: ClassVar[str] = "ticket_types"
    UNIQUE: ClassVar[str] = "name_lower"
    INDEXES: ClassVar[tuple[IndexModel, ...]] = (
        IndexModel([("workspace_id", ASCENDING), ("name_lower", ASCENDING)], unique=True, name="name"),
    )

    def _shows(self, row: TicketTypeDocument, token: Principal) -> bool:
        return row["category"] == TicketCategory.CUSTOMER
