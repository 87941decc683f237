"""Resolvers of parts, a level at a time."""

from collections.abc import Sequence

from gateway.core.ids import Prefix, prefix_of
from gateway.core.pagination import Connection, Page, PageArguments, page
from gateway.core.sorting import Direction
from gateway.domain.support.documents import AdminDocument, PartDocument, T, TeamDocument
from gateway.errors import BadRequestError
from gateway.store.support.threads import Parts
from resolvers.contacts import pages_of_parents
from resolvers.context import Context
from resolvers.teammates import admins_by_id, teams_by_id

PartArguments = tuple[PageArguments, Direction]


async def pages_of_parts(
    context: Context,
    parts: Parts,
    list_: str,
    parents: Sequence[T],
    arguments: PartArguments,
    fields: Sequence[str] | None,
) -> list[Connection[PartDocument] | BadRequestError]:
    """A page of each parent's parts. `list_` names the list that cursors belong to."""
    page_input, order = arguments
    cipher = await context.cursor_cipher()

    def page_of(parent: T) -> Page:
        return page(page_input, cipher, list_, parent["_id"], order.value)

    async def read(ids: Sequence[str], of_all: Page) -> dict[str, list[PartDocument]]:
        return await parts.pages_of_subjects(ids, of_all, oldest_first=order is Direction.ASC, fields=fields)

    return await pages_of_parents(parents, page_of, read, lambda row: row["_id"])


async def assigned_to(ids: Sequence[str], _: None, context: Context) -> list[AdminDocument | TeamDocument | None]:
    admins = [id_ for id_ in ids if prefix_of(id_) is Prefix.ADMIN]
    teams = [id_ for id_ in ids if prefix_of(id_) is Prefix.TEAM]
    teammates: dict[str, AdminDocument | TeamDocument | None] = dict(
        zip(admins, await admins_by_id(admins, None, context) if admins else [], strict=True)
    )
    teammates |= dict(zip(teams, await teams_by_id(teams, None, context) if teams else [], strict=True))
    return [teammates.get(id_) for id_ in ids]
