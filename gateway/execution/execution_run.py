"""One execution of a plan: what waits for the next level, what went wrong, and the answer as it fills."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from graphql import GraphQLError, located_error
from graphql.execution.values import VariableValues
from strawberry.exceptions import WrongNumberOfResultsReturned
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from gateway.execution.fields import Admit, Batch, PlannedField
from gateway.execution.paths import ResponsePath, keys_of, nearest_nullable, path_of, put

Executor = StrawberryGraphQLCoreExecutionContext


class _Pending:
    """What stands in the answer until a value is known; nothing that is sent ever holds it."""


PENDING = _Pending()


class _Deferred(NamedTuple):
    """A field of one object whose value the next call of a batch function brings."""

    field: PlannedField
    complete: Callable[[Any, "ExecutionRun", ResponsePath], Any]
    source: Any
    place: ResponsePath
    answer: dict[str, Any]


class _Awaited(NamedTuple):
    """A value that must be awaited, and how it is completed then."""

    field: PlannedField
    awaitable: Awaitable[Any]
    place: ResponsePath
    complete: Callable[[Any, "ExecutionRun", ResponsePath], Any]


@dataclass(slots=True)
class _Group:
    """All that one call of a batch function answers."""

    function: Batch
    arguments: Any
    admit: Admit | None
    rows: list[_Deferred] = field(default_factory=list)

    async def call(self, context: Any) -> Sequence[Any]:
        if self.admit is not None:
            await self.admit(context)
        found = await self.function([row.source for row in self.rows], self.arguments, context)
        if len(found) != len(self.rows):
            raise WrongNumberOfResultsReturned(expected=len(self.rows), received=len(found))
        return found


class ExecutionRun:
    """One execution of a plan."""

    __slots__ = (
        "_awaited",
        "_build",
        "_executor",
        "_nulled",
        "_refusals",
        "_waiting",
        "context",
        "data",
        "errors",
        "variables",
    )

    def __init__(self, build: Callable[[], Executor], context: Any, variables: VariableValues) -> None:
        self._build = build
        self.context = context
        self.variables = variables
        self.data: Any = None
        self.errors: list[GraphQLError] = []
        self._waiting: list[_Deferred] = []
        self._awaited: list[_Awaited] = []
        self._nulled: set[tuple[str | int, ...]] = set()
        self._refusals: dict[PlannedField, Exception | None] = {}
        self._executor: Executor | None = None

    @property
    def executor(self) -> Executor:
        """Graphql-core's own executor of this operation, for what it alone can tell."""
        if self._executor is None:
            self._executor = self._build()
        return self._executor

    @property
    def unfinished(self) -> bool:
        """Whether something of the answer is still to come."""
        return bool(self._waiting or self._awaited)

    def defer(
        self,
        planned: PlannedField,
        complete: Callable[[Any, "ExecutionRun", ResponsePath], Any],
        source: Any,
        place: ResponsePath | None,
        answer: dict[str, Any],
    ) -> None:
        """Have the field's batch function called for this object too, at the end of the level, and complete the value then."""
        here = (place, planned.key, planned.parent.name, planned.nullable)
        self._waiting.append(_Deferred(planned, complete, source, here, answer))

    def defer_awaitable(
        self,
        planned: PlannedField,
        awaitable: Any,
        place: ResponsePath,
        complete: Callable[[Any, "ExecutionRun", ResponsePath], Any],
    ) -> Any:
        """Await a value at the end of the level, and complete it then."""
        self._awaited.append(_Awaited(planned, awaitable, place, complete))
        return PENDING

    def denial(self, planned: PlannedField) -> Exception | None:
        """Why the asker may not see the field, found out once; None where it may."""
        if planned not in self._refusals:
            self._refusals[planned] = self._check(planned)
        return self._refusals[planned]

    def resolve(self, planned: PlannedField, source: Any, place: ResponsePath | None) -> Any:
        """What the field's own resolver gives, be it an exception or awaitable."""
        try:
            arguments = planned.arguments(self.variables)
            resolve = planned.definition.resolve or self.executor.field_resolver
            here = (place, planned.key, planned.parent.name, planned.nullable)
            return resolve(source, self.info(planned, here), **arguments)
        except Exception as error:
            return error

    def info(self, planned: PlannedField, place: ResponsePath) -> Any:
        """What graphql-core tells the field's resolver."""
        return self.executor.build_resolve_info(planned.definition, planned.nodes, planned.parent, path_of(place))

    def fail(self, error: Exception, planned: PlannedField, place: ResponsePath) -> None:
        """Null for a value that could not be had; where it may not be null the error goes on upwards."""
        located = located_error(error, planned.nodes, keys_of(place))
        if not place[3]:
            raise located
        self.add(located, place)

    def add(self, error: GraphQLError, place: ResponsePath | None) -> None:
        """Tell the error that makes the place null, unless something at or above it is null for another one."""
        keys = tuple(keys_of(place))
        if not any(keys[:length] in self._nulled for length in range(len(keys) + 1)):
            self._nulled.add(keys)
            self.errors.append(error)

    async def run_deferred(self) -> None:
        """Bring what is still to come, level by level."""
        while self._waiting or self._awaited:
            waiting, self._waiting = self._waiting, []
            awaited, self._awaited = self._awaited, []
            groups = self._grouped(waiting)
            found = await _all([*(group.call(self.context) for group in groups), *(one.awaitable for one in awaited)])
            for group, results in zip(groups, found, strict=False):
                several = [results] * len(group.rows) if isinstance(results, Exception) else results
                for row, result in zip(group.rows, several, strict=True):
                    self._settle(row, result)
            for one, result in zip(awaited, found[len(groups) :], strict=True):
                self._place(one.field, one.place, result, one.complete)

    def _grouped(self, waiting: list[_Deferred]) -> list[_Group]:
        """One group for each batch function and arguments; what is refused or has wrong arguments fails at once."""
        groups: dict[PlannedField, _Group | Exception] = {}
        shared: dict[tuple[Batch, str, Admit | None], _Group] = {}
        for row in waiting:
            group = groups.get(row.field)
            if group is None:
                group = groups[row.field] = self._group_of(row.field, shared)
            if isinstance(group, Exception):
                self._settle(row, group)
            elif isinstance(row.source, Exception) or (row.source is None and row.field.is_read_by_key):
                self._settle(row, row.source)  # there is nothing to ask by
            else:
                group.rows.append(row)
        return [group for group in shared.values() if group.rows]

    def _group_of(
        self, planned: PlannedField, shared: dict[tuple[Batch, str, Admit | None], _Group]
    ) -> _Group | Exception:
        if planned.check is not None and (refusal := self.denial(planned)) is not None:
            return refusal
        try:
            function, arguments, key, admit, checks = planned.call(self.variables)
            for check in checks:
                check(self.context)
        except Exception as error:
            return error
        return shared.setdefault((function, key, admit), _Group(function, arguments, admit))

    def _settle(self, row: _Deferred, result: Any) -> None:
        planned, complete, _, place, answer = row
        try:
            answer[planned.key] = complete(result, self, place)
        except Exception as error:
            answer[planned.key] = None
            self._nullify(error, planned, place)

    def _place(
        self,
        planned: PlannedField,
        place: ResponsePath,
        result: Any,
        complete: Callable[[Any, "ExecutionRun", ResponsePath], Any],
    ) -> None:
        try:
            put(self.data, place, complete(result, self, place))
        except Exception as error:
            self._nullify(error, planned, place)

    def _nullify(self, error: Exception, planned: PlannedField, place: ResponsePath) -> None:
        located = located_error(error, planned.nodes, keys_of(place))
        nulled = nearest_nullable(place)
        self.add(located, nulled)
        if nulled is None:
            self.data = None
        else:
            put(self.data, nulled, None)

    def _check(self, planned: PlannedField) -> Exception | None:
        assert planned.check is not None  # noqa: S101 - only fields with a check are asked about
        try:
            planned.check(self.context, planned.name, planned.parent.name)
        except Exception as error:
            return error
        return None


async def _all(awaitables: list[Awaitable[Any]]) -> list[Any]:
    """What they give, exceptions included; a lone one needs no task."""
    if len(awaitables) == 1:
        try:
            return [await awaitables[0]]
        except Exception as error:
            return [error]
    found = await asyncio.gather(*awaitables, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, Exception):
            raise one
    return found
