"""Limits of an operation, checked before validation, so that hostile documents cost little."""

from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import NoneType

from cachetools import LRUCache
from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    IntValueNode,
    ListValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    ValueNode,
)

from gateway.caches import Cache, CacheBudget, text_bytes
from gateway.core.pagination import LARGEST_SIZE
from gateway.errors import BadRequestError, ForbiddenError, LimitExceededError
from gateway.execution.documents import TOO_DEEP, parse_document
from gateway.execution.syntax_tree import node_bytes
from gateway.settings import Settings
from schema.cost_analysis import CostAnalysis
from schema.cost_tables import CostTable
from schema.document_sizes import Size, count_written, measure_fragments, measure_operation
from schema.fragments import sort_fragments

CostKey = tuple[Hashable, ...]
_REMEMBERED_COSTS = 32
_COST_BYTES, _VALUE_BYTES = 300, 16  # of a cached cost, and of each variable's value that it depends on
_LARGEST_REMEMBERED = 2**31
_MOST_LEVELS = 150  # of selection sets; fragments and inline fragments count too
_MOST_TIMES_WRITTEN = 50  # how many times larger a document may be after its fragments are expanded


@dataclass(slots=True)
class Document:
    """A parsed document that is not too large, and the selected operation."""

    document: DocumentNode
    fragments: dict[str, FragmentDefinitionNode] = field(default_factory=dict)
    operations: list[OperationDefinitionNode] = field(default_factory=list)
    costs: LRUCache[CostKey, int] = field(default_factory=lambda: LRUCache(_REMEMBERED_COSTS))

    def named(self, name: str | None) -> OperationDefinitionNode:
        """The operation of this name, or the only one. Raises BadRequestError."""
        operations = [
            operation
            for operation in self.operations
            if name is None or (operation.name and operation.name.value == name)
        ]
        if name is None and len(operations) > 1:
            raise BadRequestError("The document has several operations: choose one with 'operationName'.")
        if not operations:
            raise BadRequestError("The document has no operation of this name: correct 'operationName'.")
        return operations[0]


@dataclass(frozen=True, slots=True)
class Checked:
    """An operation within the limits: the rows that it may return, its name and its kind (`query`, ...)."""

    cost: int = 0
    name: str | None = None
    kind: str | None = None


_cost_table = lru_cache(maxsize=4)(CostTable)  # once per schema


class OperationLimits:
    """The limits of this schema. Results for `valid` documents are cached."""

    def __init__(
        self,
        schema: GraphQLSchema,
        settings: Settings,
        caches: CacheBudget | None = None,
        valid: Container[str] = frozenset(),
    ) -> None:
        self._schema = schema
        self._settings = settings
        self._costs = _cost_table(schema)
        self._valid = valid
        self._documents: Cache[str, Document] = Cache(caches or CacheBudget(), _weigh)

    def check(self, query: str, variables: Mapping[str, object] | None, name: str | None) -> Checked:
        """Raises LimitExceededError, BadRequestError or ForbiddenError if the operation exceeds a limit.

        A document with syntax errors passes: its execution reports them.
        """
        document = self._documents.get(query)
        if document is None:
            try:
                document = self._read(query)
            except GraphQLSyntaxError:
                return Checked()
            if query in self._valid:
                self._documents.put(query, document)
        operation = document.named(name)
        cost = self._check_cost(document, operation, variables or {})
        return Checked(cost, operation.name.value if operation.name else None, operation.operation.value)

    def _read(self, query: str) -> Document:
        most = self._settings.max_tokens
        try:
            document = Document(parse_document(query, located=False, max_tokens=most))
        except GraphQLError as error:
            if "token" in error.message and str(most) in error.message:
                raise LimitExceededError(f"The document has more than {most} tokens: make it shorter.") from None
            if error.message == TOO_DEEP:
                raise LimitExceededError(TOO_DEEP) from None
            raise
        except ValueError:
            raise LimitExceededError(TOO_DEEP) from None
        for definition in document.document.definitions:
            if isinstance(definition, FragmentDefinitionNode):
                name = definition.name.value
                if document.fragments.setdefault(name, definition) is not definition:
                    raise BadRequestError(f"The document has two fragments named '{name[:100]}': rename one of them.")
            elif isinstance(definition, OperationDefinitionNode):
                document.operations.append(definition)
        self._check_size(document)
        return document

    def _check_size(self, operation: Document) -> None:
        order = sort_fragments(operation.fragments, operation.operations)
        try:
            measured = measure_fragments(operation.fragments, order)
            sizes = [measure_operation(node, measured) for node in operation.operations]
        except RecursionError:
            raise LimitExceededError(TOO_DEEP) from None
        for size in sizes:
            self._refuse_large(size)
            self._refuse_introspection(size)
        self._refuse_amplified(operation, sizes)

    def _refuse_large(self, size: Size) -> None:
        settings = self._settings
        if size.levels > _MOST_LEVELS:
            raise LimitExceededError(TOO_DEEP)
        for what, count, most in (
            ("levels of fields", size.depth, settings.max_depth),
            ("aliases", size.aliases, settings.max_aliases),
            ("directives", size.directives, settings.max_directives),
            ("repeated fields", size.duplicates, settings.max_duplicate_fields),
        ):
            if count > most:
                raise LimitExceededError(f"The operation has more than {most} {what}: request less at once.")

    def _refuse_amplified(self, operation: Document, sizes: Sequence[Size]) -> None:
        """Count all operations of the document: each validation rule visits them all, with their fragments."""
        written = count_written(node.selection_set for node in (*operation.operations, *operation.fragments.values()))
        settings = self._settings
        for what, count, most in (
            ("fields", sum(size.fields for size in sizes), min(settings.max_fields, written * _MOST_TIMES_WRITTEN)),
            ("values of arguments", sum(size.values for size in sizes), settings.max_tokens),
        ):
            if count > most:
                raise LimitExceededError(
                    f"The document has more than {most} {what} after its fragments are expanded: request less at once."
                )

    def _refuse_introspection(self, size: Size) -> None:
        if size.introspects and not self._settings.introspection:
            raise ForbiddenError(
                "Introspection is off on this gateway: its operator can set GATEWAY_INTROSPECTION=true."
            )

    def _check_cost(self, operation: Document, node: OperationDefinitionNode, variables: Mapping[str, object]) -> int:
        values = {
            definition.variable.name.value: variables.get(
                definition.variable.name.value, _default(definition.default_value)
            )
            for definition in node.variable_definitions or ()
        }
        key = _cost_key(node, values)
        cached = None if key is None else operation.costs.get(key)
        if cached is not None:
            return cached
        root = self._schema.get_root_type(node.operation)
        most = self._settings.max_cost
        analysis = CostAnalysis(self._costs, operation.fragments, values, most)
        cost = 0 if root is None else analysis.cost(node.selection_set, root.name)
        if cost > most:
            raise LimitExceededError(
                f"The operation may return {cost if cost < 10**9 else 'over a billion'} rows; the limit is {most}: "
                "request smaller pages ('first'), or fewer nested lists, filters and totals."
            )
        if key is not None:
            operation.costs[key] = cost
        return cost


def _weigh(query: str, document: Document) -> int:
    variables = sum(len(node.variable_definitions or ()) for node in document.operations)
    costs = _REMEMBERED_COSTS * (_COST_BYTES + _VALUE_BYTES * variables)
    return text_bytes(query) + node_bytes(*document.document.definitions) + costs


def _cost_key(node: OperationDefinitionNode, values: Mapping[str, object]) -> CostKey | None:
    """What the cost of the operation depends on. None if a variable is neither a number nor a text: then it is not cached.

    All texts have the same cost.
    """
    given: list[Hashable] = [id(node)]
    for value in values.values():
        if not isinstance(value, int | str | NoneType):
            return None
        if isinstance(value, int) and abs(value) >= _LARGEST_REMEMBERED:
            return None  # str() of an integer with thousands of digits is slow
        given.append((type(value), None if isinstance(value, str) else value))
    return tuple(given)


def _default(value: ValueNode | None) -> ValueNode | int | None:
    """A variable's default. Only numbers change the cost; large values stay as they are written."""
    if isinstance(value, IntValueNode):
        return int(value.value) if len(value.value) < 12 else LARGEST_SIZE
    return value if isinstance(value, ListValueNode | ObjectValueNode) else None
