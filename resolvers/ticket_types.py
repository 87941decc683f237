"""How types of tickets are read and saved."""

from collections.abc import Sequence

import strawberry

from gateway.domain.support.commands import SaveTicketType
from gateway.domain.support.documents import TicketAttribute, TicketTypeDocument
from gateway.domain.support.ticket_types import shown_attributes
from resolvers.context import Context, Payload
from resolvers.enums import TicketAttributeKind, TicketCategory
from resolvers.inputs import command


@strawberry.input(description="What tickets of a type say beside title and description.")
class TicketAttributeInput:
    """An attribute."""

    name: str = strawberry.field(description="Unique in its type, at most 100 characters, without '.' and '$'.")
    kind: TicketAttributeKind
    required: bool | None = strawberry.field(
        default=False, description="Whether new tickets must have it; a contact gives only what it sees."
    )
    options: list[str] | None = strawberry.field(default=strawberry.UNSET, description="Of a LIST: 1 to 100.")
    visible_to_contacts: bool | None = True


@strawberry.input(description="Without id a new type, whose name no other has. Omitted: left alone; null: cleared.")
class SaveTicketTypeInput:
    """A type of tickets."""

    id: strawberry.ID | None = strawberry.UNSET
    name: str
    category: TicketCategory = strawberry.field(description="Of a type that is there: the one it has.")
    description: str | None = strawberry.UNSET
    attributes: list[TicketAttributeInput] | None = strawberry.field(
        default=strawberry.UNSET,
        description="All of them, at most 50. Tickets keep the values that they have; what is written is checked anew.",
    )
    archived: bool | None = strawberry.field(
        default=strawberry.UNSET, description="true: no new tickets of this type; those that are there go on."
    )


async def save_ticket_type(context: Context, input_: SaveTicketTypeInput) -> Payload:
    """The payload of `saveTicketType`."""
    type_ = command(SaveTicketType, input_, nulls=True)
    saved = await context.services.ticket_types.save(context.principal.workspace_id, type_)
    return {"ticket_type": saved if await context.may_read() else None}


async def ticket_types(context: Context) -> list[TicketTypeDocument]:
    """Every type by name; for a contact's token those that it may open tickets of."""
    rows = await context.store.ticket_types.all()
    return rows if context.principal.contact_id is None else [row for row in rows if not row["archived"]]


async def attributes(parents: Sequence[TicketTypeDocument], _: None, context: Context) -> list[list[TicketAttribute]]:
    """Batch: the attributes of each type that whoever asks may see."""
    to_contact = context.principal.contact_id is not None
    return [shown_attributes(parent, to_contact=to_contact) for parent in parents]
