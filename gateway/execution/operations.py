"""Operations as they are executed, whatever they came over: by a compiled plan, or by graphql-core."""

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from graphql import GraphQLError, GraphQLSchema, OperationType, execute, subscribe
from graphql.execution import ExecutionResult
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from gateway.execution.documents import Prepared, PreparedDocuments
from gateway.observability import Metrics

Tell = Callable[[list[GraphQLError], Any], None]


@dataclass(slots=True)
class Answer:
    """What became of an operation; `refused` where it is not valid, so that its execution never began."""

    data: Any
    errors: list[GraphQLError] | None = None
    refused: bool = False


class Operations:
    """Executes the operations of one schema; `tell` is told each answer's errors, with the operation's context."""

    def __init__(self, schema: GraphQLSchema, tell: Tell, metrics: Metrics) -> None:
        self._schema = schema
        self._tell = tell
        self._documents = PreparedDocuments(schema, metrics)

    def prepare(self, text: str) -> Prepared:
        """The document of that text, parsed and validated."""
        return self._documents.prepare(text)

    async def execute(self, text: str, variables: dict[str, Any] | None, name: str | None, context: Any) -> Answer:
        """The answer to a query or mutation."""
        prepared = self.prepare(text)
        if prepared.errors or prepared.document is None:
            return self._told(Answer(None, prepared.errors, refused=True), context)
        try:
            answer = await self._by_core(prepared, variables, name, context)
        except Exception as error:
            answer = Answer(None, [_as_graphql_error(error)], refused=True)
        return self._told(answer, context)

    async def stream(
        self, text: str, variables: dict[str, Any] | None, name: str | None, context: Any
    ) -> AsyncGenerator[Answer, None]:
        """The answers to any operation: one, or of a subscription one for each payload."""
        prepared = self.prepare(text)
        if prepared.errors or prepared.named(name).operation is not OperationType.SUBSCRIPTION:
            yield await self.execute(text, variables, name, context)
            return
        try:
            source = await self._source(prepared, variables, name, context)
            if isinstance(source, ExecutionResult):
                yield self._told(Answer(None, source.errors, refused=True), context)
                return
            async with aclosing(source) as results:
                async for result in results:
                    yield self._told(Answer(result.data, result.errors), context)
        except Exception as error:
            yield self._told(Answer(None, [_as_graphql_error(error)]), context)

    async def _by_core(
        self, prepared: Prepared, variables: dict[str, Any] | None, name: str | None, context: Any
    ) -> Answer:
        assert prepared.document is not None  # noqa: S101 - what has no document has errors
        result: Any = execute(
            self._schema,
            prepared.document,
            context_value=context,
            variable_values=variables,
            operation_name=name,
            is_awaitable=cast("Any", optimized_is_awaitable),
            executor_class=StrawberryGraphQLCoreExecutionContext,
            operation_extensions=None,
        )
        if inspect.isawaitable(result):
            result = await result
        return Answer(result.data, result.errors)

    async def _source(
        self, prepared: Prepared, variables: dict[str, Any] | None, name: str | None, context: Any
    ) -> Any:
        assert prepared.document is not None  # noqa: S101 - what has no document has errors
        found: Any = subscribe(
            self._schema,
            prepared.document,
            context_value=context,
            variable_values=variables,
            operation_name=name,
            executor_class=StrawberryGraphQLCoreExecutionContext,
            operation_extensions=None,
        )
        return await found if inspect.isawaitable(found) else found

    def _told(self, answer: Answer, context: Any) -> Answer:
        if answer.errors:
            self._tell(answer.errors, context)
        return answer


def _as_graphql_error(error: Exception) -> GraphQLError:
    return error if isinstance(error, GraphQLError) else GraphQLError(str(error), original_error=error)
