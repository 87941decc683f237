"""Documents by their text: parsed and validated once, and kept as long as they are asked for."""

from dataclasses import dataclass, field
from typing import Any

from cachetools import LRUCache
from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    parse,
)
from strawberry.schema.schema import validate_document

from gateway.execution.rules import RULES, explained
from gateway.observability import Metrics

MOST_KEPT = 1000
LONGEST_KEPT = 20_000


@dataclass(slots=True, eq=False)
class Prepared:
    """A document that can be executed, or what is wrong with it; `plans` are kept with it by whoever compiles them."""

    document: DocumentNode | None = None
    errors: list[GraphQLError] = field(default_factory=list)
    fragments: dict[str, FragmentDefinitionNode] = field(default_factory=dict)
    operations: list[OperationDefinitionNode] = field(default_factory=list)
    plans: dict[Any, Any] = field(default_factory=dict)

    def named(self, name: str | None) -> OperationDefinitionNode:
        """The operation with that name, or the only one; LookupError."""
        found = [one for one in self.operations if name is None or (one.name and one.name.value == name)]
        if len(found) != 1:
            raise LookupError(name)
        return found[0]


class PreparedDocuments:
    """The documents that were asked for last, ready to be executed."""

    def __init__(self, schema: GraphQLSchema, metrics: Metrics) -> None:
        self._schema = schema
        self._kept: LRUCache[str, Prepared] = LRUCache(MOST_KEPT)
        self._metrics = metrics

    def prepare(self, text: str) -> Prepared:
        """The document of that text; what is wrong with it is in its `errors`, and is found anew each time."""
        found = self._kept.get(text)
        self._metrics.prepared(kept=found is not None)
        if found is None:
            found = read(self._schema, text)
            if not found.errors and len(text) <= LONGEST_KEPT:
                self._kept[text] = found
        return found


def read(schema: GraphQLSchema, text: str) -> Prepared:
    """The document of that text, parsed and validated; what is wrong with it is in its `errors`."""
    try:
        document = parse(text)
        errors = explained(validate_document(schema, document, RULES))
    except GraphQLError as error:
        return Prepared(errors=[error])
    except Exception as error:
        return Prepared(errors=[GraphQLError(str(error), original_error=error)])
    found = Prepared(document, errors)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            found.operations.append(definition)
        elif isinstance(definition, FragmentDefinitionNode):
            found.fragments[definition.name.value] = definition
    return found
