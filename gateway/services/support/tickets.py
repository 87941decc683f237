"""Commands on tickets."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.core.principals import Principal
from gateway.domain.changes import new_change_id
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.merging import ids_of
from gateway.domain.support import ticket_inputs as inputs
from gateway.domain.support.actors import AUTOMATION, Actor
from gateway.domain.support.conversation_inputs import check_body, check_created_at, check_not_by_contact
from gateway.domain.support.conversations import ConversationAggregate
from gateway.domain.support.threads import Changeset, ThreadKind, check_moment, unknown_thread
from gateway.domain.support.ticket_states import TicketState
from gateway.domain.support.ticket_types import TicketCategory, check_usable, new_values
from gateway.domain.support.tickets import (
    SNOOZE_TIMER,
    TicketAggregate,
    check_shared_with,
    is_public,
    new_ticket,
    numbered,
)
from gateway.errors import ErrorCode, UserProblem
from gateway.services.support.commands import CommandExecutor, CommandResult
from gateway.services.support.teammates import TeammateService
from gateway.services.timers import Handler
from gateway.store.driver import Session
from gateway.store.workspace_store import Store, WorkspaceStore

_KIND = ThreadKind.TICKET
Do = Callable[[TicketAggregate], str | None]


class TicketService:
    """Commands on tickets. `fields`: the given input fields in snake_case; None clears."""

    def __init__(
        self, store: Store, clock: Clock, minter: Minter, commands: CommandExecutor, teammates: TeammateService
    ) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter
        self._commands = commands
        self._teammates = teammates

    @property
    def handlers(self) -> dict[str, Handler]:
        """The handler of each kind of timer."""
        return {SNOOZE_TIMER: self.apply_deadlines}

    async def create(self, principal: Principal, fields: Mapping[str, Any]) -> Document:
        """Create a ticket, and its contact if it does not exist."""
        check_not_by_contact(fields, principal)
        return await self._create(principal, fields, "createTicket", fields["contact"], fields.get("conversation_id"))

    async def convert(self, principal: Principal, fields: Mapping[str, Any]) -> Document:
        """Create a ticket for the contact of a conversation."""
        conversation_id = str(fields["conversation_id"])
        store = self._store.open(principal.workspace_id)
        conversation = (await store.conversations.by_ids([conversation_id])).get(conversation_id)
        if conversation is None:
            raise unknown_thread(ThreadKind.CONVERSATION, conversation_id, ("conversationId",))
        contact = {"id": conversation["contact_id"]}
        return await self._create(principal, fields, "convertToTicket", contact, conversation_id)

    async def reply(self, principal: Principal, fields: Mapping[str, Any]) -> CommandResult:
        """Add a reply, or a note for teammates."""
        check_not_by_contact(fields, principal)
        key_claim = self._commands.claim("replyToTicket", fields, principal)
        if (first := await self._commands.first_result(principal, _KIND, key_claim)) is not None:
            return first
        body, note = str(check_body(fields["body"])), bool(fields.get("note"))
        created_at = check_created_at(fields.get("created_at"), self._clock())
        actor, id_ = await self._teammates.actor(principal, fields.get("actor")), str(fields["ticket_id"])
        if note and actor.is_contact:
            message = "A contact writes no notes: leave note out, or name an admin."
            raise UserProblem(ErrorCode.FORBIDDEN, message, ("note",))
        await self._commands.check_owner(principal, _KIND, id_, actor, ("ticketId",))

        def apply(stored: Document, now: datetime) -> Changeset:
            _check_visible(stored, principal, actor, ("ticketId",))
            check_moment(created_at, stored)
            aggregate = TicketAggregate(stored, actor, created_at or now, self._minter)
            return aggregate.changeset(aggregate.reply(body, note=note))

        return await self._commands.execute(
            principal.workspace_id, _KIND, id_, apply, principal=principal, key_claim=key_claim, path=("ticketId",)
        )

    async def set_state(self, principal: Principal, fields: Mapping[str, Any]) -> CommandResult:
        """Move it to another state, with an optional comment."""
        state, body = TicketState(fields["state"]), check_body(fields.get("body"))
        return await self._execute(principal, fields, lambda aggregate: aggregate.set_state(state, body))

    async def assign(self, principal: Principal, fields: Mapping[str, Any]) -> CommandResult:
        """Assign it to an admin, a team or both; None removes an assignee."""
        assignees = await self._teammates.assignees(principal.workspace_id, fields)
        if not assignees:
            message = "Say to whom: assigneeId, teamId or both; null takes it away."
            raise UserProblem(ErrorCode.INVALID, message, ("assigneeId",))
        return await self._execute(principal, fields, lambda aggregate: aggregate.assign(assignees))

    async def update(self, principal: Principal, fields: Mapping[str, Any]) -> CommandResult:
        """Edit its attributes, tags and visibility; snooze it or end a snooze."""
        values, id_ = inputs.check_update(fields, self._clock()), str(fields["id"])
        store = self._store.open(principal.workspace_id)
        stored = (await store.tickets.by_ids([id_])).get(id_)
        if stored is None:
            raise unknown_thread(_KIND, id_, ("id",))
        type_ = (await store.ticket_types.by_ids([stored["type_id"]]))[stored["type_id"]]
        return await self._execute(principal, fields, lambda aggregate: aggregate.update(type_, values))

    async def apply_deadlines(self, timer: Document) -> None:
        """End a snooze that is due, unless a command already did."""
        workspace_id, id_ = timer["workspace_id"], timer["subject_id"]

        def apply(stored: Document, now: datetime) -> Changeset:
            return TicketAggregate(stored, AUTOMATION, now, self._minter).changeset()

        try:
            await self._commands.execute(
                workspace_id, _KIND, id_, apply, also_write=lambda store, session: store.timers.take(timer, session)
            )
        except UserProblem:  # the ticket is gone
            store = self._store.open(workspace_id)
            await store.database.transaction(partial(store.timers.take, timer))

    async def _execute(self, principal: Principal, fields: Mapping[str, Any], do: Do) -> CommandResult:
        actor, id_ = await self._teammates.actor(principal, fields.get("actor")), str(fields["id"])
        await self._commands.check_owner(principal, _KIND, id_, actor)

        def apply(stored: Document, now: datetime) -> Changeset:
            _check_visible(stored, principal, actor, ("id",))
            aggregate = TicketAggregate(stored, actor, now, self._minter)
            return aggregate.changeset(do(aggregate))

        return await self._commands.execute(principal.workspace_id, _KIND, id_, apply, principal=principal)

    async def _create(
        self,
        principal: Principal,
        fields: Mapping[str, Any],
        mutation: str,
        contact: Mapping[str, Any],
        conversation_id: str | None,
    ) -> Document:
        key_claim = self._commands.claim(mutation, fields, principal)
        if (first := await self._commands.first_result(principal, _KIND, key_claim)) is not None:
            return first.document
        values = inputs.check_ticket(fields)
        created_at = check_created_at(fields.get("created_at"), self._clock())
        actor = await self._teammates.actor(principal, fields.get("actor"))
        type_ = await self._type(principal, fields["type_id"], actor)
        attributes = fields.get("attributes") or {}
        values["attributes"] = new_values(type_, attributes, by_contact=actor.is_contact, path=("attributes",))
        values["is_shared"] = values["is_shared"] and type_["category"] == TicketCategory.CUSTOMER
        assignees = await self._teammates.assignees(principal.workspace_id, fields, nulls=False)
        new_id = self._minter.mint(Prefix.TICKET, created_at or self._clock())
        opening = _Opening(self._commands, self._minter, conversation_id)

        def begin(contact_row: Document, now: datetime) -> Changeset:
            _check_contact_is_actor(actor, contact_row)
            document = new_ticket(new_id, contact_row, type_, values, actor, created_at or now)
            if conversation_id is not None:
                document["conversation_id"] = conversation_id
            return opening.of(
                TicketAggregate.created(document, self._minter, assignees).changeset(), contact_row, actor, now
            )

        result = await self._commands.create(
            principal.workspace_id,
            _KIND,
            new_id,
            contact,
            principal,
            begin,
            key_claim=key_claim,
            also_write=opening.store,
        )
        return result.document

    async def _type(self, principal: Principal, type_id: str, actor: Actor) -> Document:
        """Raise UserProblem if the actor may not open tickets of that type."""
        type_ = (await self._store.open(principal.workspace_id).ticket_types.by_ids([type_id])).get(type_id)
        if type_ is not None and actor.is_contact and type_["category"] != TicketCategory.CUSTOMER:
            if principal.contact_id is None:
                message = f"A contact opens CUSTOMER tickets alone, and '{type_['name']}' is {type_['category']}."
                raise UserProblem(ErrorCode.FORBIDDEN, message, ("typeId",))
            type_ = None
        return check_usable(type_, type_id, ("typeId",))


class _Opening:
    """Numbers a new ticket and links it to its conversation, in the transaction of the ticket."""

    def __init__(self, commands: CommandExecutor, minter: Minter, conversation_id: str | None) -> None:
        self._commands = commands
        self._minter = minter
        self._conversation_id = conversation_id

    def of(self, changeset: Changeset, contact: Document, actor: Actor, now: datetime) -> Changeset:
        """Keep the changeset of this attempt for `store`."""
        self._changeset, self._contact, self._actor, self._now = changeset, contact, actor, now
        return changeset

    async def store(self, store: WorkspaceStore, session: Session) -> None:
        """Take the number in the transaction, so that an aborted ticket leaves no gap."""
        numbered(self._changeset.after, await store.ticket_numbers.take(session))
        if self._conversation_id is None:
            return
        id_, ticket = self._conversation_id, self._changeset.after
        conversation = (await store.conversations.by_ids([id_], session)).get(id_)
        if conversation is None or conversation["contact_id"] not in ids_of(self._contact):
            raise unknown_thread(ThreadKind.CONVERSATION, id_, ("conversationId",))
        aggregate = ConversationAggregate(conversation, self._actor, self._now, self._minter)
        aggregate.convert(ticket["_id"], public=is_public(ticket))
        change_id = new_change_id(self._minter, self._now)
        await self._commands.persist(store, aggregate.changeset(), change_id, self._now, session)


def _check_contact_is_actor(actor: Actor, contact: Mapping[str, Any]) -> None:
    if actor.is_contact and actor.id != contact["_id"]:
        message = "The actor is another contact than the one whose ticket it is: leave actor out."
        raise UserProblem(ErrorCode.FORBIDDEN, message, ("actor", "contactId"))


def _check_visible(ticket: Mapping[str, Any], principal: Principal, actor: Actor, path: tuple[str, ...]) -> None:
    """To a token an invisible ticket does not exist."""
    if principal.contact_id is not None and not is_public(ticket):
        raise unknown_thread(_KIND, ticket["_id"], path)
    check_shared_with(ticket, actor)
