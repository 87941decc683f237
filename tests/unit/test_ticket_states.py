"""A ticket's states: the table in the code is the one that people read."""

import re
from pathlib import Path

from gateway.domain.support.tickets import AFTER_CONTACTS_REPLY, TRANSITIONS, TicketState

GUIDE = Path(__file__).parents[2] / "docs" / "tickets.md"


def test_the_guide_prints_the_table() -> None:
    rows = re.findall(r"^\| (\w+) \| (.*) \|$", GUIDE.read_text(), re.M)
    printed = {
        name: {state for state, cell in zip(TicketState, cells.split("|"), strict=True) if cell.strip() == "yes"}
        for name, cells in rows
        if name in TicketState.__members__
    }
    assert printed == {state.value: set(following) for state, following in TRANSITIONS.items()}


def test_a_reply_leads_where_the_table_allows() -> None:
    assert all(after in TRANSITIONS[before] for before, after in AFTER_CONTACTS_REPLY.items())
