"""How conversations are found and listed, and how what belongs to them is read, a level at a time."""

from collections.abc import Sequence
from typing import Any

from gateway.domain.contacts import Document
from resolvers.contexts import Context
from resolvers.parts import PartArguments, pages_of_parts


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


async def parts(parents: Sequence[Document], arguments: PartArguments, context: Context) -> list[Any]:
    """Batch: a page of each conversation's parts."""
    return await pages_of_parts(context.store.conversation_parts, "Conversation.parts", parents, arguments)
