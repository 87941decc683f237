"""How an entry of a catalogue is saved: unique by its text, so that a call that is sent again makes nothing twice."""

from collections.abc import Mapping
from typing import Any

from gateway.domain.contacts.contacts import Document
from gateway.errors import ErrorCode, UserProblem
from gateway.store.retries import retry_transaction
from gateway.store.unique_names import UniqueNames


async def save_entry(
    catalogue: UniqueNames, id_: str | None, values: Mapping[str, Any], new: Document, field: str
) -> Document:
    """Set those values of the entry with that id, or add the `new` one; CONFLICT where another one has the text of
    `field`, NOT_FOUND where none has the id."""

    async def attempt(_: int) -> Document:
        other = await catalogue.with_text(values[catalogue.UNIQUE])
        if other is not None and other["_id"] not in (id_, new["_id"]):
            message = f"{other['_id']} has this {field} already: pass its id to change it."
            raise UserProblem(ErrorCode.CONFLICT, message, (field,))
        if id_ is not None:
            changed = await catalogue.change(id_, values)
            if changed is None:
                raise UserProblem(ErrorCode.NOT_FOUND, f"Nothing here has the id '{id_}'.", ("id",))
            return changed
        if other is None:
            await catalogue.insert(new)
        return (await catalogue.by_ids([new["_id"]]))[new["_id"]]

    return await retry_transaction(attempt)
