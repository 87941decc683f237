"""Plans: an operation compiled to one function for each of its selection sets."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from graphql import (
    DirectiveNode,
    GraphQLAbstractType,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    Visitor,
    visit,
)
from graphql.execution.collect_fields import CollectedFields, FragmentDetails, collect_fields, collect_subfields
from graphql.execution.values import VariableValues

from gateway.execution.documents import Prepared
from gateway.execution.fields import PlannedField, Reads
from gateway.execution.sources import selection
from gateway.execution.values import Select, SelectAll, completer, ignores

_UNDERSTOOD = frozenset({"skip", "include"})
_ANYTHING = Reads(None, shown=False)
_MOST_PLANS = 32
_MOST_EXPLAINED = 200


class NotCompilableError(Exception):
    """The operation holds something that graphql-core alone executes."""


@dataclass(slots=True)
class Plan:
    """A compiled operation: its functions run one after another, each to its end; their sources tell what it does.

    `reads`: by type, what of its documents is read anywhere in the operation."""

    steps: list[Select] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    reads: dict[str, Reads] = field(default_factory=dict)

    def add_reads(self, type_name: str, reads: Reads) -> None:
        """Note that of documents of that type this is read too."""
        self.reads[type_name] = self.reads.get(type_name, Reads()) | reads


@dataclass(slots=True)
class Operation:
    """An operation of a document, with a plan for each set of values that its conditional fields had."""

    node: OperationDefinitionNode
    conditions: tuple[str, ...]
    understood: bool
    plans: dict[tuple[Any, ...], Plan | None] = field(default_factory=dict)


class Planner:
    """Compiles operations of a schema whose objects are documents; `key_of`: a document's key for a field's Python name."""

    def __init__(self, schema: GraphQLSchema, key_of: Callable[[str], str]) -> None:
        self._schema = schema
        self._key_of = key_of

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
                known.plans.pop(next(iter(known.plans)))
            known.plans[key] = self._compiled(prepared, node, variables)
        return known.plans[key]

    def explain(self, prepared: Prepared, node: OperationDefinitionNode, variables: VariableValues) -> list[str]:
        """The sources of an operation's plan, with every type that its objects may have; none where it has no plan."""
        if not _examined(prepared, node).understood:
            return []
        compiler = _Compiler(self._schema, self._key_of, prepared, node, variables)
        try:
            plan = compiler.plan()
            compiler.expand(_MOST_EXPLAINED)
        except (NotCompilableError, GraphQLError, RecursionError):
            return []
        return plan.sources

    def _compiled(self, prepared: Prepared, node: OperationDefinitionNode, variables: VariableValues) -> Plan | None:
        try:
            return _Compiler(self._schema, self._key_of, prepared, node, variables).plan()
        except (NotCompilableError, GraphQLError, RecursionError):
            return None


class _Compiler:
    """Compiles one operation."""

    def __init__(
        self,
        schema: GraphQLSchema,
        key_of: Callable[[str], str],
        prepared: Prepared,
        node: OperationDefinitionNode,
        variables: VariableValues,
    ) -> None:
        self._schema = schema
        self._key_of = key_of
        self._fragments = {name: FragmentDetails(fragment, None) for name, fragment in prepared.fragments.items()}
        self._node = node
        self._variables = variables
        self._plan = Plan()
        self._unexpanded: list[Callable[[], object]] = []

    def plan(self) -> Plan:
        """The operation's plan; NotCompilableError."""
        root = self._schema.get_root_type(self._node.operation)
        if root is None:
            raise NotCompilableError
        collected = collect_fields(self._schema, self._fragments, self._variables, root, self._node)
        fields = self._planned(root, collected)
        one_by_one = self._node.operation is OperationType.MUTATION
        for step in [[one] for one in fields] if one_by_one else [fields]:
            self._plan.steps.append(self._select(root, root.name, step))
        return self._plan

    def expand(self, most: int) -> None:
        """Compile what is otherwise compiled when it is met, as long as there are fewer functions than that."""
        while self._unexpanded and len(self._plan.sources) < most:
            self._unexpanded.pop()()

    def select_of(self, type_: GraphQLObjectType, where: str, planned: PlannedField, *, each: bool = False) -> Any:
        """The function that answers for objects of that type, which the field leads to; or for `each` of its list."""
        collected = collect_subfields(
            self._schema, self._fragments, self._variables, self._node, type_, planned.details
        )
        fields = self._planned(type_, collected)
        return self._select(type_, f"{where}.{planned.key}", fields, planned if each else None)

    def leave(self, type_: GraphQLAbstractType, expand: Callable[[GraphQLObjectType], object]) -> None:
        """Leave the types that objects may have until they are met; what will be read of them is not known before."""
        for one in self._schema.get_possible_types(type_):
            self._plan.add_reads(one.name, _ANYTHING)
        self._unexpanded += [partial(expand, one) for one in self._schema.get_possible_types(type_)]

    def _planned(self, parent: GraphQLObjectType, collected: CollectedFields) -> list[PlannedField]:
        if collected.new_defer_usages:
            raise NotCompilableError
        planned = []
        for key, details in collected.grouped_field_set.items():
            name = details[0].node.name.value
            definition = self._schema.get_field(parent, name)
            if definition is None or name in ("__schema", "__type"):
                raise NotCompilableError
            planned.append(PlannedField(self._schema, key, parent, definition, details))
        return planned

    def _select(
        self,
        parent: GraphQLObjectType,
        where: str,
        planned: list[PlannedField],
        of_list: PlannedField | None = None,
    ) -> Any:
        completers = [completer(one.definition.type, one, _Below(self, where, one)) for one in planned]
        for one, complete in zip(planned, completers, strict=True):
            one.complete = complete
        looked_at = parent.is_type_of is not None and not ignores(parent.is_type_of, 0)
        self._plan.add_reads(parent.name, _ANYTHING if looked_at else Reads())
        for one in planned:
            self._plan.add_reads(parent.name, one.reads(self._key_of))
        title = where if where == parent.name else f"{where}: {parent.name}"
        source = selection(title, planned, completers, self._key_of, of_list)
        text, function = source.function(f"<plan of {where}>")
        self._plan.sources.append(text)
        return function


@dataclass(frozen=True, slots=True)
class _Below:
    """What a field leads to, compiled when it is asked for."""

    compiler: _Compiler
    where: str
    planned: PlannedField

    def __call__(self, type_: GraphQLObjectType) -> Select:
        return cast("Select", self.compiler.select_of(type_, self.where, self.planned))

    def all_of(self, type_: GraphQLObjectType) -> SelectAll:
        return cast("SelectAll", self.compiler.select_of(type_, self.where, self.planned, each=True))

    def may_be(self, type_: GraphQLAbstractType, expand: Callable[[GraphQLObjectType], object]) -> None:
        self.compiler.leave(type_, expand)


class _Examiner(Visitor):
    """Looks for directives: variables that decide on fields, and what is not understood."""

    def __init__(self) -> None:
        super().__init__()
        self.conditions: set[str] = set()
        self.understood = True

    def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
        if node.name.value not in _UNDERSTOOD:
            self.understood = False
        for argument in node.arguments or ():
            if isinstance(argument.value, VariableNode):
                self.conditions.add(argument.value.name.value)


def _examined(prepared: Prepared, node: OperationDefinitionNode) -> Operation:
    examiner = _Examiner()
    for part in (node, *prepared.fragments.values()):
        visit(part, examiner)
        if getattr(part, "variable_definitions", None) and part is not node:
            examiner.understood = False
    return Operation(node, tuple(sorted(examiner.conditions)), examiner.understood)
