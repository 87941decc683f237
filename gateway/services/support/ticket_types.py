"""Saves ticket types."""

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.domain.support.commands import SaveTicketType
from gateway.domain.support.documents import TicketTypeDocument
from gateway.domain.support.ticket_types import (
    MAX_TICKET_TYPES,
    check_same_category,
    check_ticket_type,
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

    async def save(self, workspace_id: str, command: SaveTicketType) -> TicketTypeDocument:
        types, values = self._store.open(workspace_id).ticket_types, check_ticket_type(command)
        id_, now = command.id, self._clock()
        if id_ is None and len(await types.all()) >= MAX_TICKET_TYPES:
            message = f"The workspace has {MAX_TICKET_TYPES} ticket types, which is the limit: change one of them."
            raise UserProblem(ErrorCode.LIMIT_EXCEEDED, message)
        if id_ is not None and (stored := await types.get(id_)) is not None:
            check_same_category(stored, values)
        new = new_ticket_type(self._minter.mint(Prefix.TICKET_TYPE, now), workspace_id, values, now)
        return await save_entry(types, id_, values, new, "name")
