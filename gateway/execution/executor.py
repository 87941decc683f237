"""Operations as they are executed, whatever they came over: by their compiled plan, or by graphql-core."""

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
    """What became of an operation; `refused` where it is not valid, so that its execution never began.

    `written` is left to who sends it, where several are sent the same one."""

    data: Any
    errors: list[GraphQLError] | None = None
    refused: bool = False
    encoded: str | None = None

    @property
    def end(self) -> GraphQLError | None:
        """The error that the whole operation ends with; None where it goes on, whatever went wrong at single fields."""
        return self.errors[0] if self.errors and (self.refused or self.errors[0].path is None) else None


@dataclass(frozen=True, slots=True)
class _PreparedRun:
    """An operation that is valid, with the values of its variables."""

    prepared: Prepared
    node: OperationDefinitionNode
    variables: VariableValues
    context: Any


class Operations:
    """Executes the operations of one schema, compiled where there is a planner.

    `tell` is told each answer's errors, with the operation's context, before anybody else sees them. `sharing` gives a
    subscription's context and payload a key: where the operation is the same and the key too, so is the answer. `reading` is told
    with the context, before it is executed, what of each type's documents the operation reads, by a mapping that grows as
    types are met. `place` is the argument of a subscription that says where it begins, and nothing of what it tells from
    there on. `suggestions`: whether errors suggest names."""

    def __init__(
        self,
        schema: GraphQLSchema,
        tell: OnErrors,
        metrics: Metrics,
        planner: Planner | None = None,
        sharing: Callable[[Any, Any], Hashable] | None = None,
        reading: Callable[[Any, Mapping[str, Reads]], None] | None = None,
        place: str | None = None,
        caches: CacheBudget | None = None,
        *,
        suggestions: bool = True,
    ) -> None:
        self._schema = schema
        self._tell = tell
        self._planner = planner
        self._suggestions = suggestions
        caches = caches or CacheBudget()
        self.documents = PreparedDocuments(schema, metrics, caches, suggestions=suggestions)
        self._sharing = sharing
        self._reading = reading
        self._place = place
        self._shared = SharedResults(caches)

    async def execute(self, text: str, variables: Variables, name: str | None, context: Any) -> Result:
        """The answer to a query or mutation."""
        try:
            begun = self._prepare(text, variables, name, context)
            answer = begun if isinstance(begun, Result) else await self._execute(begun, None)
        except Exception as error:
            answer = Result(None, [as_graphql_error(error)], refused=True)
        return self._report_errors(answer, context)

    async def stream(
        self, text: str, variables: Variables, name: str | None, context: Any
    ) -> AsyncGenerator[Result, None]:
        """The answers to any operation: one, or of a subscription one for each payload."""
        begun = self._prepare(text, variables, name, context)
        if isinstance(begun, Result) or begun.node.operation is not OperationType.SUBSCRIPTION:
            yield await self.execute(text, variables, name, context)
            return
        try:
            source = await self._source(begun)
            if isinstance(source, ExecutionResult):
                yield self._report_errors(Result(None, source.errors, refused=True), context)
                return
            async with aclosing(cast("AsyncGenerator[Any, None]", source)) as payloads:
                asked = self._sharing_key(text, name, begun)
                async for payload in payloads:
                    yield await self._shared_result(begun, payload, asked)
        except Exception as error:
            yield self._report_errors(Result(None, [as_graphql_error(error)]), context)

    def sharing_key(self, text: str, variables: Variables, name: str | None, context: Any) -> Hashable:
        """What a subscription that is valid asks for: where two ask alike, they differ at most in where they begin."""
        begun = self._prepare(text, variables, name, context)
        return None if isinstance(begun, Result) else self._sharing_key(text, name, begun)

    def _sharing_key(self, text: str, name: str | None, begun: _PreparedRun) -> tuple[Hashable, ...]:
        places = self._resume_variables(begun)
        values = {name: value for name, value in begun.variables.coerced.items() if name not in places}
        return (text, name, repr(values))

    def _resume_variables(self, begun: _PreparedRun) -> set[str]:
        """The variables that say where a subscription begins, and nothing else: they are declared, and stand there alone."""
        arguments = [
            argument
            for field in begun.node.selection_set.selections
            if isinstance(field, FieldNode)
            for argument in field.arguments or ()
            if argument.name.value == self._place
        ]
        names = {argument.value.name.value for argument in arguments if isinstance(argument.value, VariableNode)}
        if not names:
            return names
        found = _Variables()
        for part in (begun.node, *begun.prepared.fragments.values()):
            visit(part, found)
        return {name for name in names if found.uses[name] == 2}

    def _prepare(self, text: str, variables: Variables, name: str | None, context: Any) -> "_PreparedRun | Result":
        """The operation of that name with its variables; an answer where something is wrong with them."""
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

    async def _shared_result(self, begun: _PreparedRun, payload: Any, asked: tuple[Hashable, ...]) -> Result:
        """A subscription's answer for a payload, shared with all who ask alike."""

        async def execute() -> Result:
            return self._report_errors(await self._execute(begun, payload), begun.context)

        if self._sharing is None:
            return await execute()
        answer: Result = await self._shared.get((*asked, self._sharing(begun.context, payload)), execute)
        return answer

    async def _execute(self, begun: _PreparedRun, root: Any) -> Result:
        plan = self._planner.plan(begun.prepared, begun.node, begun.variables) if self._planner else None
        if plan is not None:
            return await self._run(plan, begun, root)
        result: Any = self._executor(begun, root).execute_operation()
        if inspect.isawaitable(result):
            result = await result
        return Result(result.data, result.errors)

    async def _run(self, plan: Plan, begun: _PreparedRun, root: Any) -> Result:
        """Each step of the plan to its end; the answer is null where something that may not be null is."""
        if self._reading is not None:
            self._reading(begun.context, plan.reads)
        run = ExecutionRun(lambda: self._executor(begun, root), begun.context, begun.variables)
        answer: dict[str, Any] = {}
        for step in plan.steps:
            try:
                run.data = step(root, run, None)
            except GraphQLError as error:
                run.data = None
                run.add(error, None)
            if run.unfinished:
                await run.run_deferred()
            if run.data is None:
                return Result(None, run.errors)
            answer.update(run.data)
        return Result(answer, run.errors or None)

    async def _source(self, begun: _PreparedRun) -> AsyncIterable[Any] | ExecutionResult:
        found: Any = create_source_event_stream(self._executor(begun, None))
        return cast("AsyncIterable[Any]", await found if inspect.isawaitable(found) else found)

    def _executor(self, begun: _PreparedRun, root: Any) -> Executor:
        fragments = begun.prepared.fragments
        return Executor(
            self._schema,
            fragments,
            {name: FragmentDetails(fragment, None) for name, fragment in fragments.items()},
            root,
            begun.context,
            begun.node,
            begun.variables,
            default_field_resolver,
            default_type_resolver,
            default_field_resolver,
            is_awaitable=optimized_is_awaitable,
            hide_suggestions=not self._suggestions,
            operation_extensions=None,
        )

    def _report_errors(self, answer: Result, context: Any) -> Result:
        if answer.errors:
            self._tell(answer.errors, context)
        return answer


class _Variables(Visitor):
    """Counts where variables stand, their declarations included."""

    def __init__(self) -> None:
        super().__init__()
        self.uses: Counter[str] = Counter()

    def enter_variable(self, node: VariableNode, *_: Any) -> None:
        self.uses[node.name.value] += 1


def as_graphql_error(error: Exception) -> GraphQLError:
    """An error as GraphQL tells it."""
    return error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)
