"""Commands on conversations."""

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

_KIND = ThreadKind.CONVERSATION
Do = Callable[[ConversationAggregate], str | None]


class ConversationService:
    """Commands on conversations. `fields`: the given input fields in snake_case; None clears."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        minter: Minter,
        commands: CommandExecutor,
        teammates: TeammateService,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._minter = minter
        self._commands = commands
        self._teammates = teammates

    @property
    def handlers(self) -> dict[str, Handler]:
        return {SNOOZE_TIMER: self.apply_deadlines, SLA_TIMER: self.apply_deadlines}

    async def create(self, principal: Principal, fields: Mapping[str, Any]) -> Document:
        inputs.check_not_by_contact(fields, principal)
        key_claim = self._commands.claim("createConversation", fields, principal)
        if (first := await self._commands.first_result(principal, _KIND, key_claim)) is not None:
            return first.document
        values = inputs.check_conversation(fields, self._settings)
        created_at = inputs.check_created_at(fields.get("created_at"), self._clock())
        named_actor = await self._named_actor(principal, fields, values["source"])
        assignees = await self._teammates.assignees(principal.workspace_id, fields, nulls=False)
        new_id = self._minter.mint(Prefix.CONVERSATION, created_at or self._clock())

        def begin(contact: Document, now: datetime) -> Changeset:
            author = named_actor or Actor(ActorKind.CONTACT, contact["_id"])
            if author.is_contact and author.id != contact["_id"]:
                message = "The actor is a contact, but not the one of the conversation: leave actor out."
                raise UserProblem(ErrorCode.INVALID, message, ("actor", "contactId"))
            all_values = {**values, "source": delivered_by(values["source"], author)}
            document = new_conversation(new_id, contact, all_values, author, created_at or now)
            return ConversationAggregate.created(document, self._minter, assignees).changeset()

        result = await self._commands.create(
            principal.workspace_id, _KIND, new_id, fields["contact"], principal, begin, key_claim=key_claim
        )
        return result.document

    async def reply(self, principal: Principal, fields: Mapping[str, Any]) -> CommandResult:
        inputs.check_not_by_contact(fields, principal)
        key_claim = self._commands.claim("replyToConversation", fields, principal)
        if (first := await self._commands.first_result(principal, _KIND, key_claim)) is not None:
            return first
        body, note = str(inputs.check_body(fields["body"])), bool(fields.get("note"))
        created_at = inputs.check_created_at(fields.get("created_at"), self._clock())
        actor, id_ = await self._teammates.actor(principal, fields.get("actor")), str(fields["conversation_id"])
        if note and actor.is_contact:
            message = "A contact cannot write notes: leave note out, or give an admin as actor."
            raise UserProblem(ErrorCode.FORBIDDEN, message, ("note",))
        await self._commands.check_owner(principal, _KIND, id_, actor, ("conversationId",))

        def apply(stored: Document, now: datetime) -> Changeset:
            check_moment(created_at, stored)
            aggregate = ConversationAggregate(stored, actor, created_at or now, self._minter)
            return aggregate.changeset(aggregate.note(body) if note else aggregate.comment(body))

        return await self._commands.execute(
            principal.workspace_id,
            _KIND,
            id_,
            apply,
            principal=principal,
            key_claim=key_claim,
            path=("conversationId",),
        )

    async def assign(self, principal: Principal, fields: Mapping[str, Any]) -> CommandResult:
        """Assign it to an admin, a team or both; None removes an assignee."""
        assignees = await self._teammates.assignees(principal.workspace_id, fields)
        if not assignees:
            message = "The assignment is missing: give assigneeId, teamId or both; null removes one."
            raise UserProblem(ErrorCode.INVALID, message, ("assigneeId",))
        return await self._execute(principal, fields, lambda aggregate: aggregate.assign(assignees))

    async def snooze(self, principal: Principal, fields: Mapping[str, Any]) -> CommandResult:
        until = inputs.check_until(fields["until"], self._clock())
        return await self._execute(principal, fields, lambda aggregate: aggregate.snooze(until))

    async def close(self, principal: Principal, fields: Mapping[str, Any]) -> CommandResult:
        body = inputs.check_body(fields.get("body"))
        return await self._execute(principal, fields, lambda aggregate: aggregate.close(body))

    async def reopen(self, principal: Principal, fields: Mapping[str, Any]) -> CommandResult:
        body = inputs.check_body(fields.get("body"))
        return await self._execute(principal, fields, lambda aggregate: aggregate.reopen(body))

    async def mark_read(self, principal: Principal, fields: Mapping[str, Any]) -> CommandResult:
        return await self._execute(principal, fields, lambda aggregate: aggregate.read())

    async def rate(self, principal: Principal, fields: Mapping[str, Any]) -> CommandResult:
        """Store the contact's rating. An API key may rate for the contact."""
        remark = inputs.check_rating(fields["score"], fields.get("remark"))
        if principal.admin_id is not None:
            message = "An admin cannot rate a conversation: use a token of its contact, or an API key."
            raise UserProblem(ErrorCode.FORBIDDEN, message, ("score",))
        contact_actor = await self._teammates.actor(principal, None) if principal.contact_id is not None else None
        if contact_actor is not None:
            await self._commands.check_owner(principal, _KIND, str(fields["id"]), contact_actor)

        def apply(stored: Document, now: datetime) -> Changeset:
            rater = contact_actor or Actor(ActorKind.CONTACT, stored["contact_id"])
            aggregate = ConversationAggregate(stored, rater, now, self._minter)
            return aggregate.changeset(aggregate.rate(fields["score"], remark))

        return await self._commands.execute(
            principal.workspace_id, _KIND, str(fields["id"]), apply, principal=principal
        )

    async def update(self, principal: Principal, fields: Mapping[str, Any]) -> CommandResult:
        values = inputs.check_update(fields, self._settings)

        def do(aggregate: ConversationAggregate) -> str | None:
            part_id = aggregate.update(values)
            check_metadata(aggregate.document["custom_attributes"], self._settings, ("customAttributes",))
            return part_id

        return await self._execute(principal, fields, do)

    async def apply_sla(self, principal: Principal, fields: Mapping[str, Any]) -> CommandResult:
        sla = check_sla(fields)
        return await self._execute(principal, fields, lambda aggregate: aggregate.apply_sla(sla))

    async def apply_deadlines(self, timer: Document) -> None:
        workspace_id, id_ = timer["workspace_id"], timer["subject_id"]

        def apply(stored: Document, now: datetime) -> Changeset:
            return ConversationAggregate(stored, AUTOMATION, now, self._minter).changeset()

        try:
            await self._commands.execute(
                workspace_id, _KIND, id_, apply, also_write=lambda store, session: store.timers.take(timer, session)
            )
        except UserProblem:  # the conversation is gone
            store = self._store.open(workspace_id)
            await store.database.transaction(partial(store.timers.take, timer))

    async def _execute(self, principal: Principal, fields: Mapping[str, Any], do: Do) -> CommandResult:
        actor, id_ = await self._teammates.actor(principal, fields.get("actor")), str(fields["id"])
        await self._commands.check_owner(principal, _KIND, id_, actor)

        def apply(stored: Document, now: datetime) -> Changeset:
            aggregate = ConversationAggregate(stored, actor, now, self._minter)
            return aggregate.changeset(do(aggregate))

        return await self._commands.execute(principal.workspace_id, _KIND, id_, apply, principal=principal)

    async def _named_actor(
        self, principal: Principal, fields: Mapping[str, Any], source: Mapping[str, Any]
    ) -> Actor | None:
        """Return None if the contact starts the conversation."""
        by_customer = source["delivered_as"] == DeliveredAs.CUSTOMER_INITIATED
        has_actor = principal.contact_id is not None or principal.admin_id is not None or fields.get("actor")
        if not has_actor and by_customer:
            return None
        return await self._teammates.actor(principal, fields.get("actor"))
