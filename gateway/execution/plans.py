"""Plans: an operation compiled to one function per selection set, when its first object arrives."""

import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from graphql import (
    DirectiveNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_abstract_type,
    is_list_type,
    is_object_type,
)
from graphql.execution.collect_fields import FragmentDetails, GroupedFieldSet, collect_fields, collect_subfields
from graphql.execution.values import VariableValues

from gateway.caches import Entry
from gateway.execution.codegen import selection
from gateway.execution.completion import Complete, Select, SelectAll, completer
from gateway.execution.documents import Prepared
from gateway.execution.fields import PlannedField, Reads
from gateway.execution.reads import NotCompilableError, ReadKeys, SchemaFields
from gateway.execution.syntax_tree import node_bytes, nodes_below

_UNDERSTOOD = frozenset({"skip", "include"})
_MOST_PLANS = 32
_MOST_EXPLAINED_SETS = 200
# Estimated bytes of a plan without its fields, of a field, of a function, and of one field's lines in a function.
_PLAN_BYTES, _FIELD_BYTES, _FUNCTION_BYTES, _LINE_BYTES = 6000, 1600, 1600, 1400
_PART_BYTES = 200  # of a fragment or an analyzed selection set
_ARGUMENTS = 2  # copies of arguments: the values, and the text that identifies equal calls


class _Compiled(NamedTuple):
    field: PlannedField
    complete: Complete


class Plan:
    """A compiled operation: its `steps` run one after another.

    `reads`: what the operation reads of documents, by type. Equal selection sets share a function. Compiled functions hold
    the plan only weakly, so all of it is freed together."""

    def __init__(
        self,
        schema: GraphQLSchema,
        fields: SchemaFields,
        prepared: Prepared,
        node: OperationDefinitionNode,
        variables: VariableValues,
        *,
        suggestions: bool = True,
    ) -> None:
        self._schema = schema
        self._fields = fields
        self._node = node
        self._variables = variables
        self._suggestions = suggestions
        self._fragments = {name: FragmentDetails(fragment, None) for name, fragment in prepared.fragments.items()}
        root = schema.get_root_type(node.operation)
        if root is None:
            raise NotCompilableError
        self._root = root
        self._keys = ReadKeys(schema, fields, self._fragments, variables, node, root)
        self._compiled: dict[tuple[Any, ...], _Compiled] = {}
        self._functions: dict[tuple[Any, ...], Any] = {}
        self._entry: Entry[str, Prepared] | None = prepared.entry
        self._weight = 0
        self._explained: deque[tuple[str, list[_Compiled]]] | None = None
        self.sources: list[str] = []
        self.steps: list[Select] = []
        self._begin()

    @property
    def reads(self) -> dict[str, Reads]:
        """What is read of documents, by type; it grows when objects of further possible types arrive."""
        return self._keys.reads

    def forget(self) -> None:
        """Subtract the plan's weight from the cache; called when the plan is dropped."""
        self._add_weight(-self._weight)
        self._entry = None

    def explain(self) -> list[str]:
        """Return the source of every function that may be compiled, innermost first."""
        self._explained = deque()
        self._functions.clear()
        self._begin()
        while self._explained and len(self.sources) < _MOST_EXPLAINED_SETS:
            where, fields = self._explained.popleft()
            for planned, _ in fields:
                self._expand(where, planned)
        return self.sources[::-1]

    def select_of(self, type_: GraphQLObjectType, where: str, planned: PlannedField, *, each: bool = False) -> Any:
        """Return the function for objects of this type below a field; with `each` for a list of them."""
        for node in planned.nodes:
            self._keys.add(type_, node.selection_set)
        collected = collect_subfields(
            self._schema, self._fragments, self._variables, self._node, type_, planned.details
        )
        return self._select(type_, f"{where}.{planned.key}", collected.grouped_field_set, each=each)

    def _begin(self) -> None:
        root = self._root
        self._keys.add(root, self._node.selection_set)
        self._add_weight(_PLAN_BYTES + _PART_BYTES * (len(self._fragments) + self._keys.size))
        collected = collect_fields(self._schema, self._fragments, self._variables, root, self._node)
        fields = collected.grouped_field_set
        is_serial = self._node.operation is OperationType.MUTATION
        steps = [{key: details} for key, details in fields.items()] if is_serial else [fields]
        self.steps = [self._select(root, root.name, step) for step in steps]

    def _select(self, parent: GraphQLObjectType, where: str, fields: GroupedFieldSet, *, each: bool = False) -> Any:
        field_keys = {key: (key, *(id(detail.node) for detail in details)) for key, details in fields.items()}
        set_key = (parent.name, each, *field_keys.values())
        function = self._functions.get(set_key)
        if function is None:
            compiled = [
                self._field(parent, where, (parent.name, *field_keys[key]), details) for key, details in fields.items()
            ]
            function = self._functions[set_key] = self._function(parent, where, compiled, each=each)
            if self._explained is not None:
                self._explained.append((where, compiled))
        return function

    def _field(self, parent: GraphQLObjectType, where: str, field_key: tuple[Any, ...], details: Any) -> _Compiled:
        compiled = self._compiled.get(field_key)
        if compiled is None:
            schema_field = self._fields.get(parent, details[0].node.name.value)
            planned = PlannedField(self._schema, field_key[1], schema_field, details, self._suggestions)
            complete = completer(
                schema_field.definition.type, planned, _ChildSelects(weakref.ref(self), where, planned)
            )
            compiled = self._compiled[field_key] = _Compiled(planned, complete)
            self._add_weight(_FIELD_BYTES + _ARGUMENTS * node_bytes(*(planned.nodes[0].arguments or ())))
        return compiled

    def _function(self, parent: GraphQLObjectType, where: str, compiled: list[_Compiled], *, each: bool) -> Any:
        title = where if where == parent.name else f"{where}: {parent.name}"
        planned, completers = [item.field for item in compiled], [item.complete for item in compiled]
        text, function = selection(title, planned, completers, self._fields.key_of, each=each).function(
            f"<plan of {where}>"
        )
        self._add_weight(_FUNCTION_BYTES + _LINE_BYTES * len(compiled))
        if self._explained is not None:
            self.sources.append(text)
        return function

    def _expand(self, where: str, planned: PlannedField) -> None:
        type_ = get_named_type(planned.definition.type)
        is_list = is_list_type(get_nullable_type(planned.definition.type))
        if is_object_type(type_):
            self.select_of(type_, where, planned, each=is_list)
        elif is_abstract_type(type_):
            for possible in self._schema.get_possible_types(type_):
                self.select_of(possible, where, planned)

    def _add_weight(self, weight: int) -> None:
        self._weight += weight
        if self._entry is not None:
            self._entry.add(weight)


@dataclass(slots=True)
class Operation:
    """An operation with one plan per set of values of its `conditions`, the variables of @skip and @include."""

    node: OperationDefinitionNode
    conditions: tuple[str, ...]
    understood: bool
    plans: dict[tuple[Any, ...], Plan | None] = field(default_factory=dict)


class Planner:
    """Compiles the operations of a schema whose objects are documents.

    `key_of`: maps a field's Python name to the document's key. `suggestions`: whether errors suggest names."""

    def __init__(self, schema: GraphQLSchema, key_of: Callable[[str], str], *, suggestions: bool = True) -> None:
        self._schema = schema
        self._fields = SchemaFields(schema, key_of)
        self._suggestions = suggestions

    def plan(self, prepared: Prepared, node: OperationDefinitionNode, variables: VariableValues) -> Plan | None:
        """Return the plan for these variables; None if graphql-core must execute the operation."""
        operation = prepared.plans.get(id(node))
        if operation is None:
            operation = prepared.plans[id(node)] = _analyze(prepared, node)
        if not operation.understood:
            return None
        key = tuple(variables.coerced.get(name) for name in operation.conditions)
        if key not in operation.plans:
            if len(operation.plans) >= _MOST_PLANS:
                oldest = operation.plans.pop(next(iter(operation.plans)))
                if oldest is not None:
                    oldest.forget()
            operation.plans[key] = self._build_plan(prepared, operation, variables)
        return cast("Plan | None", operation.plans[key])

    def explain(self, prepared: Prepared, node: OperationDefinitionNode, variables: VariableValues) -> list[str]:
        """Return the sources of the plan for all possible types; empty if there is no plan."""
        operation = _analyze(prepared, node)
        plan = self._build_plan(prepared, operation, variables) if operation.understood else None
        return [] if plan is None else plan.explain()

    def _build_plan(self, prepared: Prepared, operation: Operation, variables: VariableValues) -> Plan | None:
        sources, coerced = (
            {name: values[name] for name in operation.conditions if name in values} for values in variables
        )
        decisive = VariableValues(sources, coerced)  # other variables may be large, and plans are cached
        try:
            return Plan(self._schema, self._fields, prepared, operation.node, decisive, suggestions=self._suggestions)
        except (NotCompilableError, GraphQLError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class _ChildSelects:
    """Compiles what is selected below a field. It holds the plan weakly and is used only while the plan executes."""

    plan: weakref.ref[Plan]
    where: str
    planned: PlannedField

    def __call__(self, type_: GraphQLObjectType) -> Select:
        return cast("Select", self._plan().select_of(type_, self.where, self.planned))

    def all_of(self, type_: GraphQLObjectType) -> SelectAll:
        return cast("SelectAll", self._plan().select_of(type_, self.where, self.planned, each=True))

    def _plan(self) -> Plan:
        plan = self.plan()
        assert plan is not None  # noqa: S101 - an executing plan is referenced
        return plan


def _analyze(prepared: Prepared, node: OperationDefinitionNode) -> Operation:
    """Collect the variables that decide on fields, and whether all directives can be compiled."""
    conditions, fragments = set[str](), prepared.fragments.values()
    understood = not any(getattr(fragment, "variable_definitions", None) for fragment in fragments)
    for part in nodes_below(node, *fragments):
        if isinstance(part, DirectiveNode):
            understood = understood and part.name.value in _UNDERSTOOD
            values = [argument.value for argument in part.arguments or ()]
            conditions |= {value.name.value for value in values if isinstance(value, VariableNode)}
    return Operation(node, tuple(sorted(conditions)), understood)
