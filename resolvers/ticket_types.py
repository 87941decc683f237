"""Input and resolvers of ticket types."""

from collections.abc import Sequence

import strawberry

from gateway.domain.support.commands import SaveTicketType
from gateway.domain.support.documents import TicketAttribute, TicketTypeDocument
from gateway.domain.support.ticket_types import shown_attributes
from resolvers.context import Context, Payload
from resolvers.enums import TicketAttributeKind, TicketCategory
from resolvers.inputs import command


@strawberry.input(description="An attribute of a ticket type, in addition to title and description.")
class TicketAttributeInput:
    name: str = strawberry.field(
        description="The name, unique in its type, with at most 100 characters and without '.' and '$'."
    )
    kind: TicketAttributeKind
    required: bool | None = strawberry.field(
        default=False,
        description="Whether new tickets must have it. For a contact's ticket this applies only to visible attributes.",
    )
    options: list[str] | None = strawberry.field(default=strawberry.UNSET, description="For a LIST: 1 to 100 values.")
    visible_to_contacts: bool | None = True


@strawberry.input(
    description="A new ticket type with a unique name, or with an id the type to change. An omitted field stays as it is; null clears it."
)
class SaveTicketTypeInput:
    id: strawberry.ID | None = strawberry.UNSET
    name: str
    category: TicketCategory = strawberry.field(description="For an existing type: its current category.")
    description: str | None = strawberry.UNSET
    attributes: list[TicketAttributeInput] | None = strawberry.field(
        default=strawberry.UNSET,
        description="All attributes; at most 50. They replace the previous ones. Tickets keep their values; new values are checked.",
    )
    archived: bool | None = strawberry.field(
        default=strawberry.UNSET, description="true: no new tickets of this type. Existing tickets stay."
    )


async def save_ticket_type(context: Context, input_: SaveTicketTypeInput) -> Payload:
    type_ = command(SaveTicketType, input_, nulls=True)
    saved = await context.services.ticket_types.save(context.principal.workspace_id, type_)
    return {"ticket_type": saved if await context.may_read() else None}


async def ticket_types(context: Context) -> list[TicketTypeDocument]:
    rows = await context.store.ticket_types.all()
    return rows if context.principal.contact_id is None else [row for row in rows if not row["archived"]]


async def attributes(parents: Sequence[TicketTypeDocument], _: None, context: Context) -> list[list[TicketAttribute]]:
    to_contact = context.principal.contact_id is not None
    return [shown_attributes(parent, to_contact=to_contact) for parent in parents]
