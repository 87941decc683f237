"""Saves ticket types."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.domain.contacts.contacts import Document
from gateway.domain.support.ticket_types import (
    MAX_TICKET_TYPES,
    check_same_category,
    check_ticket_type,
    check_usable,
    new_ticket_type,
)
from gateway.errors import ErrorCode, UserProblem
from gateway.services.unique_names import save_entry
from gateway.store.workspace_store import Store


class TicketTypeService:
    def __init__(self, store: Store, clock: Clock, minter: Minter) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter

    async def save(self, workspace_id: str, fields: Mapping[str, Any]) -> Document:
        """Return the stored type. `fields`: the given input fields in snake_case; None clears."""
        types, values = self._store.open(workspace_id).ticket_types, check_ticket_type(fields)
        id_, now = fields.get("id"), self._clock()
        if id_ is None and len(await types.all()) >= MAX_TICKET_TYPES:
            message = f"The workspace has {MAX_TICKET_TYPES} ticket types, which is the limit: change one of them."
            raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message)
        if id_ is not None and (stored := (await types.by_ids([id_])).get(id_)) is not None:
            check_same_category(stored, values)
        new = new_ticket_type(self._minter.mint(Prefix.TICKET_TYPE, now), workspace_id, values, now)
        return await save_entry(types, id_, values, new, "name")

    async def usable(self, workspace_id: str, type_id: str, path: Sequence[str]) -> Document:
        """Return the type; UserProblem if there is none or it takes no new tickets."""
        types = await self._store.open(workspace_id).ticket_types.by_ids([type_id])
        return check_usable(types.get(type_id), type_id, path)
