"""Conversations: begun, answered and acted on."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.core.principals import Principal
from gateway.core.typed_values import check_metadata
from gateway.domain.contacts.contacts import Document
from gateway.domain.support import conversation_inputs as inputs
from gateway.domain.support.actors import AUTOMATION, Actor, ActorKind
from gateway.domain.support.conversation_inputs import delivered_by
from gateway.domain.support.conversations import (
    SLA_TIMER,
    SNOOZE_TIMER,
    ConversationAggregate,
    DeliveredAs,
    new_conversation,
)
from gateway.domain.support.sla import check_sla
from gateway.domain.support.threads import Changeset, ThreadKind, check_moment
from gateway.errors import ErrorCode, UserProblem
from gateway.services.support.commands import CommandExecutor, CommandResult
from gateway.services.support.teammates import TeammateService
from gateway.services.timers import Handler
from gateway.settings import Settings
from gateway.store.workspace_store import Store

_SUBJECT = ThreadKind.CONVERSATION
Do = Callable[[ConversationAggregate], str | None]


class ConversationService:
    """What can be done to conversations. `speaker` is whose credential it is; `sent` the mutation's input in
    snake_case, without what was omitted; None clears."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        minter: Minter,
        acts: CommandExecutor,
        people: TeammateService,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._minter = minter
        self._acts = acts
        self._people = people

    @property
    def handlers(self) -> dict[str, Handler]:
        """What is done when a conversation's timers go off."""
        return {SNOOZE_TIMER: self.apply_deadlines, SLA_TIMER: self.apply_deadlines}

    async def create(self, speaker: Principal, sent: Mapping[str, Any]) -> Document:
        """A new conversation, of a contact who may be new too."""
        inputs.check_not_by_contact(sent, speaker)
        kept = self._acts.claim("createConversation", sent, speaker)
        if (first := await self._acts.first_result(speaker, _SUBJECT, kept)) is not None:
            return first.document
        values = inputs.check_conversation(sent, self._settings)
        dated = inputs.check_created_at(sent.get("created_at"), self._clock())
        named = await self._named_actor(speaker, sent, values["source"])
        assigned = await self._people.assignees(speaker.workspace_id, sent, nulls=False)
        new_id = self._minter.mint(Prefix.CONVERSATION, dated or self._clock())

        def begin(contact: Document, now: datetime) -> Changeset:
            author = named or Actor(ActorKind.CONTACT, contact["_id"])
            if author.is_contact and author.id != contact["_id"]:
                message = "The actor is another contact than the one whose conversation it is: leave actor out."
                raise UserProblem(ErrorCode.INVALID, message, ("actor", "contactId"))
            begun = {**values, "source": delivered_by(values["source"], author)}
            document = new_conversation(new_id, contact, begun, author, dated or now)
            return ConversationAggregate.created(document, self._minter, assigned).changeset()

        acted = await self._acts.create(
            speaker.workspace_id, _SUBJECT, new_id, sent["contact"], speaker, begin, kept=kept
        )
        return acted.document

    async def reply(self, speaker: Principal, sent: Mapping[str, Any]) -> CommandResult:
        """A reply, or a note for those who answer."""
        inputs.check_not_by_contact(sent, speaker)
        kept = self._acts.claim("replyToConversation", sent, speaker)
        if (first := await self._acts.first_result(speaker, _SUBJECT, kept)) is not None:
            return first
        body, note = str(inputs.check_body(sent["body"])), bool(sent.get("note"))
        dated = inputs.check_created_at(sent.get("created_at"), self._clock())
        actor, id_ = await self._people.actor(speaker, sent.get("actor")), str(sent["conversation_id"])
        if note and actor.is_contact:
            message = "A contact writes no notes: leave note out, or name an admin."
            raise UserProblem(ErrorCode.FORBIDDEN, message, ("note",))
        await self._acts.check_owner(speaker, _SUBJECT, id_, actor, ("conversationId",))

        def decide(stored: Document, now: datetime) -> Changeset:
            check_moment(dated, stored)
            act = ConversationAggregate(stored, actor, dated or now, self._minter)
            return act.changeset(act.note(body) if note else act.comment(body))

        return await self._acts.execute(
            speaker.workspace_id, _SUBJECT, id_, decide, speaker=speaker, kept=kept, path=("conversationId",)
        )

    async def assign(self, speaker: Principal, sent: Mapping[str, Any]) -> CommandResult:
        """Hand it to an admin, a team or both, or to nobody any more."""
        to = await self._people.assignees(speaker.workspace_id, sent)
        if not to:
            message = "Say to whom: assigneeId, teamId or both; null takes it away."
            raise UserProblem(ErrorCode.INVALID, message, ("assigneeId",))
        return await self._execute(speaker, sent, lambda act: act.assign(to))

    async def snooze(self, speaker: Principal, sent: Mapping[str, Any]) -> CommandResult:
        """Put it aside until a time."""
        until = inputs.check_until(sent["until"], self._clock())
        return await self._execute(speaker, sent, lambda act: act.snooze(until))

    async def close(self, speaker: Principal, sent: Mapping[str, Any]) -> CommandResult:
        """End it."""
        body = inputs.check_body(sent.get("body"))
        return await self._execute(speaker, sent, lambda act: act.close(body))

    async def reopen(self, speaker: Principal, sent: Mapping[str, Any]) -> CommandResult:
        """Open it again."""
        body = inputs.check_body(sent.get("body"))
        return await self._execute(speaker, sent, lambda act: act.reopen(body))

    async def mark_read(self, speaker: Principal, sent: Mapping[str, Any]) -> CommandResult:
        """Say that it was read."""
        return await self._execute(speaker, sent, lambda act: act.read())

    async def rate(self, speaker: Principal, sent: Mapping[str, Any]) -> CommandResult:
        """Say what the contact thinks of it; a service's key speaks for that contact."""
        remark = inputs.check_rating(sent["score"], sent.get("remark"))
        if speaker.admin_id is not None:
            message = "An admin does not rate: the contact does, with a token of its own, or a service's key for it."
            raise UserProblem(ErrorCode.FORBIDDEN, message, ("score",))
        own = await self._people.actor(speaker, None) if speaker.contact_id is not None else None
        if own is not None:
            await self._acts.check_owner(speaker, _SUBJECT, str(sent["id"]), own)

        def decide(stored: Document, now: datetime) -> Changeset:
            rater = own or Actor(ActorKind.CONTACT, stored["contact_id"])
            act = ConversationAggregate(stored, rater, now, self._minter)
            return act.changeset(act.rate(sent["score"], remark))

        return await self._acts.execute(speaker.workspace_id, _SUBJECT, str(sent["id"]), decide, speaker=speaker)

    async def update(self, speaker: Principal, sent: Mapping[str, Any]) -> CommandResult:
        """Set title, priority, tags and custom attributes."""
        values = inputs.check_update(sent, self._settings)

        def do(act: ConversationAggregate) -> str | None:
            part_id = act.update(values)
            check_metadata(act.document["custom_attributes"], self._settings, ("customAttributes",))
            return part_id

        return await self._execute(speaker, sent, do)

    async def apply_sla(self, speaker: Principal, sent: Mapping[str, Any]) -> CommandResult:
        """Promise by when it is answered."""
        sla = check_sla(sent)
        return await self._execute(speaker, sent, lambda act: act.apply_sla(sla))

    async def apply_deadlines(self, timer: Document) -> None:
        """What was due happens, if no act has seen to it before."""
        workspace_id, id_ = timer["workspace_id"], timer["subject_id"]

        def decide(stored: Document, now: datetime) -> Changeset:
            return ConversationAggregate(stored, AUTOMATION, now, self._minter).changeset()

        try:
            await self._acts.execute(
                workspace_id, _SUBJECT, id_, decide, within=lambda store, session: store.timers.take(timer, session)
            )
        except UserProblem:  # the conversation is gone
            store = self._store.open(workspace_id)
            await store.database.transaction(partial(store.timers.take, timer))

    async def _execute(self, speaker: Principal, sent: Mapping[str, Any], do: Do) -> CommandResult:
        actor, id_ = await self._people.actor(speaker, sent.get("actor")), str(sent["id"])
        await self._acts.check_owner(speaker, _SUBJECT, id_, actor)

        def decide(stored: Document, now: datetime) -> Changeset:
            act = ConversationAggregate(stored, actor, now, self._minter)
            return act.changeset(do(act))

        return await self._acts.execute(speaker.workspace_id, _SUBJECT, id_, decide, speaker=speaker)

    async def _named_actor(
        self, speaker: Principal, sent: Mapping[str, Any], source: Mapping[str, Any]
    ) -> Actor | None:
        """Who begins a conversation; None is the contact whose it will be."""
        by_customer = source["delivered_as"] == DeliveredAs.CUSTOMER_INITIATED
        named = speaker.contact_id is not None or speaker.admin_id is not None or sent.get("actor")
        if not named and by_customer:
            return None
        return await self._people.actor(speaker, sent.get("actor"))
