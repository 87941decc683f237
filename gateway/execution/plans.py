"""Plans: an operation compiled to one function for each of its selection sets, when the first object for it is met."""

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
# What a plan takes besides its fields, a field with what completes it, a function, and a field's part of a function.
_PLAN_BYTES, _FIELD_BYTES, _FUNCTION_BYTES, _LINE_BYTES = 6000, 1600, 1600, 1400
_PART_BYTES = 200  # of a fragment, and of a selection set that was looked at
_ARGUMENTS = 2  # how often arguments are kept besides the document: as values, and as the text that equal calls share


class _Compiled(NamedTuple):
    """A field of a selection set, and what completes its values."""

    field: PlannedField
    complete: Complete


class Plan:
    """An operation that is compiled as it is executed: its functions run one after another, each to its end.

    `reads`: by type, what of its documents is read anywhere in the operation. Equal selection sets share a function. Nothing
    that is compiled holds the plan, so all of it goes when the plan does."""

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
        """What is read of each type's documents; it grows as objects of several possible types are met."""
        return self._keys.reads

    def forget(self) -> None:
        """Weigh nothing any more, as nobody keeps the plan."""
        self._add_weight(-self._weight)
        self._entry = None

    def explain(self) -> list[str]:
        """The sources of all that may be compiled, innermost functions first."""
        self._explained = deque()
        self._functions.clear()
        self._begin()
        while self._explained and len(self.sources) < _MOST_EXPLAINED_SETS:
            where, fields = self._explained.popleft()
            for planned, _ in fields:
                self._expand(where, planned)
        return self.sources[::-1]

    def select_of(self, type_: GraphQLObjectType, where: str, planned: PlannedField, *, each: bool = False) -> Any:
        """The function that answers for objects of that type, which the field leads to; or for `each` of its list."""
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
        one_by_one = self._node.operation is OperationType.MUTATION
        steps = [{key: details} for key, details in fields.items()] if one_by_one else [fields]
        self.steps = [self._select(root, root.name, step) for step in steps]

    def _select(self, parent: GraphQLObjectType, where: str, fields: GroupedFieldSet, *, each: bool = False) -> Any:
        """The function for these fields, compiled once wherever the same ones are selected."""
        places = {key: (key, *(id(one.node) for one in details)) for key, details in fields.items()}
        same = (parent.name, each, *places.values())
        function = self._functions.get(same)
        if function is None:
            compiled = [
                self._field(parent, where, (parent.name, *places[key]), details) for key, details in fields.items()
            ]
            function = self._functions[same] = self._function(parent, where, compiled, each=each)
            if self._explained is not None:
                self._explained.append((where, compiled))
        return function

    def _field(self, parent: GraphQLObjectType, where: str, place: tuple[Any, ...], details: Any) -> _Compiled:
        compiled = self._compiled.get(place)
        if compiled is None:
            of = self._fields.get(parent, details[0].node.name.value)
            planned = PlannedField(self._schema, place[1], of, details, self._suggestions)
            complete = completer(of.definition.type, planned, _Below(weakref.ref(self), where, planned))
            compiled = self._compiled[place] = _Compiled(planned, complete)
            self._add_weight(_FIELD_BYTES + _ARGUMENTS * node_bytes(*(planned.nodes[0].arguments or ())))
        return compiled

    def _function(self, parent: GraphQLObjectType, where: str, compiled: list[_Compiled], *, each: bool) -> Any:
        title = where if where == parent.name else f"{where}: {parent.name}"
        planned, completers = [one.field for one in compiled], [one.complete for one in compiled]
        text, function = selection(title, planned, completers, self._fields.key_of, each=each).function(
            f"<plan of {where}>"
        )
        self._add_weight(_FUNCTION_BYTES + _LINE_BYTES * len(compiled))
        if self._explained is not None:
            self.sources.append(text)
        return function

    def _expand(self, where: str, planned: PlannedField) -> None:
        type_ = get_named_type(planned.definition.type)
        several = is_list_type(get_nullable_type(planned.definition.type))
        if is_object_type(type_):
            self.select_of(type_, where, planned, each=several)
        elif is_abstract_type(type_):
            for possible in self._schema.get_possible_types(type_):
                self.select_of(possible, where, planned)

    def _add_weight(self, weight: int) -> None:
        self._weight += weight
        if self._entry is not None:
            self._entry.add(weight)


@dataclass(slots=True)
class Operation:
    """An operation of a document, with a plan for each set of values that its conditional fields had."""

    node: OperationDefinitionNode
    conditions: tuple[str, ...]
    understood: bool
    plans: dict[tuple[Any, ...], Plan | None] = field(default_factory=dict)


class Planner:
    """Compiles operations of a schema whose objects are documents; `key_of`: a document's key for a field's Python name.

    `suggestions`: whether errors suggest names."""

    def __init__(self, schema: GraphQLSchema, key_of: Callable[[str], str], *, suggestions: bool = True) -> None:
        self._schema = schema
        self._fields = SchemaFields(schema, key_of)
        self._suggestions = suggestions

    def plan(self, prepared: Prepared, node: OperationDefinitionNode, variables: VariableValues) -> Plan | None:
        """The plan of an operation of that document for those variables; None where graphql-core must execute it."""
        known = prepared.plans.get(id(node))
        if known is None:
            known = prepared.plans[id(node)] = _examined(prepared, node)
        if not known.understood:
            return None
        key = tuple(variables.coerced.get(name) for name in known.conditions)
        if key not in known.plans:
            if len(known.plans) >= _MOST_PLANS:
                oldest = known.plans.pop(next(iter(known.plans)))
                if oldest is not None:
                    oldest.forget()
            known.plans[key] = self._made(prepared, known, variables)
        return cast("Plan | None", known.plans[key])

    def explain(self, prepared: Prepared, node: OperationDefinitionNode, variables: VariableValues) -> list[str]:
        """The sources of an operation's plan, with every type that its objects may have; none where it has no plan."""
        examined = _examined(prepared, node)
        plan = self._made(prepared, examined, variables) if examined.understood else None
        return [] if plan is None else plan.explain()

    def _made(self, prepared: Prepared, operation: Operation, variables: VariableValues) -> Plan | None:
        sources, coerced = ({name: some[name] for name in operation.conditions if name in some} for some in variables)
        decisive = VariableValues(sources, coerced)  # others may be large, and a plan is kept
        try:
            return Plan(self._schema, self._fields, prepared, operation.node, decisive, suggestions=self._suggestions)
        except (NotCompilableError, GraphQLError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class _Below:
    """Compiles what a field leads to, when the first object of it is met: so only while the plan is executed."""

    plan: weakref.ref[Plan]
    where: str
    planned: PlannedField

    def __call__(self, type_: GraphQLObjectType) -> Select:
        return cast("Select", self._plan().select_of(type_, self.where, self.planned))

    def all_of(self, type_: GraphQLObjectType) -> SelectAll:
        return cast("SelectAll", self._plan().select_of(type_, self.where, self.planned, each=True))

    def _plan(self) -> Plan:
        plan = self.plan()
        assert plan is not None  # noqa: S101 - the execution of a plan holds it
        return plan


def _examined(prepared: Prepared, node: OperationDefinitionNode) -> Operation:
    """The operation with the variables that decide on its fields, and whether all its directives are understood."""
    conditions, fragments = set[str](), prepared.fragments.values()
    understood = not any(getattr(fragment, "variable_definitions", None) for fragment in fragments)
    for part in nodes_below(node, *fragments):
        if isinstance(part, DirectiveNode):
            understood = understood and part.name.value in _UNDERSTOOD
            values = [argument.value for argument in part.arguments or ()]
            conditions |= {value.name.value for value in values if isinstance(value, VariableNode)}
    return Operation(node, tuple(sorted(conditions)), understood)
