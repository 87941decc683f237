"""One execution of a plan: deferred values, errors and the response data."""

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
    """Placeholder in the response data until a value arrives; never sent."""


PENDING = _Pending()


class _Deferred(NamedTuple):
    """A field of one object that waits for its batch function; the value is written into `target`."""

    field: PlannedField
    complete: Callable[[Any, "ExecutionRun", ResponsePath], Any]
    source: Any
    path: ResponsePath
    target: dict[str, Any]


class _Awaited(NamedTuple):
    """A value to await, and the function that completes it."""

    field: PlannedField
    awaitable: Awaitable[Any]
    path: ResponsePath
    complete: Callable[[Any, "ExecutionRun", ResponsePath], Any]


@dataclass(slots=True)
class _Group:
    function: Batch
    arguments: Any
    admit: Admit | None
    rows: list[_Deferred] = field(default_factory=list)

    async def call(self, context: Any) -> Sequence[Any]:
        if self.admit is not None:
            await self.admit(context)
        results = await self.function([row.source for row in self.rows], self.arguments, context)
        if len(results) != len(self.rows):
            raise WrongNumberOfResultsReturned(expected=len(self.rows), received=len(results))
        return results


class ExecutionRun:
    """One execution of a plan. Deferred values are read level by level."""

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
        """graphql-core's executor of this operation, built on first use."""
        if self._executor is None:
            self._executor = self._build()
        return self._executor

    @property
    def unfinished(self) -> bool:
        return bool(self._waiting or self._awaited)

    def defer(
        self,
        planned: PlannedField,
        complete: Callable[[Any, "ExecutionRun", ResponsePath], Any],
        source: Any,
        path: ResponsePath | None,
        target: dict[str, Any],
    ) -> None:
        """Add an object to the next call of the field's batch function. `path` is the path of the object."""
        field_path = (path, planned.key, planned.parent.name, planned.nullable)
        self._waiting.append(_Deferred(planned, complete, source, field_path, target))

    def defer_awaitable(
        self,
        planned: PlannedField,
        awaitable: Any,
        path: ResponsePath,
        complete: Callable[[Any, "ExecutionRun", ResponsePath], Any],
    ) -> Any:
        """Await a value at the end of the level and complete it then."""
        self._awaited.append(_Awaited(planned, awaitable, path, complete))
        return PENDING

    def denial(self, planned: PlannedField) -> Exception | None:
        """Return why the principal may not see the field, or None; checked once per run."""
        if planned not in self._refusals:
            self._refusals[planned] = self._check(planned)
        return self._refusals[planned]

    def resolve(self, planned: PlannedField, source: Any, path: ResponsePath | None) -> Any:
        """Call the field's resolver. The result may be awaitable; an exception is returned, not raised."""
        try:
            arguments = planned.arguments(self.variables)
            resolve = planned.definition.resolve or self.executor.field_resolver
            field_path = (path, planned.key, planned.parent.name, planned.nullable)
            return resolve(source, self.info(planned, field_path), **arguments)
        except Exception as error:
            return error

    def info(self, planned: PlannedField, path: ResponsePath) -> Any:
        return self.executor.build_resolve_info(planned.definition, planned.nodes, planned.parent, path_of(path))

    def fail(self, error: Exception, planned: PlannedField, path: ResponsePath) -> None:
        """Record the error and return null; raise it if the value must not be null."""
        located = located_error(error, planned.nodes, keys_of(path))
        if not path[3]:
            raise located
        self.add(located, path)

    def add(self, error: GraphQLError, path: ResponsePath | None) -> None:
        """Record the error that nulls this path, unless an earlier error nulled the path or one above it."""
        keys = tuple(keys_of(path))
        if not any(keys[:length] in self._nulled for length in range(len(keys) + 1)):
            self._nulled.add(keys)
            self.errors.append(error)

    async def run_deferred(self) -> None:
        while self._waiting or self._awaited:
            waiting, self._waiting = self._waiting, []
            awaited, self._awaited = self._awaited, []
            groups = self._grouped(waiting)
            results = await _all(
                [*(group.call(self.context) for group in groups), *(item.awaitable for item in awaited)]
            )
            for group, group_results in zip(groups, results, strict=False):
                values = [group_results] * len(group.rows) if isinstance(group_results, Exception) else group_results
                for row, result in zip(group.rows, values, strict=True):
                    self._settle(row, result)
            for item, result in zip(awaited, results[len(groups) :], strict=True):
                self._put_result(item.field, item.path, result, item.complete)

    def _grouped(self, waiting: list[_Deferred]) -> list[_Group]:
        groups: dict[PlannedField, _Group | Exception] = {}
        shared: dict[tuple[Batch, str, Admit | None], _Group] = {}
        for row in waiting:
            group = groups.get(row.field)
            if group is None:
                group = groups[row.field] = self._group_of(row.field, shared)
            if isinstance(group, Exception):
                self._settle(row, group)
            elif isinstance(row.source, Exception) or (row.source is None and row.field.is_read_by_key):
                self._settle(row, row.source)  # no key to read by
            else:
                group.rows.append(row)
        return [group for group in shared.values() if group.rows]

    def _group_of(
        self, planned: PlannedField, shared: dict[tuple[Batch, str, Admit | None], _Group]
    ) -> _Group | Exception:
        if planned.check is not None and (denial := self.denial(planned)) is not None:
            return denial
        try:
            function, arguments, key, admit, checks = planned.call(self.variables)
            for check in checks:
                check(self.context)
        except Exception as error:
            return error
        return shared.setdefault((function, key, admit), _Group(function, arguments, admit))

    def _settle(self, row: _Deferred, result: Any) -> None:
        planned, complete, _, path, target = row
        try:
            target[planned.key] = complete(result, self, path)
        except Exception as error:
            target[planned.key] = None
            self._nullify(error, planned, path)

    def _put_result(
        self,
        planned: PlannedField,
        path: ResponsePath,
        result: Any,
        complete: Callable[[Any, "ExecutionRun", ResponsePath], Any],
    ) -> None:
        try:
            put(self.data, path, complete(result, self, path))
        except Exception as error:
            self._nullify(error, planned, path)

    def _nullify(self, error: Exception, planned: PlannedField, path: ResponsePath) -> None:
        located = located_error(error, planned.nodes, keys_of(path))
        nullable_path = nearest_nullable(path)
        self.add(located, nullable_path)
        if nullable_path is None:
            self.data = None
        else:
            put(self.data, nullable_path, None)

    def _check(self, planned: PlannedField) -> Exception | None:
        assert planned.check is not None  # noqa: S101 - denial() is called only for fields with a check
        try:
            planned.check(self.context, planned.name, planned.parent.name)
        except Exception as error:
            return error
        return None


async def _all(awaitables: list[Awaitable[Any]]) -> list[Any]:
    """Await all and return results and exceptions, in order; a single awaitable needs no task."""
    if len(awaitables) == 1:
        try:
            return [await awaitables[0]]
        except Exception as error:
            return [error]
    results = await asyncio.gather(*awaitables, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, Exception):
            raise result
    return results
