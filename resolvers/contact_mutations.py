"""How contacts are tagged, become one when they turn out to be one person, and are erased."""

from datetime import datetime

import strawberry

from gateway.domain.contacts.commands import IdentifyContact
from resolvers.context import Context, Payload
from resolvers.inputs import command


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


@strawberry.input(
    description="Somebody signs in: the browser's anonymousId, and the externalId of whoever it is. Omitted: left alone; null: cleared."
)
class IdentifyContactInput:
    """Who an anonymous contact is."""

    anonymous_id: str
    external_id: str
    email: str | None = strawberry.UNSET
    name: str | None = strawberry.UNSET
    signed_up_at: datetime | None = strawberry.UNSET


@strawberry.input(description="A VISITOR or LEAD into a USER, or a VISITOR into a LEAD.")
class MergeContactsInput:
    """Which contact takes over which."""

    from_: strawberry.ID = strawberry.field(name="from", description="Whose id leads to the other from now on.")
    into: strawberry.ID = strawberry.field(description="Who stays.")


@strawberry.input
class DeleteContactInput:
    """Who is to be erased."""

    id: strawberry.ID


async def tag(context: Context, input_: TagContactInput) -> Payload:
    """The payload of `tagContact`."""
    changed = await context.services.tags.tag(context.principal.workspace_id, input_.contact_id, input_.tags)
    return {"contact": changed if await context.may_read() else None}


async def untag(context: Context, input_: UntagContactInput) -> Payload:
    """The payload of `untagContact`."""
    changed = await context.services.tags.untag(context.principal.workspace_id, input_.contact_id, input_.tags)
    return {"contact": changed if await context.may_read() else None}


async def identify(context: Context, input_: IdentifyContactInput) -> Payload:
    """The payload of `identifyContact`."""
    identified = command(IdentifyContact, input_, nulls=True)
    contact, merged = await context.services.merges.identify(context.principal.workspace_id, identified)
    return {"contact": contact if await context.may_read() else None, "merged": merged}


async def merge(context: Context, input_: MergeContactsInput) -> Payload:
    """The payload of `mergeContacts`."""
    workspace_id = context.principal.workspace_id
    contact, moved = await context.services.merges.merge(workspace_id, input_.from_, input_.into)
    return {"contact": contact if await context.may_read() else None, "moved_events": moved}


async def delete(context: Context, input_: DeleteContactInput) -> Payload:
    """The payload of `deleteContact`."""
    return {"deleted_id": await context.services.erasures.delete(context.principal.workspace_id, input_.id)}
