"""Who a contact is: tags, signing in, contacts that turn out to be one person, and erasure."""

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

_HIDDEN = "Null for a key that may not READ."


@strawberry.type
class TagContactPayload:
    """The contact as it is now."""

    contact: Contact | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class UntagContactPayload:
    """The contact as it is now."""

    contact: Contact | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class IdentifyContactPayload:
    """Whoever signed in."""

    contact: Contact | None = strawberry.field(description=_HIDDEN)
    merged: bool = strawberry.field(description="Whether this call merged an anonymous contact into another one.")
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class MergeContactsPayload:
    """The contact that stays, as it is now."""

    contact: Contact | None = strawberry.field(description=_HIDDEN)
    moved_events: SafeInt = strawberry.field(
        description="How many events came along by this call; 0 where these contacts had been merged before."
    )
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class DeleteContactPayload:
    """Who is gone."""

    deleted_id: strawberry.ID | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class IdentityMutation:
    """The root fields that say who a contact is."""

    @strawberry.mutation(directives=[TRACK], description="Add tags to a contact; those it has already stay.")
    async def tag_contact(self, info: Info, input: TagContactInput) -> TagContactPayload | None:
        """Add tags."""
        return await payload(contact_mutations.tag, info, input, contact=None)

    @strawberry.mutation(
        directives=[TRACK], description="Take tags from a contact; those it does not have are ignored."
    )
    async def untag_contact(self, info: Info, input: UntagContactInput) -> UntagContactPayload | None:
        """Remove tags."""
        return await payload(contact_mutations.untag, info, input, contact=None)

    @strawberry.mutation(
        directives=[TRACK],
        description="At the moment of signing in: the VISITOR or LEAD with that anonymousId becomes the USER with that externalId, "
        "or is merged into it where there is one. A USER stays who it is: on a shared computer the anonymousId stays with whoever had it first.",
    )
    async def identify_contact(self, info: Info, input: IdentifyContactInput) -> IdentifyContactPayload | None:
        """Say who an anonymous contact is."""
        return await payload(contact_mutations.identify, info, input, contact=None, merged=False)

    @strawberry.mutation(
        directives=[ADMIN],
        description="Make two contacts one, at once and for ever: events, summaries, tags, anonymous ids, and the facts that the one that stays lacks. "
        "The other's id leads to it from now on.",
    )
    async def merge_contacts(self, info: Info, input: MergeContactsInput) -> MergeContactsPayload | None:
        """Merge two contacts."""
        return await payload(contact_mutations.merge, info, input, contact=None, moved_events=0)

    @strawberry.mutation(
        directives=[ADMIN],
        description="Erase a contact with all that is stored of it, for ever. The contact is gone at once, what it left within seconds; "
        "for 30 days its keys are refused, so that a late retry does not bring it back.",
    )
    async def delete_contact(self, info: Info, input: DeleteContactInput) -> DeleteContactPayload | None:
        """Erase a contact."""
        return await payload(contact_mutations.delete, info, input, deleted_id=None)
