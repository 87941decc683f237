"""Collects what an operation reads of each type's documents, before it is compiled."""

from collections.abc import Callable, Mapping
from typing import cast

from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
    is_abstract_type,
    is_object_type,
)
from graphql.execution.collect_fields import (
    CollectFieldsContext,
    FragmentDetails,
    does_fragment_condition_match,
    should_include_node,
)
from graphql.execution.values import VariableValues

from gateway.execution.completion import is_ignored
from gateway.execution.fields import Reads, SchemaField

_ANYTHING = Reads(None, shown=False)
_INTROSPECTION = frozenset({"__schema", "__type"})


class NotCompilableError(Exception):
    """Only graphql-core can execute this operation."""


class SchemaFields:
    """The fields of a schema, analyzed on first use. `key_of`: maps a Python name to a document's key."""

    def __init__(self, schema: GraphQLSchema, key_of: Callable[[str], str]) -> None:
        self.key_of = key_of
        self._schema = schema
        self._fields: dict[tuple[str, str], SchemaField] = {}

    def get(self, parent: GraphQLObjectType, name: str) -> SchemaField:
        """Return a field; raises NotCompilableError if it does not exist or is introspection."""
        schema_field = self._fields.get((parent.name, name))
        if schema_field is None:
            definition = self._schema.get_field(parent, name)
            if definition is None or name in _INTROSPECTION:
                raise NotCompilableError
            schema_field = self._fields[parent.name, name] = SchemaField(parent, name, definition, self.key_of)
        return schema_field


class ReadKeys:
    """Collects in `reads`, by type, what selection sets read of documents."""

    def __init__(
        self,
        schema: GraphQLSchema,
        fields: SchemaFields,
        fragments: Mapping[str, FragmentDetails],
        variables: VariableValues,
        operation: OperationDefinitionNode,
        root: GraphQLObjectType,
    ) -> None:
        self.reads: dict[str, Reads] = {}
        self._schema = schema
        self._fields = fields
        self._fragments = fragments
        self._variables = variables
        self._context = CollectFieldsContext(schema, dict(fragments), variables, operation, root, {}, True, [], False)
        self._added: set[tuple[str, int | str]] = set()

    @property
    def size(self) -> int:
        return len(self._added)

    def add(self, parent: GraphQLObjectType, selections: SelectionSetNode | None) -> None:
        """Add what a selection set reads of this type and of everything below; each set is added once per type."""
        if selections is None or (parent.name, id(selections)) in self._added:
            return
        self._added.add((parent.name, id(selections)))
        if parent.name not in self.reads:
            is_inspected = parent.is_type_of is not None and not is_ignored(parent.is_type_of, 0)
            self._add_reads(parent.name, _ANYTHING if is_inspected else Reads())
        for selected in selections.selections:
            node = cast("FieldNode | FragmentSpreadNode | InlineFragmentNode", selected)
            if not should_include_node(self._context, node, self._variables):
                continue
            if isinstance(node, FieldNode):
                self._add_field(parent, node)
                continue
            inner = self._fragments[node.name.value].definition if isinstance(node, FragmentSpreadNode) else node
            if does_fragment_condition_match(self._schema, inner, parent):
                self.add(parent, inner.selection_set)

    def _add_field(self, parent: GraphQLObjectType, node: FieldNode) -> None:
        schema_field = self._fields.get(parent, node.name.value)
        if (parent.name, node.name.value) not in self._added:
            self._added.add((parent.name, node.name.value))
            self._add_reads(parent.name, schema_field.reads)
        type_ = get_named_type(schema_field.definition.type)
        if is_object_type(type_):
            self.add(type_, node.selection_set)
        elif is_abstract_type(type_) and (type_.name, "") not in self._added:
            self._added.add((type_.name, ""))
            for possible in self._schema.get_possible_types(type_):
                self._add_reads(possible.name, _ANYTHING)  # the actual types are known only during execution

    def _add_reads(self, type_name: str, reads: Reads) -> None:
        self.reads[type_name] = self.reads.get(type_name, Reads()) | reads
