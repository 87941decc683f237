"""Tokens: short-lived credentials for browsers."""

from datetime import datetime

import strawberry
from strawberry import Info

from resolvers import tokens
from resolvers.costs import ONE_ERROR
from resolvers.tokens import CreateAdminTokenInput, CreateContactTokenInput
from schema.access import ADMIN
from schema.errors import UserError, payload


@strawberry.type
class CreateContactTokenPayload:
    """A token, shown once."""

    token: str | None = strawberry.field(description="For 'Authorization: Bearer ...'; it is kept nowhere.")
    expires_at: datetime | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class CreateAdminTokenPayload:
    """A token, shown once."""

    token: str | None = strawberry.field(description="For 'Authorization: Bearer ...'; it is kept nowhere.")
    expires_at: datetime | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class TokenMutation:
    """The root fields that make tokens."""

    @strawberry.mutation(
        directives=[ADMIN],
        description="A token with which a browser reads and acts as that contact alone; a contact nobody knows is created. "
        "Made from an anonymousId, it never reads a USER.",
    )
    async def create_contact_token(
        self, info: Info, input: CreateContactTokenInput
    ) -> CreateContactTokenPayload | None:
        """Make a contact's token."""
        return await payload(tokens.create_contact_token, info, input, token=None, expires_at=None)

    @strawberry.mutation(
        directives=[ADMIN],
        description="A token with which a browser reads the workspace and answers (READ, SUPPORT) as that admin. "
        "It ends when the admin is archived.",
    )
    async def create_admin_token(self, info: Info, input: CreateAdminTokenInput) -> CreateAdminTokenPayload | None:
        """Make an admin's token."""
        return await payload(tokens.create_admin_token, info, input, token=None, expires_at=None)
