"""How contacts are tagged."""

import strawberry

from gateway.domain.contacts import Document
from resolvers.contexts import Context


@strawberry.input
class TagContactInput:
    """Which tags a contact is to have too."""

    contact_id: strawberry.ID
    tags: list[str] = strawberry.field(description="A contact has at most 100.")


@strawberry.input
class UntagContactInput:
    """Which tags a contact is to have no longer."""

    contact_id: strawberry.ID
    tags: list[str] = strawberry.field(description="At most 100.")


async def tag(context: Context, input_: TagContactInput) -> Document:
    """The payload of `tagContact`."""
    changed = await context.services.tags.tag(context.principal.workspace_id, input_.contact_id, input_.tags)
    return {"contact": changed if await context.may_read() else None}


async def untag(context: Context, input_: UntagContactInput) -> Document:
    """The payload of `untagContact`."""
    changed = await context.services.tags.untag(context.principal.workspace_id, input_.contact_id, input_.tags)
    return {"contact": changed if await context.may_read() else None}
