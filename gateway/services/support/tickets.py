"""Tickets: opened, answered and acted on."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.core.principals import Principal
from gateway.domain.contacts.contacts import Document
from gateway.domain.contacts.merging import ids_of
from gateway.domain.support import ticket_inputs as inputs
from gateway.domain.support.actors import AUTOMATION, Actor
from gateway.domain.support.conversation_inputs import check_body, check_created_at, check_not_by_contact
from gateway.domain.support.conversations import ConversationAggregate
from gateway.domain.support.threads import Changeset, ThreadKind, check_moment, unknown_thread
from gateway.domain.support.ticket_types import TicketCategory, check_usable, new_values
from gateway.domain.support.tickets import (
    SNOOZE_TIMER,
    TicketAggregate,
    TicketState,
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

_SUBJECT = ThreadKind.TICKET
Do = Callable[[TicketAggregate], str | None]


class TicketService:
    """What can be done to tickets. `speaker` is whose credential it is; `sent` the mutation's input in snake_case,
    without what was omitted; None clears."""

    def __init__(
        self, store: Store, clock: Clock, minter: Minter, acts: CommandExecutor, people: TeammateService
    ) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter
        self._acts = acts
        self._people = people

    @property
    def handlers(self) -> dict[str, Handler]:
        """What is done when a ticket's timer goes off."""
        return {SNOOZE_TIMER: self.apply_deadlines}

    async def create(self, speaker: Principal, sent: Mapping[str, Any]) -> Document:
        """A new ticket, of a contact who may be new too; of a conversation if one is named."""
        check_not_by_contact(sent, speaker)
        return await self._create(speaker, sent, "createTicket", sent["contact"], sent.get("conversation_id"))

    async def convert(self, speaker: Principal, sent: Mapping[str, Any]) -> Document:
        """A new ticket of a conversation, which is of that conversation's contact."""
        conversation_id = str(sent["conversation_id"])
        store = self._store.open(speaker.workspace_id)
        conversation = (await store.conversations.by_ids([conversation_id])).get(conversation_id)
        if conversation is None:
            raise unknown_thread(ThreadKind.CONVERSATION, conversation_id, ("conversationId",))
        contact = {"id": conversation["contact_id"]}
        return await self._create(speaker, sent, "convertToTicket", contact, conversation_id)

    async def reply(self, speaker: Principal, sent: Mapping[str, Any]) -> CommandResult:
        """A reply, or a note for those who answer."""
        check_not_by_contact(sent, speaker)
        kept = self._acts.claim("replyToTicket", sent, speaker)
        if (first := await self._acts.first_result(speaker, _SUBJECT, kept)) is not None:
            return first
        body, note = str(check_body(sent["body"])), bool(sent.get("note"))
        dated = check_created_at(sent.get("created_at"), self._clock())
        actor, id_ = await self._people.actor(speaker, sent.get("actor")), str(sent["ticket_id"])
        if note and actor.is_contact:
            message = "A contact writes no notes: leave note out, or name an admin."
            raise UserProblem(ErrorCode.FORBIDDEN, message, ("note",))
        await self._acts.check_owner(speaker, _SUBJECT, id_, actor, ("ticketId",))

        def decide(stored: Document, now: datetime) -> Changeset:
            _check_seen(stored, speaker, actor, ("ticketId",))
            check_moment(dated, stored)
            act = TicketAggregate(stored, actor, dated or now, self._minter)
            return act.changeset(act.reply(body, note=note))

        return await self._acts.execute(
            speaker.workspace_id, _SUBJECT, id_, decide, speaker=speaker, kept=kept, path=("ticketId",)
        )

    async def set_state(self, speaker: Principal, sent: Mapping[str, Any]) -> CommandResult:
        """Move it to another state, with a word if there is one."""
        state, body = TicketState(sent["state"]), check_body(sent.get("body"))
        return await self._execute(speaker, sent, lambda act: act.set_state(state, body))

    async def assign(self, speaker: Principal, sent: Mapping[str, Any]) -> CommandResult:
        """Hand it to an admin, a team or both, or to nobody any more."""
        to = await self._people.assignees(speaker.workspace_id, sent)
        if not to:
            message = "Say to whom: assigneeId, teamId or both; null takes it away."
            raise UserProblem(ErrorCode.INVALID, message, ("assigneeId",))
        return await self._execute(speaker, sent, lambda act: act.assign(to))

    async def update(self, speaker: Principal, sent: Mapping[str, Any]) -> CommandResult:
        """Edit what it says, tag it, share it or not, put it aside or wake it."""
        values, id_ = inputs.check_update(sent, self._clock()), str(sent["id"])
        store = self._store.open(speaker.workspace_id)
        stored = (await store.tickets.by_ids([id_])).get(id_)
        if stored is None:
            raise unknown_thread(_SUBJECT, id_, ("id",))
        type_ = (await store.ticket_types.by_ids([stored["type_id"]]))[stored["type_id"]]
        return await self._execute(speaker, sent, lambda act: act.update(type_, values))

    async def apply_deadlines(self, timer: Document) -> None:
        """Who slept wakes, if no act has seen to it before."""
        workspace_id, id_ = timer["workspace_id"], timer["subject_id"]

        def decide(stored: Document, now: datetime) -> Changeset:
            return TicketAggregate(stored, AUTOMATION, now, self._minter).changeset()

        try:
            await self._acts.execute(
                workspace_id, _SUBJECT, id_, decide, within=lambda store, session: store.timers.take(timer, session)
            )
        except UserProblem:  # the ticket is gone
            store = self._store.open(workspace_id)
            await store.database.transaction(partial(store.timers.take, timer))

    async def _execute(self, speaker: Principal, sent: Mapping[str, Any], do: Do) -> CommandResult:
        actor, id_ = await self._people.actor(speaker, sent.get("actor")), str(sent["id"])
        await self._acts.check_owner(speaker, _SUBJECT, id_, actor)

        def decide(stored: Document, now: datetime) -> Changeset:
            _check_seen(stored, speaker, actor, ("id",))
            act = TicketAggregate(stored, actor, now, self._minter)
            return act.changeset(do(act))

        return await self._acts.execute(speaker.workspace_id, _SUBJECT, id_, decide, speaker=speaker)

    async def _create(
        self,
        speaker: Principal,
        sent: Mapping[str, Any],
        mutation: str,
        contact: Mapping[str, Any],
        conversation_id: str | None,
    ) -> Document:
        kept = self._acts.claim(mutation, sent, speaker)
        if (first := await self._acts.first_result(speaker, _SUBJECT, kept)) is not None:
            return first.document
        values = inputs.check_ticket(sent)
        dated = check_created_at(sent.get("created_at"), self._clock())
        actor = await self._people.actor(speaker, sent.get("actor"))
        type_ = await self._type(speaker, sent["type_id"], actor)
        attributes = sent.get("attributes") or {}
        values["attributes"] = new_values(type_, attributes, by_contact=actor.is_contact, path=("attributes",))
        values["is_shared"] = values["is_shared"] and type_["category"] == TicketCategory.CUSTOMER
        assigned = await self._people.assignees(speaker.workspace_id, sent, nulls=False)
        new_id = self._minter.mint(Prefix.TICKET, dated or self._clock())
        opening = _Opening(self._acts, self._minter, conversation_id)

        def begin(found: Document, now: datetime) -> Changeset:
            _check_own(actor, found)
            document = new_ticket(new_id, found, type_, values, actor, dated or now)
            if conversation_id is not None:
                document["conversation_id"] = conversation_id
            return opening.of(TicketAggregate.created(document, self._minter, assigned).changeset(), found, actor, now)

        acted = await self._acts.create(
            speaker.workspace_id, _SUBJECT, new_id, contact, speaker, begin, kept=kept, within=opening.store
        )
        return acted.document

    async def _type(self, speaker: Principal, type_id: str, actor: Actor) -> Document:
        """The type of a new ticket, if whoever acts may open tickets of it; UserProblem."""
        found = (await self._store.open(speaker.workspace_id).ticket_types.by_ids([type_id])).get(type_id)
        if found is not None and actor.is_contact and found["category"] != TicketCategory.CUSTOMER:
            if speaker.contact_id is None:
                message = f"A contact opens CUSTOMER tickets alone, and '{found['name']}' is {found['category']}."
                raise UserProblem(ErrorCode.FORBIDDEN, message, ("typeId",))
            found = None
        return check_usable(found, type_id, ("typeId",))


class _Opening:
    """What is stored beside a new ticket, in its transaction: its number, and that its conversation has it."""

    def __init__(self, acts: CommandExecutor, minter: Minter, conversation_id: str | None) -> None:
        self._acts = acts
        self._minter = minter
        self._conversation_id = conversation_id

    def of(self, change: Changeset, contact: Document, actor: Actor, now: datetime) -> Changeset:
        """The change that this attempt stores."""
        self._change, self._contact, self._actor, self._now = change, contact, actor, now
        return change

    async def store(self, store: WorkspaceStore, session: Session) -> None:
        """Store it. The number is taken here, so that a ticket that is not stored leaves no gap."""
        numbered(self._change.after, await store.ticket_numbers.take(session))
        if self._conversation_id is None:
            return
        id_, ticket = self._conversation_id, self._change.after
        conversation = (await store.conversations.by_ids([id_], session)).get(id_)
        if conversation is None or conversation["contact_id"] not in ids_of(self._contact):
            raise unknown_thread(ThreadKind.CONVERSATION, id_, ("conversationId",))
        act = ConversationAggregate(conversation, self._actor, self._now, self._minter)
        act.convert(ticket["_id"], public=is_public(ticket))
        line_id = self._minter.mint(Prefix.CHANGE, self._now)
        await self._acts.persist(store, act.changeset(), line_id, self._now, session)


def _check_own(actor: Actor, contact: Mapping[str, Any]) -> None:
    if actor.is_contact and actor.id != contact["_id"]:
        message = "The actor is another contact than the one whose ticket it is: leave actor out."
        raise UserProblem(ErrorCode.FORBIDDEN, message, ("actor", "contactId"))


def _check_seen(ticket: Mapping[str, Any], speaker: Principal, actor: Actor, path: tuple[str, ...]) -> None:
    """Pass where whoever acts sees the ticket: what a token does not see is not there for it."""
    if speaker.contact_id is not None and not is_public(ticket):
        raise unknown_thread(_SUBJECT, ticket["_id"], path)
    check_shared_with(ticket, actor)
