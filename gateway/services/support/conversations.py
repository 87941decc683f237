"""Commands on conversations."""

from datetime import datetime
from typing import ClassVar

from gateway.core.clock import Clock
from gateway.core.ids import Minter, Prefix
from gateway.core.principals import Principal
from gateway.core.typed_values import check_metadata
from gateway.domain.contacts.documents import ContactDocument
from gateway.domain.support import conversation_inputs as inputs
from gateway.domain.support.actors import Actor, ActorKind
from gateway.domain.support.commands import (
    ApplySla,
    CloseConversation,
    CreateConversation,
    MarkConversationRead,
    RateConversation,
    ReopenConversation,
    SnoozeConversation,
    UpdateConversation,
)
from gateway.domain.support.conversations import (
    SLA_TIMER,
    SNOOZE_TIMER,
    ConversationAggregate,
    DeliveredAs,
    NewConversation,
    NewSource,
    new_conversation,
)
from gateway.domain.support.documents import ConversationDocument
from gateway.domain.support.sla import check_sla
from gateway.domain.support.threads import Changeset, ThreadKind
from gateway.errors import ErrorCode, UserProblem
from gateway.services.support.commands import CommandExecutor, CommandResult
from gateway.services.support.teammates import TeammateService
from gateway.services.support.threads import ThreadService
from gateway.services.timers import Handler
from gateway.settings import Settings
from gateway.store.workspace_store import Store

Result = CommandResult[ConversationDocument]


class ConversationService(ThreadService[ConversationAggregate, ConversationDocument]):
    KIND: ClassVar[ThreadKind] = ThreadKind.CONVERSATION

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        minter: Minter,
        commands: CommandExecutor,
        teammates: TeammateService,
    ) -> None:
        super().__init__(store, clock, minter, commands, teammates, ConversationAggregate)
        self._settings = settings

    @property
    def handlers(self) -> dict[str, Handler]:
        return {SNOOZE_TIMER: self.apply_deadlines, SLA_TIMER: self.apply_deadlines}

    async def create(self, principal: Principal, command: CreateConversation) -> ConversationDocument:
        inputs.check_not_by_contact(command, principal)
        key_claim = self._commands.claim("createConversation", command, principal)
        if (first := await self._commands.first_result(principal, self.KIND, key_claim)) is not None:
            return first.document
        values = inputs.check_conversation(command, self._settings)
        created_at = inputs.check_created_at(command.created_at, self._clock())
        named_actor = await self._named_actor(principal, command, values["source"])
        assignees = await self._teammates.assignees_of_new(principal.workspace_id, command)
        new_id = self._minter.mint(Prefix.CONVERSATION, created_at or self._clock())

        def begin(contact: ContactDocument, now: datetime) -> Changeset[ConversationDocument]:
            author = named_actor or Actor(ActorKind.CONTACT, contact["_id"])
            if author.is_contact and author.id != contact["_id"]:
                message = "The actor is a contact, but not the one of the conversation: leave actor out."
                raise UserProblem(ErrorCode.INVALID, message, ("actor", "contactId"))
            all_values: NewConversation = {**values, "source": inputs.delivered_by(values["source"], author)}
            document = new_conversation(new_id, contact, all_values, author, created_at or now)
            return ConversationAggregate.created(document, self._minter, assignees).changeset()

        result = await self._commands.create(
            principal.workspace_id, self.KIND, new_id, command.contact, principal, begin, key_claim=key_claim
        )
        return result.document

    async def snooze(self, principal: Principal, command: SnoozeConversation) -> Result:
        until = inputs.check_until(command.until, self._clock())
        return await self._execute(principal, command, lambda aggregate: aggregate.snooze(until))

    async def close(self, principal: Principal, command: CloseConversation) -> Result:
        body = None if command.body is None else inputs.check_body(command.body)
        return await self._execute(principal, command, lambda aggregate: aggregate.close(body))

    async def reopen(self, principal: Principal, command: ReopenConversation) -> Result:
        body = None if command.body is None else inputs.check_body(command.body)
        return await self._execute(principal, command, lambda aggregate: aggregate.reopen(body))

    async def mark_read(self, principal: Principal, command: MarkConversationRead) -> Result:
        return await self._execute(principal, command, lambda aggregate: aggregate.read())

    async def rate(self, principal: Principal, command: RateConversation) -> Result:
        """Store the contact's rating. An API key may rate for the contact."""
        remark = inputs.check_rating(command.score, command.remark)
        if principal.admin_id is not None:
            message = "An admin cannot rate a conversation: use a token of its contact, or an API key."
            raise UserProblem(ErrorCode.FORBIDDEN, message, ("score",))
        contact_actor = await self._teammates.actor(principal, None) if principal.contact_id is not None else None
        if contact_actor is not None:
            await self._commands.check_owner(principal, self.KIND, command.id, contact_actor)

        def apply(stored: ConversationDocument, now: datetime) -> Changeset[ConversationDocument]:
            rater = contact_actor or Actor(ActorKind.CONTACT, stored["contact_id"])
            aggregate = ConversationAggregate(stored, rater, now, self._minter)
            return aggregate.changeset(aggregate.rate(command.score, remark))

        return await self._commands.execute(principal.workspace_id, self.KIND, command.id, apply, principal=principal)

    async def update(self, principal: Principal, command: UpdateConversation) -> Result:
        values = inputs.check_update(command, self._settings)

        def do(aggregate: ConversationAggregate) -> str | None:
            part_id = aggregate.update(values)
            check_metadata(aggregate.document["custom_attributes"], self._settings, ("customAttributes",))
            return part_id

        return await self._execute(principal, command, do)

    async def apply_sla(self, principal: Principal, command: ApplySla) -> Result:
        sla = check_sla(command)
        return await self._execute(principal, command, lambda aggregate: aggregate.apply_sla(sla))

    async def _named_actor(self, principal: Principal, command: CreateConversation, source: NewSource) -> Actor | None:
        """Return None if the contact starts the conversation."""
        by_customer = source["delivered_as"] == DeliveredAs.CUSTOMER_INITIATED
        has_actor = principal.contact_id is not None or principal.admin_id is not None or command.actor
        if not has_actor and by_customer:
            return None
        return await self._teammates.actor(principal, command.actor)
