"""How conversations are found and listed, and how what belongs to them is read, a level at a time."""

from collections.abc import Sequence
from typing import Any

from gateway.domain.contacts import Document
from gateway.domain.ids import Prefix, prefix_of
from gateway.domain.orders import Direction
from gateway.domain.pages import Page, PageArguments, page
from resolvers.contacts import pages_of_parents
from resolvers.contexts import Context
from resolvers.people import admins_by_id, teams_by_id


async def conversation(context: Context, id_: str) -> Document | None:
    """The conversation with that id."""
    return (await context.store.conversations.by_ids([id_])).get(id_)


def read(context: Context, parent: Document) -> bool:
    """Whether the side of who asks has read it."""
    return bool(parent["read" if context.principal.contact_id is None else "read_by_contact"])


def statistics(context: Context, parent: Document) -> Document:
    """The statistics: of a contact's token without what it does not see."""
    found = dict(parent["statistics"])
    if context.principal.contact_id is not None:
        found["part_count"] = found["public_part_count"]
    return found


async def parts(parents: Sequence[Document], arguments: tuple[PageArguments, Direction], context: Context) -> list[Any]:
    """Batch: a page of each conversation's parts."""
    page_asked, order = arguments
    oldest_first = order is Direction.ASC

    def asked(parent: Document) -> Page:
        return page(page_asked, "Conversation.parts", parent["_id"], order.value)

    async def found(ids: Sequence[str], of_all: Page) -> dict[str, list[Document]]:
        return await context.store.conversation_parts.pages_of_subjects(ids, of_all, oldest_first=oldest_first)

    return await pages_of_parents(parents, asked, found, lambda row: str(row["_id"]))


async def assigned_to(ids: Sequence[str], _: None, context: Context) -> list[Document | None]:
    """Batch: the admins or teams of those ids."""
    admins = [id_ for id_ in ids if prefix_of(id_) is Prefix.ADMIN]
    teams = [id_ for id_ in ids if prefix_of(id_) is Prefix.TEAM]
    found = dict(zip(admins, await admins_by_id(admins, None, context) if admins else [], strict=True))
    found |= dict(zip(teams, await teams_by_id(teams, None, context) if teams else [], strict=True))
    return [found.get(id_) for id_ in ids]
