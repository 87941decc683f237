"""Inputs and resolvers that create tokens."""

import strawberry

from gateway.domain.tokens import DEFAULT_LIFETIME
from resolvers.context import Context, Payload
from resolvers.events import ContactRef
from resolvers.inputs import provided_fields


@strawberry.input
class CreateContactTokenInput:
    contact: ContactRef
    expires_in_seconds: int | None = strawberry.field(
        default=DEFAULT_LIFETIME, description="From 60 (a minute) to 86400 (a day)."
    )


@strawberry.input
class CreateAdminTokenInput:
    admin_id: strawberry.ID
    expires_in_seconds: int | None = strawberry.field(
        default=DEFAULT_LIFETIME, description="From 60 (a minute) to 86400 (a day)."
    )


async def create_contact_token(context: Context, input_: CreateContactTokenInput) -> Payload:
    values = provided_fields(input_)
    token, expires_at = await context.services.tokens.create_for_contact(
        context.principal.workspace_id, values["contact"], values.get("expires_in_seconds", DEFAULT_LIFETIME)
    )
    return {"token": token, "expires_at": expires_at}


async def create_admin_token(context: Context, input_: CreateAdminTokenInput) -> Payload:
    values = provided_fields(input_)
    token, expires_at = await context.services.tokens.create_for_admin(
        context.principal.workspace_id, values["admin_id"], values.get("expires_in_seconds", DEFAULT_LIFETIME)
    )
    return {"token": token, "expires_at": expires_at}
