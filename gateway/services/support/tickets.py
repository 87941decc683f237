"""Commands on tickets."""

from datetime import datetime
from typing import ClassVar

from gateway.core.clock import Clock
from gateway.core.idempotency import Claim
from gateway.core.ids import Minter, Prefix
from gateway.core.principals import Principal
from gateway.core.text_rules import check_tags
from gateway.domain.changes import new_change_id
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.contacts.merging import ids_of
from gateway.domain.support import ticket_inputs as inputs
from gateway.domain.support.actors import Actor
from gateway.domain.support.commands import ConvertToTicket, CreateTicket, SetTicketState, UpdateTicket
from gateway.domain.support.conversation_inputs import check_body, check_created_at, check_not_by_contact
from gateway.domain.support.conversations import ConversationAggregate
from gateway.domain.support.documents import TicketDocument, TicketTypeDocument
from gateway.domain.support.threads import Changeset, ThreadKind, unknown_thread
from gateway.domain.support.ticket_states import TicketState
from gateway.domain.support.ticket_types import TicketCategory, check_usable, new_values
from gateway.domain.support.tickets import (
    SNOOZE_TIMER,
    NewTicket,
    TicketAggregate,
    check_shared_with,
    is_public,
    new_ticket,
    numbered,
)
from gateway.errors import ErrorCode, UserProblem
from gateway.services.support.commands import CommandExecutor, CommandResult
from gateway.services.support.teammates import TeammateService
from gateway.services.support.threads import ThreadService
from gateway.services.timers import Handler
from gateway.store.driver import Session
from gateway.store.workspace_store import Store, WorkspaceStore

Result = CommandResult[TicketDocument]


class TicketService(ThreadService[TicketAggregate, TicketDocument]):
    KIND: ClassVar[ThreadKind] = ThreadKind.TICKET

    def __init__(
        self, store: Store, clock: Clock, minter: Minter, commands: CommandExecutor, teammates: TeammateService
    ) -> None:
        super().__init__(store, clock, minter, commands, teammates, TicketAggregate)

    @property
    def handlers(self) -> dict[str, Handler]:
        return {SNOOZE_TIMER: self.apply_deadlines}

    async def create(self, principal: Principal, command: CreateTicket) -> TicketDocument:
        check_not_by_contact(command, principal)
        return await self._create(principal, command, self._commands.claim("createTicket", command, principal))

    async def convert(self, principal: Principal, command: ConvertToTicket) -> TicketDocument:
        store = self._store.open(principal.workspace_id)
        conversation = await store.conversations.get(command.conversation_id)
        if conversation is None:
            raise unknown_thread(ThreadKind.CONVERSATION, command.conversation_id, ("conversationId",))
        key_claim = self._commands.claim("convertToTicket", command, principal)
        ticket = CreateTicket(
            contact={"id": conversation["contact_id"]},
            type_id=command.type_id,
            title=command.title,
            description=command.description,
            attributes=command.attributes,
            actor=command.actor,
            conversation_id=command.conversation_id,
        )
        return await self._create(principal, ticket, key_claim)

    async def set_state(self, principal: Principal, command: SetTicketState) -> Result:
        state, body = TicketState(command.state), None if command.body is None else check_body(command.body)
        return await self._execute(principal, command, lambda aggregate: aggregate.set_state(state, body))

    async def update(self, principal: Principal, command: UpdateTicket) -> Result:
        """Edit its attributes, tags and visibility; snooze it or end a snooze."""
        values = inputs.check_update(command, self._clock())
        store = self._store.open(principal.workspace_id)
        stored = await store.tickets.get(command.id)
        if stored is None:
            raise unknown_thread(self.KIND, command.id, ("id",))
        type_ = (await store.ticket_types.by_ids([stored["type_id"]]))[stored["type_id"]]
        return await self._execute(principal, command, lambda aggregate: aggregate.update(type_, values))

    def _check_visible(self, thread: TicketDocument, principal: Principal, actor: Actor, path: tuple[str, ...]) -> None:
        # To a token an invisible ticket does not exist.
        if principal.contact_id is not None and not is_public(thread):
            raise unknown_thread(self.KIND, thread["_id"], path)
        check_shared_with(thread, actor)

    async def _create(self, principal: Principal, command: CreateTicket, key_claim: Claim | None) -> TicketDocument:
        first: Result | None = await self._commands.first_result(principal, self.KIND, key_claim)
        if first is not None:
            return first.document
        title, description = inputs.check_title(command.title), inputs.check_description(command.description)
        tags, created_at = check_tags(command.tags or (), "tags"), check_created_at(command.created_at, self._clock())
        actor = await self._teammates.actor(principal, command.actor)
        type_ = await self._type(principal, command.type_id, actor)
        by_contact, path = actor.is_contact, ("attributes",)
        values: NewTicket = {
            "title": title,
            "description": description,
            "tags": tags,
            "is_shared": command.is_shared is not False and type_["category"] == TicketCategory.CUSTOMER,
            "attributes": new_values(type_, command.attributes or {}, by_contact=by_contact, path=path),
        }
        assignees = await self._teammates.assignees_of_new(principal.workspace_id, command)
        conversation_id = command.conversation_id
        new_id = self._minter.mint(Prefix.TICKET, created_at or self._clock())
        opening = _Opening(self._commands, self._minter, conversation_id)

        def begin(contact_row: ContactDocument, now: datetime) -> Changeset[TicketDocument]:
            _check_contact_is_actor(actor, contact_row)
            document = new_ticket(new_id, contact_row, type_, values, actor, created_at or now)
            if conversation_id is not None:
                document["conversation_id"] = conversation_id
            return opening.of(
                TicketAggregate.created(document, self._minter, assignees).changeset(), contact_row, actor, now
            )

        result = await self._commands.create(
            principal.workspace_id,
            self.KIND,
            new_id,
            command.contact,
            principal,
            begin,
            key_claim=key_claim,
            also_write=opening.store,
        )
        return result.document

    async def _type(self, principal: Principal, type_id: str, actor: Actor) -> TicketTypeDocument:
        """Raise UserProblem if the actor may not open tickets of that type."""
        type_ = await self._store.open(principal.workspace_id).ticket_types.get(type_id)
        if type_ is not None and actor.is_contact and type_["category"] != TicketCategory.CUSTOMER:
            if principal.contact_id is None:
                message = f"A contact can create only CUSTOMER tickets, but '{type_['name']}' is {type_['category']}."
                raise UserProblem(ErrorCode.FORBIDDEN, message, ("typeId",))
            type_ = None
        return check_usable(type_, type_id, ("typeId",))


class _Opening:
    """Numbers a new ticket and links it to its conversation, in the transaction of the ticket."""

    def __init__(self, commands: CommandExecutor, minter: Minter, conversation_id: str | None) -> None:
        self._commands = commands
        self._minter = minter
        self._conversation_id = conversation_id

    def of(
        self, changeset: Changeset[TicketDocument], contact: ContactDocument, actor: Actor, now: datetime
    ) -> Changeset[TicketDocument]:
        """Keep the changeset of this attempt for `store`."""
        self._changeset, self._contact, self._actor, self._now = changeset, contact, actor, now
        return changeset

    async def store(self, store: WorkspaceStore, session: Session) -> None:
        """Take the number in the transaction, so that an aborted ticket leaves no gap."""
        numbered(self._changeset.after, await store.ticket_numbers.take(session))
        if self._conversation_id is None:
            return
        id_, ticket = self._conversation_id, self._changeset.after
        conversation = await store.conversations.get(id_, session)
        if conversation is None or conversation["contact_id"] not in ids_of(self._contact):
            raise unknown_thread(ThreadKind.CONVERSATION, id_, ("conversationId",))
        aggregate = ConversationAggregate(conversation, self._actor, self._now, self._minter)
        aggregate.convert(ticket["_id"], public=is_public(ticket))
        change_id = new_change_id(self._minter, self._now)
        await self._commands.persist(store, aggregate.changeset(), change_id, self._now, session)


def _check_contact_is_actor(actor: Actor, contact: ContactDocument) -> None:
    if actor.is_contact and actor.id != contact["_id"]:
        message = "The actor is a contact, but not the one of the ticket: leave actor out."
        raise UserProblem(ErrorCode.FORBIDDEN, message, ("actor", "contactId"))
