"""Introspection for callers without a credential: only small documents, never cached."""

from collections.abc import Mapping
from enum import Enum

from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    execute_sync,
)

from gateway.errors import BadRequestError, UnauthenticatedError
from gateway.execution.documents import parse_document, prepare_document
from gateway.execution.executor import Result
from gateway.execution.syntax_tree import nodes_below
from gateway.settings import Settings

# Several times the size of the largest known introspection query: GraphiQL's with all options.
MOST_BYTES = 16_000
_MOST_CHARACTERS = 8000
_MOST_TOKENS = 1000
_ROOTS = frozenset({"__schema", "__type", "__typename"})
_LISTS = frozenset({"fields", "inputFields", "interfaces", "possibleTypes"})


class _Level(Enum):
    ROOT = "a field of Query"
    BELOW = "a field of the schema"
    LISTED = "a field within a list that each type has: another one there would multiply with it"


class Introspection:
    def __init__(self, schema: GraphQLSchema, settings: Settings) -> None:
        self._schema = schema
        self.is_on = bool(settings.introspection) and not settings.only_trusted_documents

    def answer(self, query: object, variables: Mapping[str, object] | None, name: str | None) -> Result:
        """Raises UnauthenticatedError if the document is large or asks for more than the schema."""
        if not isinstance(query, str) or not self._is_allowed(query):
            raise UnauthenticatedError(
                "Send an API key or a token as 'Authorization: Bearer <key>'. Without a credential you may only query the schema, in a small document with the root fields __schema, __type and __typename."
            )
        prepared = prepare_document(self._schema, query)
        if prepared.errors or prepared.document is None:
            return Result(None, prepared.errors, refused=True)
        try:
            prepared.named(name)
        except LookupError:
            raise BadRequestError(
                "The document has no such operation, or more than one: name one with 'operationName'."
            ) from None
        result = execute_sync(
            self._schema, prepared.document, variable_values=dict(variables or {}), operation_name=name
        )
        return Result(result.data, result.errors)

    def _is_allowed(self, query: str) -> bool:
        if not self.is_on or len(query) > _MOST_CHARACTERS:
            return False
        try:
            return _asks_for_schema_alone(parse_document(query, located=False, max_tokens=_MOST_TOKENS))
        except GraphQLError:
            return False


def _asks_for_schema_alone(document: DocumentNode) -> bool:
    """Whether all operations are plain introspection. Aliases, directives and repetitions are refused, as they cost much."""
    definitions = document.definitions
    fragments = {
        definition.name.value: definition
        for definition in definitions
        if isinstance(definition, FragmentDefinitionNode)
    }
    operations = [definition for definition in definitions if isinstance(definition, OperationDefinitionNode)]
    if not operations or len(fragments) + len(operations) < len(definitions):
        return False
    if any(isinstance(node, DirectiveNode) or getattr(node, "alias", None) for node in nodes_below(document)):
        return False
    return all(
        definition.operation is OperationType.QUERY and _selects_schema_alone(definition, fragments)
        for definition in operations
    )


def _selects_schema_alone(operation: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode]) -> bool:
    waiting, spread = [(operation.selection_set, _Level.ROOT)], set[tuple[str, _Level]]()
    while waiting:
        selections, level = waiting.pop()
        names = [node.name.value for node in selections.selections if isinstance(node, FieldNode | FragmentSpreadNode)]
        if len(set(names)) < len(names):
            return False
        for node in selections.selections:
            if isinstance(node, InlineFragmentNode):
                waiting.append((node.selection_set, level))
            elif isinstance(node, FragmentSpreadNode):
                if node.name.value not in fragments:
                    return False
                if (node.name.value, level) not in spread:
                    spread.add((node.name.value, level))
                    waiting.append((fragments[node.name.value].selection_set, level))
            elif isinstance(node, FieldNode):
                below = _below(node.name.value, level)
                if below is None:
                    return False
                if node.selection_set is not None:
                    waiting.append((node.selection_set, below))
    return True


def _below(name: str, level: _Level) -> _Level | None:
    """Where the fields below that field belong; None if it is not allowed."""
    if level is _Level.ROOT:
        return _Level.BELOW if name in _ROOTS else None
    if name not in _LISTS:
        return level
    return _Level.LISTED if level is _Level.BELOW else None
