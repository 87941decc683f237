"""Upserts by a unique name, so that a repeated call creates nothing twice."""

from collections.abc import Mapping

from gateway.errors import ErrorCode, UserProblem
from gateway.store.retries import retry_transaction
from gateway.store.unique_names import N, UniqueNames


async def save_entry(
    repository: UniqueNames[N], id_: str | None, values: Mapping[str, object], new: N, field: str
) -> N:
    """Update the row with that id, or insert `new`. CONFLICT if another row has the name, NOT_FOUND for an unknown
    id."""

    async def attempt(_: int) -> N:
        other = await repository.with_text(str(values[repository.UNIQUE]))
        if other is not None and other["_id"] not in (id_, new["_id"]):
            message = f"{other['_id']} already has this {field}: pass its id to change it."
            raise UserProblem(ErrorCode.CONFLICT, message, (field,))
        if id_ is not None:
            changed = await repository.change(id_, values)
            if changed is None:
                raise UserProblem(
                    ErrorCode.NOT_FOUND,
                    f"There is nothing with the id '{id_}': correct the id, or leave it out to create a new one.",
                    ("id",),
                )
            return changed
        if other is None:
            await repository.insert(new)
        return (await repository.by_ids([new["_id"]]))[new["_id"]]

    return await retry_transaction(attempt)
