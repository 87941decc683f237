"""Who a contact is: how contacts are tagged."""

import strawberry
from strawberry import Info

from resolvers import identities
from resolvers.identities import TagContactInput, UntagContactInput
from schema.access import TRACK
from schema.contacts import Contact
from schema.problems import UserError, payload

_HIDDEN = "Null for a key that may not READ."


@strawberry.type
class TagContactPayload:
    """The contact as it is now."""

    contact: Contact | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError]


@strawberry.type
class UntagContactPayload:
    """The contact as it is now."""

    contact: Contact | None = strawberry.field(description=_HIDDEN)
    user_errors: list[UserError]


@strawberry.type
class IdentityMutation:
    """The root fields that say who a contact is."""

    @strawberry.mutation(directives=[TRACK], description="Add tags to a contact; those it has already stay.")
    async def tag_contact(self, info: Info, input: TagContactInput) -> TagContactPayload | None:
        """Add tags."""
        return await payload(identities.tag, info, input, contact=None)

    @strawberry.mutation(
        directives=[TRACK], description="Take tags from a contact; those it does not have are ignored."
    )
    async def untag_contact(self, info: Info, input: UntagContactInput) -> UntagContactPayload | None:
        """Remove tags."""
        return await payload(identities.untag, info, input, contact=None)
