"""Seeds tickets of two types in every state, the same each time."""

from datetime import datetime, timedelta

from gateway.core.json_values import JsonObject
from gateway.core.principals import Principal, Scope
from gateway.domain.support.commands import CreateTicket, SaveTicketType, SetTicketState
from gateway.services.support.ticket_types import TicketTypeService
from gateway.services.support.tickets import TicketService
from gateway.store.workspace_store import Store

_TYPES = (
    SaveTicketType(
        "Bug",
        "CUSTOMER",
        attributes=[
            {"name": "Severity", "kind": "LIST", "options": ["low", "high"], "required": True},
            {"name": "Cause", "kind": "LONG_STRING", "visible_to_contacts": False},
        ],
    ),
    SaveTicketType("Refund", "BACK_OFFICE", attributes=[{"name": "Amount", "kind": "DECIMAL"}]),
)
# Title, type, attributes, and the state that it is moved to, if any.
_TICKETS: tuple[tuple[str, str, JsonObject, str | None], ...] = (
    ("The export stops at row 5000", "Bug", {"Severity": "high"}, None),
    ("Dates are an hour off", "Bug", {"Severity": "low"}, "IN_PROGRESS"),
    ("The invitation does not arrive", "Bug", {"Severity": "high"}, "WAITING_ON_CUSTOMER"),
    ("The chart has no legend", "Bug", {"Severity": "low"}, "RESOLVED"),
    ("March was charged twice", "Refund", {"Amount": 49.99}, "IN_PROGRESS"),
    ("A yearly plan was cancelled", "Refund", {"Amount": 480}, "RESOLVED"),
)
_COMMENTS = {
    "IN_PROGRESS": "We can see it too, and are at it.",
    "WAITING_ON_CUSTOMER": "Which address did you send it to?",
    "RESOLVED": "This is put right now.",
}


async def seed_tickets(
    types: TicketTypeService, tickets: TicketService, store: Store, workspace_id: str, now: datetime
) -> None:
    """Seed the tickets; safe to repeat after an interruption."""
    principal = Principal("key_demo", workspace_id, frozenset(Scope))
    ids = {type_.name: await _type(types, store, workspace_id, type_) for type_ in _TYPES}
    for number, (title, type_, attributes, state) in enumerate(_TICKETS):
        ticket = await tickets.create(
            principal,
            CreateTicket(
                contact={"external_id": f"user-{3 * number}"},
                type_id=ids[type_],
                title=title,
                attributes=attributes,
                created_at=now - timedelta(hours=7 * (len(_TICKETS) - number)),
                idempotency_key=f"demo-ticket-{number}",
            ),
        )
        if state is not None and ticket["state"] == "SUBMITTED":
            command = SetTicketState(id=ticket["_id"], state=state, body=_COMMENTS[state])
            await tickets.set_state(principal, command)


async def _type(types: TicketTypeService, store: Store, workspace_id: str, type_: SaveTicketType) -> str:
    ticket_type = await store.open(workspace_id).ticket_types.with_text(type_.name.lower())
    return (ticket_type or await types.save(workspace_id, type_))["_id"]
