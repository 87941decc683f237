"""What tests of tickets say again and again."""

from typing import Any

TICKET = """fragment ticket on Ticket {
  id number title description category state tags isShared snoozedUntil attributes submittedTitle submittedDescription
  resolvedAt partCount type { name } contact { externalId } conversation { id } assignee { name } team { name } }"""
CREATE = f"""mutation($i: CreateTicketInput!) {{ createTicket(input: $i) {{
  ticket {{ ...ticket }} userErrors {{ code message path }} }} }} {TICKET}"""
CONVERT = f"""mutation($i: ConvertToTicketInput!) {{ convertToTicket(input: $i) {{
  ticket {{ ...ticket }} conversation {{ id ticket {{ number }} }} userErrors {{ code message path }} }} }} {TICKET}"""
PART = "part { id kind body fromState toState snoozedUntil author { displayName } assignedTo { id } }"


def _acting(mutation: str) -> str:
    input_ = mutation[0].upper() + mutation[1:] + "Input!"
    return f"""mutation($i: {input_}) {{ {mutation}(input: $i) {{
      ticket {{ ...ticket }} {PART} userErrors {{ code message path }} }} }} {TICKET}"""


REPLY, SET_STATE, ASSIGN, UPDATE = (
    _acting(mutation) for mutation in ("replyToTicket", "setTicketState", "assignTicket", "updateTicket")
)
PARTS = """query($id: ID!) { ticket(by: {id: $id}) { parts(first: 100) { nodes {
  kind body fromState toState author { __typename displayName } assignedTo { id } } } } }"""


async def asked(workspace: Any, document: str, key: str | None = None, **sent: Any) -> Any:
    """The payload of a mutation."""
    (payload,) = (await workspace.data(document, {"i": sent}, key=key)).values()
    return payload


def problems(payload: Any) -> list[tuple[str, list[str]]]:
    return [(problem["code"], problem["path"][1:]) for problem in payload["userErrors"]]


async def type_id(workspace: Any, name: str = "Bug", category: str = "CUSTOMER", **input_: Any) -> str:
    document = "mutation($i: SaveTicketTypeInput!) { saveTicketType(input: $i) { ticketType { id } } }"
    payload = await asked(workspace, document, name=name, category=category, **input_)
    return str(payload["ticketType"]["id"])


async def ticket(workspace: Any, type_: str, **sent: Any) -> Any:
    """A new ticket of the contact u."""
    input_ = {"contact": {"externalId": "u"}, "typeId": type_, "title": "It is broken", **sent}
    payload = await asked(workspace, CREATE, **input_)
    assert payload["userErrors"] == [], payload
    return payload["ticket"]


async def admin(workspace: Any, name: str = "Eve") -> str:
    document = "mutation($i: SaveAdminInput!) { saveAdmin(input: $i) { admin { id } } }"
    payload = await asked(workspace, document, name=name, email=f"{name.lower()}@acme.example")
    return str(payload["admin"]["id"])


async def team(workspace: Any, name: str = "Support") -> str:
    document = "mutation($i: SaveTeamInput!) { saveTeam(input: $i) { team { id } } }"
    return str((await asked(workspace, document, name=name, adminIds=[]))["team"]["id"])


async def parts(workspace: Any, id_: str, key: str | None = None) -> list[Any]:
    found = await workspace.data(PARTS, {"id": id_}, key=key)
    return list(found["ticket"]["parts"]["nodes"])
