"""What an operation may ask for, found out before it is validated: attackers meet this before anything that costs."""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from cachetools import LRUCache
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLSyntaxError,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    NameNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
)

from gateway.caches import Cache, CacheBudget, text_bytes
from gateway.domain.pages import DEFAULT_SIZE, LARGEST_SIZE
from gateway.errors import BadRequestError, ForbiddenError, LimitExceededError
from gateway.execution.documents import TOO_DEEP, node_bytes, parse_document
from gateway.settings import Settings
from schema.filter_sizes import count_conditions

_REMEMBERED_COSTS = 32
_COST_BYTES, _VALUE_BYTES = 300, 16  # of a remembered cost, and of each value of a variable that it depends on
_LARGEST_REMEMBERED = 2**31
_INTROSPECTION = frozenset({"__schema", "__type"})


@dataclass(slots=True)
class Size:
    """How large a piece of an operation is with its fragments spelled out, and whether it asks for the schema."""

    fields: int = 0
    aliases: int = 0
    directives: int = 0
    duplicates: int = 0
    depth: int = 0
    introspects: bool = False

    def add(self, inner: "Size", *, deeper: int = 0) -> None:
        """Count a piece of this piece in."""
        self.fields += inner.fields
        self.aliases += inner.aliases
        self.directives += inner.directives
        self.duplicates += inner.duplicates
        self.introspects = self.introspects or inner.introspects
        self.depth = max(self.depth, inner.depth + deeper)


@dataclass(slots=True)
class Document:
    """A document that was read and is not too large, and the operation of it that is meant."""

    document: DocumentNode
    fragments: dict[str, FragmentDefinitionNode] = field(default_factory=dict)
    operations: list[OperationDefinitionNode] = field(default_factory=list)
    costs: LRUCache[Any, int] = field(default_factory=lambda: LRUCache(_REMEMBERED_COSTS))

    def named(self, name: str | None) -> OperationDefinitionNode:
        """The operation with that name, or the only one; BadRequestError."""
        found = [one for one in self.operations if name is None or (one.name and one.name.value == name)]
        if name is None and len(found) > 1:
            raise BadRequestError("The document has several operations: say which with 'operationName'.")
        if not found:
            raise BadRequestError("There is no such operation in the document: see 'operationName'.")
        return found[0]


@dataclass(frozen=True, slots=True)
class Checked:
    """An operation that is within the limits: how many rows it may show, its name, and its kind (`query`, ...)."""

    cost: int = 0
    name: str | None = None
    kind: str | None = None


class OperationLimits:
    """The limits of this schema, by settings; what they find out of the texts that are `valid` is kept."""

    def __init__(
        self,
        schema: GraphQLSchema,
        settings: Settings,
        caches: CacheBudget | None = None,
        valid: Container[str] = frozenset(),
    ) -> None:
        self._schema = schema
        self._settings = settings
        self._valid = valid
        self._known: Cache[str, Document] = Cache(caches or CacheBudget(), _weigh)

    def check(self, query: str, variables: Mapping[str, Any] | None, name: str | None) -> Checked:
        """The operation, where it is within every limit; LimitExceededError, BadRequestError or ForbiddenError.

        A document that is no GraphQL passes: its execution says what is wrong with it."""
        found = self._known.get(query)
        if found is None:
            try:
                found = self._read(query)
            except GraphQLSyntaxError:
                return Checked()
            if query in self._valid:
                self._known.put(query, found)
        meant = found.named(name)
        cost = self._check_cost(found, meant, variables or {})
        return Checked(cost, meant.name.value if meant.name else None, meant.operation.value)

    def _read(self, query: str) -> Document:
        most = self._settings.max_tokens
        try:
            found = Document(parse_document(query, located=False, max_tokens=most))
        except GraphQLError as error:
            if "token" in error.message and str(most) in error.message:
                raise LimitExceededError(f"The document has more than the {most} tokens that are allowed.") from None
            if error.message == TOO_DEEP:
                raise LimitExceededError(TOO_DEEP) from None
            raise
        except ValueError:
            raise LimitExceededError(TOO_DEEP) from None
        for definition in found.document.definitions:
            if isinstance(definition, FragmentDefinitionNode):
                found.fragments[definition.name.value] = definition
            elif isinstance(definition, OperationDefinitionNode):
                found.operations.append(definition)
        self._check_size(found)
        return found

    def _check_size(self, operation: Document) -> None:
        measured: dict[str, Size] = {}
        try:
            for one in operation.operations:
                size = _size(one.selection_set, operation.fragments, measured)
                size.directives += len(one.directives or ())
                self._refuse_large(size)
                self._refuse_introspection(size)
        except RecursionError:
            raise LimitExceededError(TOO_DEEP) from None

    def _refuse_large(self, size: Size) -> None:
        settings = self._settings
        for what, found, most in (
            ("levels of fields", size.depth, settings.max_depth),
            ("aliases", size.aliases, settings.max_aliases),
            ("directives", size.directives, settings.max_directives),
            ("repeated fields", size.duplicates, settings.max_duplicate_fields),
            ("fields, with its fragments spelled out,", size.fields, settings.max_fields),
        ):
            if found > most:
                raise LimitExceededError(f"The operation has more {what} than the {most} that are allowed.")

    def _refuse_introspection(self, size: Size) -> None:
        if size.introspects and not self._settings.introspection:
            raise ForbiddenError(
                "Introspection is off on this gateway: whoever runs it can set GATEWAY_INTROSPECTION=true."
            )

    def _check_cost(self, operation: Document, one: OperationDefinitionNode, variables: Mapping[str, Any]) -> int:
        values = {
            definition.variable.name.value: variables.get(
                definition.variable.name.value, _plain(definition.default_value)
            )
            for definition in one.variable_definitions or ()
        }
        key = _cost_key(one, values)
        known = None if key is None else operation.costs.get(key)
        if known is not None:
            return known
        root = self._schema.get_root_type(one.operation)
        most = self._settings.max_cost
        cost = _Cost(self._schema, operation.fragments, values, most).of(one.selection_set, root, 1)
        if cost > most:
            raise LimitExceededError(
                f"The operation may show {cost if cost < 10**9 else 'over a billion'} rows, and {most} are allowed: "
                "ask for smaller pages ('first'), or for fewer lists within lists."
            )
        if key is not None:
            operation.costs[key] = cost
        return cost


def _weigh(query: str, document: Document) -> int:
    variables = sum(len(one.variable_definitions or ()) for one in document.operations)
    costs = _REMEMBERED_COSTS * (_COST_BYTES + _VALUE_BYTES * variables)
    return text_bytes(query) + node_bytes(*document.document.definitions) + costs


def _cost_key(one: OperationDefinitionNode, values: Mapping[str, Any]) -> Any:
    """What the operation's cost depends on; None where a variable is neither a number nor a text (of which none counts
    for more than another), so that it must be counted anew."""
    given: list[Any] = [id(one)]
    for value in values.values():
        if type(value) not in (int, str, bool, NoneType):
            return None
        if type(value) is int and abs(value) >= _LARGEST_REMEMBERED:
            return None  # it may have thousands of digits
        given += (type(value), None if type(value) is str else value)
    return tuple(given)


@dataclass(slots=True)
class _Cost:
    """How many rows an operation may show: each connection counts its page and its filter's conditions, times the rows it hangs on."""

    schema: GraphQLSchema
    fragments: Mapping[str, FragmentDefinitionNode]
    values: Mapping[str, Any]
    most: int
    _spread: list[str] = field(default_factory=list)

    def of(self, selections: SelectionSetNode | None, parent: GraphQLNamedType | None, times: int) -> int:
        """The cost of a selection set that is shown that often."""
        total = 0
        for node in selections.selections if selections else ():
            if isinstance(node, FieldNode):
                total += self._of_field(node, parent, times)
            elif isinstance(node, InlineFragmentNode):
                named = node.type_condition
                total += self.of(node.selection_set, self.schema.get_type(named.name.value) if named else parent, times)
            elif isinstance(node, FragmentSpreadNode):
                total += self._of_fragment(node.name.value, times)
            if total > self.most:
                break  # enough is known, and a fragment within fragments may go on for long
        return total

    def _of_fragment(self, name: str, times: int) -> int:
        fragment = self.fragments.get(name)
        if fragment is None or name in self._spread:  # a circle is left to validation, which refuses it
            return 0
        self._spread.append(name)
        total = self.of(fragment.selection_set, self.schema.get_type(fragment.type_condition.name.value), times)
        self._spread.pop()
        return total

    def _of_field(self, node: FieldNode, parent: GraphQLNamedType | None, times: int) -> int:
        if not isinstance(parent, GraphQLObjectType | GraphQLInterfaceType):
            return 0
        definition = parent.fields.get(node.name.value)
        if definition is None:
            return 0
        type_ = get_named_type(definition.type)
        rows = times * self._page(node) if type_.name.endswith("Connection") else times
        if "ids" in definition.args:
            rows = times * self._length(node)
        if type_.name == "ContactEventCount":
            rows = times * self._page(node)
        own = rows if rows != times or parent is self.schema.query_type else 0
        own += times * count_conditions(node, self.values)
        return own + self.of(node.selection_set, type_, rows)

    def _page(self, node: FieldNode) -> int:
        sizes = [self._argument(node, name) for name in ("first", "last")]
        given = [size for size in sizes if size is not None]
        if not given:
            return DEFAULT_SIZE
        return max(1, min(LARGEST_SIZE, given[0])) if isinstance(given[0], int) else LARGEST_SIZE

    def _length(self, node: FieldNode) -> int:
        found = self._argument(node, "ids")
        return max(1, len(found)) if isinstance(found, list) else 1

    def _argument(self, node: FieldNode, name: str) -> Any:
        for argument in node.arguments or ():
            if argument.name.value == name:
                value = argument.value
                return self.values.get(value.name.value) if isinstance(value, VariableNode) else _plain(value)
        return None


def _plain(value: ValueNode | None) -> Any:
    if isinstance(value, IntValueNode):
        return int(value.value) if len(value.value) < 12 else LARGEST_SIZE
    if isinstance(value, ListValueNode):
        return list(value.values)
    return None


def _size(
    selections: SelectionSetNode | None, fragments: Mapping[str, FragmentDefinitionNode], measured: dict[str, Size]
) -> Size:
    total, keys = Size(), Counter[str]()
    for node in selections.selections if selections else ():
        total.directives += len(node.directives or ())
        if isinstance(node, FieldNode):
            total.fields += 1
            total.introspects = total.introspects or node.name.value in _INTROSPECTION
            total.aliases += node.alias is not None
            keys[(node.alias or node.name).value] += 1
            total.add(_size(node.selection_set, fragments, measured), deeper=1)
        elif isinstance(node, InlineFragmentNode):
            total.add(_size(node.selection_set, fragments, measured))
        elif isinstance(node, FragmentSpreadNode):
            total.add(_size_of_fragment(node.name, fragments, measured))
            keys["..." + node.name.value] += 1
    total.duplicates += sum(count - 1 for count in keys.values())
    return total


def _size_of_fragment(
    name: NameNode, fragments: Mapping[str, FragmentDefinitionNode], measured: dict[str, Size]
) -> Size:
    """Measured once, however often it is spread; a circle is left to validation, which refuses it."""
    if name.value not in measured:
        measured[name.value] = Size()
        fragment = fragments.get(name.value)
        measured[name.value] = _size(fragment.selection_set if fragment else None, fragments, measured)
    return measured[name.value]
