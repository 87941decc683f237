"""Commands that conversations and tickets share."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from gateway.core.clock import Clock
from gateway.core.ids import Minter
from gateway.core.principals import Principal
from gateway.core.timers import TimerDocument
from gateway.domain.support.actors import AUTOMATION, Actor
from gateway.domain.support.commands import AssignThread, Reply, ThreadCommand
from gateway.domain.support.conversation_inputs import check_body, check_created_at, check_not_by_contact
from gateway.domain.support.documents import T
from gateway.domain.support.threads import Changeset, ThreadAggregate, ThreadKind, check_moment
from gateway.errors import ErrorCode, UserProblem
from gateway.services.support.commands import CommandExecutor, CommandResult
from gateway.services.support.teammates import TeammateService
from gateway.store.workspace_store import Store

A = TypeVar("A", bound=ThreadAggregate[Any])  # of documents of type T


class ThreadService(Generic[A, T]):
    """Commands on one kind of thread; `aggregate` is the class that applies them."""

    KIND: ClassVar[ThreadKind]

    def __init__(
        self,
        store: Store,
        clock: Clock,
        minter: Minter,
        commands: CommandExecutor,
        teammates: TeammateService,
        aggregate: Callable[[T, Actor, datetime, Minter], A],
    ) -> None:
        self._store = store
        self._clock = clock
        self._minter = minter
        self._commands = commands
        self._teammates = teammates
        self._aggregate: Callable[[T, Actor, datetime, Minter], A] = aggregate

    async def reply(self, principal: Principal, command: Reply) -> CommandResult[T]:
        check_not_by_contact(command, principal)
        key_claim = self._commands.claim(f"replyTo{self.KIND.value.capitalize()}", command, principal)
        first: CommandResult[T] | None = await self._commands.first_result(principal, self.KIND, key_claim)
        if first is not None:
            return first
        body, note, path = check_body(command.body), bool(command.note), (f"{self.KIND.value}Id",)
        created_at = check_created_at(command.created_at, self._clock())
        actor = await self._teammates.actor(principal, command.actor)
        if note and actor.is_contact:
            message = "A contact cannot write notes: leave note out, or give an admin as actor."
            raise UserProblem(ErrorCode.FORBIDDEN, message, ("note",))
        await self._commands.check_owner(principal, self.KIND, command.thread_id, actor, path)

        def apply(stored: T, now: datetime) -> Changeset[T]:
            self._check_visible(stored, principal, actor, path)
            check_moment(created_at, stored)
            aggregate = self._aggregate(stored, actor, created_at or now, self._minter)
            changeset: Changeset[T] = aggregate.changeset(aggregate.reply(body, note=note))
            return changeset

        return await self._commands.execute(
            principal.workspace_id,
            self.KIND,
            command.thread_id,
            apply,
            principal=principal,
            key_claim=key_claim,
            path=path,
        )

    async def assign(self, principal: Principal, command: AssignThread) -> CommandResult[T]:
        """Assign it to an admin, a team or both; None removes an assignee."""
        assignees = await self._teammates.assignees(principal.workspace_id, command.assignee_id, command.team_id)
        if not assignees:
            message = "The assignment is missing: give assigneeId, teamId or both; null removes one."
            raise UserProblem(ErrorCode.INVALID, message, ("assigneeId",))
        return await self._execute(principal, command, lambda aggregate: aggregate.assign(assignees))

    async def apply_deadlines(self, timer: TimerDocument) -> None:
        workspace_id, id_ = timer["workspace_id"], timer["subject_id"]

        def apply(stored: T, now: datetime) -> Changeset[T]:
            changeset: Changeset[T] = self._aggregate(stored, AUTOMATION, now, self._minter).changeset()
            return changeset

        try:
            await self._commands.execute(
                workspace_id, self.KIND, id_, apply, also_write=lambda store, session: store.timers.take(timer, session)
            )
        except UserProblem:  # the thread is gone
            store = self._store.open(workspace_id)
            await store.database.transaction(partial(store.timers.take, timer))

    async def _execute(
        self, principal: Principal, command: ThreadCommand, do: Callable[[A], str | None]
    ) -> CommandResult[T]:
        actor = await self._teammates.actor(principal, command.actor)
        await self._commands.check_owner(principal, self.KIND, command.id, actor)

        def apply(stored: T, now: datetime) -> Changeset[T]:
            self._check_visible(stored, principal, actor, ("id",))
            aggregate = self._aggregate(stored, actor, now, self._minter)
            changeset: Changeset[T] = aggregate.changeset(do(aggregate))
            return changeset

        return await self._commands.execute(principal.workspace_id, self.KIND, command.id, apply, principal=principal)

    def _check_visible(self, thread: T, principal: Principal, actor: Actor, path: tuple[str, ...]) -> None:
        """Raise UserProblem where the actor may not act on this thread."""
