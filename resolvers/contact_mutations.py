"""Resolvers that tag, identify, merge and erase contacts."""

from datetime import datetime

import strawberry

from gateway.domain.contacts.commands import IdentifyContact
from resolvers.context import Context, Payload
from resolvers.inputs import command


@strawberry.input
class TagContactInput:
    contact_id: strawberry.ID
    tags: list[str] = strawberry.field(description="At most 100 tags per contact.")


@strawberry.input
class UntagContactInput:
    contact_id: strawberry.ID
    tags: list[str] = strawberry.field(description="At most 100.")


@strawberry.input(
    description="A sign-in: the browser's anonymousId and the person's externalId. An omitted field stays as it is; null clears it."
)
class IdentifyContactInput:
    anonymous_id: str
    external_id: str
    email: str | None = strawberry.UNSET
    name: str | None = strawberry.UNSET
    signed_up_at: datetime | None = strawberry.UNSET


@strawberry.input(description="Merges a VISITOR or LEAD into a USER, or a VISITOR into a LEAD.")
class MergeContactsInput:
    from_: strawberry.ID = strawberry.field(
        name="from", description="The contact that is merged. Its id leads to the survivor from then on."
    )
    into: strawberry.ID = strawberry.field(description="The contact that survives.")


@strawberry.input
class DeleteContactInput:
    id: strawberry.ID


async def tag(context: Context, input_: TagContactInput) -> Payload:
    changed = await context.services.tags.tag(context.principal.workspace_id, input_.contact_id, input_.tags)
    return {"contact": changed if await context.may_read() else None}


async def untag(context: Context, input_: UntagContactInput) -> Payload:
    changed = await context.services.tags.untag(context.principal.workspace_id, input_.contact_id, input_.tags)
    return {"contact": changed if await context.may_read() else None}


async def identify(context: Context, input_: IdentifyContactInput) -> Payload:
    identified = command(IdentifyContact, input_, nulls=True)
    contact, merged = await context.services.merges.identify(context.principal.workspace_id, identified)
    return {"contact": contact if await context.may_read() else None, "merged": merged}


async def merge(context: Context, input_: MergeContactsInput) -> Payload:
    workspace_id = context.principal.workspace_id
    contact, moved = await context.services.merges.merge(workspace_id, input_.from_, input_.into)
    return {"contact": contact if await context.may_read() else None, "moved_events": moved}


async def delete(context: Context, input_: DeleteContactInput) -> Payload:
    return {"deleted_id": await context.services.erasures.delete(context.principal.workspace_id, input_.id)}
