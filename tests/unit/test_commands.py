"""Every command has the fields of its GraphQL input, with defaults where the input may omit them."""

from dataclasses import MISSING, fields
from typing import Any, get_type_hints

import pytest

from gateway.core.idempotency import request_of
from gateway.core.unset import UNSET
from gateway.domain.contacts.commands import IdentifyContact
from gateway.domain.contacts.documents import ContactRefFields
from gateway.domain.events.documents import NamedCounts
from gateway.domain.events.events import DescribeEvent, EventFields
from gateway.domain.messages.rules import PreviewMessage, SaveMessageRule, SendMessage
from gateway.domain.support import commands
from resolvers import (
    contact_mutations,
    conversation_mutations,
    events,
    messages,
    teammates,
    ticket_mutations,
    ticket_types,
)
from resolvers.inputs import command

PAIRS = [
    (conversation_mutations.CreateConversationInput, commands.CreateConversation),
    (conversation_mutations.ReplyToConversationInput, commands.ReplyToConversation),
    (conversation_mutations.AssignConversationInput, commands.AssignThread),
    (conversation_mutations.SnoozeConversationInput, commands.SnoozeConversation),
    (conversation_mutations.CloseConversationInput, commands.CloseConversation),
    (conversation_mutations.ReopenConversationInput, commands.ReopenConversation),
    (conversation_mutations.MarkConversationReadInput, commands.MarkConversationRead),
    (conversation_mutations.RateConversationInput, commands.RateConversation),
    (conversation_mutations.UpdateConversationInput, commands.UpdateConversation),
    (conversation_mutations.ApplySlaInput, commands.ApplySla),
    (ticket_mutations.CreateTicketInput, commands.CreateTicket),
    (ticket_mutations.ConvertToTicketInput, commands.ConvertToTicket),
    (ticket_mutations.ReplyToTicketInput, commands.ReplyToTicket),
    (ticket_mutations.SetTicketStateInput, commands.SetTicketState),
    (ticket_mutations.AssignTicketInput, commands.AssignThread),
    (ticket_mutations.UpdateTicketInput, commands.UpdateTicket),
    (ticket_types.SaveTicketTypeInput, commands.SaveTicketType),
    (teammates.SaveAdminInput, commands.SaveAdmin),
    (teammates.SaveTeamInput, commands.SaveTeam),
    (messages.SaveMessageRuleInput, SaveMessageRule),
    (messages.PreviewMessageRuleInput, PreviewMessage),
    (messages.SendMessageInput, SendMessage),
    (events.DescribeEventInput, DescribeEvent),
    (contact_mutations.IdentifyContactInput, IdentifyContact),
]
FIELDS = [
    (events.TrackEventInput, EventFields),
    (events.EventSummaryInput, NamedCounts),
    (events.ContactRef, ContactRefFields),
    (teammates.ActorRef, commands.ActorRef),
    (ticket_types.TicketAttributeInput, commands.TicketAttributeFields),
]


@pytest.mark.parametrize(("input_", "type_"), PAIRS, ids=lambda one: one.__name__)
def test_a_command_has_the_fields_of_its_input(input_: Any, type_: Any) -> None:
    given = {field.name: field for field in fields(input_)}
    taken = {field.name: field for field in fields(type_)}
    assert given.keys() == taken.keys()
    for name, field in given.items():
        assert field.default is MISSING or taken[name].default in (None, UNSET, True), name


@pytest.mark.parametrize(("input_", "type_"), FIELDS, ids=lambda one: one.__name__)
def test_typed_fields_are_those_of_an_input(input_: Any, type_: Any) -> None:
    assert {field.name for field in fields(input_)} <= get_type_hints(type_).keys()


def test_omitted_and_null_fields_are_told_apart() -> None:
    omitted = command(commands.UpdateTicket, ticket_mutations.UpdateTicketInput(id="tkt_1"), nulls=True)
    cleared = command(
        commands.UpdateTicket, ticket_mutations.UpdateTicketInput(id="tkt_1", description=None), nulls=True
    )
    assert omitted == commands.UpdateTicket(id="tkt_1")
    assert (omitted.description, cleared.description) == (UNSET, None)


def test_a_request_is_what_the_input_provided() -> None:
    input_ = conversation_mutations.ReplyToConversationInput(conversation_id="cnv_1", body="Hi", idempotency_key="k")
    assert request_of(command(commands.ReplyToConversation, input_)) == {
        "conversation_id": "cnv_1",
        "body": "Hi",
        "note": False,
    }
