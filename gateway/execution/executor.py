"""Executes operations by their compiled plan, or by graphql-core."""

import inspect
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Hashable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    Visitor,
    visit,
)
from graphql.execution import (
    ExecutionResult,
    create_source_event_stream,
    default_field_resolver,
    default_type_resolver,
    get_variable_values,
)
from graphql.execution.collect_fields import FragmentDetails
from graphql.execution.values import VariableValues
from strawberry.execution import optimized_is_awaitable

from gateway.caches import CacheBudget
from gateway.execution.documents import MAX_ERRORS, Prepared, PreparedDocuments
from gateway.execution.execution_run import ExecutionRun, Executor
from gateway.execution.fields import Reads
from gateway.execution.plans import Plan, Planner
from gateway.execution.shared_results import SharedResults
from gateway.observability import Metrics

Variables = dict[str, Any] | None
OnErrors = Callable[[list[GraphQLError], Any], None]


@dataclass(slots=True)
class Result:
    """The result of an operation. `refused`: the operation is invalid and was not executed.

    `encoded` caches the payload as JSON text when several subscribers receive the same result."""

    data: Any
    errors: list[GraphQLError] | None = None
    refused: bool = False
    encoded: str | None = None

    @property
    def end(self) -> GraphQLError | None:
        """The error that ends the whole operation; None if it goes on, as after errors of single fields."""
        return self.errors[0] if self.errors and (self.refused or self.errors[0].path is None) else None


@dataclass(frozen=True, slots=True)
class _PreparedRun:
    prepared: Prepared
    node: OperationDefinitionNode
    variables: VariableValues
    context: Any


class Operations:
    """Executes the operations of one schema, compiled if there is a planner.

    - `on_errors`: called with the errors of each result and the context, before the result is returned.
    - `sharing`: returns a key for a context and payload. Subscriptions with the same operation and key share one result.
    - `reading`: called with the context and the keys that the operation reads, by type, before it executes. The mapping may
      grow during execution.
    - `resume_argument`: the argument of a subscription that says where it resumes. It is ignored when operations are compared.
    - `suggestions`: whether errors suggest names."""

    def __init__(
        self,
        schema: GraphQLSchema,
        on_errors: OnErrors,
        metrics: Metrics,
        planner: Planner | None = None,
        sharing: Callable[[Any, Any], Hashable] | None = None,
        reading: Callable[[Any, Mapping[str, Reads]], None] | None = None,
        resume_argument: str | None = None,
        caches: CacheBudget | None = None,
        *,
        suggestions: bool = True,
    ) -> None:
        self._schema = schema
        self._on_errors = on_errors
        self._planner = planner
        self._suggestions = suggestions
        caches = caches or CacheBudget()
        self.documents = PreparedDocuments(schema, metrics, caches, suggestions=suggestions)
        self._share_key = sharing
        self._on_reads = reading
        self._resume_argument = resume_argument
        self._shared = SharedResults(caches)

    async def execute(self, text: str, variables: Variables, name: str | None, context: Any) -> Result:
        try:
            run = self._prepare(text, variables, name, context)
            result = run if isinstance(run, Result) else await self._execute(run, None)
        except Exception as error:
            result = Result(None, [as_graphql_error(error)], refused=True)
        return self._report_errors(result, context)

    async def stream(
        self, text: str, variables: Variables, name: str | None, context: Any
    ) -> AsyncGenerator[Result, None]:
        """Execute any operation: yields one result, or one per payload of a subscription."""
        run = self._prepare(text, variables, name, context)
        if isinstance(run, Result) or run.node.operation is not OperationType.SUBSCRIPTION:
            yield await self.execute(text, variables, name, context)
            return
        try:
            source = await self._source(run)
            if isinstance(source, ExecutionResult):
                yield self._report_errors(Result(None, source.errors, refused=True), context)
                return
            async with aclosing(cast("AsyncGenerator[Any, None]", source)) as payloads:
                sharing_key = self._sharing_key(text, name, run)
                async for payload in payloads:
                    yield await self._shared_result(run, payload, sharing_key)
        except Exception as error:
            yield self._report_errors(Result(None, [as_graphql_error(error)]), context)

    def sharing_key(self, text: str, variables: Variables, name: str | None, context: Any) -> Hashable:
        """Return equal keys for subscriptions that differ at most in where they resume; None if invalid."""
        run = self._prepare(text, variables, name, context)
        return None if isinstance(run, Result) else self._sharing_key(text, name, run)

    def _sharing_key(self, text: str, name: str | None, run: _PreparedRun) -> tuple[Hashable, ...]:
        resume_variables = self._resume_variables(run)
        values = {name: value for name, value in run.variables.coerced.items() if name not in resume_variables}
        return (text, name, repr(values))

    def _resume_variables(self, run: _PreparedRun) -> set[str]:
        """The variables used only in the resume argument: declared once and used once."""
        arguments = [
            argument
            for field in run.node.selection_set.selections
            if isinstance(field, FieldNode)
            for argument in field.arguments or ()
            if argument.name.value == self._resume_argument
        ]
        names = {argument.value.name.value for argument in arguments if isinstance(argument.value, VariableNode)}
        if not names:
            return names
        usage = _Variables()
        for part in (run.node, *run.prepared.fragments.values()):
            visit(part, usage)
        return {name for name in names if usage.uses[name] == 2}

    def _prepare(self, text: str, variables: Variables, name: str | None, context: Any) -> "_PreparedRun | Result":
        prepared = self.documents.prepare(text)
        if prepared.errors:
            return Result(None, prepared.errors, refused=True)
        node = prepared.named(name)
        if not node.variable_definitions:
            return _PreparedRun(prepared, node, VariableValues({}, {}), context)
        values = get_variable_values(
            self._schema, node.variable_definitions, variables or {}, MAX_ERRORS, not self._suggestions
        )
        return Result(None, values) if isinstance(values, list) else _PreparedRun(prepared, node, values, context)

    async def _shared_result(self, run: _PreparedRun, payload: Any, sharing_key: tuple[Hashable, ...]) -> Result:
        """Execute a subscription for one payload, shared by all subscribers with the same key."""

        async def execute() -> Result:
            return self._report_errors(await self._execute(run, payload), run.context)

        if self._share_key is None:
            return await execute()
        result: Result = await self._shared.get((*sharing_key, self._share_key(run.context, payload)), execute)
        return result

    async def _execute(self, run: _PreparedRun, root: Any) -> Result:
        plan = self._planner.plan(run.prepared, run.node, run.variables) if self._planner else None
        if plan is not None:
            return await self._run(plan, run, root)
        result: Any = self._executor(run, root).execute_operation()
        if inspect.isawaitable(result):
            result = await result
        return Result(result.data, result.errors)

    async def _run(self, plan: Plan, run: _PreparedRun, root: Any) -> Result:
        if self._on_reads is not None:
            self._on_reads(run.context, plan.reads)
        execution = ExecutionRun(lambda: self._executor(run, root), run.context, run.variables)
        data: dict[str, Any] = {}
        for step in plan.steps:
            try:
                execution.data = step(root, execution, None)
            except GraphQLError as error:
                execution.data = None
                execution.add(error, None)
            if execution.unfinished:
                await execution.run_deferred()
            if execution.data is None:
                return Result(None, execution.errors)
            data.update(execution.data)
        return Result(data, execution.errors or None)

    async def _source(self, run: _PreparedRun) -> AsyncIterable[Any] | ExecutionResult:
        stream: Any = create_source_event_stream(self._executor(run, None))
        return cast("AsyncIterable[Any]", await stream if inspect.isawaitable(stream) else stream)

    def _executor(self, run: _PreparedRun, root: Any) -> Executor:
        fragments = run.prepared.fragments
        return Executor(
            self._schema,
            fragments,
            {name: FragmentDetails(fragment, None) for name, fragment in fragments.items()},
            root,
            run.context,
            run.node,
            run.variables,
            default_field_resolver,
            default_type_resolver,
            default_field_resolver,
            is_awaitable=optimized_is_awaitable,
            hide_suggestions=not self._suggestions,
            operation_extensions=None,
        )

    def _report_errors(self, result: Result, context: Any) -> Result:
        if result.errors:
            self._on_errors(result.errors, context)
        return result


class _Variables(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.uses: Counter[str] = Counter()

    def enter_variable(self, node: VariableNode, *_: Any) -> None:
        self.uses[node.name.value] += 1


def as_graphql_error(error: Exception) -> GraphQLError:
    """Wrap an exception in a GraphQLError, unless it is one."""
    return error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)
