"""Mutations that tag, identify, merge and erase contacts."""

import strawberry
from strawberry import Info

from resolvers import contact_mutations
from resolvers.contact_mutations import (
    DeleteContactInput,
    IdentifyContactInput,
    MergeContactsInput,
    TagContactInput,
    UntagContactInput,
)
from resolvers.costs import ONE_ERROR
from resolvers.scalars import SafeInt
from schema.access import ADMIN, TRACK
from schema.contacts import Contact
from schema.errors import UserError, payload

_HIDDEN = "Null for an API key without the scope READ."


@strawberry.type
class TagContactPayload:
    contact: Contact | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class UntagContactPayload:
    contact: Contact | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class IdentifyContactPayload:
    contact: Contact | None = strawberry.field(description=_HIDDEN)
    merged: bool = strawberry.field(description="True if this call merged an anonymous contact into another contact.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class MergeContactsPayload:
    contact: Contact | None = strawberry.field(description=_HIDDEN)
    moved_events: SafeInt = strawberry.field(
        description="The number of events that this call moved; 0 if these contacts were merged before."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class DeleteContactPayload:
    deleted_id: strawberry.ID | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class IdentityMutation:
    @strawberry.mutation(directives=[TRACK], description="Add tags to a contact. Tags that it already has stay.")
    async def tag_contact(self, info: Info, input: TagContactInput) -> TagContactPayload | None:
        return await payload(contact_mutations.tag, info, input, contact=None)

    @strawberry.mutation(
        directives=[TRACK], description="Remove tags from a contact. Tags that it does not have are ignored."
    )
    async def untag_contact(self, info: Info, input: UntagContactInput) -> UntagContactPayload | None:
        return await payload(contact_mutations.untag, info, input, contact=None)

    @strawberry.mutation(
        directives=[TRACK],
        description="Call this when a contact signs in. The VISITOR or LEAD with this anonymousId becomes the USER with this externalId, or is merged into that USER if it exists. A USER is never changed into another one: on a shared computer the anonymousId stays with its first USER.",
    )
    async def identify_contact(self, info: Info, input: IdentifyContactInput) -> IdentifyContactPayload | None:
        return await payload(contact_mutations.identify, info, input, contact=None, merged=False)

    @strawberry.mutation(
        directives=[ADMIN],
        description="Merge one contact into another, immediately and permanently. The survivor gets the events, summaries, tags and anonymous ids, and each field that it does not have. The merged contact's id leads to the survivor from then on.",
    )
    async def merge_contacts(self, info: Info, input: MergeContactsInput) -> MergeContactsPayload | None:
        return await payload(contact_mutations.merge, info, input, contact=None, moved_events=0)

    @strawberry.mutation(
        directives=[ADMIN],
        description="Erase a contact and everything stored about it, permanently. The contact is gone immediately, its data within seconds. For 30 days its keys are refused, so that a late retry does not create it again.",
    )
    async def delete_contact(self, info: Info, input: DeleteContactInput) -> DeleteContactPayload | None:
        return await payload(contact_mutations.delete, info, input, deleted_id=None)
