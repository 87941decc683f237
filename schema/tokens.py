"""Mutations that create tokens for browsers."""

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
    token: str | None = strawberry.field(
        description="The token for 'Authorization: Bearer ...'. It is not stored and cannot be shown again."
    )
    expires_at: datetime | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class CreateAdminTokenPayload:
    token: str | None = strawberry.field(
        description="The token for 'Authorization: Bearer ...'. It is not stored and cannot be shown again."
    )
    expires_at: datetime | None
    user_errors: list[UserError] = strawberry.field(directives=[ONE_ERROR])


@strawberry.type
class TokenMutation:
    @strawberry.mutation(
        directives=[ADMIN],
        description="Create a token with which a browser reads and writes as this contact only. An unknown contact is created. A token made from an anonymousId cannot read a USER.",
    )
    async def create_contact_token(
        self, info: Info, input: CreateContactTokenInput
    ) -> CreateContactTokenPayload | None:
        return await payload(tokens.create_contact_token, info, input, token=None, expires_at=None)

    @strawberry.mutation(
        directives=[ADMIN],
        description="Create a token with which a browser reads the workspace and answers customers as this admin (READ, SUPPORT). It is no longer valid once the admin is archived.",
    )
    async def create_admin_token(self, info: Info, input: CreateAdminTokenInput) -> CreateAdminTokenPayload | None:
        return await payload(tokens.create_admin_token, info, input, token=None, expires_at=None)
